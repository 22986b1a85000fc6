//! The supervisor's eye for environments that the cluster has and the configuration branch no longer defines.

use std::sync::Arc;

use tokio::sync::watch as channel;
use tracing::{debug, warn};

use super::{Defined, Supervisor};
use crate::daemon::departure::{Departure, Removal};
use crate::daemon::removal::{Evidence, Last, is_provable, was_ours};
use crate::model::marks::{self, Claim};
use crate::model::{CommitId, Configuration, Environment, applyset};
use crate::render::{Definition, definition_of};
use crate::source::Store;

/// The task of a removed environment.
pub(super) struct Departing {
    wanted: channel::Sender<Removal>,
    pub(super) stop: channel::Sender<bool>,
    pub(super) task: tokio::task::Id,
    /// The commit of the configuration branch that was looked at last.
    at: CommitId,
}

impl Supervisor {
    /// Ends the tasks of environments that are no longer defined, and those of removed ones that are defined again.
    pub(super) fn part(&mut self, definitions: &Defined) {
        for (name, running) in self.running.iter_mut().filter(|(name, _)| !definitions.contains_key(*name)) {
            if !std::mem::replace(&mut running.leaving, true) {
                running.wanted.send_modify(|wanted| wanted.leaves = true);
                running.stop.send_replace(true);
                // Until its last write has ended, nobody knows what becomes of its objects.
                self.shared.peers.unsettled(name);
            }
        }
        for (_, departing) in self.departing.iter().filter(|(name, _)| definitions.contains_key(*name)) {
            departing.stop.send_replace(true);
        }
    }

    /// Starts the removal of what this installation kept and git no longer defines; of those under way, what git says is looked at anew.
    pub(super) async fn remove_undefined(&mut self, definitions: &Defined, store: &Store) {
        let Some(now) = self.shared.configuration() else { return };
        for environment in self.undefined(definitions) {
            let name = environment.metadata.name.clone().unwrap_or_default();
            let known = self.departing.get(&name).map(|departing| departing.at);
            if self.running.contains_key(&name) || known.or(self.passed_over.get(&name).copied()) == Some(now.commit) {
                continue;
            }
            match self.examine(&environment, &now, definitions, store).await {
                Some(removal) => self.remove(name, removal, now.commit),
                None if self.passed_over.insert(name.clone(), now.commit).is_none() => warn!(
                    environment = %name,
                    instance = %self.shared.instance.name,
                    "the cluster has this environment under the name of this installation, and its definition is not in the history of the \
                     configuration branch; it is left alone. If it is another plumb's, give one of the two another --instance"
                ),
                None => {}
            }
        }
    }

    fn remove(&mut self, name: String, removal: Removal, at: CommitId) {
        debug!(environment = %name, ?removal, "its definition left git");
        self.shared.peers.removed(&name, &removal.definition.spec);
        if let Some(departing) = self.departing.get_mut(&name) {
            departing.at = at;
            departing.wanted.send_if_modified(|known| {
                let news = *known != removal;
                *known = removal;
                news
            });
            return;
        }
        let (stop, stopped) = channel::channel(false);
        let (wanted, receiver) = channel::channel(removal);
        let task = Departure::new(Arc::clone(&self.shared), self.settings.clone(), receiver, stopped);
        let task = self.joined.spawn(task.run()).id();
        self.departing.insert(name, Departing { wanted, stop, task, at });
    }

    /// The Environments of the cluster that this installation keeps or kept last, and that git does not define.
    fn undefined(&self, definitions: &Defined) -> Vec<Arc<Environment>> {
        let known = self.shared.parents.subscribe();
        let known = known.borrow();
        let undefined = known.environments.iter().filter(|(name, environment)| {
            !definitions.contains_key(*name) && self.is_ours(name) && was_ours(environment, &self.shared.instance)
        });
        undefined.map(|(_, environment)| Arc::clone(environment)).collect()
    }

