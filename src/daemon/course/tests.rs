//! The course of an environment as a model: random news, random ends, and what must hold whatever happens.

use proptest::prelude::*;

use super::*;

mod definitions;

const RESYNC: Duration = Duration::from_secs(600);

fn id(number: u8) -> CommitId {
    CommitId::new([number; 20])
}

fn failure(stage: Stage, transient: bool) -> Failure {
    Failure { transient, ..Failure::new(stage, "no") }
}

struct World {
    course: Course,
    seen: Seen,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let seen =
            Seen { now, head: Some(id(1)), broken: None, suspended: false, approved: None, peers: 0, drift: false };
        Self { course: Course::new(RESYNC, now, 1.0), seen }
    }

    fn next(&mut self) -> Option<Job> {
        self.course.next(&self.seen, 1.0)
    }

    fn later(&mut self, seconds: u64) {
        self.seen.now += Duration::from_secs(seconds);
    }

    fn refuse(&mut self, commit: CommitId, failure: &Failure) {
        self.course.refused(commit, failure, self.seen.peers, self.seen.now, 1.0);
    }

    fn deploy(&mut self, commit: CommitId) {
        self.course.passed(commit);
        self.written(false);
    }

    fn written(&mut self, incomplete: bool) {
        let failure = incomplete.then(|| failure(Stage::Apply, true));
        self.course.written(failure.as_ref(), self.seen.peers, self.seen.now, 1.0);
    }
}

#[test]
fn what_has_not_come_up_yet_is_looked_for_again_soon_and_then_backed_off_from() {
    let mut world = World::new();
    assert_eq!(world.next(), Some(Job::Restore(id(1))));
    let away = failure(Stage::Build, true).awaited();
    for pause in [1, 2, 4, 4, 4] {
        world.refuse(id(1), &away);
        assert_eq!(world.course.wake_at(false), Some(world.seen.now + Duration::from_secs(pause)));
        assert!(!world.course.is_settled(Some(id(1)), false));
        world.later(pause);
        assert_eq!(world.next(), Some(Job::Commit(id(1))));
    }
    world.refuse(id(1), &failure(Stage::Build, true));
    assert_eq!(world.course.wake_at(false), Some(world.seen.now + Duration::from_secs(8)));
}

#[test]
fn a_first_sync_and_a_restart_on_the_same_head_go_object_by_object() {
    let mut world = World::new();
    assert_eq!(world.next(), Some(Job::Restore(id(1))));
    let mut world = World::new();
    world.course.inherit(Some(id(1)), true);
    assert_eq!(world.next(), Some(Job::Restore(id(1))));
    let mut world = World::new();
    world.course.inherit(Some(id(9)), true);
    assert_eq!(world.next(), Some(Job::Commit(id(1))), "another head than the one that passed");
}

#[test]
fn what_has_passed_is_tried_again_object_by_object() {
    let passing = failure(Stage::DryRun, true);
    let retried = |world: &mut World| {
        world.refuse(id(1), &passing);
        world.later(2);
        world.next()
    };
    let mut world = at_rest(1.0);
    world.later(600);
    assert_eq!(world.next(), Some(Job::Resync(id(1))));
    assert_eq!(retried(&mut world), Some(Job::Restore(id(1))));
    let mut world = World::new();
    world.course.inherit(Some(id(1)), true);
    assert_eq!(world.next(), Some(Job::Restore(id(1))));
    assert_eq!(retried(&mut world), Some(Job::Restore(id(1))), "after a restart");
    // Under another definition it is another commit.
    world.deploy(id(1));
    world.course.redefined(RESYNC);
    assert_eq!(world.next(), Some(Job::Commit(id(1))));
    assert_eq!(retried(&mut world), Some(Job::Commit(id(1))));
    world.deploy(id(1));
    world.later(600);
    assert_eq!(world.next(), Some(Job::Resync(id(1))));
    assert_eq!(retried(&mut world), Some(Job::Restore(id(1))));
}

