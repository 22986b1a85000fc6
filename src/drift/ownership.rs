//! Whose an object and its fields are: what `metadata` says, reduced, and the changes plumb makes to `managedFields` itself.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use json_patch::jsonptr::PointerBuf;
use json_patch::{Patch, PatchOperation, ReplaceOperation};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};

use super::fields::{FieldSet, FieldsError};
use super::interner::Interner;
use crate::model::applyset::{HANDOVER, PART_OF};
use crate::model::live::{ApplyEntry, Owner};
use crate::model::{FieldPath, Live};

/// The annotation by which a person keeps an object from being pruned; its value is `disabled`.
pub const PRUNE: &str = "plumb.dev/prune";
/// Where client-side `kubectl apply` keeps what it sent.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const CLIENT_SIDE_APPLY: &str = "kubectl-client-side-apply";
const APPLY: &str = "Apply";
const UPDATE: &str = "Update";
/// What these write into an object, as the name of a bound volume, is how the cluster works.
const COMPONENTS: [&str; 6] = [
    "cloud-controller-manager",
    "clusterrole-aggregation-controller",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
];

/// Reduces live metadata to what decisions need.
pub fn reduce(meta: &ObjectMeta, interner: &mut Interner) -> Live {
    let entries = meta.managed_fields.as_deref().unwrap_or_default();
    let applied = entries
        .iter()
        .filter(|entry| is_main(entry, APPLY) && entry.manager.as_ref().is_some_and(|m| m.starts_with("plumb-")))
        .map(|entry| ApplyEntry {
            manager: interner.intern(entry.manager.as_deref().unwrap_or_default()),
            fields: interner.intern(&entry.fields_v1.as_ref().map(|fields| fields.0.to_string()).unwrap_or_default()),
            time: entry.time.as_ref().map(|time| time.0.as_second()),
        })
        .collect();
    Live {
        uid: meta.uid.as_deref().unwrap_or_default().into(),
        // Not a number: 0, which no precondition ever meets.
        resource_version: meta.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default(),
        part_of: get(&meta.labels, PART_OF).map(|id| interner.intern(id)),
        applied,
        terminating: meta.deletion_timestamp.is_some(),
        prune_disabled: get(&meta.annotations, PRUNE) == Some("disabled"),
        owner: owner(meta).map(Box::new),
        client_side_applied: entries.iter().any(is_client_side),
        foreign: foreign(entries)
            .ok()
            .filter(|added| !added.is_empty())
            .map(|added| interner.intern(&added.to_value().to_string())),
        health: None,
        ownership: ownership_of(entries),
        marks: hash(&(&meta.labels, &meta.annotations, meta.generation)),
        counted: meta.generation.is_some(),
    }
}

/// A hash that is the same in every run of this build.
fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn ownership_of(entries: &[ManagedFieldsEntry]) -> u64 {
    let entry = |entry: &ManagedFieldsEntry| {
        let time = entry.time.as_ref().map(|time| time.0.as_second());
        let fields = entry.fields_v1.as_ref().map(|fields| fields.0.to_string());
        hash(&(&entry.manager, &entry.operation, &entry.subresource, &entry.api_version, time, fields))
    };
    hash(&entries.iter().map(entry).collect::<Vec<u64>>())
}

fn get<'a>(map: &'a Option<BTreeMap<String, String>>, key: &str) -> Option<&'a str> {
    map.as_ref()?.get(key).map(String::as_str)
}

/// Another tool's mark, the strongest first. A label `managed-by: Helm` alone is no mark: charts write it whoever applies them.
fn owner(meta: &ObjectMeta) -> Option<Owner> {
    let label = |key: &str| get(&meta.labels, key);
    let annotation = |key: &str| get(&meta.annotations, key);
    let in_namespace = |name: &str, namespace: Option<&str>| match namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    };
    let controller = meta.owner_references.iter().flatten().find(|reference| reference.controller == Some(true));
    if let Some(controller) = controller {
        return Some(Owner::Controller(format!("{}/{}", controller.kind, controller.name)));
    }
    if let Some(tracking) = annotation("argocd.argoproj.io/tracking-id") {
        return Some(Owner::ArgoCd(tracking.split(':').next().unwrap_or(tracking).to_owned()));
    }
    if let Some(instance) = label("argocd.argoproj.io/instance") {
        return Some(Owner::ArgoCd(instance.to_owned()));
    }
    for toolkit in ["kustomize", "helm"] {
        if let Some(name) = label(&format!("{toolkit}.toolkit.fluxcd.io/name")) {
            return Some(Owner::Flux(in_namespace(name, label(&format!("{toolkit}.toolkit.fluxcd.io/namespace")))));
        }
    }
    let release = annotation("meta.helm.sh/release-name")?;
    (label("app.kubernetes.io/managed-by") == Some("Helm"))
        .then(|| Owner::Helm(in_namespace(release, annotation("meta.helm.sh/release-namespace"))))
}

