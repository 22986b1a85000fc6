//! `plumb plan`: what `plumb run` would do.

use super::Exit;
use super::open::{self, Subject};
use crate::config::{ClusterArgs, RepositoryArgs};
use crate::plan::Planned;
use crate::plan::show::PlanView;

/// Show what deploying an environment would do, without doing it
///
/// The plan is made as `plumb run` makes it: rendered, compared with the cluster, and every change dry-run by the API server. Of an environment that git no
/// longer defines, it shows what is to be deleted.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    subject: Subject,
    /// End with 3 if there is anything to do
    #[arg(long)]
    exit_code: bool,
}

pub(super) async fn run(repository: RepositoryArgs, cluster: ClusterArgs, args: Args) -> anyhow::Result<Exit> {
    let opened = open::Opened::open(&repository).await?;
    let planned = match open::removed(&cluster, &opened, args.subject.environment()).await? {
        Some((_, removal)) => open::plan_removal(&cluster, &repository, &opened, &removal).await?,
        None => {
            let (definition, commit) = args.subject.of(&opened)?;
            open::plan(&cluster, &repository, &opened, &definition.name, commit).await?
        }
    };
    open::show(args.subject.output, &PlanView::from(&planned), ToString::to_string)?;
    Ok(match planned {
        Planned::Ready(plan) if args.exit_code && !plan.is_settled() => Exit::Differences,
        Planned::Ready(_) => Exit::Done,
        Planned::Refused(_) | Planned::AskFirst(_) => Exit::Failed,
    })
}
