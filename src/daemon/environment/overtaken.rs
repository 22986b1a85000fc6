//! Heads that were taken up and came to no end before a newer one took their place: they end as superseded by it.

use std::time::Duration;

use super::Task;
use crate::model::{CommitId, Deployment, Outcome};

impl Task {
    /// A head that was taken up is left without an end for now: its images are built or waited for, or its turn was cut short.
    pub(super) fn leave_open(&mut self, commit: CommitId) {
        // What was deployed before has had its end.
        if !self.open.contains(&commit) && !self.was_deployed(commit) {
            self.open.push(commit);
        }
    }

    /// Tells the end of those that nothing is done for any more: the branch has another head, and it is not this one that was taken up last.
    pub(super) async fn tell_overtaken(&mut self) {
        let Some(head) = self.wanted.borrow().head else { return };
        let tried = self.course.tried();
        let goes_on = |commit: &CommitId| *commit == head || Some(*commit) == tried;
        for commit in self.open.extract_if(.., |commit| !goes_on(commit)).collect::<Vec<_>>() {
            let (outcome, stages) = (Outcome::SupersededBy(head), Vec::new());
            let (objects, applied, unchanged, pruned, took) = (0, 0, 0, 0, Duration::ZERO);
            self.tell_one(Deployment {
                commit,
                outcome,
                objects,
                applied,
                unchanged,
                pruned,
                lacking: None,
                took,
                stages,
            })
            .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch as channel;

    use super::*;
    use crate::daemon::Settings;
    use crate::daemon::environment::Wanted;
    use crate::daemon::tests::{definition, repository, shared};
    use crate::model::{Failure, Stage};

    const TARGET: CommitId = CommitId::new([1; 20]);
    const BUILT: CommitId = CommitId::new([2; 20]);
    const NEWER: CommitId = CommitId::new([3; 20]);

    struct Bench {
        task: Task,
        wanted: channel::Sender<Wanted>,
        _stop: channel::Sender<bool>,
        _directory: tempfile::TempDir,
    }

    impl Bench {
        /// A task that has deployed one commit and takes this head up.
        fn at(head: CommitId) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let wanted = Wanted::new(definition("dev"), None, Some(head), repository(directory.path()));
            let ((wanted, receiver), (_stop, stop)) = (channel::channel(wanted), channel::channel(false));
            let mut task = Task::new(shared(), Settings::default(), receiver, stop);
            task.course.inherit(Some(TARGET), true);
            task.course.trying(head);
            task.told = Some((TARGET, Outcome::Deployed));
            Self { task, wanted, _stop, _directory: directory }
        }

        fn head(&self, head: Option<CommitId>) {
            self.wanted.send_modify(|wanted| wanted.head = head);
        }

        async fn told(&mut self) -> Vec<(CommitId, Outcome)> {
            self.task.tell_overtaken().await;
            self.task.untold.take().map(|ended| (ended.commit, ended.outcome)).collect()
        }
    }

    #[tokio::test]
    async fn a_head_that_is_built_and_overtaken_ends_once_when_the_newer_one_is_taken_up() {
        let mut bench = Bench::at(BUILT);
        bench.task.leave_open(BUILT);
        bench.task.leave_open(BUILT);
        assert_eq!(bench.told().await, []);
        bench.head(Some(NEWER));
        assert_eq!(bench.told().await, [], "it may be done before that one's turn");
        bench.task.course.trying(NEWER);
        assert_eq!(bench.told().await, [(BUILT, Outcome::SupersededBy(NEWER))]);
        assert_eq!(bench.told().await, []);
    }

    #[tokio::test]
    async fn a_head_that_comes_back_goes_on_and_ends_as_itself() {
        let mut bench = Bench::at(BUILT);
        bench.task.leave_open(BUILT);
        bench.head(None);
        bench.task.next();
        assert_eq!(bench.told().await, [], "a branch that is gone has no newer head");
        bench.head(Some(BUILT));
        assert_eq!(bench.told().await, []);
        bench.task.refuse(BUILT, Failure::new(Stage::Build, "no").into()).await;
        bench.head(Some(NEWER));
        bench.task.course.trying(NEWER);
        let told: Vec<_> = bench.told().await.into_iter().map(|(commit, outcome)| (commit, outcome.as_str())).collect();
        assert_eq!(told, [(BUILT, "Failed")]);
    }

    #[tokio::test]
    async fn a_commit_that_a_resync_finds_as_it_was_is_not_counted_again() {
        let mut bench = Bench::at(NEWER);
        let metrics = bench.task.reconciler.shared.telemetry.metrics.clone();
        metrics.head("dev", Some(NEWER));
        for _ in 0..3 {
            bench.task.unchanged(NEWER).await;
        }
        let counted = r#"plumb_deployments_total{environment="dev",outcome="Unchanged"} 1"#;
        let text = metrics.text().unwrap();
        assert!(text.lines().any(|line| line == counted), "{text}");
    }

    #[tokio::test]
    async fn what_waits_for_a_builder_is_left_open_and_what_was_deployed_has_had_its_end() {
        let mut bench = Bench::at(BUILT);
        bench.task.leave_open(TARGET);
        bench.task.refuse(BUILT, Failure::new(Stage::Build, "the builder is away").transient().awaited().into()).await;
        assert_eq!(bench.task.open, [BUILT]);
        bench.head(Some(NEWER));
        bench.task.course.trying(NEWER);
        // Whatever ends next, the older one ends before it, so that the status says last how the newer one did.
        bench.task.unchanged(NEWER).await;
        let told: Vec<_> = bench.told().await.into_iter().map(|(commit, outcome)| (commit, outcome.as_str())).collect();
        assert_eq!(told, [(BUILT, "SupersededBy"), (NEWER, "Unchanged")]);
    }
}
