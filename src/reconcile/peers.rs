//! Who asks for what: the claims of all environments of this plumb, so that an object that moves between two of them is handed over and never pruned.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch as channel;

use crate::model::{CommitId, Desired, EnvironmentSpec, ObjectKey, applyset};
use crate::plan::{self, Claim, Clash};
use crate::render::Definition;

/// The claims of all environments. Clones share them.
#[derive(Clone)]
pub struct PeerBook {
    peers: Arc<Mutex<HashMap<Arc<str>, Peer>>>,
    changed: Arc<channel::Sender<u64>>,
}

struct Peer {
    part_of: String,
    manager: String,
    /// Its own namespace.
    home: String,
    /// Where it may put objects, its own namespace included.
    namespaces: BTreeSet<String>,
    cluster_scoped: Vec<String>,
    /// Its newest definition, and the head of its branch: what is to be rendered. Renders of others may be under way, and end whenever they like.
    wanted: Wanted,
    /// What was rendered last, well or not.
    rendered: Wanted,
    /// What the last good render asks for; `None` before the first in this life.
    claims: Option<HashSet<ObjectKey>>,
    standing: Standing,
    /// Its branch is gone: what it has is kept, and nothing new of it is deployed.
    gone: bool,
    /// How often its own claims changed.
    changes: u64,
}

/// A commit under a definition; `None`: nothing is known to be rendered.
type Wanted = Option<(Arc<Definition>, Option<CommitId>)>;

/// How far an environment's claims can be trusted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// They are those of its head.
    Known,
    /// Its head or its definition moved, and that is not rendered yet.
    Moved,
    /// The same, and somebody has waited for it in vain.
    Late,
    /// Its definition left git: it asks for nothing, and what it had is free for the others.
    Removed,
}

impl Peer {
    fn new(environment: &str, spec: &EnvironmentSpec) -> Self {
        Self {
            part_of: applyset::id(environment),
            manager: applyset::manager(environment),
            home: spec.namespace.clone(),
            namespaces: spec.allow.namespaces.iter().chain([&spec.namespace]).cloned().collect(),
            cluster_scoped: spec.allow.cluster_scoped.clone(),
            wanted: None,
            rendered: None,
            claims: None,
            standing: Standing::Moved,
            gone: false,
            changes: 0,
        }
    }

    /// What of it decides about others before it is rendered.
    fn reach(&self) -> (String, BTreeSet<String>, Vec<String>, bool) {
        (self.home.clone(), self.namespaces.clone(), self.cluster_scoped.clone(), self.gone)
    }

    /// The same under a newer definition or at a newer head. Nobody renders anew what was rendered last: a head that went forth and back is known.
    fn at(self, definition: &Arc<Definition>, head: Option<CommitId>) -> Self {
        let wanted = Some((Arc::clone(definition), head));
        let standing = if self.rendered == wanted { Standing::Known } else { Standing::Moved };
        let Self { rendered, claims, changes, .. } = self;
        Self { wanted, rendered, claims, standing, changes, ..Self::new(&definition.name, &definition.spec) }
    }

    /// Whether a definition and a head are news. A branch that is gone is none: the environment asks for what it asked for before.
    fn is_news(&self, definition: &Arc<Definition>, head: Option<CommitId>) -> bool {
        match &self.wanted {
            Some((known, at)) => known != definition || head.is_some() && *at != head,
            None => true,
        }
    }

    /// Of a branch that is not there, whatever is rendered: what is restored is all that the environment asks for.
    fn is_wanted(&self, definition: &Arc<Definition>, commit: CommitId) -> bool {
        let asked = |head: Option<CommitId>| head.is_none_or(|head| head == commit);
        self.wanted.as_ref().is_some_and(|(wanted, head)| wanted == definition && asked(*head))
    }

    /// A commit was rendered, well or not; false: that says nothing, since it is known what the head asks for. A render that was under way as the
    /// head moved tells what was asked for before it, and not what the head asks for.
    fn render_ended(&mut self, definition: &Arc<Definition>, commit: CommitId) -> bool {
        let wanted = self.is_wanted(definition, commit);
        if !wanted && self.is_known() {
            return false;
        }
        self.rendered = Some((Arc::clone(definition), Some(commit)));
        if wanted {
            self.standing = Standing::Known;
        }
        true
    }

    fn could_claim(&self, key: &ObjectKey) -> bool {
        match &key.namespace {
            Some(namespace) => self.namespaces.contains(&**namespace),
            None => self.cluster_scoped.contains(&key.kind.slashed()),
        }
    }

    /// Whether it is known what its head asks for.
    fn is_known(&self) -> bool {
        match self.standing {
            Standing::Known => self.claims.is_some(),
            Standing::Moved | Standing::Late => false,
            Standing::Removed => true,
        }
    }

