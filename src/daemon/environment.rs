//! One environment's task: claims the Environment, then brings one commit after the other to the cluster.
//!
//! What is done next is decided in [`super::course`]; here it is done. A newer head goes through its gates while the older commit is still being
//! written, and stops it only once it has passed them.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch as channel;
use tracing::debug;

use super::Settings;
use super::course::{Course, Job, Seen};
use crate::cluster::parent::Known;
use crate::model::environment::EnvironmentStatus;
use crate::model::{CommitId, Configuration, Failure, Outcome};
use crate::reconcile::{Mode, Reconciler, Shared};
use crate::render::Definition;
use crate::report::notes::Notes;
use crate::source::Store;
use crate::telemetry::pulse;

mod additions;
mod away;
mod bring;
mod claim;
mod deploy;
mod drift;
mod healed;
mod health;
mod images;
mod missing;
mod overtaken;
mod tell;
mod tell_drift;
mod untold;

use drift::Drifts;
use health::Health;
use images::Builds;
use missing::Missing;
use untold::Untold;

/// What an environment should be, as the newest definitions and heads say.
#[derive(Clone)]
pub(super) struct Wanted {
    /// Its definition.
    pub(super) definition: Arc<Definition>,
    /// Where that was read.
    pub(super) at: Option<Configuration>,
    /// The head of its branch; `None`: there is no such branch.
    pub(super) head: Option<CommitId>,
    /// Where to read it.
    pub(super) store: Store,
    /// The newest definition is not valid: the commit of the configuration branch, and why. The one before stays in force.
    pub(super) broken: Option<(CommitId, Failure)>,
    /// Its definition left git: the task ends, and keeps the claim for the one that comes after it.
    pub(super) leaves: bool,
}

impl Wanted {
    pub(super) fn new(
        definition: Arc<Definition>,
        at: Option<Configuration>,
        head: Option<CommitId>,
        store: Store,
    ) -> Self {
        Self { definition, at, head, store, broken: None, leaves: false }
    }

    pub(super) fn same_as(&self, other: &Self) -> bool {
        self.head == other.head && self.definition == other.definition && self.broken == other.broken
    }
}

/// The task of one environment.
pub(super) struct Task {
    reconciler: Reconciler,
    settings: Settings,
    wanted: channel::Receiver<Wanted>,
    parents: channel::Receiver<Known>,
    /// Wakes when any environment is rendered.
    peers: channel::Receiver<u64>,
    stop: channel::Receiver<bool>,
    /// Wakes when an object of the environment changed.
    changes: channel::Receiver<()>,
    /// What drifted.
    drifts: Drifts,
    health: Health,
    /// Images that are built.
    builds: Builds,
    course: Course,
    /// How often the others had changed what they ask for when a plan was last begun.
    planned_beside: u64,
    /// The same when it was last looked who else claims what this environment has; `None`: that may have changed.
    looked_beside: Option<u64>,
    /// What that found could not be written to the status: when it is looked again.
    beside_untold: Option<Instant>,
    /// How the last commit ended, so that the same is not told twice.
    told: Option<(CommitId, Outcome)>,
    /// That the newest definition is not valid was told since.
    broken_told: bool,
    /// Heads that were taken up and have no end yet, though nothing of them is under way but a build.
    open: Vec<CommitId>,
    /// A commit of it has waited for the builder.
    waited: bool,
    /// A resync has begun, and the target has not passed its gates since.
    resync_owed: bool,
    /// What could not be written to the status yet.
    untold: Untold,
    /// What was told of a commit that passed.
    notes: Notes,
    /// What was told of a branch that is gone.
    missing: Missing,
    /// The claim was held once in this life.
    started: bool,
    /// The status that was written last.
    status: Option<EnvironmentStatus>,
    /// Why the claim is not held, as it was told last, and how often it was tried.
    not_held: Option<String>,
    attempts: u32,
    /// The definition that the Environment was last seen to have.
    stood: Option<Arc<Definition>>,
    /// When somebody's change of the spec was last put back.
    reverted: Option<Instant>,
}

/// Around 1: spreads out what a hundred environments would do at the same moment.
pub(super) fn jitter() -> f64 {
    rand::random_range(0.8..1.2)
}

impl Task {
    pub(super) fn new(
        shared: Arc<Shared>,
        settings: Settings,
        wanted: channel::Receiver<Wanted>,
        stop: channel::Receiver<bool>,
    ) -> Self {
        let definition = Arc::clone(&wanted.borrow().definition);
        let (parents, peers) = (shared.parents.subscribe(), shared.peers.subscribe());
        let course = Course::new(definition.spec.resync.get(), Instant::now(), jitter());
        let health = Health::new(definition.spec.timeout.get());
        let pulse = shared.telemetry.pulses.enter(format!("environment {}", definition.name), pulse::BOUND);
        let reconciler = Reconciler::new(shared, definition).with_pulse(pulse);
        let changes = reconciler.cluster.inventory.follow(&reconciler.part_of);
        Self {
            reconciler,
            settings,
            wanted,
            parents,
            peers,
            stop,
            changes,
            drifts: Drifts::default(),
            health,
            builds: Builds::default(),
            course,
            planned_beside: 0,
            looked_beside: None,
            beside_untold: None,
            told: None,
            open: Vec::new(),
            waited: false,
            resync_owed: false,
            broken_told: false,
            untold: Untold::default(),
            notes: Notes::default(),
            missing: Missing::default(),
            started: false,
            status: None,
            not_held: None,
            attempts: 0,
            stood: None,
            reverted: None,
        }
    }

    fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Works until it is stopped.
    pub(super) async fn run(mut self) {
        while !self.stopping() {
            // Also while another run has the claim: as soon as that gives it up, the newest definition is written.
            let definition = Arc::clone(&self.wanted.borrow().definition);
            self.take_definition(definition);
            if !self.hold_claim().await {
                continue; // It waited for a change.
            }
            self.tell_untold().await;
            self.take_built().await;
            self.tell_missing().await;
            let job = self.next();
            self.tell_overtaken().await;
            match job {
                Some(job) => self.carry_out(job).await,
                None => {
                    self.tell_clashes().await;
                    self.follow_health().await;
                    self.wait().await;
                }
            }
        }
        self.tell_crowd(true);
        self.tell_last().await;
        self.release_claim().await;
    }

    /// Claims, deploys once, gives the claim up. The error is how it ended.
    pub(super) async fn once(mut self) -> Result<(), String> {
        if !self.hold_claim_once().await? {
            self.release_claim().await;
            return Err("stopped before anything was written".to_owned());
        }
        if let Some(job) = self.next() {
            self.carry_out(job).await;
            self.tell_clashes().await;
        }
        self.finish_builds().await;
        let stopped = self.stopping();
        self.tell_crowd(true);
        self.tell_last().await;
        self.release_claim().await;
        match self.told {
            _ if stopped => Err("stopped before the end; the next deployment goes on".to_owned()),
            Some((_, Outcome::Failed(failure))) => Err(format!("{} failed: {failure}", failure.stage)),
            Some((_, Outcome::Deployed | Outcome::Unchanged)) => Ok(()),
            Some((commit, outcome)) => Err(format!("{}: {}", commit.short(), outcome.as_str())),
            None if self.wanted.borrow().head.is_some() => Err("what it needs can't be asked about now".to_owned()),
            None => Err("nothing was deployed: the branch is missing".to_owned()),
        }
    }

    /// Sleeps until something may have changed.
    async fn wait(&mut self) {
        let suspended = self.wanted.borrow().definition.spec.suspend;
        let at = self
            .course
            .wake_at(suspended)
            .into_iter()
            .chain(self.untold.wake_at())
            .chain(self.drifts.wake_at())
            .chain(self.health.wake_at())
            .chain(self.missing.untold)
            .chain(self.beside_untold)
            .min();
        let timer = async move {
            match at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        self.tell_rest();
        let event = async {
            tokio::select! {
                _ = self.wanted.changed() => {}
                _ = self.parents.changed() => {}
                _ = self.peers.changed() => {}
                _ = self.changes.changed() => {}
                () = self.health.looked() => {}
                () = self.builds.ends() => {}
                _ = self.stop.changed() => {}
                () = timer => {}
            }
        };
        self.reconciler.pulse.idle("waiting for events", event).await;
    }

    /// Takes a new definition in.
    fn take_definition(&mut self, definition: Arc<Definition>) {
        if definition == self.reconciler.definition {
            return;
        }
        let spec = &definition.spec;
        self.reconciler = self.reconciler.redefined(Arc::clone(&definition));
        self.reconciler.shared.telemetry.metrics.waits_anew(&self.reconciler.name);
        self.course.redefined(spec.resync.get());
        self.health.rollout.redefined(spec.timeout.get());
        self.look_again();
    }

    /// Decides what is to be done.
    fn next(&mut self) -> Option<Job> {
        let wanted = self.wanted.borrow_and_update().clone();
        self.take_definition(Arc::clone(&wanted.definition));
        self.peers.mark_unchanged();
        let seen = Seen {
            now: Instant::now(),
            head: wanted.head,
            broken: wanted.broken.as_ref().map(|(commit, _)| *commit),
            suspended: wanted.definition.spec.suspend,
            approved: self.reconciler.confirmed_prune(),
            peers: self.changes_beside(),
            drift: self.drift_is_seen(),
        };
        let job = self.course.next(&seen, jitter());
        if seen.head.is_none() {
            self.cancel_outdated_builds();
        }
        job
    }

    /// How often the other environments changed what they ask for.
    fn changes_beside(&self) -> u64 {
        self.reconciler.shared.peers.changes_beside(&self.reconciler.name)
    }

    async fn carry_out(&mut self, job: Job) {
        self.looked_beside.take_if(|_| job != Job::Heal);
        match job {
            Job::Commit(commit) => self.bring(commit, Mode::Commit).await,
            Job::Restore(commit) => self.bring(commit, Mode::Restore).await,
            Job::Resync(commit) => {
                debug!(environment = %self.reconciler.name, "resync");
                self.resync_owed = true;
                self.bring(commit, Mode::Restore).await;
            }
            Job::Look(target) => self.look_at_target(target).await,
            Job::Heal => self.heal().await,
            Job::Broken(commit) => self.tell_broken(commit).await,
            Job::Suspended(commit) => {
                self.cancel_builds();
                let store = self.wanted.borrow().store.clone();
                // What it asks for is still its own: its neighbours must know.
                if let Err(failure) = self.reconciler.claim_only(&store, commit).await {
                    debug!(environment = %self.reconciler.name, reason = %failure, "suspended at a head that can't be rendered");
                    self.course.not_claimed(&failure, Instant::now(), jitter());
                }
                self.tell_suspended(commit).await;
                if let Some(target) = self.course.target().filter(|_| !self.reconciler.has_target()) {
                    self.look_at_target(target).await;
                }
            }
        }
    }
}
