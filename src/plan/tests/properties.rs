//! What holds for every cluster, whatever marks its objects bear and whatever other environments ask for.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::world::*;
use crate::drift::fingerprint::Baseline;
use crate::model::fields::Budget;
use crate::model::live::{ApplyEntry, Owner};
use crate::model::{Live, ObjectKey};
use crate::plan::{Action, NamespaceState, Plan, Planned, Wait, order, plan};

/// The objects of these worlds: of every phase, of kinds that ask and that are not served.
fn keys() -> Vec<ObjectKey> {
    let mut keys: Vec<_> = ["a", "b", "c", "d", "e"].map(config_map).into();
    keys.extend([
        key("apps", "Deployment", "web"),
        key("apps", "StatefulSet", "db"),
        key("", "Service", "web"),
        ObjectKey::new("", "ConfigMap", "elsewhere", "a"),
        ObjectKey::new("", "Namespace", "", "elsewhere"),
        ObjectKey::new("", "Namespace", "", "todo"),
        ObjectKey::new("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "", "hook"),
        ObjectKey::new("example.org", "Widget", "todo", "w"),
    ]);
    keys
}

fn part() -> impl Strategy<Value = Option<Arc<str>>> {
    let ids = [part_of("dev"), part_of("peer"), part_of("foreign"), "damaged".into()];
    prop_oneof![3 => Just(Some(part_of("dev"))), 1 => prop::option::of(prop::sample::select(ids.to_vec()))]
}

fn owner() -> impl Strategy<Value = Option<Box<Owner>>> {
    let owners = [Owner::Helm("r".into()), Owner::Controller("ReplicaSet/x".into()), Owner::Flux("f".into())];
    prop_oneof![4 => Just(None), 1 => prop::sample::select(owners.to_vec()).prop_map(|owner| Some(Box::new(owner)))]
}

fn live() -> impl Strategy<Value = Live> {
    let entries = prop::collection::btree_set(prop::sample::select(vec!["dev", "dev", "peer", "ghost"]), 0..3);
    // Few uids, so that one is sometimes another key's, and sometimes the baseline's.
    ("[1-5]", part(), entries, prop::bool::weighted(0.1), prop::bool::weighted(0.1), owner(), any::<bool>()).prop_map(
        |(uid, part_of, entries, terminating, prune_disabled, owner, client_side_applied)| {
            let entry = |name| ApplyEntry { manager: manager(name), fields: r#"{"f:data":{}}"#.into(), time: Some(1) };
            let applied = entries.into_iter().map(entry).collect();
            Live { part_of, applied, terminating, prune_disabled, owner, client_side_applied, ..bare(&uid) }
        },
    )
}

fn some<T: Clone + std::fmt::Debug + 'static>(of: Vec<T>) -> impl Strategy<Value = Vec<T>> {
    let most = of.len();
    prop::sample::subsequence(of, 0..=most)
}

prop_compose! {
    fn world()(
        desired in some(keys()).prop_shuffle(),
        content in 0..2u32,
        standing in prop::collection::btree_map(prop::sample::select(keys()), live(), 0..10),
        remembered in prop::collection::btree_map(prop::sample::select(keys()), (0..2u32, "[1-5]"), 0..5),
        peer in prop::option::weighted(0.8, some(keys())),
        elsewhere in prop::option::of(prop_oneof![Just(NamespaceState::Active), Just(NamespaceState::Terminating)]),
        (adopt, pruning, by_object, taken) in (any::<bool>(), prop::bool::weighted(0.8), any::<bool>(), any::<bool>()),
        (complete, confirmed) in (prop::bool::weighted(0.8), any::<bool>()),
        budget in prop_oneof![(0..10u32).prop_map(Budget::Objects), (0..=100u8).prop_map(Budget::Percent)],
    ) -> World {
        let mut world = World::new(desired.iter().map(|key| manifest(key, content)));
        world.spec.adopt = adopt;
        world.spec.allow.empty = true;
        world.spec.prune.enabled = pruning;
        world.spec.prune.budget = budget;
        world.cluster = standing.into_iter().collect();
        let baseline = |(key, (content, uid)): (ObjectKey, (u32, String))| {
            let fields = r#"{"f:data":{}}"#.into();
            let digest = manifest(&key, content).digest;
            (key.clone(), Baseline { digest, uid: uid.into(), fields, time: Some(1), resource_version: 1 })
        };
        world.baselines = remembered.into_iter().map(baseline).collect();
        world.peers.heads = BTreeMap::from([("peer".to_owned(), peer)]);
        world.namespaces.extend(elsewhere.map(|state| ("elsewhere".into(), state)));
        world.inventory_complete = complete;
        (world.object_by_object, world.taken) = (by_object, taken);
        world.confirmed = confirmed.then_some(COMMIT);
        world
    }
}

fn has_entry(live: &Live, environment: &str) -> bool {
    live.entry(&manager(environment)).is_some()
}

/// Ours by label and entry both; written anew here, so that the plan's own notion is checked by another.
fn provably_ours(live: &Live) -> bool {
    live.part_of == Some(part_of("dev")) && has_entry(live, "dev")
}

fn peer_asks(world: &World, key: &ObjectKey) -> bool {
    world.peers.heads["peer"].as_ref().is_some_and(|head| head.contains(key))
}

/// The plan that would be carried out or is shown; `None` if there is none.
fn carried_out(world: &World) -> Option<Plan> {
    match world.plan() {
        Planned::Ready(plan) => Some(plan),
        Planned::AskFirst(_) | Planned::Refused(_) => None,
    }
}

fn prunes(plan: &Plan) -> Vec<&ObjectKey> {
    plan.steps.iter().filter(|step| step.action == Action::Prune).map(|step| &step.key).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn only_what_is_provably_ours_is_pruned(world in world()) {
        let Some(plan) = carried_out(&world) else { return Ok(()) };
        let desired: HashSet<_> = world.objects.iter().map(|object| &object.key).collect();
        for key in prunes(&plan) {
            let live = &world.cluster[key];
            prop_assert!(provably_ours(live), "{key}: {live:?}");
            prop_assert!(!matches!(live.owner.as_deref(), Some(Owner::Controller(_))));
            prop_assert!(!live.prune_disabled && !live.terminating && world.spec.prune.enabled && world.inventory_complete);
            prop_assert!(!desired.contains(key) && !peer_asks(&world, key) && world.peers.heads["peer"].is_some());
            let same = desired.iter().filter_map(|key| world.cluster.get(key)).any(|other| other.uid == live.uid);
            prop_assert!(!same, "{key} is an object of the render under another name");
            prop_assert!(!key.kind.is("", "Namespace") || *key.name != *"todo");
        }
    }

    /// Whatever a removed environment left behind, and however doubtful its removal is.
    #[test]
    fn a_removal_deletes_nothing_that_a_prune_may_not(world in world(), doubtful in any::<bool>()) {
        let mut world = world;
        world.objects.clear();
        world.removal = Some(if doubtful { vec!["a doubt".to_owned()] } else { Vec::new() });
        let Some(plan) = carried_out(&world) else { return Ok(()) };
        let prunes = prunes(&plan);
        prop_assert!(prunes.is_empty() || !doubtful || world.confirmed.is_some());
        let writes = plan.steps.iter().any(|step| step.action.writes());
        prop_assert!(!writes);
        for key in &prunes {
            let live = &world.cluster[*key];
            prop_assert!(provably_ours(live) && !live.prune_disabled && !live.terminating);
            prop_assert!(world.spec.prune.enabled && world.inventory_complete);
            prop_assert!(!peer_asks(&world, key) && world.peers.heads["peer"].is_some());
            let stays = |other: &ObjectKey, live: &Live| {
                provably_ours(live) && !live.terminating && !prunes.contains(&other) && other.namespace == Some(key.name.clone())
            };
            prop_assert!(!key.kind.is("", "Namespace") || !world.cluster.iter().any(|(other, live)| stays(other, live)));
        }
    }

    #[test]
    fn nothing_of_others_is_overwritten_unasked(world in world()) {
        let Some(plan) = carried_out(&world) else { return Ok(()) };
        for step in plan.steps.iter().filter(|step| step.action.writes()) {
            let keeps = world.object_by_object || world.taken;
            let Some(live) = world.cluster.get(&step.key) else {
                prop_assert_eq!(&step.action, &Action::Create);
                let had = keeps && world.baselines.contains_key(&step.key);
                prop_assert!(had || !peer_asks(&world, &step.key));
                continue;
            };
            prop_assert_eq!(&step.precondition.as_ref().unwrap().uid, &live.uid);
            prop_assert!(!live.terminating);
            let let_go = step.let_go.iter().all(|environment| **environment == *"peer" && has_entry(live, "peer"));
            prop_assert!(let_go && (step.let_go.is_empty() || !peer_asks(&world, &step.key)));
            let ours = provably_ours(live);
            let in_this_life = world.baselines.get(&step.key).is_some_and(|baseline| baseline.uid == live.uid);
            let marked = live.owner.is_some() || [part_of("peer"), part_of("foreign")].map(Some).contains(&live.part_of);
            match &step.action {
                Action::Update => prop_assert!(ours || (in_this_life && live.owner.is_none())),
                Action::Adopt => prop_assert!(!ours && (world.spec.adopt || !marked)),
                Action::TakeOver { from } => {
                    prop_assert_eq!(&**from, "peer");
                    prop_assert!(has_entry(live, "peer") && !peer_asks(&world, &step.key) && world.peers.heads["peer"].is_some());
                    prop_assert!(ours || live.part_of == Some(part_of("peer")));
                }
                other => prop_assert!(false, "{other:?} of what stands"),
            }
            let kept = keeps && (ours || step.action == Action::Update);
            prop_assert!(kept || !peer_asks(&world, &step.key), "the other environment asks for it");
        }
    }

    #[test]
    fn every_desired_object_has_one_step_or_one_refusal(world in world()) {
        let (steps, refused) = match world.plan() {
            Planned::Ready(plan) => (plan.steps, plan.refused),
            Planned::AskFirst(ask) => (ask.proposed.steps, ask.proposed.refused),
            // A refused plan has no step: the type has no place for one.
            Planned::Refused(refused) => {
                let home_taken = peer_asks(&world, &ObjectKey::new("", "Namespace", "", "todo"));
                prop_assert!(!refused.is_empty() && (!world.object_by_object || home_taken));
                return Ok(());
            }
        };
        prop_assert!(refused.is_empty() || world.object_by_object);
        for object in &world.objects {
            let count = steps.iter().filter(|step| step.key == object.key && step.manifest.is_some()).count();
            let refusals = refused.iter().filter(|refusal| refusal.key == object.key).count();
            prop_assert_eq!(count + refusals, 1, "{}", object.key);
        }
        let keys: HashSet<_> = steps.iter().map(|step| &step.key).collect();
        prop_assert_eq!(keys.len(), steps.len());
    }

    #[test]
    fn carried_out_and_planned_again_all_is_kept(world in world()) {
        let mut world = world;
        let Some(first) = carried_out(&world) else { return Ok(()) };
        world.carry_out(&first);
        let Some(second) = carried_out(&world) else { return Err(TestCaseError::fail("the second plan is not ready")) };
        for step in &second.steps {
            let settled = match &step.action {
                Action::Keep | Action::HandOver { .. } => true,
                Action::Hold => first.steps.iter().any(|before| before.key == step.key && before.action == Action::Hold),
                // The budget counts a smaller environment now, and what waited for a held object still waits.
                _ => false,
            };
            prop_assert!(settled, "{step:?}");
        }
        prop_assert_eq!(first.refused.len(), second.refused.len());
    }

    #[test]
    fn unconfirmed_no_budget_is_exceeded_and_no_data_is_lost(world in world()) {
        let Some(plan) = carried_out(&world) else { return Ok(()) };
        let prunes = prunes(&plan);
        if world.confirmed.is_none() {
            let total = world.cluster.values().filter(|live| provably_ours(live) && !live.terminating).count();
            prop_assert!(prunes.len() < 3 || prunes.len() <= world.spec.prune.budget.of(total));
            prop_assert!(prunes.iter().all(|key| !["Namespace", "StatefulSet"].contains(&&*key.kind.kind)));
        }
        // Deletions come after all writes: none while one of them can't be made.
        let held = plan.steps.iter().any(|step| step.action == Action::Hold) || !plan.refused.is_empty();
        prop_assert!(!held || prunes.is_empty());
        prop_assert!(plan.waits.is_empty() || plan.waits.iter().all(|wait| matches!(wait, Wait::PeerNotRendered(_))) || prunes.is_empty());
    }

    #[test]
    fn writes_come_by_phase_and_deletions_last_in_reverse(world in world()) {
        let Some(plan) = carried_out(&world) else { return Ok(()) };
        let section = |action: &Action| match action {
            Action::Prune => 2,
            Action::HandOver { .. } => 1,
            _ => 0,
        };
        prop_assert!(plan.steps.is_sorted_by_key(|step| section(&step.action)));
        let phases = |prune: bool| plan.steps.iter().filter(move |step| section(&step.action) == if prune { 2 } else { 0 })
            .map(|step| order::phase(&step.key.kind)).collect::<Vec<_>>();
        prop_assert!(phases(false).is_sorted());
        prop_assert!(phases(true).iter().rev().is_sorted());
        // Stable: objects of one kind stay in the order of the render.
        for one in plan.steps.iter().filter(|step| step.manifest.is_some()).collect::<Vec<_>>().windows(2) {
            let place = |key: &ObjectKey| world.objects.iter().position(|object| object.key == *key);
            prop_assert!(one[0].key.kind != one[1].key.kind || place(&one[0].key) < place(&one[1].key));
        }
    }

    #[test]
    fn the_same_input_gives_the_same_plan(world in world()) {
        let text = |world: &World| format!("{:?}", world.with_input(plan));
        prop_assert_eq!(text(&world), text(&world));
    }
}
