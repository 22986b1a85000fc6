//! Images that nobody needs any more are removed from where they were built, and no others.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use anyhow::ensure;
use git2::Oid;
use k8s_openapi::api::batch::v1::CronJob;
use kube::api::Api;
use plumb::builder::containerd::Containerd;
use plumb::builder::{BuildKit, Builder, Docker, Endpoint};
use plumb::cluster::{Cluster as PlumbsCluster, images};

use crate::builder::pod;
use crate::harness::{Change, Cluster, Node, Plumb, TestEnv, client, eventually};
use crate::scene::{SOON, Scene, config_map};

/// Everything old goes at once.
const QUICK: [&str; 6] = ["--keep-images", "0", "--keep-images-for", "0s", "--collect-images", "1s"];

/// As many as an environment's history has.
const HISTORY: usize = 10;

/// A tag as plumb's are, that no content has.
const TAG: &str = "0123456789abcdef0123456789abcdef01234567";

/// Another one, that a person gives to an image of plumb's: the start of a commit's id, for one.
const OTHER_TAG: &str = "fedcba9876543210";

/// Nothing of it runs, and nothing of an older version is kept by Kubernetes.
const WORKLOAD: &str = "apiVersion: batch/v1
kind: CronJob
metadata: {name: web}
spec:
  schedule: '0 0 1 1 *'
  suspend: true
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: web, image: web}]
";

/// An environment whose images are built on a node of its own: what is another test's is none of its business.
struct Yard {
    // The scene is cleaned up before its node ends.
    scene: Scene,
    node: Node,
    stands: Box<dyn Builder>,
    builder: Vec<String>,
}

impl Yard {
    async fn new(name: &str, docker: bool) -> Self {
        let node = Node::start(if docker { &["--docker"] } else { &[] });
        let scene = Scene::in_env(TestEnv::on(Cluster::Given(node.admin_kubeconfig()), name).await, "").await;
        let address = |scheme: &str, path: PathBuf| format!("{scheme}://{}", path.display());
        let (stands, builder): (Box<dyn Builder>, _) = match docker {
            true => (Box::new(Docker::new(Endpoint::Unix(node.docker()))), vec![address("docker+unix", node.docker())]),
            false => {
                let store = Containerd::new(Endpoint::Unix(node.containerd()));
                let (buildkit, containerd) = (address("unix", node.buildkit()), address("unix", node.containerd()));
                let builder = vec![buildkit, "--containerd".to_owned(), containerd];
                (Box::new(BuildKit::new(Endpoint::Unix(node.buildkit()), store)), builder)
            }
        };
        Self { scene, node, stands, builder: [vec!["--builder".to_owned()], builder].concat() }
    }

    fn run(&self, more: &[&str]) -> Plumb {
        let builder = self.builder.iter().map(String::as_str);
        self.scene.run_with(&builder.chain(more.iter().copied()).collect::<Vec<_>>())
    }

    fn push_web(&self, answer: &str) -> Oid {
        let files = [
            ("plumb.yaml", "images: [{name: web, context: apps/web}]\n"),
            ("apps/web/Dockerfile", "FROM scratch\nCOPY answer /\n"),
            ("apps/web/answer", answer),
            ("manifests/web.yaml", WORKLOAD),
        ];
        self.scene.env.repository().commit("dev", files)
    }

    /// Deploys a version of the image, and gives its reference.
    async fn deploy(&self, answer: &str) -> String {
        let commit = self.push_web(answer);
        self.scene.deployed(commit).await;
        let jobs: Api<CronJob> = Api::namespaced(self.scene.env.admin(), &self.scene.namespace);
        let spec = jobs.get("web").await.unwrap().spec.job_template.spec.unwrap().template.spec.unwrap();
        spec.containers[0].image.clone().unwrap()
    }

    /// Has all that was deployed before leave the history.
    async fn forget(&self) {
        for number in 0..HISTORY {
            let commit = self.scene.push([("c.yaml", config_map("c", &[("x", &number.to_string())]))]);
            self.scene.deployed(commit).await;
        }
    }

    async fn stand(&self, images: &[&str]) -> Vec<bool> {
        let images: Vec<String> = images.iter().map(|image| (*image).to_owned()).collect();
        self.stands.present(&images).await.unwrap()
    }

