//! The Environment: the document a user writes at `environments/<name>/environment.yaml`, and the custom resource of the same form.
//!
//! The CRD in `deploy/` is generated from these types; defaults and rules stand here once. What the type system can't hold is a CEL rule,
//! so the API server refuses it too, whoever writes the object.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::field_path::FieldPath;
use super::fields::{Budget, HumanDuration};

/// The API group of plumb's custom resources, annotations and labels.
pub const GROUP: &str = "plumb.dev";

/// The annotation of the Environment that approves what one commit would delete beyond its budget; its value is the commit's 40 hex digits.
pub const CONFIRM_PRUNE: &str = "plumb.dev/confirm-prune";

/// The annotation of the Environment that names the plumb that writes: `<instance>#<run>`.
pub const INSTANCE: &str = "plumb.dev/instance";

/// The annotation of the Environment that names the plumb that wrote last and gave it up.
pub const RELEASED_BY: &str = "plumb.dev/released-by";

/// The annotation of the Environment that names the branch and the commit that its spec was read at (`main@3f2a91c…`): by it can be proved that the
/// definition left git.
pub const DEFINED_AT: &str = "plumb.dev/defined-at";

/// Annotations of the Environment that plumb alone writes.
pub const OWN_ANNOTATIONS: [&str; 3] = [INSTANCE, RELEASED_BY, DEFINED_AT];

/// Names that no environment may have: its field manager, `plumb-<name>`, would be one that plumb writes the Environment itself with.
pub const RESERVED: [&str; 4] = ["applyset", "approve", "handover", "status"];

/// What an environment is: which branch is deployed where, and what plumb may do for it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "plumb.dev",
    version = "v1alpha1",
    kind = "Environment",
    plural = "environments",
    shortname = "env",
    category = "plumb",
    status = "EnvironmentStatus",
    derive = "PartialEq",
    doc = "An environment that plumb keeps equal to the head of a git branch.",
    label("applyset.kubernetes.io/is-parent-type", "true"),
    printcolumn(name = "Branch", type_ = "string", json_path = ".spec.branch"),
    printcolumn(name = "Commit", type_ = "string", json_path = ".status.shortCommit"),
    printcolumn(
        name = "Synced",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Synced\")].status"
    ),
    printcolumn(
        name = "Healthy",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Healthy\")].status"
    ),
    printcolumn(name = "Drift", type_ = "integer", json_path = ".status.drift"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    validation = Rule::new("self.metadata.name.size() <= 63").message("an environment's name has at most 63 characters"),
    validation = Rule::new("!(self.metadata.name in ['applyset', 'approve', 'handover', 'status'])").message("this name is one of plumb's own field managers")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvironmentSpec {
    /// The branch whose head is deployed, without `refs/heads/`.
    #[schemars(length(min = 1, max = 244))]
    #[x_kube(validation = Rule::new("!self.startsWith('-') && !self.startsWith('refs/')").message("branch is a name such as dev, without refs/heads/ and not starting with a dash"))]
    pub branch: String,

    /// The namespace the environment's objects go to. Made if absent, never deleted by a prune alone.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: String,

    /// A directory of the repository: a Helm chart, a kustomization or plain YAML, told from what is in it. `.` is the root.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && self.split('/').all(part, part != '..')").message("path is relative to the repository's root and has no '..'"))]
    pub path: String,

    /// Helm values files, later ones win; read from the environment's own branch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 1024)))]
    #[x_kube(validation = Rule::new("self.all(file, !file.startsWith('/') && file.split('/').all(part, part != '..'))").message("values files are relative to the repository's root and have no '..'"))]
    pub values: Vec<String>,

    /// The service account in `namespace` that writes are made as, by impersonation. Unset: as plumb itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub service_account: Option<String>,

    /// Watch and report, change nothing.
    #[serde(default)]
    pub suspend: bool,

    /// Revert drift. Drift is always reported.
    #[serde(default = "yes")]
    pub self_heal: bool,

    /// What is done with fields that others add inside the environment's objects.
    #[serde(default)]
    pub foreign_additions: ForeignAdditions,

    /// Fields that plumb leaves to others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub ignore: Vec<IgnoreRule>,

    /// When and how objects that left git are deleted.
    #[serde(default)]
    pub prune: PrunePolicy,

    /// Whether an object whose immutable field changed in git may be deleted and made again.
    #[serde(default)]
    pub replace: ReplacePolicy,

    /// Take over objects that stand already and bear another owner's mark.
    #[serde(default)]
    pub adopt: bool,

    /// What the environment may write beyond its own namespace.
    #[serde(default)]
    pub allow: Allow,

    /// What happens to the objects when this definition leaves git.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// How long a rollout may take before the environment is called Failed.
    #[serde(default = "HumanDuration::five_minutes")]
    pub timeout: HumanDuration,

    /// An Ingress is ready only when its controller has given it an address. Not every controller does.
    #[serde(default)]
    pub wait_for_ingress: bool,

    /// How often everything is applied anew, for what the ownership record can't show.
    #[serde(default = "HumanDuration::ten_minutes")]
    pub resync: HumanDuration,
}

fn yes() -> bool {
    true
}

/// What is done with fields that others add inside the environment's objects.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub enum ForeignAdditions {
    /// Name them, leave them.
    #[default]
    Report,
    /// Take them out.
    Revert,
}

