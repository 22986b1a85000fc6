//! What stands in the cluster and bears an environment's label: kept up to date by one watch a kind, for all environments together. It is metadata-only, but for
//! kinds whose status says how they are.
//!
//! Memory is the point: an object is reduced to a [`Live`] as it arrives, of its status only what is not well stays, and the field sets that thousands of
//! objects share are kept once.
//! The plan borrows an environment's members in place; nothing is copied.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{DynamicObject, GroupVersionKind, PartialObjectMeta};
use kube::discovery::ApiResource;
use tokio::sync::watch as channel;
use tokio::task::AbortHandle;
use tracing::debug;

use super::api::Caller;
use super::error::ClusterError;
use crate::drift::interner::Interner;
use crate::drift::ownership::reduce;
use crate::health;
use crate::model::kinds::KindInfo;
use crate::model::live::ResourceVersion;
use crate::model::{GroupKind, Live, ObjectKey};
use sink::KindSink;

mod sink;

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

/// Objects that changed since they were last looked at, with the newest resourceVersion of theirs that was written in a way that their `managedFields` do not
/// show.
pub type Changed = HashMap<ObjectKey, Option<ResourceVersion>>;

/// The changes of one environment's members that nobody has looked at yet.
#[derive(Default)]
struct Follower {
    changed: Changed,
    /// Objects of which any change is told.
    closely: HashSet<ObjectKey>,
    /// Whether the health of any of them changed.
    health: bool,
    wake: channel::Sender<()>,
}

#[derive(Default)]
struct State {
    kinds: BTreeMap<GroupKind, Watched>,
    /// By the value of the part-of label.
    members: HashMap<Arc<str>, Members>,
    /// By the value of the part-of label: those that want to know of changes.
    followers: HashMap<Arc<str>, Follower>,
    interner: Interner,
}

struct Watched {
    /// Where: one version's collection.
    path: String,
    /// The first list is done, and no relist is under way.
    listed: bool,
    /// It was listed once.
    stood: bool,
    /// The newest resourceVersion that a list, an event or a bookmark delivered.
    seen: ResourceVersion,
    /// The newest resourceVersion that we wrote.
    written: ResourceVersion,
    /// Why the watch can't go on at the moment.
    trouble: Option<String>,
    /// Because the right is missing: no use in waiting.
    forbidden: bool,
    task: AbortHandle,
}

impl Watched {
    fn begun(path: String, task: AbortHandle) -> Self {
        Self { path, listed: false, stood: false, seen: 0, written: 0, trouble: None, forbidden: false, task }
    }
}

