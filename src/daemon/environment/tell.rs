//! What an environment's task tells: the log line, the status and the Event of an ended commit, each once.

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, warn};

use super::Task;
use crate::cluster::events;
use crate::cluster::parent::Parent;
use crate::model::{CommitId, Deployment, Failure, Outcome};
use crate::report;

impl Task {
    /// Sets the timers from how a deployment ended.
    pub(super) fn settle_or_back_off(&mut self, deployment: &Deployment) {
        match &deployment.outcome {
            Outcome::Failed(failure) if failure.transient => {
                _ = self.schedule.back_off(self.reconciler.definition.spec.resync.get());
            }
            // A newer head that was refused meanwhile has set them for itself.
            _ if self.tried != Some(deployment.commit) => {}
            _ => self.schedule.settle(),
        }
    }

    /// A commit was refused before anything of it was written.
    pub(super) async fn tell_failure(&mut self, commit: CommitId, failure: Failure) {
        let deployment = Deployment {
            commit,
            outcome: Outcome::Failed(failure),
            objects: 0,
            applied: 0,
            unchanged: 0,
            pruned: 0,
            took: Duration::ZERO,
            stages: Vec::new(),
        };
        self.settle_or_back_off(&deployment);
        self.tell(deployment).await;
    }

    /// The environment is suspended at this head.
    pub(super) async fn tell_suspended(&mut self, commit: CommitId) {
        self.tried = Some(commit);
        self.schedule.settle();
        let outcome = Outcome::Suspended;
        let (objects, applied, unchanged, pruned, took) = (0, 0, 0, 0, Duration::ZERO);
        self.tell(Deployment { commit, outcome, objects, applied, unchanged, pruned, took, stages: Vec::new() }).await;
    }

    /// The branch is gone: told once, and nothing is pruned.
    pub(super) fn tell_gone(&mut self, branch: &str) {
        if !std::mem::replace(&mut self.told_gone, true) {
            warn!(
                environment = %self.reconciler.name,
                %branch,
                "there is no such branch; the environment stays as it is until it is pushed"
            );
        }
    }

    /// A head that does not contain the one before it was moved by force. Looked up beside the work, for the log alone.
    pub(super) fn tell_rewind(&self, former: Option<CommitId>, commit: CommitId) {
        let Some(former) = former.or(self.target).filter(|former| *former != commit) else { return };
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
        let told = (deployment.commit, deployment.outcome.clone());
        if self.told.as_ref() == Some(&told) {
            debug!(environment = %self.reconciler.name, commit = %deployment.commit.short(), "ended as before");
            return;
        }
        report::log::deployment(&self.reconciler.name, &deployment);
        self.told = Some(told);
        let (shared, name) = (&self.reconciler.shared, &self.reconciler.name);
        let Some(environment) = shared.parents.get(name) else { return };
        let parent = Parent { caller: &shared.cluster.caller, name };
        let last = environment.status.clone().unwrap_or_default();
        let generation = environment.metadata.generation;
        let status = report::status::next(&last, &deployment, self.target, generation, chrono::Utc::now());
        match parent.apply_status(&status).await {
            Ok(written) => shared.parents.wrote(written),
            Err(error) => warn!(environment = %name, %error, "the status could not be written"),
        }
        self.status = Some(status);
        if let Some(event) = report::event(&deployment) {
            let uid = environment.metadata.uid.as_deref();
            if let Err(error) = events::post(&shared.cluster.caller, name, uid, &event, &shared.instance.name).await {
                warn!(environment = %name, %error, "the Event could not be posted");
            }
        }
    }
}
