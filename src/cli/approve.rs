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
    let environment = parent.read().await?; // An approval never makes the Environment.
    let seen = environment.status.and_then(|status| status.history.into_iter().next()).map(|entry| entry.commit);
    if seen.as_ref() != Some(&commit.to_string()) {
        let seen = seen.map_or_else(|| "nothing".to_owned(), |seen| seen.chars().take(7).collect());
        anyhow::bail!(
            "plumb has not asked about {} (it last looked at {seen}); push it, and approve it when plumb asks",
            commit.short()
        );
    }
    parent.confirm_prune(commit).await?;
    print(&format!("{}: the deletions of {} are approved", args.environment, commit.short()))
}
