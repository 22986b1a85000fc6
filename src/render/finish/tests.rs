//! Tables of objects that are put right or refused, and what holds for every finished object.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::model::kinds::KindInfo;

const ID: &str = "applyset-x-v1";

fn kinds() -> Kinds {
    let mut kinds = Kinds::new("v1.36.3");
    for (group, version, kind, namespaced) in [
        ("", "v1", "ConfigMap", true),
        ("", "v1", "Secret", true),
        ("", "v1", "Service", true),
        ("", "v1", "Namespace", false),
        ("apps", "v1", "Deployment", true),
        ("rbac.authorization.k8s.io", "v1", "ClusterRole", false),
    ] {
        kinds.add(GroupKind::new(group, kind), KindInfo { version: version.into(), plural: "x".into(), namespaced });
    }
    kinds
}

fn spec(allow: Value) -> EnvironmentSpec {
    serde_json::from_value(json!({"branch": "dev", "namespace": "dev", "path": ".", "allow": allow})).unwrap()
}

fn finish_with(value: Value, nulls: Nulls, allow: Value) -> Result<Manifest, Box<ObjectError>> {
    let mut defined = Defined::new();
    defined.insert(GroupKind::new("x.dev", "Wide"), false);
    let (spec, kinds, words) = (spec(allow), kinds(), Words::default());
    let mut finisher = Finisher { spec: &spec, part_of: ID, kinds: &kinds, defined: &defined, nulls, words };
    finisher.finish(Draft { origin: Origin { file: "a.yaml".into(), line: 3, document: 1 }, value })
}

fn finish(value: Value) -> Result<Manifest, Box<ObjectError>> {
    finish_with(
        value,
        Nulls::Refuse,
        json!({"namespaces": ["other"], "clusterScoped": ["rbac.authorization.k8s.io/ClusterRole", "x.dev/Wide"]}),
    )
}

fn object(version: &str, kind: &str, rest: Value) -> Value {
    let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}});
    for (key, value) in rest.as_object().unwrap() {
        match (&mut object[key], value) {
            (Value::Object(map), Value::Object(more)) => map.extend(more.clone()),
            (slot, value) => *slot = value.clone(),
        }
    }
    object
}

fn json_of(manifest: &Manifest) -> Value {
    serde_json::from_str(manifest.json.get()).unwrap()
}

#[test]
fn an_object_gets_its_namespace_and_label() {
    let manifest = finish(object("v1", "ConfigMap", json!({"data": {"b": "1", "a": "2"}}))).unwrap();
    assert_eq!(
        manifest.json.get(),
        r#"{"apiVersion":"v1","data":{"a":"2","b":"1"},"kind":"ConfigMap","metadata":{"labels":{"applyset.kubernetes.io/part-of":"applyset-x-v1"},"name":"a","namespace":"dev"}}"#
    );
    assert_eq!(manifest.key, ObjectKey::new("", "ConfigMap", "dev", "a"));
    assert_eq!((manifest.api_version(), manifest.replace_immutable), ("v1".to_owned(), false));
}

#[test]
fn namespaces_follow_the_kind_and_the_definition() {
    let key = |value| finish(value).map(|manifest| manifest.key.to_string()).map_err(|error| error.problem);
    assert_eq!(key(object("v1", "ConfigMap", json!({"metadata": {"namespace": ""}}))).unwrap(), "ConfigMap/dev/a");
    assert_eq!(
        key(object("v1", "ConfigMap", json!({"metadata": {"namespace": "other"}}))).unwrap(),
        "ConfigMap/other/a"
    );
    assert_eq!(key(object("rbac.authorization.k8s.io/v1", "ClusterRole", json!({}))).unwrap(), "ClusterRole/a");
    assert_eq!(key(object("x.dev/v1", "Wide", json!({}))).unwrap(), "Wide/a");
    assert_eq!(key(object("x.dev/v1", "Unknown", json!({}))).unwrap(), "Unknown/dev/a");
    assert_eq!(key(object("apps/v1beta1", "Deployment", json!({}))).unwrap(), "Deployment/dev/a");
    for (value, expected) in [
        (
            object("v1", "ConfigMap", json!({"metadata": {"namespace": "kube-system"}})),
            "its namespace is \"kube-system\"",
        ),
        (object("v1", "Namespace", json!({})), "the kind is cluster-scoped, and"),
        (
            object("rbac.authorization.k8s.io/v1", "ClusterRole", json!({"metadata": {"namespace": "dev"}})),
            "the kind is cluster-scoped, but",
        ),
    ] {
        let problem = key(value).unwrap_err();
        assert!(problem.to_string().starts_with(expected) && problem.hint().is_some(), "{problem}");
    }
}

