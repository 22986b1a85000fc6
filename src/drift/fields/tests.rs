use proptest::prelude::*;
use serde_json::json;

use super::*;

/// An entry as kube-apiserver 1.36 writes it.
const DEPLOYMENT: &str = r#"{"f:metadata":{"f:labels":{"f:app.kubernetes.io/name":{}}},"f:spec":{"f:replicas":{},"f:template":{"f:spec":
{"f:containers":{"k:{\"name\":\"app\"}":{".":{},"f:image":{},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},
"f:containerPort":{}}}}},"f:finalizers":{"v:\"a\"":{},"i:3":{}}}}}}"#;

#[test]
fn paths_are_for_people() {
    assert_eq!(
        FieldSet::parse(DEPLOYMENT).unwrap().paths(),
        [
            "metadata.labels[app.kubernetes.io/name]",
            "spec.replicas",
            "spec.template.spec.containers[name=app]",
            "spec.template.spec.containers[name=app].image",
            "spec.template.spec.containers[name=app].name",
            "spec.template.spec.containers[name=app].ports[containerPort=80,protocol=TCP]",
            "spec.template.spec.containers[name=app].ports[containerPort=80,protocol=TCP].containerPort",
            "spec.template.spec.finalizers[3]",
            "spec.template.spec.finalizers[=a]",
        ]
    );
}

#[test]
fn what_the_api_server_writes_is_written_the_same() {
    let value: Value = serde_json::from_str(DEPLOYMENT).unwrap();
    assert_eq!(FieldSet::from_value(&value).unwrap().to_value(), value);
    assert_eq!(FieldSet::parse("{}").unwrap(), FieldSet::default());
}

#[test]
fn sets_are_equal_by_meaning() {
    let same = [
        json!({"f:ports": {r#"k:{"containerPort":80,"protocol":"TCP"}"#: {}}}),
        json!({"f:ports": {r#"k:{"protocol":"TCP","containerPort":80.0}"#: {".": {}}}}),
        json!({"f:ports": {"k:{\"protocol\":\"\\u0054CP\", \"containerPort\": 80}": {}}}),
    ];
    let sets: Vec<_> = same.iter().map(|value| FieldSet::from_value(value).unwrap()).collect();
    assert!(sets.iter().all(|set| *set == sets[0]), "{sets:?}");
    let container = FieldSet::from_value(&json!({"f:data": {".": {}, "f:a": {}}})).unwrap();
    assert_ne!(container, FieldSet::from_value(&json!({"f:data": {"f:a": {}}})).unwrap());
    assert_eq!((container.len(), container.contains_field(&["data"])), (2, true));
}

#[test]
fn a_parent_in_the_other_set_takes_no_child() {
    let set = FieldSet::from_value(&json!({"f:data": {".": {}, "f:a": {}}})).unwrap();
    let parent = FieldSet::from_value(&json!({"f:data": {}})).unwrap();
    assert_eq!(set.difference(&parent).paths(), ["data.a"]);
    assert_eq!(set.intersection(&parent).paths(), ["data"]);
    assert!(parent.difference(&set).is_empty());
}

#[test]
fn what_is_no_field_set_is_an_error() {
    for bad in
        ["", "[]", "null", "3", r#"{"f:a":null}"#, r#"{"f:a":[]}"#, r#"{"a":{}}"#, r#"{"x:a":{}}"#, r#"{"k:[]":{}}"#]
    {
        assert!(FieldSet::parse(bad).is_err(), "{bad}");
    }
    for bad in [r#"{"k:{":{}}"#, r#"{"v:":{}}"#, r#"{"i:-1":{}}"#, r#"{"i:x":{}}"#, r#"{"":{}}"#, r#"{"f:a":{"f":{}}}"#]
    {
        assert!(FieldSet::parse(bad).is_err(), "{bad}");
    }
    let deep = format!("{}{}", "{\"f:a\":".repeat(100_000), "}".repeat(100_000));
    assert!(matches!(FieldSet::parse(&deep), Err(FieldsError::Json(_))));
}

fn element() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c.:/\"é]{1,3}".prop_map(|name| format!("f:{name}")),
        (0..3i64, "[ab]").prop_map(|(port, name)| format!("k:{}", json!({"name": name, "port": port}))),
        prop_oneof![
            any::<bool>().prop_map(Value::from),
            (0..3i64).prop_map(Value::from),
            "[ab\"]".prop_map(Value::from)
        ]
        .prop_map(|value| format!("v:{value}")),
        (0..3u64).prop_map(|index| format!("i:{index}")),
    ]
}

fn tree() -> impl Strategy<Value = Value> {
    let leaf = Just(json!({})).boxed();
    leaf.prop_recursive(4, 24, 4, |below| {
        (any::<bool>(), prop::collection::btree_map(element(), below, 0..4)).prop_map(|(member, children)| {
            let mut map: Map<String, Value> = children.into_iter().collect();
            if member {
                map.insert(".".to_owned(), json!({}));
            }
            Value::Object(map)
        })
    })
}

pub(super) fn set() -> impl Strategy<Value = FieldSet> {
    tree().prop_map(|value| FieldSet::from_value(&value).unwrap())
}

proptest! {
    #[test]
    fn a_set_survives_its_text(a in set()) {
        prop_assert_eq!(&FieldSet::from_value(&a.to_value()).unwrap(), &a);
        prop_assert_eq!(&FieldSet::parse(&a.to_value().to_string()).unwrap(), &a);
        prop_assert_eq!(a.paths().len(), a.len());
        prop_assert_eq!(a.is_empty(), a.paths().is_empty());
    }

    #[test]
    fn the_algebra_holds(a in set(), b in set(), c in set()) {
        let (union, both, less) = (a.union(&b), a.intersection(&b), a.difference(&b));
        prop_assert!(less.intersection(&b).is_empty());
        prop_assert_eq!(&less.union(&both), &a);
        prop_assert!(a.difference(&union).is_empty() && b.difference(&union).is_empty());
        prop_assert_eq!(union.len() + both.len(), a.len() + b.len());
        prop_assert_eq!(&both, &b.intersection(&a));
        prop_assert_eq!(&union, &b.union(&a));
        prop_assert_eq!(union.union(&c), a.union(&b.union(&c)));
        prop_assert_eq!(a.difference(&b.union(&c)), less.difference(&c));
    }

    #[test]
    fn any_text_is_a_set_or_an_error(text in "\\PC{0,40}", value in tree(), key in "\\PC{0,8}") {
        let _ = FieldSet::parse(&text);
        let _ = FieldSet::from_value(&json!({key: value}));
    }
}
