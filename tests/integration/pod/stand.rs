//! A node of its own with plumb and its builder on it, as `deploy/` installs them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::ensure;
use git2::Oid;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, ListParams};
use plumb::model::Environment;

use crate::harness::{Change, Cluster, Node, TestEnv, eventually, http_get};
use crate::scene::{SOON, Scene};

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The node, and the environment that plumb keeps there. Its images start from `hello:pod`, which answers HTTP.
pub struct Stand {
    pub scene: Scene,
    /// The node's images are dockerd's.
    by_docker: bool,
    /// Ends after the scene that is on it.
    pub node: Node,
}

impl Stand {
    pub async fn new(name: &str) -> Self {
        Self::with(name, &["--dns"], &Path::new(ROOT).join("deploy")).await
    }

    /// The same on a node with these options, installed by a kustomization of `deploy/`.
    pub async fn with(name: &str, options: &[&str], kustomization: &Path) -> Self {
        let stand = Self::without_plumb(name, options).await;
        stand.install(kustomization).await;
        stand
    }

    /// The same, and plumb is not installed yet.
    pub async fn without_plumb(name: &str, options: &[&str]) -> Self {
        let node = Node::start(options);
        build_plumb(&node);
        Self::on(node, name, options.contains(&"--runtime=docker")).await
    }

    /// The same, with plumb's image as a person builds it: all stages of the Dockerfile, which takes minutes.
    pub async fn with_its_own_image(name: &str) -> Self {
        let node = Node::start(&["--dns", "--internet"]);
        eprintln!("{}", run(Command::new(Path::new(ROOT).join("tests/cluster/plumb-image")).arg(node.directory())));
        let stand = Self::on(node, name, false).await;
        stand.install(&Path::new(ROOT).join("deploy")).await;
        stand
    }

    /// On a node that has plumb's image.
    async fn on(node: Node, name: &str, by_docker: bool) -> Self {
        let context = tempfile::tempdir().unwrap();
        node.hello_context(context.path(), "hello");
        let built = node.buildctl(context.path(), "hello:pod");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        if by_docker {
            load_into_docker(&node, &["plumb:0.1.0", "hello:pod"]);
        }
        let env = TestEnv::on(Cluster::Given(node.admin_kubeconfig()), name).await;
        Self { scene: Scene::in_env(env, "").await, by_docker, node }
    }

    /// Applies a kustomization of `deploy/`, and waits until what it runs is ready.
    pub async fn install(&self, kustomization: &Path) {
        let install = self.rendered(kustomization).await;
        self.scene.kubectl_ok(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &install).await;
        for name in ["plumb", "plumb-builder"] {
            let deployment = format!("deployment/{name}");
            self.scene.kubectl_ok(&["rollout", "status", &deployment, "-n", name, "--timeout=150s"], "").await;
        }
    }

    /// Deletes what `install` has applied, and waits until it is gone.
    pub async fn uninstall(&self, kustomization: &Path) {
        let installed = self.rendered(kustomization).await;
        self.scene.kubectl_ok(&["delete", "--timeout=150s", "-f", "-"], &installed).await;
    }

    /// A kustomization of `deploy/`, for the repository of the scene.
    async fn rendered(&self, kustomization: &Path) -> String {
        let repository = self.scene.env.repository().path();
        let parent = repository.parent().unwrap();
        std::fs::set_permissions(parent, std::fs::Permissions::from_mode(0o755)).unwrap();
        let rendered = self.scene.kubectl_ok(&["kustomize", kustomization.to_str().unwrap()], "").await;
        rendered
            .replace("path: /data/plumb", &format!("path: {}", parent.display()))
            .replace("/repositories/repository.git", "/repositories/repo.git")
    }

