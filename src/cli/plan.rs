//! `plumb plan`: what `plumb run` would do.

use super::open::{self, Subject};
use super::{Exit, print};
use crate::config::{ClusterArgs, Output, RepositoryArgs};
use crate::plan::Planned;
use crate::plan::show::PlanView;

/// Show what deploying an environment would do, without doing it
///
/// The plan is made as `plumb run` makes it: rendered, compared with the cluster, and every change dry-run by the API server.
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
    let (definition, commit) = args.subject.of(&opened)?;
    let reconciler = open::reconciler(cluster.connect().await?, &repository, &opened, &definition.name).await?;
    let confirmed = reconciler.confirmed_prune();
    let planned = reconciler.preview(&opened.store, commit, confirmed).await?;
    let view = PlanView::from(&planned);
    match args.subject.output {
        Output::Json => print(&serde_json::to_string_pretty(&view)?)?,
        Output::Yaml => print(&crate::render::yaml::write(&view)?)?,
        Output::Text => print(&view.to_string())?,
    };
    Ok(match planned {
        Planned::Ready(plan) if args.exit_code && !plan.is_settled() => Exit::Differences,
        Planned::Ready(_) => Exit::Done,
        Planned::Refused(_) | Planned::AskFirst(_) => Exit::Failed,
    })
}
