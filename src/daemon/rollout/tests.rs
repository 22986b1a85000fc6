use proptest::prelude::*;

use super::*;
use crate::health::environment::Unready;

const TIMEOUT: Duration = Duration::from_secs(300);

fn commit(byte: u8) -> CommitId {
    CommitId::new([byte; 20])
}

fn object(name: &str, failed: bool, message: &str) -> Unready {
    let key = ObjectKey::new("apps", "Deployment", "n", name);
    Unready { key, failed, reason: "Reason".into(), message: message.into() }
}

fn summary(named: Vec<Unready>) -> Summary {
    Summary { objects: 5, unready: named.len(), named, turns_at: None }
}

fn current() -> Summary {
    summary(Vec::new())
}

fn waiting(message: &str) -> Summary {
    summary(vec![object("web", false, message)])
}

fn failed() -> Summary {
    summary(vec![object("web", true, "it crashes")])
}

/// A rollout under a clock that the test moves.
struct Bench {
    rollout: Rollout,
    now: Instant,
    tellings: Vec<(Instant, Telling)>,
    looks: Vec<Instant>,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        Self { rollout: Rollout::new(TIMEOUT, now), now, tellings: Vec::new(), looks: Vec::new() }
    }

    /// A deployment ends, and its own status has the first word.
    fn deploy(&mut self, byte: u8, after: Summary) {
        self.rollout.deployed(commit(byte), true, false, self.now);
        self.rollout.saw(after, self.now);
        let word = self.rollout.word(self.now).unwrap();
        self.rollout.told_with_deployment(word, self.now);
        self.settle();
    }

    fn see(&mut self, summary: Summary) {
        self.rollout.saw(summary, self.now);
        self.settle();
    }

    /// Does what there is to be done now. What is looked into is found at once.
    fn settle(&mut self) {
        for _ in 0..10 {
            match self.rollout.next(self.now) {
                None => return,
                Some(Step::Look(subject)) => {
                    self.looks.push(self.now);
                    let found =
                        subject.keys.iter().map(|key| (key.clone(), "the image is missing".to_owned())).collect();
                    self.rollout.looked(subject, found);
                }
                Some(Step::Tell(telling)) => {
                    self.rollout.told(telling.word.clone(), telling.ended, self.now);
                    self.tellings.push((self.now, telling));
                }
            }
        }
        panic!("it does not settle: {:?}", self.rollout);
    }

    /// Lets time pass, waking when it asks to be woken.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.rollout.wake_at(self.now).filter(|at| *at <= until) {
            assert!(at > self.now, "asked to be woken at a moment that it was asked about");
            self.now = at;
            self.settle();
        }
        self.now = until;
    }

    fn last(&self) -> &Telling {
        &self.tellings.last().expect("something was told").1
    }
}

#[test]
fn what_is_healthy_as_soon_as_it_is_deployed_is_told_with_the_deployment_alone() {
    let mut bench = Bench::new();
    bench.deploy(1, current());
    bench.pass(TIMEOUT * 3);
    assert!(bench.tellings.is_empty() && bench.looks.is_empty());
    assert_eq!(bench.rollout.wake_at(bench.now), None, "nothing to wake for");
}

#[test]
fn a_rollout_that_gets_there_is_told_with_the_time_it_took() {
    let mut bench = Bench::new();
    bench.deploy(1, waiting("0 of 2"));
    bench.pass(Duration::from_secs(4));
    bench.see(waiting("1 of 2"));
    assert_eq!(bench.last().word.verdict, Verdict::RollingOut);
    assert!(!bench.last().turned, "not worth a line");
    bench.pass(Duration::from_secs(4));
    bench.see(current());
    let told = bench.last();
    assert!(told.turned && told.ended == Some(End::Healthy) && told.word.verdict == Verdict::Healthy);
    assert_eq!((told.commit, told.took), (commit(1), Duration::from_secs(8)));
}

