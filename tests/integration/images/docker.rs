//! A dockerd as the builder: the object asks for what its store has.

use std::process::Command;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::Api;

use super::{built, deployment};
use crate::harness::Node;
use crate::scene::Scene;

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn what_a_dockerd_built_is_what_the_object_asks_for_and_going_back_builds_nothing() {
    let node = Node::start(&["--no-kubernetes", "--docker"]);
    let scene = Scene::new("dockerd").await;
    let push = |dockerfile: &str, answer: &str| {
        let files = [
            ("plumb.yaml", "images: [{name: web, context: apps/web}]\n".to_owned()),
            ("apps/web/Dockerfile", format!("FROM scratch\n{dockerfile}\n")),
            ("apps/web/answer", answer.to_owned()),
            ("manifests/web.yaml", deployment("web")),
        ];
        scene.env.repository().commit("dev", files)
    };
    // What the Deployment asks for, which dockerd has.
    let asked_for = async || {
        let deployments: Api<Deployment> = Api::namespaced(scene.env.admin(), &scene.namespace);
        let pod = deployments.get("web").await.unwrap().spec.and_then(|spec| spec.template.spec).unwrap();
        let container = pod.containers.into_iter().next().unwrap();
        assert_eq!(container.image_pull_policy.as_deref(), Some("Never"));
        let image = container.image.unwrap();
        let host = format!("unix://{}", node.docker().display());
        let inspect = Command::new("docker").args(["--host", &host, "image", "inspect", &image]).output().unwrap();
        assert!(inspect.status.success(), "{image}: {}", String::from_utf8_lossy(&inspect.stderr));
        image
    };

    let plumb = scene.run_with(&["--builder", &format!("docker+unix://{}", node.docker().display())]);
    let first = push("COPY answer /", "1");
    scene.deployed(first).await;
    let one = asked_for().await;
    let second = push("COPY answer /", "2");
    scene.deployed(second).await;
    assert_ne!(asked_for().await, one);

    let bad = push("COPY missing /", "3");
    let message = scene.failed(bad).await;
    assert!(message.contains("web:") && message.contains("COPY missing /"), "{message}");
    let back = push("COPY answer /", "1");
    scene.deployed(back).await;
    assert_eq!(asked_for().await, one);
    assert_eq!(built(&plumb, "web"), 2, "{:#?}", plumb.log());
}
