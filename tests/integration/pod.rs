//! plumb in its own pod, from its own image and `deploy/`, on a real node.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use plumb::model::Environment;

use crate::harness::{Cluster, Node, TestEnv, eventually};
use crate::scene::{SOON, Scene, config_map};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Runs a command to its end; it must go well.
fn run(command: &mut Command) -> String {
    let ended = command.stdin(Stdio::null()).output().expect("it starts");
    assert!(ended.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).expect("text").trim().to_owned()
}

/// Builds plumb's image from its Dockerfile. No registry can be reached here: the base image is a stand-in, and what the other stages would fetch or compile is
/// what this machine has built.
fn build_plumb(node: &Node) {
    let directory = tempfile::tempdir().unwrap();
    let at = |path: &str| directory.path().join(path);
    for path in ["debian", "build", "helm/usr/bin", "kubectl/bin"] {
        std::fs::create_dir_all(at(path)).unwrap();
    }
    let root = run(&mut Command::new(Path::new(ROOT).join("tests/cluster/debian")));
    std::fs::hard_link(&root, at("debian/root.tar"))
        .or_else(|_| std::fs::copy(&root, at("debian/root.tar")).map(drop))
        .unwrap();
    std::fs::write(at("debian/Dockerfile"), "FROM scratch\nADD root.tar /\n").unwrap();
    let base = node.buildctl(&at("debian"), "debian:bookworm-slim");
    assert!(base.status.success(), "{}", String::from_utf8_lossy(&base.stderr));

    run(Command::new("strip").args(["-o", at("build/plumb").to_str().unwrap(), env!("CARGO_BIN_EXE_plumb")]));
    std::fs::copy(node.program("kubectl"), at("kubectl/bin/kubectl")).unwrap();
    let helm = run(Command::new(Path::new(ROOT).join("tests/cluster/build")).arg("helm"));
    std::fs::copy(Path::new(&helm).join("helm"), at("helm/usr/bin/helm")).unwrap();
    let mut buildctl = Command::new(node.program("buildctl"));
    buildctl.args(["--addr", &format!("unix://{}", node.buildkit().display()), "build", "--frontend=dockerfile.v0"]);
    for (name, path) in [("context", ROOT.into()), ("dockerfile", ROOT.into())]
        .into_iter()
        .chain(["build", "helm", "kubectl"].map(|stage| (stage, at(stage))))
    {
        buildctl.args(["--local", &format!("{name}={}", path.display())]);
        if path != Path::new(ROOT) {
            buildctl.args(["--opt", &format!("context:{name}=local:{name}")]);
        }
    }
    run(buildctl.args(["--output", "type=image,name=docker.io/library/plumb:0.1.0,unpack=true"]));
}

/// A workload of one pod that answers HTTP.
fn hello(image: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: hello}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: hello}}}}
  template:
    metadata: {{labels: {{app: hello}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{name: hello, image: '{image}', imagePullPolicy: Never}}]
"
    )
}

async fn healthy(scene: &Scene) {
    let environments: Api<Environment> = Api::all(scene.env.admin());
    eventually(SOON, || async {
        let status = environments.get(&scene.name).await?.status.unwrap_or_default();
        let found = status.conditions.into_iter().find(|condition| condition.type_ == "Healthy");
        ensure!(found.as_ref().is_some_and(|condition| condition.status == "True"), "{found:?}");
        Ok(())
    })
    .await;
}

async fn pods(scene: &Scene, namespace: &str, app: &str) -> Vec<Pod> {
    let pods: Api<Pod> = Api::namespaced(scene.env.admin(), namespace);
    pods.list(&ListParams::default().labels(app)).await.expect("the API server answers").items
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn from_its_own_image_it_deploys_builds_heals_survives_its_end_and_leaves_workloads_running() {
    let node = Node::start(&["--dns"]);
    build_plumb(&node);
    let context = tempfile::tempdir().unwrap();
    node.hello_context(context.path(), "hello");
    let built = node.buildctl(context.path(), "hello:pod");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let env = TestEnv::on(Cluster::Given(node.admin_kubeconfig()), "pod").await;
    let scene = Scene::in_env(env, "").await;
    let repository = scene.env.repository().path();
    let parent = repository.parent().unwrap();
    std::fs::set_permissions(parent, std::fs::Permissions::from_mode(0o755)).unwrap();

    let rendered = scene.kubectl_ok(&["kustomize", concat!(env!("CARGO_MANIFEST_DIR"), "/deploy")], "").await;
    let install = rendered
        .replace("path: /data/plumb", &format!("path: {}", parent.display()))
        .replace("/repositories/repository.git", "/repositories/repo.git");
    scene.kubectl_ok(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &install).await;
    for name in ["plumb", "plumb-builder"] {
        let deployment = format!("deployment/{name}");
        scene.kubectl_ok(&["rollout", "status", &deployment, "-n", name, "--timeout=60s"], "").await;
    }

    let first = scene.push([("hello.yaml", hello("hello:pod")), ("c.yaml", config_map("c", &[("x", "1")]))]);
    scene.deployed(first).await;
    healthy(&scene).await;
    scene.kubectl_ok(&["scale", "deployment/hello", "--replicas=0", "-n", &scene.namespace], "").await;
    scene.kubectl_ok(&["delete", "configmap", "c", "-n", &scene.namespace], "").await;
    eventually(SOON, || async {
        ensure!(scene.data("c").await.as_deref() == Some("x=1"), "not made again yet");
        ensure!(pods(&scene, &scene.namespace, "app=hello").await.len() == 1, "no pod");
        Ok(())
    })
    .await;
    healthy(&scene).await;

    scene.kubectl_ok(&["delete", "pod", "--all", "-n", "plumb", "--force", "--grace-period=0"], "").await;
    let second = scene.push([("c.yaml", config_map("c", &[("x", "2")]))]);
    scene.deployed(second).await;
    assert_eq!(scene.data("c").await.as_deref(), Some("x=2"));

    // An image: plumb asks the builder's pod, which lets it in and builds on the node.
    let third = scene.env.repository().commit(
        "dev",
        [
            ("plumb.yaml", "images: [{name: web, context: apps/web}]\n".to_owned()),
            ("apps/web/Dockerfile", "FROM hello:pod\nLABEL of=web\n".to_owned()),
            ("manifests/hello.yaml", hello("web")),
        ],
    );
    scene.deployed(third).await;
    let image = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.containers.first()?.image.clone());
    let before = eventually(SOON, || async {
        let found = pods(&scene, &scene.namespace, "app=hello").await;
        ensure!(found.len() == 1 && image(&found[0]).is_some_and(|image| image.starts_with("web:")), "{found:?}");
        let phase = found[0].status.as_ref().and_then(|status| status.phase.as_deref());
        ensure!(phase == Some("Running"), "{found:?}");
        Ok(found)
    })
    .await;
    let log = scene.kubectl_ok(&["logs", "deployment/plumb-builder", "-n", "plumb-builder"], "").await;
    assert!(log.contains("\"outcome\":\"built\""), "{log}");

    scene.kubectl_ok(&["delete", "deployment", "plumb", "-n", "plumb", "--wait"], "").await;
    let uids = |pods: &[Pod]| pods.iter().map(|pod| pod.metadata.uid.clone()).collect::<Vec<_>>();
    assert_eq!(uids(&pods(&scene, &scene.namespace, "app=hello").await), uids(&before));
}