#[test]
fn a_rollout_that_runs_out_of_time_ends_so_and_may_still_become_healthy() {
    let mut bench = Bench::new();
    bench.deploy(1, waiting("0 of 2"));
    bench.pass(TIMEOUT);
    let told = bench.last();
    assert!(told.ended == Some(End::TimedOut) && told.turned && told.word.verdict == Verdict::TimedOut);
    assert_eq!(told.object.as_ref().unwrap().to_string(), "Deployment/n/web");
    assert_eq!(
        told.word.message,
        "not ready within 5m: 4 of 5 objects are ready; Deployment/n/web: 0 of 2: the image is missing"
    );
    bench.pass(TIMEOUT * 2);
    assert_eq!(bench.tellings.iter().filter(|(_, telling)| telling.ended.is_some()).count(), 1);
    bench.see(current());
    assert!(bench.last().turned && bench.last().ended.is_none() && bench.last().word.verdict == Verdict::Healthy);
}

#[test]
fn an_object_that_fails_is_told_at_once_and_the_rollout_still_has_its_time() {
    let mut bench = Bench::new();
    bench.deploy(1, waiting("0 of 2"));
    bench.pass(Duration::from_secs(2));
    bench.see(failed());
    assert!(bench.last().turned && bench.last().ended.is_none() && bench.last().word.verdict == Verdict::Failed);
    assert!(bench.last().word.message.ends_with("it crashes: the image is missing"), "{}", bench.last().word.message);
    bench.pass(TIMEOUT);
    assert!(bench.last().ended == Some(End::TimedOut) && bench.last().word.verdict == Verdict::Failed);
}

#[test]
fn what_stands_still_is_looked_into_once() {
    let mut bench = Bench::new();
    bench.deploy(1, waiting("0 of 2"));
    bench.pass(STALLED - Duration::from_secs(1));
    assert!(bench.looks.is_empty());
    bench.pass(Duration::from_secs(100));
    assert_eq!(bench.looks.len(), 1);
    assert!(bench.last().word.message.ends_with("the image is missing"));
    assert_eq!(bench.last().word.verdict, Verdict::RollingOut);
}

#[test]
fn a_newer_deployment_forgets_the_rollout_of_the_one_before() {
    let mut bench = Bench::new();
    bench.deploy(1, waiting("0 of 2"));
    bench.pass(TIMEOUT - Duration::from_secs(1));
    bench.deploy(2, waiting("0 of 2"));
    bench.pass(TIMEOUT - Duration::from_secs(1));
    assert!(bench.tellings.iter().all(|(_, telling)| telling.ended.is_none()));
    bench.pass(Duration::from_secs(1));
    assert!(bench.last().ended == Some(End::TimedOut) && bench.last().commit == commit(2));
}

#[test]
fn what_nothing_was_written_for_goes_on_as_before() {
    let mut bench = Bench::new();
    bench.deploy(1, waiting("0 of 2"));
    bench.pass(TIMEOUT / 2);
    bench.rollout.deployed(commit(1), false, false, bench.now);
    bench.pass(TIMEOUT / 2);
    assert!(bench.last().ended.is_some(), "a resync gives no more time");
}

#[test]
fn a_restart_does_not_give_a_rollout_that_has_failed_another_chance() {
    let mut bench = Bench::new();
    bench.rollout.deployed(commit(1), false, true, bench.now);
    bench.see(waiting("0 of 2"));
    assert_eq!(bench.last().word.verdict, Verdict::TimedOut);
    assert!(bench.last().ended.is_none(), "its history says so already");
}

#[test]
fn what_was_healthy_is_given_time_again() {
    let mut bench = Bench::new();
    bench.deploy(1, current());
    bench.pass(TIMEOUT * 5);
    bench.see(waiting("1 of 2"));
    assert_eq!(bench.last().word.verdict, Verdict::Progressing);
    bench.pass(TIMEOUT);
    assert!(
        bench.last().word.verdict == Verdict::TimedOut && bench.last().ended.is_none(),
        "the commit was rolled out well"
    );
}

#[test]
fn what_could_not_be_told_is_told_later_without_a_second_line() {
    let mut bench = Bench::new();
    bench.deploy(1, waiting("0 of 2"));
    bench.pass(Duration::from_secs(2));
    bench.rollout.saw(current(), bench.now);
    let Some(Step::Tell(first)) = bench.rollout.next(bench.now) else { panic!("it is to be told") };
    assert!(first.turned);
    bench.rollout.untold(bench.now);
    assert_eq!(bench.rollout.next(bench.now), None);
    bench.pass(AGAIN);
    assert!(!bench.last().turned && bench.last().word == first.word && bench.last().ended == first.ended);
}