/// Whether it is an entry of this operation for the object itself, not for one of its subresources.
pub(super) fn is_main(entry: &ManagedFieldsEntry, operation: &str) -> bool {
    entry.operation.as_deref() == Some(operation) && entry.subresource.as_deref().unwrap_or_default().is_empty()
}

pub(super) fn is_apply_of(entry: &ManagedFieldsEntry, manager: &str) -> bool {
    is_main(entry, APPLY) && entry.manager.as_deref() == Some(manager)
}

/// Whether a client-side apply wrote it: by kubectl's default name, or by any name if it owns the annotation that client-side apply
/// writes, which is how kubectl tells (`migrateToSSAIfNecessary`).
fn is_client_side(entry: &ManagedFieldsEntry) -> bool {
    let annotation = || {
        let fields = entry.fields_v1.as_ref()?;
        fields.0.get("f:metadata")?.get("f:annotations")?.get(format!("f:{LAST_APPLIED}"))
    };
    is_main(entry, UPDATE) && (entry.manager.as_deref() == Some(CLIENT_SIDE_APPLY) || annotation().is_some())
}

pub(super) fn fields(entry: &ManagedFieldsEntry) -> Result<FieldSet, FieldsError> {
    entry.fields_v1.as_ref().map_or_else(|| Ok(FieldSet::default()), |fields| FieldSet::from_value(&fields.0))
}

/// The `managedFields` with what client-side apply owned moved into our Apply entry, or `None` if there is nothing to move.
///
/// As client-go's `csaupgrade.UpgradeManagedFields` has it: if we have no entry yet, the newest client-side entry becomes ours; client-side
/// entries of another apiVersion than ours can't be merged and are dropped. After it, the next apply takes out what git does not have: the
/// last-applied annotation, and every field that was left behind.
pub fn migrate_client_side_apply(
    entries: &[ManagedFieldsEntry],
    manager: &str,
) -> Result<Option<Vec<ManagedFieldsEntry>>, FieldsError> {
    // The API server sorts entries newest first.
    let Some(newest) = entries.iter().find(|entry| is_client_side(entry)) else { return Ok(None) };
    let existing = entries.iter().find(|entry| is_apply_of(entry, manager));
    let target = existing.unwrap_or(newest);
    let mut all = fields(target)?;
    for entry in entries.iter().filter(|entry| is_client_side(entry) && entry.api_version == target.api_version) {
        all = all.union(&fields(entry)?);
    }
    let merged = ManagedFieldsEntry {
        manager: Some(manager.to_owned()),
        operation: Some(APPLY.to_owned()),
        fields_v1: Some(FieldsV1(all.to_value())),
        ..target.clone()
    };
    let is_target = |entry: &ManagedFieldsEntry| std::ptr::eq(entry, target);
    let stays = |entry: &&ManagedFieldsEntry| is_target(entry) || !is_client_side(entry);
    let becomes = |entry: &ManagedFieldsEntry| if is_target(entry) { merged.clone() } else { entry.clone() };
    Ok(Some(entries.iter().filter(stays).map(becomes).collect()))
}

/// The paths we own now and would no longer own: what leaves the cluster with our next apply, unless somebody else owns it too.
pub fn would_lose(old_owned: &FieldSet, new_owned: &FieldSet) -> FieldSet {
    old_owned.difference(new_owned)
}

/// What [`release_pins`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Released {
    /// The new `managedFields`; `None` if no entry had to change.
    pub entries: Option<Vec<ManagedFieldsEntry>>,
    /// From whom fields are taken.
    pub taken: Vec<Share>,
    /// Who keeps some of the fields, so that they stay: another applier, or one that writes through a subresource or another version.
    pub kept: Vec<Share>,
}

/// Fields that leave git and that another manager owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The field manager.
    pub manager: String,
    /// What it owns of them.
    pub fields: FieldSet,
}

