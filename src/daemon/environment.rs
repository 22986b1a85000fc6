//! One environment's task: claims the Environment, then brings one commit after the other to the cluster.
//!
//! A newer head goes through its gates while the older commit is still being written, and stops it only once it has passed them.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::watch as channel;
use tracing::{debug, info};

use super::Settings;
use super::schedule::Schedule;
use crate::cluster::parent::Known;
use crate::model::environment::EnvironmentStatus;
use crate::model::{CommitId, Deployment, Failure, Outcome, Stage};
use crate::reconcile::{Mode, Prepared, Reconciler, Shared, Verdict};
use crate::render::Definition;
use crate::source::Store;

mod claim;
mod tell;

/// What an environment should be, as the newest definitions and heads say.
#[derive(Clone)]
pub(super) struct Wanted {
    /// Its definition.
    pub(super) definition: Arc<Definition>,
    /// The head of its branch; `None`: there is no such branch.
    pub(super) head: Option<CommitId>,
    /// Where to read it.
    pub(super) store: Store,
    /// The newest definition is not valid: the commit of the configuration branch, and why. The one before stays in force.
    pub(super) broken: Option<(CommitId, Failure)>,
}

impl Wanted {
    pub(super) fn same_as(&self, other: &Self) -> bool {
        self.head == other.head && self.definition == other.definition && self.broken == other.broken
    }
}

/// What is to be done next.
enum Job {
    /// A head that was not tried yet, or failed its gates for a reason that may have passed.
    Commit(CommitId),
    /// The target again, object by object: after a start, a failed write, or at a resync.
    Restore(CommitId),
    /// The newest definition is not valid.
    Broken(CommitId, Failure),
    /// The environment is suspended at this head.
    Suspended(CommitId),
}