#[test]
fn a_bad_commit_waits_for_the_next_one_and_a_passing_trouble_for_its_pause() {
    let mut world = World::new();
    world.next();
    world.deploy(id(1));
    world.seen.head = Some(id(2));
    assert!(!world.course.is_settled(Some(id(2)), false), "it is new");
    assert_eq!(world.next(), Some(Job::Commit(id(2))));
    world.refuse(id(2), &failure(Stage::Render, false));
    world.later(30);
    assert!(world.next().is_none() && world.course.is_settled(Some(id(2)), false));
    world.seen.head = Some(id(3));
    assert_eq!(world.next(), Some(Job::Commit(id(3))));
    world.refuse(id(3), &failure(Stage::Plan, true));
    assert!(world.next().is_none() && !world.course.is_settled(Some(id(3)), false), "it is tried again");
    world.later(2);
    assert_eq!(world.next(), Some(Job::Commit(id(3))), "retried");
    assert_eq!(world.next(), None, "once");
}

#[test]
fn the_end_of_an_older_commit_does_not_forget_the_newer_head() {
    let mut world = World::new();
    world.next();
    world.course.passed(id(1));
    world.course.trying(id(2));
    world.refuse(id(2), &failure(Stage::DryRun, true));
    world.written(false);
    world.seen.head = Some(id(2));
    world.later(2);
    assert_eq!(world.next(), Some(Job::Commit(id(2))));
}

#[test]
fn an_approval_lets_a_refused_head_go_on_once() {
    let mut world = World::new();
    world.next();
    world.refuse(id(1), &failure(Stage::Prune, false));
    world.seen.approved = Some(id(7));
    assert_eq!(world.next(), None, "an approval of another commit");
    world.seen.approved = Some(id(1));
    assert_eq!(world.next(), Some(Job::Commit(id(1))));
    assert_eq!(world.next(), None);
}

#[test]
fn a_refusal_beside_other_environments_is_looked_at_again_when_they_change() {
    let mut world = World::new();
    world.next();
    world.refuse(id(1), &failure(Stage::Plan, false));
    assert_eq!(world.next(), None);
    world.seen.peers = 1;
    assert_eq!(world.next(), Some(Job::Commit(id(1))));
}

/// Its neighbours delete nothing that it might ask for, so that must not stay unknown.
#[test]
fn what_a_suspended_environment_asks_for_is_found_out() {
    let mut world = World::new();
    world.seen.suspended = true;
    assert_eq!((world.next(), world.next()), (Some(Job::Suspended(id(1))), None));
    for pause in [1, 2, 4] {
        world.course.not_claimed(&failure(Stage::Render, true), world.seen.now, 1.0);
        assert_eq!(world.course.wake_at(true), Some(world.seen.now + Duration::from_secs(pause)));
        world.later(pause);
        assert_eq!((world.next(), world.next()), (Some(Job::Suspended(id(1))), None), "tried again");
    }
    world.course.not_claimed(&failure(Stage::Render, false), world.seen.now, 1.0);
    world.later(10);
    assert_eq!(world.next(), None, "it asks for what it asked for before");
    // The same head may ask for something else under another definition.
    world.course.redefined(RESYNC);
    assert_eq!((world.next(), world.next()), (Some(Job::Suspended(id(1))), None));
    // What is not waited for any more does not spin.
    world.course.not_claimed(&failure(Stage::Render, true), world.seen.now, 1.0);
    world.seen.head = None;
    world.later(60);
    assert_eq!(world.next(), None);
    assert!(world.course.wake_at(true).unwrap() > world.seen.now);
    world.seen.head = Some(id(2));
    assert_eq!((world.next(), world.next()), (Some(Job::Suspended(id(2))), None));
}

#[test]
fn drift_is_looked_at_after_a_new_head_and_also_while_suspended() {
    let mut world = World::new();
    world.next();
    world.deploy(id(1));
    (world.seen.head, world.seen.drift) = (Some(id(2)), true);
    assert_eq!(world.next(), Some(Job::Commit(id(2))));
    world.deploy(id(2));
    assert_eq!(world.next(), Some(Job::Heal));
    world.seen.suspended = true;
    assert_eq!(world.next(), Some(Job::Suspended(id(2))));
    assert_eq!(world.next(), Some(Job::Heal));
}

