//! `plumb drift`, while nobody puts anything back.

use kube::api::{DeleteParams, Patch, PatchParams};
use plumb::model::applyset::PART_OF;
use serde_json::{Value, json};

use crate::scene::{Scene, config_map};

#[tokio::test]
async fn what_differs_is_shown_and_nothing_is_changed() {
    let scene = Scene::new("drift-verb").await;
    let commit = scene.push([("a.yaml", config_map("a", &[("x", "1"), ("z", "1")]))]);
    let plumb = scene.run();
    scene.deployed(commit).await;
    drop(plumb);
    let (code, output) = scene.verb(&["drift", &scene.name, "--exit-code"]).await;
    assert_eq!(code, Some(0), "{output}");

    let patch = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    scene.config_maps().patch("a", &patch, &Patch::Merge(json!({"data": {"x": "2"}}))).await.unwrap();
    let (code, output) = scene.verb(&["drift", &scene.name, "--exit-code"]).await;
    assert_eq!(code, Some(3), "{output}");
    for word in ["data.x", "value-changed", "kubectl-edit"] {
        assert!(output.contains(word), "{output}");
    }
    let (code, output) = scene.verb(&["drift", &scene.name, "-o", "json"]).await;
    assert_eq!(code, Some(0), "{output}");
    let value: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(value["drift"][0]["fields"][0], json!({"path": "data.x", "want": "1", "live": "2"}));
    assert_eq!(scene.data("a").await.as_deref(), Some("x=2 z=1"));
}

#[tokio::test]
async fn what_is_gone_taken_or_added_is_told_by_its_class() {
    let scene = Scene::with("drift-verb-all", "selfHeal: false").await;
    let map = |name| config_map(name, &[("x", "1")]);
    let names = ["added", "gone", "kept", "lost"];
    let files = ["added.yaml", "gone.yaml", "kept.yaml", "lost.yaml"];
    let commit = scene.push(files.into_iter().zip(names.map(map)));
    let plumb = scene.run();
    scene.deployed(commit).await;
    drop(plumb);

    let maps = scene.config_maps();
    let patch = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    maps.delete("gone", &DeleteParams::default()).await.unwrap();
    let unlabel = json!({"metadata": {"labels": {PART_OF: null}}});
    maps.patch("lost", &patch, &Patch::Merge(unlabel)).await.unwrap();
    maps.patch("added", &patch, &Patch::Merge(json!({"data": {"y": "2"}}))).await.unwrap();

    let (code, output) = scene.verb(&["drift", &scene.name, "-o", "json", "--exit-code"]).await;
    assert_eq!(code, Some(3), "{output}");
    let value: Value = serde_json::from_str(&output).unwrap();
    let object = |name: &str| format!("ConfigMap/{}/{name}", scene.namespace);
    let told: Vec<_> = value["drift"].as_array().unwrap().iter().map(|it| (&it["object"], &it["class"])).collect();
    let told_is = [("added", "foreign-addition"), ("gone", "deleted"), ("lost", "ownership-lost")];
    let told_is = told_is.map(|(name, class)| (json!(object(name)), json!(class)));
    assert_eq!(told, told_is.each_ref().map(|(object, class)| (object, class)), "{output}");
    let added = &value["drift"][0];
    assert_eq!(added["fields"], json!([{"path": "data.y", "want": "(absent)", "live": "2"}]));
    assert_eq!(added["manager"], "kubectl-edit");

    // It was looked at, and no more.
    assert_eq!(scene.data("gone").await, None);
    assert_eq!(scene.data("added").await.as_deref(), Some("x=1 y=2"));
    let lost = maps.get("lost").await.unwrap();
    assert!(lost.metadata.labels.is_none_or(|labels| !labels.contains_key(PART_OF)));
}
