//! Ends of commits that could not be written to the status yet.

use std::collections::VecDeque;
use std::time::Instant;

use chrono::{DateTime, Utc};

use super::tell::TELL_AGAIN;
use crate::model::Deployment;
use crate::report::status;

/// What the status lacks, oldest first, and when it is tried again.
#[derive(Debug, Default)]
pub(super) struct Untold {
    ended: VecDeque<(Deployment, DateTime<Utc>)>,
    again_at: Option<Instant>,
}

impl Untold {
    /// A commit ended at this time. As many are kept as the status keeps, and a commit that ended again is kept as it is there: once.
    pub(super) fn push(&mut self, deployment: Deployment, time: DateTime<Utc>) {
        self.ended.retain(|(former, _)| {
            former.commit != deployment.commit || !status::replaces(&deployment, (&former.outcome).into())
        });
        self.ended.push_back((deployment, time));
        if self.ended.len() > status::HISTORY {
            self.ended.pop_front();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ended.is_empty()
    }

    /// Oldest first, with the time at which each ended.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &(Deployment, DateTime<Utc>)> {
        self.ended.iter()
    }

    /// It could not be written.
    pub(super) fn failed(&mut self, now: Instant) {
        self.again_at = Some(now + TELL_AGAIN);
    }

    /// All of it is written.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Deployment> + use<> {
        std::mem::take(self).ended.into_iter().map(|(deployment, _)| deployment)
    }

    /// When it is to be tried again.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.again_at.filter(|_| !self.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{CommitId, Failure, Outcome, Stage};

    fn ended(commit: u8, outcome: Outcome) -> Deployment {
        let commit = CommitId::new([commit; 20]);
        let (took, stages) = (Duration::ZERO, Vec::new());
        Deployment { commit, outcome, objects: 1, applied: 0, unchanged: 1, pruned: 0, lacking: None, took, stages }
    }

    fn push(untold: &mut Untold, commit: u8, outcome: Outcome) {
        untold.push(ended(commit, outcome), Utc::now());
    }

    fn kept(untold: &Untold) -> Vec<(u8, &'static str)> {
        untold.iter().map(|(ended, _)| (ended.commit.as_bytes()[0], ended.outcome.as_str())).collect()
    }

    #[test]
    fn all_is_kept_in_order_and_a_commit_as_often_as_in_the_status() {
        let mut untold = Untold::default();
        let failed = |reason| Outcome::Failed(Failure::new(Stage::DryRun, reason));
        push(&mut untold, 1, Outcome::Deployed);
        push(&mut untold, 2, failed("refused"));
        push(&mut untold, 3, failed("away"));
        push(&mut untold, 2, failed("away"));
        push(&mut untold, 1, Outcome::Suspended);
        assert_eq!(kept(&untold), [(1, "Deployed"), (3, "Failed"), (2, "Failed"), (1, "Suspended")]);
        for commit in 4..20 {
            push(&mut untold, commit, Outcome::Deployed);
        }
        assert_eq!(kept(&untold).len(), 10);
        assert_eq!((kept(&untold)[0].0, kept(&untold)[9].0), (10, 19), "the newest");
    }

    #[test]
    fn it_is_tried_again_until_it_is_written() {
        let (mut untold, now) = (Untold::default(), Instant::now());
        assert_eq!(untold.wake_at(), None);
        push(&mut untold, 1, Outcome::Deployed);
        untold.failed(now);
        push(&mut untold, 2, Outcome::Deployed);
        assert_eq!(untold.wake_at(), Some(now + TELL_AGAIN));
        assert_eq!(untold.take().map(|ended| ended.commit.as_bytes()[0]).collect::<Vec<_>>(), [1, 2]);
        assert!(untold.is_empty() && untold.wake_at().is_none());
    }
}
