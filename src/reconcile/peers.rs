//! Who asks for what: the claims of all environments of this plumb, so that an object that moves between two of them is handed over and never pruned.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch as channel;

use crate::model::{Desired, EnvironmentSpec, GroupKind, ObjectKey, applyset};
use crate::plan::{self, Claim};

/// The claims of all environments. Clones share them.
#[derive(Clone)]
pub struct PeerBook {
    peers: Arc<Mutex<HashMap<Arc<str>, Peer>>>,
    changed: Arc<channel::Sender<u64>>,
}

struct Peer {
    part_of: String,
    manager: String,
    /// Where it may put objects.
    namespaces: BTreeSet<String>,
    cluster_scoped: Vec<String>,
    /// What the render of its head asks for; `None` before its first render in this life.
    claims: Option<HashSet<ObjectKey>>,
}

impl Peer {
    fn could_claim(&self, key: &ObjectKey) -> bool {
        match &key.namespace {
            Some(namespace) => self.namespaces.contains(&**namespace),
            None => self.cluster_scoped.contains(&slashed(&key.kind)),
        }
    }
}

fn slashed(kind: &GroupKind) -> String {
    if kind.group.is_empty() { kind.kind.to_string() } else { format!("{}/{}", kind.group, kind.kind) }
}

impl Default for PeerBook {
    fn default() -> Self {
        Self { peers: Arc::default(), changed: Arc::new(channel::Sender::new(0)) }
    }
}

impl PeerBook {
    fn peers(&self) -> MutexGuard<'_, HashMap<Arc<str>, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An environment exists; what it asks for is not known yet, unless it was.
    pub fn enter(&self, environment: &str, spec: &EnvironmentSpec) {
        let mut peers = self.peers();
        let claims = peers.remove(environment).and_then(|former| former.claims);
        let namespaces = spec.allow.namespaces.iter().chain([&spec.namespace]).cloned().collect();
        let peer = Peer {
            part_of: applyset::id(environment),
            manager: applyset::manager(environment),
            namespaces,
            cluster_scoped: spec.allow.cluster_scoped.clone(),
            claims,
        };
        peers.insert(environment.into(), peer);
    }

    /// An environment is no more.
    pub fn leave(&self, environment: &str) {
        self.peers().remove(environment);
        self.changed.send_modify(|count| *count += 1);
    }

    /// What an environment's head asks for.
    pub fn claims(&self, environment: &str, desired: &Desired) {
        let mut peers = self.peers();
        let Some(peer) = peers.get_mut(environment) else { return };
        let new = desired.objects.iter().map(|manifest| manifest.key.clone()).collect();
        let same = peer.claims.as_ref().is_some_and(|claims| *claims == new);
        peer.claims = Some(new);
        drop(peers);
        if !same {
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// Wakes when any environment's claims change.
    pub fn subscribe(&self) -> channel::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The others, seen from one environment. The book stands still meanwhile: decide, don't wait.
    pub fn seen_from<'a>(&'a self, environment: &'a str) -> View<'a> {
        View { peers: self.peers(), environment }
    }
}

/// The other environments, seen from one.
pub struct View<'a> {
    peers: MutexGuard<'a, HashMap<Arc<str>, Peer>>,
    environment: &'a str,
}

impl View<'_> {
    fn others(&self) -> impl Iterator<Item = (&Arc<str>, &Peer)> {
        self.peers.iter().filter(|(name, _)| ***name != *self.environment)
    }

    fn find(&self, is: impl Fn(&Peer) -> bool) -> Option<Arc<str>> {
        self.others().find(|(_, peer)| is(peer)).map(|(name, _)| Arc::clone(name))
    }
}

impl plan::Peers for View<'_> {
    fn claim(&self, key: &ObjectKey) -> Claim {
        let claims = |peer: &Peer| peer.claims.as_ref().is_some_and(|claims| claims.contains(key));
        if let Some(name) = self.find(claims) {
            return Claim::Environment(name);
        }
        match self.find(|peer| peer.claims.is_none() && peer.could_claim(key)) {
            Some(name) => Claim::Unknown(name),
            None => Claim::Nobody,
        }
    }

    fn environment_of(&self, part_of: &str) -> Option<Arc<str>> {
        self.find(|peer| peer.part_of == part_of)
    }

    fn has_rendered(&self, environment: &str) -> bool {
        self.peers.get(environment).is_some_and(|peer| peer.claims.is_some())
    }

    fn environment_of_manager(&self, manager: &str) -> Option<Arc<str>> {
        self.find(|peer| peer.manager == manager)
    }
}