/// Moves `lost` from what others own by plain updates, or plumb keeps on others' behalf, to our entry, so that these fields go when we no longer apply them: an apply takes out only what
/// its manager owned, and our entry no longer has what was changed by hand and changed back.
///
/// A co-owner by update has once written the value that we wrote too (a change and its undo, `kubectl create`, a wipe of managedFields) and
/// would pin the field for ever. Another *applier* states its wish anew with each apply, and one that writes through a subresource (`scale`)
/// is a controller's: both are left and named. So are entries of another apiVersion, whose paths may mean something else. It must be
/// sent *before* the apply that drops the fields.
pub fn release_pins(entries: &[ManagedFieldsEntry], manager: &str, lost: &FieldSet) -> Result<Released, FieldsError> {
    let mut released = Released { entries: None, taken: Vec::new(), kept: Vec::new() };
    let Some(own) = entries.iter().find(|entry| is_apply_of(entry, manager)) else { return Ok(released) };
    let (mut ours, mut changed) = (fields(own)?, false);
    let mut after = Vec::with_capacity(entries.len());
    for entry in entries {
        let owned = fields(entry)?;
        let pinned = owned.intersection(lost);
        let share = |fields| Share { manager: entry.manager.clone().unwrap_or_default(), fields };
        if std::ptr::eq(entry, own) || pinned.is_empty() {
            after.push(entry.clone());
        } else if (is_main(entry, UPDATE) || is_apply_of(entry, HANDOVER)) && entry.api_version == own.api_version {
            changed = true;
            ours = ours.union(&pinned);
            let rest = owned.difference(lost);
            if !rest.is_empty() {
                after.push(ManagedFieldsEntry { fields_v1: Some(FieldsV1(rest.to_value())), ..entry.clone() });
            }
            released.taken.push(share(pinned));
        } else {
            released.kept.push(share(pinned));
            after.push(entry.clone());
        }
    }
    if let Some(own) = after.iter_mut().find(|entry| is_apply_of(entry, manager)) {
        own.fields_v1 = Some(FieldsV1(ours.to_value()));
    }
    released.entries = changed.then_some(after);
    Ok(released)
}

/// The `managedFields` with these paths in our Apply entry and in no other entry of the object itself, so that our next apply, which does not have them, takes
/// them out. `None` if there is nothing to move.
///
/// Whoever owned them, an applier too: it is for what stands in the way of git, or must not stand beside it. Entries of another apiVersion keep what they have.
pub fn claim(
    entries: &[ManagedFieldsEntry],
    manager: &str,
    api_version: &str,
    paths: &FieldSet,
) -> Result<Option<Vec<ManagedFieldsEntry>>, FieldsError> {
    let mut after = Vec::with_capacity(entries.len() + 1);
    let mut ours = None;
    for entry in entries {
        let same_version = entry.api_version.as_deref() == Some(api_version);
        let is_others = (is_main(entry, APPLY) || is_main(entry, UPDATE)) && same_version;
        if is_apply_of(entry, manager) {
            ours = Some(ManagedFieldsEntry { api_version: Some(api_version.to_owned()), ..entry.clone() });
        } else if is_others {
            let rest = fields(entry)?.difference(paths);
            if !rest.is_empty() {
                after.push(ManagedFieldsEntry { fields_v1: Some(FieldsV1(rest.to_value())), ..entry.clone() });
            }
        } else {
            after.push(entry.clone());
        }
    }
    let ours = ours.unwrap_or_else(|| ManagedFieldsEntry {
        manager: Some(manager.to_owned()),
        operation: Some(APPLY.to_owned()),
        api_version: Some(api_version.to_owned()),
        fields_type: Some("FieldsV1".to_owned()),
        ..ManagedFieldsEntry::default()
    });
    let all = fields(&ours)?.union(paths);
    after.insert(0, ManagedFieldsEntry { fields_v1: Some(FieldsV1(all.to_value())), ..ours });
    let same = |entry: &ManagedFieldsEntry| entries.contains(entry);
    Ok((after.len() != entries.len() || !after.iter().all(same)).then_some(after))
}

/// The fields that `droppers` alone own, of those left to others: what would fall back to its default as they drop it.
pub fn last_owned(
    entries: &[ManagedFieldsEntry],
    droppers: &[&str],
    left_alone: &[FieldPath],
) -> Result<FieldSet, FieldsError> {
    let (mut dropped, mut kept) = (FieldSet::default(), FieldSet::default());
    for entry in entries {
        let set = if droppers.iter().any(|manager| is_apply_of(entry, manager)) { &mut dropped } else { &mut kept };
        *set = set.union(&fields(entry)?);
    }
    Ok(dropped.inside(left_alone).difference(&kept))
}

