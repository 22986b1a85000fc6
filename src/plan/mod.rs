//! What has to be done so that the cluster equals git, decided without any I/O.
//!
//! The input is plain data: what git asks for, what stands in the cluster, what the other environments ask for. The result is a list of
//! steps, each with its reason and the precondition under which alone it may be carried out. `plumb plan` prints what `plumb run` does.
//!
//! [`plan`] is the one entrance. It asks in turn where an object may stand ([`place`]), whose it is ([`standing`]), what may be
//! deleted ([`guards`]) and in which sequence ([`order`]).

use std::sync::Arc;

use crate::drift::fields::FieldSet;
use crate::drift::ownership::Share;
use crate::model::live::ResourceVersion;
use crate::model::{Failure, Manifest, ObjectKey, Origin, Stage};

mod clash;
mod decide;
mod delete;
mod guards;
pub mod immutable;
mod input;
pub mod order;
mod place;
pub mod propagation;
pub mod show;
mod standing;
#[cfg(test)]
pub(crate) mod tests;

pub use clash::{Clash, clashes};
pub use decide::{plan, restore};
pub use guards::{Spare, Wait};
pub use input::{Claim, Input, NamespaceState, Peers};
pub use order::Phase;
pub use standing::peer;

/// What is done with one object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// It does not stand in the cluster.
    Create,
    /// It stands, is ours, and differs or was not verified yet.
    Update,
    /// It stands, is ours, and must be deleted and made again, since an immutable field changed. Never in a fresh plan: an update
    /// becomes one when the API server says so ([`immutable::escalate`]).
    Replace,
    /// It stands and is not ours yet.
    Adopt,
    /// Another environment of this plumb let it go: it is applied as ours, then that environment's manager lets its fields go
    /// ([`Step::let_go`]).
    TakeOver {
        /// The other environment.
        from: Arc<str>,
    },
    /// It left this environment's git and another environment claims it: left to that one, no request.
    HandOver {
        /// The other environment.
        to: Arc<str>,
    },
    /// It is ours and no longer in git.
    Prune,
    /// It is as it should be: no request.
    Keep,
    /// It can't be written yet: held back until it can, alone.
    Hold,
}

impl Action {
    /// The word used in logs and in the JSON of a plan.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Replace => "replace",
            Self::Adopt => "adopt",
            Self::TakeOver { .. } => "take-over",
            Self::HandOver { .. } => "hand-over",
            Self::Prune => "prune",
            Self::Keep => "keep",
            Self::Hold => "hold",
        }
    }

    /// Whether the object's content is sent to the API server.
    pub const fn writes(&self) -> bool {
        matches!(self, Self::Create | Self::Update | Self::Replace | Self::Adopt | Self::TakeOver { .. })
    }
}

/// The state an object must be in for its step to be carried out. The API server checks it: an apply carries the uid, which no status
/// write moves; a delete and a replace carry both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`.
    pub resource_version: ResourceVersion,
}

/// Why a step stands in the plan.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Not in the cluster.
    Absent,
    /// Its content in git changed.
    Changed,
    /// Somebody changed it in the cluster since it was applied.
    Drifted,
    /// plumb started and has not applied it yet in this life.
    NotVerified,
    /// The definition of its kind changes in this commit.
    Redefined,
    /// The API server's dry-run says that applying it changes something. Never in a fresh plan.
    Differs,
    /// It stands without being ours.
    NotOurs,
    /// It left git.
    LeftGit,
    /// Another environment's claim changed hands.
    Moved,
    /// An immutable field changed.
    Immutable,
    /// Content and ownership are as they were.
    Unchanged,
    /// A Job that does not stand, since it has run: making it again would run it again.
    Ran,
    /// The kind is not served.
    KindNotServed,
    /// It is being deleted: waited for.
    Terminating,
    /// Its namespace is being deleted: nothing can be made there.
    NamespaceTerminating,
    /// It bears the label of this environment, of which it is not known yet whether it still wants the object.
    OwnerNotRendered(Arc<str>),
}

