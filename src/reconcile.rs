//! One environment, one commit: the steps from git to the cluster.
//!
//! [`Reconciler::prepare`] goes through the gates without a write, [`Reconciler::deploy`] writes. Between the two lies the decision, made in
//! [`crate::daemon`], whether this commit takes the place of the one before it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch as channel;
use tracing::debug;

use crate::cluster::discovery::Known;
use crate::cluster::execute::Done;
use crate::cluster::gates::Gated;
use crate::cluster::standing::Strangers;
use crate::drift::fingerprint::Found;
use crate::model::marks::confirmed_prune;
use crate::model::{CommitId, Deployment, Desired, Failure, Outcome, Stage};
use crate::plan::{Clash, Planned, Reason};
use crate::source::Store;

pub mod additions;
mod clock;
pub mod collection;
mod deployed;
pub mod heal;
mod health;
pub mod images;
mod jobs;
mod look;
mod memory;
mod own;
pub mod peers;
pub mod removal;
pub mod survey;
mod write;

use clock::Clock;
pub use clock::Refused;
use deployed::Stood;
use images::Lacking;
use look::accepted;
pub use memory::{Reconciler, Shared};

/// How long a commit waits for what the other environments ask for, where their objects could be the same.
const PEERS_WITHIN: Duration = Duration::from_secs(5);

/// How strictly a commit is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A new commit: one refusal and nothing of it is applied.
    Commit,
    /// A first sync, a restart, a resync, a retry of what passed already: object by object, each fails alone.
    Restore,
}

/// How a commit is planned.
#[derive(Debug, Clone, Copy)]
struct How {
    mode: Mode,
    confirmed: Option<CommitId>,
    /// It passed its gates before.
    taken: bool,
}

/// What the gates said.
pub enum Verdict {
    /// It may be deployed.
    Passed(Box<Prepared>),
    /// Nothing that this environment reads changed, and all of it stands.
    Unchanged,
    /// It may, once these images stand.
    Lacks(Lacking),
}

/// A commit that passed its gates.
pub struct Prepared {
    /// What it asks for.
    pub desired: Arc<Desired>,
    /// What is to be done.
    pub gated: Gated,
    how: How,
    known: Known,
    strangers: Strangers,
    /// What of it does not stand any more, if it was deployed before.
    pub drifted: Vec<Found>,
    /// What of it was deployed before, as far as only the status tells.
    stood: Stood,
    stages: Vec<(Stage, Duration)>,
}

impl Prepared {
    /// Its images had to be built first.
    pub fn built_in(&mut self, took: Duration) {
        self.stages.push((Stage::Build, took));
    }
}

impl Reconciler {
    /// The gates, and whether the images of what passed them stand.
    pub async fn gates(
        &self,
        store: &Store,
        commit: CommitId,
        mode: Mode,
        confirmed: Option<CommitId>,
    ) -> Result<Verdict, Refused> {
        let mut clock = Clock::start();
        let verdict = match self.prepare_in(store, commit, mode, confirmed, &mut clock).await {
            Ok(Verdict::Passed(prepared)) => self.with_images(prepared, mode).await,
            other => other,
        };
        verdict.map_err(|failure| clock.refused(failure))
    }

    async fn with_images(&self, prepared: Box<Prepared>, mode: Mode) -> Result<Verdict, Failure> {
        match self.lacking(&prepared.desired).await {
            Ok(Some(lacking)) => Ok(Verdict::Lacks(lacking)),
            Ok(None) => Ok(Verdict::Passed(prepared)),
            // What was deployed had its images: that nobody can be asked about them now does not keep drift from being put back.
            Err(failure)
                if failure.transient
                    && mode == Mode::Restore
                    && self.deployed_target() == Some(prepared.desired.commit) =>
            {
                debug!(environment = %self.name, reason = %failure, "the builder can't be asked; its images are taken to stand");
                Ok(Verdict::Passed(prepared))
            }
            Err(failure) => Err(failure),
        }
    }

