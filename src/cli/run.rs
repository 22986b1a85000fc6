//! `plumb run`: the daemon.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch as channel;
use tracing::info;

use super::{Exit, open};
use crate::config::{ClusterArgs, CollectionArgs, RepositoryArgs};
use crate::daemon;
use crate::serve::{self, Probes};
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
    /// Answer /livez, /readyz and /metrics here, such as 0.0.0.0:8080; there is no authentication [default: nowhere]
    #[arg(long, env = "PLUMB_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    images: CollectionArgs,
}

pub(super) async fn run(repository: RepositoryArgs, cluster: ClusterArgs, args: Args) -> anyhow::Result<Exit> {
    let connected = cluster.connect().await?;
    let instance = open::instance(args.instance, &repository);
    let settings = daemon::Settings {
        config_branch: repository.config_branch.clone(),
        take_over: args.take_over,
        release: !instance.name.starts_with("pod/"),
        only: args.environments,
        collection: args.images.collection(),
    };
    let listener = match args.listen {
        Some(address) => Some(serve::bind(address).await?),
        None => None,
    };
    let (stop, shutdown) = channel::channel(false);
    stop_by_signal(stop.clone())?;
    info!(version = %env!("CARGO_PKG_VERSION"), instance = %instance.name, repository = %repository.shown(), "plumb starts");
    let shared = open::shared(&cluster, &repository, connected, instance)?;
    let (source, watching) = source::watch(repository.settings()?, &shared.telemetry, shutdown.clone());
    let probes = Probes::new(Arc::clone(&shared), source.clone(), shutdown.clone());
    let (close, closed) = channel::channel(false);
    let answering = tokio::spawn(serve::serve(listener, probes, closed));
    let answered = tokio::spawn(async move {
        let ended = answering.await;
        stop.send_replace(true); // It is not to end before the daemon.
        ended
    });
    let ended = daemon::run(shared, settings, source, shutdown).await;
    watching.abort();
    close.send_replace(true);
    let answered = answered.await.and_then(|ended| ended);
    info!("stopped");
    ended?;
    answered.context("the task that answers probes died")?;
    Ok(Exit::Done)
}

/// The first signal stops plumb once its writes have ended; the second at once.
pub(super) fn stop_by_signal(stop: channel::Sender<bool>) -> anyhow::Result<()> {
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
            info!("stopping; what is being written ends first");
            stop.send_replace(true);
        }
    });
    Ok(())
}