/// Fields of some objects that plumb does not own.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IgnoreRule {
    /// The kind, as in the object.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// A glob over the name.
    #[serde(default = "any_name")]
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Field paths such as `spec.replicas`.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 512)))]
    pub fields: Vec<FieldPath>,
}

impl IgnoreRule {
    /// Whether it is about this object.
    pub fn is_about(&self, key: &super::ObjectKey) -> bool {
        *self.kind == *key.kind.kind && wildmatch::WildMatch::new(&self.name).matches(&key.name)
    }
}

fn any_name() -> String {
    "*".to_owned()
}

/// When and how objects that left git are deleted.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrunePolicy {
    /// Whether they are deleted at all.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// A commit that would delete more than this, and at least 3 objects, stops and asks. A number of objects, or a percentage of
    /// those the environment has.
    #[serde(default)]
    pub budget: Budget,
    /// How dependents are deleted where something runs: workloads and custom resources. Whatever else is built in goes in the background.
    #[serde(default)]
    pub propagation: Propagation,
}

impl Default for PrunePolicy {
    fn default() -> Self {
        Self { enabled: true, budget: Budget::default(), propagation: Propagation::default() }
    }
}

/// How dependents of a deleted object are deleted (Kubernetes garbage collection).
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub enum Propagation {
    /// Dependents first: the object stays until its pods are gone.
    #[default]
    Foreground,
    /// The object first.
    Background,
}

/// Whether an object whose immutable field changed in git may be deleted and made again.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub enum ReplacePolicy {
    /// No: the commit is refused, unless the object is annotated `plumb.dev/replace: immutable`.
    #[default]
    Never,
    /// Yes, when an immutable field is the API server's only complaint.
    Immutable,
}

/// What an environment may write beyond its own namespace.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Allow {
    /// Further namespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 63)))]
    pub namespaces: Vec<String>,
    /// Cluster-scoped kinds as `group/kind`; a core kind is the kind alone: `Namespace`, `rbac.authorization.k8s.io/ClusterRole`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 316)))]
    pub cluster_scoped: Vec<String>,
    /// A render without a single object is meant.
    #[serde(default)]
    pub empty: bool,
}

/// What happens to the objects when a definition leaves git.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub enum DeletionPolicy {
    /// They stay as they are.
    #[default]
    Orphan,
    /// They are deleted, within the prune budget.
    Delete,
}

/// What plumb last did and found. Written by plumb alone, as field manager `plumb-status`.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentStatus {
    /// The commit that last passed the gates: what drift and restarts restore. 40 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The digest of the spec that `target` passed the gates under ([`EnvironmentSpec::digest`]). Under another one it is a commit like any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_definition: Option<String>,
    /// The objects that have not been written as `target` says, where not all of it could be deployed; absent where it was, or where they are too many to
    /// be named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub not_applied: Option<Vec<String>>,
    /// The first seven digits of the commit that was last deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_commit: Option<String>,
    /// The commit of the configuration branch that no longer defines this environment. 40 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<String>,
    /// The `metadata.generation` this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many objects the environment has in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<i64>,
    /// How many objects differ from git at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<i64>,
    /// The same by class: `value-changed`, `ownership-lost`, `deleted`, `foreign-addition`. An object may be of two.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub drift_by_class: BTreeMap<String, i64>,
    /// `Ready`, `Synced`, `Healthy`, `Drifted`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The last deployments, newest first, at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub history: Vec<HistoryEntry>,
}

