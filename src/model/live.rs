//! What the cluster says of an object, reduced to what decisions need: identity, membership, ownership.

use std::sync::Arc;

use super::Health;

/// A `metadata.resourceVersion`. Comparable within one resource type of one cluster (KEP-5504).
pub type ResourceVersion = u64;

/// One field manager's server-side-apply entry of `metadata.managedFields`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyEntry {
    /// The field manager.
    pub manager: Arc<str>,
    /// Its `fieldsV1` as compact JSON. Interned: thousands of objects share a few sets.
    pub fields: Arc<str>,
    /// Seconds since the epoch; the API server leaves it out when identical content was adopted.
    pub time: Option<i64>,
}

/// Who else says that an object is theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// A controller made it: `kind` and `name` of the controlling ownerReference.
    Controller(String),
    /// Another ApplySet: the value of its part-of label.
    ApplySet(Arc<str>),
    /// A Helm release.
    Helm(String),
    /// An Argo CD application.
    ArgoCd(String),
    /// A Flux Kustomization or HelmRelease.
    Flux(String),
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Controller(name) => write!(f, "the controller {name}"),
            Self::ApplySet(id) => write!(f, "the ApplySet {id}"),
            Self::Helm(release) => write!(f, "the Helm release {release}"),
            Self::ArgoCd(application) => write!(f, "the Argo CD application {application}"),
            Self::Flux(owner) => write!(f, "the Flux object {owner}"),
        }
    }
}

/// One object's live metadata, reduced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Live {
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`.
    pub resource_version: ResourceVersion,
    /// The value of the label `applyset.kubernetes.io/part-of`.
    pub part_of: Option<Arc<str>>,
    /// The Apply entries (subresource none) whose manager's name starts with `plumb-`.
    pub applied: Vec<ApplyEntry>,
    /// `metadata.deletionTimestamp` is set.
    pub terminating: bool,
    /// Annotated `plumb.dev/prune: disabled`.
    pub prune_disabled: bool,
    /// Another owner's mark; part-of labels are told apart by `part_of`.
    pub owner: Option<Box<Owner>>,
    /// A `kubectl apply` without `--server-side` left its entry: adopting has to migrate it.
    pub client_side_applied: bool,
    /// What others added inside of what plumb applied, as the text of a field set; `None` is nothing, as of nearly every object. Interned.
    pub foreign: Option<Arc<str>>,
    /// How it stands, if there is anything to say: most objects are current, or of a kind that has no way to say.
    pub health: Option<Box<Health>>,
    /// Tells two states of `metadata.managedFields` apart.
    pub ownership: u64,
    /// Tells two states of the labels, annotations and generation apart.
    pub marks: u64,
    /// Whether the API server counts changes of the spec in `metadata.generation`.
    pub counted: bool,
}

impl Live {
    /// Whether it was written since `before` in a way that its `managedFields` do not show, as a write by our own field manager within the second of our
    /// own. A status that was written twice in a second looks the same, but moves neither generation nor marks; a deletion that began is seen by itself.
    pub fn touched_since(&self, before: &Self) -> bool {
        let same = self.uid == before.uid && self.terminating == before.terminating;
        same && self.ownership == before.ownership && self.moved_since(before)
    }

    /// Whether more than the status may have been written since `before`.
    pub fn moved_since(&self, before: &Self) -> bool {
        self.resource_version != before.resource_version && !(self.counted && self.marks == before.marks)
    }

    /// The Apply entry of this field manager.
    pub fn entry(&self, manager: &str) -> Option<&ApplyEntry> {
        self.applied.iter().find(|entry| &*entry.manager == manager)
    }
}
