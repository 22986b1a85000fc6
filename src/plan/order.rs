//! In which sequence objects are written and deleted.

use std::cmp::Reverse;

use crate::model::GroupKind;

use super::{Action, Step};

/// What is written together. Each phase is finished before the next begins; deletions run through them in reverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// What others live in or are kinds of: namespaces, CRDs, classes.
    Foundations,
    /// What workloads refer to: accounts, rights, configuration, storage, limits.
    Prerequisites,
    /// Everything else: workloads, services, custom resources.
    Workloads,
    /// What decides over other requests: an API server extension or admission hook whose backend must run first.
    Gatekeepers,
}

/// Kinds whose place is not among the workloads, in the order they are written.
const TABLE: &[(Phase, &str, &str)] = &[
    (Phase::Foundations, "", "Namespace"),
    (Phase::Foundations, "apiextensions.k8s.io", "CustomResourceDefinition"),
    (Phase::Foundations, "scheduling.k8s.io", "PriorityClass"),
    (Phase::Foundations, "node.k8s.io", "RuntimeClass"),
    (Phase::Foundations, "storage.k8s.io", "StorageClass"),
    (Phase::Foundations, "storage.k8s.io", "VolumeAttributesClass"),
    (Phase::Foundations, "storage.k8s.io", "CSIDriver"),
    (Phase::Foundations, "networking.k8s.io", "IngressClass"),
    (Phase::Foundations, "gateway.networking.k8s.io", "GatewayClass"),
    (Phase::Prerequisites, "", "ResourceQuota"),
    (Phase::Prerequisites, "", "LimitRange"),
    (Phase::Prerequisites, "", "ServiceAccount"),
    (Phase::Prerequisites, "rbac.authorization.k8s.io", "ClusterRole"),
    (Phase::Prerequisites, "rbac.authorization.k8s.io", "Role"),
    (Phase::Prerequisites, "rbac.authorization.k8s.io", "ClusterRoleBinding"),
    (Phase::Prerequisites, "rbac.authorization.k8s.io", "RoleBinding"),
    (Phase::Prerequisites, "networking.k8s.io", "NetworkPolicy"),
    (Phase::Prerequisites, "policy", "PodDisruptionBudget"),
    (Phase::Prerequisites, "", "Secret"),
    (Phase::Prerequisites, "", "ConfigMap"),
    (Phase::Prerequisites, "", "PersistentVolume"),
    (Phase::Prerequisites, "", "PersistentVolumeClaim"),
    (Phase::Workloads, "", "Service"),
    (Phase::Gatekeepers, "apiregistration.k8s.io", "APIService"),
    (Phase::Gatekeepers, "admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    (Phase::Gatekeepers, "admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
    (Phase::Gatekeepers, "admissionregistration.k8s.io", "MutatingAdmissionPolicy"),
    (Phase::Gatekeepers, "admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"),
    (Phase::Gatekeepers, "admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
    (Phase::Gatekeepers, "admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
];

/// The phase in which objects of a kind are written.
pub fn phase(kind: &GroupKind) -> Phase {
    rank(kind).0
}

/// The phase, and the place in it; kinds that are not in the table come last in theirs.
fn rank(kind: &GroupKind) -> (Phase, usize) {
    TABLE
        .iter()
        .enumerate()
        .find(|(_, (_, group, name))| kind.is(group, name))
        .map_or((Phase::Workloads, usize::MAX), |(place, (phase, ..))| (*phase, place))
}

/// Puts steps in the order of execution. Stable: within a kind, the order of the files stays.
pub(super) fn sort(steps: &mut [Step]) {
    steps.sort_by_cached_key(|step| {
        let rank = rank(&step.key.kind);
        match step.action {
            Action::Prune => Section::Deletions(Reverse(rank)),
            Action::HandOver { .. } => Section::LeftToOthers,
            _ => Section::Writes(rank),
        }
    });
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Writes((Phase, usize)),
    LeftToOthers,
    Deletions(Reverse<(Phase, usize)>),
}