#[test]
fn what_is_no_object_or_only_a_clusters_is_refused() {
    for (value, expected) in [
        (json!([1]), "this document is a list"),
        (json!("x"), "this document is text"),
        (json!({}), "apiVersion is missing"),
        (json!({"apiVersion": "v1"}), "kind is missing"),
        (json!({"apiVersion": "v1", "kind": "ConfigMap"}), "metadata is missing"),
        (json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": []}), "metadata is a list, not a mapping"),
        (json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}), "metadata.name is missing"),
        (json!({"apiVersion": 1, "kind": "ConfigMap"}), "apiVersion is a number, not text"),
        (json!({"apiVersion": "a/b/c", "kind": "X"}), "\"a/b/c\" is not an apiVersion"),
        (json!({"apiVersion": "v1", "kind": "../x"}), "\"../x\" is not a valid kind"),
        (object("v1", "ConfigMap", json!({"metadata": {"name": 5}})), "metadata.name is a number"),
        (object("v1", "ConfigMap", json!({"metadata": {"name": "A_B"}})), "\"A_B\" is not a valid name"),
        (object("v1", "ConfigMap", json!({"metadata": {"generateName": "a-"}})), "metadata.generateName"),
        (object("v1", "ConfigMap", json!({"metadata": {"uid": "1"}})), "metadata.uid is set"),
        (object("v1", "ConfigMap", json!({"metadata": {"resourceVersion": "1"}})), "metadata.resourceVersion is set"),
        (object("v1", "ConfigMap", json!({"metadata": {"managedFields": []}})), "metadata.managedFields is set"),
        (object("v1", "ConfigMap", json!({"metadata": {"creationTimestamp": "2026"}})), "metadata.creationTimestamp"),
        (
            object("v1", "ConfigMap", json!({"metadata": {"labels": {"a": true}}})),
            "metadata.labels.a is a boolean, not text",
        ),
        (object("v1", "ConfigMap", json!({"metadata": {"labels": []}})), "metadata.labels is a list"),
        (
            object("v1", "ConfigMap", json!({"metadata": {"annotations": {"a": 1}}})),
            "metadata.annotations.a is a number",
        ),
        (object("v1", "ConfigMap", json!({"data": {"port": 80}})), "data.port is a number, not text"),
        (object("v1", "ConfigMap", json!({"data": {"a": null}})), "data.a is null"),
        (object("apps/v1", "Deployment", json!({"spec": {"a": [{"b": null}]}})), "spec.a[0].b is null"),
        (object("v1", "ConfigMap", json!({"metadata": {"labels": {PART_OF: "mine"}}})), "the label applyset"),
        (
            object("v1", "ConfigMap", json!({"metadata": {"annotations": {REPLACE: "yes"}}})),
            "the annotation plumb.dev/replace",
        ),
        (object("v1", "Secret", json!({"data": {"a": "*hunter2*"}})), "data.a is not base64"),
        (object("v1", "Secret", json!({"stringData": {"a": 5}})), "stringData.a is a number"),
        (object("v1", "ConfigMap", json!({"data": {"a": "x".repeat(2 << 20)}})), "the object is 2097"),
    ] {
        let error = finish(value).unwrap_err();
        assert!(error.problem.to_string().starts_with(expected), "{expected}: {error}");
        assert!(!format!("{} {}", error, error.failure()).contains("hunter2"));
        assert!(error.to_string().starts_with("a.yaml:3: "));
    }
}

#[test]
fn what_server_side_apply_would_make_a_trap_of_is_put_right() {
    let secret = object("v1", "Secret", json!({"data": {"a": "YQ==", "b": "YQ=="}, "stringData": {"b": "geheim"}}));
    assert_eq!(json_of(&finish(secret).unwrap())["data"], json!({"a": "YQ==", "b": "Z2VoZWlt"}));
    let role = json!({"aggregationRule": {"clusterRoleSelectors": []}, "rules": [{"verbs": ["*"]}]});
    let role = json_of(&finish(object("rbac.authorization.k8s.io/v1", "ClusterRole", role)).unwrap());
    assert_eq!(role.get("rules"), None);
    let replace = object("v1", "ConfigMap", json!({"metadata": {"annotations": {REPLACE: "immutable"}}}));
    assert!(finish(replace).unwrap().replace_immutable);
}