#[test]
fn a_failed_rollout_that_could_not_be_told_is_told_later_without_a_second_line() {
    let mut bench = Bench::new();
    bench.deploy(1, failed());
    bench.pass(TIMEOUT - Duration::from_secs(1));
    assert!(bench.last().turned, "that it failed is worth a line");
    bench.now += Duration::from_secs(1);
    let Some(Step::Tell(first)) = bench.rollout.next(bench.now) else { panic!("it is to be told") };
    assert!(first.turned && first.ended == Some(End::TimedOut), "and that time is over is worth another");
    bench.rollout.untold(bench.now);
    bench.pass(AGAIN);
    assert!(!bench.last().turned && bench.last().ended == Some(End::TimedOut));
}

#[test]
fn what_was_found_out_about_something_else_is_not_told() {
    let mut bench = Bench::new();
    bench.deploy(1, waiting("0 of 2"));
    bench.pass(Duration::from_secs(2));
    bench.rollout.saw(failed(), bench.now);
    let Some(Step::Look(subject)) = bench.rollout.next(bench.now) else { panic!("it is looked into") };
    assert_eq!(bench.rollout.next(bench.now), None, "told when it was looked into");
    assert_eq!(bench.rollout.wake_at(bench.now), Some(bench.now + LONGEST_LOOK), "or if that takes too long");
    bench.deploy(2, current());
    let found = subject.keys.iter().map(|key| (key.clone(), "too late".to_owned())).collect();
    bench.rollout.looked(subject, found);
    bench.see(waiting("1 of 2"));
    bench.pass(TIMEOUT);
    assert!(bench.tellings.iter().all(|(_, telling)| !telling.word.message.contains("too late")));
}

#[derive(Debug, Clone)]
enum Event {
    Deploy { wrote: bool },
    See(u8),
    Pass(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        1 => any::<bool>().prop_map(|wrote| Event::Deploy { wrote }),
        5 => (0_u8..8).prop_map(Event::See),
        // Milliseconds: storms, rollouts, nights.
        3 => prop_oneof![0_u64..300, 0_u64..30_000, 0_u64..1_000_000].prop_map(Event::Pass),
    ];
    prop::collection::vec(event, 1..80)
}

fn seen(number: u8) -> Summary {
    match number {
        0..2 => current(),
        2 => failed(),
        3 => summary(vec![object("db", true, "it crashes"), object("web", false, "0 of 2")]),
        other => waiting(&format!("{other} of 9")),
    }
}

proptest! {
    #[test]
    fn people_are_told_the_truth_in_the_end_and_not_too_often(events in events()) {
        let mut bench = Bench::new();
        let (mut last, mut byte) = (None, 0_u8);
        for event in events {
            match event {
                Event::Deploy { wrote } => {
                    byte = byte.wrapping_add(1);
                    bench.rollout.deployed(commit(byte), wrote, false, bench.now);
                    bench.see(last.clone().unwrap_or_else(current));
                    last.get_or_insert_with(current);
                }
                Event::See(number) => {
                    last = last.map(|_| seen(number));
                    if let Some(summary) = &last {
                        bench.see(summary.clone());
                    }
                }
                Event::Pass(milliseconds) => bench.pass(Duration::from_millis(milliseconds)),
            }
        }
        bench.pass(TIMEOUT * 2);
        prop_assert_eq!(bench.rollout.wake_at(bench.now), None, "at rest it wakes nobody");
        if let Some(summary) = last {
            let is = bench.last().word.verdict;
            prop_assert_eq!(is == Verdict::Healthy, summary.is_current());
            prop_assert_eq!(is == Verdict::Failed, summary.has_failed());
            prop_assert_eq!(&bench.last().word, &bench.rollout.word(bench.now).unwrap());
        }
        let timed_out = |telling: &&(Instant, Telling)| telling.1.ended == Some(End::TimedOut);
        for (_, telling) in bench.tellings.iter().filter(timed_out) {
            prop_assert!(telling.took >= TIMEOUT && telling.word.verdict != Verdict::Healthy);
        }
        for pair in bench.tellings.windows(2) {
            prop_assert!(pair[1].0 - pair[0].0 >= PACE, "told twice within a second");
            prop_assert!(pair[0].1.word != pair[1].1.word || pair[1].1.ended.is_some(), "told twice");
        }
        for pair in bench.looks.windows(2) {
            prop_assert!(pair[1] - pair[0] >= BETWEEN_LOOKS, "looked into too often");
        }
    }
}
