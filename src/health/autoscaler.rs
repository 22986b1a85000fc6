//! HorizontalPodAutoscalers.

use serde_json::Value;

use super::object::{Condition, Field, Object};
use crate::model::Health;
use crate::model::health::Status;

/// The target may be made a moment after its autoscaler, and new pods have no metrics for a minute: it has failed only if it can't work for longer than
/// this. In seconds.
const PATIENCE: i64 = 120;

/// Where `autoscaling/v1` has its conditions.
const V1_CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

pub(super) fn assess(object: &Object) -> Health {
    let v1: Value =
        object.annotation(V1_CONDITIONS).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let conditions: Vec<Condition<'_>> = object.conditions().chain(Field::of(&v1).list().map(Condition)).collect();
    if conditions.is_empty() {
        return Health::new(Status::InProgress, "NotObserved", "its controller has not looked at it yet");
    }
    let broken = conditions.into_iter().find(|condition| {
        matches!(condition.type_(), "AbleToScale" | "ScalingActive")
            && condition.is_false()
            && is_trouble(condition.reason())
    });
    broken.map_or_else(Health::current, |condition| {
        let until = condition.since().or(object.created()).map(|since| since + PATIENCE);
        condition.health(Status::InProgress).turning(until, Status::Failed)
    })
}

/// Scaled to zero it is switched off, and while it lets a scaling settle it is not able to scale: neither is trouble.
fn is_trouble(reason: &str) -> bool {
    !matches!(reason, "ScalingDisabled" | "BackoffBoth" | "BackoffDownscale" | "BackoffUpscale")
}
