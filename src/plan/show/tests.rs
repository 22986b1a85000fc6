use super::*;
use crate::drift::fields::FieldSet;
use crate::model::Live;
use crate::plan::tests::world::*;

fn world() -> World {
    let [a, b, c, d] = ["a", "b", "c", "d"].map(config_map);
    let widget = ObjectKey::new("example.org", "Widget", "todo", "w");
    let mut world = World::new([&a, &b, &c].map(|key| manifest(key, 1)));
    world = world.with(&a, owned_by("dev", "1")).with(&b, Live { client_side_applied: true, ..bare("2") });
    world.carry_out(&world.ready());
    world.objects = vec![manifest(&a, 2), manifest(&b, 1), manifest(&d, 1), manifest(&widget, 1)];
    world
}

#[test]
fn text_has_one_line_a_step() {
    insta::assert_snapshot!(PlanView::from(&world().plan()), @r"
    ~ update    ConfigMap/todo/a  changed in git  (app/a.yaml:1)
    + create    ConfigMap/todo/d  not in the cluster  (app/d.yaml:1)
    ! hold      Widget/todo/w  its kind is not served yet  (app/w.yaml:1)
      note      Widget/todo/w  the API server does not serve the group example.org and no CustomResourceDefinition of this commit defines Widget: held back until it does, and then applied by itself
      note      deletions wait until Widget/todo/w can be written
    Plan: 1 to create, 1 to update, 0 to prune, 1 unchanged, 1 held back.
    ");
}

#[test]
fn unchanged_objects_are_shown_when_asked_for() {
    let view = PlanView::from(&world().plan());
    assert!(
        !view.to_string().contains("keep") && format!("{view:#}").contains("= keep      ConfigMap/todo/b  unchanged")
    );
}

#[test]
fn adoption_and_its_migration_are_shown() {
    let a = config_map("a");
    let world = World::new([manifest(&a, 1)]).with(&a, Live { client_side_applied: true, ..bare("2") });
    insta::assert_snapshot!(PlanView::from(&world.plan()), @r"
    ~ adopt     ConfigMap/todo/a  stands already, not ours yet, with the fields of its client-side apply  (app/a.yaml:1)
    Plan: 0 to create, 0 to update, 1 to adopt, 0 to prune, 0 unchanged.
    ");
}

#[test]
fn what_is_taken_from_others_is_shown_by_its_paths() {
    let a = config_map("a");
    let mut plan = World::new([manifest(&a, 1)]).with(&a, owned_by("dev", "1")).ready();
    let fields = FieldSet::parse(r#"{"f:data":{"f:b":{},"f:c":{}}}"#).unwrap();
    plan.steps[0].takes = vec![Share { manager: "kubectl-edit".to_owned(), fields }];
    let view = PlanView::from(&Planned::Ready(plan));
    assert!(view.to_string().contains(", takes data.b, data.c from kubectl-edit  (app/a.yaml:1)"), "{view}");
    let taken = &serde_json::to_value(&view.steps[0]).unwrap()["takes"];
    assert_eq!(*taken, serde_json::json!([{"manager": "kubectl-edit", "fields": ["data.b", "data.c"]}]));
}

#[test]
fn a_refusal_and_a_question_say_what_to_do() {
    let a = config_map("a");
    let refused = World::new([manifest(&a, 1)]).with(&a, helm(bare("1")));
    insta::assert_snapshot!(PlanView::from(&refused.plan()), @r"
    ! refused   ConfigMap/todo/a  app/a.yaml:1: it stands already and belongs to the Helm release todo/web; remove it there or here, or set adopt: true in the definition of dev to take it over
    Plan: refused, nothing is done.
    ");
    let claim = key("", "PersistentVolumeClaim", "data");
    let asked = World::new([manifest(&a, 1)]).with(&claim, owned_by("dev", "1"));
    insta::assert_snapshot!(PlanView::from(&asked.plan()), @r"
    + create    ConfigMap/todo/a  not in the cluster  (app/a.yaml:1)
    - prune     PersistentVolumeClaim/todo/data  left git
    Plan: 1 to create, 0 to update, 1 to prune, 0 unchanged.
    Not done unasked: it would delete PersistentVolumeClaim/todo/data, and objects of such kinds are never deleted unasked.
    if that is meant: plumb approve dev, or kubectl annotate environment dev --overwrite plumb.dev/confirm-prune=0707070707070707070707070707070707070707
    ");
}

#[test]
fn json_has_the_same() {
    let view = PlanView::from(&world().plan());
    insta::assert_snapshot!(serde_json::to_string_pretty(&view.steps.first()).unwrap(), @r#"
    {
      "action": "update",
      "group": "",
      "kind": "ConfigMap",
      "namespace": "todo",
      "name": "a",
      "reason": "changed in git",
      "origin": "app/a.yaml:1",
      "checkable": true,
      "migrate": false
    }
    "#);
    assert_eq!(serde_json::to_value(view.summary).unwrap()["create"], 1);
}