impl Inventory {
    pub(super) fn new(caller: Caller) -> Self {
        Self { caller, state: Arc::default(), progress: Arc::new(channel::Sender::new(0)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts watching these kinds, as far as they aren't watched yet, or only in vain in another version. Must be called within a tokio runtime.
    pub fn ensure<'a>(&self, kinds: impl IntoIterator<Item = (&'a GroupKind, &'a KindInfo)>) {
        let mut state = self.state();
        for (kind, info) in kinds {
            let path = collection(kind, info);
            match state.kinds.get(kind) {
                Some(watched) if watched.path == path || watched.listed || watched.trouble.is_none() => continue,
                Some(watched) => watched.task.abort(),
                None => {}
            }
            let sink = KindSink::new(self, kind, path.clone());
            let task = tokio::spawn(super::watch::run(self.caller.clone(), sink));
            state.kinds.insert(kind.clone(), Watched::begun(path, task.abort_handle()));
        }
    }

    /// Waits until each kind's first list is done.
    pub async fn listed(&self, kinds: &BTreeSet<GroupKind>, limit: Duration) -> Result<(), ClusterError> {
        let kinds: Vec<_> = kinds.iter().map(|kind| (kind, 0)).collect();
        self.complete(&kinds, limit).await
    }

    /// The same, and each has delivered what was written by now.
    pub async fn caught_up(&self, kinds: &BTreeSet<GroupKind>, limit: Duration) -> Result<(), ClusterError> {
        let written = |kind| self.state().kinds.get(kind).map_or(0, |watched| watched.written);
        let kinds: Vec<_> = kinds.iter().map(|kind| (kind, written(kind))).collect();
        self.complete(&kinds, limit).await
    }

    /// Waits until the watches have delivered these versions; not longer than the limit.
    pub async fn delivered(&self, versions: &BTreeMap<GroupKind, ResourceVersion>, limit: Duration) {
        let mut progress = self.progress.subscribe();
        let lacks = || {
            let state = self.state();
            let behind = |kind, version| state.kinds.get(kind).is_some_and(|watched: &Watched| watched.seen < version);
            versions.iter().any(|(kind, version)| behind(kind, *version))
        };
        let wait = async { while lacks() && progress.changed().await.is_ok() {} };
        if tokio::time::timeout(limit, wait).await.is_err() {
            debug!(?versions, "the watches have not delivered what a dry-run met");
        }
    }

    async fn complete(&self, kinds: &[(&GroupKind, ResourceVersion)], limit: Duration) -> Result<(), ClusterError> {
        let mut progress = self.progress.subscribe();
        let missing = || -> Vec<String> {
            let state = self.state();
            let behind = kinds.iter().filter(|(kind, version)| {
                // What was written before the API server was set back, it has never delivered.
                let lacks = |watched: &Watched| watched.seen < watched.written.min(*version);
                state.kinds.get(kind).is_none_or(|watched| !watched.listed || lacks(watched))
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

    /// Wakes when a member with this part-of label changed, came or went by somebody's write; see [`Self::take_changed`].
    pub fn follow(&self, part_of: &Arc<str>) -> channel::Receiver<()> {
        self.state().followers.entry(Arc::clone(part_of)).or_default().wake.subscribe()
    }

    /// Tells of any change of these objects, whether or not it touches what was applied; of a status alone only where nothing else tells it apart.
    pub fn follow_closely(&self, part_of: &str, keys: HashSet<ObjectKey>) {
        if let Some(follower) = self.state().followers.get_mut(part_of) {
            follower.closely = keys;
        }
    }

    /// The changes that nobody has looked at yet; they count as looked at from now on.
    pub fn take_changed(&self, part_of: &str) -> Changed {
        self.state()
            .followers
            .get_mut(part_of)
            .map(|follower| std::mem::take(&mut follower.changed))
            .unwrap_or_default()
    }

    /// Whether there is a change to look at.
    pub fn has_changed(&self, part_of: &str) -> bool {
        self.state().followers.get(part_of).is_some_and(|follower| !follower.changed.is_empty())
    }

    /// Has these looked at again.
    pub fn change_again(&self, part_of: &str, keys: impl IntoIterator<Item = (ObjectKey, Option<ResourceVersion>)>) {
        let mut state = self.state();
        keys.into_iter().for_each(|(key, touched)| state.tell(part_of, key, touched));
    }

    /// Whether the health of any member changed since this was asked last.
    pub fn take_health_changed(&self, part_of: &str) -> bool {
        self.state().followers.get_mut(part_of).is_some_and(|follower| std::mem::take(&mut follower.health))
    }

    /// Changes of this environment are of interest no more.
    pub fn unfollow(&self, part_of: &str) {
        self.state().followers.remove(part_of);
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
        if let Some(watched) = state.kinds.get_mut(kind) {
            watched.written = watched.written.max(live.resource_version);
        }
        let delivered = |watched: &Watched| watched.listed && watched.seen >= live.resource_version;
        if !state.kinds.get(kind).is_some_and(delivered) {
            // The answer has no status: what the write makes of the object, the watch will show.
            let health = health::reads_status(kind).then(|| Box::new(health::unseen()));
            state.put(key_of(kind, &object.metadata), Live { health, ..live.clone() }, false);
        }
        live
    }

    /// Ends all watches.
    pub fn stop(&self) {
        self.state().kinds.values().for_each(|watched| watched.task.abort());
    }
}

impl State {
    /// Notes a change for whoever follows the environment, and wakes it.
    fn tell(&mut self, part_of: &str, key: ObjectKey, touched: Option<ResourceVersion>) {
        if let Some(follower) = self.followers.get_mut(part_of) {
            let known = follower.changed.entry(key).or_default();
            *known = touched.max(*known);
            follower.wake.send_replace(());
        }
    }

    fn is_followed_closely(&self, part_of: &str, key: &ObjectKey) -> bool {
        self.followers.get(part_of).is_some_and(|follower| follower.closely.contains(key))
    }

    /// Notes that the health of a member changed, and wakes whoever follows the environment.
    fn tell_health(&mut self, part_of: &str) {
        if let Some(follower) = self.followers.get_mut(part_of).filter(|follower| !follower.health) {
            follower.health = true;
            follower.wake.send_replace(());
        }
    }

    /// Takes an object in as it is now. What we have written ourselves is no change to `tell`, and nothing new once the watch has shown it: the answer to a
    /// write knows no status.
    fn put(&mut self, key: ObjectKey, live: Live, tell: bool) {
        let newer = |known: &Live| {
            known.resource_version > live.resource_version || !tell && known.resource_version == live.resource_version
        };
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
            let former =
                |(part_of, members): (&Arc<str>, &mut Members)| members.remove(&key).map(|_| Arc::clone(part_of));
            let former: Vec<Arc<str>> = self.members.iter_mut().filter_map(former).collect();
            for part_of in &former {
                self.tell(part_of, key.clone(), None);
                self.tell_health(part_of);
            }
        }
        if let Some(part_of) = live.part_of.clone() {
            let known = self.members.get(&part_of).and_then(|members| members.get(&key));
            let health = known.is_none_or(|known| known.health != live.health || known.terminating != live.terminating);
            let touched = known.filter(|known| live.touched_since(known)).map(|_| live.resource_version);
            let closely =
                known.is_some_and(|known| live.moved_since(known)) && self.is_followed_closely(&part_of, &key);
            if tell && (touched.is_some() || closely || known.is_none_or(|known| differs(known, &live))) {
                self.tell(&part_of, key.clone(), touched);
            }
            if health {
                self.tell_health(&part_of);
            }
            self.members.entry(part_of).or_default().insert(key, live);
        }
    }

    fn remove(&mut self, key: &ObjectKey, at: ResourceVersion) {
        let mut gone = Vec::new();
        for (part_of, members) in &mut self.members {
            if members.get(key).is_some_and(|live| live.resource_version <= at) {
                members.remove(key);
                gone.push((Arc::clone(part_of), key.clone()));
            }
        }
        self.left(gone);
    }

    fn remove_all(&mut self, goes: impl Fn(&ObjectKey, &Live) -> bool) {
        let mut gone = Vec::new();
        for (part_of, members) in &mut self.members {
            gone.extend(members.extract_if(|key, live| goes(key, live)).map(|(key, _)| (Arc::clone(part_of), key)));
        }
        self.left(gone);
    }

    /// Tells that members are no longer there.
    fn left(&mut self, gone: Vec<(Arc<str>, ObjectKey)>) {
        for (part_of, key) in gone {
            self.tell(&part_of, key, None);
            self.tell_health(&part_of);
        }
    }
}

/// Whether anything changed that drift is read from, or whether the object may be deleted.
fn differs(known: &Live, live: &Live) -> bool {
    let marks = |live: &Live| (live.terminating, live.prune_disabled);
    known.uid != live.uid
        || marks(known) != marks(live)
        || known.applied != live.applied
        || known.foreign != live.foreign
}

/// kube's description of a kind, from ours.
pub(super) fn resource(kind: &GroupKind, info: &KindInfo) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(&kind.group, &info.version, &kind.kind), &info.plural)
}

/// The path of all objects of a kind in one version.
pub(super) fn collection(kind: &GroupKind, info: &KindInfo) -> String {
    DynamicObject::url_path(&resource(kind, info), None)
}

pub(super) fn key_of(kind: &GroupKind, metadata: &ObjectMeta) -> ObjectKey {
    ObjectKey {
        kind: kind.clone(),
        namespace: metadata.namespace.as_deref().map(Into::into),
        name: metadata.name.as_deref().unwrap_or_default().into(),
    }
}

#[cfg(test)]
mod tests;
