//! One removed environment's task: its objects are left or deleted as its last definition says, and what is left of it is told.
//!
//! What is done next is decided in [`super::removal`]. The task ends when the environment is no more; stopped before, the next start goes on.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch as channel;
use tracing::{debug, warn};

use super::Settings;
use super::removal::{Act, Seen, next};
use crate::cluster::events::{self, Regarding};
use crate::cluster::execute::Done;
use crate::cluster::failure;
use crate::cluster::parent::{Hold, Known, Parent};
use crate::model::environment::DeletionPolicy;
use crate::model::marks::{self, Claim, Instance};
use crate::model::{CommitId, Environment, Failure, Stage};
use crate::plan::{Action, Plan, Planned};
use crate::reconcile::{Reconciler, Shared};
use crate::render::Definition;
use crate::report::removal::{self as report, Removed};
use crate::telemetry::pulse;

/// The first pause after a failure that may pass by itself; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Of many objects that stay at most this many are named.
const TOLD: usize = 5;

/// How an environment is removed.
#[derive(Debug, Clone, PartialEq)]
pub struct Removal {
    /// The commit of the configuration branch that no longer defines it.
    pub commit: CommitId,
    /// Its last definition.
    pub definition: Arc<Definition>,
    /// Why a person is asked before its objects go, a sentence each.
    pub doubts: Vec<String>,
}

/// The task of one removed environment.
pub(super) struct Departure {
    reconciler: Reconciler,
    settings: Settings,
    wanted: channel::Receiver<Removal>,
    parents: channel::Receiver<Known>,
    peers: channel::Receiver<u64>,
    stop: channel::Receiver<bool>,
    changes: channel::Receiver<()>,
    removal: Removal,
    /// This run has had the claim.
    had: bool,
    /// The Environment as the last step found it.
    seen: Option<Outline>,
    /// The uids of the objects that were deleted; they may still be seen for a while.
    going: HashSet<Box<str>>,
    /// What was told last.
    told: Option<Removed>,
    attempts: u32,
}

/// What of an Environment decides: which object it is, who has it, and what was approved.
type Outline = (Option<String>, Claim, Option<CommitId>);

/// What comes after a step.
enum Then {
    /// The next one.
    Again,
    /// A change.
    Rest,
    /// Nothing.
    End,
}

impl Departure {
    pub(super) fn new(
        shared: Arc<Shared>,
        settings: Settings,
        wanted: channel::Receiver<Removal>,
        stop: channel::Receiver<bool>,
    ) -> Self {
        let removal = wanted.borrow().clone();
        let (parents, peers) = (shared.parents.subscribe(), shared.peers.subscribe());
        let pulse = shared.telemetry.pulses.enter(format!("removal of {}", removal.definition.name), pulse::BOUND);
        let reconciler = Reconciler::new(shared, Arc::clone(&removal.definition)).with_pulse(pulse);
        let changes = reconciler.cluster.inventory.follow(&reconciler.part_of);
        let (going, told) = (HashSet::new(), None);
        let reconciler = reconciler.removed(&removal.doubts);
        Self {
            reconciler,
            settings,
            wanted,
            parents,
            peers,
            stop,
            changes,
            removal,
            had: false,
            seen: None,
            going,
            told,
            attempts: 0,
        }
    }

    fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Works until the environment is no more, or until it is stopped.
    pub(super) async fn run(mut self) {
        while !self.stopping() {
            let then = self.step().await;
            if !matches!(then, Err(ref failure) if failure.transient) {
                self.attempts = 0;
            }
            match then {
                Ok(Then::Again) => {}
                Ok(Then::Rest) => self.rest(None).await,
                Ok(Then::End) => return,
                Err(failure) => self.put_off(failure).await,
            }
        }
        self.release().await;
    }

    async fn step(&mut self) -> Result<Then, Failure> {
        let removal = self.wanted.borrow_and_update().clone();
        if removal != self.removal {
            self.reconciler = self.reconciler.redefined(Arc::clone(&removal.definition)).removed(&removal.doubts);
            self.removal = removal;
        }
        self.peers.mark_unchanged();
        self.changes.mark_unchanged();
        let me = &self.reconciler.shared.instance;
        let known = self.parents.borrow_and_update().environments.get(&*self.reconciler.name).cloned();
        let claim = known.as_ref().map(|known| marks::claim(known, me));
        self.seen = known.as_ref().map(|known| outline(known, me));
        self.had |= claim == Some(Claim::Ours);
        let mut seen = Seen {
            policy: self.removal.definition.spec.deletion_policy,
            had: self.had,
            released: known.as_ref().is_some_and(|known| marks::released_by(known, me)),
            told: known.as_ref().is_some_and(|known| is_told(known)),
            claim,
            left: 1,
            doubtful: !self.removal.doubts.is_empty() && self.reconciler.confirmed_prune() != Some(self.removal.commit),
        };
        let (Some(known), true) = (known, next(&seen) != Act::End) else {
            debug!(environment = %self.reconciler.name, claim = ?seen.claim, "it is no more, or another plumb's");
            return Ok(Then::End);
        };
        let mut stop = self.stop.clone();
        tokio::select! {
            looked = self.reconciler.look_for_members(self.removal.commit) => looked?,
            _ = stop.wait_for(|stop| *stop) => return Ok(Then::Again),
        }
        (seen.left, _) = self.reconciler.members_left(&self.going);
        let act = next(&seen);
        debug!(environment = %self.reconciler.name, ?seen, ?act, "removing");
        self.carry_out(act, &known, seen.left).await
    }

