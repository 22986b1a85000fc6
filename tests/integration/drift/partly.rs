//! `selfHeal: false` where the last commit was deployed in part: a start writes what of it has not been written, and leaves the rest as somebody left it.

use anyhow::ensure;
use serde_json::json;

use super::stand::{Stand, kubectl};
use crate::harness::eventually;
use crate::scene::{SOON, Scene, config_map};

/// What no API server takes.
const BAD: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {selector: {app: bad}, ports: [{port: 70000}]}\n";

fn map(name: &str) -> String {
    config_map(name, &[("x", "1"), ("z", "1")])
}

/// A first commit of which one object is refused; then somebody changes `a` and deletes `b`, and plumb ends.
async fn deployed_in_part(name: &str, spec: &str) -> Option<Scene> {
    let files = [("a.yaml", map("a")), ("b.yaml", map("b")), ("bad.yaml", BAD.to_owned()), ("c.yaml", map("c"))];
    let (scene, commit) = Stand::pushed(name, spec, files).await?;
    let plumb = scene.run();
    let message = scene.failed(commit).await;
    assert!(message.contains("bad"), "{message}");
    let stand = Stand::running(scene, plumb);
    stand.kubectl(&["patch", "cm", "a", "--type=merge", r#"-p={"data":{"x":"2"}}"#]).await;
    stand.kubectl(&["delete", "cm", "b"]).await;
    stand.drift("ConfigMap/a").await.says(&[("live", "2"), ("action", "none, selfHeal is false")]);
    stand.drift("ConfigMap/b").await.says(&[("class", "deleted"), ("action", "none, selfHeal is false")]);
    Some(stand.scene)
}

async fn told_as_found_at_the_start(stand: &Stand) {
    for (object, class) in [("ConfigMap/a", "value-changed"), ("ConfigMap/b", "deleted")] {
        let told = [("class", class), ("noticed", "while plumb was away"), ("action", "none, selfHeal is false")];
        stand.drift(object).await.says(&told);
    }
    stand.status(|status| status.drift == Some(2)).await;
}

async fn as_somebody_left_it(stand: &Stand) {
    assert_eq!(stand.scene.data("a").await.as_deref(), Some("x=2 z=1"));
    assert_eq!(stand.scene.data("b").await, None);
}

#[tokio::test]
async fn a_start_on_what_was_deployed_in_part_leaves_what_was_written_of_it() {
    let Some(scene) = deployed_in_part("d-part", "selfHeal: false\nresync: 3s").await else { return };
    let plumb = scene.run();
    let stand = Stand::running(scene, plumb);
    told_as_found_at_the_start(&stand).await;
    as_somebody_left_it(&stand).await;
    // What was refused is tried again, by the start and by resyncs, which leave the rest too.
    let mark = stand.mark().await;
    eventually(SOON, || async {
        let tries = stand.wrote(mark).await.only(|event| event.object_ref.name == "bad");
        ensure!(tries.len() >= 2, "not tried again yet");
        Ok(())
    })
    .await;
    let others = stand.wrote(mark).await.only(|event| event.object_ref.name != "bad");
    assert!(others.is_empty(), "{others:#?}");
    as_somebody_left_it(&stand).await;

    let good = BAD.replace("70000", "80");
    let commit = stand.scene.push([("bad.yaml", good)]);
    stand.scene.deployed(commit).await;
    as_somebody_left_it(&stand).await;
    stand.status(|status| status.drift == Some(2) && status.not_applied.is_none()).await;
    stand.takes_what_git_changes().await;
}

#[tokio::test]
async fn a_commit_that_comes_while_plumb_is_away_leaves_what_it_does_not_change_of_what_was_deployed_in_part() {
    let Some(scene) = deployed_in_part("d-part-commit", "selfHeal: false").await else { return };
    let good = BAD.replace("70000", "80");
    let commit = scene.push([("bad.yaml", good), ("c.yaml", config_map("c", &[("x", "2")]))]);
    let plumb = scene.run();
    scene.deployed(commit).await;
    let stand = Stand::running(scene, plumb);
    told_as_found_at_the_start(&stand).await;
    as_somebody_left_it(&stand).await;
    stand.data_becomes("c", Some("x=2")).await;
    stand.becomes("svc", "bad", "/spec/ports/0/port", &json!(80)).await;
}

/// Of a commit that passed its gates one of two new objects was not written, as a quota had room for one.
#[tokio::test]
async fn a_start_writes_what_has_not_been_written_yet() {
    let Some(stand) = Stand::new("d-part-quota", "selfHeal: false", [("a.yaml", map("a"))]).await else { return };
    // Kubernetes puts a ConfigMap of its own into every namespace, sooner or later.
    stand.becomes("cm", "kube-root-ca.crt", "/kind", &json!("ConfigMap")).await;
    stand.kubectl(&["create", "quota", "q", "--hard=count/configmaps=4"]).await;
    stand.becomes("quota", "q", "/status/used/count~1configmaps", &json!("3")).await;
    let files = [("a.yaml", config_map("a", &[("x", "2"), ("z", "1")])), ("p.yaml", map("p")), ("q.yaml", map("q"))];
    let commit = stand.scene.push(files);
    let message = stand.scene.failed(commit).await;
    assert!(message.contains("quota"), "{message}");
    stand.kubectl(&["patch", "cm", "a", "--type=merge", r#"-p={"data":{"z":"9"}}"#]).await;
    stand.drift("ConfigMap/a").await.says(&[("field", "data.z"), ("action", "none, selfHeal is false")]);
    let Stand { scene, plumb, .. } = stand;
    drop(plumb);
    let lacking = scene.environment().await.unwrap().status.unwrap().not_applied.unwrap();
    assert!(lacking.len() == 1 && lacking[0].contains("ConfigMap"), "{lacking:?}");
    kubectl(&scene, &["delete", "quota", "q"], "").await;
    let plumb = scene.run();
    scene.deployed(commit).await;
    let stand = Stand::running(scene, plumb);
    stand.data_becomes("p", Some("x=1 z=1")).await;
    stand.data_becomes("q", Some("x=1 z=1")).await;
    stand.drift("ConfigMap/a").await.says(&[("field", "data.z"), ("want", "1"), ("live", "9")]);
    assert_eq!(stand.scene.data("a").await.as_deref(), Some("x=2 z=9"));
}

/// A commit that writes nothing does not bring back the namespace that somebody deleted.
#[tokio::test]
async fn a_namespace_that_was_deleted_is_left_so_by_a_commit_that_needs_none() {
    let files = [("a.yaml", map("a")), ("b.yaml", map("b"))];
    let Some(stand) = Stand::new("d-off-ns", "selfHeal: false", files).await else { return };
    let namespace = stand.scene.namespace.clone();
    stand.scene.kubectl_ok(&["delete", "namespace", &namespace, "--timeout=150s"], "").await;
    stand.status(|status| status.drift == Some(3)).await;
    let commit = stand.scene.push([("b.yaml", crate::harness::Change::Remove)]);
    stand.scene.deployed(commit).await;
    stand.status(|status| status.drift == Some(2)).await;
    let (_, output) =
        stand.scene.kubectl(&["get", "namespace", &namespace, "-o", "name", "--ignore-not-found"], "").await;
    assert_eq!(output.trim(), "");
    let commit = stand.scene.push([("a.yaml", config_map("a", &[("x", "2")]))]);
    stand.scene.deployed(commit).await;
    stand.data_becomes("a", Some("x=2")).await;
}