    fn docker(&self, args: &[&str]) {
        let socket = format!("unix://{}", self.node.docker().display());
        let done = Command::new("docker").args(["-H", &socket]).args(args).output().unwrap();
        assert!(done.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// What containerd has in the kubelet's namespace, as its own client lists it.
    fn ctr(&self, what: &[&str]) -> String {
        let socket = self.node.containerd();
        let mut ctr = Command::new(self.node.program("ctr"));
        let done = ctr.arg("-a").arg(socket).args(["-n", "k8s.io"]).args(what).output().unwrap();
        assert!(done.status.success(), "ctr {what:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// Builds an image from a Dockerfile alone, as a person would.
    fn buildctl(&self, dockerfile: &str, name: &str) {
        let context = tempfile::tempdir().unwrap();
        std::fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
        let built = self.node.buildctl(context.path(), name);
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    }
}

/// A pod needs a service account, which comes a moment after its namespace.
async fn can_have_pods(scene: &Scene, namespace: &str) {
    eventually(SOON, || async {
        let (code, output) = scene.kubectl(&["get", "serviceaccount", "default", "-n", namespace], "").await;
        ensure!(code == Some(0), "{output}");
        Ok(())
    })
    .await;
}

async fn removed(plumb: &mut Plumb, image: &str) {
    let is_it = |line: &str| line.contains("images removed") && line.contains(image);
    plumb.wait_for_log(is_it, SOON).await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn on_a_containerd_node_what_nobody_needs_goes_and_all_else_stays() {
    let mut yard = Yard::new("collect", false).await;
    let plumb = yard.run(&["--keep-all-images"]);
    let (old, of_a_pod) = (yard.deploy("1").await, yard.deploy("2").await);
    can_have_pods(&yard.scene, "default").await;
    let pod = ["run", "keeper", "--image", &of_a_pod, "--image-pull-policy=Never", "-n", "default"];
    yard.scene.kubectl_ok(&pod, "").await;
    let current = yard.deploy("3").await;
    yard.forget().await;
    let newest = yard.deploy("4").await;
    assert_eq!(yard.deploy("3").await, current, "rolled back: 4 is in the history alone");
    let (foreign, heir) = (format!("web:{TAG}"), format!("web-debug:{TAG}"));
    yard.buildctl("FROM scratch\nLABEL whose=theirs\n", &foreign);
    yard.buildctl(&format!("FROM {old}\nLABEL more=1\n"), &heir);
    let release = format!("docker.io/library/{}", old.replace(old.split(':').nth(1).unwrap(), "release"));
    let twin = format!("web:{OTHER_TAG}");
    drop(plumb);
    let all = [&*old, &*of_a_pod, &*current, &*newest, &*foreign, &*heir];
    assert_eq!(yard.stand(&all).await, [true; 6]);
    let full = format!("docker.io/library/{old}");
    yard.ctr(&["images", "tag", &full, &release]);
    yard.ctr(&["images", "tag", &format!("docker.io/library/{current}"), &format!("docker.io/library/{twin}")]);
    let digest = |line: &str| line.split_whitespace().nth(2).unwrap().to_owned();
    let listed = yard.ctr(&["images", "ls"]);
    let digest = digest(listed.lines().find(|line| line.starts_with(&full)).expect("the kubelet sees it"));

    // As long as an environment can't be told, nothing goes.
    let broken = [("environments/broken/environment.yaml", Change::from("spec: {}\n"))];
    yard.scene.env.repository().commit("main", broken);
    let mut plumb = yard.run(&QUICK);
    plumb.wait_for_log(|line| line.contains("no image is removed") && line.contains("broken"), SOON).await;
    assert_eq!(yard.stand(&all).await, [true; 6]);
    yard.scene.env.repository().commit("main", [("environments/broken/environment.yaml", Change::Remove)]);
    removed(&mut plumb, &old).await;
    let left = [false, true, true, true, true, true];
    assert_eq!(yard.stand(&all).await, left, "{:#?}", plumb.log());
    assert_eq!(yard.stand(&[&*release, &*twin]).await, [true; 2], "a name that a person gave it");
    assert!(yard.ctr(&["images", "ls"]).contains(&digest), "which keeps what it is made of");
    yard.ctr(&["images", "rm", &release]);

    // The same through the builder's pod, with its token.
    drop(plumb);
    let admin = client(&yard.node.admin_kubeconfig()).await;
    pod::make_account(&admin, "default", "plumb").await;
    let token = pod::token(&admin, "default", "plumb", pod::AUDIENCE, None).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), token).unwrap();
    let (kubeconfig, buildkit, containerd) =
        (yard.node.admin_kubeconfig(), yard.node.buildkit(), yard.node.containerd());
    let (_builder, address) = pod::start(&kubeconfig, "default", &buildkit, &containerd).await;
    let token_file = file.path().to_str().unwrap().to_owned();
    yard.builder =
        vec!["--builder".to_owned(), format!("http://{address}"), "--builder-token-file".to_owned(), token_file];
    let mut plumb = yard.run(&QUICK);
    yard.scene.kubectl_ok(&["delete", "pod", "keeper", "-n", "default", "--force", "--grace-period=0"], "").await;
    removed(&mut plumb, &of_a_pod).await;
    assert_eq!(yard.stand(&all).await, [false, false, true, true, true, true], "{:#?}", plumb.log());
    // With its last name an image's id went, and containerd collected what it was made of.
    let pod_digests: BTreeSet<String> = listed
        .lines()
        .filter(|line| line.starts_with(&format!("docker.io/library/{of_a_pod}")))
        .filter_map(|line| Some(line.split_whitespace().nth(2)?.to_owned()))
        .collect();
    assert_eq!(pod_digests.len(), 1);
    eventually(SOON, || async {
        let (names, content) = (yard.ctr(&["images", "ls"]), yard.ctr(&["content", "ls", "-q"]));
        let found = pod_digests.iter().find(|digest| names.contains(*digest) || content.contains(*digest));
        ensure!(found.is_none(), "{found:?} is still there: {names}");
        Ok(())
    })
    .await;

    // What is in the history can be gone back to without a build, and what was removed is built again.
    assert_eq!(yard.deploy("4").await, newest);
    let built = |plumb: &Plumb| plumb.log().iter().filter(|line| line.contains(" built ")).count();
    assert_eq!(built(&plumb), 0, "{:#?}", plumb.log());
    assert_eq!(yard.deploy("1").await, old);
    assert_eq!((built(&plumb), yard.stand(&[&*old]).await), (1, vec![true]), "{:#?}", plumb.log());
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn on_a_docker_node_what_nobody_needs_goes_and_all_else_stays() {
    let yard = Yard::new("collectdocker", true).await;
    let plumb = yard.run(&["--keep-all-images"]);
    let (old, of_a_container) = (yard.deploy("1").await, yard.deploy("2").await);
    let current = yard.deploy("3").await;
    yard.forget().await;
    drop(plumb);
    let (other, release) = (format!("web-other:{TAG}"), "web:release");
    let (twin, committed) = (format!("web:{OTHER_TAG}"), format!("web:{TAG}"));
    yard.docker(&["tag", &old, &other]);
    yard.docker(&["tag", &old, &twin]);
    yard.docker(&["tag", &current, release]);
    yard.docker(&["create", "--name", "stopped", &of_a_container, "/answer"]);
    yard.docker(&["commit", "stopped", &committed]);
    let all = [&*old, &*of_a_container, &*current, &*other, release, &*twin, &*committed];
    assert_eq!(yard.stand(&all).await, [true; 7]);

    let mut plumb = yard.run(&QUICK);
    removed(&mut plumb, &old).await;
    assert_eq!(yard.stand(&all).await, [false, true, true, true, true, true, true], "{:#?}", plumb.log());
    yard.docker(&["rm", "stopped"]);
    removed(&mut plumb, &of_a_container).await;
    assert_eq!(yard.stand(&all).await, [false, false, true, true, true, true, true], "{:#?}", plumb.log());

    // A start while suspended looks at what was deployed, whether or not its images stand, and builds none.
    yard.scene.define("suspend: true");
    plumb.wait_for_log(|line| line.contains("suspended: nothing is changed"), SOON).await;
    drop(plumb);
    yard.docker(&["rmi", &current]);
    let patch = r#"{"data":{"x":"by hand"}}"#;
    yard.scene.kubectl_ok(&["patch", "configmap", "c", "-n", &yard.scene.namespace, "--patch", patch], "").await;
    let mut plumb = yard.run(&["--keep-all-images"]);
    plumb.wait_for_log(|line| line.contains("drift") && line.contains("ConfigMap"), SOON).await;
    assert_eq!(
        (yard.stand(&[&*current]).await, yard.scene.data("c").await.as_deref()),
        (vec![false], Some("x=by hand"))
    );
}

#[tokio::test]
async fn plumbs_own_rights_are_enough_to_see_who_uses_an_image_and_without_them_nothing_is_seen() {
    let scene = Scene::new("seeimages").await;
    if scene.env.audit().is_none() {
        return;
    }
    let (user, kubeconfig) = scene.env.plain_user("pod").unwrap();
    let seen = async || {
        let cluster = PlumbsCluster::connect(Some(kubeconfig.as_path()), None).await.unwrap();
        images::named(&cluster.caller).await
    };
    let refused = seen().await.unwrap_err();
    assert_eq!(refused.code(), 403, "{refused}");

    let file = |name: &str| std::fs::read_to_string(format!("{}/deploy/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    for name in ["namespace.yaml", "rights.yaml"] {
        scene.kubectl_ok(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &file(name)).await;
    }
    let (name, subject) = (scene.env.name("plumb"), format!("--user={user}"));
    scene.kubectl_ok(&["create", "clusterrolebinding", &name, "--clusterrole=plumb", &subject], "").await;
    scene.may(&user, "list", "pods").await;
    scene.make_namespace().await;
    can_have_pods(&scene, &scene.namespace).await;
    let of = |name: &str| scene.env.name(name);
    let pod = |name: &str| {
        format!(
            "{{containers: [{{name: a, image: '{}:1'}}], initContainers: [{{name: b, image: '{}:2'}}]}}",
            of(name),
            of(name)
        )
    };
    let template = |name: &str| format!("{{metadata: {{labels: {{app: {name}}}}}, spec: {}}}", pod(name));
    let kind = |version: &str, kind: &str, spec: &str| {
        let name = kind.to_lowercase();
        format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}}}\n{spec}\n---\n")
    };
    let set = |name: &str, more: &str| {
        format!("spec: {{replicas: 0, {more}selector: {{matchLabels: {{app: {name}}}}}, template: {}}}", template(name))
    };
    let job = |name: &str| {
        format!(
            "spec: {{suspend: true, template: {{spec: {}}}}}",
            pod(name).replacen('{', "{restartPolicy: Never, ", 1)
        )
    };
    let manifests = [
        kind("v1", "Pod", &format!("spec: {}", pod("pod"))),
        kind(
            "v1",
            "ReplicationController",
            &format!("spec: {{replicas: 0, selector: {{app: x}}, template: {}}}", template("x")),
        ),
        kind("apps/v1", "Deployment", &set("deployment", "")),
        kind("apps/v1", "ReplicaSet", &set("replicaset", "")),
        kind("apps/v1", "StatefulSet", &set("statefulset", "serviceName: a, ")),
        kind("apps/v1", "DaemonSet", &set("daemonset", "").replacen("replicas: 0, ", "", 1)),
        kind(
            "apps/v1",
            "ControllerRevision",
            &format!("revision: 1\ndata: {{spec: {{template: {}}}}}", template("revision")),
        ),
        kind("batch/v1", "Job", &job("job")),
        kind(
            "batch/v1",
            "CronJob",
            &format!("spec: {{schedule: '0 0 1 1 *', suspend: true, jobTemplate: {{{}}}}}", job("cronjob")),
        ),
    ];
    scene.kubectl_ok(&["create", "-n", &scene.namespace, "-f", "-"], &manifests.concat()).await;
    let seen = seen().await.unwrap();
    let kinds = ["pod", "x", "deployment", "replicaset", "statefulset", "daemonset", "revision", "job", "cronjob"];
    for name in kinds.map(of) {
        for tag in ["1", "2"] {
            assert!(seen.contains(&format!("{name}:{tag}")), "{name}:{tag} in {seen:#?}");
        }
    }
}
