//! One case, one rule.

use std::sync::Arc;

use super::world::*;
use crate::model::kinds::KindInfo;
use crate::model::{LeftAlone, Live, ObjectKey};
use crate::plan::show::PlanView;
use crate::plan::{Action, NamespaceState, Planned, Reason, Wait};

#[test]
fn what_does_not_stand_is_created_and_then_kept() {
    let a = config_map("a");
    let mut world = World::new([manifest(&a, 1)]);
    let plan = world.ready();
    assert_eq!((&plan.steps[0].action, &plan.steps[0].reason), (&Action::Create, &Reason::Absent));
    assert!(plan.steps[0].precondition.is_none() && plan.steps[0].checkable);
    world.carry_out(&plan);
    assert!(world.ready().is_settled());
}

#[test]
fn ours_is_updated_for_the_reason_that_holds() {
    let a = config_map("a");
    let mut world = World::new([manifest(&a, 1)]).with(&a, owned_by("dev", "1"));
    assert_eq!(world.step(&a).reason, Reason::NotVerified);
    world.carry_out(&world.ready());
    assert_eq!(world.step(&a).reason, Reason::Unchanged);

    world.objects = vec![manifest(&a, 2)];
    assert_eq!(world.step(&a).reason, Reason::Changed);
    world.carry_out(&world.ready());

    world.cluster.get_mut(&a).unwrap().applied[0].fields = "{}".into();
    assert_eq!((world.step(&a).action, world.step(&a).reason), (Action::Update, Reason::Drifted));
    world.carry_out(&world.ready());

    world.cluster.get_mut(&a).unwrap().uid = "made anew by somebody with our marks".into();
    assert_eq!(world.step(&a).reason, Reason::Drifted);
}

#[test]
fn a_job_that_has_run_is_not_made_again_until_its_content_changes() {
    let job = key("batch", "Job", "migrate");
    let mut world = World::new([manifest(&job, 1)]);
    world.kinds.add(job.kind.clone(), KindInfo { version: "v1".into(), plural: "jobs".into(), namespaced: true });
    assert_eq!(world.action(&job), Action::Create);
    world.ran.insert(job.clone(), manifest(&job, 1).digest);
    assert_eq!((world.step(&job).action, world.step(&job).reason), (Action::Keep, Reason::Ran));
    assert!(world.ready().is_settled());
    // Its controller is deleting it.
    world.cluster.insert(job.clone(), Live { terminating: true, ..owned_by("dev", "1") });
    assert_eq!((world.step(&job).action, world.step(&job).reason), (Action::Keep, Reason::Ran));
    world.objects = vec![manifest(&job, 2)];
    assert_eq!(world.action(&job), Action::Hold);
    world.cluster.clear();
    assert_eq!(world.action(&job), Action::Create);
}

#[test]
fn another_writing_of_the_same_set_is_no_drift() {
    let a = config_map("a");
    let mut world = World::new([manifest(&a, 1)]);
    world.carry_out(&world.ready());
    world.cluster.get_mut(&a).unwrap().applied[0].fields = r#"{ "f:data": {".": {}} }"#.into();
    assert_eq!(world.action(&a), Action::Keep);
}

/// Whatever was forgotten of it: what is known is only that it was deployed so.
#[test]
fn without_self_heal_what_was_left_stays_until_git_changes_it() {
    let a = config_map("a");
    let unmarked = Live { part_of: None, ..owned_by("dev", "1") };
    for live in [None, Some(owned_by("dev", "1")), Some(unmarked), Some(bare("made anew"))] {
        let mut world = World::new([manifest(&a, 1)]);
        world.cluster.extend(live.map(|live| (a.clone(), live)));
        world.left.insert(a.clone(), manifest(&a, 1).digest);
        assert!(world.action(&a).writes(), "with self-heal");
        world.spec.self_heal = false;
        assert_eq!((world.step(&a).action, world.step(&a).reason), (Action::Keep, Reason::Drifted));
        world.objects = vec![manifest(&a, 2)];
        assert!(world.action(&a).writes(), "git changed it");
        world.left.clear();
        world.objects = vec![manifest(&a, 1)];
        assert!(world.action(&a).writes(), "it was never deployed");
    }
}

#[test]
fn what_stands_already_is_adopted_never_created() {
    let a = config_map("a");
    let world = World::new([manifest(&a, 1)]).with(&a, Live { client_side_applied: true, ..bare("1") });
    let step = world.step(&a);
    assert_eq!((step.action, step.reason, step.migrate), (Action::Adopt, Reason::NotOurs, true));
    assert_eq!(&*step.precondition.unwrap().uid, "1");
}

