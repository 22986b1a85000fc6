//! How the dependents of a deleted object are deleted, by its kind.

use crate::model::GroupKind;
use crate::model::environment::Propagation;
use crate::model::kinds::is_builtin;

/// The built-in kinds that have pods, or volumes of a pod's own, as dependents.
const RUN: &[(&str, &str)] = &[
    ("", "Pod"),
    ("", "ReplicationController"),
    ("apps", "DaemonSet"),
    ("apps", "Deployment"),
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("batch", "CronJob"),
    ("batch", "Job"),
];

/// How an object of this kind is deleted under this policy.
///
/// A foreground deletion has the object stay until the garbage collector has seen its dependents go: of use where something runs. An object without
/// dependents waits for the collector all the same, minutes after an outage of the API server; one that was deleted and made again while the collector did not look
/// it forgets, and the object never goes (kubernetes issues 77081, 115570). Namespaces and definitions have a finalizer of their own that waits for what is in
/// them. Of a kind that is not built in nobody knows what depends on it. Nothing is orphaned either way.
pub fn of(kind: &GroupKind, policy: Propagation) -> Propagation {
    let runs = RUN.iter().any(|(group, name)| kind.is(group, name));
    if runs || !is_builtin(kind) { policy } else { Propagation::Background }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_have_something_running_waits_for_its_dependents() {
        let of = |group: &str, kind: &str, policy| of(&GroupKind::new(group, kind), policy);
        for (group, kind) in [
            ("", "Pod"),
            ("", "ReplicationController"),
            ("apps", "DaemonSet"),
            ("apps", "Deployment"),
            ("apps", "ReplicaSet"),
            ("apps", "StatefulSet"),
            ("batch", "CronJob"),
            ("batch", "Job"),
            ("argoproj.io", "Rollout"),
            // Not built in: a kind of the same name in another group.
            ("example.org", "ConfigMap"),
        ] {
            assert_eq!(of(group, kind, Propagation::Foreground), Propagation::Foreground, "{group}/{kind}");
            assert_eq!(of(group, kind, Propagation::Background), Propagation::Background, "{group}/{kind}");
        }
        for (group, kind) in [
            ("", "ConfigMap"),
            ("", "Secret"),
            ("", "Service"),
            ("", "PersistentVolumeClaim"),
            ("", "Namespace"),
            ("apiextensions.k8s.io", "CustomResourceDefinition"),
            ("autoscaling", "HorizontalPodAutoscaler"),
            ("networking.k8s.io", "Ingress"),
            ("rbac.authorization.k8s.io", "ClusterRole"),
        ] {
            assert_eq!(of(group, kind, Propagation::Foreground), Propagation::Background, "{group}/{kind}");
        }
    }
}
