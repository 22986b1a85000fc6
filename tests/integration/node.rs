//! The node is what tests of images believe, so it is tested as well: it runs what is built on it, and leaves nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node as KubernetesNode, Pod, Service};
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::harness::{Node, Program, SOON, client, eventually, http_get, start_under};

/// A Deployment of two and a Service with a NodePort, for an image that answers on port 8080.
struct Hello {
    client: kube::Client,
    address: String,
    name: &'static str,
}

impl Hello {
    async fn apply(node: &Node, name: &'static str, image: &str, pull_policy: &str) -> Self {
        let client = client(&node.admin_kubeconfig()).await;
        let hello = Self { client, address: node.address().to_owned(), name };
        hello.set_image(image, pull_policy).await;
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"type": "NodePort", "selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
        });
        let services: Api<Service> = Api::default_namespaced(hello.client.clone());
        services.patch(name, &PatchParams::apply("test"), &Patch::Apply(service)).await.unwrap();
        hello
    }

    async fn set_image(&self, image: &str, pull_policy: &str) {
        let labels = json!({"app": self.name});
        let container = json!({"name": "hello", "image": image, "imagePullPolicy": pull_policy});
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": self.name},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
                },
            },
        });
        let deployments: Api<Deployment> = Api::default_namespaced(self.client.clone());
        deployments.patch(self.name, &PatchParams::apply("test"), &Patch::Apply(deployment)).await.unwrap();
    }

    fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    /// Waits until exactly two pods are there, and Ready, with this image.
    async fn runs(&self, image: &str) -> BTreeSet<String> {
        eventually(SOON, || async {
            let pods = self.pods().list(&ListParams::default().labels(&format!("app={}", self.name))).await?.items;
            ensure!(pods.len() == 2, "{} pods", pods.len());
            for pod in &pods {
                let seen = pod.spec.as_ref().and_then(|spec| spec.containers.first()?.image.clone());
                ensure!(seen.as_deref() == Some(image), "a pod has {seen:?}");
                let status = pod.status.clone().unwrap_or_default();
                let conditions = status.conditions.unwrap_or_default();
                let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
                ensure!(ready, "not ready: {:?}", status.container_statuses);
            }
            Ok(pods.iter().map(ResourceExt::name_any).collect())
        })
        .await
    }

    /// Waits until the NodePort gives this answer.
    async fn answers(&self, answer: &str) {
        self.answers_at("/", answer).await;
    }

    async fn answers_at(&self, path: &str, answer: &str) {
        let services: Api<Service> = Api::default_namespaced(self.client.clone());
        let service = services.get(self.name).await.unwrap();
        let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
        let port = ports[0].node_port.expect("a NodePort");
        let address = format!("{}:{port}", self.address);
        eventually(SOON, || async {
            let seen = http_get(&address, path)?;
            ensure!(seen == answer, "it answers {seen:?}");
            Ok(())
        })
        .await;
    }
}