/// The task of one environment.
pub(super) struct Task {
    reconciler: Reconciler,
    settings: Settings,
    wanted: channel::Receiver<Wanted>,
    parents: channel::Receiver<Known>,
    stop: channel::Receiver<bool>,
    schedule: Schedule,
    /// The head that last went through the gates, well or not.
    tried: Option<CommitId>,
    /// The commit that last passed the gates: what is restored.
    target: Option<CommitId>,
    /// How the last commit ended, so that the same is not told twice.
    told: Option<(CommitId, Outcome)>,
    /// The approval that was seen last.
    confirmed: Option<CommitId>,
    /// A branch that is gone was told.
    told_gone: bool,
    /// What the other environments ask for, and its state when this one was last planned.
    peers: channel::Receiver<u64>,
    planned_at: u64,
    /// The claim was held once in this life.
    started: bool,
    /// The status that was written last.
    status: Option<EnvironmentStatus>,
    /// Why the claim is not held, as it was told last.
    held_by: Option<String>,
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
        let schedule = Schedule::new(definition.spec.resync.get());
        let reconciler = Reconciler::new(shared, definition);
        Self {
            reconciler,
            settings,
            wanted,
            parents,
            stop,
            schedule,
            tried: None,
            target: None,
            told: None,
            confirmed: None,
            told_gone: false,
            peers,
            planned_at: 0,
            started: false,
            status: None,
            held_by: None,
        }
    }

    fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Works until it is stopped.
    pub(super) async fn run(mut self) {
        while !self.stopping() {
            if !self.hold_claim().await {
                continue; // It waited for a change.
            }
            match self.next() {
                Some(Job::Commit(commit)) => self.commit(commit).await,
                Some(Job::Restore(commit)) => self.restore(commit).await,
                Some(Job::Broken(commit, failure)) => self.tell_failure(commit, failure).await,
                Some(Job::Suspended(commit)) => self.tell_suspended(commit).await,
                None => self.wait().await,
            }
        }
        self.release_claim().await;
    }

    /// Claims, deploys once, gives the claim up. The error is how it ended.
    pub(super) async fn once(mut self) -> Result<(), String> {
        if !self.hold_claim_once().await? {
            return Err("stopped before anything was written".to_owned());
        }
        match self.next() {
            Some(Job::Commit(commit)) => self.commit(commit).await,
            Some(Job::Restore(commit)) => self.restore(commit).await,
            _ => {}
        }
        self.release_claim().await;
        match self.told {
            Some((_, Outcome::Failed(failure))) => Err(format!("{} failed: {failure}", failure.stage)),
            Some((_, Outcome::Deployed | Outcome::Unchanged)) => Ok(()),
            Some((commit, outcome)) => Err(format!("{}: {}", commit.short(), outcome.as_str())),
            None => Err("nothing was deployed: the environment is suspended, or its branch is missing".to_owned()),
        }
    }

    /// Sleeps until something may have changed.
    async fn wait(&mut self) {
        tokio::select! {
            _ = self.wanted.changed() => {}
            _ = self.parents.changed() => {}
            _ = self.peers.changed() => {}
            _ = self.stop.changed() => {}
            () = self.schedule.due() => {}
        }
    }

    /// Decides from the newest state what is to be done.
    fn next(&mut self) -> Option<Job> {
        let wanted = self.wanted.borrow_and_update().clone();
        if wanted.definition != self.reconciler.definition {
            self.reconciler = self.reconciler.redefined(Arc::clone(&wanted.definition));
            self.reconciler.shared.peers.enter(&self.reconciler.name, &wanted.definition.spec);
            self.schedule.resynced(wanted.definition.spec.resync.get());
            self.tried = None;
        }
        if let Some((commit, failure)) = wanted.broken {
            let told = self.told.as_ref().is_some_and(|(told, _)| *told == commit);
            if !told {
                return Some(Job::Broken(commit, failure));
            }
        }
        let Some(head) = wanted.head else {
            self.tell_gone(&wanted.definition.spec.branch);
            return self.due();
        };
        self.told_gone = false;
        if wanted.definition.spec.suspend {
            let news = self.tried != Some(head);
            return news.then_some(Job::Suspended(head));
        }
        let approved = self.reconciler.confirmed_prune();
        let approval = approved == Some(head) && self.confirmed != approved;
        self.confirmed = approved;
        if self.tried == Some(head) && !approval {
            return if self.freed() { Some(self.again(head)) } else { self.due() };
        }
        // A first sync has nothing to protect; a restart with the same head has passed the gates before.
        let same = self.tried.is_none() && self.target.is_none_or(|target| target == head);
        Some(if same { Job::Restore(head) } else { Job::Commit(head) })
    }

    /// Whether the head was refused by the plan, and other environments have changed what they ask for since: it may have been for one of theirs.
    fn freed(&mut self) -> bool {
        let asked = *self.peers.borrow_and_update();
        let refused = |outcome: &Outcome| matches!(outcome, Outcome::Failed(failure) if failure.stage == Stage::Plan);
        asked != self.planned_at && self.told.as_ref().is_some_and(|(_, outcome)| refused(outcome))
    }

    /// What is tried again: the head if it is not the target yet, else the target object by object.
    fn again(&self, head: CommitId) -> Job {
        if self.target == Some(head) { Job::Restore(head) } else { Job::Commit(head) }
    }

    /// What a timer asks for.
    fn due(&mut self) -> Option<Job> {
        let resync = self.reconciler.definition.spec.resync.get();
        if self.schedule.resync_due() {
            self.schedule.resynced(resync);
            self.reconciler.forget();
            debug!(environment = %self.reconciler.name, "resync");
            return self.target.map(Job::Restore);
        }
        if !self.schedule.retry_due() || self.reconciler.definition.spec.suspend {
            return None;
        }
        // The one that ended last is the one that set the timer.
        let restoring = self.target.is_some() && self.told.as_ref().map(|(told, _)| *told) == self.target;
        match self.tried.filter(|_| !restoring) {
            Some(tried) => Some(self.again(tried)),
            None => self.target.map(Job::Restore),
        }
    }

    /// Takes a head through the gates, and deploys it if it passes.
    async fn commit(&mut self, commit: CommitId) {
        let first = self.tried.is_none();
        let former = self.tried.replace(commit);
        self.tell_rewind(former, commit);
        match self.prepare(commit, Mode::Commit).await {
            None => {}
            Some(Ok(Verdict::Unchanged)) => self.unchanged(commit),
            Some(Ok(Verdict::Passed(prepared))) => self.deploy(prepared).await,
            Some(Err(failure)) => {
                self.tell_failure(commit, failure).await;
                // A start on a bad head: what stood before it is restored.
                if let Some(target) = self.target.filter(|_| first) {
                    info!(environment = %self.reconciler.name, commit = %target.short(), "the head can't be deployed; restoring the commit before it");
                    self.restore(target).await;
                }
            }
        }
    }

    /// Applies a commit object by object.
    async fn restore(&mut self, commit: CommitId) {
        self.tried.get_or_insert(commit);
        match self.prepare(commit, Mode::Restore).await {
            None => {}
            Some(Ok(Verdict::Unchanged)) => self.unchanged(commit),
            Some(Ok(Verdict::Passed(prepared))) => self.deploy(prepared).await,
            Some(Err(failure)) => self.tell_failure(commit, failure).await,
        }
    }

    fn unchanged(&mut self, commit: CommitId) {
        self.target = Some(commit);
        self.schedule.settle();
        info!(environment = %self.reconciler.name, commit = %commit.short(), "unchanged");
    }

    /// The gates; `None` when plumb stops meanwhile.
    async fn prepare(&mut self, commit: CommitId, mode: Mode) -> Option<Result<Verdict, Failure>> {
        let store = self.wanted.borrow().store.clone();
        let mut stop = self.stop.clone();
        self.planned_at = *self.reconciler.shared.peers.subscribe().borrow();
        tokio::select! {
            verdict = self.reconciler.prepare(&store, commit, mode, self.confirmed) => Some(verdict),
            _ = stop.wait_for(|stop| *stop) => None,
        }
    }

    /// Writes a commit that passed; takes newer heads through the gates meanwhile, and goes on with the one that passes.
    async fn deploy(&mut self, prepared: Box<Prepared>) {
        let mut current = prepared;
        loop {
            let commit = current.desired.commit;
            self.target = Some(commit);
            let Written { mut deployment, stopped, newer } = self.write(&current).await;
            match newer {
                Some(newer) if stopped => deployment.outcome = Outcome::SupersededBy(newer),
                None if stopped => {
                    let (environment, applied) = (&self.reconciler.name, deployment.applied);
                    return info!(%environment, commit = %commit.short(), applied, "stopped before the end; the next start goes on");
                }
                _ => self.settle_or_back_off(&deployment),
            }
            self.tell(deployment).await;
            let Some(newer) = newer else { return };
            // What the older commit wrote changes the plan: decided anew.
            match self.prepare(newer, Mode::Commit).await {
                Some(Ok(Verdict::Passed(next))) => current = next,
                Some(Ok(Verdict::Unchanged)) => return self.unchanged(newer),
                Some(Err(failure)) => return self.tell_failure(newer, failure).await,
                None => return,
            }
        }
    }

    /// Writes until the end, or until a newer head has passed its gates: then that head is named. A newer head that is refused is told, and the older
    /// commit goes on.
    async fn write(&mut self, prepared: &Prepared) -> Written {
        let reconciler = self.reconciler.clone();
        let (halt, halted) = channel::channel(false);
        let mut writing = std::pin::pin!(reconciler.deploy(prepared, &halted));
        let mut newest = self.wanted.clone();
        let mut gating = FuturesUnordered::new();
        let mut newer = None;
        loop {
            tokio::select! {
                (deployment, stopped) = &mut writing => return Written { deployment, stopped, newer },
                changed = newest.changed(), if gating.is_empty() && newer.is_none() => {
                    let Wanted { definition, head, store, .. } = newest.borrow_and_update().clone();
                    let same_definition = changed.is_ok() && definition == reconciler.definition;
                    if let Some(head) = head.filter(|head| same_definition && self.tried != Some(*head)) {
                        let (reconciler, confirmed) = (reconciler.clone(), self.confirmed);
                        gating.push(async move { (head, reconciler.prepare(&store, head, Mode::Commit, confirmed).await) });
                    }
                }
                Some((head, verdict)) = gating.next() => {
                    self.tried = Some(head);
                    match verdict {
                        Ok(_) => {
                            newer = Some(head);
                            halt.send_replace(true);
                        }
                        Err(failure) => {
                            // The writes go on meanwhile: they hold the places in the limiter that telling waits for.
                            let mut telling = std::pin::pin!(self.tell_failure(head, failure));
                            tokio::select! {
                                () = &mut telling => {}
                                (deployment, stopped) = &mut writing => {
                                    telling.await;
                                    return Written { deployment, stopped, newer };
                                }
                            }
                        }
                    }
                }
                _ = self.stop.changed() => { halt.send_replace(true); }
            }
        }
    }
}

/// How the writes of a commit ended.
struct Written {
    deployment: Deployment,
    /// Before the end.
    stopped: bool,
    /// The head that has passed its gates meanwhile.
    newer: Option<CommitId>,
}
