//! An environment whose definition left git.

use std::slice::from_ref;

use super::world::*;
use crate::model::fields::Budget;
use crate::model::{Live, ObjectKey};
use crate::plan::{Action, Planned, Wait};

/// A removed environment, which had these objects.
fn removed(objects: &[&ObjectKey]) -> World {
    let mut world = World::new([]);
    world.removal = Some(Vec::new());
    world.spec.prune.budget = Budget::Percent(100);
    for (number, key) in objects.iter().enumerate() {
        world.cluster.insert((*key).clone(), owned_by("dev", &number.to_string()));
    }
    world
}

fn pruned(world: &World) -> Vec<ObjectKey> {
    let steps = world.ready().steps;
    steps.into_iter().filter(|step| step.action == Action::Prune).map(|step| step.key).collect()
}

fn asked(world: &World) -> Vec<String> {
    match world.plan() {
        Planned::AskFirst(ask) => ask.reasons,
        other => panic!("not asked: {other:?}"),
    }
}

#[test]
fn all_of_a_removed_environment_goes_in_reverse_order() {
    let (web, config, hook) = (
        key("apps", "Deployment", "web"),
        config_map("a"),
        ObjectKey::new("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "", "hook"),
    );
    let world = removed(&[&config, &web, &hook]);
    assert_eq!(pruned(&world), [hook, web, config]);
}

#[test]
fn its_budget_and_every_doubt_ask_until_the_commit_is_confirmed() {
    let [a, b, c] = ["a", "b", "c"].map(config_map);
    let mut world = removed(&[&a, &b, &c]);
    world.spec.prune.budget = Budget::Percent(50);
    world.removal = Some(vec!["the branch was moved by force".to_owned()]);
    assert_eq!(
        asked(&world),
        ["it would delete 3 of 3 objects, and the prune budget is 50%", "the branch was moved by force"]
    );
    world.confirmed = Some(COMMIT);
    assert_eq!(pruned(&world).len(), 3);
    // Without an object to delete there is nothing to ask.
    world.confirmed = None;
    world.cluster.values_mut().for_each(|live| live.prune_disabled = true);
    assert!(pruned(&world).is_empty());
}

#[test]
fn what_may_not_be_pruned_is_not_removed_either() {
    let keys = ["annotated", "foreign", "copied", "going"].map(config_map);
    let mut world = removed(&[&keys[0]]);
    world.cluster.get_mut(&keys[0]).unwrap().prune_disabled = true;
    world.cluster.insert(keys[1].clone(), owned_by("prod", "8"));
    world.cluster.insert(keys[2].clone(), Live { applied: Vec::new(), ..owned_by("dev", "9") });
    world.cluster.insert(keys[3].clone(), Live { terminating: true, ..owned_by("dev", "7") });
    assert!(pruned(&world).is_empty());
    let off = {
        let mut world = removed(&[&keys[0]]);
        world.spec.prune.enabled = false;
        world
    };
    assert!(pruned(&off).is_empty() && off.ready().notes[0].text.contains("prune.enabled is false"));
}

#[test]
fn a_renamed_environment_hands_over_and_waits_to_know_what_it_may_keep() {
    let (a, b) = (config_map("a"), config_map("b"));
    let unknown = removed(&[&a, &b]).with_peer("renamed", None);
    let plan = unknown.ready();
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
    assert_eq!(plan.waits, [Wait::PeerNotRendered("renamed".into())]);
    // Nor is anybody asked about what is most likely handed over.
    let mut small = removed(&[&a, &b]).with_peer("renamed", None);
    small.removal = Some(vec!["a doubt".to_owned()]);
    assert!(small.ready().steps.is_empty());

    let known = removed(&[&a, &b]).with_peer("renamed", Some(from_ref(&a)));
    assert_eq!(known.action(&a), Action::HandOver { to: "renamed".into() });
    assert_eq!(pruned(&known), [b]);
}

#[test]
fn its_namespace_goes_last_if_it_was_one_of_its_objects_and_somebody_said_so() {
    let (home, a) = (namespace("todo"), config_map("a"));
    let mut world = removed(&[&home, &a]);
    assert!(asked(&world)[0].contains("it would delete Namespace/todo"));
    world.confirmed = Some(COMMIT);
    assert_eq!(pruned(&world), [a.clone(), home.clone()]);

    // Not with what stays in it, and not over others' heads.
    world.cluster.get_mut(&a).unwrap().prune_disabled = true;
    assert!(pruned(&world).is_empty());
    assert!(world.ready().notes.iter().any(|note| note.text.contains("ConfigMap/todo/a needs it")));
    world.cluster.remove(&a);
    assert_eq!(pruned(&world), [home]);
    let inhabited = world.with_home("prod", &["prod", "todo"]);
    assert!(pruned(&inhabited).is_empty());
    assert!(inhabited.ready().notes[0].text.contains("environment prod may have objects in it"));
}

#[test]
fn a_definition_of_kinds_stays_with_the_objects_that_stay() {
    let crd = ObjectKey::new("apiextensions.k8s.io", "CustomResourceDefinition", "", "widgets.example.org");
    let widget = key("example.org", "Widget", "w");
    let mut world = removed(&[&crd, &widget]);
    world.confirmed = Some(COMMIT);
    assert_eq!(pruned(&world), [widget.clone(), crd]);
    world.cluster.get_mut(&widget).unwrap().prune_disabled = true;
    assert!(pruned(&world).is_empty());
}

#[test]
fn nothing_of_a_removed_environment_goes_on_half_a_picture() {
    let a = config_map("a");
    let mut world = removed(&[&a]);
    world.inventory_complete = false;
    assert!(world.ready().steps.is_empty());
    assert_eq!(world.ready().waits, [Wait::InventoryIncomplete]);
}
