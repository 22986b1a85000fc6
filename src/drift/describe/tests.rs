//! What is told of a drift, and what is not.

use super::*;
use crate::plan::tests::world;
use serde_json::json;

fn found(key: &ObjectKey, paths: Value) -> Found {
    Found { key: key.clone(), class: Class::ValueChanged, paths: FieldSet::from_value(&paths).unwrap() }
}

const DEV: Owner<'static> = Owner { manager: "plumb-dev", left: None };

fn texts(drift: &Drift) -> Vec<String> {
    drift.fields.iter().map(|field| format!("{} {} {}", field.path, field.want, field.live)).collect()
}

#[test]
fn a_scaled_deployment_names_the_tool_and_its_subresource() {
    let key = world::key("apps", "Deployment", "web");
    let manifest = world::manifest_of(&key, "v1", json!({"kind": "Deployment", "spec": {"replicas": 2}}));
    let live = json!({"spec": {"replicas": 5}, "metadata": {"managedFields": [
        {"manager": "old", "operation": "Update", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        {"manager": "kubectl", "operation": "Update", "subresource": "scale", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        {"manager": "other", "operation": "Update", "fieldsV1": {"f:spec": {"f:paused": {}}}},
    ]}});
    let drift = Drift::describe(&found(&key, json!({"f:spec": {"f:replicas": {}}})), &manifest, Some(&live), &DEV);
    assert_eq!(texts(&drift), ["spec.replicas 2 5"]);
    assert_eq!((drift.manager.as_deref(), drift.since), (Some("kubectl/scale"), None));
}

#[test]
fn a_writer_that_is_no_longer_told_apart_is_not_known() {
    let key = world::key("", "Secret", "s");
    let manifest = world::manifest_of(&key, "v1", json!({"data": {"a": "aGVsbG8="}}));
    for nobody in writer::NOBODY {
        let live = json!({"data": {"a": "b3RoZXI="}, "metadata": {"managedFields": [
            {"manager": nobody, "operation": "Update", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:data": {"f:a": {}}}},
        ]}});
        let drift = Drift::describe(&found(&key, json!({"f:data": {"f:a": {}}})), &manifest, Some(&live), &DEV);
        assert_eq!((drift.manager.as_deref(), drift.since), (None, None), "{nobody}");
        assert_eq!(texts(&drift), [format!("data.a {MASK} {MASK}")], "somebody has set it nevertheless");
    }
}

#[test]
fn a_value_that_was_changed_back_stands() {
    let key = world::config_map("a");
    let manifest = world::manifest_of(&key, "v1", json!({"data": {"a": "1", "b": "1"}}));
    let stands = |a: &str| {
        let live = json!({"data": {"a": a, "b": "1"}, "metadata": {"managedFields": []}});
        let found = found(&key, json!({"f:data": {"f:a": {}, "f:b": {}}}));
        Drift::describe(&found, &manifest, Some(&live), &DEV).values_stand
    };
    assert!(stands("1") && !stands("2"));
    let gone = json!({"data": {"a": "1"}});
    assert!(!Drift::describe(&found(&key, json!({"f:data": {"f:b": {}}})), &manifest, Some(&gone), &DEV).values_stand);
}

#[test]
fn an_item_given_twice_is_told_without_the_values_of_others() {
    let key = world::key("", "Pod", "p");
    let manifest = world::manifest_of(&key, "v1", json!({"env": [{"name": "A", "value": "1"}]}));
    let live = json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "b"}, {"name": "A", "value": "2"}]});
    let set = json!({"f:env": {"k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}}});
    let drift = Drift::describe(&found(&key, set), &manifest, Some(&live), &DEV);
    assert_eq!(texts(&drift), ["env[name=A] {\"name\":\"A\",\"value\":\"1\"} (there 2 times)"]);
    assert!(!drift.values_stand);
}

/// `covers` can't tell what others put into an empty field from a default in it.
#[test]
fn where_git_has_something_empty_an_apply_tells() {
    let key = world::config_map("a");
    let manifest = world::manifest_of(&key, "v1", json!({"data": {}, "spec": {"podSelector": {}}}));
    let owners = json!([{"manager": "kubectl-patch", "operation": "Update", "fieldsV1": {
        "f:data": {".": {}, "f:y": {}}, "f:spec": {"f:podSelector": {}},
    }}]);
    let data = found(&key, json!({"f:data": {}}));
    let filled = json!({"data": {"y": "2"}, "metadata": {"managedFields": owners}});
    let drift = Drift::describe(&data, &manifest, Some(&filled), &DEV);
    assert!(drift.unsure && drift.values_stand);
    let drift = Drift::compared(&data, &manifest, &filled, &filled, &DEV);
    assert!(drift.values_stand && drift.fields.is_empty(), "the apply leaves it");
    assert_eq!(drift.added.paths(), ["data.y"]);
    // Taken away again, nothing is left of what the API server does not keep.
    let nothing = json!({"metadata": {"managedFields": []}});
    assert!(Drift::describe(&data, &manifest, Some(&nothing), &DEV).unsure);
    let drift = Drift::compared(&data, &manifest, &nothing, &nothing, &DEV);
    assert!(drift.values_stand && drift.added.is_empty());

    // Set back by hand with defaults beside: nothing is added.
    let item = json!({"f:list": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}}}});
    let back = found(&key, item);
    let manifest_of = |list: Value| world::manifest_of(&key, "v1", json!({"list": list}));
    let owner = json!({"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {
        "f:list": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}, "f:default": {}}},
    }});
    let stands = json!({"list": [{"name": "a", "default": 1}], "metadata": {"managedFields": [owner]}});
    let drift = Drift::compared(&back, &manifest_of(json!([{"name": "a"}])), &stands, &stands, &DEV);
    assert!(drift.values_stand && drift.added.is_empty());

    // One value: the apply sets it back.
    let selector = found(&key, json!({"f:spec": {"f:podSelector": {}}}));
    let (narrow, wide) = (json!({"matchLabels": {"a": "b"}}), json!({}));
    let with = |selector: &Value| json!({"spec": {"podSelector": selector}, "metadata": {"managedFields": owners}});
    assert!(Drift::describe(&selector, &manifest, Some(&with(&narrow)), &DEV).unsure);
    let drift = Drift::compared(&selector, &manifest, &with(&narrow), &with(&wide), &DEV);
    assert_eq!(texts(&drift), [r#"spec.podSelector {} {"matchLabels":{"a":"b"}}"#]);
    assert!(!drift.values_stand && drift.added.is_empty());
    assert_eq!(drift.manager.as_deref(), Some("kubectl-patch"));
    assert!(!Drift::describe(&selector, &manifest, Some(&with(&wide)), &DEV).unsure, "it is as git says");
}

#[test]
fn a_removed_field_is_absent_and_has_no_known_writer() {
    let key = world::config_map("a");
    let manifest = world::manifest_of(&key, "v1", json!({"data": {"a": "1"}}));
    let live = json!({"data": {"b": "2"}, "metadata": {"managedFields": []}});
    let drift = Drift::describe(&found(&key, json!({"f:data": {"f:a": {}}})), &manifest, Some(&live), &DEV);
    assert_eq!(texts(&drift), ["data.a 1 (absent)"]);
    assert_eq!(drift.manager, None);
}

#[test]
fn without_paths_the_values_tell_and_defaults_are_no_difference() {
    let key = world::key("apps", "Deployment", "web");
    let manifest =
        world::manifest_of(&key, "v1", json!({"kind": "x", "spec": {"a": {"b": 1}, "l": [{"n": 1}], "gone": 0}}));
    let live = json!({"spec": {"a": {"b": 2, "default": true}, "l": [{"n": 1, "default": 2}], "more": 3}});
    let drift = Drift::describe(&found(&key, json!({})), &manifest, Some(&live), &DEV);
    assert_eq!(texts(&drift), ["spec.a.b 1 2", "spec.gone 0 (absent)"]);
}

#[test]
fn secret_values_are_never_told() {
    let secret = world::key("", "Secret", "s");
    let manifest = world::manifest_of(&secret, "v1", json!({"data": {"a": "aGVsbG8="}}));
    let with = |data: Value| {
        json!({"data": data, "metadata": {"managedFields": [
            {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:data": {"f:a": {}}}},
        ]}})
    };
    let told = |paths: Value, data: Value| Drift::describe(&found(&secret, paths), &manifest, Some(&with(data)), &DEV);
    let a = || json!({"f:data": {"f:a": {}}});
    assert_eq!(texts(&told(a(), json!({"a": "b3RoZXI="}))), [format!("data.a {MASK} {MASK}")]);
    assert_eq!(texts(&told(a(), json!({}))), [format!("data.a {MASK} (absent)")]);
    // They are compared all the same: written in our own name, or changed and changed back.
    assert_eq!(texts(&told(json!({}), json!({"a": "b3RoZXI="}))), [format!("data.a {MASK} {MASK}")]);
    let back = told(a(), json!({"a": "aGVsbG8="}));
    assert!(back.values_stand && back.fields.is_empty());
    let own = Drift::compared(
        &found(&secret, a()),
        &manifest,
        &with(json!({"a": "Yg=="})),
        &with(json!({"a": "Yw=="})),
        &DEV,
    );
    assert_eq!(texts(&own), [format!("data.a {MASK} {MASK}")]);
    let pod = world::key("", "Pod", "p");
    let env = |value: &str| json!({"env": [{"name": "DB_PASSWORD", "value": value}, {"name": "DB", "value": format!("postgres://u:{value}@h/d")}]});
    let set = json!({"f:env": {
        "k:{\"name\":\"DB_PASSWORD\"}": {"f:value": {}}, "k:{\"name\":\"DB\"}": {"f:value": {}},
    }});
    let drift = Drift::describe(
        &found(&pod, set),
        &world::manifest_of(&pod, "v1", env("canary-a")),
        Some(&env("canary-b")),
        &DEV,
    );
    assert!(!format!("{drift:?}").contains("canary"), "{drift:?}");
}

/// What is told of these paths, or of the whole object, with secrets in what git wants and in what the cluster has.
fn told_of(paths: Value, of: impl Fn(&str) -> Value) -> String {
    let pod = world::key("", "Pod", "p");
    let manifest = world::manifest_of(&pod, "v1", of("canary-a"));
    let drift = Drift::describe(&found(&pod, paths), &manifest, Some(&of("canary-b")), &DEV);
    assert!(!drift.fields.is_empty());
    format!("{drift:?}")
}

/// Without the path of an element its list is told whole, and one that is gone is told whole too.
#[test]
fn secrets_inside_of_a_value_are_never_told() {
    let reordered = |value: &str| {
        let mut env = vec![json!({"name": "DB_PASSWORD", "value": value}), json!({"name": "A", "value": "1"})];
        if value == "canary-b" {
            env.reverse();
        }
        json!({"spec": {"containers": [{"env": env}]}})
    };
    let args = |value: &str| json!({"spec": {"args": [format!("--password={value}"), "--token", value, "-v"]}});
    let sidecar = |value: &str| {
        let sidecar = json!({"name": "side", "env": [{"name": "API_TOKEN", "value": value}]});
        let sidecar = if value == "canary-a" { vec![sidecar] } else { vec![] };
        json!({"containers": sidecar})
    };
    let side = json!({"f:containers": {"k:{\"name\":\"side\"}": {".": {}, "f:env": {}}}});
    for told in [
        told_of(json!({}), reordered),
        told_of(json!({}), args),
        told_of(json!({"f:spec": {"f:args": {}}}), args),
        told_of(side, sidecar),
        told_of(
            json!({"f:set": {"v:\"--password=canary-a\"": {}}}),
            |value| json!({"set": [format!("--password={value}")]}),
        ),
    ] {
        assert!(told.contains(MASK) && !told.contains("canary"), "{told}");
    }
}

#[test]
fn a_deleted_object_has_no_fields() {
    let key = world::config_map("a");
    let gone = Found::whole(key.clone(), Class::Deleted);
    assert!(Drift::describe(&gone, &world::manifest(&key, 1), None, &DEV).fields.is_empty());
}
