//! `plumb plan`: what `plumb run` would do.

use super::{Exit, open, print};
use crate::config::{ClusterArgs, Output, RepositoryArgs};
use crate::model::CommitId;
use crate::plan::Planned;
use crate::plan::show::PlanView;

/// Show what deploying an environment would do, without doing it
///
/// The plan is made as `plumb run` makes it: rendered, compared with the cluster, and every change dry-run by the API server.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The environment
    environment: String,
    /// The commit to plan for: a commit, a branch, or HEAD~1 and the like counted from the environment's branch [default: its head]
    #[arg(long, value_name = "REVISION")]
    at: Option<String>,
    /// End with 3 if there is anything to do
    #[arg(long)]
    exit_code: bool,
    /// How the plan is printed
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(repository: RepositoryArgs, cluster: ClusterArgs, args: Args) -> anyhow::Result<Exit> {
    let opened = open::Opened::open(&repository).await?;
    let definition = opened.definition(&args.environment)?;
    let commit: CommitId = opened.commit(definition, args.at.as_deref())?;
    let reconciler = open::reconciler(cluster.connect().await?, &repository, &opened, &args.environment).await?;
    let confirmed = reconciler.confirmed_prune();
    let planned = reconciler.preview(&opened.store, commit, confirmed).await?;
    let view = PlanView::from(&planned);
    match args.output {
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
