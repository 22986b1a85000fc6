use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

mod properties;

const DEV: &str = "plumb-dev";

fn meta(json: Value) -> ObjectMeta {
    serde_json::from_value(json).unwrap()
}

fn reduced(json: Value) -> Live {
    reduce(&meta(json), &mut Interner::default())
}

fn entry(manager: &str, operation: &str, fields: Value) -> ManagedFieldsEntry {
    serde_json::from_value(
        json!({"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1",
        "time": "2026-07-01T10:00:00Z", "fieldsV1": fields}),
    )
    .unwrap()
}

fn paths(entry: &ManagedFieldsEntry) -> Vec<String> {
    fields(entry).unwrap().paths()
}

fn set(value: Value) -> FieldSet {
    FieldSet::from_value(&value).unwrap()
}

#[test]
fn live_metadata_is_reduced_to_what_decides() {
    let fields = json!({"f:data": {"f:a": {}}});
    let mut interner = Interner::default();
    let one = meta(json!({
        "uid": "u", "resourceVersion": "42", "labels": {PART_OF: "applyset-x-v1"}, "annotations": {PRUNE: "disabled"},
        "deletionTimestamp": "2026-07-01T10:00:00Z",
        "managedFields": [
            {"manager": DEV, "operation": "Apply", "fieldsV1": fields, "time": "2026-07-01T10:00:00Z"},
            {"manager": "plumb-prod", "operation": "Apply", "fieldsV1": fields},
            {"manager": DEV, "operation": "Apply", "subresource": "status", "fieldsV1": {}},
            {"manager": DEV, "operation": "Update", "fieldsV1": {}},
            {"manager": "kubectl", "operation": "Apply", "fieldsV1": {}},
        ],
    }));
    let live = reduce(&one, &mut interner);
    assert_eq!((&*live.uid, live.resource_version, live.terminating, live.prune_disabled), ("u", 42, true, true));
    assert_eq!(live.part_of.as_deref(), Some("applyset-x-v1"));
    let managers: Vec<_> = live.applied.iter().map(|entry| (&*entry.manager, entry.time)).collect();
    assert_eq!(managers, [(DEV, Some(1_782_900_000)), ("plumb-prod", None)]);
    assert_eq!(&*live.applied[0].fields, r#"{"f:data":{"f:a":{}}}"#);
    // Texts are shared, within an object and between objects.
    let again = reduce(&one, &mut interner);
    assert!(Arc::ptr_eq(&live.applied[0].fields, &live.applied[1].fields));
    assert!(Arc::ptr_eq(&live.applied[0].fields, &again.applied[0].fields));
    assert_eq!(interner.len(), 4);
    drop((live, again));
    interner.sweep();
    assert!(interner.is_empty());
}

#[test]
fn bare_and_odd_metadata_is_no_error() {
    let live = reduced(json!({}));
    assert!(live.uid.is_empty() && live.applied.is_empty() && live.owner.is_none() && !live.client_side_applied);
    assert_eq!(reduced(json!({"resourceVersion": "not a number"})).resource_version, 0);
    assert!(!reduced(json!({"annotations": {PRUNE: "enabled"}})).prune_disabled);
}

#[test]
fn other_owners_are_told_by_their_marks() {
    let cases = [
        (
            json!({"ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1", "controller": true}]}),
            "the controller ReplicaSet/web",
        ),
        (
            json!({"labels": {"app.kubernetes.io/managed-by": "Helm"},
            "annotations": {"meta.helm.sh/release-name": "web", "meta.helm.sh/release-namespace": "todo"}}),
            "the Helm release todo/web",
        ),
        (
            json!({"annotations": {"argocd.argoproj.io/tracking-id": "web:apps/Deployment:todo/web"}}),
            "the Argo CD application web",
        ),
        (json!({"labels": {"argocd.argoproj.io/instance": "web"}}), "the Argo CD application web"),
        (
            json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "web", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}}),
            "the Flux object flux-system/web",
        ),
        (json!({"labels": {"helm.toolkit.fluxcd.io/name": "web"}}), "the Flux object web"),
    ];
    for (json, words) in cases {
        assert_eq!(reduced(json).owner.unwrap().to_string(), words);
    }
    for nobody in [
        json!({"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "1"}]}),
        json!({"labels": {"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/instance": "web"}}),
        json!({"annotations": {"meta.helm.sh/release-name": "web"}}),
    ] {
        assert_eq!(reduced(nobody).owner, None);
    }
}

fn last_applied() -> Value {
    json!({"f:metadata": {"f:annotations": {".": {}, format!("f:{LAST_APPLIED}"): {}}}, "f:data": {".": {}, "f:old": {}, "f:a": {}}})
}

#[test]
fn a_client_side_entry_becomes_ours() {
    let entries = [
        entry(CLIENT_SIDE_APPLY, UPDATE, last_applied()),
        entry("kube-controller-manager", UPDATE, json!({"f:status": {}})),
    ];
    let after = migrate_client_side_apply(&entries, DEV).unwrap().unwrap();
    assert_eq!(after[1], entries[1]);
    assert_eq!((after[0].manager.as_deref(), after[0].operation.as_deref()), (Some(DEV), Some(APPLY)));
    assert_eq!(fields(&after[0]).unwrap(), set(last_applied()));
    assert_eq!(migrate_client_side_apply(&after, DEV).unwrap(), None, "once");
}

#[test]
fn client_side_entries_merge_into_the_one_we_have() {
    let entries = [
        entry(DEV, APPLY, json!({"f:data": {"f:a": {}}})),
        entry("before-first-apply", UPDATE, last_applied()),
        entry("kubectl-edit", UPDATE, json!({"f:data": {"f:b": {}}})),
        ManagedFieldsEntry {
            api_version: Some("v1beta1".into()),
            ..entry(CLIENT_SIDE_APPLY, UPDATE, json!({"f:spec": {}}))
        },
    ];
    let after = migrate_client_side_apply(&entries, DEV).unwrap().unwrap();
    assert_eq!(after.iter().map(|e| e.manager.as_deref().unwrap()).collect::<Vec<_>>(), [DEV, "kubectl-edit"]);
    assert_eq!(
        paths(&after[0]),
        ["data", "data.a", "data.old", "metadata.annotations", &format!("metadata.annotations[{LAST_APPLIED}]")]
    );
    assert_eq!(after[0].time, entries[0].time);
}

#[test]
fn what_client_side_apply_never_wrote_is_not_migrated() {
    let status =
        ManagedFieldsEntry { subresource: Some("status".into()), ..entry(CLIENT_SIDE_APPLY, UPDATE, json!({})) };
    let entries = [
        entry("before-first-apply", UPDATE, json!({"f:data": {}})),
        entry("kubectl-create", UPDATE, json!({})),
        status,
    ];
    assert_eq!(migrate_client_side_apply(&entries, DEV).unwrap(), None);
    assert!(!reduced(json!({"managedFields": entries})).client_side_applied);
    assert!(reduced(json!({"managedFields": [entry("my-tool", UPDATE, last_applied())]})).client_side_applied);
}

#[test]
fn pins_are_taken_out_of_updates_only() {
    let container = r#"k:{"name":"app"}"#;
    let env = |fields: Value| json!({"f:spec": {"f:containers": {container: fields}}});
    let lost = set(env(json!({"f:env": {".": {}, "k:{\"name\":\"X\"}": {".": {}, "f:name": {}, "f:value": {}}}})));
    let pin = env(
        json!({".": {}, "f:image": {}, "f:env": {".": {}, "k:{\"name\":\"X\"}": {".": {}, "f:name": {}, "f:value": {}}}}),
    );
    let scale = ManagedFieldsEntry { subresource: Some("scale".into()), ..entry("hpa", UPDATE, pin.clone()) };
    let older = ManagedFieldsEntry { api_version: Some("v1beta1".into()), ..entry("old", UPDATE, pin.clone()) };
    let entries = [
        entry(DEV, APPLY, pin.clone()),
        entry("kubectl-edit", UPDATE, pin.clone()),
        entry("only-this", UPDATE, env(json!({"f:env": {"k:{\"name\":\"X\"}": {"f:value": {}}}}))),
        entry("other-applier", APPLY, pin.clone()),
        scale,
        older,
        entry("elsewhere", UPDATE, json!({"f:data": {}})),
    ];
    let released = release_pins(&entries, DEV, &lost).unwrap();
    let after = released.entries.unwrap();
    let managers: Vec<_> = after.iter().map(|e| e.manager.as_deref().unwrap()).collect();
    assert_eq!(managers, [DEV, "kubectl-edit", "other-applier", "hpa", "old", "elsewhere"]);
    assert_eq!(after[0], entries[0], "our own entry is the next apply's business");
    assert_eq!(paths(&after[1]), ["spec.containers[name=app]", "spec.containers[name=app].image"]);
    let taken: Vec<_> = released.taken.iter().map(|taken| (taken.manager.as_str(), taken.fields == lost)).collect();
    assert_eq!(taken, [("kubectl-edit", true), ("only-this", false)]);
    let kept: Vec<_> = released.kept.iter().map(|kept| (kept.manager.as_str(), kept.fields == lost)).collect();
    assert_eq!(kept, [("other-applier", true), ("hpa", true), ("old", true)]);
    assert_eq!(release_pins(&after, DEV, &lost).unwrap().entries, None, "once");
}

#[test]
fn without_our_entry_or_pins_nothing_is_released() {
    let pinned = [entry("kubectl-edit", UPDATE, json!({"f:data": {"f:a": {}}}))];
    let lost = set(json!({"f:data": {"f:a": {}}}));
    assert_eq!(
        release_pins(&pinned, DEV, &lost).unwrap(),
        Released { entries: None, taken: Vec::new(), kept: Vec::new() }
    );
    let ours = [
        entry(DEV, APPLY, json!({"f:data": {"f:a": {}}})),
        entry("kubectl-edit", UPDATE, json!({"f:data": {"f:b": {}}})),
    ];
    assert_eq!(release_pins(&ours, DEV, &lost).unwrap().entries, None);
}

#[test]
fn what_plumb_kept_for_others_is_released_like_an_update() {
    let replicas = json!({"f:spec": {"f:replicas": {}}});
    let entries = [entry(DEV, APPLY, replicas.clone()), entry(HANDOVER, APPLY, replicas.clone())];
    let released = release_pins(&entries, DEV, &set(replicas)).unwrap();
    assert_eq!(released.entries.unwrap(), entries[..1]);
    assert!(released.kept.is_empty());
}

#[test]
fn claimed_fields_are_ours_alone() {
    let taken = json!({"f:spec": {"f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}}}});
    let scale = ManagedFieldsEntry { subresource: Some("scale".into()), ..entry("hpa", UPDATE, taken.clone()) };
    let older = ManagedFieldsEntry { api_version: Some("v1beta1".into()), ..entry("old", UPDATE, taken.clone()) };
    let entries = [
        entry("applier", APPLY, taken.clone()),
        entry(DEV, APPLY, json!({"f:spec": {"f:strategy": {"f:type": {}}}})),
        entry(
            "kubectl-edit",
            UPDATE,
            json!({"f:spec": {"f:strategy": {"f:type": {}, "f:rollingUpdate": {"f:maxSurge": {}}}}}),
        ),
        scale.clone(),
        older.clone(),
    ];
    let paths_of = |entries: &[ManagedFieldsEntry]| -> Vec<(String, Vec<String>)> {
        entries.iter().map(|entry| (entry.manager.clone().unwrap(), paths(entry))).collect()
    };
    let after = claim(&entries, DEV, "v1", &set(taken)).unwrap().unwrap();
    let rolling = ["spec.strategy.rollingUpdate", "spec.strategy.rollingUpdate.maxSurge"].map(str::to_owned);
    let ours = [&rolling[..], &["spec.strategy.type".to_owned()]].concat();
    assert_eq!(
        paths_of(&after),
        [
            (DEV.to_owned(), ours),
            ("kubectl-edit".to_owned(), vec!["spec.strategy.type".to_owned()]),
            ("hpa".to_owned(), rolling.to_vec()),
            ("old".to_owned(), rolling.to_vec()),
        ]
    );
    assert_eq!(
        claim(&after, DEV, "v1", &set(json!({"f:spec": {"f:strategy": {"f:type": {}}}}))).unwrap().unwrap().len(),
        3
    );
    assert_eq!(claim(&entries[1..2], DEV, "v1", &FieldSet::default()).unwrap(), None);
    let adopted = claim(&entries[2..3], DEV, "v1", &set(json!({"f:spec": {"f:strategy": {"f:type": {}}}}))).unwrap();
    assert!(is_apply_of(&adopted.unwrap()[0], DEV), "what is not ours yet gets our entry");
}

#[test]
fn a_field_is_handed_over_only_by_its_last_owners() {
    let replicas = json!({"f:spec": {"f:replicas": {}, "f:paused": {}}});
    let left = ["spec.replicas".parse().unwrap()];
    let last =
        |entries: &[ManagedFieldsEntry], droppers: &[&str]| last_owned(entries, droppers, &left).unwrap().paths();
    let ours = entry(DEV, APPLY, replicas.clone());
    let scale = ManagedFieldsEntry { subresource: Some("scale".into()), ..entry("hpa", UPDATE, replicas.clone()) };
    assert_eq!(last(std::slice::from_ref(&ours), &[DEV]), ["spec.replicas"]);
    assert!(last(&[ours.clone(), scale], &[DEV]).is_empty(), "the autoscaler has it");
    assert!(last(&[ours.clone(), entry(HANDOVER, APPLY, replicas.clone())], &[DEV]).is_empty(), "handed over before");
    let prod = entry("plumb-prod", APPLY, replicas);
    assert!(last(&[ours.clone(), prod.clone()], &[DEV]).is_empty());
    assert_eq!(last(&[ours, prod], &["plumb-prod", DEV]), ["spec.replicas"]);
}

#[test]
fn additions_are_what_others_own_beside_ours() {
    const APP: &str = r#"k:{"name":"app"}"#;
    let app = |fields: Value| json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {APP: fields}}}}});
    let entries = [
        entry(
            DEV,
            APPLY,
            json!({"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": app(json!({".": {}, "f:image": {}, "f:env": {"k:{\"name\":\"X\"}": {".": {}, "f:value": {}}}}))["f:spec"]}),
        ),
        entry(
            "kubectl-edit",
            UPDATE,
            app(json!({"f:image": {}, "f:env": {".": {}, "k:{\"name\":\"Y\"}": {".": {}, "f:value": {}}}})),
        ),
        entry(
            "operator",
            APPLY,
            json!({"f:metadata": {"f:finalizers": {".": {}, "v:\"x\"": {}}, "f:labels": {".": {}, "f:b": {}}}}),
        ),
        entry(
            "kubectl-rollout",
            UPDATE,
            json!({"f:spec": {"f:template": {"f:metadata": {"f:annotations": {".": {}, "f:restartedAt": {}}}}}}),
        ),
        entry(
            "kube-controller-manager",
            UPDATE,
            json!({"f:metadata": {"f:annotations": {"f:revision": {}}}, "f:status": {"f:x": {}}, "f:spec": {"f:volumeName": {}}}),
        ),
        entry("aggregation", APPLY, json!({"f:rules": {}, "f:data": {"f:a": {}}})),
        entry(HANDOVER, APPLY, json!({"f:spec": {"f:replicas": {}}})),
        ManagedFieldsEntry {
            subresource: Some("scale".into()),
            ..entry("hpa", UPDATE, json!({"f:spec": {"f:paused": {}}}))
        },
        entry("injector", UPDATE, json!({"f:spec": {"f:clientConfig": {"f:caBundle": {}}}})),
    ];
    assert_eq!(
        foreign(&entries).unwrap().paths(),
        [
            "metadata.labels.b",
            "spec.template.spec.containers[name=app].env[name=Y]",
            "spec.template.spec.containers[name=app].env[name=Y].value",
        ]
    );
}

