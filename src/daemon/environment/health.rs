//! What an environment's task does about health: it sees changes, tells people, and has somebody look into what is not ready. None of it is waited for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::Task;
use crate::cluster::events::{self, Regarding};
use crate::daemon::rollout::{End, Rollout, Step, Subject, Telling};
use crate::health::environment::{Finding, Verdict, Word};
use crate::model::{CommitId, Deployment};
use crate::report::health::{self as report, Rolled};

/// A look into objects may take this long: a failure is told when it has ended.
const LOOK_WITHIN: Duration = Duration::from_secs(15);
/// Many changes at once are seen together: the summary goes over all objects.
const TOGETHER: Duration = Duration::from_millis(100);

/// What a task knows of its environment's health.
pub(super) struct Health {
    pub(super) rollout: Rollout,
    /// When the passing of time alone may change it, in seconds since the epoch.
    turns_at: Option<i64>,
    /// When the objects were last gone over, and when that is to be done again for what changed too soon after.
    seen_at: Option<Instant>,
    again_at: Option<Instant>,
    looks: JoinSet<(Subject, Vec<Finding>)>,
}

impl Health {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            rollout: Rollout::new(timeout, Instant::now()),
            turns_at: None,
            seen_at: None,
            again_at: None,
            looks: JoinSet::new(),
        }
    }

    /// When there is something to do although nothing else is seen.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let now = Instant::now();
        let turns = self.turns_at.map(|at| {
            let left = u64::try_from(at - chrono::Utc::now().timestamp()).unwrap_or(0);
            now + Duration::from_secs(left.min(86_400))
        });
        [self.rollout.wake_at(now), self.again_at.or(turns)].into_iter().flatten().min()
    }

    /// Waits until a look has ended; for ever if none is under way.
    pub(super) async fn looked(&mut self) {
        match self.looks.join_next().await {
            Some(Ok((subject, findings))) => self.rollout.looked(subject, findings),
            Some(Err(error)) => warn!(%error, "a look into what is not ready ended early"),
            None => std::future::pending().await,
        }
    }
}

impl Task {
    /// A commit was deployed, as far as it could be.
    pub(super) fn health_after(&mut self, deployment: &Deployment) {
        let wrote = deployment.applied > 0 || deployment.pruned > 0;
        self.rollout_of(deployment.commit, wrote);
        self.see_health();
    }

    fn rollout_of(&mut self, commit: CommitId, wrote: bool) {
        let environment = self.reconciler.shared.parents.get(&self.reconciler.name);
        let status = environment.as_ref().and_then(|environment| environment.status.as_ref());
        let failed = status.is_some_and(|status| report::rollout_failed(status, commit));
        self.health.rollout.deployed(commit, wrote, failed, Instant::now());
    }

    fn see_health(&mut self) {
        self.health.seen_at = Some(Instant::now());
        let Some((commit, summary)) = self.reconciler.health(chrono::Utc::now().timestamp()) else { return };
        if self.health.rollout.commit() != Some(commit) {
            self.rollout_of(commit, false); // Found as it was deployed before.
        }
        self.health.turns_at = summary.turns_at;
        self.health.rollout.saw(summary, Instant::now());
    }

    /// Sees what changed, and does what there is to be done about it: at most one write and one Event, and only if there is news.
    pub(super) async fn follow_health(&mut self) {
        self.health.again_at = self.health.seen_at.map(|at| at + TOGETHER).filter(|at| *at > Instant::now());
        if self.health.again_at.is_none() && self.health_changed() {
            self.see_health();
        }
        while let Some(step) = self.health.rollout.next(Instant::now()) {
            match step {
                Step::Look(subject) => self.look_into(subject),
                Step::Tell(telling) => self.tell_health(telling).await,
            }
        }
    }

    fn health_changed(&self) -> bool {
        let changed = self.reconciler.cluster.inventory.take_health_changed(&self.reconciler.part_of);
        let turned = self.health.turns_at.is_some_and(|at| at <= chrono::Utc::now().timestamp());
        changed || turned || self.health.rollout.commit().is_none()
    }

    fn look_into(&mut self, subject: Subject) {
        let reconciler = self.reconciler.clone();
        self.health.looks.spawn(async move {
            let look = reconciler.look_into(&subject.keys, chrono::Utc::now().timestamp());
            let findings = tokio::time::timeout(LOOK_WITHIN, look).await;
            let findings = findings.inspect_err(|_| debug!(environment = %reconciler.name, "a look took too long"));
            (subject, findings.unwrap_or_default())
        });
    }

    async fn tell_health(&mut self, telling: Telling) {
        let Telling { commit, word, object, turned, took, ended } = telling;
        let (shared, name) = (Arc::clone(&self.reconciler.shared), Arc::clone(&self.reconciler.name));
        let failed = ended == Some(End::TimedOut);
        if turned {
            report::log(&name, commit, &word, object.as_ref(), took, failed);
        }
        let rolled = ended.map(|_| Rolled { commit, took, failed });
        let metrics = &shared.telemetry.metrics;
        metrics.health(&name, word.verdict == Verdict::Healthy); // Whether or not the status can say so.
        match self.write_health(&word, rolled.as_ref()).await {
            true => {
                rolled.iter().for_each(|rolled| metrics.rolled_out(&name, !rolled.failed, rolled.took));
                self.health.rollout.told(word.clone(), ended, Instant::now());
            }
            false => self.health.rollout.untold(Instant::now()),
        }
        if turned {
            let uid = shared.parents.get(&name).and_then(|environment| environment.metadata.uid.clone());
            let about = Regarding::environment(&name, uid.as_deref());
            let event = report::event(commit, &word, failed);
            let posted = events::post(&self.reconciler.cluster.caller, &about, &event, &shared.instance.name).await;
            posted.unwrap_or_else(|error| warn!(environment = %name, %error, "the Event could not be posted"));
        }
    }

    /// Brings the status up to date, at no request when it says so already. False: it could not be written.
    async fn write_health(&mut self, word: &Word, rolled: Option<&Rolled>) -> bool {
        // The end of a rollout belongs to an entry of the history, which must be there.
        if !self.write_untold().await {
            return false;
        }
        let (shared, name) = (&self.reconciler.shared, &self.reconciler.name);
        let Some(environment) = shared.parents.get(name) else { return false };
        let last = environment.status.clone().unwrap_or_default();
        let status = report::status(&last, word, rolled, environment.metadata.generation, chrono::Utc::now());
        if status == last {
            return true;
        }
        let written = self.write_status(&status).await;
        if let Err(error) = &written {
            debug!(environment = %self.reconciler.name, %error, "the status could not be written; trying again");
        }
        written.is_ok()
    }
}
