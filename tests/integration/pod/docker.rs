//! The builder's pod as `deploy/docker` makes it. The kubelet here runs containerd's images, so that no pod of what is built comes; the builder's pod
//! and dockerd are what they are on a node whose containers Docker runs.

use std::process::Command;

use super::stand::{Stand, hello, run};
use crate::deploy::kustomization_of;

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn with_the_component_for_docker_the_builders_pod_builds_in_dockerd() {
    let kustomization = kustomization_of("docs/minikube.md", "# kustomization.yaml, for the Docker runtime");
    let stand = Stand::with("podocker", &["--dns", "--docker"], kustomization.path()).await;
    let commit = stand.push([
        ("plumb.yaml", "images: [{name: web, context: apps/web}]\n".to_owned()),
        ("apps/web/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n".to_owned()),
        ("manifests/web.yaml", hello("web", "web")),
    ]);
    let before = stand.node.builds().len();
    stand.scene.deployed(commit).await;
    let docker = format!("unix://{}", stand.node.docker().display());
    let listed =
        run(Command::new("docker").args(["--host", &docker, "images", "--format", "{{.Repository}}:{{.Tag}}"]));
    let image = ["-o", "jsonpath={.spec.template.spec.containers[0].image}"];
    let asked = [&["get", "deployment/web", "-n", &stand.scene.namespace], &image[..]].concat();
    let image = stand.scene.kubectl_ok(&asked, "").await;
    assert!(image.starts_with("web:") && listed.lines().any(|line| line == image), "{image}: {listed}");
    assert_eq!(stand.node.builds().len(), before, "buildkitd has built nothing");
}
