//! What an environment's task tells: the log line, the status and the Event of an ended commit, each once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::Task;
use crate::cluster::ClusterError;
use crate::cluster::events::{self, Regarding};
use crate::cluster::parent::Parent;
use crate::health::environment::Verdict;
use crate::model::environment::EnvironmentStatus;
use crate::model::{CommitId, Deployment, Outcome, Stage};
use crate::reconcile::{Prepared, Reconciler, Refused};
use crate::report;

/// How long a status that could not be written waits for its next try.
pub(super) const TELL_AGAIN: Duration = Duration::from_secs(5);

/// How long a stop waits for the status of what has ended.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl Task {
    /// A commit was refused before anything of it was written.
    pub(super) async fn tell_refused(&mut self, commit: CommitId, refused: Refused) {
        self.tell_ended(commit, Outcome::Failed(refused.failure), refused.stages).await;
    }

    /// The definition is not valid, since this commit of the configuration branch.
    pub(super) async fn tell_broken(&mut self, commit: CommitId) {
        let Some((_, failure)) = self.wanted.borrow().broken.clone() else { return };
        // It is a commit of the configuration branch, and no end of one of this branch: how the last of those ended is still told.
        let told = self.told.take();
        self.tell_refused(commit, failure.into()).await;
        (self.told, self.broken_told) = (told, true);
        self.course.broken_is_told(Some(commit));
    }

    /// The environment is suspended at this head.
    pub(super) async fn tell_suspended(&mut self, commit: CommitId) {
        self.tell_ended(commit, Outcome::Suspended, Vec::new()).await;
    }

    /// A commit ended without a write.
    pub(super) async fn tell_ended(&mut self, commit: CommitId, outcome: Outcome, stages: Vec<(Stage, Duration)>) {
        let (objects, applied, unchanged, pruned, lacking) = (0, 0, 0, 0, None);
        let took = stages.iter().map(|(_, took)| *took).sum();
        self.tell(Deployment { commit, outcome, objects, applied, unchanged, pruned, lacking, took, stages }).await;
    }

    /// A head that does not contain the one before it was moved by force. Looked up beside the work, for the log alone.
    pub(super) fn tell_rewind(&self, former: Option<CommitId>, commit: CommitId) {
        let Some(former) = former.filter(|former| *former != commit) else { return };
        let wanted = self.wanted.borrow();
        let (store, branch, name) =
            (wanted.store.clone(), wanted.definition.spec.branch.clone(), Arc::clone(&self.reconciler.name));
        tokio::task::spawn_blocking(move || {
            if matches!(store.is_ancestor(former, commit), Ok(false)) {
                report::log::rewind(&name, &branch, former, commit);
            }
        });
    }

    /// Tells how a commit ended: log, status, Event. The same end of the same commit is told once.
    pub(super) async fn tell(&mut self, deployment: Deployment) {
        self.open.retain(|open| *open != deployment.commit);
        self.tell_overtaken().await; // Before it: the condition says how the last one ended.
        self.tell_one(deployment).await;
    }

    pub(super) async fn tell_one(&mut self, deployment: Deployment) {
        let told = (deployment.commit, deployment.outcome.clone());
        let broken = self.wanted.borrow().broken.as_ref().map(|(broken, _)| *broken);
        let repaired = self.broken_told && broken.is_none();
        let stale = repaired || self.missing.told || self.passed_under_another();
        if self.told.as_ref() == Some(&told) && !stale {
            debug!(environment = %self.reconciler.name, commit = %deployment.commit.short(), "ended as before");
            return;
        }
        report::log::deployment(&self.reconciler.name, &deployment);
        let metrics = &self.reconciler.shared.telemetry.metrics;
        metrics.ended(&self.reconciler.name, &deployment.outcome, &deployment.stages);
        self.told = Some(told);
        match broken {
            // Whatever became of a commit, the newest definition is not valid.
            Some(broken) if broken != deployment.commit => self.course.broken_is_told(None),
            Some(_) => {}
            None => self.broken_told = false,
        }
        self.tell_cluster(deployment).await;
    }

    /// Whether the status says that the target passed its gates under another definition than it did.
    fn passed_under_another(&self) -> bool {
        let Some(environment) = self.reconciler.shared.parents.get(&self.reconciler.name) else { return false };
        let told = environment.status.as_ref().and_then(|status| status.target_definition.as_deref());
        self.course.holds() && told != Some(&*self.reconciler.definition.spec.digest())
    }

    /// The head waits no longer, if it has come to its end.
    pub(super) fn tell_rest(&self) {
        let (head, suspended) = {
            let wanted = self.wanted.borrow();
            (wanted.head, wanted.definition.spec.suspend)
        };
        let builds = head.is_some_and(|head| self.builds.is_for(head));
        if self.course.is_settled(head, suspended) && !builds {
            self.reconciler.shared.telemetry.metrics.at_rest(&self.reconciler.name, head);
        }
    }

    /// A commit passed its gates.
    pub(super) fn tell_notes(&mut self, prepared: &Prepared) {
        let news = self.notes.passed(&prepared.gated.plan);
        report::notes::log(&self.reconciler.name, prepared.desired.commit, &news);
    }

    /// Tells who else claims what this environment has, as soon as somebody does or does no more.
    pub(super) async fn tell_clashes(&mut self) {
        self.beside_untold.take_if(|at| *at <= Instant::now());
        let beside = self.changes_beside();
        let (shared, name) = (Arc::clone(&self.reconciler.shared), Arc::clone(&self.reconciler.name));
        let Some(environment) = shared.parents.get(&name).filter(|_| self.untold.is_empty() && self.is_held()) else {
            return;
        };
        if self.looked_beside == Some(beside) {
            return;
        }
        let Some((target, clashes)) = self.reconciler.clashes() else { return };
        self.looked_beside = Some(beside);
        report::notes::log(&name, target, &self.notes.claimed(&name, clashes));
        let Some(status) = environment.status.as_ref().and_then(|last| self.notes.beside(last, chrono::Utc::now()))
        else {
            return;
        };
        if let Err(error) = self.write_status(&status).await {
            debug!(environment = %name, %error, "who else claims what it has could not be written to the status; trying again");
            (self.looked_beside, self.beside_untold) = (None, Some(Instant::now() + TELL_AGAIN));
        }
    }

    /// Writes the status, and knows it from then on.
    pub(super) async fn write_status(&mut self, status: &EnvironmentStatus) -> Result<(), ClusterError> {
        let Reconciler { shared, cluster, name, .. } = &self.reconciler;
        let written = Parent { caller: &cluster.caller, name }.apply_status(status).await?;
        shared.parents.wrote(written);
        self.status = Some(status.clone());
        Ok(())
    }

    async fn tell_cluster(&mut self, deployment: Deployment) {
        self.untold.push(deployment, chrono::Utc::now());
        self.write_untold().await;
    }

    /// Tells the cluster what it could not be told before.
    pub(super) async fn tell_untold(&mut self) {
        if self.untold.wake_at().is_some_and(|at| at <= Instant::now()) {
            self.write_untold().await;
        }
    }

    /// The same before plumb stops, if the API server answers at once.
    pub(super) async fn tell_last(&mut self) {
        if !self.untold.is_empty() && self.is_held() {
            let told = tokio::time::timeout(LAST_WORDS, self.write_untold()).await;
            if told.is_err() {
                debug!(environment = %self.reconciler.name, "the last status was not written in time");
            }
        }
    }

    /// Brings all that is untold into the status by one write, in its order. False: it could not be written, and is tried again.
    pub(super) async fn write_untold(&mut self) -> bool {
        if self.untold.is_empty() {
            return true;
        }
        let (shared, name) = (Arc::clone(&self.reconciler.shared), Arc::clone(&self.reconciler.name));
        let Some(environment) = shared.parents.get(&name) else {
            self.untold.failed(Instant::now());
            return false;
        };
        let generation = environment.metadata.generation;
        let word = self.health.rollout.word(Instant::now());
        let target = self.course.target().map(|commit| report::status::Target {
            commit,
            definition: self.course.holds().then(|| self.reconciler.definition.spec.digest()),
        });
        let mut status = environment.status.clone().unwrap_or_default();
        if let Some(commit) = self.reconciler.stands_as(&status) {
            status.short_commit = Some(commit.short());
        }
        for (deployment, time) in self.untold.iter() {
            status = report::status::next(&status, deployment, target.as_ref(), word.as_ref(), generation, *time);
        }
        let status = self.notes.beside(&status, chrono::Utc::now()).unwrap_or(status);
        let drift = self.drift_standing();
        let status = report::status::drifted(&status, &drift, generation, chrono::Utc::now());
        if let Err(error) = self.write_status(&status).await {
            warn!(environment = %name, %error, "the status could not be written; trying again");
            self.untold.failed(Instant::now());
            return false;
        }
        self.drift_told(drift);
        self.missing.told = false;
        if let Some(word) = word {
            shared.telemetry.metrics.health(&name, word.verdict == Verdict::Healthy);
            self.health.rollout.told_with_deployment(word, Instant::now());
        }
        let about = Regarding::environment(&name, environment.metadata.uid.as_deref());
        for event in self.untold.take().filter_map(|deployment| report::event(&deployment)) {
            if let Err(error) = events::post(&shared.cluster.caller, &about, &event, &shared.instance.name).await {
                warn!(environment = %name, %error, "the Event could not be posted");
            }
        }
        true
    }
}
