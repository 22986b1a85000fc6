//! Jobs. A running one is in progress until it completes; kstatus calls it current as soon as it has begun.

use super::object::Object;
use crate::model::Health;
use crate::model::health::Status;

pub(super) fn assess(object: &Object) -> Health {
    let holds = |type_| object.condition(type_).filter(|condition| condition.is_true());
    // FailureTarget (KEP-3939): it has failed, and its pods are still being ended.
    if let Some(failed) = holds("Failed").or_else(|| holds("FailureTarget")) {
        return failed.health(Status::Failed);
    }
    if holds("Complete").is_some() {
        return Health::current();
    }
    if object.spec("/suspend").is_true() && holds("Suspended").is_some() {
        return Health::new(Status::Current, "Suspended", "it is suspended");
    }
    let wanted = object.spec("/completions").count_or(object.spec("/parallelism").count_or(1));
    let [succeeded, failed] = ["/succeeded", "/failed"].map(|pointer| object.status(pointer).count());
    let done = format!("{succeeded} of {wanted} pods have completed");
    let message = if failed > 0 { format!("{done}, {failed} have failed") } else { done };
    Health::new(Status::InProgress, "Running", &message)
}
