//! One task an environment: started, woken and stopped so that they are those of the newest definitions at the newest heads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch as channel;
use tokio::task::{JoinHandle, JoinSet};
use tracing::{error, warn};

use super::environment::{Task, Wanted};
use super::{DaemonError, Defined, Settings};
use crate::model::{CommitId, Failure};
use crate::reconcile::Shared;
use crate::render::{Definition, Definitions};
use crate::source::{Heads, SourceState, Store};
use crate::telemetry::{Pulse, pulse};
use beside::LookedOn;
use removed::Departing;
pub use removed::examine;

mod beside;
mod definitions;
mod removed;
#[cfg(test)]
mod tests;

/// How long environments may take to finish the write that is under way when plumb stops.
const FAREWELL: Duration = Duration::from_secs(30);

/// How long an environment whose task panicked waits for the next one.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// What the supervisor wakes for.
enum Event {
    /// The heads, or the time to stop.
    Look,
    /// The Environments of the cluster are known.
    Listed,
    /// An environment's task ended.
    Ended(Result<(tokio::task::Id, ()), tokio::task::JoinError>),
    /// A task ended that plumb can't do without.
    Fatal(DaemonError),
}

struct Running {
    wanted: channel::Sender<Wanted>,
    stop: channel::Sender<bool>,
    task: tokio::task::Id,
    /// Its definition left git, and it ends its last write. Until then no other task may write for it.
    leaving: bool,
}

/// The head of a branch. One that is there and can't be read is where it was, as the environment knew it `last`.
fn head_of(branch: &str, heads: &Heads, last: Option<&Wanted>) -> Option<CommitId> {
    let unreadable = heads.unreadable.iter().any(|name| name == branch);
    let known = || last.filter(|last| unreadable && last.definition.spec.branch == branch)?.head;
    heads.branches.get(branch).copied().or_else(known)
}

pub(super) struct Supervisor {
    shared: Arc<Shared>,
    pulse: Pulse,
    settings: Settings,
    running: BTreeMap<String, Running>,
    /// Environments whose definition left git, and that are not gone yet.
    departing: BTreeMap<String, Departing>,
    /// Environments that bear this installation's name and can't be told from another's, with the commit that this was looked up at.
    passed_over: BTreeMap<String, CommitId>,
    joined: JoinSet<()>,
    /// It is known which Environments the cluster has. Before, nothing is started: an object may be a removed environment's.
    listed: bool,
    /// The definitions of the newest commit of the configuration branch that could be read.
    definitions: Option<(CommitId, Defined)>,
    reader: Arc<Mutex<Definitions>>,
    /// Environments that are defined but not kept by this plumb.
    looked_on: BTreeMap<String, LookedOn>,
    /// What was last said about the configuration branch, so that it is said once.
    told: Option<String>,
}

impl Supervisor {
    pub(super) fn new(shared: Arc<Shared>, settings: Settings) -> Self {
        let (running, departing, joined) = (BTreeMap::new(), BTreeMap::new(), JoinSet::new());
        Self {
            pulse: shared.telemetry.pulses.enter("supervisor", pulse::BOUND),
            shared,
            settings,
            running,
            departing,
            passed_over: BTreeMap::new(),
            joined,
            listed: false,
            definitions: None,
            reader: Arc::default(),
            looked_on: BTreeMap::new(),
            told: None,
        }
    }

    /// Follows the source until it is time to stop.
    pub(super) async fn supervise(
        &mut self,
        mut source: channel::Receiver<Arc<SourceState>>,
        mut shutdown: channel::Receiver<bool>,
        parents: &mut JoinHandle<()>,
    ) -> Result<(), DaemonError> {
        let pulse = self.pulse.clone();
        let mut known = self.shared.parents.subscribe();
        loop {
            if *shutdown.borrow_and_update() {
                return Ok(());
            }
            let state = Arc::clone(&source.borrow_and_update());
            self.follow(&state).await;
            let event = async {
                let listed = self.listed;
                tokio::select! {
                    // Told to stop, the source stops as well.
                    biased;
                    _ = shutdown.changed() => Event::Look,
                    changed = source.changed() => changed.map_or(Event::Fatal(DaemonError::SourceEnded), |()| Event::Look),
                    _ = &mut *parents => Event::Fatal(DaemonError::ParentsEnded),
                    _ = known.wait_for(|known| known.listed), if !listed => Event::Listed,
                    Some(ended) = self.joined.join_next_with_id() => Event::Ended(ended),
                }
            };
            match pulse.idle("waiting for a push", event).await {
                Event::Look => {}
                Event::Listed => self.listed = true,
                Event::Ended(ended) => self.ended(ended),
                Event::Fatal(error) => return Err(error),
            }
        }
    }

