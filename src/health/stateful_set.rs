//! StatefulSets. Their controller writes no conditions: everything is read from counts and revisions.

use super::object::Object;
use super::unobserved;
use crate::model::Health;
use crate::model::health::Status;

pub(super) fn assess(object: &Object) -> Health {
    if object.observed_generation().is_none() {
        return unobserved();
    }
    let wanted = object.spec("/replicas").count_or(1);
    let [all, ready, updated] =
        ["replicas", "readyReplicas", "updatedReplicas"].map(|name| object.status(&format!("/{name}")).count());
    // Servers before 1.22 don't count it.
    let available = object.status("/availableReplicas").count_or(ready);
    let waits = |reason, message: String| Health::new(Status::InProgress, reason, &message);
    if all < wanted {
        return waits("TooFewReplicas", format!("{all} of {wanted} replicas are made"));
    }
    if ready < wanted {
        return waits("TooFewReady", format!("{ready} of {wanted} replicas are ready"));
    }
    if available < wanted {
        return waits("TooFewAvailable", format!("{available} of {wanted} replicas are available"));
    }
    if all > wanted {
        return waits("TooManyReplicas", format!("replicas still to go: {}", all - wanted));
    }
    // Its pods get the new template when somebody deletes them; kstatus does not ask whether they are ready either.
    if object.spec("/updateStrategy/type").text() == "OnDelete" {
        return Health::current();
    }
    let partition = object.spec("/updateStrategy/rollingUpdate/partition").count();
    let to_update = (wanted - partition).max(0);
    if partition > 0 {
        return match updated < to_update {
            true => {
                waits("TooFewUpdated", format!("{updated} of {to_update} replicas above the partition are updated"))
            }
            false => Health::current(),
        };
    }
    let [current, update] = ["/currentRevision", "/updateRevision"].map(|pointer| object.status(pointer).text());
    match current == update {
        true => Health::current(),
        false => waits("TooFewUpdated", format!("{updated} of {wanted} replicas are updated")),
    }
}
