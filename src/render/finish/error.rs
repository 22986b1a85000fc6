//! What keeps an object from being sent.

use crate::model::{Failure, ObjectKey, Origin, Stage};

/// An object that is refused, with the place it came from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {problem}")]
pub struct ObjectError {
    /// Where the object stands.
    pub origin: Origin,
    /// What it is, as far as that is known; the namespace is the one it says, or that of the environment.
    pub object: Option<ObjectKey>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with an object. No variant holds a value of the object other than names and keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The document is a list or a scalar.
    #[error("this document is {0}, not a Kubernetes object")]
    NotAnObject(&'static str),
    /// `apiVersion`, `kind`, `metadata` or `metadata.name` is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field has another type than every Kubernetes object has there.
    #[error("{field} is {found}, not {expected}")]
    Type {
        /// The field.
        field: String,
        /// What is there.
        found: &'static str,
        /// What should be there.
        expected: &'static str,
    },
    /// `apiVersion` is not `version` or `group/version`.
    #[error("{0:?} is not an apiVersion such as v1 or apps/v1")]
    ApiVersion(String),
    /// The name breaks the rules for its kind.
    #[error("{name:?} is not a valid {what}: {rule}")]
    Name {
        /// What is named.
        what: &'static str,
        /// The name.
        name: String,
        /// The rule.
        rule: &'static str,
    },
    /// `metadata.generateName`.
    #[error("metadata.generateName is used, which makes a new object at every sync")]
    GenerateName,
    /// A namespace that the environment may not write to.
    #[error("its namespace is {namespace:?}, and the environment may write to {own:?} only")]
    ForeignNamespace {
        /// The object's namespace.
        namespace: String,
        /// The environment's.
        own: String,
    },
    /// A cluster-scoped kind that is not allowed.
    #[error("the kind is cluster-scoped, and the environment may not write cluster-scoped objects of this kind")]
    ClusterScoped(String),
    /// A cluster-scoped object that has a namespace.
    #[error("the kind is cluster-scoped, but metadata.namespace is set")]
    NamespaceOnClusterScoped,
    /// The ApplySet label has a value of the user's.
    #[error("the label {0} is set, which plumb sets itself")]
    OwnLabel(&'static str),
    /// A field that the API server writes.
    #[error("metadata.{0} is set, which only the API server sets")]
    ServerManaged(&'static str),
    /// A null.
    #[error("{0} is null; a null would become an empty value that the environment owns")]
    Null(String),
    /// Two elements of a list have the same key.
    #[error("{list} has two elements with {key}; the API server cannot tell them apart")]
    DuplicateElement {
        /// The list.
        list: String,
        /// The key, such as `name=http`.
        key: String,
    },
    /// `data` of a Secret is no base64.
    #[error("data.{0} is not base64")]
    NotBase64(String),
    /// Larger than etcd takes.
    #[error("the object is {size} bytes as JSON, and the API server stores at most {limit}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// It cannot be written as JSON.
    #[error("the object cannot be written as JSON")]
    Json,
}

impl Problem {
    /// The field it is about, as a path in the object.
    pub fn field(&self) -> Option<String> {
        match self {
            Self::Type { field, .. } | Self::Null(field) | Self::DuplicateElement { list: field, .. } => {
                Some(field.clone())
            }
            Self::ServerManaged(field) => Some(format!("metadata.{field}")),
            Self::ForeignNamespace { .. } | Self::NamespaceOnClusterScoped => Some("metadata.namespace".to_owned()),
            Self::OwnLabel(label) => Some(format!("metadata.labels.{label}")),
            Self::GenerateName => Some("metadata.generateName".to_owned()),
            Self::NotBase64(key) => Some(format!("data.{key}")),
            _ => None,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotAnObject(_) | Self::Missing("apiVersion" | "kind") => {
                "if this file is no manifest, move it out of the environment's path"
            }
            Self::Type { expected: "text", .. } => "write the value in quotes",
            Self::GenerateName => "give the object a name",
            Self::ForeignNamespace { namespace, .. } => {
                return Some(format!(
                    "leave metadata.namespace out, or add {namespace:?} to spec.allow.namespaces of the environment"
                ));
            }
            Self::ClusterScoped(kind) => {
                return Some(format!("add {kind:?} to spec.allow.clusterScoped of the environment if that is meant"));
            }
            Self::NamespaceOnClusterScoped => "remove metadata.namespace",
            Self::OwnLabel(_) => "remove the label",
            Self::ServerManaged(_) => {
                "remove it: this looks like an object exported from a cluster, and git holds only what is wanted"
            }
            Self::Null(_) => "remove the field, or give it a value",
            Self::DuplicateElement { .. } => "remove or rename one of them",
            Self::NotBase64(_) => "encode it, or put the plain text under stringData",
            Self::TooLarge { .. } => "split it, or keep the data elsewhere",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

impl ObjectError {
    /// The error as a deployment's failure.
    pub fn failure(&self) -> Failure {
        let mut failure = Failure::new(Stage::Render, self.problem.to_string()).at(self.origin.clone());
        failure.object.clone_from(&self.object);
        failure.hint = self.problem.hint();
        failure
    }
}