#[test]
fn a_start_without_the_branch_restores_what_stood_before() {
    let mut world = World::new();
    world.course.inherit(Some(id(1)), true);
    world.seen.head = None;
    assert_eq!(world.next(), Some(Job::Restore(id(1))));
    world.deploy(id(1));
    assert_eq!(world.next(), None);
    // It comes back, at the same commit or another.
    world.seen.head = Some(id(1));
    assert_eq!(world.next(), Some(Job::Commit(id(1))));
    // Nothing was ever deployed: there is nothing to restore.
    let mut world = World::new();
    world.seen.head = None;
    assert_eq!(world.next(), None);
    world.seen.head = Some(id(2));
    assert!(world.next().is_some());
}

#[test]
fn pauses_double_up_to_a_minute_or_the_resync_period() {
    for (resync, longest) in [(600, 60), (60, 60), (7, 7)] {
        let mut world = World::new();
        world.course.redefined(Duration::from_secs(resync));
        world.next();
        world.course.passed(id(1));
        let pauses = [1, 2, 4, 8, 16, 32, 64, 64].map(|pause: u64| {
            world.written(true);
            let paused = world.course.target_retry.at.unwrap() - world.seen.now;
            assert_eq!(paused, Duration::from_secs(pause.min(longest)));
            world.course.passed(id(1));
            paused
        });
        assert_eq!(pauses.last(), Some(&Duration::from_secs(longest)));
    }
}

/// A world at rest at its only head, whose first resync is jittered by this.
fn at_rest(jitter: f64) -> World {
    let mut world = World::new();
    world.course = Course::new(RESYNC, world.seen.now, jitter);
    world.next();
    world.deploy(id(1));
    assert_eq!(world.next(), None);
    world
}

#[test]
fn every_resync_is_jittered() {
    let mut world = at_rest(0.8);
    for (jitter, after) in [(1.2, 480), (0.9, 720), (1.0, 540), (1.0, 600)] {
        let at = world.seen.now + Duration::from_secs(after);
        assert_eq!(world.course.wake_at(false), Some(at));
        world.later(after - 1);
        assert_eq!(world.course.next(&world.seen, jitter), None);
        world.later(1);
        assert_eq!(world.course.next(&world.seen, jitter), Some(Job::Resync(id(1))));
        assert_eq!(world.course.next(&world.seen, 0.5), None, "nor has it another one");
    }
}

#[test]
fn another_resync_period_holds_at_once() {
    let began = at_rest(1.0);
    let redefined = |after: u64, resync: u64| {
        let mut world = at_rest(1.0);
        world.seen.now = began.seen.now;
        world.course.resynced = began.seen.now;
        world.later(after);
        world.course.redefined(Duration::from_secs(resync));
        assert_eq!(world.next(), Some(Job::Commit(id(1))));
        world.deploy(id(1));
        world
    };
    // Shorter: it counts from the last resync. Shorter than what is over already: at once. Longer: not when it would have been.
    let mut world = redefined(10, 60);
    assert_eq!(world.next(), None);
    assert_eq!(world.course.wake_at(false), Some(began.seen.now + Duration::from_secs(60)));
    world.later(50);
    assert_eq!(world.next(), Some(Job::Resync(id(1))));
    let mut world = redefined(100, 60);
    assert_eq!(world.next(), Some(Job::Resync(id(1))));
    assert_eq!(world.course.wake_at(false), Some(world.seen.now + Duration::from_secs(60)));
    let mut world = redefined(10, 3600);
    world.later(600);
    assert_eq!(world.next(), None);
}