#[test]
fn what_kubectl_writes_of_a_dry_run_is_taken() {
    // kubectl create deployment a --image=b --dry-run=client -o yaml, and a StatefulSet and a CronJob as they are written so.
    let empty = json!({"creationTimestamp": null});
    let template = |labels: &Value| {
        let mut metadata = empty.clone();
        metadata["labels"] = labels.clone();
        json!({"metadata": metadata, "spec": {"containers": [{"image": "b", "name": "b", "resources": {}}]}})
    };
    let labels = json!({"app": "a"});
    for spec in [
        json!({"replicas": 1, "selector": {"matchLabels": labels}, "strategy": {}, "template": template(&labels)}),
        json!({"template": template(&labels), "volumeClaimTemplates": [{"metadata": empty, "spec": {"resources": {}}, "status": {}}]}),
        json!({"schedule": "@daily", "jobTemplate": {"metadata": empty, "spec": {"template": template(&labels)}}}),
    ] {
        let mut written = object("apps/v1", "Deployment", json!({"metadata": empty, "spec": spec, "status": {}}));
        let taken = json_of(&finish(written.clone()).unwrap());
        assert!(taken.get("status").is_none() && taken["metadata"].get("creationTimestamp").is_none());
        let written: Value =
            written["spec"].take().to_string().replace("\"creationTimestamp\":null,", "").parse().unwrap();
        let written: Value = written.to_string().replace("\"creationTimestamp\":null", "").parse().unwrap();
        assert_eq!(taken["spec"], written, "all the rest is as it was");
    }
    let by_hand = object("apps/v1", "Deployment", json!({"spec": {"creationTimestamp": null}}));
    assert_eq!(finish(by_hand).unwrap_err().problem, Problem::Null("spec.creationTimestamp".to_owned()));
}

#[test]
fn nulls_of_a_chart_are_left_out_unless_they_would_become_text() {
    let lenient = |value| finish_with(value, Nulls::LeaveOut, json!({}));
    let value = object(
        "apps/v1",
        "Deployment",
        json!({"metadata": {"annotations": null}, "spec": {"a": null, "b": [{"c": null}]}}),
    );
    let value = json_of(&lenient(value).unwrap());
    assert_eq!((value["spec"].clone(), value["metadata"].get("annotations")), (json!({"b": [{}]}), None));
    for (bad, path) in [(json!({"data": {"a": null}}), "data.a"), (json!({"list": [null]}), "list[0]")] {
        let problem = lenient(object("v1", "ConfigMap", bad)).unwrap_err().problem;
        assert_eq!(problem, Problem::Null(path.to_owned()));
    }
}

