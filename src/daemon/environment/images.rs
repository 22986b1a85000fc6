//! Images that a commit lacks are built beside the task, which goes on healing and takes newer heads meanwhile.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tokio::task::{AbortHandle, JoinSet};

use super::Task;
use crate::builder::queue::Needed;
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
    /// Begun for commits that nobody waits for any more: of these builds goes on what one in `running` needs, too, and their end is nobody's.
    outdated: Vec<Running>,
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
    /// Tells the build which of them are needed.
    needed: Needed,
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
        match self.tasks.join_next_with_id().await {
            Some(Ok((id, ended))) => {
                self.outdated.retain(|outdated| outdated.task.id() != id);
                self.ended.extend(self.running.iter().any(|running| running.task.id() == id).then_some(ended));
            }
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
        (self.running, self.outdated, self.ended) = (Vec::new(), Vec::new(), Vec::new());
    }

    /// Of what was begun for other commits than these, only the images go on that these have built, too.
    fn only(&mut self, commits: &[Option<CommitId>]) {
        self.outdated.extend(self.running.extract_if(.., |running| !commits.contains(&Some(running.commit))));
        let needed: HashSet<&String> = self.running.iter().flat_map(|running| &running.references).collect();
        self.outdated.retain_mut(|outdated| {
            // What was cut once stays so, even if a still newer commit needs it again: that one builds it.
            outdated.references.retain(|reference| needed.contains(reference));
            outdated.needed.only(outdated.references.clone());
            !outdated.references.is_empty() && !outdated.task.is_finished()
        });
    }

    /// The time that the images of this commit took, if they were built for it; it is told once.
    pub(super) fn took(&mut self, commit: CommitId) -> Option<Duration> {
        self.took.take_if(|(built, _)| *built == commit).map(|(_, took)| took)
    }
}

impl Task {
    /// Has the images built that a commit lacks. What is built for an older commit goes on where this one needs the same image, and is cancelled otherwise:
    /// at once, since it may have no end, and takes the places that this one's builds wait for.
    pub(super) fn build(&mut self, lacking: Lacking, mode: Mode) {
        let commit = lacking.commit;
        self.leave_open(commit);
        if !self.builds.is_for(commit) {
            let (references, needed) = (lacking.references(), Needed::default());
            log::building(&self.reconciler.name, commit, references.len());
            let (reconciler, store) = (self.reconciler.clone(), self.wanted.borrow().store.clone());
            let (since, told) = (Instant::now(), needed.clone());
            let task = self.builds.tasks.spawn(async move {
                let built = reconciler.build(&store, &lacking, told).await;
                (commit, mode, since.elapsed(), built)
            });
            self.builds.running.push(Running { commit, mode, since, references, needed, task });
        }
        self.builds.only(&[Some(commit), self.course.tried(), self.course.target()]);
    }

