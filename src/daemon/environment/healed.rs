//! What became of objects that were to be healed.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::jitter;
use crate::cluster::execute::Done;
use crate::model::{Failure, ObjectKey};

/// How a heal went.
#[derive(Default)]
pub(super) struct Healed {
    pub(super) written: HashSet<ObjectKey>,
    /// With whether it may pass by itself.
    failed: HashMap<ObjectKey, bool>,
    /// What failed is not one object's, as making their namespace: for all that were not written. With whether it may pass.
    failed_for_all: Option<bool>,
    pub(super) failures: Vec<Failure>,
    pub(super) took: Duration,
    /// When it ended: what failed together is tried again together.
    pub(super) ended: Option<Instant>,
    /// How far this environment's next attempt is from that of others.
    pub(super) spread: f64,
}

/// What became of an object that was to be healed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Written,
    Failed {
        /// It may go well later by itself.
        passes: bool,
    },
    /// It was stopped before its turn.
    NotReached,
}

impl Healed {
    pub(super) fn of(done: Done, began: Instant) -> Self {
        let of_one = |failure: &Failure| Some((failure.object.clone()?, failure.transient));
        let failed = done.failures.iter().filter_map(of_one).collect();
        let failed_for_all = done.failures.iter().find(|failure| failure.object.is_none());
        let failed_for_all = failed_for_all.map(|failure| failure.transient);
        let written = done.baselines.into_iter().map(|(key, _)| key).collect();
        let (ended, took) = (Some(Instant::now()), began.elapsed());
        Self { written, failed, failed_for_all, failures: done.failures, took, ended, spread: jitter() }
    }

    pub(super) fn fate(&self, key: &ObjectKey) -> Fate {
        match (self.failed.get(key), self.failed_for_all) {
            (Some(&passes), _) => Fate::Failed { passes },
            _ if self.written.contains(key) => Fate::Written,
            (_, Some(passes)) => Fate::Failed { passes },
            _ => Fate::NotReached,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::fingerprint::Baseline;
    use crate::model::{Digest, Stage};

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("", "ConfigMap", "n", name)
    }

    fn healed(written: &str, failures: Vec<Failure>) -> Healed {
        let baseline = Baseline {
            digest: Digest::of(b"x"),
            uid: "u".into(),
            fields: "{}".into(),
            time: None,
            resource_version: 1,
        };
        let baselines = vec![(key(written), baseline)];
        Healed::of(Done { baselines, failures, ..Done::default() }, Instant::now())
    }

    #[test]
    fn what_a_failure_of_all_kept_from_being_written_has_failed_and_is_not_begun_again_at_once() {
        let fates = |healed: &Healed| ["a", "b", "c"].map(|name| healed.fate(&key(name)));
        let stopped = healed("a", Vec::new());
        assert_eq!(fates(&stopped), [Fate::Written, Fate::NotReached, Fate::NotReached]);
        let one = healed("a", vec![Failure::new(Stage::Apply, "refused").on(key("b"))]);
        assert_eq!(fates(&one), [Fate::Written, Fate::Failed { passes: false }, Fate::NotReached]);
        let all = healed("a", vec![Failure::new(Stage::Apply, "the namespace can't be made").transient()]);
        assert_eq!(fates(&all), [Fate::Written, Fate::Failed { passes: true }, Fate::Failed { passes: true }]);
    }
}
