//! One kind's watch, fed into the inventory.

use std::collections::HashSet;

use tracing::info;

use super::{Inventory, State, Watched, collection, key_of};
use crate::cluster::api::Caller;
use crate::cluster::discovery::served_elsewhere;
use crate::cluster::error::ClusterError;
use crate::cluster::watch::{Sink, Unserved};
use crate::drift::interner::Interner;
use crate::drift::ownership::reduce;
use crate::health::{self, Object};
use crate::model::applyset::PART_OF;
use crate::model::live::ResourceVersion;
use crate::model::{GroupKind, Live, ObjectKey};

/// Feeds one kind's watch into the inventory.
pub(super) struct KindSink {
    inventory: Inventory,
    kind: GroupKind,
    reads_status: bool,
    path: String,
    /// What the list that is under way has named so far.
    named: HashSet<ObjectKey>,
}

impl KindSink {
    pub(super) fn new(inventory: &Inventory, kind: &GroupKind, path: String) -> Self {
        let (inventory, kind, reads_status) = (inventory.clone(), kind.clone(), health::reads_status(kind));
        Self { inventory, kind, reads_status, path, named: HashSet::new() }
    }

    fn with_kind(&self, change: impl FnOnce(&mut Watched)) {
        if let Some(watched) = self.inventory.state().kinds.get_mut(&self.kind) {
            change(watched);
        }
    }
}

impl Sink for KindSink {
    type Object = Object;

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
        !self.reads_status
    }

    fn relisting(&mut self) {
        self.named.clear();
        self.with_kind(|watched| watched.listed = false);
    }

    fn observe(&mut self, object: Self::Object) {
        let key = key_of(&self.kind, &object.metadata);
        let mut state = self.inventory.state();
        let live = take_in(&self.kind, &object, &mut state.interner);
        if !state.kinds.get(&self.kind).is_some_and(|watched| watched.listed) {
            self.named.insert(key.clone());
        }
        state.put(key, live, true);
    }

    fn gone(&mut self, object: Self::Object) {
        let mut state = self.inventory.state();
        let version = reduce(&object.metadata, &mut state.interner).resource_version;
        state.remove(&key_of(&self.kind, &object.metadata), version);
    }

    /// What the list did not name and is not newer is gone.
    fn listed(&mut self, at: ResourceVersion) {
        let named = std::mem::take(&mut self.named);
        let mut state = self.inventory.state();
        state.remove_all(|key, live| key.kind == self.kind && !named.contains(key) && live.resource_version <= at);
        state.interner.sweep();
        drop(state);
        self.with_kind(|watched| {
            (watched.listed, watched.stood) = (true, true);
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

    /// Whatever the list says is newer than what is known, and what was written before need not be waited for.
    fn rewound(&mut self) {
        let mut state = self.inventory.state();
        for members in state.members.values_mut() {
            let of_kind = members.iter_mut().filter(|(key, _)| key.kind == self.kind);
            of_kind.for_each(|(_, live)| live.resource_version = 0);
        }
        if let Some(watched) = state.kinds.get_mut(&self.kind) {
            (watched.listed, watched.seen, watched.written) = (false, 0, 0);
        }
    }

    /// A definition that was deleted took its objects with it: served again, the kind is watched anew. One that lost a version has them all, and is watched
    /// in another: until that was listed, nothing of it is taken for gone.
    async fn unserved(&mut self, caller: &Caller) -> Result<Unserved, ClusterError> {
        let stood = |state: &State, kind: &GroupKind| state.kinds.get(kind).is_some_and(|watched| watched.stood);
        if !stood(&self.inventory.state(), &self.kind) {
            return Ok(Unserved::Awaited); // Defined a moment ago.
        }
        let other = served_elsewhere(caller, &self.kind, &self.path).await?;
        if let Some(info) = &other {
            info!(kind = %self.kind, version = &*info.version, "the version that was watched is served no more; another one is watched");
            self.path = collection(&self.kind, info);
            self.with_kind(|watched| (watched.path, watched.listed) = (self.path.clone(), false));
        } else {
            let mut state = self.inventory.state();
            state.remove_all(|key, _| key.kind == self.kind);
            state.kinds.remove(&self.kind);
        }
        self.inventory.progress.send_modify(|count| *count += 1);
        Ok(if other.is_some() { Unserved::Moved } else { Unserved::Ended })
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

/// Reduces an object as the watch brings it. Of one that is well, nothing of its status is kept.
pub(super) fn take_in(kind: &GroupKind, object: &Object, interner: &mut Interner) -> Live {
    let health = health::assess(kind, object);
    let health = (!health.is_settled()).then(|| Box::new(health));
    Live { health, ..reduce(&object.metadata, interner) }
}
