//! What may be deleted: one rule a file, each a pure function of one candidate, tried in the order of [`GUARDS`].
//!
//! The first rule that does not let a candidate pass decides what becomes of it. Two more rules look at all that passed together and may
//! ask a person first: [`budget`] and [`ask_kinds`].

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::Input;
use crate::model::{Live, ObjectKey};

mod annotated;
pub(super) mod ask_kinds;
pub(super) mod budget;
mod controlled;
mod handed_over;
mod in_render;
mod inhabited;
mod inventory;
mod not_applied;
mod ours;
mod own_namespace;
mod peers_known;
mod pruning_off;
mod same_object;
pub(super) mod still_needed;
mod terminating;
#[cfg(test)]
mod tests;

/// A live object with our label: is it to be deleted?
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) key: &'a ObjectKey,
    pub(super) live: &'a Live,
}

/// What the rules know beside the candidate.
pub(super) struct Scene<'a, 'i> {
    pub(super) input: &'a Input<'i>,
    /// The keys of the render.
    pub(super) desired: &'a HashSet<&'a ObjectKey>,
    /// The uids of the live objects that bear those keys.
    pub(super) desired_uids: &'a HashSet<&'a str>,
    /// An object of the render that this plan does not write, because it is held back or refused.
    pub(super) not_applied: Option<&'a ObjectKey>,
}

/// What a rule says of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As far as this rule goes, it may be deleted.
    Pass,
    /// It stays.
    Spare(Spare),
    /// It can't be decided yet.
    Wait(Wait),
    /// It goes to another environment.
    HandOver(Arc<str>),
}

/// Why an object with our label is not deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spare {
    /// It is in the render.
    InRender,
    /// Our manager never applied it: its label was copied.
    NotOurs,
    /// A controller made it, which deletes it too.
    Controlled,
    /// It is an object of the render, seen through another API group.
    SameObject,
    /// It is being deleted already.
    Terminating,
    /// It is the environment's own namespace.
    OwnNamespace,
    /// It is a namespace in which this environment may have objects.
    Inhabited(Arc<str>),
    /// It holds objects that stay, or defines their kind; one of them.
    StillNeeded(ObjectKey),
    /// It is annotated `plumb.dev/prune: disabled`.
    Annotated,
    /// The environment's definition says `prune.enabled: false`.
    PruningOff,
}

impl Spare {
    /// The remark for people; `None` where nobody would expect a deletion.
    pub fn note(&self) -> Option<String> {
        let left = "left git and stays:";
        match self {
            Self::InRender | Self::NotOurs | Self::Controlled | Self::SameObject | Self::Terminating => None,
            Self::OwnNamespace => Some(format!("{left} an environment's own namespace is never deleted by a prune")),
            Self::Inhabited(environment) => Some(format!("{left} environment {environment} may have objects in it")),
            Self::StillNeeded(object) => Some(format!("{left} {object} needs it")),
            Self::Annotated => Some(format!("{left} it is annotated plumb.dev/prune: disabled")),
            Self::PruningOff => Some(format!("{left} this environment's prune.enabled is false")),
        }
    }
}

/// What a deletion waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wait {
    /// The inventory has not listed every kind yet.
    InventoryIncomplete,
    /// This environment has not rendered yet, and may ask for the object.
    PeerNotRendered(Arc<str>),
    /// This object of the render is held back or refused: deletions come after all writes.
    NotAllApplied(ObjectKey),
    /// A person has not confirmed it. Only in a plan made object by object; a new commit is stopped as a whole
    /// ([`Planned::AskFirst`](super::Planned::AskFirst)).
    Unconfirmed(String),
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InventoryIncomplete => f.write_str("deletions wait until every kind is listed"),
            Self::PeerNotRendered(peer) => write!(f, "deletions wait until environment {peer} has rendered"),
            Self::NotAllApplied(key) => write!(f, "deletions wait until {key} can be written"),
            Self::Unconfirmed(why) => write!(f, "deletions wait until somebody confirms them: {why}"),
        }
    }
}

type Guard = fn(&Candidate<'_>, &Scene<'_, '_>) -> Verdict;

/// Proof of ownership first, then what is no deletion at all, then what must be known, last what a person set.
const GUARDS: &[Guard] = &[
    in_render::guard,
    ours::guard,
    controlled::guard,
    same_object::guard,
    terminating::guard,
    handed_over::guard,
    own_namespace::guard,
    inhabited::guard,
    still_needed::guard,
    annotated::guard,
    pruning_off::guard,
    peers_known::guard,
    inventory::guard,
    not_applied::guard,
];

/// What becomes of one candidate.
pub(super) fn judge(candidate: &Candidate<'_>, scene: &Scene<'_, '_>) -> Verdict {
    GUARDS
        .iter()
        .map(|guard| guard(candidate, scene))
        .find(|verdict| *verdict != Verdict::Pass)
        .unwrap_or(Verdict::Pass)
}