#[test]
fn another_owners_object_is_refused_unless_adopt_is_said() {
    let a = config_map("a");
    for live in [helm(bare("1")), Live { part_of: Some("applyset-foreign-v1".into()), ..bare("1") }] {
        let mut world = World::new([manifest(&a, 1)]).with(&a, live);
        let refusals = world.refusals();
        assert!(refusals[0].contains("belongs to the ") && refusals[0].contains("adopt: true"), "{refusals:?}");
        world.spec.adopt = true;
        assert_eq!(world.action(&a), Action::Adopt);
    }
}

#[test]
fn our_label_without_our_entry_proves_nothing() {
    let a = config_map("a");
    let copied = Live { part_of: Some(part_of("dev")), ..bare("1") };
    assert_eq!(World::new([manifest(&a, 1)]).with(&a, copied.clone()).action(&a), Action::Adopt);
    let mut world = World::new([manifest(&a, 1)]).with(&a, helm(copied));
    assert!(world.refusals()[0].contains("the Helm release todo/web"));
    world.spec.adopt = true;
    assert_eq!(world.action(&a), Action::Adopt);
}

#[test]
fn a_lost_label_or_entry_is_put_back_in_the_same_life() {
    let a = config_map("a");
    let mut world = World::new([manifest(&a, 1)]);
    world.carry_out(&world.ready());
    let applied = world.cluster[&a].clone();
    for damaged in [
        Live { part_of: None, ..applied.clone() },
        Live { part_of: Some("nonsense".into()), ..applied.clone() },
        Live { applied: Vec::new(), ..applied.clone() },
    ] {
        world.cluster.insert(a.clone(), damaged);
        assert_eq!((world.step(&a).action, world.step(&a).reason), (Action::Update, Reason::Drifted));
    }
    world.cluster.insert(a.clone(), Live { part_of: Some("applyset-other-v1".into()), ..applied });
    assert!(world.refusals()[0].contains("the ApplySet applyset-other-v1"));
}

#[test]
fn after_a_restart_a_damaged_label_is_no_owners_mark() {
    let a = config_map("a");
    let damaged = Live { part_of: Some("nonsense".into()), ..owned_by("dev", "1") };
    assert_eq!(World::new([manifest(&a, 1)]).with(&a, damaged.clone()).action(&a), Action::Adopt);
    let taken = Live { part_of: Some("applyset-other-v1".into()), ..damaged };
    assert!(World::new([manifest(&a, 1)]).with(&a, taken).refusals()[0].contains("the ApplySet applyset-other-v1"));
}

#[test]
fn a_terminating_object_is_waited_for() {
    let a = config_map("a");
    let world = World::new([manifest(&a, 1)]).with(&a, Live { terminating: true, ..owned_by("dev", "1") });
    assert_eq!((world.step(&a).action, world.step(&a).reason), (Action::Hold, Reason::Terminating));
}

#[test]
fn an_unknown_group_holds_back_only_itself_and_all_deletions() {
    let (a, b) = (config_map("a"), ObjectKey::new("example.org", "Widget", "todo", "w"));
    let world = World::new([manifest(&a, 1), manifest(&b, 1)]).with(&config_map("gone"), owned_by("dev", "1"));
    assert_eq!(world.action(&a), Action::Create);
    assert_eq!((world.step(&b).action, world.step(&b).reason), (Action::Hold, Reason::KindNotServed));
    assert_eq!(world.ready().waits, [Wait::NotAllApplied(b)]);
}

#[test]
fn a_mistaken_kind_or_version_is_refused_with_what_was_meant() {
    let cases = [
        (key("apps", "Deploymnet", "x"), "v1", "did you mean Deployment?"),
        (key("", "Deployment", "x"), "v1", "Deployment is served as apps/v1"),
        (key("apps", "Deployment", "x"), "v1beta1", "set apiVersion to apps/v1"),
    ];
    for (key, version, hint) in cases {
        let world = World::new([manifest_of(&key, version, serde_json::json!({}))]);
        assert!(world.refusals()[0].ends_with(hint), "{:?}", world.refusals());
    }
}

fn crd(kind: &str) -> std::sync::Arc<crate::model::Manifest> {
    let key = ObjectKey::new("apiextensions.k8s.io", "CustomResourceDefinition", "", "widgets.example.org");
    let versions = serde_json::json!([{"name": "v1", "served": true}, {"name": "v0", "served": false}]);
    let spec = serde_json::json!({"group": "example.org", "names": {"kind": kind}, "versions": versions});
    manifest_of(&key, "v1", serde_json::json!({"spec": spec}))
}

