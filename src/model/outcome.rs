//! How a commit ends in an environment. Every commit ends once, and a failure says at which stage, on what, and what to do.

use std::fmt;
use std::time::Duration;

use super::{CommitId, ObjectKey, Origin};

/// The stages, in the order of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Reading git.
    Source,
    /// Reading `environment.yaml` and `plumb.yaml`.
    Definition,
    /// From files to objects.
    Render,
    /// Comparing with the cluster, the safety rules.
    Plan,
    /// The API server's dry-run of what changed, before the first write.
    DryRun,
    /// Building the images that are missing.
    Build,
    /// Writing.
    Apply,
    /// Deleting what left git.
    Prune,
    /// Waiting until everything is ready: the rollout.
    Health,
}

impl Stage {
    /// All of them, in their order.
    pub const ALL: [Self; 9] = [
        Self::Source,
        Self::Definition,
        Self::Render,
        Self::Plan,
        Self::DryRun,
        Self::Build,
        Self::Apply,
        Self::Prune,
        Self::Health,
    ];

    /// The word used in logs, status and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Definition => "definition",
            Self::Render => "render",
            Self::Plan => "plan",
            Self::DryRun => "dry-run",
            Self::Build => "build",
            Self::Apply => "apply",
            Self::Prune => "prune",
            Self::Health => "health",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Of many failures at most this many are told; the rest is counted.
const TOLD: usize = 5;

/// Why a commit could not be deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Where it stopped.
    pub stage: Stage,
    /// What is wrong, in one sentence, without secret values.
    pub reason: String,
    /// The object, if it is one object's fault.
    pub object: Option<ObjectKey>,
    /// The file and line, if known.
    pub origin: Option<Origin>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Whether it may pass by itself (an API server away), so that trying again makes sense. A bad commit waits for the next one.
    pub transient: bool,
    /// Whether what it needs may only not have come up yet. That is waited for, and no end of the commit.
    pub awaited: bool,
}

impl Failure {
    /// A failure that stays until somebody changes something.
    pub fn new(stage: Stage, reason: impl Into<String>) -> Self {
        Self { stage, reason: reason.into(), object: None, origin: None, hint: None, transient: false, awaited: false }
    }

    /// One failure out of many: the first, with the number and some of the others.
    pub fn first_of(failures: Vec<Self>) -> Option<Self> {
        let count = failures.len();
        let transient = failures.iter().any(|failure| failure.transient);
        let others: Vec<String> = failures.iter().skip(1).take(TOLD - 1).map(ToString::to_string).collect();
        let mut first = failures.into_iter().next()?;
        first.transient = transient;
        if count > 1 {
            first.reason = format!("{} (and {} more: {})", first.reason, count - 1, others.join(" | "));
        }
        Some(first)
    }

    /// Names the object.
    pub fn on(mut self, object: ObjectKey) -> Self {
        self.object = Some(object);
        self
    }

    /// Names the file and line.
    pub fn at(mut self, origin: Origin) -> Self {
        self.origin = Some(origin);
        self
    }

    /// Says what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Marks it as one that may pass by itself.
    pub fn transient(mut self) -> Self {
        self.transient = true;
        self
    }

    /// Marks it as one that is waited for.
    pub fn awaited(mut self) -> Self {
        self.awaited = true;
        self
    }
}

impl fmt::Display for Failure {
    /// `file:line: Kind/namespace/name: reason; hint`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        f.write_str(&self.reason)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// How one commit ended in one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The cluster is as the commit says.
    Deployed,
    /// No input of this environment changed.
    Unchanged,
    /// It could not be deployed, or not wholly.
    Failed(Failure),
    /// A newer commit took its place before it was done.
    SupersededBy(CommitId),
    /// The environment is suspended.
    Suspended,
}

impl Outcome {
    /// The word used in logs, status and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Deployed => "Deployed",
            Self::Unchanged => "Unchanged",
            Self::Failed(_) => "Failed",
            Self::SupersededBy(_) => "SupersededBy",
            Self::Suspended => "Suspended",
        }
    }
}

/// One commit's deployment, ended: what the log line, the Event and the history entry are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// The commit.
    pub commit: CommitId,
    /// How it ended.
    pub outcome: Outcome,
    /// Objects in the render.
    pub objects: usize,
    /// Objects that were written.
    pub applied: usize,
    /// Objects that were as they should be.
    pub unchanged: usize,
    /// Objects that were deleted.
    pub pruned: usize,
    /// What of it has not been written, now or before; `None`: it was not begun.
    pub lacking: Option<Vec<ObjectKey>>,
    /// From the moment the commit was seen to its end.
    pub took: Duration,
    /// How long each stage took, in their order.
    pub stages: Vec<(Stage, Duration)>,
}
