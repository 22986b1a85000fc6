//! `plumb approve`: lets one commit delete more than its budget.

use kube::ResourceExt as _;

use super::{Exit, open, print};
use crate::cluster::parent::Parent;
use crate::config::{ClusterArgs, RepositoryArgs};
use crate::daemon::Removal;
use crate::model::{CommitId, Environment};
use crate::report::removal::STOPPED;

/// Approve what the head of an environment would delete beyond its prune budget
///
/// The approval names this one commit; a later commit that deletes too much asks again. `plumb plan` shows what would go. Of an environment that git no longer
/// defines, it approves that its objects go.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The environment
    environment: String,
}

pub(super) async fn run(repository: RepositoryArgs, cluster: ClusterArgs, args: Args) -> anyhow::Result<Exit> {
    let opened = open::Opened::open(&repository).await?;
    let commit = match open::removed(&cluster, &opened, &args.environment).await? {
        Some((environment, removal)) => asked_of_removal(&environment, &removal)?,
        None => asked_of_head(&cluster, &opened, &args.environment).await?,
    };
    let cluster = cluster.connect().await?;
    let parent = Parent { caller: &cluster.caller, name: &args.environment };
    parent.confirm_prune(commit).await?;
    print(&format!("{}: the deletions of {} are approved", args.environment, commit.short()))
}

/// The commit of the configuration branch that no longer defines the environment, if plumb asks about it.
fn asked_of_removal(environment: &Environment, removal: &Removal) -> anyhow::Result<CommitId> {
    let conditions = environment.status.iter().flat_map(|status| &status.conditions);
    let asked = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.reason == STOPPED);
    anyhow::ensure!(asked, "plumb does not ask about {}: its status says how it is removed", environment.name_any());
    Ok(removal.commit)
}

/// The head, if plumb asks about it.
async fn asked_of_head(cluster: &ClusterArgs, opened: &open::Opened, name: &str) -> anyhow::Result<CommitId> {
    let definition = opened.definition(name)?;
    let commit = opened.commit(definition, None)?;
    let cluster = cluster.connect().await?;
    let environment = Parent { caller: &cluster.caller, name }.read().await?; // An approval never makes the Environment.
    let seen = environment.status.and_then(|status| status.history.into_iter().next()).map(|entry| entry.commit);
    if seen.as_ref() != Some(&commit.to_string()) {
        let seen = seen.map_or_else(|| "nothing".to_owned(), |seen| seen.chars().take(7).collect());
        anyhow::bail!(
            "plumb has not asked about {} (it last looked at {seen}); push it, and approve it when plumb asks",
            commit.short()
        );
    }
    Ok(commit)
}