#[test]
fn entries_of_a_version_that_is_gone_move() {
    let at =
        |version: &str, entry: ManagedFieldsEntry| ManagedFieldsEntry { api_version: Some(version.into()), ..entry };
    let entries = [
        at("x.dev/v1alpha1", entry(DEV, APPLY, json!({"f:spec": {"f:a": {}}}))),
        at("x.dev/v1", entry("kubectl-edit", UPDATE, json!({"f:spec": {"f:b": {}}}))),
        at("x.dev/v1alpha1", entry("kubectl-edit", UPDATE, json!({"f:spec": {"f:c": {}}}))),
    ];
    let after = move_to_version(&entries, |version| version == "x.dev/v1", "x.dev/v1").unwrap().unwrap();
    assert_eq!(
        after.iter().map(|entry| (entry.api_version.as_deref().unwrap(), paths(entry).join(" "))).collect::<Vec<_>>(),
        [("x.dev/v1", "spec.a".to_owned()), ("x.dev/v1", "spec.b spec.c".to_owned()),]
    );
    assert_eq!(move_to_version(&after, |version| version == "x.dev/v1", "x.dev/v1").unwrap(), None);
}

#[test]
fn additions_are_kept_as_a_text_and_of_most_objects_nothing_is() {
    let of = |entries: Vec<ManagedFieldsEntry>| {
        let meta = ObjectMeta { managed_fields: Some(entries), ..ObjectMeta::default() };
        reduce(&meta, &mut Interner::default()).foreign
    };
    let (ours, theirs) = (json!({"f:data": {"f:a": {}}}), json!({"f:data": {".": {}, "f:a": {}, "f:b": {}}}));
    assert_eq!(of(vec![entry(DEV, APPLY, ours.clone())]), None);
    assert_eq!(of(vec![entry(DEV, APPLY, ours.clone()), entry("edit", UPDATE, ours.clone())]), None, "shared");
    assert_eq!(of(vec![entry("edit", UPDATE, theirs.clone())]), None, "not an object of ours");
    let both = of(vec![entry(DEV, APPLY, ours), entry("edit", UPDATE, theirs)]);
    assert_eq!(both.as_deref(), Some(r#"{"f:data":{"f:b":{}}}"#));
}

#[test]
fn what_would_be_lost_is_what_the_new_set_lacks() {
    let old = set(json!({"f:data": {".": {}, "f:a": {}, "f:b": {}}}));
    assert_eq!(would_lose(&old, &set(json!({"f:data": {".": {}, "f:a": {}}}))).paths(), ["data.b"]);
    assert!(would_lose(&old, &old).is_empty());
}

#[test]
fn entries_that_cannot_be_read_are_an_error_not_a_loss() {
    let broken = [entry(DEV, APPLY, json!({})), entry(CLIENT_SIDE_APPLY, UPDATE, json!({"oops": {}}))];
    assert!(migrate_client_side_apply(&broken, DEV).is_err());
    assert!(release_pins(&broken, DEV, &FieldSet::default()).is_err());
}

#[test]
fn the_patch_guards_by_resource_version_and_applies() {
    let entries = [entry(DEV, APPLY, json!({"f:data": {}}))];
    let patch = managed_fields_patch("42", &entries).unwrap();
    let operations = serde_json::to_value(&patch).unwrap();
    assert_eq!(operations[0], json!({"op": "replace", "path": "/metadata/resourceVersion", "value": "42"}));
    let mut object = json!({"metadata": {"resourceVersion": "41", "managedFields": []}});
    json_patch::patch(&mut object, &patch).unwrap();
    assert_eq!(object["metadata"]["managedFields"], serde_json::to_value(&entries).unwrap());
}