    /// Whether the last good render has it.
    fn asks(&self, key: &ObjectKey) -> bool {
        self.claims.as_ref().is_some_and(|claims| claims.contains(key))
    }

    /// Whether it wants what another environment has. That does not come and go with every push that is not rendered yet.
    fn contends(&self, key: &ObjectKey) -> bool {
        !self.gone && self.asks(key)
    }

    /// Whether this is its own namespace.
    fn is_in(&self, namespace: &str) -> bool {
        self.home == namespace && self.standing != Standing::Removed
    }

    /// Whether both could ask for the same object, or for the namespace that one of them is in.
    fn meets(&self, other: &Self) -> bool {
        let makes_namespaces = |peer: &Self| peer.cluster_scoped.iter().any(|kind| kind == "Namespace");
        !self.namespaces.is_disjoint(&other.namespaces)
            || self.cluster_scoped.iter().any(|kind| other.cluster_scoped.contains(kind))
            || makes_namespaces(self)
            || makes_namespaces(other)
    }
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

    /// The newest definitions, and the heads of their branches: until those are rendered, nobody knows what they ask for. Told for all of them before
    /// any of them acts, so that an object which moves from one to the other in one push is seen on both sides. What was told before is no news.
    pub fn enter<'a>(&self, environments: impl IntoIterator<Item = (&'a Arc<Definition>, Option<CommitId>)>) {
        let mut peers = self.peers();
        let (mut known, mut moved) = (false, 0);
        for (definition, head) in environments {
            let name = definition.name.as_str();
            let former = peers.remove(name);
            let reach = former.as_ref().map(Peer::reach);
            let peer = match former {
                // One that was removed asked for nothing; defined again, it may ask for anything.
                Some(former) if former.standing == Standing::Removed => {
                    Peer { changes: former.changes, ..Peer::new(name, &definition.spec) }.at(definition, head)
                }
                Some(former) if !former.is_news(definition, head) => former,
                Some(former) => former.at(definition, head),
                None => Peer::new(name, &definition.spec).at(definition, head),
            };
            let mut peer = Peer { gone: head.is_none(), ..peer };
            if reach != Some(peer.reach()) {
                (peer.changes, moved) = (peer.changes + 1, moved + 1);
            }
            known |= peer.is_known();
            peers.insert(name.into(), peer);
        }
        if known || moved > 0 {
            self.changed.send_modify(|count| *count += moved);
        }
    }

    /// Nobody knows what becomes of an environment: no render tells, before it is entered again.
    pub fn unsettled(&self, environment: &str) {
        if let Some(peer) = self.peers().get_mut(environment) {
            (peer.wanted, peer.standing) = (None, Standing::Moved);
        }
    }

    /// A commit can't be rendered under this definition. If it is the head, the environment asks for what it asked for before.
    pub fn not_rendered(&self, definition: &Arc<Definition>, commit: CommitId) {
        if let Some(peer) = self.peers().get_mut(&*definition.name) {
            peer.render_ended(definition, commit);
        }
        self.changed.send_modify(|_| ());
    }

    /// Whether a render of this commit under this definition is what tells what the environment asks for.
    pub fn wants(&self, definition: &Arc<Definition>, commit: CommitId) -> bool {
        self.peers().get(&*definition.name).is_some_and(|peer| peer.is_wanted(definition, commit))
    }

    /// Whether anything is known of what an environment asks for.
    pub fn has_claims(&self, environment: &str) -> bool {
        self.peers().get(environment).is_some_and(|peer| peer.claims.is_some())
    }

    /// Waits until all that could ask for the same objects as this environment are rendered. Whoever does not come within the limit is not waited for
    /// again; what it could ask for is then neither deleted nor taken from it.
    pub async fn rendered(&self, environment: &str, limit: Duration) {
        let mut changed = self.changed.subscribe();
        let all = async { while self.awaited(environment, |_| ()) && changed.changed().await.is_ok() {} };
        if tokio::time::timeout(limit, all).await.is_err() {
            self.awaited(environment, |peer| peer.standing = Standing::Late);
        }
    }

    fn awaited(&self, environment: &str, each: impl Fn(&mut Peer)) -> bool {
        let mut peers = self.peers();
        let Some((name, me)) = peers.remove_entry(environment) else { return false };
        let mut any = false;
        for peer in peers.values_mut().filter(|peer| peer.standing == Standing::Moved && peer.meets(&me)) {
            any = true;
            each(peer);
        }
        peers.insert(name, me);
        any
    }

    /// An environment's definition left git: as long as it has objects, the others may take them over.
    pub fn removed(&self, environment: &str, spec: &EnvironmentSpec) {
        let mut peers = self.peers();
        let former = peers.get(environment);
        if former.is_some_and(|former| former.standing == Standing::Removed) {
            return;
        }
        let changes = former.map_or(0, |former| former.changes);
        let (standing, claims) = (Standing::Removed, Some(HashSet::new()));
        peers.insert(environment.into(), Peer { standing, claims, changes, ..Peer::new(environment, spec) });
        self.changed.send_modify(|count| *count += 1);
    }

    /// An environment is no more.
    pub fn leave(&self, environment: &str) {
        self.peers().remove(environment);
        self.changed.send_modify(|count| *count += 1);
    }

    /// What a commit asks for under this definition.
    pub fn claims(&self, definition: &Arc<Definition>, desired: &Desired) {
        let mut peers = self.peers();
        let Some(peer) = peers.get_mut(&*definition.name) else { return };
        if !peer.render_ended(definition, desired.commit) {
            return;
        }
        let new = desired.objects.iter().map(|manifest| manifest.key.clone()).collect();
        let same = peer.claims.as_ref().is_some_and(|claims| *claims == new);
        peer.claims = Some(new);
        peer.changes += u64::from(!same);
        self.changed.send_modify(|count| *count += u64::from(!same));
    }

    /// How often the others changed what they ask for, seen from one environment.
    pub fn changes_beside(&self, environment: &str) -> u64 {
        let peers = self.peers();
        let own = peers.get(environment).map_or(0, |peer| peer.changes);
        self.changed.borrow().saturating_sub(own)
    }

    /// Wakes when any environment is rendered; the value moves when its claims changed.
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

    /// What others ask for of these objects, which this environment has, if its head asks for them still; or for the namespace that it is in.
    pub fn clashes<'k>(&self, objects: impl Iterator<Item = &'k ObjectKey>) -> Vec<Clash> {
        let Some(me) = self.peers.get(self.environment) else { return Vec::new() };
        let clash = |one: &str, other: &str, object: &ObjectKey, home| Clash {
            one: one.to_owned(),
            other: other.to_owned(),
            object: object.clone(),
            home,
        };
        let meeting: Vec<(&Arc<str>, &Peer)> = self.others().filter(|(_, peer)| peer.meets(me)).collect();
        if meeting.is_empty() {
            return Vec::new();
        }
        let meeting = || meeting.iter().copied();
        let own_namespace = ObjectKey::new("", "Namespace", "", &me.home);
        let mut clashes = Vec::new();
        for key in objects.filter(|key| me.asks(key)) {
            let is_home = |peer: &Peer| key.kind.is("", "Namespace") && peer.is_in(&key.name);
            if let Some(other) = first(meeting(), |peer| peer.contends(key)) {
                clashes.push(clash(self.environment, other, key, false));
            } else if let Some(other) = first(meeting(), is_home) {
                clashes.push(clash(self.environment, other, key, true));
            }
        }
        let taker = first(meeting(), |peer| peer.contends(&own_namespace)).filter(|_| !me.asks(&own_namespace));
        clashes.extend(taker.map(|taker| clash(taker, self.environment, &own_namespace, true)));
        clashes
    }

    fn find(&self, is: impl Fn(&Peer) -> bool) -> Option<Arc<str>> {
        first(self.others(), is).map(Arc::clone)
    }
}

