//! What the NetworkPolicies of `deploy/` keep out and let in, on a node that enforces them.

use std::path::Path;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Service;
use kube::api::Api;

use super::stand::{Stand, dockerfile, hello, push_web};
use crate::harness::{eventually, http_get};
use crate::scene::SOON;

/// The builder's service, as plumb has it.
const BUILDER: &str = "plumb-builder.plumb-builder:8090";
/// Of a pod beside plumb, at a port that is not plumb's.
const NEIGHBOUR: &str = "neighbour.plumb:9000";
/// What is dropped gets no answer.
const DROPPED: &str = "i/o timeout";
const CONNECTED: &str = "connected";

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn the_builder_hears_plumb_alone_and_nobody_opens_more_than_plumbs_probes_and_metrics() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let stand = Stand::with("network", &["--dns", "--network-policy"], &deploy).await;
    // Plumb's way to the builder is open, and so are the kubelet's to the probes, without which Stand would not stand.
    let first = stand.push([
        ("plumb.yaml", "images: [{name: web, context: apps/web}]\n".to_owned()),
        ("apps/web/Dockerfile", dockerfile("")),
        ("apps/web/answer", "web 1".to_owned()),
        ("manifests/web.yaml", hello("web", "web")),
    ]);
    stand.scene.deployed(first).await;
    stand.answers("web", "web 1").await;

    let elsewhere = stand.scene.namespace.clone();
    // One is in plumb's namespace, the other bears its labels.
    stand.stranger("neighbour", "plumb", "other").await;
    stand.stranger("stranger", &elsewhere, "reconciler").await;
    let strangers = [("neighbour", "plumb"), ("stranger", elsewhere.as_str())];
    let plumb = format!("{}:8080", stand.plumb_address().await);
    for (name, namespace) in strangers {
        stand.hears(name, namespace, BUILDER, DROPPED).await;
        // Whoever scrapes the metrics may be anywhere.
        stand.hears(name, namespace, &plumb, CONNECTED).await;
    }
    stand.hears("stranger", &elsewhere, NEIGHBOUR, DROPPED).await;

    // It is the policies that keep them out.
    let policies = [("plumb-builder", "plumb-builder"), ("plumb", "plumb")];
    for (name, namespace) in policies {
        stand.scene.kubectl_ok(&["delete", "networkpolicy", name, "-n", namespace], "").await;
    }
    for (name, namespace) in strangers {
        stand.hears(name, namespace, BUILDER, CONNECTED).await;
    }
    stand.hears("stranger", &elsewhere, NEIGHBOUR, CONNECTED).await;

    stand.install(&deploy).await;
    for (name, namespace) in strangers {
        stand.hears(name, namespace, BUILDER, DROPPED).await;
    }
    let second = push_web(&stand, "web 2", dockerfile(""));
    stand.scene.deployed(second).await;
    stand.answers("web", "web 2").await;
}

impl Stand {
    /// A pod that has no part in plumb, and services by which it is asked, and reached at port 9000.
    async fn stranger(&self, name: &str, namespace: &str, component: &str) {
        let objects = format!(
            "apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  type: NodePort
  selector: {{app: {name}}}
  ports: [{{name: asked, port: 8080}}, {{name: other, port: 9000}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}, app.kubernetes.io/name: plumb, app.kubernetes.io/component: {component}}}}}
spec:
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  securityContext: {{runAsNonRoot: true, runAsUser: 1000, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
  - &hello
    name: asked
    image: hello:pod
    imagePullPolicy: Never
    securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
  - {{<<: *hello, name: other, env: [{{name: PORT, value: '9000'}}]}}
"
        );
        self.scene.kubectl_ok(&["apply", "-n", namespace, "-f", "-"], &objects).await;
        let pod = format!("pod/{name}");
        self.scene.kubectl_ok(&["wait", &pod, "-n", namespace, "--for=condition=Ready", "--timeout=150s"], "").await;
    }

    /// Waits until a stranger that connects there gets this.
    async fn hears(&self, name: &str, namespace: &str, address: &str, expected: &str) {
        let services: Api<Service> = Api::namespaced(self.scene.env.admin(), namespace);
        eventually(SOON, || async {
            let ports = services.get(name).await?.spec.and_then(|spec| spec.ports).unwrap_or_default();
            let port = ports.first().and_then(|port| port.node_port).ok_or_else(|| anyhow::anyhow!("no NodePort"))?;
            let seen = http_get(&format!("{}:{port}", self.node.address()), &format!("/?connect={address}"))?;
            ensure!(seen.ends_with(expected), "{name} in {namespace}, {address}: {seen:?}, not {expected:?}");
            Ok(())
        })
        .await;
    }

    /// The address of plumb's pod: it has no service.
    async fn plumb_address(&self) -> String {
        self.plumb_pod().await.status.and_then(|status| status.pod_ip).expect("plumb has an address")
    }
}
