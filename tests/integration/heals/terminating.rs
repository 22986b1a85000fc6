//! Objects and namespaces on their way out.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::eventually;
use crate::scene::{SOON, Scene, config_map};

#[tokio::test]
async fn in_a_namespace_that_is_being_deleted_it_waits_and_then_everything_is_back() {
    let scene = Scene::new("ns-gone").await;
    let files = |x: &str| [("a.yaml", config_map("a", &[("x", x)])), ("b.yaml", config_map("b", &[("x", x)]))];
    let first = scene.push(files("1"));
    let _plumb = scene.run();
    scene.deployed(first).await;
    // An object of somebody else's keeps the namespace from going.
    let hold = config_map("hold", &[]).replace("{name: hold}", "{name: hold, finalizers: [example.org/hold]}");
    scene.kubectl_ok(&["create", "-n", &scene.namespace, "-f", "-"], &hold).await;
    let namespaces: Api<Namespace> = Api::all(scene.env.admin());
    let uid = namespaces.get(&scene.namespace).await.unwrap().uid();
    namespaces.delete(&scene.namespace, &DeleteParams::default()).await.unwrap();
    scene.data_becomes("a", None).await;
    scene.data_becomes("b", None).await;
    let second = scene.push(files("2"));
    // What the watch has not told yet fails at first for another reason.
    let waits = |message: &str| message.contains("its namespace is being deleted");
    scene.condition("Synced", |synced| synced.status == "False" && waits(&synced.message)).await;
    assert_eq!(scene.ended(second).await.outcome, "Failed");
    assert_eq!(scene.data("a").await, None);

    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    scene.config_maps().patch("hold", &PatchParams::default(), &release).await.unwrap();
    scene.deployed(second).await;
    let again = namespaces.get(&scene.namespace).await.unwrap().uid();
    assert_ne!(again, uid);
    assert_eq!((scene.data("a").await.as_deref(), scene.data("b").await.as_deref()), (Some("x=2"), Some("x=2")));

    // The same without a commit: what is gone is drift, and waits for its namespace.
    namespaces.delete(&scene.namespace, &DeleteParams::default()).await.unwrap();
    eventually(SOON, || async {
        let namespace = namespaces.get_opt(&scene.namespace).await?.context("no namespace")?;
        ensure!(namespace.uid() != again, "still the old one");
        Ok(())
    })
    .await;
    scene.data_becomes("a", Some("x=2")).await;
    scene.data_becomes("b", Some("x=2")).await;
}

#[tokio::test]
async fn an_object_with_a_finalizer_is_left_while_it_goes_and_made_again_by_a_resync() {
    let scene = Scene::with("going", "resync: 1s").await;
    let Some(audit) = scene.env.audit() else { return };
    let first = scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    let maps = scene.config_maps();
    let finalizers = |value: Value| Patch::Merge(json!({"metadata": {"finalizers": value}}));
    maps.patch("a", &PatchParams::default(), &finalizers(json!(["example.org/hold"]))).await.unwrap();
    let mark = audit.mark().await;
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let going = scene.identity("a").await;
    // A namespace's metadata is read at each look around: three of them, and not one write.
    scene.condition("Synced", |synced| synced.message.contains("is being deleted")).await;
    assert_eq!(scene.identity("a").await, going);
    assert!(scene.member_writes(&audit.since(mark).await).is_empty(), "a terminating object was written to");
    maps.patch("a", &PatchParams::default(), &finalizers(json!(null))).await.unwrap();
    scene.data_becomes("a", Some("x=1")).await;
    assert_ne!(scene.identity("a").await.0, going.0, "still the old one");
}
