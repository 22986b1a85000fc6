//! With the component `deploy/push`: the builder pushes to a registry with the login of a Secret, and pods pull from there, by digest.

use anyhow::ensure;

use super::stand::{Stand, dockerfile, hello, push_web};
use crate::deploy::kustomization_of;
use crate::harness::eventually;
use crate::images::registry::{PASSWORD, Registry};
use crate::scene::SOON;

/// Where it listens on the node; buildkitd and containerd speak plain HTTP to their own machine.
const HOST: &str = "localhost:5444";

/// Added to the kustomization of the page, since this registry has no TLS.
const PLAIN_HTTP: &str = "
- patch: |
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: plumb-builder, namespace: plumb-builder}
    spec: {template: {spec: {containers: [{name: builder, env: [{name: PLUMB_REGISTRY_INSECURE, value: 'true'}]}]}}}
";

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn with_the_component_for_a_registry_what_the_builder_pushed_is_pulled_by_digest() {
    let stand = Stand::without_plumb("push", &["--dns", "--registry"]).await;
    let scene = &stand.scene;
    let mut registry = Registry::new(HOST);
    registry.start(&stand.node);
    let kustomization = kustomization_of("docs/minikube.md", "# kustomization.yaml, for a registry");
    let file = kustomization.path().join("kustomization.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}patches:{PLAIN_HTTP}")).unwrap();

    for namespace in ["plumb-builder", &scene.namespace] {
        scene.kubectl_ok(&["create", "namespace", namespace], "").await;
    }
    stand.login("plumb-builder", "of-last-year").await;
    stand.install(kustomization.path()).await;
    stand.login(&scene.namespace, PASSWORD).await;
    let image = format!("{HOST}/web");
    let first = stand.push([
        ("plumb.yaml", format!("images: [{{name: '{image}', context: apps/web}}]\n")),
        ("apps/web/Dockerfile", dockerfile("")),
        ("apps/web/answer", "web 1".to_owned()),
        ("manifests/web.yaml", pulled(&image)),
    ]);
    eventually(SOON, || async {
        let message = scene.ended(first).await.message.unwrap_or_default();
        ensure!(message.contains(&format!("the registry {HOST} answers 401")), "{message}");
        Ok(())
    })
    .await;
    stand.login("plumb-builder", PASSWORD).await;
    // The kubelet renews the file when it comes to it; a new pod has it at once.
    scene.kubectl_ok(&["rollout", "restart", "deployment/plumb-builder", "-n", "plumb-builder"], "").await;
    scene.deployed(first).await;
    stand.answers("web", "web 1").await;

    let second = push_web(&stand, "web 2", dockerfile(""));
    scene.deployed(second).await;
    stand.answers("web", "web 2").await;
    for pod in stand.pods("web").await {
        let asked = pod.spec.unwrap().containers[0].image.clone().unwrap();
        assert!(asked.starts_with(&image) && asked.contains("@sha256:"), "{asked}");
    }
    for namespace in ["plumb", "plumb-builder"] {
        let log = scene.kubectl_ok(&["logs", &format!("deployment/{namespace}"), "-n", namespace], "").await;
        assert!(!log.contains(PASSWORD));
    }
}

/// A workload that pulls with a login.
fn pulled(image: &str) -> String {
    let policy = "imagePullPolicy: Never}]";
    hello("web", image).replace(policy, "imagePullPolicy: IfNotPresent}]\n      imagePullSecrets: [{name: registry}]")
}

impl Stand {
    /// The login at the registry, as the page makes it, in this namespace.
    async fn login(&self, namespace: &str, password: &str) {
        self.scene.kubectl_ok(&["delete", "secret", "registry", "-n", namespace, "--ignore-not-found"], "").await;
        let create = ["create", "secret", "docker-registry", "registry", "-n", namespace];
        let server = format!("--docker-server={HOST}");
        let password = format!("--docker-password={password}");
        let login = [&server, "--docker-username=plumb", &password];
        self.scene.kubectl_ok(&[&create[..], &login].concat(), "").await;
    }
}