    /// Starts, wakes and stops environments, so that they are those of the newest definitions at the newest heads.
    async fn follow(&mut self, state: &SourceState) {
        let (heads, store) = match state {
            SourceState::Ready { heads, store } | SourceState::Failing { last: Some((heads, store)), .. } => {
                (heads, store)
            }
            SourceState::Waiting { .. } | SourceState::Failing { last: None, .. } => return,
        };
        let trouble = self.read_definitions(heads, store).await.err();
        if let Some(reason) = trouble.as_ref().filter(|_| trouble != self.told) {
            error!(reason, "the definitions can't be read; environments stay as they are");
        }
        self.shared.telemetry.standing().unread(trouble.clone());
        self.told = trouble;
        let Some((commit, definitions)) = self.definitions.take() else { return };
        self.tell_peers(&definitions, heads);
        self.look_away(&definitions);
        self.part(&definitions);
        if self.listed {
            self.remove_undefined(&definitions, store).await;
        }
        for (name, definition) in &definitions {
            match definition {
                Ok(definition) if !self.is_ours(name) => self.look_on(definition, heads, store),
                _ => self.wake(name, definition, commit, heads, store),
            }
        }
        self.definitions = Some((commit, definitions));
    }

    /// Makes new environments, heads and definitions known to all before any of them acts.
    fn tell_peers(&self, definitions: &Defined, heads: &Heads) {
        let newest = definitions.iter().filter_map(|(name, definition)| {
            let last = self.running.get(name).map(|running| running.wanted.borrow().clone());
            let in_force = last.as_ref().map(|last| &last.definition);
            let definition = definition.as_ref().ok().or(in_force)?;
            let head = head_of(&definition.spec.branch, heads, last.as_ref());
            Some((Arc::clone(definition), head))
        });
        let newest: Vec<_> = newest.collect();
        self.shared.peers.enter(newest.iter().map(|(definition, head)| (definition, *head)));
    }

    /// Whether this plumb keeps the environment.
    fn is_ours(&self, name: &str) -> bool {
        self.settings.only.is_empty() || self.settings.only.iter().any(|only| only == name)
    }

    fn wake(
        &mut self,
        name: &str,
        definition: &Result<Arc<Definition>, Failure>,
        commit: CommitId,
        heads: &Heads,
        store: &Store,
    ) {
        let running = self.running.get(name);
        let busy = running.is_some_and(|running| running.leaving) || self.departing.contains_key(name);
        if busy || !self.listed || !self.is_ours(name) {
            return;
        }
        let last = running.map(|running| running.wanted.borrow().clone());
        let wanted = match (definition, last) {
            (Ok(definition), last) => {
                let definition = Arc::clone(definition);
                let head = head_of(&definition.spec.branch, heads, last.as_ref());
                Wanted::new(definition, self.shared.configuration(), head, store.clone())
            }
            // The last good definition stays in force.
            (Err(failure), Some(last)) => {
                let head = head_of(&last.definition.spec.branch, heads, Some(&last));
                Wanted { head, store: store.clone(), broken: Some((commit, failure.clone())), ..last }
            }
            (Err(_), None) => return,
        };
        self.shared.telemetry.metrics.head(name, wanted.head);
        match running {
            Some(running) => {
                running.wanted.send_if_modified(|known| {
                    let news = !known.same_as(&wanted);
                    *known = wanted;
                    news
                });
            }
            None => self.start(name, wanted),
        }
    }

    fn start(&mut self, name: &str, wanted: Wanted) {
        let (stop, stopped) = channel::channel(false);
        let (sender, receiver) = channel::channel(wanted);
        let task = Task::new(Arc::clone(&self.shared), self.settings.clone(), receiver, stopped);
        let task = self.joined.spawn(task.run()).id();
        self.running.insert(name.to_owned(), Running { wanted: sender, stop, task, leaving: false });
    }

    /// A task ended; if its environment is still, or again, defined, it is started anew.
    fn ended(&mut self, ended: Result<(tokio::task::Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                error!(%error, "an environment's task ended unexpectedly; it is started again");
                return self.pause_in_place_of(error.id());
            }
        };
        let ended = self.running.iter().find(|(_, running)| running.task == id);
        if let Some((name, leaving)) = ended.map(|(name, running)| (name.clone(), running.leaving)) {
            self.running.remove(&name);
            if leaving {
                self.left(&name);
            }
        }
        self.departed(id);
    }

    /// A pause stands where the task stood, and ends as a task does: nothing else waits for it.
    fn pause_in_place_of(&mut self, id: tokio::task::Id) {
        let pause = self.joined.spawn(tokio::time::sleep(RESTART_PAUSE)).id();
        let running = self.running.values_mut().map(|running| &mut running.task);
        let departing = self.departing.values_mut().map(|departing| &mut departing.task);
        running.chain(departing).filter(|task| **task == id).for_each(|task| *task = pause);
    }

    /// Has every environment finish the write that is under way.
    pub(super) async fn stop(mut self) {
        self.running.values().for_each(|running| _ = running.stop.send_replace(true));
        self.departing.values().for_each(|departing| _ = departing.stop.send_replace(true));
        let all = async { while self.joined.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, all).await.is_err() {
            warn!("some writes did not end in time");
        }
    }
}
