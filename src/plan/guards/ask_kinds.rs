//! Kinds whose deletion takes data or other objects along: a person is always asked.

use crate::model::{GroupKind, ObjectKey};

const KINDS: &[(&str, &str)] = &[
    ("", "Namespace"),
    ("", "PersistentVolumeClaim"),
    ("", "PersistentVolume"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("apps", "StatefulSet"),
];

/// Whether deleting an object of this kind always asks.
pub(in crate::plan) fn asks(kind: &GroupKind) -> bool {
    KINDS.iter().any(|(group, name)| kind.is(group, name))
}

/// Whether deleting an object of this kind, even to make it again, takes data or other objects along. A StatefulSet's claims outlive it.
pub(in crate::plan) fn loses_with_it(kind: &GroupKind) -> bool {
    asks(kind) && !kind.is("apps", "StatefulSet")
}

/// Why a person must be asked before these are deleted.
pub(in crate::plan) fn ask<'a>(deletions: impl IntoIterator<Item = &'a ObjectKey>) -> Option<String> {
    let named: Vec<String> = deletions.into_iter().filter(|key| asks(&key.kind)).map(ToString::to_string).collect();
    (!named.is_empty())
        .then(|| format!("it would delete {}, and objects of such kinds are never deleted unasked", named.join(", ")))
}