    /// The gates, none of which writes.
    pub async fn prepare(
        &self,
        store: &Store,
        commit: CommitId,
        mode: Mode,
        confirmed: Option<CommitId>,
    ) -> Result<Verdict, Failure> {
        self.prepare_in(store, commit, mode, confirmed, &mut Clock::start()).await
    }

    async fn prepare_in(
        &self,
        store: &Store,
        commit: CommitId,
        mode: Mode,
        confirmed: Option<CommitId>,
        clock: &mut Clock,
    ) -> Result<Verdict, Failure> {
        if mode == Mode::Commit {
            self.check_own_definition(store, commit).await?;
        }
        let known = self.discover().await?;
        let rendered = self.render(store, commit, &known).await;
        let desired = rendered.inspect_err(|failure| self.not_rendered(commit, mode, failure))?;
        self.claim(&desired, mode); // Nothing that a registry says of images changes it.
        let desired = self.pinned(desired, &known).await?;
        if mode == Mode::Commit && self.memory().settled == Some(desired.digest()) {
            self.remember_same(commit);
            return Ok(Verdict::Unchanged);
        }
        let (desired, known) = self.discover_unknown(store, desired, known).await?;
        clock.lap(Stage::Render);
        self.claim(&desired, mode);
        self.shared.peers.rendered(&self.name, PEERS_WITHIN).await;
        self.watch_kinds(&desired, &known).await?;
        let how = How { mode, confirmed, taken: self.has_passed(commit) };
        let (strangers, planned) = self.look_and_plan(store, &desired, &known, how).await?;
        clock.lap(Stage::Plan);
        let plan = accepted(planned)?;
        let former = self.former(store, commit, &known).await;
        let gated =
            self.dry_run(plan, &known, &former, mode).await.inspect_err(|_| self.memory().namespaces.clear())?;
        clock.lap(Stage::DryRun);
        let stood = self.stood(&desired, &former);
        let (desired, drifted) = (Arc::new(desired), heal::drifted(&gated, &strangers, &self.manager));
        let stages = clock.laps.clone();
        let mut prepared = Box::new(Prepared { desired, gated, how, known, strangers, drifted, stood, stages });
        if !self.definition.spec.self_heal {
            prepared.leave_drifted();
        }
        Ok(Verdict::Passed(prepared))
    }

    /// What a commit would do, for people: also when it is refused, or asks first.
    pub async fn preview(
        &self,
        store: &Store,
        commit: CommitId,
        confirmed: Option<CommitId>,
    ) -> Result<Planned, Failure> {
        self.check_own_definition(store, commit).await?;
        let known = self.discover().await?;
        let desired = self.pinned(self.render(store, commit, &known).await?, &known).await?;
        let (desired, known) = self.discover_unknown(store, desired, known).await?;
        self.watch_kinds(&desired, &known).await?;
        let how = How { mode: Mode::Commit, confirmed, taken: false };
        match self.look_and_plan(store, &desired, &known, how).await? {
            (_, Planned::Ready(plan)) => {
                let former = self.former(store, commit, &known).await;
                Ok(Planned::Ready(self.dry_run(plan, &known, &former, Mode::Commit).await?.plan))
            }
            (_, other) => Ok(other),
        }
    }

    /// What the head asks for is told to the others. Restoring an older commit claims nothing, unless nothing is known yet.
    fn claim(&self, desired: &Desired, mode: Mode) {
        if self.tells(desired.commit, mode) {
            self.shared.peers.claims(&self.definition, desired);
        }
    }

    /// A head that can't be rendered asks for what was asked for before. A failure that may pass by itself says nothing: it is tried again, and until then
    /// nobody knows.
    fn not_rendered(&self, commit: CommitId, mode: Mode, failure: &Failure) {
        if !failure.transient && self.tells(commit, mode) {
            self.shared.peers.not_rendered(&self.definition, commit);
        }
    }

    /// Whether a render of this commit tells the others anything.
    fn tells(&self, commit: CommitId, mode: Mode) -> bool {
        let peers = &self.shared.peers;
        mode == Mode::Commit || peers.wants(&self.definition, commit) || !peers.has_claims(&self.name)
    }

