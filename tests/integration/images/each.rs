//! The bad input that images must stand, before every builder: it is told with file and step, nothing is applied, and the next good commit works.
//! There are no pods here, so that dockerd's images and a registry's are asked for in the same way.

use std::collections::BTreeMap;
use std::path::PathBuf;

use git2::Oid;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::Api;

use super::trouble::cannot_be_built;
use super::{deployment, dockerfile};
use crate::harness::{Change, Node, Plumb, gone, running};
use crate::scene::{Scene, config_map};

/// So much has room beside what a node needs and small images, and a large one has not.
const DISK: &str = "--disk=160m";
const LARGE: usize = 60 << 20;

#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    BuildKit,
    Docker,
    NewestDocker,
    Registry,
}

struct Site {
    /// Ends before its node.
    scene: Scene,
    node: Node,
    by: By,
    /// The image's name, as manifests have it.
    image: &'static str,
}

impl Site {
    async fn new(by: By) -> Self {
        let options: &[&str] = match by {
            By::BuildKit => &["--no-kubernetes", DISK],
            By::Docker => &["--no-kubernetes", DISK, "--docker"],
            By::NewestDocker => &["--no-kubernetes", DISK, "--runtime=docker"],
            By::Registry => &["--no-kubernetes", DISK, "--registry"],
        };
        let node = Node::start(options);
        let context = tempfile::tempdir().unwrap();
        node.hello_context(context.path(), "nothing yet");
        let built = match by {
            By::BuildKit | By::Registry => node.buildctl(context.path(), "hello-base:1"),
            By::Docker | By::NewestDocker => node.docker_build(context.path(), "hello-base:1"),
        };
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let scene = Scene::new(&format!("each{by:?}").to_lowercase()).await;
        Self { scene, node, by, image: if by == By::Registry { "localhost:5000/web" } else { "web" } }
    }

    fn run(&self, more: &[&str]) -> Plumb {
        let address = |scheme: &str, path: PathBuf| format!("{scheme}://{}", path.display());
        let docker = || address("docker+unix", self.node.docker());
        let (buildkit, containerd) = (address("unix", self.node.buildkit()), address("unix", self.node.containerd()));
        let builder = match self.by {
            By::BuildKit => vec![buildkit, "--containerd".to_owned(), containerd],
            By::Docker | By::NewestDocker => vec![docker()],
            By::Registry => vec![buildkit, "--push".to_owned(), "--registry-insecure".to_owned()],
        };
        let more = more.iter().map(|argument| (*argument).to_owned());
        let args: Vec<String> = ["--builder".to_owned()].into_iter().chain(builder).chain(more).collect();
        self.scene.run_with(&args)
    }

