//! What has to be done so that the cluster equals git, decided without any I/O.
//!
//! The input is plain data: what git asks for, what stands in the cluster, what the other environments ask for. The result is a list of
//! steps, each with its reason and the precondition under which alone it may be carried out. `plumb plan` prints what `plumb run` does.

use std::sync::Arc;

use crate::model::live::ResourceVersion;
use crate::model::{Manifest, ObjectKey, Origin};

/// What is done with one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It does not stand in the cluster.
    Create,
    /// It stands, is ours, and differs or was not verified yet.
    Update,
    /// It stands, is ours, and must be deleted and made again, since an immutable field changed.
    Replace,
    /// It stands and is not ours yet.
    Adopt,
    /// Another environment of this plumb let it go: it is applied as ours, then that environment's manager lets its fields go.
    TakeOver {
        /// The other environment.
        from: Arc<str>,
    },
    /// It left this environment's git and another environment claims it: left to that one.
    HandOver {
        /// The other environment.
        to: Arc<str>,
    },
    /// It is ours and no longer in git.
    Prune,
    /// It is as it should be: no request.
    Keep,
    /// Its kind is not served yet: held back until it is.
    Hold,
}

/// The state an object must be in for its step to be carried out. The API server checks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`.
    pub resource_version: ResourceVersion,
}

/// Why a step stands in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Not in the cluster.
    Absent,
    /// Its content in git changed.
    Changed,
    /// Somebody changed it in the cluster since it was applied.
    Drifted,
    /// plumb started and has not applied it yet in this life.
    NotVerified,
    /// It stands without our label.
    NotOurs,
    /// It left git.
    LeftGit,
    /// Another environment's claim changed hands.
    Moved,
    /// An immutable field changed.
    Immutable,
    /// Content and ownership are as they were.
    Unchanged,
    /// The kind is not served.
    KindNotServed,
    /// It is being deleted: waited for.
    Terminating,
}

/// One step of a plan.
#[derive(Debug, Clone)]
pub struct Step {
    /// The object.
    pub key: ObjectKey,
    /// What is done.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// Its content; `None` for a prune and a hand-over.
    pub manifest: Option<Arc<Manifest>>,
    /// What must hold; `None` for an object that does not stand.
    pub precondition: Option<Precondition>,
    /// Whether the API server can be asked for a dry-run before the commit's first write: not when the commit itself must first make
    /// the namespace or the kind.
    pub checkable: bool,
}

/// The steps, in the order of execution: writes by phase, then deletions in reverse.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// All steps, `Keep` included.
    pub steps: Vec<Step>,
    /// What a person should know and that stops nothing, such as objects that stay because pruning is off for them.
    pub notes: Vec<Note>,
}

/// A remark on one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The object.
    pub key: ObjectKey,
    /// The remark, a sentence.
    pub text: String,
}

/// A rule that refuses a plan. It names both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The object.
    pub key: ObjectKey,
    /// Where it comes from in git, if it does.
    pub origin: Option<Origin>,
    /// Why it is refused.
    pub reason: String,
    /// What to do.
    pub hint: String,
}
