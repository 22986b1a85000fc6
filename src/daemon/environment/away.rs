//! Drift that is not found by the watch: at a start, by a resync, or when a new commit is about to overwrite it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tracing::debug;

use super::{Task, jitter};
use crate::drift::describe::Drift;
use crate::drift::fingerprint::{Class, Found};
use crate::model::{CommitId, ObjectKey, Outcome};
use crate::reconcile::{Mode, Prepared, Refused, Verdict};
use crate::report::drift::{Action, Noticed};

/// A change that the API server has made is waited for so long, before a commit overwrites it untold.
const DELIVERED_WITHIN: Duration = Duration::from_secs(5);

impl Task {
    /// A new commit is about to overwrite what drifted meanwhile: that is told before.
    pub(super) async fn tell_overwritten(&mut self, prepared: &Prepared) {
        let ahead = &prepared.gated.ahead;
        if !ahead.is_empty() {
            self.reconciler.cluster.inventory.delivered(ahead, DELIVERED_WITHIN).await;
        }
        let changed = self.take_changes();
        if changed.is_empty() {
            return;
        }
        let found = self.reconciler.overwritten(&changed, self.observes().is_some(), prepared).await;
        let news = self.enter(&found);
        let news = found.into_iter().filter(|found| news.contains(&found.key)).collect();
        let reconciler = self.reconciler.clone();
        let drifts = self.describe(news, |key| reconciler.target_manifest(key)).await;
        let drifts = drifts.into_iter().map(|drift| (drift, Action::LeftToCommit)).collect();
        self.tell_drifts(drifts, Noticed::Watch, Duration::ZERO).await;
        // Looked at again when the commit has ended.
        self.reconciler.cluster.inventory.change_again(&self.reconciler.part_of, changed);
    }

    /// What a start or a resync found to have drifted of a commit that was deployed before: told, and put back unless the definition says otherwise.
    pub(super) async fn restore(&mut self, prepared: Box<Prepared>, noticed: Noticed, quiet: bool) {
        let (commit, found) = (prepared.desired.commit, prepared.drifted.clone());
        let Some(action) = self.observes() else { return self.deploy_over(prepared, found, noticed, quiet).await };
        self.reconciler.settle_for(&prepared);
        prepared.gated.verified.iter().for_each(|(key, _)| self.stands(key));
        let news = self.enter(&found);
        let mut drifts = self.describe(found, |key| prepared.manifest(key)).await;
        self.values_stand(&drifts).await;
        drifts.retain(|drift| news.contains(&drift.key));
        self.tell_drifts(drifts.into_iter().map(|drift| (drift, action)).collect(), noticed, Duration::ZERO).await;
        if self.put_off_unanswered(&prepared.gated) {
            // That the commit stands, or that it does not, nobody can say yet.
            debug!(environment = %self.reconciler.name, "some objects can't be looked at now; trying again");
            self.course.not_seen(Instant::now(), jitter());
        } else {
            if !quiet {
                self.unchanged(commit).await;
            }
            self.drifts.all_seen();
        }
        self.tell_drift_status().await;
    }

    /// Deploys what was prepared, and tells what was found to have drifted before.
    pub(super) async fn deploy_over(
        &mut self,
        prepared: Box<Prepared>,
        found: Vec<Found>,
        noticed: Noticed,
        quiet: bool,
    ) {
        let (began, observed) = (Instant::now(), self.observes());
        let all_seen = prepared.gated.unanswered().is_empty();
        let news = self.enter(&found);
        let read = found.iter().filter(|found| news.contains(&found.key)).cloned().collect();
        let drifts = self.describe(read, |key| prepared.manifest(key)).await;
        drifts.iter().for_each(|drift| self.drifts.book.by(&drift.key, drift.manager.as_deref()));
        self.deploy(prepared, quiet).await;
        let stand = self.reconciler.standing(found.iter().map(|found| &found.key));
        let contested = stand.iter().filter(|key| self.drifts.book.healed(key, Instant::now())).cloned().collect();
        let failed = found.iter().filter(|found| observed.is_none() && !stand.contains(&found.key));
        failed.for_each(|found| _ = self.drifts.book.failed(&found.key, Instant::now(), false, 1.0));
        let ended = |drift: Drift| {
            let action = match (observed, drift.class) {
                _ if !stand.contains(&drift.key) => observed.unwrap_or(Action::Failed),
                (_, Class::Deleted) => Action::Created,
                _ => Action::Reverted,
            };
            (drift, action)
        };
        let drifts: Vec<(Drift, Action)> = drifts.into_iter().map(ended).collect();
        self.tell_drifts(drifts, noticed, began.elapsed()).await;
        self.tell_fights(contested).await;
        if all_seen {
            self.drifts.all_seen();
        }
        self.tell_drift_status().await;
    }

    /// The gates of a resync: everything is looked at anew. Only what passes them makes up for what is forgotten.
    pub(super) async fn prepare_anew(&mut self, commit: CommitId) -> Option<Result<Verdict, Refused>> {
        let forgotten = self.reconciler.forget();
        let prepared = self.prepare(commit, Mode::Restore).await;
        match prepared {
            Some(Ok(Verdict::Passed(_))) => self.resync_owed = false,
            _ => self.reconciler.recall(forgotten),
        }
        prepared
    }

    /// Enters what was found into the book; what of it is new.
    fn enter(&mut self, found: &[Found]) -> HashSet<ObjectKey> {
        let now = Instant::now();
        let news = found.iter().filter(|found| self.drifts.book.found(found, now).news);
        news.map(|found| found.key.clone()).collect()
    }

    /// Looks at the target without a write, since the environment is suspended: where nothing is known of its objects in this life, and then as often as a
    /// resync would. Its images are not asked for: nothing is made of them now.
    pub(super) async fn look_at_target(&mut self, target: CommitId) {
        let noticed = if self.reconciler.has_target() { Noticed::Resync } else { Noticed::Start };
        let forgotten = self.reconciler.forget();
        let (reconciler, store, mut stop) =
            (self.reconciler.clone(), self.wanted.borrow().store.clone(), self.stop.clone());
        let looked = tokio::select! {
            verdict = reconciler.prepare(&store, target, Mode::Restore, reconciler.confirmed_prune()) => Some(verdict),
            _ = stop.wait_for(|stop| *stop) => None,
        };
        match looked {
            Some(Ok(Verdict::Passed(prepared))) if self.was_deployed(target) => {
                self.restore(prepared, noticed, true).await;
            }
            Some(Ok(_)) | None => self.reconciler.recall(forgotten),
            Some(Err(failure)) => {
                self.reconciler.recall(forgotten);
                debug!(environment = %self.reconciler.name, reason = %failure, "suspended; its objects can't be looked at");
                self.course.not_seen(Instant::now(), jitter());
            }
        }
    }

    /// Whether all of this commit, which passed its gates last, stood at the end of its deployment, in this life or an earlier one: what does not stand now
    /// drifted.
    pub(super) fn was_deployed(&self, commit: CommitId) -> bool {
        let told = |(told, outcome): &(CommitId, Outcome)| {
            *told == commit && matches!(outcome, Outcome::Deployed | Outcome::Unchanged)
        };
        self.told.as_ref().is_some_and(told) || self.reconciler.deployed_target() == Some(commit)
    }
}
