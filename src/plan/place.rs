//! Where an object may stand: whether its kind is served and its namespace is there, now or once the commit has made them.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::Deserialize;

use super::{Input, NamespaceState, Reason, Refusal};
use crate::model::kinds::Lookup;
use crate::model::{Desired, GroupKind, Manifest, ObjectKey};

/// Whether an object can be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At once.
    There,
    /// Once the commit's own writes have made it possible: these objects of it, or plumb makes the environment's own namespace.
    Made(Vec<ObjectKey>),
    /// Not yet.
    Hold(Reason, Option<String>),
    /// Never.
    Refused(Refusal),
}

/// What a commit itself brings that others of its objects need.
#[derive(Debug, Default)]
pub(super) struct Brought {
    namespaces: HashSet<std::sync::Arc<str>>,
    kinds: HashMap<GroupKind, (ObjectKey, Vec<String>)>,
}

impl Brought {
    /// Reads the namespaces and CRDs of a render. A CRD that can't be read brings nothing: the API server will say why.
    pub(super) fn by(desired: &Desired) -> Self {
        let mut brought = Self::default();
        for object in &desired.objects {
            if object.key.kind.is("", "Namespace") {
                brought.namespaces.insert(object.key.name.clone());
            } else if is_crd(&object.key.kind)
                && let Ok(crd) = serde_json::from_str::<Crd>(object.json.get())
            {
                let kind = GroupKind::new(&crd.spec.group, &crd.spec.names.kind);
                let versions = crd.spec.versions.into_iter().filter(|v| v.served).map(|v| v.name).collect();
                brought.kinds.insert(kind, (object.key.clone(), versions));
            }
        }
        brought
    }

    /// The CRD in this render that defines the kind.
    pub(super) fn crd_of(&self, kind: &GroupKind) -> Option<&ObjectKey> {
        self.kinds.get(kind).map(|(crd, _)| crd)
    }
}

/// Whether this is the kind of custom resource definitions.
pub(super) fn is_crd(kind: &GroupKind) -> bool {
    kind.is("apiextensions.k8s.io", "CustomResourceDefinition")
}

#[derive(Deserialize)]
struct Crd {
    spec: CrdSpec,
}

#[derive(Deserialize)]
struct CrdSpec {
    group: String,
    names: CrdNames,
    versions: Vec<CrdVersion>,
}

#[derive(Deserialize)]
struct CrdNames {
    kind: String,
}

#[derive(Deserialize)]
struct CrdVersion {
    name: String,
    #[serde(default)]
    served: bool,
}

/// Where this object may stand.
pub(super) fn of(manifest: &Manifest, brought: &Brought, input: &Input<'_>) -> Place {
    match (kind(manifest, brought, input), namespace(manifest, brought, input)) {
        (refused @ Place::Refused(_), _) | (_, refused @ Place::Refused(_)) => refused,
        (hold @ Place::Hold(..), _) | (_, hold @ Place::Hold(..)) => hold,
        (Place::Made(mut kind), Place::Made(namespace)) => {
            kind.extend(namespace);
            Place::Made(kind)
        }
        (Place::There, place) | (place, Place::There) => place,
    }
}

fn kind(manifest: &Manifest, brought: &Brought, input: &Input<'_>) -> Place {
    let kind = &manifest.key.kind;
    let found = input.kinds.lookup(kind, &manifest.version);
    if matches!(found, Lookup::Served(_)) {
        return Place::There;
    }
    match brought.kinds.get(kind) {
        Some((crd, versions)) if versions.iter().any(|v| **v == *manifest.version) => {
            return Place::Made(vec![crd.clone()]);
        }
        Some((crd, versions)) => {
            let reason = format!("{} serves the versions {} of it, not {}", crd, versions.join(", "), manifest.version);
            return refuse(manifest, reason, "write the object in a version that its definition serves");
        }
        None => {}
    }
    match found {
        Lookup::Served(_) => Place::There,
        Lookup::OtherVersions(versions) => {
            let reason =
                format!("the API server serves {kind} in {}, not in {}", versions.join(", "), manifest.version);
            let preferred = versions.first().copied().unwrap_or_default();
            refuse(manifest, reason, format!("set apiVersion to {}", api_version(&kind.group, preferred)))
        }
        Lookup::NoSuchKind => {
            let reason = format!("the API server serves {} without a kind {}", group_word(kind), kind.kind);
            let hint = nearest(kind, input).unwrap_or_else(|| "check the kind and the apiVersion".to_owned());
            refuse(manifest, reason, hint)
        }
        Lookup::NoSuchGroup => {
            let why = format!(
                "the API server does not serve the group {} and no CustomResourceDefinition of this commit defines {}: held back until \
                 it does, and then applied by itself",
                kind.group, kind.kind
            );
            let hint = nearest(kind, input).map(|hint| format!("; {hint}")).unwrap_or_default();
            Place::Hold(Reason::KindNotServed, Some(format!("{why}{hint}")))
        }
    }
}

fn namespace(manifest: &Manifest, brought: &Brought, input: &Input<'_>) -> Place {
    let Some(namespace) = &manifest.key.namespace else { return Place::There };
    match input.namespaces.get(namespace) {
        Some(NamespaceState::Active) => Place::There,
        Some(NamespaceState::Terminating) => Place::Hold(Reason::NamespaceTerminating, None),
        None if brought.namespaces.contains(namespace) => {
            Place::Made(vec![ObjectKey::new("", "Namespace", "", namespace)])
        }
        None if **namespace == *input.spec.namespace => Place::Made(Vec::new()),
        None => refuse(
            manifest,
            format!("its namespace {namespace} does not exist"),
            format!(
                "add the Namespace {namespace} to this commit, make it, or put the object in {}",
                input.spec.namespace
            ),
        ),
    }
}

fn refuse(manifest: &Manifest, reason: impl Into<String>, hint: impl Into<String>) -> Place {
    Place::Refused(Refusal {
        key: manifest.key.clone(),
        origin: Some(manifest.origin.clone()),
        reason: reason.into(),
        hint: hint.into(),
    })
}

fn group_word(kind: &GroupKind) -> String {
    if kind.group.is_empty() { "the core group".to_owned() } else { format!("the group {}", kind.group) }
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// What was most likely meant: the same kind in another group, else the kind of this group with the nearest name.
fn nearest(kind: &GroupKind, input: &Input<'_>) -> Option<String> {
    let elsewhere: BTreeSet<String> = input
        .kinds
        .iter()
        .filter(|(known, _)| known.kind == kind.kind)
        .filter_map(|(known, versions)| Some(api_version(&known.group, &versions.first()?.version)))
        .collect();
    if !elsewhere.is_empty() {
        let all: Vec<String> = elsewhere.into_iter().collect();
        return Some(format!("{} is served as {}", kind.kind, all.join(", ")));
    }
    let here = input.kinds.iter().filter(|(known, _)| known.group == kind.group).map(|(known, _)| &*known.kind);
    let (distance, name) = here.map(|name| (strsim::damerau_levenshtein(name, &kind.kind), name)).min()?;
    (distance <= 3 && distance < kind.kind.chars().count()).then(|| format!("did you mean {name}?"))
}
