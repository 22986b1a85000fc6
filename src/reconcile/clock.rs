//! How long each stage took.

use std::time::{Duration, Instant};

use super::Prepared;
use crate::cluster::execute::Done;
use crate::model::{Deployment, Failure, ObjectKey, Outcome, Stage};
use crate::plan::Action;

/// Why a commit is not deployed, and how long it took to find out.
pub struct Refused {
    /// Why.
    pub failure: Failure,
    /// The stages that it went through, the last being the one that refused it.
    pub stages: Vec<(Stage, Duration)>,
}

impl From<Failure> for Refused {
    /// Without a time: it was known before.
    fn from(failure: Failure) -> Self {
        Self { failure, stages: Vec::new() }
    }
}

/// A stopwatch with laps.
pub(super) struct Clock {
    last: Instant,
    /// The laps so far.
    pub laps: Vec<(Stage, Duration)>,
}

impl Clock {
    /// Starts with no laps.
    pub(super) fn start() -> Self {
        Self { last: Instant::now(), laps: Vec::new() }
    }

    /// Starts after the laps of an earlier part.
    pub(super) fn after(laps: &[(Stage, Duration)]) -> Self {
        Self { last: Instant::now(), laps: laps.to_vec() }
    }

    /// Ends a lap.
    pub(super) fn lap(&mut self, stage: Stage) {
        let now = Instant::now();
        self.laps.push((stage, now - self.last));
        self.last = now;
    }

    /// The commit got no further: the stage that refused it ends here.
    pub(super) fn refused(mut self, failure: Failure) -> Refused {
        self.lap(failure.stage);
        Refused { failure, stages: self.laps }
    }

    /// The deployment that ended now.
    pub(super) fn deployment(
        self,
        prepared: &Prepared,
        done: &Done,
        outcome: Outcome,
        lacking: Vec<ObjectKey>,
    ) -> Deployment {
        let steps = &prepared.gated.plan.steps;
        let took = self.laps.iter().map(|(_, took)| *took).sum::<Duration>() + self.last.elapsed();
        Deployment {
            commit: prepared.desired.commit,
            outcome,
            objects: prepared.desired.objects.len(),
            applied: done.baselines.len(),
            unchanged: steps.iter().filter(|step| step.action == Action::Keep).count(),
            pruned: done.pruned.len(),
            lacking: Some(lacking),
            took,
            stages: self.laps,
        }
    }
}