/// A condition as in KEP-1623 (`metav1.Condition`).
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Ready`, `Synced`, `Healthy` or `Drifted`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// A CamelCase word for machines.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// When `status` last changed (RFC 3339).
    pub last_transition_time: String,
    /// The `metadata.generation` the condition was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// How one commit ended in this environment.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// 40 hex digits.
    pub commit: String,
    /// `Deployed`, `Failed`, `SupersededBy` or `Suspended`; `Unchanged` commits cost no entry of their own.
    pub outcome: String,
    /// When it ended (RFC 3339).
    pub time: String,
    /// The stage that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Why, in a sentence; or the commit that superseded this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Objects that were written, and those that were deleted.
    #[serde(default)]
    pub applied: i64,
    /// Objects that were deleted because git no longer has them.
    #[serde(default)]
    pub pruned: i64,
    /// Milliseconds by stage: `render`, `plan`, `gates`, `apply`, `prune`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub took_ms: BTreeMap<String, i64>,
}

impl EnvironmentSpec {
    /// Tells one definition from another: SHA-256 in 64 hex digits.
    pub fn digest(&self) -> String {
        // Nothing of it can't be written; if it could not, no definition would be taken for another.
        let written = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(&written).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether objects of this cluster-scoped kind are allowed.
    pub fn allows_cluster_scoped(&self, kind: &super::GroupKind) -> bool {
        self.allow.cluster_scoped.contains(&kind.slashed())
    }

    /// Whether objects in this namespace are allowed: its own, and those named under `allow`.
    pub fn allows_namespace(&self, namespace: &str) -> bool {
        self.namespace == namespace || self.allow.namespaces.iter().any(|allowed| allowed == namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> EnvironmentSpec {
        serde_json::from_value(serde_json::json!({"branch": "dev", "namespace": "todo-dev", "path": "."})).unwrap()
    }

    #[test]
    fn three_fields_make_an_environment_and_the_rest_has_defaults() {
        let spec = spec();
        assert!(spec.self_heal && spec.prune.enabled && !spec.suspend && !spec.adopt);
        assert_eq!(spec.prune.budget, Budget::Percent(50));
        assert_eq!(spec.resync.get(), std::time::Duration::from_secs(600));
        assert_eq!(spec.deletion_policy, DeletionPolicy::Orphan);
    }

    #[test]
    fn a_rule_is_about_a_kind_and_a_glob_over_names() {
        let about = |kind: &str, name: &str| {
            let rule = serde_json::json!({"kind": kind, "name": name, "fields": ["spec.replicas"]});
            let rule: IgnoreRule = serde_json::from_value(rule).unwrap();
            rule.is_about(&crate::model::ObjectKey::new("apps", "Deployment", "todo", "todo-backend"))
        };
        assert!(about("Deployment", "*") && about("Deployment", "todo-*") && about("Deployment", "todo-backen?"));
        assert!(!about("deployment", "*") && !about("Deployment", "todo") && !about("StatefulSet", "*"));
        let rule: IgnoreRule =
            serde_json::from_value(serde_json::json!({"kind": "Job", "fields": ["spec.suspend"]})).unwrap();
        assert_eq!(rule.name, "*");
    }

    #[test]
    fn kinds_are_allowed_by_group_and_kind() {
        let mut spec = spec();
        spec.allow.cluster_scoped = vec!["Namespace".to_owned(), "apps/Thing".to_owned()];
        let allowed = |group, kind| spec.allows_cluster_scoped(&crate::model::GroupKind::new(group, kind));
        assert!(allowed("", "Namespace") && allowed("apps", "Thing"));
        assert!(!allowed("", "Thing") && !allowed("other", "Namespace"));
    }
}
