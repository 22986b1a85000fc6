//! What became of objects that were to be healed.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::jitter;
use crate::cluster::execute::Done;
use crate::model::{Failure, ObjectKey};

/// How a heal went.
pub(super) struct Healed {
    pub(super) written: HashSet<ObjectKey>,
    /// With whether it may pass by itself.
    failed: HashMap<ObjectKey, bool>,
    /// What failed is not one object's, as making their namespace: for all that were not written. With whether it may pass.
    failed_for_all: Option<bool>,
    /// It was stopped before its end.
    stopped: bool,
    pub(super) failures: Vec<Failure>,
    pub(super) took: Duration,
    /// When it ended: what failed together is tried again together.
    pub(super) ended: Instant,
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
    /// Its turn came, and there was nothing to write: it is gone, say, and the watch has yet to tell.
    Nothing,
}

impl Default for Healed {
    /// Nothing was to be written.
    fn default() -> Self {
        Self { took: Duration::ZERO, ..Self::of(Done::default(), Instant::now()) }
    }
}

impl Healed {
    pub(super) fn of(done: Done, began: Instant) -> Self {
        let of_one = |failure: &Failure| Some((failure.object.clone()?, failure.transient));
        let failed = done.failures.iter().filter_map(of_one).collect();
        let failed_for_all = done.failures.iter().find(|failure| failure.object.is_none());
        let failed_for_all = failed_for_all.map(|failure| failure.transient);
        let written = done.baselines.into_iter().map(|(key, _)| key).collect();
        let (stopped, ended, took) = (done.stopped, Instant::now(), began.elapsed());
        Self { written, failed, failed_for_all, stopped, failures: done.failures, took, ended, spread: jitter() }
    }

    pub(super) fn fate(&self, key: &ObjectKey) -> Fate {
        match (self.failed.get(key), self.failed_for_all) {
            (Some(&passes), _) => Fate::Failed { passes },
            _ if self.written.contains(key) => Fate::Written,
            (_, Some(passes)) => Fate::Failed { passes },
            _ if self.stopped => Fate::NotReached,
            _ => Fate::Nothing,
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

    fn healed(written: &str, failures: Vec<Failure>, stopped: bool) -> Healed {
        let baseline = Baseline {
            digest: Digest::of(b"x"),
            uid: "u".into(),
            fields: "{}".into(),
            time: None,
            resource_version: 1,
        };
        let baselines = vec![(key(written), baseline)];
        Healed::of(Done { baselines, failures, stopped, ..Done::default() }, Instant::now())
    }

    fn fates(healed: &Healed) -> [Fate; 3] {
        ["a", "b", "c"].map(|name| healed.fate(&key(name)))
    }

    #[test]
    fn what_a_failure_of_all_kept_from_being_written_has_failed_and_is_not_begun_again_at_once() {
        let stopped = healed("a", Vec::new(), true);
        assert_eq!(fates(&stopped), [Fate::Written, Fate::NotReached, Fate::NotReached]);
        let one = healed("a", vec![Failure::new(Stage::Apply, "refused").on(key("b"))], true);
        assert_eq!(fates(&one), [Fate::Written, Fate::Failed { passes: false }, Fate::NotReached]);
        let all = healed("a", vec![Failure::new(Stage::Apply, "the namespace can't be made").transient()], false);
        assert_eq!(fates(&all), [Fate::Written, Fate::Failed { passes: true }, Fate::Failed { passes: true }]);
    }

    #[test]
    fn what_had_its_turn_and_no_result_is_not_begun_again_at_once() {
        assert_eq!(fates(&healed("a", Vec::new(), false)), [Fate::Written, Fate::Nothing, Fate::Nothing]);
        let none = Healed::default();
        assert_eq!(fates(&none), [Fate::Nothing; 3]);
        assert!(none.spread > 0.5, "its pause is one");
    }
}
