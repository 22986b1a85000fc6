//! Images of a repository, from a commit to pods that run them: built when their content changed, and only then.

mod away;
mod docker;
mod each;
mod ignored;
mod late;
mod outdated;
pub mod registry;
mod trouble;

use std::process::Command;
use std::sync::Arc;

use anyhow::ensure;
use git2::Oid;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};

use crate::harness::{Change, Cluster, Node, Plumb, TestEnv, eventually, gone, running};
use crate::scene::{SOON, Scene, config_map, short};

/// An environment on a node, with a plumb that builds there.
struct Yard {
    node: Arc<Node>,
    scene: Scene,
}

const PLUMB_YAML: &str = "images:\n- {name: web, context: apps/web}\n- {name: api, context: apps/api}\n";

fn deployment(name: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{name: {name}, image: {name}}}]
"
    )
}

impl Yard {
    async fn new(name: &str) -> Self {
        let node = Node::shared();
        let context = tempfile::tempdir().unwrap();
        node.hello_context(context.path(), "nothing yet");
        let built = node.buildctl(context.path(), "hello-base:1");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let env = TestEnv::on(Cluster::Given(node.admin_kubeconfig()), name).await;
        Self { node, scene: Scene::in_env(env, "").await }
    }

    fn run(&self) -> Plumb {
        let (buildkit, containerd) = (self.node.buildkit(), self.node.containerd());
        let buildkit = format!("unix://{}", buildkit.display());
        let containerd = format!("unix://{}", containerd.display());
        self.scene.run_with(&["--builder", &buildkit, "--containerd", &containerd])
    }

