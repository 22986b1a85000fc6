//! What a definition changes: it is another one, it suspends, it is not valid.

use super::*;

#[test]
fn what_has_not_passed_under_this_definition_is_not_written_but_through_the_gates() {
    let refused = failure(Stage::Plan, false);
    let mut world = at_rest(1.0);
    world.course.redefined(RESYNC);
    assert_eq!(world.next(), Some(Job::Commit(id(1))));
    world.refuse(id(1), &refused);
    world.later(600);
    assert_eq!(
        world.next(),
        Some(Job::Commit(id(1))),
        "no resync: somebody may have been asked whether to delete all of it"
    );
    world.refuse(id(1), &refused);
    world.course.restore_now(world.seen.now);
    assert_eq!(world.next(), Some(Job::Commit(id(1))));
    // It is not the head any more: it passed under the former definition, which is gone.
    world.seen.head = Some(id(2));
    assert_eq!(world.next(), Some(Job::Commit(id(2))));
    world.refuse(id(2), &refused);
    for _ in 0..3 {
        world.later(600);
        world.course.restore_now(world.seen.now);
        assert_eq!(world.next(), None);
    }
    world.seen.head = Some(id(1));
    assert_eq!(world.next(), Some(Job::Commit(id(1))));
    world.deploy(id(1));
    world.later(600);
    assert_eq!(world.next(), Some(Job::Resync(id(1))));
    // While it is suspended it is looked at, and nothing is written.
    world.course.redefined(RESYNC);
    world.seen.suspended = true;
    assert_eq!(world.next(), Some(Job::Suspended(id(1))));
    world.later(600);
    assert_eq!(world.next(), Some(Job::Look(id(1))));
}

#[test]
fn a_start_under_another_definition_goes_through_the_gates() {
    for head in [1, 2] {
        let mut world = World::new();
        world.course.inherit(Some(id(1)), false);
        world.seen.head = Some(id(head));
        assert_eq!(world.next(), Some(Job::Commit(id(head))));
        world.refuse(id(head), &failure(Stage::Plan, false));
        world.course.restore_now(world.seen.now);
        assert_eq!(world.next(), (head == 1).then_some(Job::Commit(id(1))));
    }
}

#[test]
fn a_new_definition_sends_the_same_head_through_the_gates() {
    let mut world = World::new();
    world.next();
    world.deploy(id(1));
    world.course.redefined(RESYNC);
    assert_eq!(world.next(), Some(Job::Commit(id(1))));
}

#[test]
fn suspension_is_told_once_and_its_end_goes_through_the_gates() {
    let mut world = World::new();
    world.next();
    world.deploy(id(1));
    world.seen.suspended = true;
    assert_eq!(world.next(), Some(Job::Suspended(id(1))));
    assert_eq!(world.next(), None);
    // What ownership can't show is looked for as often as else; a look that failed is tried again before.
    world.later(10_000);
    assert_eq!((world.next(), world.next()), (Some(Job::Look(id(1))), None));
    world.course.not_seen(world.seen.now, 1.0);
    world.later(2);
    assert_eq!((world.next(), world.next()), (Some(Job::Look(id(1))), None));
    assert!(world.course.is_settled(Some(id(1)), true) && !world.course.is_settled(Some(id(2)), true));
    world.seen.suspended = false;
    assert_eq!(world.next(), Some(Job::Commit(id(1))));
}

#[test]
fn a_broken_definition_is_told_once_and_its_repair_tells_the_head_anew() {
    let mut world = World::new();
    world.next();
    world.deploy(id(1));
    world.seen.broken = Some(id(50));
    assert_eq!(world.next(), Some(Job::Broken(id(50))));
    assert_eq!(world.next(), None);
    // Another end was told meanwhile.
    world.course.broken_is_told(None);
    assert_eq!(world.next(), Some(Job::Broken(id(50))));
    assert_eq!(world.next(), None);
    world.seen.broken = None;
    assert_eq!(world.next(), Some(Job::Commit(id(1))));
}

#[test]
fn a_branch_that_comes_back_to_a_suspended_environment_is_told_again() {
    let mut world = World::new();
    world.seen.suspended = true;
    assert_eq!(world.next(), Some(Job::Suspended(id(1))));
    world.seen.head = None;
    assert_eq!(world.next(), None);
    world.seen.head = Some(id(1));
    assert_eq!(world.next(), Some(Job::Suspended(id(1))));
}