    /// A commit with another answer and these files.
    fn push<C: Into<Change>>(&self, answer: &str, more: Vec<(&'static str, C)>) -> Oid {
        let image = self.image;
        let files: [(&str, Change); 5] = [
            ("plumb.yaml", format!("images: [{{name: '{image}', context: apps/web}}]\n").into()),
            ("apps/web/Dockerfile", dockerfile("").into()),
            ("apps/web/answer", format!("{answer} of {}", self.scene.name).into()),
            ("manifests/web.yaml", deployment("web").replace("image: web", &format!("image: '{image}'")).into()),
            ("manifests/c.yaml", config_map("c", &[("x", answer)]).into()),
        ];
        let more = more.into_iter().map(|(path, change)| (path, change.into()));
        let files: BTreeMap<&str, Change> = files.into_iter().chain(more).collect();
        self.scene.env.repository().commit("dev", files)
    }

    /// What stands in the cluster: the image that the Deployment asks for, and what was deployed with it.
    async fn stands(&self) -> (String, Option<String>) {
        let deployments: Api<Deployment> = Api::namespaced(self.scene.env.admin(), &self.scene.namespace);
        let pod = deployments.get("web").await.unwrap().spec.and_then(|spec| spec.template.spec).unwrap();
        (pod.containers[0].image.clone().unwrap(), self.scene.data("c").await)
    }

    async fn fails<C: Into<Change>>(&self, word: &str, more: Vec<(&'static str, C)>, says: &[&str]) {
        let before = self.stands().await;
        let bad = self.push(word, more);
        cannot_be_built(&self.scene, bad, &format!("{}:", self.image), says).await;
        assert_eq!(self.stands().await, before, "{:?}: something of {word} is applied", self.by);
    }

    async fn works(&self, answer: &str, without: &[&'static str]) {
        let (image, _) = self.stands().await;
        let good = self.push(answer, without.iter().map(|path| (*path, Change::Remove)).collect());
        self.scene.deployed(good).await;
        let (now, data) = self.stands().await;
        assert_eq!(data, Some(format!("x={answer}")));
        assert!(now != image && now.starts_with(&format!("{}:", self.image)), "{now}");
    }
}

async fn bad_images_are_told_and_the_next_commit_works(by: By) {
    let site = Site::new(by).await;
    let mut plumb = site.run(&[]);
    site.scene.deployed(site.push::<String>("one", Vec::new())).await;
    const DOCKERFILE: &str = "apps/web/Dockerfile";

    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    site.fails("lfs", vec![("apps/web/model", pointer)], &["apps/web/model is a git-lfs pointer"]).await;
    site.works("two", &["apps/web/model"]).await;

    let base = ["Dockerfile", "the base image localhost:1/no/such:1 cannot be had"];
    site.fails("base", vec![(DOCKERFILE, "FROM localhost:1/no/such:1\nCOPY answer /answer\n")], &base).await;
    site.works("three", &[]).await;

    let step = dockerfile("ENV PORT=none\nRUN [\"/hello\"]");
    site.fails("step", vec![(DOCKERFILE, step)], &["Dockerfile", "RUN [", "exit code 1", "lookup tcp/none"]).await;
    site.works("four", &[]).await;

    plumb.kill();
    let hangs = |word: &str| vec![(DOCKERFILE, dockerfile(&format!("ENV PORT=0\nRUN [\"/hello\", \"{word}\"]")))];
    let word = format!("hangs-before-{by:?}");
    let mut limited = site.run(&["--build-timeout", "30s"]);
    site.fails("hangs", hangs(&word), &["cancelled after 30s, at the step", "RUN", &word]).await;
    gone(&word).await;
    limited.kill();
    let mut plumb = site.run(&[]);
    site.works("five", &[]).await;

    // plumb is killed in the middle of a build: the daemon cancels it, and nothing is left that hinders another.
    let word = format!("killed-before-{by:?}");
    let before = site.stands().await;
    site.push("killed", hangs(&word));
    running(&word).await;
    plumb.kill();
    gone(&word).await;
    assert_eq!(site.stands().await, before);
    let _plumb = site.run(&[]);
    site.works("six", &[]).await;

    let large = ["apps/web/large1", "apps/web/large2"];
    let files = || large.into_iter().map(|path| (path, vec![7; LARGE]));
    let copies =
        || [(DOCKERFILE, dockerfile("COPY large1 large2 /large/").into_bytes())].into_iter().chain(files()).collect();
    site.fails("full", copies(), &["no space is left where", "make room on the node"]).await;
    // With not one block left the daemons can't even forget what they have begun.
    site.node.make_room("1g");
    site.works("seven", &large).await;
    let roomy = site.push("eight", copies());
    site.scene.deployed(roomy).await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn before_buildkit_bad_images_are_told_and_the_next_commit_works() {
    bad_images_are_told_and_the_next_commit_works(By::BuildKit).await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn before_docker_bad_images_are_told_and_the_next_commit_works() {
    bad_images_are_told_and_the_next_commit_works(By::Docker).await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn before_the_newest_docker_bad_images_are_told_and_the_next_commit_works() {
    bad_images_are_told_and_the_next_commit_works(By::NewestDocker).await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn before_a_registry_bad_images_are_told_and_the_next_commit_works() {
    bad_images_are_told_and_the_next_commit_works(By::Registry).await;
}