#[test]
fn a_crd_of_the_commit_makes_its_kind_known_and_uncheckable() {
    let widget = ObjectKey::new("example.org", "Widget", "todo", "w");
    let world = World::new([manifest(&widget, 1), crd("Widget")]);
    let steps = world.ready().steps;
    assert_eq!(&*steps[0].key.kind.kind, "CustomResourceDefinition");
    assert!(steps[0].checkable && !steps[1].checkable && steps[1].action == Action::Create);

    let old = World::new([manifest_of(&widget, "v0", serde_json::json!({})), crd("Widget")]);
    assert!(old.refusals()[0].contains("serves the versions v1 of it, not v0"));
}

#[test]
fn an_object_whose_definition_changes_is_uncheckable_too() {
    let widget = ObjectKey::new("example.org", "Widget", "todo", "w");
    let mut world = World::new([manifest(&widget, 1), crd("Widget")]);
    let info = crate::model::kinds::KindInfo { version: "v1".into(), plural: "widgets".into(), namespaced: true };
    world.kinds.add(widget.kind.clone(), info);
    assert!(!world.step(&widget).checkable);
    world.carry_out(&world.ready());
    assert!(world.step(&widget).checkable);
}

#[test]
fn namespaces_are_known_made_or_missing() {
    let there = ObjectKey::new("", "ConfigMap", "other", "a");
    let mut world = World::new([manifest(&there, 1)]);
    world.spec.allow.namespaces = vec!["other".to_owned()];
    assert!(world.refusals()[0].contains("its namespace other does not exist"));
    world.namespaces.insert("other".into(), NamespaceState::Terminating);
    assert_eq!(world.step(&there).reason, Reason::NamespaceTerminating);
    world.namespaces.insert("other".into(), NamespaceState::Active);
    assert!(world.step(&there).checkable);
    world.namespaces.remove("other");
    world.objects.push(manifest(&ObjectKey::new("", "Namespace", "", "other"), 1));
    assert!(!world.step(&there).checkable);

    let own = config_map("a");
    let mut world = World::new([manifest(&own, 1)]);
    world.namespaces.clear();
    assert!(!world.step(&own).checkable);
}

#[test]
fn duplicates_and_an_empty_render_are_refused() {
    let a = config_map("a");
    let world = World::new([manifest(&a, 1), manifest(&a, 2)]);
    assert!(world.refusals()[0].contains("defined twice: here and at app/a.yaml:1"));
    let mut world = World::new([]).with(&a, owned_by("dev", "1"));
    assert!(world.refusals()[0].contains("Environment/dev: commit 0707070 renders no object"));
    world.spec.allow.empty = true;
    assert_eq!(world.action(&a), Action::Prune);
}

#[test]
fn over_the_budget_the_whole_commit_asks_first() {
    let a = config_map("a");
    let mut world = World::new([manifest(&a, 1)]).with(&a, owned_by("dev", "a"));
    for name in ["b", "c", "d"] {
        world = world.with(&config_map(name), owned_by("dev", name));
    }
    let Planned::AskFirst(ask) = world.plan() else { panic!("not asked") };
    assert_eq!(ask.reasons, ["it would delete 3 of 4 objects, and the prune budget is 50%"]);
    assert!(ask.hint.contains(&COMMIT.to_string()) && ask.proposed.steps.len() == 4);
    world.confirmed = Some(crate::model::CommitId::new([8; 20]));
    assert!(matches!(world.plan(), Planned::AskFirst(_)), "another commit's confirmation");
    world.confirmed = Some(COMMIT);
    assert_eq!(world.ready().steps.iter().filter(|step| step.action == Action::Prune).count(), 3);
    // A heal goes on without the deletions.
    (world.confirmed, world.object_by_object) = (None, true);
    let plan = world.ready();
    assert!(plan.steps.iter().all(|step| step.action != Action::Prune));
    assert!(matches!(plan.waits[0], Wait::Unconfirmed(_)));
}

#[test]
fn object_by_object_one_refusal_stops_only_itself_and_deletions() {
    let (a, b) = (config_map("a"), config_map("b"));
    let mut world = World::new([manifest(&a, 1), manifest(&b, 1)]).with(&a, helm(bare("1")));
    world = world.with(&config_map("gone"), owned_by("dev", "2"));
    assert!(matches!(world.plan(), Planned::Refused(_)));
    world.object_by_object = true;
    let plan = world.ready();
    assert_eq!((plan.steps.len(), plan.refused.len()), (1, 1));
    assert_eq!(plan.waits, [Wait::NotAllApplied(a)]);
}

