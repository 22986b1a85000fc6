//! What two environments ask for, and what moves between them.

use std::slice::from_ref;

use super::world::*;
use crate::model::Live;
use crate::model::live::ApplyEntry;
use crate::plan::{Action, Reason};

#[test]
fn a_move_is_the_same_whichever_push_comes_first() {
    let (a, b) = (config_map("a"), config_map("b"));
    // `dev` asks first, while `old` still does: both are named.
    let mut world = World::new([manifest(&a, 1)]).with(&a, owned_by("old", "1")).with_peer("old", Some(from_ref(&a)));
    assert!(world.refusals()[0].contains("belongs to environment old, whose head asks for it too"));
    // `old` lets go.
    world = world.with_peer("old", Some(from_ref(&b)));
    assert_eq!(world.action(&a), Action::TakeOver { from: "old".into() });
    world.carry_out(&world.ready());
    assert_eq!(world.action(&a), Action::Keep);

    // The other side: `dev` lets go what `new` asks for.
    let world = World::new([manifest(&b, 1)]).with(&a, owned_by("dev", "1")).with_peer("new", Some(from_ref(&a)));
    assert_eq!(world.action(&a), Action::HandOver { to: "new".into() });
}

#[test]
fn a_move_waits_for_an_owner_that_has_not_rendered() {
    let a = config_map("a");
    let world = World::new([manifest(&a, 1)]).with(&a, owned_by("old", "1")).with_peer("old", None);
    assert_eq!((world.step(&a).action, world.step(&a).reason), (Action::Hold, Reason::OwnerNotRendered("old".into())));
}

#[test]
fn a_take_over_that_was_cut_short_is_finished() {
    let a = config_map("a");
    let mut live = owned_by("dev", "1");
    live.applied.push(ApplyEntry { manager: manager("old"), fields: "{}".into(), time: None });
    let mut world = World::new([manifest(&a, 1)]).with(&a, live).with_peer("old", Some(&[]));
    assert_eq!(world.action(&a), Action::TakeOver { from: "old".into() });
    world.carry_out(&world.ready());
    assert!(world.ready().is_settled());
}

#[test]
fn two_heads_that_ask_at_once_are_both_named() {
    let a = config_map("a");
    let world = World::new([manifest(&a, 1)]).with_peer("staging", Some(from_ref(&a)));
    assert!(world.refusals()[0].contains("environments dev and staging both ask for it"));
    // No commit of the one that has it is taken either; what was deployed of it is put back.
    let mut world = world.with(&a, owned_by("dev", "1"));
    assert!(world.refusals()[0].contains("it is in environment dev, and staging's head asks for it too"));
    for (by_object, taken) in [(true, false), (false, true)] {
        (world.object_by_object, world.taken) = (by_object, taken);
        assert_eq!(world.action(&a), Action::Update);
        assert!(world.ready().refused.is_empty());
    }
    // Under another definition the same commit may say something else of it, which is as new as that of a commit.
    world.carry_out(&world.ready());
    assert_eq!(world.action(&a), Action::Keep);
    world.objects = vec![manifest(&a, 2)];
    assert!(world.refusals()[0].contains("staging's head asks for it too"));
}

#[test]
fn what_is_taken_away_is_put_back_although_another_head_asks_for_it() {
    let a = config_map("a");
    let mut world = World::new([manifest(&a, 1)]).with(&a, owned_by("dev", "1"));
    world.object_by_object = true;
    world.carry_out(&world.ready());
    let mut world = world.with_peer("staging", Some(from_ref(&a)));
    let unlabelled = Live { part_of: None, ..world.cluster[&a].clone() };
    world.cluster.insert(a.clone(), unlabelled);
    assert_eq!(world.action(&a), Action::Update);
    world.cluster.remove(&a);
    assert_eq!(world.action(&a), Action::Create);
    // A Job that has run goes by itself.
    world.ran.insert(a.clone(), manifest(&a, 1).digest);
    assert_eq!(world.step(&a).reason, Reason::Ran);
    world.ran.clear();
    // Its own head has let it go, and waits for something else: the other may have it. So it is with what nobody knows to have been there.
    world.peers.dropped = vec![a.clone()];
    assert!(world.ready().refused[0].reason.contains("both ask for it"));
    world.peers.dropped.clear();
    world.baselines.clear();
    assert!(world.ready().refused[0].reason.contains("both ask for it"));
    world.left.insert(a.clone(), manifest(&a, 1).digest);
    assert_eq!(world.action(&a), Action::Create);
    world.spec.self_heal = false;
    assert_eq!(world.step(&a).reason, Reason::Drifted);
}

#[test]
fn a_label_of_a_peer_without_its_entry_is_a_foreign_mark() {
    let a = config_map("a");
    let live = Live { part_of: Some(part_of("old")), ..bare("1") };
    let world = World::new([manifest(&a, 1)]).with(&a, live).with_peer("old", Some(&[]));
    assert!(world.refusals()[0].contains("belongs to the ApplySet"));
}

#[test]
fn a_namespace_that_is_anothers_own_is_refused_and_names_both() {
    let home = namespace("prod");
    let mut world = World::new([manifest(&home, 1)]).with_home("prod", &["prod"]);
    let refusal = &world.refusals()[0];
    assert!(refusal.contains("environments dev and prod both claim this namespace"), "{refusal}");
    // It stands without anybody's mark, or is the other's by its marks.
    world.cluster.insert(home.clone(), bare("1"));
    assert!(world.refusals()[0].contains("both claim this namespace"));
    // Whoever has it is refused as well; what was deployed of it is put back.
    world.cluster.insert(home.clone(), owned_by("dev", "1"));
    assert!(world.refusals()[0].contains("environments dev and prod both claim this namespace"));
    world.object_by_object = true;
    assert_eq!(world.action(&home), Action::Update);
}

#[test]
fn an_environment_does_not_begin_in_a_namespace_that_another_asks_for() {
    let (home, a) = (namespace("todo"), config_map("a"));
    let mut world = World::new([manifest(&a, 1)]).with_peer("infra", Some(from_ref(&home)));
    for by_object in [false, true] {
        world.object_by_object = by_object;
        let refusal = &world.refusals()[0];
        assert!(
            refusal
                .contains("Namespace/todo: it is environment dev's own namespace, and environment infra asks for it")
        );
    }
    // What it has there already is put back, and no commit of it is taken; one that asks for nothing has nothing to begin.
    world.cluster.insert(a.clone(), owned_by("dev", "1"));
    assert_eq!(world.action(&a), Action::Update);
    world.object_by_object = false;
    assert!(world.refusals()[0].contains("environment infra asks for it"));
    world.taken = true;
    assert_eq!(world.action(&a), Action::Update);
    world.taken = false;
    world.cluster.clear();
    world.objects.clear();
    world.spec.allow.empty = true;
    assert!(world.ready().steps.is_empty());
}
