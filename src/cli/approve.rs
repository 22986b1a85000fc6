//! `plumb approve`: lets one commit delete more than its budget.

use super::{Exit, open, print};
use crate::cluster::parent::Parent;
use crate::config::{ClusterArgs, RepositoryArgs};

/// Approve what the head of an environment would delete beyond its prune budget
///
/// The approval names this one commit; a later commit that deletes too much asks again. `plumb plan` shows what would go.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The environment
    environment: String,
}

pub(super) async fn run(repository: RepositoryArgs, cluster: ClusterArgs, args: Args) -> anyhow::Result<Exit> {
    let opened = open::Opened::open(&repository).await?;
    let definition = opened.definition(&args.environment)?;
    let commit = opened.commit(definition, None)?;
    let cluster = cluster.connect().await?;
    let parent = Parent { caller: &cluster.caller, name: &args.environment };
    parent.read().await?; // An approval never makes the Environment.
    parent.confirm_prune(commit).await?;
    print(&format!("{}: the deletions of {} are approved", args.environment, commit.short()))
}