    /// Commits files anywhere on the environment's branch: a push.
    fn push<C: Into<Change>>(&self, files: impl IntoIterator<Item = (&'static str, C)>) -> Oid {
        self.scene.env.repository().commit("dev", files)
    }

    /// What no other test's image answers: what is the same is built once for all.
    fn answer(&self, text: &str) -> String {
        format!("{text} of {}", self.scene.name)
    }

    fn push_both(&self) -> Oid {
        self.push([
            ("plumb.yaml", PLUMB_YAML.to_owned()),
            ("apps/web/Dockerfile", dockerfile("")),
            ("apps/web/answer", self.answer("web 1")),
            ("apps/api/Dockerfile", dockerfile("")),
            ("apps/api/answer", self.answer("api 1")),
            ("manifests/web.yaml", deployment("web")),
            ("manifests/api.yaml", deployment("api")),
        ])
    }

    /// The image that all pods of an app run, once they are Ready and alike.
    async fn runs(&self, app: &str) -> String {
        let pods: Api<Pod> = Api::namespaced(self.scene.env.admin(), &self.scene.namespace);
        eventually(SOON, || async {
            let found = pods.list(&ListParams::default().labels(&format!("app={app}"))).await?.items;
            ensure!(found.len() == 1, "{} pods", found.len());
            let status = found[0].status.clone().unwrap_or_default();
            let ready = status.conditions.unwrap_or_default();
            let ready = ready.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
            ensure!(ready, "not ready: {:?}", status.container_statuses);
            let image = found[0].spec.as_ref().and_then(|spec| spec.containers[0].image.clone());
            image.ok_or_else(|| anyhow::anyhow!("no image"))
        })
        .await
    }

    /// Waits until an app's image is another one than before.
    async fn runs_another(&self, app: &str, before: &str) -> String {
        eventually(SOON, || async {
            let now = self.runs(app).await;
            ensure!(now != before, "still {now}");
            Ok(now)
        })
        .await
    }
}

fn dockerfile(more: &str) -> String {
    format!("FROM hello-base:1\nCOPY answer /answer\n{more}\n")
}

/// How often each image was built, as the log says.
fn built(plumb: &Plumb, image: &str) -> usize {
    let ours = |line: &&String| line.contains(" built ") && line.contains(&format!("image={image}:"));
    plumb.log().iter().filter(ours).count()
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn what_changed_is_built_and_runs_and_nothing_is_built_twice() {
    let yard = Yard::new("images").await;
    let first = yard.push_both();
    let plumb = yard.run();
    yard.scene.deployed(first).await;
    let (web, api) = (yard.runs("web").await, yard.runs("api").await);
    assert!(web.starts_with("web:") && api.starts_with("api:"), "{web} {api}");
    assert_eq!((built(&plumb, "web"), built(&plumb, "api")), (1, 1), "{:#?}", plumb.log());
    // From a laptop, which has no builder, it looks the same.
    for verb in ["plan", "drift"] {
        let (code, output) = yard.scene.verb(&[verb, &yard.scene.name, "--exit-code"]).await;
        assert_eq!(code, Some(0), "plumb {verb}: {output}");
    }

    let second = yard.push([("apps/web/answer", yard.answer("web 2"))]);
    yard.scene.deployed(second).await;
    let newer = yard.runs_another("web", &web).await;
    assert_eq!((yard.runs("api").await, built(&plumb, "web"), built(&plumb, "api")), (api.clone(), 2, 1));

    // What is in no context builds nothing; nor does going back.
    let third = yard.push([("manifests/c.yaml", config_map("c", &[("x", "1")]))]);
    yard.scene.deployed(third).await;
    let fourth = yard.push([("apps/web/answer", yard.answer("web 1"))]);
    yard.scene.deployed(fourth).await;
    assert_eq!(yard.runs_another("web", &newer).await, web);
    assert_eq!((built(&plumb, "web"), built(&plumb, "api")), (2, 1), "{:#?}", plumb.log());

    // A plumb that has just started knows what stands.
    drop(plumb);
    let plumb = yard.run();
    let fifth = yard.push([("manifests/c.yaml", config_map("c", &[("x", "2")]))]);
    yard.scene.deployed(fifth).await;
    assert_eq!((built(&plumb, "web"), built(&plumb, "api")), (0, 0), "{:#?}", plumb.log());
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_build_that_fails_applies_nothing_and_the_next_commit_works() {
    let yard = Yard::new("badimage").await;
    let first = yard.push_both();
    let _plumb = yard.run();
    yard.scene.deployed(first).await;
    let web = yard.runs("web").await;

    let bad = yard.push([
        ("apps/web/Dockerfile", dockerfile("RUN [\"/no-such-program\"]")),
        ("manifests/c.yaml", config_map("c", &[("x", "1")])),
    ]);
    let entry = yard.scene.ended(bad).await;
    let message = entry.message.clone().unwrap_or_default();
    assert_eq!((entry.outcome.as_str(), entry.stage.as_deref()), ("Failed", Some("build")), "{entry:?}");
    assert!(message.contains("web:") && message.contains("Dockerfile"), "{message}");
    assert_eq!((yard.scene.data("c").await, yard.runs("web").await), (None, web.clone()));

    let good = yard.push([("apps/web/Dockerfile", dockerfile("LABEL mended=yes"))]);
    yard.scene.deployed(good).await;
    assert_ne!(yard.runs_another("web", &web).await, web);
    assert_eq!(yard.scene.data("c").await.as_deref(), Some("x=1"));
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn while_an_image_is_built_drift_is_put_back_and_a_newer_commit_is_not_kept_waiting() {
    let yard = Yard::new("slowimage").await;
    let start = [("manifests/c.yaml", config_map("c", &[("x", "1")]))];
    yard.push(start);
    let first = yard.push_both();
    let mut plumb = yard.run();
    yard.scene.deployed(first).await;

    // hello serves until it is stopped: this build has no end.
    const WORD: &str = "built-for-nobody-any-more";
    let endless = format!("ENV PORT=0\nRUN [\"/hello\", \"{WORD}\"]");
    let slow = yard.push([("apps/web/Dockerfile", dockerfile(&endless))]);
    plumb.wait_for_log(|line| line.contains("building") && line.contains("RUN"), SOON).await;
    let patch = r#"{"data":{"x":"by hand"}}"#;
    yard.scene.kubectl_ok(&["patch", "configmap", "c", "-n", &yard.scene.namespace, "--patch", patch], "").await;
    eventually(SOON, || async {
        ensure!(yard.scene.data("c").await.as_deref() == Some("x=1"), "not put back yet");
        Ok(())
    })
    .await;

    running(WORD).await;
    let newer = yard.push([("apps/web/Dockerfile", dockerfile("LABEL quick=yes"))]);
    yard.scene.deployed(newer).await;
    yard.runs("web").await;
    gone(WORD).await;
    let entry = yard.scene.ended(slow).await;
    assert_eq!((entry.outcome.as_str(), entry.message), ("SupersededBy", Some(newer.to_string())));
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn an_image_that_breaks_where_it_stands_is_built_again_and_one_that_was_not_unpacked_runs() {
    let yard = Yard::new("broken").await;
    yard.scene.define("resync: 2s");
    let first = yard.push_both();
    let mut plumb = yard.run();
    yard.scene.deployed(first).await;
    let web = yard.runs("web").await;
    let ctr = |args: &[&str]| {
        let mut ctr = Command::new(yard.node.program("ctr"));
        let done = ctr.arg("-a").arg(yard.node.containerd()).args(["-n", "k8s.io"]).args(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let listed = ctr(&["images", "ls"]);
    let line = listed.lines().find(|line| line.contains(&format!("/{web} "))).expect("the kubelet sees it");
    let manifest = ctr(&["content", "get", line.split_whitespace().nth(2).unwrap()]);
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let config: serde_json::Value =
        serde_json::from_str(&ctr(&["content", "get", manifest["config"]["digest"].as_str().unwrap()])).unwrap();
    let revision = &config["config"]["Labels"]["org.opencontainers.image.revision"];
    assert_eq!(revision.as_str(), Some(&*first.to_string()), "the commit that it was built from");
    let own = manifest["layers"].as_array().unwrap().last().unwrap()["digest"].as_str().unwrap();
    let before = plumb.log_len();
    ctr(&["content", "rm", own]);
    let again = |line: &str| line.contains(" built ") && line.contains(&format!("image={web}"));
    plumb.wait_for_log_after(before, again, SOON).await;
    assert_eq!((built(&plumb, "web"), built(&plumb, "api")), (2, 1), "{:#?}", plumb.log());
    yard.scene.kubectl_ok(&["delete", "pod", "-l", "app=web", "-n", &yard.scene.namespace], "").await;
    assert_eq!(yard.runs("web").await, web);

    let context = tempfile::tempdir().unwrap();
    yard.node.hello_context(context.path(), "as it was pushed");
    let local = |name: &str| format!("{name}={}", context.path().display());
    let unpacked = Command::new(yard.node.program("buildctl"))
        .args(["--addr", &format!("unix://{}", yard.node.buildkit().display()), "build"])
        .args(["--frontend=dockerfile.v0", "--local", &local("context"), "--local", &local("dockerfile")])
        .args(["--output", "type=image,name=docker.io/library/hello-packed:1,unpack=false"])
        .status();
    assert!(unpacked.unwrap().success());
    let manifest = deployment("packed").replace("image: packed", "image: 'hello-packed:1', imagePullPolicy: Never");
    let packed = yard.push([("manifests/packed.yaml", manifest)]);
    yard.scene.deployed(packed).await;
    assert_eq!(yard.runs("packed").await, "hello-packed:1");
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn images_with_a_registry_in_their_name_are_pushed_and_pulled_by_their_digest() {
    let yard = Yard::new("pushed").await;
    let web = "images: [{name: localhost:5000/web, context: apps/web}]\n";
    let first = yard.push([
        ("plumb.yaml", web.to_owned()),
        ("apps/web/Dockerfile", dockerfile("")),
        ("apps/web/answer", yard.answer("pushed")),
        ("manifests/web.yaml", deployment("web").replace("image: web", "image: 'localhost:5000/web'")),
    ]);
    let buildkit = format!("unix://{}", yard.node.buildkit().display());
    let push = ["--builder", &buildkit, "--push", "--registry-insecure"];
    let plumb = yard.scene.run_with(&push);
    yard.scene.deployed(first).await;
    let pinned = yard.runs("web").await;
    assert!(pinned.starts_with("localhost:5000/web:") && pinned.contains("@sha256:"), "{pinned}");
    let second = yard
        .push([("apps/web/answer", yard.answer("pushed anew")), ("manifests/c.yaml", config_map("c", &[("x", "1")]))]);
    yard.scene.deployed(second).await;
    let newer = yard.runs_another("web", &pinned).await;
    assert!(newer.contains("@sha256:"), "{newer}");
    assert_eq!(built(&plumb, "localhost:5000/web"), 2, "{:#?}", plumb.log());
    // From a laptop, which has no builder to be told the digest by, it looks the same; and another tag is one.
    for verb in ["plan", "drift"] {
        let (code, output) = yard.scene.verb(&[verb, &yard.scene.name, "--exit-code"]).await;
        assert_eq!(code, Some(0), "plumb {verb}: {output}");
    }
    let (code, output) = yard.scene.verb(&["drift", &yard.scene.name, "--at", "HEAD~1", "--exit-code"]).await;
    let (before, _) = pinned.split_once('@').unwrap();
    let (after, _) = newer.split_once('@').unwrap();
    assert!(code == Some(3) && output.contains("containers[name=web].image"), "{output}");
    assert!(output.contains(&format!("{before} ")) && output.contains(&format!("{after}@sha256:")), "{output}");

    // A start asks the registry for the digests: nothing drifted, nothing is rolled out, and going back builds nothing.
    drop(plumb);
    let mut plumb = yard.scene.run_with(&push);
    let line = plumb.wait_for_log(|line| line.contains(" deployed ") || line.contains(" unchanged "), SOON).await;
    assert!(line.contains("applied=0"), "{line}");
    let back = yard.push([("apps/web/answer", yard.answer("pushed"))]);
    yard.scene.deployed(back).await;
    assert_eq!(yard.runs_another("web", &newer).await, pinned, "the same tag with the same digest");
    assert_eq!(built(&plumb, "localhost:5000/web"), 0, "{:#?}", plumb.log());
    assert!(!plumb.log().iter().any(|line| line.contains(" drift ")), "{:#?}", plumb.log());
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_dockerd_builds_what_the_verb_shows_as_missing() {
    let node = Node::start(&["--no-kubernetes", "--docker"]);
    let scene = Scene::new("verbbuild").await;
    let docker = format!("docker+unix://{}", node.docker().display());
    let scratch = "FROM scratch\nCOPY answer /\n";
    let files = [
        ("plumb.yaml", "images: [{name: web, context: apps/web, platform: linux/s390x}]\n"),
        ("apps/web/Dockerfile", scratch),
        ("apps/web/answer", "1"),
    ];
    let first = scene.env.repository().commit("dev", files);
    scene.env.repository().commit("dev", [("README.md", "nothing of an image")]);
    let verb = async |more: &[&str]| {
        let (code, output) = scene.verb(&[&["build", &scene.name, "--builder", &docker], more].concat()).await;
        assert_eq!(code, Some(0), "{output}");
        output
    };
    let before = verb(&["--dry-run"]).await;
    assert!(before.contains("to be built") && before.contains(&short(first)), "{before}");
    let building = verb(&[]).await;
    assert!(building.contains(" built ") && building.contains("image=web:"), "{building}");
    let after = verb(&["--dry-run"]).await;
    assert!(after.contains("present") && !after.contains("to be built"), "{after}");
    assert!(verb(&[]).await.contains(" present "), "nothing is built twice");
    let image = building.split("image=").find(|rest| rest.starts_with("web:")).and_then(|rest| rest.split(' ').next());
    let host = format!("unix://{}", node.docker().display());
    let inspect = ["-H", &host, "image", "inspect", "--format", "{{.Architecture}}", image.unwrap()];
    let architecture = Command::new("docker").args(inspect).output().unwrap().stdout;
    assert_eq!(String::from_utf8_lossy(&architecture).trim(), "s390x", "of the platform that plumb.yaml names");
}

#[tokio::test]
async fn without_a_builder_images_are_refused_and_nothing_is_applied() {
    let scene = Scene::new("nobuilder").await;
    let commit = scene.env.repository().commit(
        "dev",
        [
            ("plumb.yaml", PLUMB_YAML.to_owned()),
            ("apps/web/Dockerfile", dockerfile("")),
            ("apps/api/Dockerfile", dockerfile("")),
            ("manifests/web.yaml", deployment("web")),
            ("manifests/c.yaml", config_map("c", &[("x", "1")])),
        ],
    );
    let _plumb = scene.run();
    let message = scene.failed(commit).await;
    assert!(message.contains("web") && message.contains("--builder"), "{message}");
    assert_eq!(scene.data("c").await, None);
}

#[tokio::test]
async fn what_is_odd_about_images_is_told_once_when_a_commit_passes() {
    let scene = Scene::with("oddimages", "resync: 1s").await;
    let Some(audit) = scene.env.audit() else { return };
    let own_tag = deployment("web").replace("image: web", "image: 'web:1'");
    scene.env.repository().commit(
        "dev",
        [
            ("plumb.yaml", PLUMB_YAML.to_owned()),
            ("apps/web/Dockerfile", dockerfile("")),
            ("apps/api/Dockerfile", dockerfile("")),
            ("manifests/web.yaml", own_tag),
        ],
    );
    let first = scene.push([("c.yaml", config_map("c", &[("x", "1")]))]);
    let plumb = scene.run();
    scene.deployed(first).await;
    let second = scene.push([("c.yaml", config_map("c", &[("x", "2")]))]);
    scene.deployed(second).await;
    // A resync, which asks about an object that nothing has touched.
    let mark = audit.mark().await;
    eventually(SOON, || async {
        let asked = audit.since(mark).await.only(|event| &*event.object_ref.name == "web");
        ensure!(!asked.is_empty(), "not yet");
        Ok(())
    })
    .await;
    let log = plumb.log();
    let told = |text: &str| log.iter().filter(|line| line.contains("WARN") && line.contains(text)).count();
    for text in [
        "no container of this environment uses the image \"api\"",
        "uses \"web:1\", which says itself which image it means",
        "apps/web/Dockerfile: the base image \"hello-base:1\" has no digest",
    ] {
        assert_eq!(told(text), 1, "{text}: {log:#?}");
    }
}