/// Builds `image`, which answers `answer`.
fn build(node: &Node, image: &str, answer: &str) {
    let context = tempfile::tempdir().unwrap();
    node.hello_context(context.path(), answer);
    let built = node.buildctl(context.path(), image);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn it_is_shaped_like_minikubes() {
    let node = Node::shared();
    let client = client(&node.admin_kubeconfig()).await;
    let nodes: Api<KubernetesNode> = Api::all(client);
    let names: Vec<_> = nodes.list(&ListParams::default()).await.unwrap().iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, ["minikube"]);
    let status = nodes.get("minikube").await.unwrap().status.unwrap_or_default();
    let runtime = status.node_info.unwrap_or_default().container_runtime_version;
    assert!(runtime.starts_with("containerd://2."), "{runtime}");
    let ready = status.conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    assert!(ready.as_ref().is_some_and(|condition| condition.status == "True"), "{ready:?}");
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn an_image_built_on_it_runs_without_a_registry_and_outlives_containerd() {
    // Its own, as containerd stops: builds of other tests would end with it.
    let node = Node::start(&[]);
    build(&node, "hello:one", "one");
    let hello = Hello::apply(&node, "hello", "hello:one", "Never").await;
    hello.runs("hello:one").await;
    hello.answers("one").await;

    build(&node, "hello:two", "two");
    hello.set_image("hello:two", "Never").await;
    let pods = hello.runs("hello:two").await;
    hello.answers("two").await;

    node.stop(Program::Containerd);
    hello.answers("two").await;
    node.start_again(Program::Containerd);
    // buildkitd takes a moment to find it again.
    let context = tempfile::tempdir().unwrap();
    node.hello_context(context.path(), "three");
    eventually(SOON, || async {
        let built = node.buildctl(context.path(), "hello:three");
        ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Ok(())
    })
    .await;
    assert_eq!(hello.runs("hello:two").await, pods, "containers were not started anew");
    hello.set_image("hello:three", "Never").await;
    hello.runs("hello:three").await;
    hello.answers("three").await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn an_image_pushed_to_its_registry_is_pulled_from_there() {
    let node = Node::shared();
    let context = tempfile::tempdir().unwrap();
    node.hello_context(context.path(), "pulled");
    let local = |name: &str| format!("{name}={}", context.path().display());
    let pushed = Command::new(node.program("buildctl"))
        .args(["--addr", &format!("unix://{}", node.buildkit().display()), "build", "--frontend=dockerfile.v0"])
        .args(["--local", &local("context"), "--local", &local("dockerfile")])
        .args(["--output", "type=image,name=localhost:5000/pulled:1,push=true,store=false"])
        .output()
        .unwrap();
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));

    let image = "localhost:5000/pulled:1";
    let hello = Hello::apply(&node, "pulled", image, "Always").await;
    hello.runs(image).await;
    hello.answers("pulled").await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn with_dns_pods_find_services_by_name() {
    let node = Node::start(&["--dns"]);
    build(&node, "hello:dns", "found");
    let hello = Hello::apply(&node, "hello", "hello:dns", "Never").await;
    hello.runs("hello:dns").await;
    hello.answers("found").await;
    let services: Api<Service> = Api::default_namespaced(hello.client.clone());
    let address = services.get("hello").await.unwrap().spec.unwrap().cluster_ip.unwrap();
    hello.answers_at("/?resolve=hello", &format!("{address}\n")).await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn with_docker_images_are_built_by_its_engine() {
    let node = Node::start(&["--no-kubernetes", "--docker"]);
    let context = tempfile::tempdir().unwrap();
    node.hello_context(context.path(), "docker");
    let docker = |arguments: &[&str]| {
        let host = format!("unix://{}", node.docker().display());
        let ended = Command::new("docker").args(["--host", &host]).args(arguments).output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8(ended.stdout).unwrap().trim().to_owned()
    };
    docker(&["build", "--quiet", "--tag", "hello:docker", context.path().to_str().unwrap()]);
    assert_eq!(docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]), "hello:docker");
    // Its bridge is inside of the node; so is the port.
    docker(&["run", "--detach", "--publish", "8080:8080", "hello:docker"]);
    eventually(SOON, || async {
        ensure!(http_get(&format!("{}:8080", node.address()), "/")? == "docker");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn two_nodes_side_by_side_have_their_own_address_and_images() {
    let (one, other) = (Node::start(&["--no-kubernetes"]), Node::start(&["--no-kubernetes"]));
    assert_ne!(one.address(), other.address());
    build(&one, "hello:mine", "mine");
    let images = |node: &Node| {
        let socket = node.containerd();
        let arguments = ["--address", socket.to_str().unwrap(), "--namespace", "k8s.io", "images", "list", "--quiet"];
        let listed = Command::new(node.program("ctr")).args(arguments).output().unwrap();
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        String::from_utf8(listed.stdout).unwrap()
    };
    assert!(images(&one).contains("docker.io/library/hello:mine"));
    assert!(!images(&other).contains("hello"));
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn one_that_ends_leaves_the_link_of_another_that_has_its_name_by_now() {
    let node = Node::start(&["--no-kubernetes"]);
    let link = Traces::of(node.directory()).link;
    let name = link.file_name().unwrap().to_str().unwrap();
    // As the kernel and the next node do when the former's namespaces are gone; a node of another test may be that next one.
    let ip = |arguments: &str| Command::new("ip").args(arguments.split(' ')).status().unwrap().success();
    assert!(ip(&format!("link delete {name}")));
    let ours = ip(&format!("link add name {name} type veth peer name {}", name.replace("node", "test")));
    let index = std::fs::read_to_string(link.join("ifindex")).unwrap();
    drop(node);
    let stands = std::fs::read_to_string(link.join("ifindex"));
    if ours {
        ip(&format!("link delete {name}"));
        assert_eq!(stands.unwrap_or_default(), index);
    }
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn with_internet_it_reaches_who_knows_no_way_back_to_it() {
    let (node, outside) =
        (Node::start(&["--no-kubernetes", "--internet"]), Node::start(&["--no-kubernetes", "--registry"]));
    let within = |node: &Node, command: &[&str]| {
        let init = std::fs::read_to_string(node.directory().join("init")).unwrap();
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--net", "--target", init.trim()]).args(command).output().unwrap()
    };
    let connect = |node: &Node, to: &str| {
        within(node, &["timeout", "5", "bash", "-c", &format!("exec 3<>/dev/tcp/{to}")]).status.success()
    };
    let registry = format!("{}/5000", outside.address());
    assert!(within(&outside, &["ip", "route", "delete", "default"]).status.success());
    assert!(connect(&node, &registry), "from the node with internet");
    let plain = Node::start(&["--no-kubernetes"]);
    assert!(!connect(&plain, &registry), "from one without");
}

/// What a node has on the machine, outside of its namespaces.
struct Traces {
    directory: PathBuf,
    control_group: String,
    link: PathBuf,
    link_index: String,
    table: Option<String>,
}

/// The nftables tables of nodes, each as its name and the handle that no other one gets.
fn tables() -> Vec<String> {
    let listed = Command::new("nft").args(["--json", "list", "tables", "ip"]).output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let tables = listed["nftables"].as_array().unwrap().iter().map(|entry| &entry["table"]);
    tables
        .filter_map(|table| Some(format!("{} {}", table["name"].as_str()?, table["handle"])))
        .filter(|table| table.starts_with("plumb-node"))
        .collect()
}

impl Traces {
    fn of(directory: &Path) -> Self {
        let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap().trim().to_owned();
        let number = read("address").split('.').nth(2).unwrap().to_owned();
        let link = Path::new("/sys/class/net").join(format!("plumb-node{number}"));
        let traces = Self {
            control_group: format!("plumb-node.{}", read("pid")),
            link_index: std::fs::read_to_string(link.join("ifindex")).unwrap(),
            link,
            table: tables().into_iter().find(|table| table.starts_with(&format!("plumb-node{number} "))),
            directory: directory.to_owned(),
        };
        assert!(traces.processes().len() > 3, "{:?}", traces.processes());
        assert!(!traces.control_groups().is_empty());
        traces
    }

    /// Those in its control groups, pods included.
    fn processes(&self) -> Vec<String> {
        let ours = |process: &Path| {
            std::fs::read_to_string(process.join("cgroup"))
                .is_ok_and(|groups| groups.split(['/', '\n']).any(|group| group == self.control_group))
        };
        let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
        let lines = processes.filter(|process| ours(process));
        lines.filter_map(|process| std::fs::read_to_string(process.join("comm")).ok()).collect()
    }

    fn control_groups(&self) -> Vec<PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = std::fs::read_dir(root).unwrap().flatten().map(|hierarchy| hierarchy.path());
        let groups = hierarchies.chain([root.to_owned()]).map(|hierarchy| hierarchy.join(&self.control_group));
        groups.filter(|group| group.exists()).collect()
    }

    /// Fails as long as there are processes, mounts or the link.
    fn nothing_runs(&self) -> anyhow::Result<()> {
        ensure!(self.processes().is_empty(), "processes: {:?}", self.processes());
        // Another test's node may have its name by now.
        let index = std::fs::read_to_string(self.link.join("ifindex")).unwrap_or_default();
        ensure!(index != self.link_index, "the link {}", self.link.display());
        ensure!(self.table.as_ref().is_none_or(|table| !tables().contains(table)), "the table {:?}", self.table);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        ensure!(!mounts.contains(self.directory.to_str().unwrap()), "mounts: {mounts}");
        Ok(())
    }

    fn nothing_is_left(&self) -> anyhow::Result<()> {
        self.nothing_runs()?;
        ensure!(self.control_groups().is_empty(), "{:?}", self.control_groups());
        ensure!(!self.directory.exists(), "the directory");
        Ok(())
    }
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn it_takes_everything_with_it() {
    let node = Node::start(&[]);
    build(&node, "hello:end", "end");
    let hello = Hello::apply(&node, "hello", "hello:end", "Never").await;
    hello.runs("hello:end").await;
    let traces = Traces::of(node.directory());
    assert!(traces.processes().iter().any(|name| name.trim() == "hello"), "pods count: {:?}", traces.processes());
    drop(node);
    traces.nothing_is_left().unwrap();
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn nothing_is_left_when_its_test_is_killed() {
    drop(Node::start(&["--no-kubernetes"])); // builds what is missing, which may take minutes
    let (mut holder, directory) = start_under(&[
        "bash",
        "-c",
        "coproc NODE { exec tests/cluster/node run --until-eof --no-kubernetes; }
         read -r ready <&${NODE[0]} && echo $ready && read -r until_killed",
    ]);
    let traces = Traces::of(&directory);
    holder.kill().unwrap();
    holder.wait().unwrap();
    eventually(SOON, || async { traces.nothing_is_left() }).await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn nothing_runs_on_when_its_script_is_killed_and_the_next_removes_the_rest() {
    drop(Node::start(&["--no-kubernetes"]));
    let (mut script, directory) =
        start_under(&["tests/cluster/node", "run", "--until-eof", "--no-kubernetes", "--internet"]);
    let traces = Traces::of(&directory);
    assert!(traces.table.is_some(), "{:?}", tables());
    script.kill().unwrap();
    script.wait().unwrap();
    eventually(SOON, || async { traces.nothing_runs() }).await;
    // Or the next of another test has, beside us.
    drop(Node::start(&["--no-kubernetes"]));
    eventually(SOON, || async { traces.nothing_is_left() }).await;
}
