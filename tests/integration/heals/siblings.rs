//! What stands beside our fields and keeps them from being applied.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use plumb::cluster::Cluster;
use plumb::cluster::api::As;
use plumb::cluster::apply::Writer;
use plumb::cluster::execute::Executor;
use plumb::drift::ownership;
use plumb::model::environment::Propagation;
use plumb::model::kinds::Lookup;
use plumb::model::{Digest, Manifest, ObjectKey, Origin, applyset};
use serde_json::{Value, json};

use super::writes_of_three_resyncs;
use crate::harness::eventually;
use crate::scene::{SOON, Scene, config_map, part_of};

/// A Deployment without pods, with parts of its spec as YAML in one line.
fn deployment(name: &str, strategy: &str, env: &str, volumes: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: 0
  strategy: {strategy}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers: [{{name: web, image: a, env: [{env}]}}]
      volumes: [{volumes}]
"
    )
}

const RECREATE: &str = "{type: Recreate}";
const ENV: &str = "{name: X, value: '1'}";
const VOLUME: &str = "{name: v, emptyDir: {}}";

/// The parts of a Deployment that these tests are about.
async fn parts(scene: &Scene, name: &str) -> Value {
    let spec = scene.objects("apps", "v1", "Deployment").get(name).await.expect("it stands").data["spec"].clone();
    let pod = &spec["template"]["spec"];
    json!({"strategy": spec["strategy"], "env": pod["containers"][0]["env"], "volumes": pod["volumes"]})
}

/// A manifest as a render makes it.
fn manifest(scene: &Scene, yaml: &str) -> Manifest {
    let mut object: Value = serde_yaml::from_str(yaml).unwrap();
    object["metadata"]["namespace"] = scene.namespace.as_str().into();
    object["metadata"]["labels"] = json!({applyset::PART_OF: part_of(&scene.name)});
    let json = object.to_string();
    Manifest {
        key: ObjectKey::new("apps", "Deployment", &scene.namespace, object["metadata"]["name"].as_str().unwrap()),
        version: "v1".into(),
        origin: Origin { file: "web.yaml".into(), line: 1, document: 1 },
        digest: Digest::of(json.as_bytes()),
        json: serde_json::value::RawValue::from_string(json).unwrap(),
        replace_immutable: false,
        made_anew: false,
        left_alone: None,
    }
}

