//! plumb's image as a person builds it, and installed as README.md has it. The other tests of the pod have a debug build in an image of the
//! same last stage, since this one compiles for minutes.

use super::drift_is_healed_with_pods;
use super::stand::{Stand, dockerfile, hello};
use crate::harness::Change;
use crate::scene::config_map;

#[tokio::test]
#[ignore = "compiles for minutes, as root: make test-nightly"]
async fn own_image_of_the_dockerfile_renders_builds_deploys_and_heals() {
    let stand = Stand::with_its_own_image("ownimage").await;
    // helm renders.
    let chart = stand.push([
        ("plumb.yaml", "images: [{name: web, context: apps/web}]\n".to_owned()),
        ("apps/web/Dockerfile", dockerfile("")),
        ("apps/web/answer", "web 1".to_owned()),
        ("manifests/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n".to_owned()),
        ("manifests/templates/web.yaml", hello("web", "web")),
        ("manifests/templates/c.yaml", config_map("c", &[("x", "{{ .Chart.Name }}")])),
    ]);
    stand.scene.deployed(chart).await;
    assert_eq!(stand.scene.data("c").await.as_deref(), Some("x=shop"));
    stand.answers("web", "web 1").await;

    // kubectl renders.
    let patch = "patches: [{patch: '- {op: replace, path: /data/x, value: \"1\"}', target: {kind: ConfigMap}}]";
    let kustomization = stand.push([
        ("manifests/Chart.yaml", Change::Remove),
        (
            "manifests/kustomization.yaml",
            format!("resources: [templates/web.yaml, templates/c.yaml]\n{patch}\n").into(),
        ),
        ("manifests/templates/c.yaml", config_map("c", &[("x", "0")]).into()),
    ]);
    stand.scene.deployed(kustomization).await;
    assert_eq!(stand.scene.data("c").await.as_deref(), Some("x=1"));
    stand.built([1, 0]).await;
    drift_is_healed_with_pods(&stand).await;
}
