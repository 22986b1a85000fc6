//! Who works on what, and who has hung. Pure: time is an argument.
//!
//! One rule for all: a task shows a sign of life within its bound, or it hangs. A task at work shows one with each step and each answer; one that waits
//! for events is asked now and then, and answers. That the API server, a remote or the disk is away is no reason: waiting for it has a limit, whose
//! end is a sign of life too.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

/// The tasks that have to make progress.
#[derive(Debug, Default)]
pub struct Board {
    tasks: BTreeMap<u64, Task>,
    last: u64,
    /// Those that ended by a panic and were not started again.
    died: BTreeSet<String>,
}

#[derive(Debug)]
struct Task {
    name: String,
    bound: Duration,
    doing: Cow<'static, str>,
    since: Instant,
    /// The last sign of life.
    beat: Instant,
}

/// One task as it is at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The task.
    pub task: String,
    /// What it does.
    pub state: State,
}

/// What a task does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// This, for so long.
    Alive(Cow<'static, str>, Duration),
    /// This, for so long, and no sign of life for longer than its bound.
    Hangs {
        /// What it did last.
        doing: Cow<'static, str>,
        /// Since it began that.
        during: Duration,
        /// Since its last sign of life.
        silent: Duration,
        /// How long it may be silent.
        bound: Duration,
    },
    /// It ended by a panic.
    Died,
}

impl Board {
    /// A task begins. It may be silent for as long as `bound`. The number names it from now on.
    pub fn enter(&mut self, name: String, bound: Duration, now: Instant) -> u64 {
        self.died.remove(&name);
        self.last += 1;
        self.tasks.insert(self.last, Task { name, bound, doing: Cow::Borrowed("starting"), since: now, beat: now });
        self.last
    }

    /// A task begins a step.
    pub fn step(&mut self, task: u64, doing: Cow<'static, str>, now: Instant) {
        if let Some(task) = self.tasks.get_mut(&task) {
            if task.doing != doing {
                (task.doing, task.since) = (doing, now);
            }
            task.beat = now;
        }
    }

    /// A task shows a sign of life.
    pub fn beat(&mut self, task: u64, now: Instant) {
        if let Some(task) = self.tasks.get_mut(&task) {
            task.beat = now;
        }
    }

    /// A task ended, well or by a panic.
    pub fn leave(&mut self, task: u64, died: bool) {
        if let Some(Task { name, .. }) = self.tasks.remove(&task).filter(|_| died) {
            self.died.insert(name);
        }
    }

    /// All tasks, by name.
    pub fn reports(&self, now: Instant) -> Vec<Report> {
        let died = self.died.iter().map(|name| Report { task: name.clone(), state: State::Died });
        let mut reports: Vec<Report> = self.tasks.values().map(|task| task.report(now)).chain(died).collect();
        reports.sort_by(|a, b| a.task.cmp(&b.task));
        reports
    }
}

impl Task {
    fn report(&self, now: Instant) -> Report {
        let (doing, bound) = (self.doing.clone(), self.bound);
        let (during, silent) = (now.saturating_duration_since(self.since), now.saturating_duration_since(self.beat));
        let state =
            if silent > bound { State::Hangs { doing, during, silent, bound } } else { State::Alive(doing, during) };
        Report { task: self.name.clone(), state }
    }
}

impl Report {
    /// Whether the task is as it should be.
    pub fn is_alive(&self) -> bool {
        matches!(self.state, State::Alive(..))
    }
}

