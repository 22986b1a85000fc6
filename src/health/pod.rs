//! Pods. One that has failed is Failed (kstatus calls it current), and so is one whose container can't start for a reason that time does not cure.

use super::object::{Field, Object};
use crate::model::Health;
use crate::model::health::Status;

/// A scheduler that starts a node for a pod needs a moment. In seconds, as kstatus has it.
const TO_SCHEDULE: i64 = 15;

/// Why the kubelet has a container wait although it has tried. It tries on; what it needs is somebody's change.
const CANNOT_START: [&str; 11] = [
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "RegistryUnavailable",
    "RunContainerError",
    "SignatureValidationFailed",
];

pub(super) fn assess(object: &Object) -> Health {
    match object.status("/phase").text() {
        "Succeeded" => Health::current(),
        "Failed" => failed(object),
        phase => {
            let ready = object.condition("Ready");
            if phase == "Running" && ready.is_some_and(|condition| condition.is_true()) {
                return Health::current();
            }
            let waiting = containers(object)
                .find_map(cannot_start)
                .or_else(|| object.status("/initContainerStatuses").list().find_map(ends_badly))
                .or_else(|| unschedulable(object));
            waiting.unwrap_or_else(|| match ready {
                Some(ready) if ready.is_false() => ready.health(Status::InProgress),
                _ => Health::new(Status::InProgress, "Pending", "no node has taken it up yet"),
            })
        }
    }
}

/// The statuses of its containers, in the order in which they start.
pub(super) fn containers(object: &Object) -> impl Iterator<Item = Field<'_>> {
    let of = |field| object.status(field).list();
    of("/initContainerStatuses").chain(of("/containerStatuses"))
}

/// Evicted, preempted, lost with its node: the pod says so. Else one of its containers has ended badly.
fn failed(object: &Object) -> Health {
    let (reason, message) = (object.status("/reason").text(), object.status("/message").text());
    if !reason.is_empty() || !message.is_empty() {
        let reason = if reason.is_empty() { "Failed" } else { reason };
        return Health::new(Status::Failed, reason, if message.is_empty() { "it has failed" } else { message });
    }
    let ended = containers(object).find(|container| container.at("/state/terminated/exitCode").count() != 0);
    let Some(container) = ended else { return Health::new(Status::Failed, "Failed", "it has failed") };
    let terminated = container.at("/state/terminated");
    let reason = terminated.at("/reason").text();
    let reason = if reason.is_empty() { "Error" } else { reason };
    Health::new(Status::Failed, reason, &format!("container {} {}", container.at("/name").text(), how(terminated)))
}

fn cannot_start(container: Field<'_>) -> Option<Health> {
    let waiting = container.at("/state/waiting");
    let reason = waiting.at("/reason").text();
    if !CANNOT_START.contains(&reason) {
        return None;
    }
    let mut message = format!("container {} can't start", container.at("/name").text());
    let last = container.at("/lastState/terminated");
    if last.exists() {
        message = format!("container {} {}", container.at("/name").text(), how(last));
    }
    message.push_str(&restarted(container));
    let said = waiting.at("/message").text();
    // In a crash loop it only says how long the kubelet waits.
    let says_more = !last.exists() || reason != "CrashLoopBackOff";
    if says_more && !said.is_empty() {
        message.push_str(&format!(": {said}"));
    }
    Some(Health::new(Status::Failed, reason, &message))
}

/// An init container that has ended badly. The kubelet shows it so for most of the pause before it starts it again, and only at times as waiting.
fn ends_badly(container: Field<'_>) -> Option<Health> {
    let ended = container.at("/state/terminated");
    if ended.at("/exitCode").count() == 0 {
        return None;
    }
    let status = if container.at("/restartCount").count() == 0 { Status::InProgress } else { Status::Failed };
    let message = format!("container {} {}{}", container.at("/name").text(), how(ended), restarted(container));
    Some(Health::new(status, "InitContainerFailed", &message))
}

fn restarted(container: Field<'_>) -> String {
    match container.at("/restartCount").count() {
        0 => String::new(),
        1 => ", restarted once".to_owned(),
        restarts => format!(", restarted {restarts} times"),
    }
}

/// How a container ended: `ended with exit code 137 (OOMKilled)`, with its last words if it wrote any to its termination log.
fn how(terminated: Field<'_>) -> String {
    let (reason, said) = (terminated.at("/reason").text(), terminated.at("/message").text().trim());
    let mut text = format!("ended with exit code {}", terminated.at("/exitCode").count());
    if !reason.is_empty() && reason != "Error" {
        text.push_str(&format!(" ({reason})"));
    }
    if !said.is_empty() {
        text.push_str(&format!(": {said}"));
    }
    text
}

fn unschedulable(object: &Object) -> Option<Health> {
    let scheduled = object.condition("PodScheduled").filter(|condition| condition.is_false())?;
    let waits = scheduled.health(Status::InProgress);
    if scheduled.reason() != "Unschedulable" {
        return Some(waits); // Gated: somebody means it to wait.
    }
    let since = scheduled.since().or(object.created());
    Some(waits.turning(since.map(|since| since + TO_SCHEDULE), Status::Failed))
}
