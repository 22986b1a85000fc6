//! DaemonSets.

use super::object::Object;
use super::unobserved;
use crate::model::Health;
use crate::model::health::Status;

pub(super) fn assess(object: &Object) -> Health {
    // Until it has counted the nodes, 0 of 0 pods would look well.
    if object.observed_generation().is_none() {
        return unobserved();
    }
    let [wanted, current, updated, ready, available] = [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "updatedNumberScheduled",
        "numberReady",
        "numberAvailable",
    ]
    .map(|name| object.status(&format!("/{name}")).count());
    let waits = |reason, message: String| Health::new(Status::InProgress, reason, &message);
    if current < wanted {
        return waits("TooFewReplicas", format!("{current} of {wanted} pods are made"));
    }
    // With OnDelete, pods get the new template when somebody deletes them.
    if updated < wanted && object.spec("/updateStrategy/type").text() != "OnDelete" {
        return waits("TooFewUpdated", format!("{updated} of {wanted} pods are updated"));
    }
    if ready < wanted {
        return waits("TooFewReady", format!("{ready} of {wanted} pods are ready"));
    }
    if available < wanted {
        return waits("TooFewAvailable", format!("{available} of {wanted} pods are available"));
    }
    Health::current()
}