    /// Who else claims what this environment has, and the commit that it has it of. `None`: nothing was deployed in this life.
    pub fn clashes(&self) -> Option<(CommitId, Vec<Clash>)> {
        let memory = self.memory();
        let target = memory.target.as_ref()?;
        let has = target.objects.iter().filter(|manifest| memory.has_written(manifest)).map(|manifest| &manifest.key);
        Some((target.commit, self.shared.peers.seen_from(&self.name).clashes(has)))
    }

    /// Renders a commit for what it claims alone: a verb that plans one environment must know what the others ask for.
    pub async fn claim_only(&self, store: &Store, commit: CommitId) -> Result<(), Failure> {
        let known = self.discover().await?;
        let rendered = self.render(store, commit, &known).await;
        let desired = rendered.inspect_err(|failure| self.not_rendered(commit, Mode::Commit, failure))?;
        self.shared.peers.claims(&self.definition, &desired);
        Ok(())
    }

    /// The approval of deletions that stands on the Environment.
    pub fn confirmed_prune(&self) -> Option<CommitId> {
        confirmed_prune(&*self.shared.parents.get(&self.name)?)
    }

    /// The writes. True beside the deployment: it was stopped before the end.
    pub async fn deploy(&self, prepared: &Prepared, stop: &channel::Receiver<bool>) -> (Deployment, bool) {
        let mut clock = Clock::after(&prepared.stages);
        {
            let mut memory = self.memory();
            (memory.settled, memory.target) = (None, Some(Arc::clone(&prepared.desired)));
            memory.held = Some(Arc::clone(&self.definition));
            memory.same.take_if(|(_, same)| *same != prepared.desired.commit);
            let left =
                prepared.gated.plan.steps.iter().filter(|step| step.reason == Reason::Drifted && !step.action.writes());
            memory.leave(&prepared.desired, left.filter_map(|step| step.manifest.as_ref()));
        }
        self.use_images(&prepared.desired);
        let mut done = Done::default();
        let ended = self.carry_out(prepared, stop, &mut done, &mut clock).await;
        if let Err(failure) = &ended {
            clock.lap(failure.stage);
        }
        self.memory().note_lost(done.failures.iter().chain(ended.as_ref().err()));
        let failure = ended.err().or_else(|| Failure::first_of(std::mem::take(&mut done.failures)));
        let outcome = failure.map_or(Outcome::Deployed, Outcome::Failed);
        let settled = outcome == Outcome::Deployed && !done.stopped;
        let mut memory = self.memory();
        memory.settled = settled.then(|| prepared.desired.digest());
        let lacking = prepared.desired.objects.iter().filter(|manifest| !memory.has_written(manifest));
        let lacking = lacking.map(|manifest| manifest.key.clone()).collect();
        if settled {
            memory.jobs.only(&prepared.desired);
        }
        drop(memory);
        (clock.deployment(prepared, &done, outcome, lacking), done.stopped)
    }

    async fn carry_out(
        &self,
        prepared: &Prepared,
        stop: &channel::Receiver<bool>,
        done: &mut Done,
        clock: &mut Clock,
    ) -> Result<(), Failure> {
        self.widen_reach(&prepared.desired).await?;
        // That somebody deleted it is drift like any other: it is made for what is written.
        if self.definition.spec.self_heal || prepared.gated.plan.steps.iter().any(|step| step.action.writes()) {
            self.make_namespace().await?;
        }
        self.pulse.step(format!("applying {}", prepared.desired.commit.short()));
        self.apply(&prepared.gated, stop, done).await;
        // Kinds that this very commit defined are watched from now on.
        self.watched_kinds(&prepared.desired, &self.cluster.discovered.known());
        clock.lap(Stage::Apply);
        if done.stopped || !done.failures.is_empty() {
            return Ok(());
        }
        self.prune(prepared, stop, done).await?;
        self.shrink_reach(&prepared.desired, done).await?;
        clock.lap(Stage::Prune);
        Ok(())
    }
}
