//! What stands in the cluster and bears an environment's label: kept up to date by one metadata-only watch a kind, for all environments together.
//!
//! Memory is the point: an object is reduced to a [`Live`] as it arrives, and the field sets that thousands of objects share are kept once.
//! The plan borrows an environment's members in place; nothing is copied.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Resource;
use kube::core::{DynamicObject, GroupVersionKind, PartialObjectMeta};
use kube::discovery::ApiResource;
use tokio::sync::watch as channel;
use tokio::task::AbortHandle;

use super::api::Caller;
use super::error::ClusterError;
use super::watch::Sink;
use crate::drift::ownership::{Interner, reduce};
use crate::model::applyset::PART_OF;
use crate::model::kinds::KindInfo;
use crate::model::live::ResourceVersion;
use crate::model::{GroupKind, Live, ObjectKey};

/// The members of one environment, by key.
pub type Members = HashMap<ObjectKey, Live>;

/// The shared inventory. Clones share it.
#[derive(Clone)]
pub struct Inventory {
    caller: Caller,
    state: Arc<Mutex<State>>,
    /// Counts changes of any kind's progress; woken are those that wait for completeness.
    progress: Arc<channel::Sender<u64>>,
}

#[derive(Default)]
struct State {
    kinds: BTreeMap<GroupKind, Watched>,
    /// By the value of the part-of label.
    members: HashMap<Arc<str>, Members>,
    interner: Interner,
}

struct Watched {
    /// The first list is done, and no relist is under way.
    listed: bool,
    /// The newest resourceVersion that a list, an event or a bookmark delivered.
    seen: ResourceVersion,
    /// Why the watch can't go on at the moment.
    trouble: Option<String>,
    /// Because the right is missing: no use in waiting.
    forbidden: bool,
    task: AbortHandle,
}

