//! The definition of Environments in the cluster is another version's: in the middle of an upgrade, or beside a plumb on another machine.

use anyhow::ensure;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{Cluster, ControlPlane, TestEnv, eventually};
use crate::scene::{SOON, Scene, config_map, short};

const SPEC: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";

/// Changes the definition, which is the whole cluster's.
async fn redefine(cluster: &Cluster, scene: &Scene, operation: Value) {
    assert!(cluster.control_plane().is_ok(), "a control plane of its own");
    let definitions: Api<CustomResourceDefinition> = Api::all(scene.env.admin());
    let patch: json_patch::Patch = serde_json::from_value(json!([operation])).unwrap();
    let patch = Patch::<()>::Json(patch);
    definitions.patch("environments.plumb.dev", &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn a_newer_definition_in_the_cluster_stops_nothing_and_an_older_one_is_named() {
    let cluster = Cluster::Own(ControlPlane::start(false).into());
    let scene = Scene::in_env(TestEnv::on(cluster.clone(), "versions").await, "").await;
    let first = scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
    let mut plumb = scene.run();
    scene.deployed(first).await;

    // The next version's definition gives every Environment a field with a default. The plumb that runs goes on, and so does one that starts.
    let new = json!({"type": "boolean", "default": true});
    redefine(&cluster, &scene, json!({"op": "add", "path": format!("{SPEC}/fromTheFuture"), "value": new})).await;
    let second = scene.push([("a.yaml", config_map("a", &[("x", "2")]))]);
    plumb.wait_for_log(|line| line.contains("deployed") && line.contains(&short(second)), SOON).await;
    plumb.kill();
    let mut plumb = scene.run();
    let third = scene.push([("a.yaml", config_map("a", &[("x", "3")]))]);
    plumb.wait_for_log(|line| line.contains("deployed") && line.contains(&short(third)), SOON).await;
    assert!(!plumb.log().iter().any(|line| line.contains("drift") || line.contains("can't be read")));
    // The log says it first.
    eventually(SOON, || async {
        let (code, output) = scene.verb(&["status", &scene.name]).await;
        ensure!(code == Some(0) && output.contains(&short(third)), "{output}");
        Ok(())
    })
    .await;

    // An older one lacks a field that this version writes: it says so, and what to do.
    redefine(&cluster, &scene, json!({"op": "remove", "path": format!("{SPEC}/waitForIngress")})).await;
    scene.define("waitForIngress: true");
    let line = plumb.wait_for_log(|line| line.contains("another version of plumb"), SOON).await;
    assert!(line.contains("spec.waitForIngress") && line.contains("plumb init --crd"), "{line}");
}
