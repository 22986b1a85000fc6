//! Watching a repository: one value, the newest state of its heads, published when it changes and only then.

mod events;
mod filesystem;
mod local;
mod survey;

use std::sync::Arc;

use tokio::sync::watch as channel;
use tokio::task::JoinHandle;

use super::error::one_line;
use super::{Heads, RepositoryUrl, SourceError, SourceSettings, Store, remote};
use crate::telemetry::{Metrics, Pulse, Telemetry, pulse};

/// What is known of the repository.
#[derive(Debug, Clone)]
pub enum SourceState {
    /// It was never read so far.
    Waiting {
        /// Why not, for people.
        reason: String,
    },
    /// It is read, and these are its heads.
    Ready {
        /// The branches.
        heads: Arc<Heads>,
        /// Where their commits are read.
        store: Store,
    },
    /// It cannot be read now.
    Failing {
        /// Why not, for people.
        reason: String,
        /// The heads as they were when it could be read last. They stand: a failure is never a branch that is gone.
        last: Option<(Arc<Heads>, Store)>,
    },
}

impl SourceState {
    /// The heads that stand: the current ones, or the last known.
    pub fn heads(&self) -> Option<(&Arc<Heads>, &Store)> {
        match self {
            Self::Waiting { .. } | Self::Failing { last: None, .. } => None,
            Self::Ready { heads, store } | Self::Failing { last: Some((heads, store)), .. } => Some((heads, store)),
        }
    }

    /// Why the repository is not read now, if it isn't.
    pub fn trouble(&self) -> Option<&str> {
        match self {
            Self::Ready { .. } => None,
            Self::Waiting { reason } | Self::Failing { reason, .. } => Some(reason),
        }
    }

    fn same_as(&self, other: &Self) -> bool {
        let kind = std::mem::discriminant(self) == std::mem::discriminant(other);
        let heads = |state: &Self| state.heads().map(|(heads, store)| (heads.clone(), store.common_dir().to_owned()));
        kind && self.trouble() == other.trouble() && heads(self) == heads(other)
    }
}

/// Watches the repository until `shutdown` is true (or its sender is gone). The receiver always has the newest state, and is closed when the task ends.
///
/// Must be called inside a tokio runtime. The task ends soon after `shutdown`; a read that hangs is left behind.
pub fn watch(
    settings: SourceSettings,
    telemetry: &Telemetry,
    shutdown: channel::Receiver<bool>,
) -> (channel::Receiver<Arc<SourceState>>, JoinHandle<()>) {
    let waiting = SourceState::Waiting { reason: "the repository was not looked at yet".to_owned() };
    let (sender, receiver) = channel::channel(Arc::new(waiting));
    // The longest step is a fetch, or waiting for another process that fetches.
    let pulse = telemetry.pulses.enter("source", settings.fetch_timeout + pulse::BOUND);
    let publisher = Publisher { sender, pulse, metrics: telemetry.metrics.clone() };
    let task = tokio::spawn(async move {
        let mut stop = shutdown;
        let look = async {
            match settings.repository.clone() {
                RepositoryUrl::Local(path) => local::run(path, &settings, &publisher).await,
                RepositoryUrl::Remote(url) => remote::run(url, &settings, &publisher).await,
            }
        };
        tokio::select! {
            () = look => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    });
    (receiver, task)
}

/// The sending side: turns what was read into a state, publishes it if it is news, and logs once for each change.
pub(super) struct Publisher {
    sender: channel::Sender<Arc<SourceState>>,
    /// The watching task's signs of life.
    pub pulse: Pulse,
    metrics: Metrics,
}

impl Publisher {
    /// The heads that stand now.
    pub fn last(&self) -> Option<(Arc<Heads>, Store)> {
        self.sender.borrow().heads().map(|(heads, store)| (heads.clone(), store.clone()))
    }

    pub fn ready(&self, heads: Heads, store: Store) {
        self.metrics.source_read(true);
        self.publish(SourceState::Ready { heads: Arc::new(heads), store });
    }

    /// It cannot be read; `last` stands.
    pub fn failing(&self, error: &SourceError, last: Option<(Arc<Heads>, Store)>) {
        self.metrics.source_read(false);
        self.publish(SourceState::Failing { reason: one_line(error), last });
    }

    /// A repository that was never there is waited for; one that was read before is failing, and so is one that cannot be read.
    fn error(&self, error: &SourceError) {
        self.metrics.source_read(false);
        let (reason, last) = (one_line(error), self.last());
        self.publish(match last {
            None if error.is_not_there() => SourceState::Waiting { reason },
            last => SourceState::Failing { reason, last },
        });
    }

    fn publish(&self, state: SourceState) {
        let state = Arc::new(state);
        self.sender.send_if_modified(|current| {
            if current.same_as(&state) {
                return false;
            }
            log(current, &state);
            *current = state;
            true
        });
    }
}

/// One line for each change between waiting, ready and failing. Moved branches are the daemon's to tell.
fn log(before: &SourceState, now: &SourceState) {
    match (before, now) {
        (SourceState::Ready { .. }, SourceState::Ready { heads, .. }) => {
            tracing::debug!(branches = heads.branches.len(), "branches moved");
        }
        (_, SourceState::Ready { heads, store }) => {
            let (path, branches) = (store.common_dir().display(), heads.branches.len());
            tracing::info!(repository = %path, branches, "reading the repository");
            for name in &heads.unreadable {
                tracing::warn!(repository = %path, branch = ?name, "the branch cannot be read; it is left as it is");
            }
        }
        (_, SourceState::Waiting { reason }) => tracing::info!(reason, "waiting for the repository"),
        (_, SourceState::Failing { reason, last }) => {
            tracing::warn!(reason, known = last.is_some(), "the repository cannot be read");
        }
    }
}
