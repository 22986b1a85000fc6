//! Each rule alone, then in combination.

use super::*;
use crate::model::kinds::KindInfo;
use crate::model::live::Owner;
use crate::plan::tests::world::*;

/// Judges one candidate by one rule, in a world where nothing else stands in the way.
fn judged(world: &World, key: &ObjectKey, live: &Live, guard: Guard) -> Verdict {
    world.with_input(|input| {
        let desired: HashSet<&ObjectKey> = input.desired.objects.iter().map(|object| &object.key).collect();
        let uids = desired.iter().filter_map(|key| world.cluster.get(*key)).map(|live| &*live.uid).collect();
        let scene = Scene { input, desired: &desired, desired_uids: &uids, not_applied: None };
        guard(&Candidate { key, live }, &scene)
    })
}

#[test]
fn a_plain_object_of_ours_passes_every_rule() {
    let world = World::new([manifest(&config_map("b"), 1)]);
    for guard in GUARDS {
        assert_eq!(judged(&world, &config_map("a"), &owned_by("dev", "1"), *guard), Verdict::Pass);
    }
}

#[test]
fn in_render_spares_what_git_asks_for() {
    let a = config_map("a");
    let world = World::new([manifest(&a, 1)]);
    assert_eq!(judged(&world, &a, &owned_by("dev", "1"), in_render::guard), Verdict::Spare(Spare::InRender));
}

#[test]
fn ours_asks_for_label_and_entry() {
    let (world, a) = (World::new([]), config_map("a"));
    let ours = owned_by("dev", "1");
    let other_entry = Live { part_of: Some(part_of("dev")), ..owned_by("prod", "1") };
    for live in [Live { part_of: None, ..ours.clone() }, Live { applied: Vec::new(), ..ours }, other_entry] {
        assert_eq!(judged(&world, &a, &live, ours::guard), Verdict::Spare(Spare::NotOurs), "{live:?}");
    }
}

#[test]
fn controlled_spares_what_a_controller_made_and_nothing_else() {
    let (world, a) = (World::new([]), config_map("a"));
    let with = |owner| Live { owner: Some(Box::new(owner)), ..owned_by("dev", "1") };
    let controller = with(Owner::Controller("ReplicaSet/web".to_owned()));
    assert_eq!(judged(&world, &a, &controller, controlled::guard), Verdict::Spare(Spare::Controlled));
    assert_eq!(judged(&world, &a, &with(Owner::Helm("r".to_owned())), controlled::guard), Verdict::Pass);
}

#[test]
fn same_object_is_told_by_its_uid() {
    let (new, old) = (key("networking.k8s.io", "Ingress", "web"), key("extensions", "Ingress", "web"));
    let world = World::new([manifest(&new, 1)]).with(&new, owned_by("dev", "1"));
    assert_eq!(judged(&world, &old, &owned_by("dev", "1"), same_object::guard), Verdict::Spare(Spare::SameObject));
    assert_eq!(judged(&world, &old, &owned_by("dev", "2"), same_object::guard), Verdict::Pass);
}

#[test]
fn terminating_needs_no_second_request() {
    let live = Live { terminating: true, ..owned_by("dev", "1") };
    let verdict = judged(&World::new([]), &config_map("a"), &live, terminating::guard);
    assert_eq!(verdict, Verdict::Spare(Spare::Terminating));
}

#[test]
fn peers_get_what_they_ask_for_and_are_waited_for() {
    let (a, ours) = (config_map("a"), owned_by("dev", "1"));
    let asked = World::new([]).with_peer("prod", Some(std::slice::from_ref(&a)));
    assert_eq!(judged(&asked, &a, &ours, handed_over::guard), Verdict::HandOver("prod".into()));
    assert_eq!(judged(&asked, &a, &ours, peers_known::guard), Verdict::Pass);
    let unknown = World::new([]).with_peer("prod", None);
    assert_eq!(judged(&unknown, &a, &ours, handed_over::guard), Verdict::Pass);
    let wait = Verdict::Wait(Wait::PeerNotRendered("prod".into()));
    assert_eq!(judged(&unknown, &a, &ours, peers_known::guard), wait);
}

#[test]
fn own_namespace_stays() {
    let namespace = |name| ObjectKey::new("", "Namespace", "", name);
    let (world, ours) = (World::new([]), owned_by("dev", "1"));
    let verdict = judged(&world, &namespace("todo"), &ours, own_namespace::guard);
    assert_eq!(verdict, Verdict::Spare(Spare::OwnNamespace));
    assert_eq!(judged(&world, &namespace("other"), &ours, own_namespace::guard), Verdict::Pass);
    assert_eq!(judged(&world, &config_map("todo"), &ours, own_namespace::guard), Verdict::Pass);
}

#[test]
fn a_removed_environment_keeps_no_namespace_of_its_own_and_every_one_that_others_live_in() {
    let namespace = |name| ObjectKey::new("", "Namespace", "", name);
    let ours = owned_by("dev", "1");
    let mut world = World::new([]).with_home("prod", &["prod", "shared"]);
    world.removal = Some(Vec::new());
    assert_eq!(judged(&world, &namespace("todo"), &ours, own_namespace::guard), Verdict::Pass);
    let inhabited = Verdict::Spare(Spare::Inhabited("prod".into()));
    for (name, verdict) in [("prod", inhabited.clone()), ("shared", inhabited), ("todo", Verdict::Pass)] {
        assert_eq!(judged(&world, &namespace(name), &ours, inhabited::guard), verdict, "{name}");
    }
    assert_eq!(judged(&world, &config_map("prod"), &ours, inhabited::guard), Verdict::Pass);
}

