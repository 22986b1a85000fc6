//! One round of the collection of images: what stands at the builder and nobody may need any more is removed.
//!
//! Which images those are is decided in [`crate::build::collect`]. Here is read what may refer to them: commits of git, and the workloads of the cluster,
//! whoever made them. What can't be read is a [`Doubt`], and in a round with a doubt nothing is removed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::debug;

use super::Shared;
use super::images::Images;
use crate::build::collect::{Policy, References, Standing, removable};
use crate::builder::{BuildError, Stored};
use crate::cluster::api::Caller;
use crate::cluster::{ClusterError, images as workloads};
use crate::model::{CommitId, Failure};
use crate::source::{SourceError, SourceState};
use crate::telemetry::Pulse;
use commits::Commits;

mod commits;

/// The longest that the builder may take to list its images, or to remove one.
const BUILDER_WITHIN: Duration = Duration::from_secs(120);

/// Why no image is removed: something that may refer to one is not known.
#[derive(Debug, thiserror::Error)]
pub enum Doubt {
    /// The repository's heads are not known, or not the newest.
    #[error("the repository can't be read: {0}")]
    Repository(String),
    /// git failed.
    #[error("git can't be read: {0}")]
    Source(#[from] SourceError),
    /// There is no configuration branch.
    #[error("the definitions can't be read: there is no configuration branch")]
    NoConfiguration,
    /// A definition is not valid: which branch the environment has is not known.
    #[error("the definition of the environment {environment} is not valid: {reason}")]
    Definition {
        /// Its name.
        environment: String,
        /// What is wrong.
        reason: Failure,
    },
    /// A branch that is there can't be read.
    #[error("the branch {branch:?} of the environment {environment} can't be read")]
    Branch {
        /// Its name.
        environment: String,
        /// The branch.
        branch: String,
    },
    /// The Environments of the cluster, and what was deployed, are not known.
    #[error("the Environments of the cluster are not known{}", .0.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default())]
    Environments(Option<String>),
    /// A status names something else than a commit.
    #[error("{text:?} in the status of the environment {environment} is no commit")]
    Status {
        /// Its name.
        environment: String,
        /// What it says.
        text: String,
    },
    /// A commit that another repository may have.
    #[error("the commit {} of the environment {environment} is not in this repository", .commit.short())]
    Elsewhere {
        /// Its name.
        environment: String,
        /// The commit.
        commit: CommitId,
    },
    /// Which images a commit has can't be told.
    #[error("the images of the commit {} of the environment {environment} can't be told: {reason}", .commit.short())]
    Commit {
        /// Its name.
        environment: String,
        /// The commit.
        commit: CommitId,
        /// Why.
        reason: Failure,
    },
    /// The workloads of the cluster can't be listed.
    #[error("the workloads of the cluster can't be listed: {0}")]
    Workloads(#[from] ClusterError),
    /// A workload names its image in a way that can't be compared.
    #[error("a workload names its image by the id {0} alone")]
    ById(String),
    /// The builder can't be asked.
    #[error(transparent)]
    Builder(#[from] BuildError),
    /// Reading git ended early.
    #[error("reading git ended early: {0}")]
    Died(#[from] tokio::task::JoinError),
}

/// What a round did.
#[derive(Debug, Default)]
pub struct Round {
    /// The images that were removed.
    pub removed: Vec<String>,
    /// How many bytes they were made of. Some may be parts of others, and the builder's cache may keep some.
    pub bytes: u64,
    /// Images that could not be removed, and why.
    pub failed: Vec<(String, BuildError)>,
}

/// Removes images, and remembers from round to round which images commits have.
pub struct Collector {
    shared: Arc<Shared>,
    caller: Caller,
    pulse: Pulse,
    config_branch: Option<String>,
    policy: Policy,
    commits: Arc<Mutex<Commits>>,
}

impl Collector {
    /// For the environments that `config_branch` defines; unset: the repository's HEAD.
    pub fn new(shared: Arc<Shared>, config_branch: Option<String>, policy: Policy, pulse: Pulse) -> Self {
        let caller = shared.cluster.caller.clone().with_pulse(pulse.clone());
        Self { shared, caller, pulse, config_branch, policy, commits: Arc::default() }
    }

    /// Removes what nobody refers to at this moment. `now` is in seconds since 1970.
    pub async fn round(&self, source: &SourceState, now: i64) -> Result<Round, Doubt> {
        let Some(images) = &self.shared.images else { return Ok(Round::default()) };
        images.forget_unclaimed();
        self.pulse.step("listing the images at the builder");
        let stored = within(images.builder().images()).await?;
        let standing: Vec<Standing> = stored.iter().map(Stored::standing).collect();
        let old = |references: &References| removable(&standing, references, self.policy, now);
        // The cheapest question first: most rounds end here.
        let mut references: References = images.claimed().into_iter().collect();
        if old(&references).is_empty() {
            return Ok(Round::default());
        }
        self.pulse.step("reading which images the environments' commits have");
        references.extend(self.of_commits(source).await?);
        if old(&references).is_empty() {
            return Ok(Round::default());
        }
        self.pulse.step("listing the workloads of the cluster");
        references.extend(workloads::named(&self.caller).await?);
        if let Some(id) = references.by_id() {
            return Err(Doubt::ById(id.to_owned()));
        }
        let places = old(&references);
        Ok(self.remove(images, places.into_iter().filter_map(|place| stored.get(place))).await)
    }

    async fn of_commits(&self, source: &SourceState) -> Result<Vec<String>, Doubt> {
        let (heads, store) = match source {
            SourceState::Ready { heads, store } => (Arc::clone(heads), store.clone()),
            SourceState::Waiting { reason } | SourceState::Failing { reason, .. } => {
                return Err(Doubt::Repository(reason.clone()));
            }
        };
        let known = self.shared.parents.subscribe().borrow().clone();
        if !known.listed || known.trouble.is_some() {
            return Err(Doubt::Environments(known.trouble));
        }
        let (commits, instance) = (Arc::clone(&self.commits), self.shared.instance.clone());
        let branch = self.config_branch.clone();
        let read = move || {
            let mut commits = commits.lock().unwrap_or_else(PoisonError::into_inner);
            commits.images(&store, &heads, branch.as_deref(), &known.environments, &instance)
        };
        tokio::task::spawn_blocking(read).await?
    }

    async fn remove(&self, images: &Images, doomed: impl Iterator<Item = &Stored>) -> Round {
        let mut round = Round::default();
        for image in doomed {
            self.pulse.step(format!("removing {}", image.reference));
            match within(images.remove(&image.reference)).await {
                Ok(true) => {
                    round.bytes = round.bytes.saturating_add(image.size);
                    round.removed.push(image.reference.clone());
                }
                Ok(false) => {}
                Err(BuildError::InUse(image)) => debug!(%image, "a container was made from it; it stays"),
                Err(error) => {
                    let away = matches!(error, BuildError::Away { .. });
                    round.failed.push((image.reference.clone(), error));
                    if away {
                        break;
                    }
                }
            }
        }
        round
    }
}

async fn within<T>(asked: impl Future<Output = Result<T, BuildError>>) -> Result<T, BuildError> {
    let away = |_| BuildError::Away {
        endpoint: "the builder".to_owned(),
        reason: format!("no answer for {} s", BUILDER_WITHIN.as_secs()),
    };
    tokio::time::timeout(BUILDER_WITHIN, asked).await.map_err(away)?
}