#[test]
fn writes_go_by_phase_in_file_order_and_deletions_in_reverse() {
    let webhook = ObjectKey::new("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "", "hook");
    let namespace = ObjectKey::new("", "Namespace", "", "todo");
    let written =
        [webhook.clone(), key("apps", "Deployment", "b"), key("apps", "Deployment", "a"), config_map("c"), namespace];
    let mut world = World::new(written.iter().map(|key| manifest(key, 1)));
    for gone in [key("", "Secret", "s"), key("apps", "Deployment", "old"), key("", "Service", "svc")] {
        world = world.with(&gone, owned_by("dev", &gone.to_string()));
    }
    world.confirmed = Some(COMMIT);
    let order: Vec<String> = world.ready().steps.iter().map(|step| step.key.to_string()).collect();
    assert_eq!(
        order,
        [
            "Namespace/todo",
            "ConfigMap/todo/c",
            "Deployment/todo/b",
            "Deployment/todo/a",
            "ValidatingWebhookConfiguration/hook",
            "Deployment/todo/old",
            "Service/todo/svc",
            "Secret/todo/s",
        ]
    );
}

#[test]
fn what_is_left_to_others_is_named_while_we_own_it() {
    let web = key("apps", "Deployment", "web");
    let leaving = |left: &[&str]| {
        let mut with = (*manifest(&web, 1)).clone();
        let paths = left.iter().map(|path| path.parse().unwrap()).collect();
        with.left_alone = Some(Arc::new(LeftAlone { paths, whole: None }));
        Arc::new(with)
    };
    let owning = |environment: &str, fields: &str| {
        let mut live = owned_by(environment, "1");
        live.applied[0].fields = fields.into();
        live
    };
    const REPLICAS: &str = r#"{"f:spec":{"f:replicas":{},"f:paused":{}}}"#;
    let mut world = World::new([leaving(&["spec.replicas", "data"])]).with(&web, owning("dev", REPLICAS));
    let step = world.step(&web);
    assert_eq!((step.action, step.leaves.paths()), (Action::Update, vec!["spec.replicas".to_owned()]));
    assert!(PlanView::from(&world.plan()).to_string().contains("leaves spec.replicas to others"));
    world.carry_out(&world.ready());
    assert!(world.step(&web).leaves.is_empty(), "nothing is left to be done");
    // What another environment drops as it lets the object go falls back as well.
    let moved =
        World::new([leaving(&["spec.replicas"])]).with(&web, owning("prod", REPLICAS)).with_peer("prod", Some(&[]));
    let step = moved.step(&web);
    assert_eq!((step.action, step.leaves.len()), (Action::TakeOver { from: "prod".into() }, 1));
    // What stands already and is nobody's has its owners.
    assert!(World::new([leaving(&["spec.replicas"])]).with(&web, bare("1")).step(&web).leaves.is_empty());
    assert!(World::new([leaving(&["spec.replicas"])]).step(&web).leaves.is_empty());
}

#[test]
fn objects_are_applied_anew_when_the_definition_of_their_kind_changes() {
    let widget = key("example.org", "Widget", "w");
    let mut world = World::new([manifest(&widget, 1), crd("Widget")]);
    world.kinds.add(
        crate::model::GroupKind::new("example.org", "Widget"),
        crate::model::kinds::KindInfo { version: "v1".into(), plural: "widgets".into(), namespaced: true },
    );
    world.carry_out(&world.ready());
    assert!(world.ready().is_settled());
    let mut changed = (*crd("Widget")).clone();
    changed.digest = crate::model::Digest::of(b"another schema");
    world.objects = vec![manifest(&widget, 1), Arc::new(changed)];
    let (step, entry) = (world.step(&widget), world.cluster[&widget].applied[0].fields.clone());
    assert_eq!((step.action, step.reason), (Action::Update, Reason::Redefined));
    assert!(step.redefined && !step.checkable);
    // What somebody changed before stays as it is, where that is only told.
    world.spec.self_heal = false;
    world.cluster.get_mut(&widget).unwrap().applied[0].fields = "{}".into();
    assert_eq!((world.step(&widget).action, world.step(&widget).reason), (Action::Keep, Reason::Drifted));
    world.cluster.get_mut(&widget).unwrap().applied[0].fields = entry;
    world.carry_out(&world.ready());
    assert!(world.ready().is_settled());
}

#[test]
fn what_the_render_says_of_the_definition_is_a_note() {
    let a = config_map("a");
    let mut world = World::new([manifest(&a, 1)]);
    world.remarks = vec!["spec.ignore[0]: about nothing".to_owned()];
    let notes = world.ready().notes;
    assert_eq!(
        notes.iter().map(|note| format!("{}: {}", note.key, note.text)).collect::<Vec<_>>(),
        ["Environment/dev: spec.ignore[0]: about nothing"]
    );
}
