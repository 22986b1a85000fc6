//! Images that a commit lacks are built beside the task, which goes on healing and takes newer heads meanwhile.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tokio::task::{AbortHandle, JoinSet};

use super::Task;
use crate::model::{CommitId, Failure, Stage};
use crate::reconcile::images::Lacking;
use crate::reconcile::{Mode, Refused};
use crate::report::log;

/// How a build ended: for which commit, taken through the gates how, how long it took, and how it went.
type Ended = (CommitId, Mode, Duration, Result<(), Failure>);

/// The builds that are under way.
#[derive(Default)]
pub(super) struct Builds {
    tasks: JoinSet<Ended>,
    running: Vec<Running>,
    /// Ended, and not looked at yet.
    ended: Vec<Ended>,
    /// How long the images of a commit took that is about to be deployed.
    took: Option<(CommitId, Duration)>,
}

struct Running {
    commit: CommitId,
    mode: Mode,
    since: Instant,
    references: HashSet<String>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Builds {
    /// Whether anything is built, or was and is not looked at yet.
    pub(super) fn is_under_way(&self) -> bool {
        !self.running.is_empty()
    }

    /// Whether this commit's are built, or were and it has not gone on yet.
    pub(super) fn is_for(&self, commit: CommitId) -> bool {
        self.running.iter().any(|running| running.commit == commit)
    }

    /// Waits for the end of one; never, if there is none.
    pub(super) async fn ends(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok(ended)) => self.ended.push(ended),
            Some(Err(error)) => {
                // Cancelled, it is no longer in `running`; else it panicked, and its commit would wait for ever.
                let died = self.running.iter().find(|running| running.task.id() == error.id());
                self.ended.extend(died.map(|Running { commit, mode, since, .. }| {
                    let failure = Failure::new(Stage::Build, "the build ended unexpectedly; this is a fault of plumb");
                    (*commit, *mode, since.elapsed(), Err(failure.transient()))
                }));
            }
            None => std::future::pending().await,
        }
    }

    /// Cancels everything.
    pub(super) fn cancel(&mut self) {
        (self.running, self.ended) = (Vec::new(), Vec::new());
    }

    /// Cancels what was begun for other commits than these.
    fn only(&mut self, commits: &[Option<CommitId>]) {
        self.running.retain(|running| commits.contains(&Some(running.commit)));
    }

    /// The time that the images of this commit took, if they were built for it; it is told once.
    pub(super) fn took(&mut self, commit: CommitId) -> Option<Duration> {
        self.took.take_if(|(built, _)| *built == commit).map(|(_, took)| took)
    }
}

impl Task {
    /// Has the images built that a commit lacks. Builds for an older commit go on where this one needs the same image, and are cancelled otherwise.
    pub(super) fn build(&mut self, lacking: Lacking, mode: Mode) {
        let (commit, references) = (lacking.commit, lacking.references());
        self.leave_open(commit);
        if self.builds.running.iter().any(|running| running.commit == commit) {
            return;
        }
        self.builds.running.retain(|running| !running.references.is_disjoint(&references));
        log::building(&self.reconciler.name, commit, references.len());
        let (reconciler, store) = (self.reconciler.clone(), self.wanted.borrow().store.clone());
        let since = Instant::now();
        let task = self.builds.tasks.spawn(async move {
            let built = reconciler.build(&store, &lacking).await;
            (commit, mode, since.elapsed(), built)
        });
        self.builds.running.push(Running { commit, mode, since, references, task });
    }

    /// Goes on with commits whose images stand now; tells which could not be built. What nobody waits for any more is left.
    pub(super) async fn take_built(&mut self) {
        if self.reconciler.definition.spec.suspend {
            // It may have ended just as the environment was suspended: once that is over, its head goes through the gates anew.
            self.builds.ended.clear();
        }
        for (commit, mode, took, built) in std::mem::take(&mut self.builds.ended) {
            self.builds.running.retain(|running| running.commit != commit);
            if self.course.tried() != Some(commit) && self.course.target() != Some(commit) {
                continue;
            }
            match built {
                Ok(()) => {
                    // Under another definition than it was begun for, it is a commit like any other.
                    let restored = mode == Mode::Restore && self.course.target() == Some(commit);
                    let mode = if restored && !self.course.holds() { Mode::Commit } else { mode };
                    if mode == Mode::Commit && self.course.tried() != Some(commit) {
                        continue;
                    }
                    self.builds.took = Some((commit, took));
                    self.bring(commit, mode).await;
                }
                Err(failure) => {
                    let stages = vec![(failure.stage, took)];
                    self.refuse(commit, Refused { failure, stages }).await;
                }
            }
        }
    }

