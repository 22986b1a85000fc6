//! The same on a node whose containers Docker runs, with the component `deploy/docker`: what dockerd has built is what the kubelet runs.

use anyhow::ensure;

use super::stand::{Stand, docker, dockerfile, push_web, run};
use super::{drift_is_healed_with_pods, trouble, what_changed_is_built_once_and_answers};
use crate::deploy::kustomization_of;
use crate::harness::{Program, eventually};
use crate::scene::{SOON, config_map};

/// As many as an environment's history has.
const HISTORY: usize = 10;

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn with_the_component_for_docker_what_dockerd_built_is_what_runs_until_nobody_needs_it() {
    let kustomization = kustomization_of("docs/minikube.md", "# kustomization.yaml, for the Docker runtime");
    let stand = Stand::with("podocker", &["--dns", "--runtime=docker"], kustomization.path()).await;
    let by_buildkitd = stand.node.builds().len();
    what_changed_is_built_once_and_answers(&stand).await;
    drift_is_healed_with_pods(&stand).await;
    trouble::a_dockerfile_that_fails_applies_nothing(&stand).await;
    trouble::killed_in_the_middle_of_a_build(&stand).await;
    trouble::killed_in_the_middle_of_an_apply(&stand).await;
    dockerd_is_started_anew(&stand).await;
    what_nobody_needs_goes_and_what_is_in_use_stays(&stand).await;
    assert_eq!(stand.node.builds().len(), by_buildkitd, "buildkitd has built nothing");
}

/// The image that a workload asks for, which dockerd has and runs.
async fn runs(stand: &Stand, app: &str) -> String {
    eventually(SOON, || async {
        let pods = stand.pods(app).await;
        let [pod] = &pods[..] else { anyhow::bail!("{} pods", pods.len()) };
        let status = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()?.first());
        let id = status.and_then(|status| status.container_id.as_deref()?.strip_prefix("docker://"));
        let id = id.ok_or_else(|| anyhow::anyhow!("not run by Docker: {status:?}"))?;
        let image = pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone()).unwrap_or_default();
        let format = ["--format", "{{.Image}}"];
        let of_container = run(docker(&stand.node).args(["inspect", id]).args(format));
        let of_name = run(docker(&stand.node).args(["image", "inspect", &image, "--format", "{{.Id}}"]));
        ensure!(of_container == of_name, "{image} is {of_name}, and the container is of {of_container}");
        Ok(image)
    })
    .await
}

/// With it every container ends, plumb's and the builder's among them.
async fn dockerd_is_started_anew(stand: &Stand) {
    stand.node.stop(Program::Dockerd);
    let meanwhile = push_web(stand, "web 5", dockerfile(""));
    stand.node.start_again(Program::Dockerd);
    stand.scene.deployed(meanwhile).await;
    stand.answers("web", "web 5").await;
    stand.answers("api", "api 1").await;
    stand.healthy().await;
    runs(stand, "web").await;
}

async fn what_nobody_needs_goes_and_what_is_in_use_stays(stand: &Stand) {
    let (scene, node) = (&stand.scene, &stand.node);
    let kept = runs(stand, "web").await;
    let keeper = ["run", "keeper", "--image", &kept, "--image-pull-policy=Never", "-n", "default"];
    scene.kubectl_ok(&keeper, "").await;
    let push = async |answer: &str| {
        let commit = push_web(stand, answer, dockerfile(""));
        scene.deployed(commit).await;
        stand.answers("web", answer).await;
        runs(stand, "web").await
    };
    let (old, current) = (push("web 6").await, push("web 7").await);
    for number in 0..HISTORY {
        let commit = scene.push([("c.yaml", config_map("c", &[("x", &number.to_string())]))]);
        scene.deployed(commit).await;
    }
    let stands = |image: &str| {
        let listed = run(docker(node).args(["images", "--format", "{{.Repository}}:{{.Tag}}"]));
        listed.lines().any(|line| line == image)
    };
    let goes = async |image: &str| {
        eventually(SOON, || async {
            ensure!(!stands(image), "{image} is still there");
            Ok(())
        })
        .await;
    };
    assert_eq!([&old, &kept, &current].map(|image| stands(image)), [true; 3]);
    let quick = ["PLUMB_KEEP_IMAGES=0", "PLUMB_KEEP_IMAGES_FOR=0s", "PLUMB_COLLECT_IMAGES=1s"];
    scene.kubectl_ok(&[&["set", "env", "deployment/plumb", "-n", "plumb"], &quick[..]].concat(), "").await;
    goes(&old).await;
    assert_eq!([&kept, &current, "plumb:0.1.0", "hello:pod"].map(stands), [true; 4]);
    scene.kubectl_ok(&["delete", "pod", "keeper", "-n", "default", "--now"], "").await;
    goes(&kept).await;
    assert!(stands(&current));
    stand.answers("web", "web 7").await;
}