impl fmt::Display for Report {
    /// `environment dev: rendering 3f2a91c for 2s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |duration: Duration| humantime::format_duration(Duration::from_secs(duration.as_secs()));
        let task = &self.task;
        match &self.state {
            State::Alive(doing, during) => write!(f, "{task}: {doing} for {}", time(*during)),
            State::Hangs { doing, during, silent, bound } => {
                let (during, silent, bound) = (time(*during), time(*silent), time(*bound));
                write!(f, "{task} hangs: {doing} for {during}, without progress for {silent} (at most {bound})")
            }
            State::Died => write!(f, "{task} died"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a moment to begin with")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUND: Duration = Duration::from_secs(300);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn said(board: &Board, now: Instant) -> Vec<String> {
        board.reports(now).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn who_is_silent_for_longer_than_its_bound_hangs_and_is_named_with_what_it_does() {
        let (mut board, start) = (Board::default(), Instant::now());
        let dev = board.enter("environment dev".to_owned(), BOUND, start);
        let source = board.enter("source".to_owned(), BOUND * 3, start);
        board.step(dev, "rendering 3f2a91c".into(), start + seconds(10));
        board.step(source, "fetching".into(), start);
        assert!(board.reports(start + seconds(310)).iter().all(Report::is_alive), "the bound itself is allowed");
        let later = start + seconds(311);
        let hangs = "environment dev hangs: rendering 3f2a91c for 5m 1s, without progress for 5m 1s (at most 5m)";
        assert_eq!(said(&board, later), [hangs, "source: fetching for 5m 11s"]);
        board.beat(dev, later);
        assert_eq!(
            said(&board, later),
            ["environment dev: rendering 3f2a91c for 5m 1s", "source: fetching for 5m 11s"]
        );
    }

    #[test]
    fn a_sign_of_life_does_not_hide_how_long_a_step_takes() {
        let (mut board, start) = (Board::default(), Instant::now());
        let dev = board.enter("environment dev".to_owned(), BOUND, start);
        for minute in 0..60 {
            board.step(dev, "applying 3f2a91c".into(), start + seconds(60 * minute));
        }
        assert_eq!(said(&board, start + seconds(3600)), ["environment dev: applying 3f2a91c for 1h"]);
        let hangs = "environment dev hangs: applying 3f2a91c for 1h 10m, without progress for 11m (at most 5m)";
        assert_eq!(said(&board, start + seconds(4200)), [hangs]);
    }

    #[test]
    fn who_left_is_not_missed_and_who_died_is_until_it_is_back() {
        let (mut board, start) = (Board::default(), Instant::now());
        let [left, died] = ["a", "b"].map(|name| board.enter(name.to_owned(), BOUND, start));
        board.leave(left, false);
        board.leave(died, true);
        assert_eq!(said(&board, start + BOUND * 9), ["b died"]);
        // What a late clone says changes nothing.
        board.beat(died, start);
        board.step(left, "x".into(), start);
        board.leave(left, true);
        assert_eq!(said(&board, start), ["b died"]);
        board.enter("b".to_owned(), BOUND, start);
        assert_eq!(said(&board, start), ["b: starting for 0s"]);
    }

    #[derive(Debug, Clone)]
    enum Event {
        Enter,
        Step(u64, bool),
        Beat(u64),
        Leave(u64, bool),
        Pass(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Enter),
            (1..6_u64, any::<bool>()).prop_map(|(task, other)| Event::Step(task, other)),
            (1..6_u64).prop_map(Event::Beat),
            (1..6_u64, any::<bool>()).prop_map(|(task, died)| Event::Leave(task, died)),
            (0..400_u64).prop_map(Event::Pass),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: a task hangs if and only if its own last sign of life is older than its bound.
        #[test]
        fn only_the_own_sign_of_life_counts(events in prop::collection::vec(event(), 0..60)) {
            let (mut board, mut now) = (Board::default(), Instant::now());
            let mut last: BTreeMap<u64, Instant> = BTreeMap::new();
            let (mut entered, mut died) = (0, 0);
            for event in events {
                match event {
                    Event::Enter => {
                        entered += 1;
                        last.insert(board.enter(format!("task {entered}"), BOUND, now), now);
                    }
                    Event::Step(task, other) => {
                        board.step(task, if other { "b" } else { "a" }.into(), now);
                        last.entry(task).and_modify(|beat| *beat = now);
                    }
                    Event::Beat(task) => {
                        board.beat(task, now);
                        last.entry(task).and_modify(|beat| *beat = now);
                    }
                    Event::Leave(task, by_panic) => {
                        board.leave(task, by_panic);
                        died += usize::from(last.remove(&task).is_some() && by_panic);
                    }
                    Event::Pass(time) => now += seconds(time),
                }
                let hang = last.values().filter(|beat| now - **beat > BOUND).count();
                let reports = board.reports(now);
                prop_assert_eq!(reports.len(), last.len() + died);
                prop_assert_eq!(reports.iter().filter(|report| !report.is_alive()).count(), hang + died);
            }
        }
    }
}
