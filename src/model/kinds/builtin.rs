//! The kinds of a current Kubernetes, for rendering without a cluster.

use super::{KindInfo, Kinds};
use crate::model::GroupKind;

/// The version that charts are told when no cluster is asked.
const SERVER: &str = "v1.36.0";

/// Group, version, and the kinds as `Kind/plural`; those of the second list are cluster-scoped.
type Row = (&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

/// The stable API of Kubernetes 1.36, as far as it can be applied.
const TABLE: &[Row] = &[
    (
        "",
        "v1",
        &[
            "ConfigMap/configmaps",
            "Endpoints/endpoints",
            "Event/events",
            "LimitRange/limitranges",
            "PersistentVolumeClaim/persistentvolumeclaims",
            "Pod/pods",
            "PodTemplate/podtemplates",
            "ReplicationController/replicationcontrollers",
            "ResourceQuota/resourcequotas",
            "Secret/secrets",
            "Service/services",
            "ServiceAccount/serviceaccounts",
        ],
        &["Namespace/namespaces", "Node/nodes", "PersistentVolume/persistentvolumes"],
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        &[],
        &[
            "MutatingWebhookConfiguration/mutatingwebhookconfigurations",
            "ValidatingAdmissionPolicy/validatingadmissionpolicies",
            "ValidatingAdmissionPolicyBinding/validatingadmissionpolicybindings",
            "ValidatingWebhookConfiguration/validatingwebhookconfigurations",
        ],
    ),
    ("apiextensions.k8s.io", "v1", &[], &["CustomResourceDefinition/customresourcedefinitions"]),
    ("apiregistration.k8s.io", "v1", &[], &["APIService/apiservices"]),
    (
        "apps",
        "v1",
        &[
            "ControllerRevision/controllerrevisions",
            "DaemonSet/daemonsets",
            "Deployment/deployments",
            "ReplicaSet/replicasets",
            "StatefulSet/statefulsets",
        ],
        &[],
    ),
    ("autoscaling", "v2", &["HorizontalPodAutoscaler/horizontalpodautoscalers"], &[]),
    ("autoscaling", "v1", &["HorizontalPodAutoscaler/horizontalpodautoscalers"], &[]),
    ("batch", "v1", &["CronJob/cronjobs", "Job/jobs"], &[]),
    ("certificates.k8s.io", "v1", &[], &["CertificateSigningRequest/certificatesigningrequests"]),
    ("coordination.k8s.io", "v1", &["Lease/leases"], &[]),
    ("discovery.k8s.io", "v1", &["EndpointSlice/endpointslices"], &[]),
    ("events.k8s.io", "v1", &["Event/events"], &[]),
    (
        "flowcontrol.apiserver.k8s.io",
        "v1",
        &[],
        &["FlowSchema/flowschemas", "PriorityLevelConfiguration/prioritylevelconfigurations"],
    ),
    (
        "networking.k8s.io",
        "v1",
        &["Ingress/ingresses", "NetworkPolicy/networkpolicies"],
        &["IPAddress/ipaddresses", "IngressClass/ingressclasses", "ServiceCIDR/servicecidrs"],
    ),
    ("node.k8s.io", "v1", &[], &["RuntimeClass/runtimeclasses"]),
    ("policy", "v1", &["PodDisruptionBudget/poddisruptionbudgets"], &[]),
    (
        "rbac.authorization.k8s.io",
        "v1",
        &["Role/roles", "RoleBinding/rolebindings"],
        &["ClusterRole/clusterroles", "ClusterRoleBinding/clusterrolebindings"],
    ),
    (
        "resource.k8s.io",
        "v1",
        &["ResourceClaim/resourceclaims", "ResourceClaimTemplate/resourceclaimtemplates"],
        &["DeviceClass/deviceclasses", "ResourceSlice/resourceslices"],
    ),
    ("scheduling.k8s.io", "v1", &[], &["PriorityClass/priorityclasses"]),
    (
        "storage.k8s.io",
        "v1",
        &["CSIStorageCapacity/csistoragecapacities"],
        &[
            "CSIDriver/csidrivers",
            "CSINode/csinodes",
            "StorageClass/storageclasses",
            "VolumeAttachment/volumeattachments",
            "VolumeAttributesClass/volumeattributesclasses",
        ],
    ),
];

/// Whether this is one of the stable kinds of a current Kubernetes, in whatever version.
pub fn is_builtin(kind: &GroupKind) -> bool {
    let is_its = |name: &&str| name.split_once('/').is_some_and(|(name, _)| *name == *kind.kind);
    let rows = TABLE.iter().filter(|(group, ..)| *group == &*kind.group);
    rows.flat_map(|(_, _, namespaced, cluster)| namespaced.iter().chain(*cluster)).any(is_its)
}

impl Kinds {
    /// The stable kinds of a current Kubernetes.
    pub fn builtin() -> Self {
        let mut kinds = Self::new(SERVER);
        for (group, version, namespaced, cluster) in TABLE {
            let both = namespaced.iter().map(|name| (name, true)).chain(cluster.iter().map(|name| (name, false)));
            for (name, namespaced) in both {
                let (kind, plural) = name.split_once('/').unwrap_or((name, name));
                let info = KindInfo { version: (*version).into(), plural: plural.into(), namespaced };
                kinds.add(GroupKind::new(group, kind), info);
            }
        }
        kinds
    }
}