    async fn carry_out(&mut self, act: Act, known: &Arc<Environment>, left: usize) -> Result<Then, Failure> {
        match act {
            Act::End => return Ok(Then::End),
            Act::Rest => return Ok(Then::Rest),
            Act::Claim => self.mark(known, Hold::Claimed(&self.reconciler.shared.instance)).await?,
            Act::Tell => self.tell(self.begins(left)).await?,
            Act::Release => self.mark(known, Hold::Released(&self.reconciler.shared.instance)).await?,
            Act::Delete => return self.delete().await,
            Act::Forget => {
                self.forget(known).await?;
                return Ok(Then::End);
            }
        }
        Ok(Then::Again)
    }

    fn begins(&self, left: usize) -> Removed {
        match self.removal.definition.spec.deletion_policy {
            DeletionPolicy::Orphan => Removed::Orphaned,
            DeletionPolicy::Delete => Removed::Going(left),
        }
    }

    fn parent(&self) -> Parent<'_> {
        Parent { caller: &self.reconciler.cluster.caller, name: &self.reconciler.name }
    }

    async fn mark(&self, known: &Environment, hold: Hold<'_>) -> Result<(), Failure> {
        let marked = self.parent().apply_marks(known, hold, &marks::reach(known)).await;
        let marked = marked.map_err(|error| failure::of_stage(Stage::Prune, &error))?;
        self.reconciler.shared.parents.wrote(marked);
        Ok(())
    }

    /// Deletes what may be deleted, and tells what stays.
    async fn delete(&mut self) -> Result<Then, Failure> {
        let mut stop = self.stop.clone();
        let confirmed = self.reconciler.confirmed_prune();
        let planned = tokio::select! {
            planned = self.reconciler.plan_removal(self.removal.commit, confirmed) => planned?,
            _ = stop.wait_for(|stop| *stop) => return Ok(Then::Again),
        };
        let plan = match planned {
            Planned::Ready(plan) => plan,
            Planned::AskFirst(ask) => return Err(Failure::from(&ask)),
            Planned::Refused(refused) => {
                let refused = Failure::first_of(refused.into_iter().map(Failure::from).collect());
                return Err(refused.unwrap_or_else(|| Failure::new(Stage::Plan, "refused")));
            }
        };
        let why = stays_because(&plan);
        if plan.steps.iter().any(|step| step.action == Action::Prune) {
            // Before the first of them: a restart must know that this was begun.
            let (left, _) = self.reconciler.members_left(&self.going);
            self.tell(Removed::Going(left)).await?;
        }
        let done = self.write(plan).await?;
        if let Some(failure) = Failure::first_of(done.failures) {
            return Err(failure);
        }
        if done.overtaken > 0 {
            return Err(Failure::new(Stage::Prune, "objects changed while they were to be deleted").transient());
        }
        if done.stopped || !done.pruned.is_empty() {
            return Ok(Then::Again);
        }
        let (left, staying) = self.reconciler.members_left(&self.going);
        self.tell(if staying == 0 { Removed::Going(left) } else { Removed::Staying(staying, why) }).await?;
        Ok(Then::Rest)
    }

    /// Carries the deletions out; stops between two of them when the claim is lost, or plumb stops.
    async fn write(&mut self, plan: Plan) -> Result<Done, Failure> {
        let (halt, halted) = channel::channel(false);
        let (reconciler, commit, mut going) =
            (self.reconciler.clone(), self.removal.commit, std::mem::take(&mut self.going));
        let (mut parents, mut stop) = (self.parents.clone(), self.stop.clone());
        let done = {
            let mut removing = std::pin::pin!(reconciler.remove(plan, commit, &mut going, &halted));
            loop {
                tokio::select! {
                    done = &mut removing => break done,
                    Ok(()) = parents.changed() => {
                        let known = reconciler.shared.parents.get(&reconciler.name);
                        if known.is_none_or(|known| marks::claim(&known, &reconciler.shared.instance) != Claim::Ours) {
                            halt.send_replace(true);
                        }
                    }
                    _ = stop.wait_for(|stop| *stop), if !*halt.borrow() => {
                        halt.send_replace(true);
                    }
                }
            }
        };
        self.going = going;
        done
    }

    /// Nothing of it stands any more.
    async fn forget(&self, known: &Environment) -> Result<(), Failure> {
        let deleted = self.parent().delete(known).await;
        deleted.map_err(|error| failure::of_stage(Stage::Prune, &error))?;
        self.reconciler.shared.parents.gone(&self.reconciler.name, known);
        report::forgotten(&self.reconciler.name, self.going.len());
        Ok(())
    }

    /// Tells log, status and Events, each once.
    async fn tell(&mut self, removed: Removed) -> Result<(), Failure> {
        let (shared, commit) = (Arc::clone(&self.reconciler.shared), self.removal.commit);
        let Some(environment) = shared.parents.get(&self.reconciler.name) else { return Ok(()) };
        let last = environment.status.clone().unwrap_or_default();
        let generation = environment.metadata.generation;
        let status = report::status(&last, commit, &removed, generation, chrono::Utc::now());
        if status != last {
            let written = self.parent().apply_status(&status).await;
            shared.parents.wrote(written.map_err(|error| failure::of_stage(Stage::Prune, &error))?);
        }
        if self.told.as_ref() == Some(&removed) {
            return Ok(());
        }
        // A number that falls is no news.
        let news = !matches!((&self.told, &removed), (Some(Removed::Going(_)), Removed::Going(_)));
        if news {
            report::log(&self.reconciler.name, commit, &removed);
            let about = Regarding::environment(&self.reconciler.name, environment.metadata.uid.as_deref());
            let event = report::event(commit, &removed);
            if let Err(error) = events::post(&shared.cluster.caller, &about, &event, &shared.instance.name).await {
                warn!(environment = %self.reconciler.name, %error, "the Event could not be posted");
            }
        }
        self.told = Some(removed);
        Ok(())
    }

    /// Tells why nothing goes on, and waits for what may help: time, an approval, another commit, a change of the objects.
    async fn put_off(&mut self, failure: Failure) {
        let transient = failure.transient;
        match self.removal.definition.spec.deletion_policy {
            // It is told what it needs to be told; what is left to do is to notice when nothing is left.
            DeletionPolicy::Orphan => {
                debug!(environment = %self.reconciler.name, reason = %failure, "a removed environment can't be looked at")
            }
            DeletionPolicy::Delete => {
                if let Err(failure) = self.tell(Removed::Stopped(failure)).await {
                    warn!(environment = %self.reconciler.name, reason = %failure, "the status could not be written; trying again");
                }
            }
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.attempts.min(20)).min(LONGEST_PAUSE);
        self.attempts = self.attempts.saturating_add(1);
        self.rest(transient.then(|| pause.mul_f64(rand::random_range(0.8..1.2)))).await;
    }

    /// Sleeps until something may have changed for this environment, or for so long.
    async fn rest(&mut self, pause: Option<Duration>) {
        let until = pause.map(|pause| Instant::now() + pause);
        let timer = async move {
            match until {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        let (name, me) = (&self.reconciler.name, &self.reconciler.shared.instance);
        let seen = &self.seen;
        let now = |known: &Known| known.environments.get(&**name).map(|known| outline(known, me));
        let event = async {
            tokio::select! {
                // Also what came since the step began: an approval given while the question was being told.
                _ = self.parents.wait_for(|known| now(known) != *seen) => {}
                _ = self.peers.changed() => {}
                _ = self.changes.changed() => {}
                _ = self.wanted.changed() => {}
                _ = self.stop.changed() => {}
                () = timer => {}
            }
        };
        self.reconciler.pulse.idle("waiting for events", event).await;
    }

    /// Gives the claim up, so that another plumb can have the environment without `--take-over`.
    async fn release(&self) {
        let shared = &self.reconciler.shared;
        let Some(known) = shared.parents.get(&self.reconciler.name).filter(|_| self.settings.release) else { return };
        if marks::claim(&known, &shared.instance) == Claim::Ours
            && let Err(failure) = self.mark(&known, Hold::Released(&shared.instance)).await
        {
            warn!(environment = %self.reconciler.name, reason = %failure, "the claim could not be released");
        }
    }
}

fn outline(known: &Environment, me: &Instance) -> Outline {
    (known.metadata.uid.clone(), marks::claim(known, me), marks::confirmed_prune(known))
}

fn is_told(known: &Environment) -> bool {
    known.status.as_ref().is_some_and(|status| status.removed.is_some())
}

/// Why objects stay that the plan does not delete.
fn stays_because(plan: &Plan) -> String {
    let notes = plan.notes.iter().map(|note| format!("{}: {}", note.key, note.text));
    let handed_over = plan.steps.iter().filter_map(|step| match &step.action {
        Action::HandOver { to } => Some(format!("{}: environment {to} takes it over", step.key)),
        _ => None,
    });
    let all: BTreeSet<String> = plan.waits.iter().map(ToString::to_string).chain(notes).chain(handed_over).collect();
    let told: Vec<&str> = all.iter().take(TOLD).map(String::as_str).collect();
    match all.len().saturating_sub(TOLD) {
        0 if all.is_empty() => "others own them".to_owned(),
        0 => told.join("; "),
        more => format!("{}; and {more} more", told.join("; ")),
    }
}