    /// Goes on with commits whose images stand now; tells which could not be built. What nobody waits for any more is left.
    pub(super) async fn take_built(&mut self) {
        if self.reconciler.definition.spec.suspend {
            // It may have ended just as the environment was suspended: once that is over, its head goes through the gates anew.
            self.builds.cancel();
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

    /// Cancels what neither the head nor the target waits for.
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
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use tokio::sync::{oneshot, watch as channel};

    use super::*;
    use crate::daemon::Settings;
    use crate::daemon::environment::Wanted;
    use crate::daemon::tests::{definition, repository, shared};
    use crate::model::images::Image;

    /// What is deployed, a head that is being built, and the head after it.
    const TARGET: CommitId = CommitId::new([1; 20]);
    const BUILT: CommitId = CommitId::new([2; 20]);
    const NEWER: CommitId = CommitId::new([3; 20]);
    const OTHER: CommitId = CommitId::new([4; 20]);

    /// A task that builds for these commits, with the newer head at its gates.
    fn building(commits: &[CommitId], wanted: channel::Receiver<Wanted>, stop: channel::Receiver<bool>) -> Task {
        let mut task = Task::new(shared(), Settings::default(), wanted, stop);
        task.course.inherit(Some(TARGET), true);
        task.course.trying(NEWER);
        for commit in commits {
            let running = task.builds.tasks.spawn(std::future::pending());
            task.builds.running.push(begun(*commit, &[], running));
        }
        task
    }

    fn begun(commit: CommitId, names: &[&str], task: AbortHandle) -> Running {
        let (mode, since, needed) = (Mode::Commit, Instant::now(), Needed::default());
        let references = names.iter().map(|name| (*name).to_owned()).collect();
        Running { commit, mode, since, references, needed, task }
    }

    /// A commit that lacks these images.
    fn lacking(commit: CommitId, names: &[&str]) -> Lacking {
        let image = |name: &&str| {
            let (name, tag) = name.split_once(':').unwrap();
            let source = serde_json::from_value(serde_json::json!({"name": name, "context": "."})).unwrap();
            let (tag, bases, used) = (tag.to_owned(), BTreeMap::new(), true);
            Image { source: Arc::new(source), tag, bases, used }
        };
        Lacking { commit, images: names.iter().map(image).collect() }
    }

    /// What goes on for commits that nobody waits for.
    fn outdated(task: &Task) -> Vec<(CommitId, BTreeSet<String>)> {
        task.builds.outdated.iter().map(|build| (build.commit, build.references.iter().cloned().collect())).collect()
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
            builds.running.push(begun(commit, &[], task));
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

    #[tokio::test]
    async fn a_newer_commit_that_lacks_images_leaves_of_an_older_one_what_it_needs_itself() {
        let directory = tempfile::tempdir().unwrap();
        let wanted = Wanted::new(definition("dev"), None, Some(NEWER), repository(directory.path()));
        let ((_wanted, wanted), (_stop, stop)) = (channel::channel(wanted), channel::channel(false));
        let mut task = building(&[TARGET], wanted, stop);
        let (end, ended) = oneshot::channel::<()>();
        let shares = task.builds.tasks.spawn(async move {
            _ = ended.await;
            (BUILT, Mode::Commit, Duration::ZERO, Err(Failure::new(Stage::Build, "of nobody's commit")))
        });
        let shares = begun(BUILT, &["base:1", "a:1", "web:1"], shares);
        let told = shares.needed.clone();
        task.builds.running.push(shares);
        let alone = task.builds.tasks.spawn(std::future::pending());
        task.builds.running.push(begun(OTHER, &["b:1"], alone.clone()));
        let of_built = |names: &[&str]| vec![(BUILT, names.iter().map(|name| (*name).to_owned()).collect())];

        // A base may stand and is named all the same: what is based on it is cancelled.
        task.build(lacking(NEWER, &["base:1", "a:1", "web:2"]), Mode::Commit);
        assert_eq!(running(&task), [TARGET, NEWER]);
        assert_eq!(outdated(&task), of_built(&["a:1", "base:1"]));
        assert!(told.has("a:1") && told.has("base:1") && !told.has("web:1"));

        // Restoring the target takes nothing from the head, nor what the head needs of others.
        task.builds.running.retain(|running| running.commit != TARGET);
        task.build(lacking(TARGET, &["old:1"]), Mode::Restore);
        assert_eq!(running(&task), [NEWER, TARGET]);
        assert_eq!(outdated(&task), of_built(&["a:1", "base:1"]));

        // What was cancelled is not begun by going back to its commit: that has it built anew.
        task.course.trying(BUILT);
        task.build(lacking(BUILT, &["base:1", "a:1", "web:1"]), Mode::Commit);
        assert_eq!(running(&task), [TARGET, BUILT]);
        assert!(!told.has("web:1") && told.has("a:1"));

        // Its end is nobody's, whatever it is.
        end.send(()).unwrap();
        while outdated(&task).iter().any(|(commit, _)| *commit == BUILT) {
            task.builds.ends().await;
        }
        assert!(alone.is_finished(), "nobody needs anything of it");
        assert!(task.builds.ended.iter().all(|(.., built)| !format!("{built:?}").contains("nobody's commit")));
    }
}