/// Of several the first by name, so that the same one is told whenever it is asked.
fn first<'a>(
    peers: impl Iterator<Item = (&'a Arc<str>, &'a Peer)>,
    is: impl Fn(&Peer) -> bool,
) -> Option<&'a Arc<str>> {
    peers.filter(|(_, peer)| is(peer)).map(|(name, _)| name).min()
}

impl plan::Peers for View<'_> {
    fn claim(&self, key: &ObjectKey) -> Claim {
        let claims = |peer: &Peer| peer.is_known() && peer.asks(key);
        if let Some(name) = self.find(claims) {
            return Claim::Environment(name);
        }
        match self.find(|peer| !peer.is_known() && peer.could_claim(key)) {
            Some(name) => Claim::Unknown(name),
            None => Claim::Nobody,
        }
    }

    fn contends(&self, key: &ObjectKey) -> Option<Arc<str>> {
        self.find(|peer| peer.contends(key))
    }

    fn own_head_asks(&self, key: &ObjectKey) -> bool {
        self.peers.get(self.environment).is_some_and(|me| me.asks(key))
    }

    fn environment_of(&self, part_of: &str) -> Option<Arc<str>> {
        self.find(|peer| peer.part_of == part_of)
    }

    fn has_rendered(&self, environment: &str) -> bool {
        self.peers.get(environment).is_some_and(Peer::is_known)
    }

    fn environment_of_manager(&self, manager: &str) -> Option<Arc<str>> {
        self.find(|peer| peer.manager == manager)
    }

    fn home_of(&self, namespace: &str) -> Option<Arc<str>> {
        self.find(|peer| peer.is_in(namespace))
    }

    fn lives_in(&self, namespace: &str) -> Option<Arc<str>> {
        self.find(|peer| peer.namespaces.contains(namespace) && peer.standing != Standing::Removed)
    }
}

#[cfg(test)]
mod tests;