/// What others own of the object itself by plain updates.
pub fn others(entries: &[ManagedFieldsEntry], manager: &str) -> Result<FieldSet, FieldsError> {
    let others = entries.iter().filter(|entry| !is_apply_of(entry, manager) && is_main(entry, UPDATE));
    others.map(fields).try_fold(FieldSet::default(), |all, set| Ok(all.union(&set?)))
}

/// What others added inside of our object: the fields that they own beside plumb's, and not the parts of the object that git says nothing of at all.
///
/// Not among them is what has its place in objects of others: `status` and what was written through a subresource, what Kubernetes itself writes, annotations
/// and owners, in which controllers and kubectl leave their marks, certificates of webhooks, and finalizers where git has none. Nor is it what plumb keeps on
/// others' behalf.
pub fn foreign(entries: &[ManagedFieldsEntry]) -> Result<FieldSet, FieldsError> {
    let (mut ours, mut others) = (FieldSet::default(), FieldSet::default());
    if !entries.iter().any(is_foreign) {
        return Ok(others); // So it is with nearly every object, at no cost.
    }
    for entry in entries {
        if is_plumb(entry) {
            ours = ours.union(&fields(entry)?);
        } else if is_foreign(entry) {
            others = others.union(&fields(entry)?);
        }
    }
    Ok(others.added_to(&ours))
}

/// Whether it was written by somebody who is neither plumb nor a part of Kubernetes.
fn is_foreign(entry: &ManagedFieldsEntry) -> bool {
    let component = || entry.manager.as_deref().is_some_and(|manager| COMPONENTS.contains(&manager));
    (is_main(entry, APPLY) || is_main(entry, UPDATE)) && !is_plumb(entry) && !component()
}

fn is_plumb(entry: &ManagedFieldsEntry) -> bool {
    is_main(entry, APPLY) && entry.manager.as_deref().is_some_and(|manager| manager.starts_with("plumb-"))
}

/// The `managedFields` with every entry of a version that is no longer served in this one, or `None` if there is none.
///
/// An entry that names a version its definition no longer has makes every apply of the object fail with 500, and any other write lose all ownership
/// (kubernetes/kubernetes 111937).
pub fn move_to_version(
    entries: &[ManagedFieldsEntry],
    is_served: impl Fn(&str) -> bool,
    api_version: &str,
) -> Result<Option<Vec<ManagedFieldsEntry>>, FieldsError> {
    let is_gone = |entry: &ManagedFieldsEntry| entry.api_version.as_deref().is_some_and(|version| !is_served(version));
    if !entries.iter().any(is_gone) {
        return Ok(None);
    }
    let mut after: Vec<ManagedFieldsEntry> = Vec::with_capacity(entries.len());
    for entry in entries {
        let moved = match is_gone(entry) {
            true => ManagedFieldsEntry { api_version: Some(api_version.to_owned()), ..entry.clone() },
            false => entry.clone(),
        };
        let same = |known: &&mut ManagedFieldsEntry| {
            (&known.manager, &known.operation, &known.subresource, &known.api_version)
                == (&moved.manager, &moved.operation, &moved.subresource, &moved.api_version)
        };
        match after.iter_mut().find(same) {
            Some(known) => {
                known.fields_v1 = Some(FieldsV1(fields(known)?.union(&fields(&moved)?).to_value()));
            }
            None => after.push(moved),
        }
    }
    Ok(Some(after))
}

/// The JSON patch that puts these `managedFields` in place of the ones read at this resourceVersion.
///
/// The resourceVersion is replaced, not tested: if the object moved on, the API server answers 409 Conflict, where a failed test would be
/// 422 Invalid, like a patch that is wrong (csaupgrade does the same).
pub fn managed_fields_patch(
    resource_version: &str,
    entries: &[ManagedFieldsEntry],
) -> Result<Patch, serde_json::Error> {
    let replace = |field: &str, value| {
        PatchOperation::Replace(ReplaceOperation { path: PointerBuf::from_tokens(["metadata", field]), value })
    };
    Ok(Patch(vec![
        replace("resourceVersion", resource_version.into()),
        replace("managedFields", serde_json::to_value(entries)?),
    ]))
}

#[cfg(test)]
mod tests;