impl Inventory {
    pub(super) fn new(caller: Caller) -> Self {
        Self { caller, state: Arc::default(), progress: Arc::new(channel::Sender::new(0)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts watching these kinds, as far as they aren't watched yet. Must be called within a tokio runtime.
    pub fn ensure<'a>(&self, kinds: impl IntoIterator<Item = (&'a GroupKind, &'a KindInfo)>) {
        let mut state = self.state();
        for (kind, info) in kinds {
            if state.kinds.contains_key(kind) {
                continue;
            }
            let path = DynamicObject::url_path(&resource(kind, info), None);
            let sink = KindSink { inventory: self.clone(), kind: kind.clone(), path, named: HashSet::new() };
            let task = tokio::spawn(super::watch::run(self.caller.clone(), sink));
            let watched =
                Watched { listed: false, seen: 0, trouble: None, forbidden: false, task: task.abort_handle() };
            state.kinds.insert(kind.clone(), watched);
        }
    }

    /// Waits until each kind's first list is done and it has delivered at least the given resourceVersion.
    pub async fn complete(&self, kinds: &[(GroupKind, ResourceVersion)], limit: Duration) -> Result<(), ClusterError> {
        let mut progress = self.progress.subscribe();
        let missing = || -> Vec<String> {
            let state = self.state();
            let behind = kinds.iter().filter(|(kind, version)| {
                state.kinds.get(kind).is_none_or(|watched| !watched.listed || watched.seen < *version)
            });
            let named =
                behind.map(|(kind, _)| match state.kinds.get(kind).and_then(|watched| watched.trouble.as_ref()) {
                    Some(trouble) => format!("{kind} ({trouble})"),
                    None => kind.to_string(),
                });
            named.collect()
        };
        let forbidden = || {
            let state = self.state();
            kinds
                .iter()
                .any(|(kind, _)| state.kinds.get(kind).is_some_and(|watched| watched.forbidden && !watched.listed))
        };
        let wait = async {
            while !missing().is_empty() {
                if forbidden() {
                    return false;
                }
                if progress.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        match tokio::time::timeout(limit, wait).await {
            Ok(true) => Ok(()),
            _ => Err(ClusterError::Incomplete { what: missing().join(", "), after: limit }),
        }
    }

    /// Calls `read` with the members of the environment with this part-of label. The inventory stands still meanwhile: decide, don't wait.
    pub fn with_members<R>(&self, part_of: &str, read: impl FnOnce(&Members) -> R) -> R {
        let state = self.state();
        match state.members.get(part_of) {
            Some(members) => read(members),
            None => read(&Members::new()),
        }
    }

    /// Reduces metadata that was read outside a watch, with the same interning.
    pub fn reduce(&self, object: &PartialObjectMeta<DynamicObject>) -> Live {
        reduce(&object.metadata, &mut self.state().interner)
    }

    /// Takes in the answer to our own write, so that the next plan need not wait for the watch to bring it. What the watch has delivered already
    /// is left to it: the object may be gone again since. Returns the reduced object.
    pub fn wrote(&self, kind: &GroupKind, object: &PartialObjectMeta<DynamicObject>) -> Live {
        let mut state = self.state();
        let live = reduce(&object.metadata, &mut state.interner);
        let delivered = |watched: &Watched| watched.listed && watched.seen >= live.resource_version;
        if !state.kinds.get(kind).is_some_and(delivered) {
            state.put(key_of(kind, object), live.clone());
        }
        live
    }

    /// Ends all watches.
    pub fn stop(&self) {
        self.state().kinds.values().for_each(|watched| watched.task.abort());
    }
}

impl State {
    fn put(&mut self, key: ObjectKey, live: Live) {
        let newer = |known: &Live| known.resource_version > live.resource_version;
        let at_home =
            live.part_of.as_ref().and_then(|part_of| self.members.get(part_of)).and_then(|members| members.get(&key));
        if at_home.is_some_and(newer) {
            return;
        }
        if at_home.is_none() {
            // New here, or its label changed: it leaves the environment that had it.
            if self.members.values().any(|members| members.get(&key).is_some_and(newer)) {
                return;
            }
            self.members.values_mut().for_each(|members| _ = members.remove(&key));
        }
        if let Some(part_of) = live.part_of.clone() {
            self.members.entry(part_of).or_default().insert(key, live);
        }
    }

    fn remove(&mut self, key: &ObjectKey, at: ResourceVersion) {
        for members in self.members.values_mut() {
            if members.get(key).is_some_and(|known| known.resource_version <= at) {
                members.remove(key);
            }
        }
    }
}

/// Feeds one kind's watch into the inventory.
struct KindSink {
    inventory: Inventory,
    kind: GroupKind,
    path: String,
    /// What the list that is under way has named so far.
    named: HashSet<ObjectKey>,
}

impl KindSink {
    fn with_kind(&self, change: impl FnOnce(&mut Watched)) {
        if let Some(watched) = self.inventory.state().kinds.get_mut(&self.kind) {
            change(watched);
        }
    }
}

impl Sink for KindSink {
    type Object = PartialObjectMeta<DynamicObject>;

    fn kind(&self) -> String {
        self.kind.to_string()
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn selector(&self) -> Option<&str> {
        Some(PART_OF)
    }

    fn metadata_only(&self) -> bool {
        true
    }

    fn relisting(&mut self) {
        self.named.clear();
        self.with_kind(|watched| watched.listed = false);
    }

    fn observe(&mut self, object: Self::Object) {
        let key = key_of(&self.kind, &object);
        let mut state = self.inventory.state();
        let live = reduce(&object.metadata, &mut state.interner);
        if !state.kinds.get(&self.kind).is_some_and(|watched| watched.listed) {
            self.named.insert(key.clone());
        }
        state.put(key, live);
    }

    fn gone(&mut self, object: Self::Object) {
        let mut state = self.inventory.state();
        let version = reduce(&object.metadata, &mut state.interner).resource_version;
        state.remove(&key_of(&self.kind, &object), version);
    }

    /// What the list did not name and is not newer is gone.
    fn listed(&mut self, at: ResourceVersion) {
        let named = std::mem::take(&mut self.named);
        let mut state = self.inventory.state();
        for members in state.members.values_mut() {
            members.retain(|key, live| key.kind != self.kind || named.contains(key) || live.resource_version > at);
        }
        state.interner.sweep();
        drop(state);
        self.with_kind(|watched| {
            watched.listed = true;
            (watched.trouble, watched.forbidden) = (None, false);
            watched.seen = watched.seen.max(at);
        });
        self.inventory.progress.send_modify(|count| *count += 1);
    }

    fn delivered(&mut self, version: ResourceVersion) {
        self.with_kind(|watched| {
            watched.seen = watched.seen.max(version);
            (watched.trouble, watched.forbidden) = (None, false);
        });
        self.inventory.progress.send_modify(|count| *count += 1);
    }

    /// A definition that was deleted took its objects with it. Served again, the kind is watched anew.
    fn unserved(&mut self) -> bool {
        let mut state = self.inventory.state();
        if state.kinds.get(&self.kind).is_none_or(|watched| watched.seen == 0) {
            return false; // Defined a moment ago.
        }
        state.members.values_mut().for_each(|members| members.retain(|key, _| key.kind != self.kind));
        state.kinds.remove(&self.kind);
        drop(state);
        self.inventory.progress.send_modify(|count| *count += 1);
        true
    }

    fn stuck(&mut self, trouble: &ClusterError) {
        self.with_kind(|watched| {
            watched.forbidden = trouble.code() == 403;
            watched.trouble = Some(trouble.to_string());
        });
        self.inventory.progress.send_modify(|count| *count += 1);
    }

    fn version_of(object: &Self::Object) -> Option<&str> {
        object.metadata.resource_version.as_deref()
    }
}

/// kube's description of a kind, from ours.
pub(super) fn resource(kind: &GroupKind, info: &KindInfo) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(&kind.group, &info.version, &kind.kind), &info.plural)
}

pub(super) fn key_of(kind: &GroupKind, object: &PartialObjectMeta<DynamicObject>) -> ObjectKey {
    let metadata = &object.metadata;
    ObjectKey {
        kind: kind.clone(),
        namespace: metadata.namespace.as_deref().map(Into::into),
        name: metadata.name.as_deref().unwrap_or_default().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(part_of: Option<&str>, resource_version: ResourceVersion) -> Live {
        Live {
            uid: "u".into(),
            resource_version,
            part_of: part_of.map(Into::into),
            applied: Vec::new(),
            terminating: false,
            prune_disabled: false,
            owner: None,
            client_side_applied: false,
            health: None,
        }
    }

    fn where_is(state: &State, key: &ObjectKey) -> Vec<(String, ResourceVersion)> {
        let found = state
            .members
            .iter()
            .filter_map(|(part_of, members)| Some((part_of.to_string(), members.get(key)?.resource_version)));
        found.collect()
    }

    #[test]
    fn an_older_state_changes_nothing_and_a_label_moves_the_object() {
        let (mut state, key) = (State::default(), ObjectKey::new("", "ConfigMap", "n", "a"));
        state.put(key.clone(), live(Some("dev"), 5));
        state.put(key.clone(), live(Some("dev"), 4));
        assert_eq!(where_is(&state, &key), [("dev".to_owned(), 5)]);
        state.put(key.clone(), live(Some("prod"), 4));
        assert_eq!(where_is(&state, &key), [("dev".to_owned(), 5)], "an old event of a former owner");
        state.put(key.clone(), live(Some("prod"), 6));
        assert_eq!(where_is(&state, &key), [("prod".to_owned(), 6)]);
        state.put(key.clone(), live(None, 7));
        assert!(where_is(&state, &key).is_empty(), "without the label it is nobody's");
    }

    #[test]
    fn a_deletion_older_than_the_object_that_took_its_name_is_passed_over() {
        let (mut state, key) = (State::default(), ObjectKey::new("", "ConfigMap", "n", "a"));
        state.put(key.clone(), live(Some("dev"), 9));
        state.remove(&key, 8);
        assert_eq!(where_is(&state, &key).len(), 1);
        state.remove(&key, 10);
        assert!(where_is(&state, &key).is_empty());
    }
}
