//! Writes a commit that passed its gates, while newer heads go through theirs.

use std::time::Instant;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::watch as channel;
use tracing::info;

use super::{Task, Wanted, jitter};
use crate::model::{CommitId, Deployment, Outcome};
use crate::reconcile::{Mode, Prepared, Refused, Verdict};
use crate::report;

/// How the writes of a commit ended.
struct Written {
    deployment: Deployment,
    /// Before the end.
    stopped: bool,
    /// The head that has passed its gates meanwhile.
    newer: Option<CommitId>,
    /// Heads that have not.
    refused: Vec<(CommitId, Refused)>,
}

impl Task {
    /// Writes a commit that passed; takes newer heads through the gates meanwhile, and goes on with the one that passes.
    pub(super) async fn deploy(&mut self, prepared: Box<Prepared>, mut quiet: bool) {
        let mut current = prepared;
        loop {
            let commit = current.desired.commit;
            self.course.passed(commit);
            self.cancel_outdated_builds();
            if let Some(took) = self.builds.took(commit) {
                current.built_in(took);
            }
            let Written { mut deployment, stopped, newer, refused } = self.write(&current).await;
            match newer {
                Some(newer) if stopped => deployment.outcome = Outcome::SupersededBy(newer),
                None if stopped => {
                    if !quiet {
                        self.leave_open(commit);
                    }
                    self.course.restore_now(Instant::now());
                    let (environment, applied) = (&self.reconciler.name, deployment.applied);
                    return info!(%environment, commit = %commit.short(), applied, "stopped before the end; the next start goes on");
                }
                _ => {
                    let failure = if let Outcome::Failed(failure) = &deployment.outcome { Some(failure) } else { None };
                    self.course.written(failure, self.planned_beside, Instant::now(), jitter());
                    self.health_after(&deployment);
                }
            }
            match std::mem::take(&mut quiet) {
                true => report::log::deployment(&self.reconciler.name, &deployment),
                false => self.tell(deployment).await,
            }
            for (head, why) in refused {
                self.refuse(head, why).await;
            }
            let Some(newer) = newer else { return };
            if self.wanted.borrow().definition != self.reconciler.definition {
                // It passed under another definition than the one that is in force now, which may suspend it.
                self.course.forget_try(newer);
                self.leave_open(newer);
                return self.course.restore_now(Instant::now());
            }
            // What the older commit wrote changes the plan: decided anew.
            match self.prepare(newer, Mode::Commit).await {
                Some(Ok(Verdict::Passed(next))) => {
                    self.tell_overwritten(&next).await;
                    current = next;
                }
                Some(Ok(Verdict::Unchanged)) => return self.unchanged(newer).await,
                Some(Ok(Verdict::Lacks(lacking))) => {
                    self.course.restore_now(Instant::now());
                    return self.build(lacking, Mode::Commit);
                }
                Some(Err(refused)) => {
                    self.course.restore_now(Instant::now());
                    return self.refuse(newer, refused).await;
                }
                None => return,
            }
        }
    }

    /// Writes until the end, or until a newer head has passed its gates: then that head is named. A newer head that is refused is told afterwards, and
    /// the older commit goes on. A lost claim and a suspension stop it too.
    async fn write(&mut self, prepared: &Prepared) -> Written {
        let reconciler = self.reconciler.clone();
        let (halt, halted) = channel::channel(false);
        let mut writing = std::pin::pin!(reconciler.deploy(prepared, &halted));
        let (mut newest, mut parents, mut stop) = (self.wanted.clone(), self.parents.clone(), self.stop.clone());
        let (mut gating, mut refused, mut newer) = (FuturesUnordered::new(), Vec::new(), None);
        let mut news = false;
        let (deployment, stopped) = loop {
            // One at a time: of heads that come meanwhile, the newest is next.
            if gating.is_empty() && newer.is_none() && std::mem::take(&mut news) {
                let Wanted { definition, head, store, .. } = newest.borrow().clone();
                let untried =
                    |head: &CommitId| definition == reconciler.definition && self.course.tried() != Some(*head);
                if let Some(head) = head.filter(untried) {
                    self.course.trying(head);
                    let (reconciler, confirmed) = (reconciler.clone(), reconciler.confirmed_prune());
                    gating.push(async move { (head, reconciler.gates(&store, head, Mode::Commit, confirmed).await) });
                }
            }
            tokio::select! {
                ended = &mut writing => break ended,
                Ok(()) = newest.changed() => {
                    news = true;
                    if newest.borrow_and_update().definition.spec.suspend {
                        halt.send_replace(true);
                    }
                }
                Some((head, verdict)) = gating.next() => match verdict {
                    // The older commit goes on while they are built.
                    Ok(Verdict::Lacks(lacking)) => self.build(lacking, Mode::Commit),
                    Ok(_) => {
                        newer = Some(head);
                        halt.send_replace(true);
                    }
                    Err(why) => refused.push((head, why)),
                },
                Ok(()) = parents.changed() => if reconciler.is_taken() {
                    halt.send_replace(true);
                },
                _ = stop.wait_for(|stop| *stop), if !*halt.borrow() => {
                    halt.send_replace(true);
                }
            }
        };
        if let (Some(head), None) = (self.course.tried().filter(|_| !gating.is_empty()), newer) {
            // The writes ended first: the head goes through the gates in its turn.
            self.course.forget_try(head);
            self.leave_open(head);
        }
        drop(gating);
        Written { deployment, stopped, newer, refused }
    }

    pub(super) async fn unchanged(&mut self, commit: CommitId) {
        self.course.passed(commit);
        self.course.written(None, self.planned_beside, Instant::now(), jitter());
        self.cancel_outdated_builds();
        self.open.retain(|open| *open != commit);
        self.tell_overtaken().await;
        // What was told of another end does not hold any more, be it by an earlier life, nor that there is no branch; otherwise the cluster is not told, at no
        // request at all.
        let holds = match &self.told {
            Some((_, outcome)) => matches!(outcome, Outcome::Deployed | Outcome::Unchanged),
            None => self.was_told_to_stand(commit),
        };
        let repaired = self.broken_told && self.wanted.borrow().broken.is_none();
        if self.missing.told || repaired || !holds {
            return self.tell_ended(commit, Outcome::Unchanged, Vec::new()).await;
        }
        info!(environment = %self.reconciler.name, commit = %commit.short(), "unchanged");
        // A resync finds the same commit as it was: that is no end of another one.
        if self.told.as_ref().is_none_or(|(told, _)| *told != commit) {
            self.reconciler.shared.telemetry.metrics.ended(&self.reconciler.name, &Outcome::Unchanged, &[]);
        }
        self.told = Some((commit, Outcome::Unchanged));
    }

    /// Whether the status says that this commit stands, before this life has told anything.
    fn was_told_to_stand(&self, commit: CommitId) -> bool {
        let Some(environment) = self.reconciler.shared.parents.get(&self.reconciler.name) else { return false };
        let generation = environment.metadata.generation;
        environment.status.as_ref().is_some_and(|status| report::status::stands(status, commit, generation))
    }
}
