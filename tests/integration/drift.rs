//! What somebody changes in the cluster between commits: found by the watch, told, put back.

use anyhow::{Context as _, ensure};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::harness::{Plumb, eventually};
use crate::scene::{SOON, Scene, config_map};

/// A deployed environment with one ConfigMap `a`.
async fn deployed(name: &str, spec: &str) -> (Scene, Plumb) {
    let scene = Scene::with(name, spec).await;
    let commit = scene.push([("a.yaml", config_map("a", &[("x", "1"), ("z", "1")]))]);
    let plumb = scene.run();
    scene.deployed(commit).await;
    (scene, plumb)
}

async fn data_becomes(scene: &Scene, name: &str, data: Option<&str>) {
    eventually(SOON, || async {
        let now = scene.data(name).await;
        ensure!(now.as_deref() == data, "it is {now:?}");
        Ok(())
    })
    .await;
}

/// The line of the log that has all these texts.
async fn line(plumb: &Plumb, texts: &[&str]) -> String {
    eventually(SOON, || async {
        let log = plumb.log();
        let found = log.iter().find(|line| texts.iter().all(|text| line.contains(text)));
        Ok(found.with_context(|| format!("no line has {texts:?} in {log:#?}"))?.clone())
    })
    .await
}

#[tokio::test]
async fn an_edited_value_is_put_back_and_told_with_who_want_and_live() {
    let (scene, plumb) = deployed("drift-edit", "").await;
    let patch = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    scene.config_maps().patch("a", &patch, &Patch::Merge(json!({"data": {"x": "2"}}))).await.unwrap();
    data_becomes(&scene, "a", Some("x=1 z=1")).await;
    let line = line(&plumb, &["drift", "ConfigMap/", "field=data.x", "action=reverted"]).await;
    for text in ["want=1", "live=2", "manager=kubectl-edit", "class=value-changed"] {
        assert!(line.contains(text), "{text} is not in {line}");
    }
}

#[tokio::test]
async fn a_deleted_object_is_made_again() {
    let (scene, plumb) = deployed("drift-delete", "").await;
    scene.config_maps().delete("a", &DeleteParams::default()).await.unwrap();
    data_becomes(&scene, "a", Some("x=1 z=1")).await;
    line(&plumb, &["drift", "class=deleted", "action=created"]).await;
}

#[tokio::test]
async fn without_self_heal_drift_is_told_and_counted_and_nothing_is_written() {
    let (scene, plumb) = deployed("drift-off", "selfHeal: false").await;
    scene.config_maps().patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"x": "2"}}))).await.unwrap();
    line(&plumb, &["drift", "action=\"none, selfHeal is false\""]).await;
    eventually(SOON, || async {
        let status = scene.environment().await.and_then(|environment| environment.status).context("a status")?;
        ensure!(status.drift == Some(1), "{status:?}");
        Ok(())
    })
    .await;
    assert_eq!(scene.data("a").await.as_deref(), Some("x=2 z=1"));
}
