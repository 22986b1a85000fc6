//! What an object is called: its group, kind, namespace and name. The version is not part of an object's identity.

use std::fmt;
use std::sync::Arc;

/// A group and kind, without version: `Deployment.apps`; a core kind has an empty group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKind {
    /// The API group; empty for core.
    pub group: Arc<str>,
    /// The kind, as in the object.
    pub kind: Arc<str>,
}

impl GroupKind {
    /// The kind of this group and name.
    pub fn new(group: &str, kind: &str) -> Self {
        Self { group: group.into(), kind: kind.into() }
    }

    /// `group/Kind`, or `Kind` for core: the form of `spec.allow.clusterScoped`.
    pub fn slashed(&self) -> String {
        if self.group.is_empty() { self.kind.to_string() } else { format!("{}/{}", self.group, self.kind) }
    }

    /// Whether this is the kind with that group and name.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        &*self.group == group && &*self.kind == kind
    }
}

impl fmt::Display for GroupKind {
    /// `Kind.group`, or `Kind` for core: the form of the ApplySet annotation `contains-group-kinds` (KEP-3659).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

/// The identity of an object in one cluster. Cluster-scoped objects have no namespace.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Group and kind.
    pub kind: GroupKind,
    /// The namespace; `None` for a cluster-scoped object.
    pub namespace: Option<Arc<str>>,
    /// The name.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// A key from its parts; an empty namespace means cluster-scoped.
    pub fn new(group: &str, kind: &str, namespace: &str, name: &str) -> Self {
        Self {
            kind: GroupKind::new(group, kind),
            namespace: (!namespace.is_empty()).then(|| namespace.into()),
            name: name.into(),
        }
    }

    /// `Kind.group/namespace/name`: no two objects have the same.
    pub fn qualified(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{}/{namespace}/{}", self.kind, self.name),
            None => format!("{}/{}", self.kind, self.name),
        }
    }

    /// The namespace, or the empty string for a cluster-scoped object.
    pub fn namespace_or_empty(&self) -> &str {
        self.namespace.as_deref().unwrap_or("")
    }
}

impl fmt::Display for ObjectKey {
    /// `Kind/namespace/name`, or `Kind/name` when cluster-scoped: the form of plumb's log lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}/{}", self.kind.kind, self.name),
            None => write!(f, "{}/{}", self.kind.kind, self.name),
        }
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