#[tokio::test]
async fn siblings_that_may_not_stand_beside_ours_are_taken_out() {
    let scene = Scene::with("siblings", "resync: 1s").await;
    let Some(audit) = scene.env.audit() else { return };
    let all = || ["strategy", "env", "volume"].map(|name| deployment(name, RECREATE, ENV, VOLUME)).join("---\n");
    let first = scene.push([("all.yaml", all())]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    let git = json!({"strategy": {"type": "Recreate"}, "env": [{"name": "X", "value": "1"}], "volumes": [{"name": "v", "emptyDir": {}}]});
    assert_eq!(parts(&scene, "env").await, git);

    let pod = |patch: Value| json!({"template": {"spec": patch}});
    let from = json!({"fieldRef": {"fieldPath": "metadata.name"}});
    let drifts = [
        // The API server adds the defaults of a rolling update, which are then the editor's.
        ("strategy", json!({"strategy": {"type": "RollingUpdate"}})),
        ("env", pod(json!({"containers": [{"name": "web", "image": "a", "env": [{"name": "X", "valueFrom": from}]}]}))),
        ("volume", pod(json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}]}))),
    ];
    let api: Api<Deployment> = Api::namespaced(scene.env.admin(), &scene.namespace);
    for (name, spec) in drifts {
        let generation = api.get(name).await.unwrap().metadata.generation;
        let params = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
        let edited = api.patch(name, &params, &Patch::Merge(json!({"spec": spec}))).await.unwrap();
        assert_ne!(edited.metadata.generation, generation, "{name} was not changed");
    }
    for name in ["strategy", "env", "volume"] {
        eventually(SOON, || async {
            let now = parts(&scene, name).await;
            ensure!(now == git, "{name}: {now}");
            Ok(())
        })
        .await;
        let owners = api.get(name).await.unwrap();
        let editors = owners.managed_fields().iter().filter(|entry| entry.manager.as_deref() == Some("kubectl-edit"));
        assert_eq!(editors.count(), 0, "{name}");
    }
    // What was applied within the last seconds is applied again, which changes nothing; then there is rest.
    eventually(SOON, || async {
        let writes = writes_of_three_resyncs(&scene, audit, "deployments").await;
        ensure!(writes.is_empty(), "{writes:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_default_that_nobody_owns_does_not_keep_a_commit_out() {
    let scene = Scene::new("default").await;
    let first = scene.push([("web.yaml", deployment("web", "{type: RollingUpdate}", ENV, VOLUME))]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    assert_eq!(parts(&scene, "web").await["strategy"]["rollingUpdate"]["maxSurge"], "25%");
    let second = scene.push([("web.yaml", deployment("web", RECREATE, ENV, VOLUME))]);
    scene.deployed(second).await;
    assert_eq!(parts(&scene, "web").await["strategy"], json!({"type": "Recreate"}));
    let from = "{name: X, valueFrom: {fieldRef: {fieldPath: metadata.name}}}";
    let third =
        scene.push([("web.yaml", deployment("web", "{type: RollingUpdate}", from, "{name: v, configMap: {name: c}}"))]);
    scene.deployed(third).await;
    let fourth = scene.push([("web.yaml", deployment("web", RECREATE, ENV, VOLUME))]);
    scene.deployed(fourth).await;
    assert_eq!(parts(&scene, "web").await["volumes"], json!([{"name": "v", "emptyDir": {}}]));

    // What is wrong in git itself is refused before anything is written, as ever.
    let bad = deployment("web", "{type: Recreate, rollingUpdate: {maxSurge: 1}}", ENV, VOLUME);
    let fifth = scene.push([("web.yaml", bad), ("a.yaml", config_map("a", &[("x", "1")]))]);
    let message = scene.failed(fifth).await;
    assert!(message.contains("spec.strategy.rollingUpdate"), "{message}");
    assert_eq!(scene.data("a").await, None);
}

#[tokio::test]
async fn what_others_added_is_taken_out_when_asked_for() {
    let scene = Scene::new("foreign-out").await;
    let first = scene.push([("web.yaml", deployment("web", RECREATE, ENV, VOLUME))]);
    let plumb = scene.run();
    scene.deployed(first).await;
    drop(plumb);
    let api: Api<Deployment> = Api::namespaced(scene.env.admin(), &scene.namespace);
    let additions = json!({
        "metadata": {"labels": {"theirs": "1"}, "annotations": {"theirs": "1"}, "finalizers": ["example.org/theirs"]},
        "spec": {"template": {"spec": {"nodeSelector": {"a": "b"}, "containers": [
            {"name": "web", "env": [{"name": "Y", "value": "1"}], "stdin": true},
            {"name": "side", "image": "b"},
        ]}}},
    });
    api.patch("web", &PatchParams::default(), &Patch::Strategic(additions)).await.unwrap();
    let manager = applyset::manager(&scene.name);
    let found = ownership::foreign(api.get("web").await.unwrap().managed_fields()).unwrap();
    let printed = found.paths().join("\n");
    for path in [
        "metadata.labels.theirs",
        "containers[name=web].env[name=Y].value",
        "containers[name=web].stdin",
        "containers[name=side].image",
        "spec.nodeSelector",
    ] {
        assert!(printed.contains(path), "{path} is not in\n{printed}");
    }
    assert!(!printed.contains("annotations") && !printed.contains("finalizers"), "{printed}");

    let cluster = Cluster::connect(Some(scene.env.kubeconfig()), None).await.unwrap();
    let known = cluster.discovered.ensure(&cluster.caller).await.unwrap();
    let manifest = manifest(&scene, &deployment("web", RECREATE, ENV, VOLUME));
    let Lookup::Served(info) = known.kinds.lookup(&manifest.key.kind, "v1") else { panic!("Deployments are served") };
    let (sender, stop) = tokio::sync::watch::channel(false);
    let executor = Executor {
        cluster: &cluster,
        writer: Writer { caller: &cluster.caller, manager: &manager, by: As::Plumb },
        propagation: Propagation::default(),
        stop: &stop,
    };
    let live = executor.take_out_foreign(&manifest, info, &found).await.unwrap().context("it stands").unwrap();
    assert!(live.entry(&manager).is_some());
    let clean = api.get("web").await.unwrap();
    assert!(!clean.labels().contains_key("theirs"));
    assert_eq!(clean.finalizers(), ["example.org/theirs"], "what holds an object is not ours to let go");
    let pod = clean.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    assert_eq!((pod.containers.len(), pod.containers[0].stdin, &pod.node_selector), (1, None, &None));
    assert_eq!(parts(&scene, "web").await["env"], json!([{"name": "X", "value": "1"}]));
    assert_eq!(clean.annotations()["theirs"], "1");
    let left = ownership::foreign(clean.managed_fields()).unwrap();
    assert!(left.is_empty(), "{left:?}");
    let again = executor.take_out_foreign(&manifest, info, &left).await.unwrap().unwrap();
    assert_eq!(again.resource_version, live.resource_version.max(again.resource_version));

    // Of what does not stand there is nothing to take out; what was stopped before its turn is told apart from it.
    let absent = Arc::new(self::manifest(&scene, &deployment("absent", RECREATE, ENV, VOLUME)));
    let one = || vec![(Arc::clone(&absent), found.clone())];
    let gone = executor.take_out_all(one(), &known.kinds).await;
    assert!(!gone.stopped && gone.baselines.is_empty() && gone.failures.is_empty(), "{gone:?}");
    sender.send_replace(true);
    assert!(executor.take_out_all(one(), &known.kinds).await.stopped);
}
