//! plumb in its own pod, from its own image and `deploy/`, on a real node. The node and plumb's image take the most time, so there is one test
//! of many steps; what was built, buildkitd's own history says.

mod docker;
mod lifecycle;
mod network;
mod own_image;
mod private;
mod registry;
#[path = "../../../src/source/tests/servers.rs"]
mod servers;
pub mod stand;
mod trouble;

use anyhow::ensure;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::Api;

use crate::harness::eventually;
use crate::scene::{SOON, config_map};
use stand::{Stand, dockerfile, hello, push_web, uids};

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn from_its_own_image_it_deploys_builds_heals_survives_what_breaks_and_leaves_workloads_running() {
    let stand = Stand::new("pod").await;
    what_changed_is_built_once_and_answers(&stand).await;
    drift_is_healed_with_pods(&stand).await;
    trouble::a_dockerfile_that_fails_applies_nothing(&stand).await;
    trouble::a_container_that_crashes_is_told_with_its_last_words(&stand).await;
    trouble::killed_in_the_middle_of_a_build(&stand).await;
    trouble::killed_in_the_middle_of_an_apply(&stand).await;
    trouble::containerd_is_started_anew(&stand).await;
    trouble::the_builder_is_away_for_a_while(&stand).await;
    lifecycle::another_version_writes_nothing(&stand).await;
    lifecycle::uninstalled_it_leaves_workloads_and_installed_again_it_goes_on(&stand).await;
}

async fn what_changed_is_built_once_and_answers(stand: &Stand) {
    let first = stand.push([
        ("plumb.yaml", "images: [{name: web, context: apps/web}, {name: api, context: apps/api}]\n".to_owned()),
        ("apps/web/Dockerfile", dockerfile("")),
        ("apps/web/answer", "web 1".to_owned()),
        ("apps/api/Dockerfile", dockerfile("")),
        ("apps/api/answer", "api 1".to_owned()),
        ("manifests/web.yaml", hello("web", "web")),
        ("manifests/api.yaml", hello("api", "api")),
        ("manifests/c.yaml", config_map("c", &[("x", "1")])),
    ]);
    stand.scene.deployed(first).await;
    stand.answers("web", "web 1").await;
    stand.answers("api", "api 1").await;
    stand.built([1, 1]).await;

    let api = uids(&stand.pods("api").await);
    let second = push_web(stand, "web 2", dockerfile(""));
    stand.scene.deployed(second).await;
    stand.answers("web", "web 2").await;
    stand.built([2, 1]).await;
    assert_eq!(uids(&stand.pods("api").await), api, "what did not change runs on");

    let back = push_web(stand, "web 1", dockerfile(""));
    stand.scene.deployed(back).await;
    stand.answers("web", "web 1").await;
    stand.built([2, 1]).await;
}

async fn drift_is_healed_with_pods(stand: &Stand) {
    let scene = &stand.scene;
    let deployments: Api<Deployment> = Api::namespaced(scene.env.admin(), &scene.namespace);
    let before = deployments.get("web").await.unwrap().metadata.generation.unwrap();
    scene.kubectl_ok(&["scale", "deployment/web", "--replicas=0", "-n", &scene.namespace], "").await;
    scene.kubectl_ok(&["delete", "configmap", "c", "-n", &scene.namespace], "").await;
    eventually(SOON, || async {
        ensure!(scene.data("c").await.as_deref() == Some("x=1"), "not made again yet");
        // Scaled, and put back: the pod that was there before may still be listed, and may have outlived both.
        let web = deployments.get("web").await?;
        let (replicas, generation) = (web.spec.and_then(|spec| spec.replicas), web.metadata.generation);
        let healed = replicas == Some(1) && generation.is_some_and(|generation| generation >= before + 2);
        ensure!(healed, "{replicas:?} replicas at {generation:?}, from {before}");
        let pods = stand.pods("web").await;
        let [pod] = &pods[..] else { anyhow::bail!("{} pods", pods.len()) };
        ensure!(pod.metadata.deletion_timestamp.is_none(), "its pod is going");
        Ok(())
    })
    .await;
    stand.healthy().await;
    stand.answers("web", "web 1").await;
}
