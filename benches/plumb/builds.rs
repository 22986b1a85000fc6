//! From a push to a pod of the new image, beside the same by hand; and the memory that a large context takes. Needs a node, and so root.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, ListParams, ObjectMeta, PostParams, WatchEvent, WatchParams};
use rand::RngCore as _;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::figures::{Figures, listed, median, milliseconds};
use crate::harness::{Change, Cluster, Node, Plumb};
use crate::scale::Scale;
use crate::world::{LIMIT, World, install};

pub const FIGURES: &[&str] =
    &["image_to_ready_ms_p50", "image_by_hand_ms_p50", "image_to_ready_ratio", "rss_mib_500mb_context"];

const DOCKERFILE: &str = "FROM scratch\nCOPY --chmod=755 pause turn /\nENTRYPOINT [\"/pause\"]\n";

pub async fn run(scale: &Scale, figures: &mut Figures) {
    let possible = Command::new("tests/cluster/node").arg("possible").output().expect("a script of the tests");
    if !possible.status.success() {
        return println!("images on a node: skipped: {}", String::from_utf8_lossy(&possible.stdout).trim());
    }
    let node = Node::start(&[]);
    let cluster = Cluster::Given(node.admin_kubeconfig());
    install(&cluster).await;
    to_ready(scale, &node, &cluster, figures).await;
    large_context(scale, &node, &cluster, figures).await;
}

fn start(node: &Node, world: &World) -> Plumb {
    let address = |socket: &Path| format!("unix://{}", socket.display());
    let repository = world.repository().path();
    let (builder, containerd) = (address(&node.buildkit()), address(&node.containerd()));
    let repository = repository.to_str().expect("a path in UTF-8");
    let args = ["run", "--repo", repository, "--builder", &builder, "--containerd", &containerd];
    Plumb::spawn(&node.admin_kubeconfig(), args)
}

fn deployment(name: &str, image: &str, replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      terminationGracePeriodSeconds: 1\n      containers: [{{name: {name}, image: '{image}', imagePullPolicy: Never}}]\n"
    )
}

async fn to_ready(scale: &Scale, node: &Node, cluster: &Cluster, figures: &mut Figures) {
    println!("images on a node: push → pod Ready, beside buildctl and kubectl by hand");
    let world = World::new(cluster, "toready").await;
    let (name, beside) = (world.name("dev"), world.name("hand"));
    let namespaces: Api<Namespace> = Api::all(world.admin());
    for namespace in [&name, &beside] {
        let metadata = ObjectMeta { name: Some(namespace.clone()), ..ObjectMeta::default() };
        namespaces.create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() }).await.expect("made");
    }
    let pause = std::fs::read(node.program("pause")).expect("the program");
    let (mut ours, mut theirs) = (Pods::watch(&world, &name).await, Pods::watch(&world, &beside).await);
    let hand = Hand::new(node, &beside, &pause);
    hand.build(0);
    hand.apply(&deployment("hand", "hand:0", 1));
    theirs.another().await;
    world.define([&name]);
    world.repository().commit(
        &name,
        [
            ("plumb.yaml".to_owned(), Change::from("images: [{name: web, context: web}]\n")),
            ("web/Dockerfile".to_owned(), DOCKERFILE.into()),
            ("web/pause".to_owned(), pause.into()),
            ("web/turn".to_owned(), "0".into()),
            ("manifests/web.yaml".to_owned(), deployment("web", "web", 1).into()),
        ],
    );
    let mut plumb = start(node, &world);
    ours.another().await;
    let (mut pushed, mut by_hand) = (Vec::new(), Vec::new());
    for turn in 1..=scale.images {
        let began = Instant::now();
        world.repository().commit(&name, [("web/turn", turn.to_string())]);
        pushed.push(milliseconds(ours.another().await - began));
        let began = Instant::now();
        hand.build(turn);
        hand.set(turn);
        by_hand.push(milliseconds(theirs.another().await - began));
    }
    plumb.terminate(LIMIT).await;
    println!("  push → Ready, ms: {}\n  by hand, ms: {}", listed(&pushed), listed(&by_hand));
    figures.record("image_to_ready_ms_p50", median(&pushed));
    figures.record("image_by_hand_ms_p50", median(&by_hand));
    figures.record("image_to_ready_ratio", median(&pushed) / median(&by_hand));
}