    /// Commits files anywhere on the environment's branch: a push.
    pub fn push<C: Into<Change>>(&self, files: impl IntoIterator<Item = (&'static str, C)>) -> Oid {
        self.scene.env.repository().commit("dev", files)
    }

    pub async fn healthy(&self) {
        let environments: Api<Environment> = Api::all(self.scene.env.admin());
        eventually(SOON, || async {
            let status = environments.get(&self.scene.name).await?.status.unwrap_or_default();
            let found = status.conditions.into_iter().find(|condition| condition.type_ == "Healthy");
            ensure!(found.as_ref().is_some_and(|condition| condition.status == "True"), "{found:?}");
            Ok(())
        })
        .await;
    }

    /// The pods of a workload.
    pub async fn pods(&self, app: &str) -> Vec<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.scene.env.admin(), &self.scene.namespace);
        pods.list(&ListParams::default().labels(&format!("app={app}"))).await.expect("the API server answers").items
    }

    /// Waits until a workload's service answers this at its NodePort.
    pub async fn answers(&self, app: &str, answer: &str) {
        let services: Api<Service> = Api::namespaced(self.scene.env.admin(), &self.scene.namespace);
        eventually(SOON, || async {
            let ports = services.get(app).await?.spec.and_then(|spec| spec.ports).unwrap_or_default();
            let port = ports.first().and_then(|port| port.node_port).ok_or_else(|| anyhow::anyhow!("no NodePort"))?;
            let seen = http_get(&format!("{}:{port}", self.node.address()), "/")?;
            ensure!(seen == answer, "it answers {seen:?}");
            Ok(())
        })
        .await;
    }

    /// Waits until who builds here has it in its history that `web` and `api` were built so often.
    pub async fn built(&self, expected: [usize; 2]) {
        eventually(SOON, || async {
            let history = if self.by_docker { self.built_by_dockerd().await } else { self.built_by_buildkitd() };
            let times = |image: &str| history.iter().filter(|built| built.starts_with(&format!("{image}:"))).count();
            let built = ["web", "api"].map(times);
            ensure!(built == expected, "built {built:?} times");
            Ok(())
        })
        .await;
    }

    fn built_by_buildkitd(&self) -> Vec<String> {
        let succeeded = self.node.builds().into_iter().filter(|build| build.succeeded);
        succeeded.filter_map(|build| Some(build.name.strip_prefix("docker.io/library/")?.to_owned())).collect()
    }

    /// dockerd keeps no history; what its builder has built since it started is in the log of that.
    async fn built_by_dockerd(&self) -> Vec<String> {
        let log = self.scene.kubectl_ok(&["logs", "deployment/plumb-builder", "-n", "plumb-builder"], "").await;
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let built = lines.filter(|line| line["message"] == "ended" && line["outcome"] == "built");
        built.filter_map(|line| Some(line["image"].as_str()?.to_owned())).collect()
    }

    /// plumb's own pod, which runs.
    pub async fn plumb_pod(&self) -> Pod {
        let pods: Api<Pod> = Api::namespaced(self.scene.env.admin(), "plumb");
        let plumb = ListParams::default().labels("app.kubernetes.io/component=reconciler");
        let pods = pods.list(&plumb).await.expect("the API server answers").items;
        pods.into_iter().find(|pod| pod.metadata.deletion_timestamp.is_none()).expect("plumb has a pod")
    }

    /// The images of all containers that run in plumb's namespaces.
    pub async fn images_of_plumb(&self) -> Vec<String> {
        let plumb = ListParams::default().labels("app.kubernetes.io/name=plumb");
        let pods = Api::<Pod>::all(self.scene.env.admin()).list(&plumb).await.expect("the API server answers").items;
        let containers = pods.into_iter().flat_map(|pod| pod.spec.unwrap_or_default().containers);
        containers.filter_map(|container| container.image).collect()
    }

    /// The id of the container that plumb runs in.
    pub async fn plumb_container(&self) -> String {
        let pods: Api<Pod> = Api::namespaced(self.scene.env.admin(), "plumb");
        eventually(SOON, || async {
            let pods = pods.list(&ListParams::default()).await?.items;
            let running = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
            let mut statuses = running.filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref()?.first());
            let status = statuses.next().ok_or_else(|| anyhow::anyhow!("no pod"))?;
            ensure!(status.state.as_ref().is_some_and(|state| state.running.is_some()), "{status:?}");
            let id = status.container_id.as_deref().and_then(|id| id.split_once("://"));
            id.map(|(_, id)| id.to_owned()).ok_or_else(|| anyhow::anyhow!("{status:?}"))
        })
        .await
    }

    /// Takes plumb's pod away as if its node were lost: its process ends at once, and another pod takes its place.
    pub async fn lose_plumb(&self) {
        self.scene.kubectl_ok(&["delete", "pod", "--all", "-n", "plumb", "--force", "--grace-period=0"], "").await;
    }
}

/// Runs a command to its end; it must go well.
pub fn run(command: &mut Command) -> String {
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
    // The base image is here, and there is nobody to be asked for it.
    buildctl.args(["--opt", "image-resolve-mode=local"]);
    run(buildctl.args(["--output", "type=image,name=docker.io/library/plumb:0.1.0,unpack=true"]));
}

/// Gives dockerd images that buildkitd has built, as `docker load` takes them in.
fn load_into_docker(node: &Node, images: &[&str]) {
    let archive = tempfile::NamedTempFile::new().unwrap();
    let mut export = Command::new(node.program("ctr"));
    // Not by the transfer service: then ctr ends before the last bytes are in the file.
    export.arg("--address").arg(node.containerd()).args(["--namespace", "k8s.io", "images", "export", "--local"]);
    run(export.arg(archive.path()).args(images.iter().map(|image| format!("docker.io/library/{image}"))));
    run(docker(node).args(["load", "--quiet", "--input"]).arg(archive.path()));
}

/// Docker's client, for the node's dockerd.
pub fn docker(node: &Node) -> Command {
    let mut docker = Command::new("docker");
    docker.args(["--host", &format!("unix://{}", node.docker().display())]);
    docker
}

/// A workload of one pod that answers HTTP, and its service.
pub fn hello(name: &str, image: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  type: NodePort
  selector: {{app: {name}}}
  ports: [{{port: 80, targetPort: 8080}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: 1
  revisionHistoryLimit: 0
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{name: {name}, image: '{image}', imagePullPolicy: Never}}]
"
    )
}

/// A Dockerfile of an image that answers, with more lines.
pub fn dockerfile(more: &str) -> String {
    format!("FROM hello:pod\nCOPY answer /answer\n{more}\n")
}

/// A commit whose image `web` answers this.
pub fn push_web(stand: &Stand, answer: &str, dockerfile: String) -> Oid {
    stand.push([("apps/web/answer", answer.to_owned()), ("apps/web/Dockerfile", dockerfile)])
}

pub fn uids(pods: &[Pod]) -> Vec<Option<String>> {
    pods.iter().map(|pod| pod.metadata.uid.clone()).collect()
}