    /// Waits for the builds that are under way, and goes on with what they were for; ends early when plumb stops.
    pub(super) async fn finish_builds(&mut self) {
        while self.builds.is_under_way() && !self.stopping() {
            let mut stop = self.stop.clone();
            tokio::select! {
                () = self.builds.ends() => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
            self.take_built().await;
        }
    }

    /// Cancels what neither the head nor the target waits for. A head that lacks images itself may wait for what an older one began: see [`Self::build`].
    pub(super) fn cancel_outdated_builds(&mut self) {
        self.builds.only(&[self.course.tried(), self.course.target()]);
    }

    /// Nothing is built any more.
    pub(super) fn cancel_builds(&mut self) {
        if self.builds.is_under_way() {
            log::builds_cancelled(&self.reconciler.name);
        }
        self.builds.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::watch as channel;

    use super::*;
    use crate::daemon::Settings;
    use crate::daemon::environment::Wanted;
    use crate::daemon::tests::{definition, repository, shared};

    /// What is deployed, a head that is being built, and the head after it.
    const TARGET: CommitId = CommitId::new([1; 20]);
    const BUILT: CommitId = CommitId::new([2; 20]);
    const NEWER: CommitId = CommitId::new([3; 20]);

    /// A task that builds for these commits, with the newer head at its gates.
    fn building(commits: &[CommitId], wanted: channel::Receiver<Wanted>, stop: channel::Receiver<bool>) -> Task {
        let mut task = Task::new(shared(), Settings::default(), wanted, stop);
        task.course.inherit(Some(TARGET), true);
        task.course.trying(NEWER);
        for commit in commits {
            let running = task.builds.tasks.spawn(std::future::pending());
            let (mode, since, references) = (Mode::Commit, Instant::now(), HashSet::new());
            task.builds.running.push(Running { commit: *commit, mode, since, references, task: running });
        }
        task
    }

    fn running(task: &Task) -> Vec<CommitId> {
        task.builds.running.iter().map(|running| running.commit).collect()
    }

    #[tokio::test]
    async fn a_build_that_ends_in_a_suspended_environment_deploys_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut suspended = (*definition("dev")).clone();
        suspended.spec.suspend = true;
        let wanted = Wanted::new(Arc::new(suspended), None, Some(NEWER), repository(directory.path()));
        let ((_wanted, wanted), (_stop, stop)) = (channel::channel(wanted), channel::channel(false));
        let mut task = building(&[NEWER], wanted, stop);
        task.builds.ended.push((NEWER, Mode::Commit, Duration::ZERO, Ok(())));
        task.take_built().await;
        assert!(task.told.is_none() && task.builds.took.is_none());
    }

    #[tokio::test]
    async fn a_build_that_panics_is_a_failure_that_is_tried_again_and_one_that_is_cancelled_is_none() {
        let mut builds = Builds::default();
        for (commit, dies) in [(TARGET, false), (BUILT, true)] {
            let task = builds.tasks.spawn(async move {
                assert!(!dies, "as a fault of plumb");
                std::future::pending().await
            });
            let (mode, since, references) = (Mode::Commit, Instant::now(), HashSet::new());
            builds.running.push(Running { commit, mode, since, references, task });
        }
        builds.only(&[Some(BUILT)]);
        builds.ends().await;
        builds.ends().await;
        let [(BUILT, Mode::Commit, _, Err(failure))] = &builds.ended[..] else { panic!("{:?}", builds.ended) };
        assert!(failure.transient, "{failure}");
    }

    #[tokio::test]
    async fn what_a_newer_commit_does_not_need_is_not_built_on() {
        let directory = tempfile::tempdir().unwrap();
        let mut wanted = Wanted::new(definition("dev"), None, Some(NEWER), repository(directory.path()));
        let ((sender, receiver), (_stop, stop)) = (channel::channel(wanted.clone()), channel::channel(false));
        let task = |commits| building(commits, receiver.clone(), stop.clone());

        let mut unchanged = task(&[TARGET, BUILT]);
        unchanged.unchanged(NEWER).await; // As a revert.
        assert_eq!(running(&unchanged), []);
        let mut refused = task(&[TARGET, BUILT]);
        refused.refuse(NEWER, Failure::new(Stage::Render, "bad indentation").into()).await;
        assert_eq!(running(&refused), [TARGET]);
        // What may pass by itself says nothing of what the commit needs.
        let mut later = task(&[TARGET, BUILT]);
        later.refuse(NEWER, Failure::new(Stage::Plan, "the API server is away").transient().into()).await;
        assert_eq!(running(&later), [TARGET, BUILT]);

        wanted.head = None;
        sender.send_replace(wanted);
        let mut missing = task(&[TARGET, BUILT]);
        missing.next();
        assert_eq!(running(&missing), [TARGET]);
    }
}
