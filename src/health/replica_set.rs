//! ReplicaSets, and what they and Deployments say when pods can't be made.

use super::object::Object;
use super::unobserved;
use crate::model::Health;
use crate::model::health::Status;

/// A new namespace has no service account for a moment, and a quota may be freed by the pods that go: pods that can't be made are a failure only after
/// this time. In seconds.
const PATIENCE: i64 = 15;

pub(super) fn assess(object: &Object) -> Health {
    if object.observed_generation().is_none() {
        return unobserved();
    }
    if let Some(failure) = cannot_create(object) {
        return failure;
    }
    let wanted = object.spec("/replicas").count_or(1);
    let [all, ready, available] =
        ["replicas", "readyReplicas", "availableReplicas"].map(|name| object.status(&format!("/{name}")).count());
    let waits = |reason, message: String| Health::new(Status::InProgress, reason, &message);
    if all < wanted {
        return waits("TooFewReplicas", format!("{all} of {wanted} replicas are made"));
    }
    if all > wanted {
        return waits("TooManyReplicas", format!("replicas still to go: {}", all - wanted));
    }
    if ready < wanted {
        return waits("TooFewReady", format!("{ready} of {wanted} replicas are ready"));
    }
    if available < wanted {
        return waits("TooFewAvailable", format!("{available} of {wanted} replicas are available"));
    }
    Health::current()
}

/// Pods can't be made or deleted: a quota, an admission webhook, a missing service account. The condition has the API server's words. kstatus says
/// InProgress without them.
pub(super) fn cannot_create(object: &Object) -> Option<Health> {
    let failure = object.condition("ReplicaFailure").filter(|condition| condition.is_true())?;
    let until = failure.since().map(|since| since + PATIENCE);
    Some(failure.health(Status::InProgress).turning(until, Status::Failed))
}