    /// Looks up what git says of an environment that is not defined, off the runtime's threads. `None`: it can't be proved that it ever was.
    async fn examine(
        &self,
        environment: &Arc<Environment>,
        now: &Configuration,
        definitions: &Defined,
        store: &Store,
    ) -> Option<Removal> {
        self.pulse.step("looking at what left git");
        let (at, now, store) = (Arc::clone(environment), now.clone(), store.clone());
        let read = tokio::task::spawn_blocking(move || Read::of(&at, &now, &store)).await.ok()?;
        let this_run = marks::claim(environment, &self.shared.instance) == Claim::Ours;
        let in_force = |name: &str| self.running.contains_key(name);
        is_provable(this_run, read.last, read.told).then(|| read.removal(environment, definitions, in_force))
    }

    /// If this was a removed environment's task, it is over.
    pub(super) fn departed(&mut self, id: tokio::task::Id) {
        let task = self.departing.iter().find(|(_, departing)| departing.task == id);
        if let Some(name) = task.map(|(name, _)| name.clone()) {
            self.departing.remove(&name);
            self.left(&name);
        }
    }

    /// No task works for the environment any more. What it had is of interest only as long as this installation keeps it.
    pub(super) fn left(&self, name: &str) {
        let shared = &self.shared;
        if !self.definitions.as_ref().is_some_and(|(_, definitions)| definitions.contains_key(name)) {
            shared.telemetry.forget(name);
        }
        shared.cluster.inventory.unfollow(&applyset::id(name));
        shared.images.iter().for_each(|images| images.left(name));
        if !shared.parents.get(name).is_some_and(|known| was_ours(&known, &shared.instance)) {
            shared.peers.leave(name);
        }
    }
}

/// What git says of the removal of an environment of the cluster that is not defined `now`. Blocking.
pub fn examine(environment: &Environment, now: &Configuration, definitions: &Defined, store: &Store) -> Removal {
    Read::of(environment, now, store).removal(environment, definitions, |_| false)
}

/// What git says of a removed environment.
struct Read {
    definition: Option<Definition>,
    last: Last,
    /// The commit that is known to have no definition of it: the first that was seen, as long as the branch contains that.
    since: CommitId,
    /// Its status says that it was removed at that commit.
    told: bool,
}

impl Read {
    fn of(environment: &Environment, now: &Configuration, store: &Store) -> Self {
        let contains = |older: CommitId| store.is_ancestor(older, now.commit).unwrap_or(false);
        let told = environment.status.as_ref().and_then(|status| status.removed.as_ref()?.parse().ok());
        let told = told.filter(|told| contains(*told));
        let (since, told) = (told.unwrap_or(now.commit), told.is_some());
        let Some(at) = marks::defined_at(environment) else {
            return Self { definition: None, last: Last::Unknown, since, told };
        };
        let name = environment.metadata.name.as_deref().unwrap_or_default();
        let definition = store.at(at.commit).ok().and_then(|snapshot| definition_of(&snapshot, name).ok().flatten());
        let last = match (&definition, at.branch == now.branch && contains(at.commit)) {
            (_, false) => Last::Elsewhere(at.commit),
            (None, true) => Last::Unknown,
            (Some(_), true) => Last::Contained,
        };
        Self { definition, last, since, told }
    }

    fn removal(self, environment: &Environment, definitions: &Defined, in_force: impl Fn(&str) -> bool) -> Removal {
        let definition = self.definition.unwrap_or_else(|| as_it_stands(environment));
        let invalid = definitions.iter().filter(|(name, read)| read.is_err() && !in_force(name));
        let evidence = Evidence {
            last: self.last,
            nothing_defined: definitions.is_empty(),
            invalid: invalid.map(|(name, _)| name.clone()).collect(),
            suspended: definition.spec.suspend,
        };
        Removal { commit: self.since, definition: Arc::new(definition), doubts: evidence.doubts() }
    }
}

/// The last definition as the cluster has it, where git does not show it any more.
fn as_it_stands(environment: &Environment) -> Definition {
    let name = environment.metadata.name.clone().unwrap_or_default();
    let (labels, annotations) = Default::default();
    let file = format!("environments/{name}/environment.yaml").into();
    Definition { name, spec: environment.spec.clone(), labels, annotations, file }
}
