//! How an object stands, read from its spec and status: a table of rules, one file a family of kinds.
//!
//! The terms are kstatus' (`sigs.k8s.io/cli-utils/pkg/kstatus`). Where a rule says otherwise than kstatus or Argo CD, the rule's own words say why.

mod autoscaler;
mod claim;
mod daemon_set;
mod definition;
mod deployment;
pub mod diagnosis;
pub mod environment;
mod job;
mod object;
mod pod;
mod replica_set;
mod stateful_set;
mod traffic;

#[cfg(test)]
mod tests;

pub use object::Object;

use crate::model::health::Status;
use crate::model::kinds::is_builtin;
use crate::model::{GroupKind, Health};

type Rule = fn(&Object) -> Health;

/// The kinds that say in a way of their own how they are.
const RULES: &[(&str, &str, Rule)] = &[
    ("", "PersistentVolumeClaim", claim::assess),
    ("", "Pod", pod::assess),
    ("", "Service", traffic::service),
    ("apiextensions.k8s.io", "CustomResourceDefinition", definition::custom_resource),
    ("apiregistration.k8s.io", "APIService", definition::api_service),
    ("apps", "DaemonSet", daemon_set::assess),
    ("apps", "Deployment", deployment::assess),
    ("apps", "ReplicaSet", replica_set::assess),
    ("apps", "StatefulSet", stateful_set::assess),
    ("autoscaling", "HorizontalPodAutoscaler", autoscaler::assess),
    ("batch", "Job", job::assess),
    ("networking.k8s.io", "Ingress", traffic::ingress),
];

fn rule(kind: &GroupKind) -> Option<Rule> {
    RULES.iter().find(|(group, name, _)| kind.is(group, name)).map(|(_, _, rule)| *rule)
}

/// Whether objects of this kind have to be seen whole: their status says how they are. Of all others, Secrets and ConfigMaps among them, metadata is enough: a
/// built-in kind that is not in [`RULES`] has nothing in its status that could be waited for.
pub fn reads_status(kind: &GroupKind) -> bool {
    rule(kind).is_some() || !is_builtin(kind)
}

/// Judges an object. The first rule that matches wins: being deleted, a spec that its controller has not seen yet, the two conditions that kstatus
/// defines for everybody, the kind's own rule, and for custom resources the condition `Ready`.
pub fn assess(kind: &GroupKind, object: &Object) -> Health {
    before_all(object).unwrap_or_else(|| match rule(kind) {
        Some(rule) => rule(object),
        None if reads_status(kind) => ready(object),
        None => Health::current(),
    })
}

fn before_all(object: &Object) -> Option<Health> {
    if object.is_terminating() {
        return Some(Health::new(Status::Terminating, "Terminating", "it is being deleted"));
    }
    if object.observed_generation().is_some_and(|observed| Some(observed) != object.generation()) {
        return Some(unobserved());
    }
    let under_way = object.condition("Reconciling").filter(|condition| condition.is_true());
    let stalled = object.condition("Stalled").filter(|condition| condition.is_true());
    under_way
        .map(|condition| condition.health(Status::InProgress))
        .or_else(|| stalled.map(|condition| condition.health(Status::Failed)))
}

/// What is known of an object that was written and not seen since.
pub fn unseen() -> Health {
    Health::new(Status::InProgress, "NotSeen", "it was just written")
}

/// The controller has not seen the newest spec.
fn unobserved() -> Health {
    Health::new(Status::InProgress, "NotObserved", "its controller has not taken up the newest spec yet")
}

/// Without a rule of its own, a kind says by the condition `Ready` how it is. Without that condition it has nothing to say.
fn ready(object: &Object) -> Health {
    match object.condition("Ready") {
        None => Health::current(),
        Some(ready) if ready.is_of_older_generation(object) => unobserved(),
        Some(ready) if ready.is_true() => Health::current(),
        // Most controllers say False while they are still at work, so that only time can tell.
        Some(ready) => ready.health(Status::InProgress),
    }
}
