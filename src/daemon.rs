//! When reconciling happens: one task an environment, started and stopped as definitions come and go in the configuration branch.
//!
//! A change of the heads only wakes; what is to be done is decided from the newest state. One environment's failure costs the others nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch as channel;
use tracing::{error, info};

use crate::cluster::parent::Known;
use crate::model::{CommitId, Failure};
use crate::reconcile::Shared;
use crate::render::Definition;
use crate::source::{SourceState, Store};

mod collection;
mod course;
mod departure;
mod environment;
mod removal;
mod rollout;
mod supervisor;
#[cfg(test)]
mod tests;

pub use collection::Collection;
pub use departure::Removal;
use environment::{Task, Wanted};
use supervisor::Supervisor;
pub use supervisor::examine;

/// How long after its start plumb waits for a builder that is away, before commits fail for it. Its pod may start after ours.
const BUILDER_WITHIN: Duration = Duration::from_secs(60);

/// What the daemon needs beside what the environments share.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The branch that definitions are read from; unset: the repository's HEAD.
    pub config_branch: Option<String>,
    /// Take over environments that another installation holds.
    pub take_over: bool,
    /// Give the claims up when plumb stops: on a laptop, not in a pod that is about to be restarted.
    pub release: bool,
    /// Only these environments; empty: all.
    pub only: Vec<String>,
    /// Remove images that nobody needs any more; unset: never.
    pub collection: Option<Collection>,
}

/// The definitions of one commit of the configuration branch; a bad one spoils only itself.
pub type Defined = BTreeMap<String, Result<Arc<Definition>, Failure>>;

/// Why plumb can't go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DaemonError {
    /// Pushes are not seen any more.
    #[error("the task that watches the repository ended; this is a fault of plumb, and a restart helps")]
    SourceEnded,
    /// Environments are not seen any more.
    #[error("the task that watches the Environments ended; this is a fault of plumb, and a restart helps")]
    ParentsEnded,
}

/// Runs until `shutdown` turns true, or a task ended that it can't do without. Either way, writes that are under way end first.
pub async fn run(
    shared: Arc<Shared>,
    settings: Settings,
    source: channel::Receiver<Arc<SourceState>>,
    shutdown: channel::Receiver<bool>,
) -> Result<(), DaemonError> {
    if let Some(images) = &shared.images {
        images.wait_for_builder(BUILDER_WITHIN);
    }
    let mut watching = shared.parents.watch(shared.cluster.caller.clone());
    let telling = tokio::spawn(tell_trouble(shared.parents.subscribe())).abort_handle();
    let collecting = collection::start(&shared, &settings, &source);
    let mut supervisor = Supervisor::new(Arc::clone(&shared), settings);
    let ended = supervisor.supervise(source, shutdown, &mut watching).await;
    shared.cancel.store(true, Ordering::Relaxed);
    supervisor.stop().await;
    collecting.iter().for_each(tokio::task::AbortHandle::abort);
    telling.abort();
    watching.abort();
    ended
}

/// Deploys one environment once, as its task would. The error says how it ended.
pub async fn once(
    shared: Arc<Shared>,
    settings: Settings,
    definition: Arc<Definition>,
    head: Option<CommitId>,
    store: Store,
    stop: channel::Receiver<bool>,
) -> Result<(), String> {
    let watching = shared.parents.watch(shared.cluster.caller.clone());
    let (_sender, wanted) = channel::channel(Wanted::new(definition, shared.configuration(), head, store));
    let ended = Task::new(shared, settings, wanted, stop).once().await;
    watching.abort();
    ended
}

/// Trouble with the API server that is over after this time is not told.
const MOMENT: Duration = Duration::from_millis(500);

/// Says once what keeps plumb from seeing its Environments, and once that it is over.
async fn tell_trouble(mut parents: channel::Receiver<Known>) {
    let mut told: Option<bool> = None;
    loop {
        let (no_crd, trouble) = {
            let known = parents.borrow_and_update();
            (known.no_crd, known.trouble.clone())
        };
        if trouble.is_some() && !no_crd && told.is_none() {
            // Right after it was given the definition, an API server refuses to list.
            tokio::time::sleep(MOMENT).await;
            if parents.borrow().trouble.is_none() {
                continue;
            }
        }
        match trouble {
            Some(trouble) if told != Some(no_crd) => {
                if no_crd {
                    error!(
                        hint = "plumb init --crd | kubectl apply --server-side -f -",
                        "the API server has no environments.plumb.dev; waiting for it"
                    );
                } else {
                    error!(reason = trouble, "the API server does not answer; trying again");
                }
                told = Some(no_crd);
            }
            None if told.take().is_some() => info!("the API server answers again"),
            _ => {}
        }
        if parents.changed().await.is_err() {
            return;
        }
    }
}