/// What a person types.
struct Hand<'a> {
    node: &'a Node,
    namespace: &'a str,
    context: tempfile::TempDir,
}

impl<'a> Hand<'a> {
    fn new(node: &'a Node, namespace: &'a str, pause: &[u8]) -> Self {
        let context = tempfile::tempdir().expect("a temporary directory");
        let file = context.path().join("pause");
        std::fs::write(&file, pause).expect("a file");
        std::fs::write(context.path().join("Dockerfile"), DOCKERFILE).expect("a file");
        Self { node, namespace, context }
    }

    fn build(&self, turn: usize) {
        // Never what plumb has built.
        std::fs::write(self.context.path().join("turn"), format!("by hand {turn}")).expect("a file");
        let built = self.node.buildctl(self.context.path(), &format!("hand:{turn}"));
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    }

    fn set(&self, turn: usize) {
        self.kubectl(&["set", "image", "deployment/hand", &format!("hand=hand:{turn}")]);
    }

    fn apply(&self, manifest: &str) {
        let file = self.context.path().join("manifest");
        std::fs::write(&file, manifest).expect("a file");
        self.kubectl(&["apply", "-f", file.to_str().expect("a path in UTF-8")]);
    }

    fn kubectl(&self, args: &[&str]) {
        let mut kubectl = Command::new(self.node.program("kubectl"));
        kubectl.arg("--kubeconfig").arg(self.node.admin_kubeconfig()).args(["--namespace", self.namespace]).args(args);
        let ended = kubectl.stdin(Stdio::null()).output().expect("kubectl starts");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
}

/// When pods of a namespace become Ready with an image that none had before.
struct Pods {
    ready: UnboundedReceiver<Instant>,
}

impl Pods {
    async fn watch(world: &World, namespace: &str) -> Self {
        let api: Api<Pod> = Api::namespaced(world.admin(), namespace);
        let from = api.list_metadata(&ListParams::default()).await.expect("a list").metadata.resource_version;
        let mut events = api.watch(&WatchParams::default(), &from.unwrap_or_default()).await.expect("a watch").boxed();
        let (sender, ready) = unbounded_channel();
        tokio::spawn(async move {
            let mut seen = Vec::new();
            while let Some(Ok(event)) = events.next().await {
                let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = event else { continue };
                let image = pod.spec.and_then(|spec| spec.containers.into_iter().next()?.image).unwrap_or_default();
                let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
                let is_ready = conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
                if is_ready && !seen.contains(&image) {
                    seen.push(image);
                    let _ = sender.send(Instant::now()); // The benchmark may have ended.
                }
            }
        });
        Self { ready }
    }

    async fn another(&mut self) -> Instant {
        tokio::time::timeout(LIMIT, self.ready.recv()).await.expect("a pod is Ready").expect("the watch goes on")
    }
}

/// Files of 4 MiB that can't be compressed.
#[allow(clippy::cast_precision_loss)]
async fn large_context(scale: &Scale, node: &Node, cluster: &Cluster, figures: &mut Figures) {
    const FILE: usize = 4 << 20;
    let count = scale.context_mib * (1 << 20) / FILE;
    println!("images on a node: a context of {count} files of 4 MiB");
    let world = World::new(cluster, "large").await;
    let name = world.name("dev");
    world.define([&name]);
    let mut files = vec![
        ("plumb.yaml".to_owned(), Change::from("images: [{name: large, context: large}]\n")),
        ("large/Dockerfile".to_owned(), Change::from("FROM scratch\nCOPY . /\n")),
        ("manifests/large.yaml".to_owned(), deployment("large", "large", 0).into()),
    ];
    for number in 0..count {
        let mut bytes = vec![0; FILE];
        rand::rng().fill_bytes(&mut bytes);
        files.push((format!("large/{number}"), bytes.into()));
    }
    world.repository().commit(&name, files);
    let mut plumb = start(node, &world);
    plumb.wait_for_log(|line| line.contains(" deployed "), LIMIT).await;
    let peak = plumb.peak_rss() as f64 / f64::from(1 << 20);
    plumb.terminate(LIMIT).await;
    figures.record("rss_mib_500mb_context", peak);
}
