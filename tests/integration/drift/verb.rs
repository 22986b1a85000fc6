//! `plumb drift`, while nobody puts anything back.

use kube::api::{Patch, PatchParams};
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
