//! `plumb apply`: one environment, once.

use std::sync::Arc;

use tokio::sync::watch as channel;

use super::{Exit, open, run};
use crate::config::{ClusterArgs, RepositoryArgs};
use crate::daemon;
use crate::model::Environment;
use crate::model::marks::{self, Claim};

/// Deploy one environment once, as `plumb run` would
///
/// Claims the environment, deploys the head of its branch, writes the status, gives the claim up. Refused while a `plumb run` elsewhere holds the environment.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The environment
    environment: String,
    /// The name of this installation [default: the pod, or user@machine:repository]
    #[arg(long, env = "PLUMB_INSTANCE", value_name = "NAME")]
    instance: Option<String>,
    /// Take the environment over if another installation holds it
    #[arg(long)]
    take_over: bool,
}

pub(super) async fn run(repository: RepositoryArgs, cluster: ClusterArgs, args: Args) -> anyhow::Result<Exit> {
    let opened = open::Opened::open(&repository).await?;
    let definition = opened.definition(&args.environment)?;
    opened.commit(definition, None)?;
    let instance = open::instance(args.instance, &repository);
    let shared = open::shared(&cluster, &repository, cluster.connect().await?, instance)?;
    opened.enter_all(&shared);
    // A `plumb run` elsewhere may not have seen yet that an environment is removed, and still keep it.
    let held = |environment: &Environment| matches!(marks::claim(environment, &shared.instance), Claim::Theirs(_));
    open::enter_environments(&shared, &opened, |environment| !held(environment)).await?;
    open::claim_others(&shared, &opened, &args.environment).await;
    let (stop, stopped) = channel::channel(false);
    run::stop_by_signal(stop)?;
    let settings = daemon::Settings { take_over: args.take_over, release: true, ..daemon::Settings::default() };
    let definition = Arc::clone(definition);
    let head = opened.heads.branches.get(&definition.spec.branch).copied();
    match daemon::once(shared, settings, definition, head, opened.store, stopped).await {
        Ok(()) => Ok(Exit::Done),
        Err(reason) => anyhow::bail!("{reason}"),
    }
}