impl Reason {
    /// The words for people.
    pub fn words(&self) -> String {
        let words = match self {
            Self::Absent => "not in the cluster",
            Self::Changed => "changed in git",
            Self::Drifted => "changed in the cluster",
            Self::NotVerified => "not yet verified since plumb started",
            Self::Redefined => "the definition of its kind changed",
            Self::Differs => "differs from the cluster",
            Self::NotOurs => "stands already, not ours yet",
            Self::LeftGit => "left git",
            Self::Moved => "moved between environments",
            Self::Immutable => "an immutable field changed",
            Self::Unchanged => "unchanged",
            Self::Ran => "has run, and went by its ttlSecondsAfterFinished",
            Self::KindNotServed => "its kind is not served yet",
            Self::Terminating => "is being deleted",
            Self::NamespaceTerminating => "its namespace is being deleted",
            Self::OwnerNotRendered(owner) => {
                return format!("belongs to environment {owner}, which has not rendered yet");
            }
        };
        words.to_owned()
    }
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
    /// Whether the definition of its kind is written in this commit: an API server may answer by the former one for a moment.
    pub redefined: bool,
    /// Whether the fields that a client-side `kubectl apply` left must be migrated to our manager before the apply
    /// ([`crate::drift::ownership::migrate_client_side_apply`]).
    pub migrate: bool,
    /// Environments that let the object go and still own fields of it: after the write, the manager of each applies an empty body (with uid
    /// and resourceVersion), or its fields would stay for ever.
    pub let_go: Vec<Arc<str>>,
    /// Fields that are left to others from now on and that we, or an environment of `let_go`, own: before the write somebody else must own them too, or
    /// they would fall back to their defaults.
    pub leaves: FieldSet,
    /// Fields that leave git and are taken from others who own them too, by whom. None in a fresh plan: the API server's answer to the dry-run names them.
    pub takes: Vec<Share>,
}

/// The steps, in the order of execution: writes by phase, then what is handed over, then deletions in reverse.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// All steps, `Keep` included. A prune may only be carried out after every write before it succeeded.
    pub steps: Vec<Step>,
    /// Objects that may not be written; empty unless the plan was made object by object ([`Input::object_by_object`]).
    pub refused: Vec<Refusal>,
    /// Deletions that could not be decided yet: plan again when what is waited for has come.
    pub waits: Vec<Wait>,
    /// What a person should know and that stops nothing, such as objects that stay because pruning is off for them.
    pub notes: Vec<Note>,
    /// The images that the commit's `plumb.yaml` declares, with their tags.
    pub images: Vec<String>,
}

impl Plan {
    /// Whether nothing is left to do or to decide: carrying it out sends no request.
    pub fn is_settled(&self) -> bool {
        let idle = |step: &Step| matches!(step.action, Action::Keep | Action::HandOver { .. });
        self.refused.is_empty() && self.waits.is_empty() && self.steps.iter().all(idle)
    }
}

/// A remark on one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The object.
    pub key: ObjectKey,
    /// The remark, a sentence.
    pub text: String,
}

impl Note {
    /// A remark on this object.
    pub(crate) fn new(key: ObjectKey, text: String) -> Self {
        Self { key, text }
    }
}

/// A rule that refuses an object. It names both sides.
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

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let failure = Failure::new(Stage::Plan, refusal.reason).on(refusal.key).hint(refusal.hint);
        match refusal.origin {
            Some(origin) => failure.at(origin),
            None => failure,
        }
    }
}

/// A commit that would delete more than may be deleted unasked. Nothing of it is carried out before somebody confirms.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Why it is asked, a sentence each.
    pub reasons: Vec<String>,
    /// What to do.
    pub hint: String,
    /// What would be done once it is confirmed: for people to read, never to carry out.
    pub proposed: Plan,
}

impl From<&Ask> for Failure {
    fn from(ask: &Ask) -> Self {
        Failure::new(Stage::Prune, ask.reasons.join("; ")).hint(ask.hint.clone())
    }
}

/// What planning came to.
#[derive(Debug, Clone)]
#[must_use]
pub enum Planned {
    /// This is to be done.
    Ready(Plan),
    /// Nothing may be done: every rule that is broken, one entry each.
    Refused(Vec<Refusal>),
    /// Nothing may be done before somebody confirms.
    AskFirst(Ask),
}
