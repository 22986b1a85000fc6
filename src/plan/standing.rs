//! Whose is an object that stands in the cluster?
//!
//! Ours is what bears our label *and* has an Apply entry of our manager: labels get copied (a Service's onto its EndpointSlices, an
//! operator's onto its children), entries don't.

use std::sync::Arc;

use super::{Claim, Input, Peers};
use crate::model::live::Owner;
use crate::model::{Live, ObjectKey};

/// How a desired object stands in the cluster.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing<'a> {
    /// It does not.
    Absent,
    /// It is being deleted.
    Terminating(&'a Live),
    /// It is ours.
    Ours(&'a Live),
    /// It was ours in this life (same uid), and lost its label or our entry; nobody else says it is theirs.
    Lost(&'a Live),
    /// It is another environment's.
    Peer(&'a Live, Arc<str>),
    /// It is nobody's.
    Free(&'a Live),
    /// It bears another owner's mark.
    Foreign(&'a Live, Owner),
}

impl<'a> Standing<'a> {
    /// Whose the object with this key is.
    pub(super) fn of(key: &ObjectKey, input: &Input<'a>) -> Self {
        match input.members.get(key).or_else(|| input.strangers.get(key)) {
            None => Self::Absent,
            Some(live) if live.terminating => Self::Terminating(live),
            Some(live) if is_ours(live, input) => Self::Ours(live),
            Some(live) => Self::not_ours(key, live, input),
        }
    }

    fn not_ours(key: &ObjectKey, live: &'a Live, input: &Input<'a>) -> Self {
        if let Some(environment) = peer(live, input.peers) {
            return Self::Peer(live, environment);
        }
        let lost = (input.baseline)(key).is_some_and(|baseline| baseline.uid == live.uid);
        // A label that is no ApplySet's id was damaged, and says nothing of an owner.
        let other_set = live.part_of.as_ref().filter(|id| ***id != *input.part_of && is_applyset_id(id));
        match (&live.owner, other_set) {
            (Some(owner), _) => Self::Foreign(live, owner.as_ref().clone()),
            (None, Some(id)) => Self::Foreign(live, Owner::ApplySet(Arc::clone(id))),
            (None, None) if lost => Self::Lost(live),
            (None, None) => Self::Free(live),
        }
    }

    /// The object's metadata, if it stands.
    pub(super) fn live(&self) -> Option<&'a Live> {
        match self {
            Self::Absent => None,
            Self::Terminating(live)
            | Self::Ours(live)
            | Self::Lost(live)
            | Self::Peer(live, _)
            | Self::Free(live)
            | Self::Foreign(live, _) => Some(live),
        }
    }
}

/// Whether it bears our label and has our Apply entry.
pub(super) fn is_ours(live: &Live, input: &Input<'_>) -> bool {
    live.part_of.as_deref() == Some(input.part_of) && live.entry(input.manager).is_some()
}

/// The other environment that owns it: by its label and its entry both.
pub fn peer(live: &Live, peers: &dyn Peers) -> Option<Arc<str>> {
    let environment = peers.environment_of(live.part_of.as_deref()?)?;
    let applied = live.applied.iter().any(|e| peers.environment_of_manager(&e.manager).as_ref() == Some(&environment));
    applied.then_some(environment)
}

/// The other environments that have entries on an object, are known, and do not ask for it: they let it go.
pub(super) fn left_by(live: &Live, claim: &Claim, input: &Input<'_>) -> Vec<Arc<str>> {
    if matches!(claim, Claim::Environment(_)) {
        return Vec::new();
    }
    let environments = live.applied.iter().filter_map(|entry| input.peers.environment_of_manager(&entry.manager));
    environments.filter(|environment| input.peers.has_rendered(environment)).collect()
}

/// The form that KEP-3659 gives ids.
fn is_applyset_id(value: &str) -> bool {
    value.starts_with("applyset-") && value.ends_with("-v1")
}
