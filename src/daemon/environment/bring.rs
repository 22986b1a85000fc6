//! Takes a commit through its gates, and has it deployed, built, restored or told as refused.

use std::time::Instant;

use tracing::{debug, info};

use super::{Task, jitter};
use crate::model::CommitId;
use crate::reconcile::{Mode, Refused, Verdict};
use crate::report::drift::Noticed;

impl Task {
    /// Takes a commit through the gates, strictly or object by object, and deploys it if it passes.
    pub(super) async fn bring(&mut self, commit: CommitId, mode: Mode) {
        let former = self.told.as_ref().map(|(commit, _)| *commit).or(self.course.target());
        if mode == Mode::Commit {
            self.tell_rewind(former, commit);
        }
        // Restoring what is not the head changes nothing of how the head ended, nor is a definition valid because of it.
        let quiet = self.course.tried() != Some(commit) || self.wanted.borrow().broken.is_some();
        let quiet = mode == Mode::Restore && quiet;
        let noticed = if self.reconciler.has_target() { Noticed::Resync } else { Noticed::Start };
        let resync = mode == Mode::Restore && self.resync_owed;
        let prepared = if resync { self.prepare_anew(commit).await } else { self.prepare(commit, mode).await };
        match prepared {
            None => {}
            Some(Ok(Verdict::Unchanged)) => self.unchanged(commit).await,
            Some(Ok(Verdict::Lacks(lacking))) => {
                self.restore_meanwhile(commit);
                self.build(lacking, mode);
            }
            Some(Ok(Verdict::Passed(prepared))) if mode == Mode::Restore && self.was_deployed(commit) => {
                self.restore(prepared, noticed, quiet).await;
                self.reconciler.look_at_additions_again(None);
            }
            Some(Ok(Verdict::Passed(prepared))) => {
                if mode == Mode::Commit {
                    self.tell_overwritten(&prepared).await;
                }
                let found = prepared.drifted_since();
                self.deploy_over(prepared, found, noticed, quiet).await;
                self.look_again();
            }
            Some(Err(refused)) => {
                self.restore_meanwhile(commit);
                self.refuse(commit, refused).await;
            }
        }
    }

    /// At a start whose head can't be deployed, or not yet, what stood before it is restored.
    fn restore_meanwhile(&mut self, head: CommitId) {
        let first = self.told.is_none() && !self.waited && !self.reconciler.has_target();
        if let Some(target) = self.course.target().filter(|target| first && *target != head) {
            info!(environment = %self.reconciler.name, commit = %target.short(), "the head can't be deployed yet; restoring the commit before it");
            self.course.restore_now(Instant::now());
        }
    }

    pub(super) async fn refuse(&mut self, commit: CommitId, refused: Refused) {
        let failure = &refused.failure;
        self.course.refused(commit, failure, self.planned_beside, Instant::now(), jitter());
        if failure.awaited {
            self.waited = true;
            self.leave_open(commit);
            return debug!(environment = %self.reconciler.name, commit = %commit.short(), reason = %failure, "waiting");
        }
        if !failure.transient {
            self.cancel_outdated_builds();
        }
        self.tell_refused(commit, refused).await;
    }

    /// The gates; `None` when plumb stops meanwhile.
    pub(super) async fn prepare(&mut self, commit: CommitId, mode: Mode) -> Option<Result<Verdict, Refused>> {
        let store = self.wanted.borrow().store.clone();
        let mut stop = self.stop.clone();
        self.planned_beside = self.changes_beside();
        let confirmed = self.reconciler.confirmed_prune();
        let verdict = async {
            // Restoring what was deployed before is not the time to ask; a first deployment is.
            if mode == Mode::Restore && self.course.target().is_none() {
                self.reconciler.check_own_definition(&store, commit).await?;
            }
            self.reconciler.gates(&store, commit, mode, confirmed).await
        };
        let verdict = tokio::select! {
            verdict = verdict => verdict,
            _ = stop.wait_for(|stop| *stop) => return None,
        };
        if let Ok(Verdict::Passed(prepared)) = &verdict {
            self.tell_notes(prepared);
        }
        Some(verdict)
    }
}
