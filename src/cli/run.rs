//! `plumb run`: the daemon.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch as channel;
use tracing::info;

use super::{Exit, open};
use crate::config::{ClusterArgs, RepositoryArgs};
use crate::daemon;
use crate::source;

/// Watch the repository and keep the cluster equal to it
///
/// Every environment defined in the configuration branch is deployed from the head of its own branch, at each push, until plumb is stopped. Ctrl-C lets the
/// write that is under way end; pressed twice it does not.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Keep only these environments
    #[arg(value_name = "ENVIRONMENT")]
    environments: Vec<String>,
    /// The name of this installation; one installation writes to an environment [default: the pod, or user@machine:repository]
    #[arg(long, env = "PLUMB_INSTANCE", value_name = "NAME")]
    instance: Option<String>,
    /// Take over environments that another installation holds
    #[arg(long)]
    take_over: bool,
}

pub(super) async fn run(repository: RepositoryArgs, cluster: ClusterArgs, args: Args) -> anyhow::Result<Exit> {
    let cluster = cluster.connect().await?;
    let instance = open::instance(args.instance, &repository);
    let settings = daemon::Settings {
        config_branch: repository.config_branch.clone(),
        take_over: args.take_over,
        release: !instance.name.starts_with("pod/"),
        only: args.environments,
    };
    let (stop, shutdown) = channel::channel(false);
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        let mut asked = false;
        loop {
            tokio::select! {
                _ = interrupts.recv() => {}
                _ = terminations.recv() => {}
            }
            if std::mem::replace(&mut asked, true) {
                std::process::exit(130);
            }
            info!("stopping; the writes that are under way end first");
            stop.send_replace(true);
        }
    });
    info!(version = %env!("CARGO_PKG_VERSION"), instance = %instance.name, repository = %repository.shown(), "plumb starts");
    let shared = open::shared(cluster, instance, open::tools());
    let (source, watching) = source::watch(repository.settings()?, &shared.telemetry, shutdown.clone());
    let ended = daemon::run(shared, settings, source, shutdown).await;
    watching.abort();
    info!("stopped");
    ended?;
    Ok(Exit::Done)
}