#[test]
fn still_needed_spares_what_holds_or_defines_objects_of_the_render() {
    let inside = ObjectKey::new("", "ConfigMap", "other", "a");
    let widget = ObjectKey::new("example.org", "Widget", "todo", "w");
    let mut world = World::new([manifest(&inside, 1), manifest(&widget, 1)]);
    let namespace = |name| ObjectKey::new("", "Namespace", "", name);
    let crd = |name| ObjectKey::new("apiextensions.k8s.io", "CustomResourceDefinition", "", name);
    let needed = |world: &World, key: &ObjectKey| judged(world, key, &owned_by("dev", "1"), still_needed::guard);
    assert_eq!(needed(&world, &namespace("other")), Verdict::Spare(Spare::StillNeeded(inside)));
    assert_eq!(needed(&world, &namespace("unused")), Verdict::Pass);
    // As long as the plural is unknown, every CRD of the group may be the one.
    assert_eq!(needed(&world, &crd("gadgets.example.org")), Verdict::Spare(Spare::StillNeeded(widget.clone())));
    let info = KindInfo { version: "v1".into(), plural: "widgets".into(), namespaced: true };
    world.kinds.add(widget.kind.clone(), info);
    assert_eq!(needed(&world, &crd("widgets.example.org")), Verdict::Spare(Spare::StillNeeded(widget)));
    assert_eq!(needed(&world, &crd("gadgets.example.org")), Verdict::Pass);
    assert_eq!(needed(&world, &crd("widgets.another-example.org")), Verdict::Pass);
}

#[test]
fn a_persons_word_is_kept() {
    let a = config_map("a");
    let live = Live { prune_disabled: true, ..owned_by("dev", "1") };
    let mut world = World::new([]);
    assert_eq!(judged(&world, &a, &live, annotated::guard), Verdict::Spare(Spare::Annotated));
    world.spec.prune.enabled = false;
    assert_eq!(judged(&world, &a, &owned_by("dev", "1"), pruning_off::guard), Verdict::Spare(Spare::PruningOff));
    for spare in [Spare::Annotated, Spare::PruningOff] {
        assert!(spare.note().unwrap().starts_with("left git and stays"));
    }
}

#[test]
fn inventory_and_not_applied_wait() {
    let (a, ours) = (config_map("a"), owned_by("dev", "1"));
    let mut world = World::new([]);
    world.inventory_complete = false;
    assert_eq!(judged(&world, &a, &ours, inventory::guard), Verdict::Wait(Wait::InventoryIncomplete));
    let held = config_map("held");
    let verdict = world.with_input(|input| {
        let scene = Scene { input, desired: &HashSet::new(), desired_uids: &HashSet::new(), not_applied: Some(&held) };
        not_applied::guard(&Candidate { key: &a, live: &ours }, &scene)
    });
    assert_eq!(verdict, Verdict::Wait(Wait::NotAllApplied(held)));
}

#[test]
fn the_budget_asks_from_three_on() {
    use crate::model::fields::Budget;
    let asks = |deletions, total, budget| budget::ask(deletions, total, budget).is_some();
    assert!(!asks(2, 2, Budget::Percent(0)) && asks(3, 3, Budget::Percent(0)));
    assert!(!asks(5, 10, Budget::Percent(50)) && asks(6, 10, Budget::Percent(50)));
    assert!(!asks(4, 1000, Budget::Objects(4)) && asks(5, 1000, Budget::Objects(4)));
    assert!(!asks(0, 0, Budget::Percent(0)));
}

#[test]
fn kinds_that_hold_data_always_ask() {
    let kinds = [
        ("", "Namespace"),
        ("", "PersistentVolumeClaim"),
        ("", "PersistentVolume"),
        ("apps", "StatefulSet"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ];
    for (group, kind) in kinds {
        let why = ask_kinds::ask([&key(group, kind, "x"), &config_map("a")]).unwrap();
        assert!(why.contains(&format!("{kind}/todo/x")) && !why.contains("ConfigMap"));
    }
    assert_eq!(ask_kinds::ask([&config_map("a"), &key("example.org", "StatefulSet", "x")]), None);
}

/// Proof of ownership goes before everything, and a hand-over before all that would only keep it here.
#[test]
fn the_first_rule_that_holds_decides() {
    let a = config_map("a");
    let mut world = World::new([]).with_peer("prod", Some(std::slice::from_ref(&a)));
    (world.spec.prune.enabled, world.inventory_complete) = (false, false);
    let judge = |world: &World, live: &Live| judged(world, &a, live, super::judge);
    assert_eq!(judge(&world, &bare("1")), Verdict::Spare(Spare::NotOurs));
    let kept = Live { prune_disabled: true, ..owned_by("dev", "1") };
    assert_eq!(judge(&world, &kept), Verdict::HandOver("prod".into()));
    world.peers.heads.clear();
    assert_eq!(judge(&world, &kept), Verdict::Spare(Spare::Annotated));
    assert_eq!(judge(&world, &owned_by("dev", "1")), Verdict::Spare(Spare::PruningOff));
    world.spec.prune.enabled = true;
    assert_eq!(judge(&world, &owned_by("dev", "1")), Verdict::Wait(Wait::InventoryIncomplete));
    world.inventory_complete = true;
    assert_eq!(judge(&world, &owned_by("dev", "1")), Verdict::Pass);
}
