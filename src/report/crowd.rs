//! Much of a kind at once, such as drifts: the first few are told one by one, the rest of the burst in one line when it is over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::model::ObjectKey;

/// So many objects of a burst are told one by one.
const SINGLY: usize = 16;
/// A burst is over when nothing came for so long.
const QUIET: Duration = Duration::from_secs(2);
/// One that does not end is told after this time, and again.
const LONGEST: Duration = Duration::from_secs(30);
/// So many of a crowd's objects are named.
const NAMED: usize = 5;

/// The burst that is under way. Told in one line is what has the same `K`.
#[derive(Debug)]
pub struct Crowd<K> {
    singly: usize,
    last: Option<Instant>,
    /// What was not told one by one, and since when.
    alike: BTreeMap<K, Alike>,
    since: Option<Instant>,
}

/// Objects that are told in one line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alike {
    /// How many objects.
    pub objects: usize,
    /// Some of them.
    pub examples: Vec<ObjectKey>,
}

impl<K> Default for Crowd<K> {
    fn default() -> Self {
        Self { singly: 0, last: None, alike: BTreeMap::new(), since: None }
    }
}

impl<K: Ord> Crowd<K> {
    /// Whether these many more may be told one by one. If not they are a crowd's: [`Self::join`].
    pub fn admits(&mut self, count: usize, now: Instant) -> bool {
        if self.last.is_none_or(|last| now >= last + QUIET) && self.alike.is_empty() {
            self.singly = 0;
        }
        if count > 0 {
            self.last = Some(now);
        }
        let admitted = self.alike.is_empty() && self.singly + count <= SINGLY;
        self.singly += if admitted { count } else { 0 };
        admitted
    }

    /// Counts one that is not told by itself.
    pub fn join(&mut self, key: &ObjectKey, alike: K, now: Instant) {
        self.last = Some(now);
        self.since.get_or_insert(now);
        let alike = self.alike.entry(alike).or_default();
        alike.objects += 1;
        if alike.examples.len() < NAMED {
            alike.examples.push(key.clone());
        }
    }

    /// When the crowd is to be told, if nothing more comes.
    pub fn due_at(&self) -> Option<Instant> {
        let (last, since) = (self.last?, self.since?);
        Some((last + QUIET).min(since + LONGEST))
    }

    /// The crowd, once it is due, and how long it took to come; what it had is forgotten.
    pub fn take_due(&mut self, now: Instant) -> Vec<(K, Alike, Duration)> {
        if self.due_at().is_some_and(|at| at <= now) { self.take() } else { Vec::new() }
    }

    /// The crowd, due or not.
    pub fn take(&mut self) -> Vec<(K, Alike, Duration)> {
        let took = self.since.take().zip(self.last).map(|(since, last)| last.saturating_duration_since(since));
        let alike = std::mem::take(&mut self.alike).into_iter();
        alike.map(|(what, alike)| (what, alike, took.unwrap_or_default())).collect()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test has a clock")]
mod tests {
    use super::*;

    fn join(crowd: &mut Crowd<()>, count: usize, now: Instant) {
        for index in 0..count {
            let key = ObjectKey::new("", "ConfigMap", "n", &format!("m{index}"));
            crowd.join(&key, (), now);
        }
    }

    #[test]
    fn the_first_are_told_one_by_one_and_the_rest_in_one_line_when_the_burst_is_over() {
        let (mut crowd, start) = (Crowd::default(), Instant::now());
        assert!(crowd.admits(3, start) && crowd.admits(13, start));
        for batch in 0..5 {
            let now = start + Duration::from_secs(batch);
            assert!(!crowd.admits(50, now));
            join(&mut crowd, 50, now);
            assert!(crowd.take_due(now).is_empty());
        }
        // One more, alone: the line is not out yet, and it is part of it.
        let now = start + Duration::from_secs(5);
        assert!(!crowd.admits(1, now));
        join(&mut crowd, 1, now);
        let at = crowd.due_at().unwrap();
        assert_eq!(at, now + QUIET);
        let told = crowd.take_due(at);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].1.objects, told[0].1.examples.len(), told[0].2), (251, NAMED, Duration::from_secs(5)));
        assert_eq!((crowd.due_at(), crowd.take_due(at)), (None, Vec::new()));
        assert!(crowd.admits(16, at));
    }

    #[test]
    fn a_burst_without_an_end_is_told_now_and_then() {
        let (mut crowd, start, mut lines, mut objects) = (Crowd::default(), Instant::now(), 0, 0);
        for second in 0..300 {
            let now = start + Duration::from_secs(second);
            if !crowd.admits(20, now) {
                join(&mut crowd, 20, now);
            }
            for told in crowd.take_due(now) {
                (lines, objects) = (lines + 1, objects + told.1.objects);
            }
        }
        objects += crowd.take().iter().map(|told| told.1.objects).sum::<usize>();
        assert!((9..=11).contains(&lines), "{lines}");
        assert_eq!(objects, 300 * 20, "all are counted");
    }

    #[test]
    fn changes_now_and_then_are_always_told_one_by_one() {
        let (mut crowd, start) = (Crowd::<()>::default(), Instant::now());
        assert!((0..100).all(|round| crowd.admits(5, start + QUIET * round)));
    }
}
