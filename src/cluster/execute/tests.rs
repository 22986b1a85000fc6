//! What follows an answer that somebody else was faster.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::cluster::api::As;
use crate::cluster::scripted::{Answer, Scripted, manifest, refusal};
use crate::model::LeftAlone;
use crate::plan::Reason;

/// What git says of the Deployment, or what stands of it.
fn web(metadata: &Value, spec: &Value) -> Value {
    let mut whole = json!({"name": "web", "namespace": "todo"});
    whole.as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": whole, "spec": spec})
}

fn stands(uid: &str) -> Answer {
    (200, web(&json!({"uid": uid, "resourceVersion": "7"}), &json!({})))
}

/// The Deployment with these owners: manager, operation, fields of the spec.
fn owned(spec: &Value, owners: &[(&str, &str, &[&str])]) -> Answer {
    let entry = |(manager, operation, fields): &(&str, &str, &[&str])| {
        let fields: Value = fields.iter().map(|field| (format!("f:{field}"), json!({}))).collect();
        json!({
            "manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": fields},
        })
    };
    let entries: Vec<Value> = owners.iter().map(entry).collect();
    (200, web(&json!({"uid": "new", "resourceVersion": "8", "managedFields": entries}), spec))
}

/// Writes the object as the environment `dev`, over the one with this uid.
async fn write(cluster: &Cluster, manifest: Manifest, over: Option<&str>) -> Result<Live, ClusterError> {
    let (_stops, stop) = channel::channel(false);
    let writer = Writer { caller: &cluster.caller, manager: "plumb-dev", by: As::Plumb };
    let executor = Executor { cluster, writer, propagation: Propagation::Foreground, stop: &stop };
    let step = Step {
        key: manifest.key.clone(),
        action: if over.is_some() { Action::Update } else { Action::Create },
        reason: Reason::Changed,
        manifest: None,
        precondition: over.map(|uid| Precondition { uid: uid.into(), resource_version: 6 }),
        checkable: true,
        redefined: false,
        migrate: false,
        let_go: Vec::new(),
        leaves: FieldSet::default(),
        takes: Vec::new(),
    };
    executor.write_one(&step, &manifest, &Kinds::builtin(), None).await
}

#[tokio::test]
async fn an_object_that_was_deleted_since_it_was_seen_is_made_as_a_new_one() {
    let (scripted, cluster) = Scripted::serve([refusal(409), refusal(404), stands("new")]).await;
    let live = write(&cluster, manifest(&web(&json!({}), &json!({}))), Some("old")).await.unwrap();
    assert_eq!(&*live.uid, "new");
    assert_eq!(scripted.words(), ["apply as plumb-dev by force", "metadata", "apply as plumb-dev"]);
    let asked = scripted.asked();
    assert_eq!(asked[0].1["metadata"]["uid"], "old");
    assert_eq!(asked[2].1["metadata"].get("uid"), None);
}

#[tokio::test]
async fn an_object_that_somebody_made_in_the_place_of_ours_is_not_written_over() {
    let (scripted, cluster) = Scripted::serve([refusal(409), stands("theirs")]).await;
    let error = write(&cluster, manifest(&web(&json!({}), &json!({}))), Some("old")).await.unwrap_err();
    assert_eq!(error.code(), 409);
    assert_eq!(scripted.words(), ["apply as plumb-dev by force", "metadata"]);
}

/// Between the making of a Deployment and its hand-over an autoscaler has scaled it: its number stays, and what it has not taken is handed over all the same.
#[tokio::test]
async fn what_somebody_took_while_it_was_handed_over_is_theirs() {
    let git = json!({"paused": false});
    let whole = json!({"paused": false, "replicas": 2, "minReadySeconds": 5});
    let paths = ["spec.replicas", "spec.minReadySeconds"].map(|path| path.parse().unwrap());
    let left_alone = LeftAlone {
        paths: paths.into(),
        whole: Some(serde_json::value::to_raw_value(&web(&json!({}), &whole)).unwrap()),
    };
    let manifest = Manifest { left_alone: Some(Arc::new(left_alone)), ..manifest(&web(&json!({}), &git)) };
    let scaled = json!({"paused": false, "replicas": 5, "minReadySeconds": 5});
    let owners: [(&str, &str, &[&str]); 2] =
        [("plumb-dev", "Apply", &["paused", "minReadySeconds"]), ("kube-controller-manager", "Update", &["replicas"])];
    let (scripted, cluster) = Scripted::serve([
        stands("new"),
        owned(&whole, &[("plumb-dev", "Apply", &["paused", "replicas", "minReadySeconds"])]),
        refusal(409),
        owned(&scaled, &owners),
        stands("new"),
        stands("new"),
    ])
    .await;
    write(&cluster, manifest, None).await.unwrap();
    let (share, apply) = ("apply as plumb-handover", "apply as plumb-dev by force");
    assert_eq!(scripted.words(), ["apply as plumb-dev", "read", share, "read", share, apply]);
    let asked = scripted.asked();
    let sent = [0, 2, 4, 5].map(|request| &asked[request].1["spec"]);
    let both = json!({"replicas": 2, "minReadySeconds": 5});
    assert_eq!(sent, [&whole, &both, &json!({"minReadySeconds": 5}), &git]);
    let uids = [2, 4, 5].map(|request| &asked[request].1["metadata"]["uid"]);
    assert_eq!(uids, ["new"; 3]);
}