#[test]
fn elements_with_one_key_are_refused() {
    let pod = |spec: Value| object("apps/v1", "Deployment", json!({"spec": {"template": {"spec": spec}}}));
    let container = |inner: Value| pod(json!({"containers": [{"name": "x"}, inner]}));
    for (value, list, key) in [
        (pod(json!({"containers": [{"name": "x"}, {"name": "x"}]})), "containers", "name=x"),
        (pod(json!({"volumes": [{"name": "x"}, {"name": "y"}, {"name": "x"}]})), "volumes", "name=x"),
        (container(json!({"name": "y", "env": [{"name": "A"}, {"name": "A"}]})), "containers[1].env", "name=A"),
        (
            container(json!({"name": "y", "ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "TCP"}]})),
            "containers[1].ports",
            "containerPort=80,protocol=TCP",
        ),
        (
            container(json!({"name": "y", "volumeMounts": [{"mountPath": "/a"}, {"mountPath": "/a"}]})),
            "containers[1].volumeMounts",
            "mountPath=/a",
        ),
    ] {
        let problem = finish(value).unwrap_err().problem;
        let list = format!("spec.template.spec.{list}");
        assert_eq!(problem, Problem::DuplicateElement { list, key: key.to_owned() });
    }
    let good =
        container(json!({"name": "y", "ports": [{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}]}));
    assert!(finish(good).is_ok());
    let service = |ports: Value| finish(object("v1", "Service", json!({"spec": {"ports": ports}})));
    assert!(service(json!([{"port": 80}, {"port": 80, "protocol": "TCP"}])).is_err());
    assert!(service(json!([{"port": 80}, {"port": 80, "protocol": "UDP"}])).is_ok());
}

#[test]
fn lists_are_taken_apart() {
    let expanded = |value: Value| {
        let mut drafts = Vec::new();
        expand(Draft { origin: Origin { file: "a".into(), line: 1, document: 1 }, value }, &mut drafts);
        drafts.into_iter().map(|draft| draft.value).collect::<Vec<_>>()
    };
    let nested = json!({"apiVersion": "v1", "kind": "List", "items": [{"kind": "A"}, {"kind": "List", "items": [{"kind": "B"}]}]});
    assert_eq!(expanded(nested), [json!({"kind": "A"}), json!({"kind": "B"})]);
    let typed = json!({"apiVersion": "v1", "kind": "SecretList", "items": [{"metadata": {}}]});
    assert_eq!(expanded(typed), [json!({"apiVersion": "v1", "kind": "Secret", "metadata": {}})]);
    let custom = json!({"kind": "AllowList", "metadata": {"name": "x"}, "items": [1]});
    assert_eq!(expanded(custom.clone()), [custom]);
}

#[test]
fn hooks_of_other_moments_and_definitions_are_left_out() {
    let hook = |events: &str| is_other_hook(&json!({"metadata": {"annotations": {"helm.sh/hook": events}}}));
    assert!(hook("test") && hook("test-success, post-delete") && hook("pre-rollback"));
    assert!(!hook("pre-install") && !hook("test,post-upgrade") && !hook(""));
    let anew = |annotations: Value| {
        finish(object("v1", "ConfigMap", json!({"metadata": {"annotations": annotations}}))).unwrap().made_anew
    };
    let hook =
        |policy: &str| anew(json!({"helm.sh/hook": "pre-install, pre-upgrade", "helm.sh/hook-delete-policy": policy}));
    assert!(
        anew(json!({"helm.sh/hook": "pre-upgrade"}))
            && hook("before-hook-creation,hook-failed")
            && hook("hook-succeeded")
    );
    assert!(
        !hook("hook-failed")
            && !anew(json!({"a": "b"}))
            && !anew(json!({"helm.sh/hook-delete-policy": "hook-succeeded"}))
    );
    assert!(is_definition(&json!({"apiVersion": "plumb.dev/v1alpha1", "kind": "Environment"})));
    assert!(!is_definition(&json!({"apiVersion": "other.dev/v1", "kind": "Environment"})));
}

proptest! {
    #[test]
    fn finished_objects_are_members_in_allowed_places_and_stay_as_they_are(value in candidate(), lenient in any::<bool>()) {
        let nulls = if lenient { Nulls::LeaveOut } else { Nulls::Refuse };
        let allow = json!({"namespaces": ["other"], "clusterScoped": ["rbac.authorization.k8s.io/ClusterRole"]});
        if let Ok(first) = finish_with(value.clone(), nulls, allow.clone()) {
            let json = json_of(&first);
            prop_assert_eq!(json.pointer("/metadata/labels/applyset.kubernetes.io~1part-of"), Some(&json!(ID)));
            prop_assert_eq!(json.pointer("/metadata/namespace").and_then(Value::as_str), first.key.namespace.as_deref());
            match first.key.namespace.as_deref() {
                Some(namespace) => prop_assert!(matches!(namespace, "dev" | "other")),
                None => prop_assert!(first.key.kind.is("rbac.authorization.k8s.io", "ClusterRole")),
            }
            prop_assert!(!first.json.get().contains("null"));
            let again = finish_with(value, nulls, allow.clone()).unwrap();
            let twice = finish_with(json, nulls, allow).unwrap();
            prop_assert_eq!((first.digest, &first.key), (again.digest, &again.key));
            prop_assert_eq!((first.digest, &first.key), (twice.digest, &twice.key));
        }
    }
}

/// Objects that are mostly nearly right.
fn candidate() -> impl Strategy<Value = Value> {
    let kind = prop::sample::select(vec![
        ("v1", "ConfigMap"),
        ("v1", "Secret"),
        ("v1", "Namespace"),
        ("apps/v1", "Deployment"),
        ("rbac.authorization.k8s.io/v1", "ClusterRole"),
        ("unknown.dev/v1", "Thing"),
    ]);
    let namespace = prop::option::of(prop::sample::select(vec!["", "dev", "other", "kube-system", "..", "a/b"]));
    let scalar = prop_oneof![
        5 => "[a-zA-Z0-9=]{0,6}".prop_map(Value::from),
        1 => any::<i32>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    let map = prop::collection::btree_map("[a-z]{1,5}", scalar, 0..3)
        .prop_map(|map| Value::Object(map.into_iter().collect()));
    let field =
        prop::sample::select(vec!["data", "stringData", "labels", "annotations", "rules", "aggregationRule", "spec"]);
    (kind, "[a-z]{1,3}[A-Z./]{0,1}", namespace, prop::collection::vec((field, map), 0..4)).prop_map(
        |((version, kind), name, namespace, fields)| {
            let mut value = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
            if let Some(namespace) = namespace {
                value["metadata"]["namespace"] = namespace.into();
            }
            for (field, map) in fields {
                let holder =
                    if matches!(field, "labels" | "annotations") { &mut value["metadata"] } else { &mut value };
                holder[field] = map;
            }
            value
        },
    )
}