/// How a job ended, or what was seen.
#[derive(Debug, Clone)]
enum Event {
    Head(Option<u8>),
    Suspend(bool),
    Broken(Option<u8>),
    Approve(u8),
    Peers,
    Drift,
    Redefine(u64),
    Wait(u64),
    Refuse(bool),
    Write(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => prop::option::weighted(0.9, 1..6u8).prop_map(Event::Head),
        1 => any::<bool>().prop_map(Event::Suspend),
        1 => prop::option::of(50..53u8).prop_map(Event::Broken),
        1 => (1..6u8).prop_map(Event::Approve),
        1 => Just(Event::Peers),
        2 => Just(Event::Drift),
        1 => (1..3000u64).prop_map(Event::Redefine),
        3 => (1..2000u64).prop_map(Event::Wait),
        3 => any::<bool>().prop_map(Event::Refuse),
        4 => any::<bool>().prop_map(Event::Write),
    ]
}

proptest! {
    /// Whatever happens: when there is nothing to do, no timer lies in the past (a task that waits for it would spin), and the head that is seen
    /// was taken up. What passed its gates under this definition is tried again object by object, and nothing else is but a first sync.
    #[test]
    fn nothing_spins_and_no_head_is_lost(events in prop::collection::vec(event(), 1..60)) {
        let mut world = World::new();
        let (mut job, mut passed, mut first) = (None, None, true);
        for event in events {
            match event {
                Event::Head(head) => world.seen.head = head.map(id),
                Event::Suspend(suspended) => world.seen.suspended = suspended,
                Event::Broken(commit) => world.seen.broken = commit.map(id),
                Event::Approve(commit) => world.seen.approved = Some(id(commit)),
                Event::Peers => world.seen.peers += 1,
                Event::Drift => world.seen.drift = true,
                Event::Redefine(resync) => {
                    world.course.redefined(Duration::from_secs(resync));
                    passed = None;
                }
                Event::Wait(seconds) => world.later(seconds),
                Event::Refuse(transient) => {
                    if let Some(Job::Suspended(_)) = job {
                        world.course.not_claimed(&failure(Stage::Render, transient), world.seen.now, 1.0);
                        job = None;
                    }
                    if let Some(Job::Commit(commit) | Job::Restore(commit) | Job::Resync(commit)) = job.take() {
                        world.refuse(commit, &failure(Stage::Plan, transient));
                    }
                }
                Event::Write(incomplete) => {
                    if let Some(Job::Commit(commit) | Job::Restore(commit) | Job::Resync(commit)) = job.take() {
                        world.course.passed(commit);
                        world.written(incomplete);
                        passed = Some(commit);
                    }
                }
            }
            let mut taken = 0;
            loop {
                let repaired = world.seen.broken.is_none() && world.course.told_broken.is_some();
                let (tried, target) = (world.course.tried().filter(|_| !repaired), world.course.target());
                let Some(next) = world.next() else { break };
                match next {
                    Job::Commit(head) => prop_assert!(tried != Some(head) || passed != Some(head), "strictly again: {head}"),
                    Job::Restore(commit) => prop_assert!(first || target == Some(commit), "{commit} has not passed"),
                    _ => {}
                }
                first &= !matches!(next, Job::Commit(_) | Job::Restore(_) | Job::Suspended(_));
                if world.seen.suspended {
                    prop_assert!(matches!(next, Job::Suspended(_) | Job::Broken(_) | Job::Heal | Job::Look(_)), "{next:?} while suspended");
                }
                if next == Job::Heal {
                    world.seen.drift = false; // Looking at a change consumes it.
                } else {
                    job = Some(next);
                }
                taken += 1;
                prop_assert!(taken < 5, "always something to do: {next:?}");
            }
            prop_assert!(!world.seen.drift, "a change that nobody looks at");
            if let Some(at) = world.course.wake_at(world.seen.suspended) {
                prop_assert!(at > world.seen.now, "a timer in the past");
            }
            if let (Some(head), false) = (world.seen.head, world.seen.suspended) {
                prop_assert_eq!(world.course.tried(), Some(head));
            }
        }
    }
}
