//! Deployments. Their controller itself says when a rollout has failed: `spec.progressDeadlineSeconds`.

use super::object::Object;
use super::replica_set::cannot_create;
use super::unobserved;
use crate::model::Health;
use crate::model::health::Status;

pub(super) fn assess(object: &Object) -> Health {
    // Without it the counts are of nothing yet.
    if object.observed_generation().is_none() {
        return unobserved();
    }
    if let Some(progressing) = object.condition("Progressing").filter(|it| it.reason() == "ProgressDeadlineExceeded") {
        return progressing.health(Status::Failed);
    }
    if let Some(failure) = cannot_create(object) {
        return failure;
    }
    let wanted = object.spec("/replicas").count_or(1);
    let [all, updated, available, ready] = ["replicas", "updatedReplicas", "availableReplicas", "readyReplicas"]
        .map(|name| object.status(&format!("/{name}")).count());
    // Paused, its pods stay those of the older template, as long as somebody means them to.
    let paused = object.spec("/paused").is_true();
    let waits = |reason, message: String| Health::new(Status::InProgress, reason, &message);
    if !paused && updated < wanted {
        return waits("TooFewUpdated", format!("{updated} of {wanted} replicas are updated"));
    }
    if !paused && all > updated {
        return waits("TooManyReplicas", format!("old replicas still to go: {}", all - updated));
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
    match object.condition("Available") {
        Some(condition) if condition.is_true() => match paused {
            true => Health::new(Status::Current, "Paused", "it is paused"),
            false => Health::current(),
        },
        Some(condition) => condition.health(Status::InProgress),
        None => waits("NotAvailable", "its controller does not call it available yet".to_owned()),
    }
}
