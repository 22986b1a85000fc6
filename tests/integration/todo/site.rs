//! The Todo Chatbot on a node: its database and a scripted model beside it, and a plumb that deploys what is pushed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use git2::Oid;
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use plumb::model::environment::{Condition, HistoryEntry};
use serde_json::Value;

use super::beside::Beside;
use super::http::{ask, request};
use crate::harness::{Change, Cluster, Node, Plumb, TestEnv, eventually};
use crate::scene::{SOON, Scene, install_crd};

/// What nobody may ever read in a log, an Event, a status, a history or a metric.
pub fn secrets() -> Vec<String> {
    let plain = [DATABASE_PASSWORD, SIGNING_KEY, MODEL_KEY].map(ToOwned::to_owned);
    // As they stand in a Secret.
    let whole = [database("todo_dev"), staging_database(), SIGNING_KEY.to_owned(), MODEL_KEY.to_owned()];
    plain.into_iter().chain(whole.map(|secret| STANDARD.encode(secret))).collect()
}

/// Where pods find this machine: the database, and the scripted model.
const MACHINE: &str = "host.minikube.internal";
const DATABASE_PASSWORD: &str = "canary-of-the-database";
const SIGNING_KEY: &str = "canary-that-signs-sessions-of-32-characters-and-more";
const MODEL_KEY: &str = "canary-of-the-model";

/// How long images may take that have to be compiled first, on a busy machine.
const COMPILED: Duration = Duration::from_secs(60 * 60);
/// The port of the scripted model.
const MODEL_PORT: u16 = 8002;

const DEFINITION: &str = "environments/dev/environment.yaml";
const STAGING: &str = "environments/staging/values.yaml";
const VALUES: &str = "environments/dev/values.yaml";
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The site. Its environments have the names that they have in this repository: the node is its own.
pub struct Site {
    // In the order in which they end: plumb, what it made, the node.
    pub plumb: Plumb,
    pub scene: Scene,
    pub node: Node,
    /// Where plumb answers.
    pub listens: String,
    /// What staging has before it gets something newer: one pod of the frontend.
    pub older: Oid,
    /// The certificate of the authority that vouches for the database.
    authority: PathBuf,
    has_rust: bool,
    _postgres: Beside,
    _model: Beside,
}

/// Runs a command to its end; it must go well.
pub fn done(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().expect("it starts");
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("text")
}

/// The repository as it is checked out: charts, environments and applications.
fn files() -> Vec<(String, Vec<u8>)> {
    let tracked = ["apps", "environments", "manifests/todo-app", "plumb.yaml"];
    let listed = done(
        Command::new("git")
            .args(["-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"])
            .args(tracked),
    );
    let paths = listed.split_terminator('\0').filter(|path| Path::new(ROOT).join(path).is_file());
    paths.map(|path| (path.to_owned(), std::fs::read(Path::new(ROOT).join(path)).expect("a file"))).collect()
}

/// The values of environment `dev`, with secrets that are looked for, and the scripted model.
fn values() -> String {
    let values = std::fs::read_to_string(Path::new(ROOT).join(VALUES)).expect("a file");
    let secret = values.find("\nsecret:").expect("its secret");
    format!(
        "{}
secret:
  create: true
  databaseUrl: {}
  jwtSecret: {SIGNING_KEY}
  openaiApiKey: {MODEL_KEY}
config:
  OPENAI_BASE_URL: {}
",
        &values[..secret],
        database("todo_dev"),
        model_url(),
    )
}

/// Environment `dev`, which takes a rollout for failed after this time.
fn definition(timeout: &str) -> String {
    let definition = std::fs::read_to_string(Path::new(ROOT).join(DEFINITION)).expect("a file");
    format!("{}\n  timeout: {timeout}\n", definition.trim_end())
}

fn database(name: &str) -> String {
    format!("postgresql://todo:{DATABASE_PASSWORD}@{MACHINE}:5432/{name}")
}

/// Staging's lets nobody in without TLS.
fn staging_database() -> String {
    format!("{}?sslmode=verify-full&sslrootcert=/etc/todo/database/ca.crt", database("todo_staging"))
}

fn model_url() -> String {
    format!("http://{MACHINE}:{MODEL_PORT}/v1")
}

/// The scripted model of the backend's tests as a program.
fn scripted_model() -> PathBuf {
    let target = Path::new(ROOT).join("target/apps");
    let manifest = Path::new(ROOT).join("apps/backend/Cargo.toml");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--locked", "--quiet", "--example", "scripted_model", "--manifest-path"]).arg(manifest);
    // What cargo tells a test of this package would be news to build scripts: they, and half of the tree, would run again.
    let told = std::env::vars().map(|(name, _)| name);
    told.filter(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")).for_each(|name| {
        cargo.env_remove(name);
    });
    done(cargo.env("CARGO_TARGET_DIR", &target));
    target.join("debug/examples/scripted_model")
}

impl Site {
    /// An empty node, and the first commit on branch `dev` before plumb looks at it.
    pub async fn start() -> (Self, Oid) {
        let model = scripted_model();
        let node = Node::start(&["--dns", "--internet"]);
        // The machine's end of the link, where pods find it.
        let machine = node.address().strip_suffix(".2").map(|subnet| format!("{subnet}.1")).expect("an address");
        let postgres = Path::new(ROOT).join("tests/cluster/postgres");
        let (postgres, authority) = Beside::start(
            Command::new(postgres).args(["--tls", MACHINE, "todo_staging"]).args([
                &machine,
                DATABASE_PASSWORD,
                "todo_dev",
                "todo_staging",
            ]),
            |line| line.strip_prefix("ready ").map(PathBuf::from),
        );
        let (model, ()) =
            Beside::start(Command::new(model).args([&format!("{machine}:{MODEL_PORT}"), MODEL_KEY]), |_| Some(()));

        let env = TestEnv::on(Cluster::Given(node.admin_kubeconfig()), "todo").await;
        install_crd(&env).await;
        env.repository().commit("main", files());
        let staging = std::fs::read_to_string(Path::new(ROOT).join(STAGING)).expect("a file");
        // The other way to have the MCP server: a sidecar of the backend's.
        let staging = format!(
            "{staging}\nmcp: {{insideBackend: true}}\ndatabase: {{caSecret: database-ca}}\nconfig: {{OPENAI_BASE_URL: '{}'}}\n",
            model_url()
        );
        let older = env.repository().commit("main", [(STAGING, format!("{staging}\nfrontend: {{replicas: 1}}\n"))]);
        env.repository().commit("main", [(STAGING, staging), (DEFINITION, definition("90s"))]);
        let first = env.repository().commit("dev", [(VALUES, values())]);
        let scene = Scene { env, name: "dev".to_owned(), namespace: "todo-dev".to_owned() };
        let missing = import(&node, &images(&scene, first).await);
        let has_rust = missing && make_rust(&node);
        let (plumb, listens) = run(&node, &scene).await;
        (Self { node, scene, plumb, listens, older, authority, has_rust, _postgres: postgres, _model: model }, first)
    }

    /// A push to branch `dev`. Images that an earlier run has built are there before.
    pub async fn push<P: AsRef<Path>, C: Into<Change>>(&mut self, changes: impl IntoIterator<Item = (P, C)>) -> Oid {
        let commit = self.scene.env.repository().write("dev", changes);
        let missing = import(&self.node, &images(&self.scene, commit).await);
        self.push_written(commit, missing)
    }

    /// The same, but whatever this commit's images lack is built, also if an earlier run has.
    pub fn push_to_build<P: AsRef<Path>, C: Into<Change>>(&mut self, changes: impl IntoIterator<Item = (P, C)>) -> Oid {
        let commit = self.scene.env.repository().write("dev", changes);
        self.push_written(commit, true)
    }

    fn push_written(&mut self, commit: Oid, compiles: bool) -> Oid {
        if compiles && !self.has_rust {
            self.has_rust = make_rust(&self.node);
        }
        self.scene.env.repository().set_branch("dev", commit);
        commit
    }

    /// Has environment `dev` take a rollout for failed after this time.
    pub fn fail_rollouts_after(&self, timeout: &str) {
        self.scene.env.repository().commit("main", [(DEFINITION, definition(timeout))]);
    }

    /// Pushes another value of what the containers are configured with.
    pub async fn set(&mut self, name: &str, value: &str) -> Oid {
        self.push([(VALUES, format!("{}  {name}: {value}\n", values()))]).await
    }

    /// Waits until this commit is deployed in an environment, and what was built for it is kept for the next run.
    pub async fn deployed(&self, environment: &str, commit: Oid) -> HistoryEntry {
        let entry = eventually(COMPILED, || async {
            let status = self.scene.environment_of(environment).await.and_then(|environment| environment.status);
            let history = status.context("no status yet")?.history;
            let entry = history.into_iter().find(|entry| entry.commit == commit.to_string());
            entry.with_context(|| format!("{commit} has not ended"))
        })
        .await;
        assert_eq!(entry.outcome, "Deployed", "{entry:?}");
        keep(&self.node, &images(&self.scene, commit).await);
        if self.has_rust {
            build_cache("save", &self.node);
        }
        entry
    }

    /// The images of a commit that was deployed, and files that have them.
    pub async fn archives(&self, commit: Oid) -> (Vec<String>, Vec<PathBuf>) {
        let images = images(&self.scene, commit).await;
        let archives = image_cache("export", &self.node, &images).lines().map(PathBuf::from).collect();
        (images, archives)
    }

    /// Waits until an environment's condition has this status and its message all these texts.
    pub async fn is(&self, environment: &str, condition: &str, status: &str, texts: &[&str]) -> Condition {
        eventually(SOON * 4, || async {
            let found = self.scene.environment_of(environment).await.and_then(|environment| environment.status);
            let conditions = found.context("no status")?.conditions;
            let found = conditions.into_iter().find(|found| found.type_ == condition).context("no such condition")?;
            ensure!(found.status == status && texts.iter().all(|text| found.message.contains(text)), "{found:?}");
            Ok(found)
        })
        .await
    }

    /// The pods of a namespace, as soon as there are so many, all of them Ready, and none that is going.
    pub async fn pods(&self, namespace: &str, count: usize) -> Vec<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.scene.env.admin(), namespace);
        eventually(SOON * 4, || async {
            let found = pods.list(&ListParams::default()).await?.items;
            let unready: Vec<_> = found.iter().filter(|pod| !is_ready(pod)).map(|pod| pod.name_any()).collect();
            ensure!(found.len() == count && unready.is_empty(), "{} pods, not ready: {unready:?}", found.len());
            Ok(found)
        })
        .await
    }

    /// A line of plumb's log that has all these texts and came after so many others.
    pub async fn line(&mut self, after: usize, texts: &[&str]) -> String {
        self.plumb.wait_for_log_after(after, |line| texts.iter().all(|text| line.contains(text)), SOON).await
    }

    /// The lines that tell of an image that was built.
    pub fn builds(&self) -> Vec<String> {
        self.plumb.log().into_iter().filter(|line| line.contains(" built ")).collect()
    }

    /// What a person changes in `dev` with kubectl. `editor` is the command that changes the file if that is `kubectl edit`.
    pub async fn by_hand(&self, arguments: &[&str], editor: &str) {
        let arguments = [arguments, &["--namespace", "todo-dev"]].concat();
        let admin = self.scene.env.cluster().admin_kubeconfig();
        let mut kubectl = Plumb::spawn_program("kubectl", &admin, &arguments, |command| {
            command.env("KUBE_EDITOR", editor);
        });
        let status = kubectl.wait(SOON).await;
        assert!(status.success(), "kubectl {arguments:?}: {}", kubectl.output().await);
    }

    /// Where the pages are.
    pub fn frontend(&self, port: u16) -> String {
        format!("{}:{port}", self.node.address())
    }

    /// Opens the backend to this machine, as no environment does, and gives its address.
    pub async fn expose_backend(&self) -> String {
        let service = "{apiVersion: v1, kind: Service, metadata: {name: by-hand}, spec: {type: NodePort, ports: [{port: 8000}], \
                       selector: {app: todo-chatbot, component: backend}}}";
        self.scene.kubectl_ok(&["apply", "-n", "todo-dev", "-f", "-"], service).await;
        let port = ["get", "service", "by-hand", "-n", "todo-dev", "-o", "jsonpath={.spec.ports[0].nodePort}"];
        let port = self.scene.kubectl_ok(&port, "").await;
        let address = format!("{}:{}", self.node.address(), port.trim());
        eventually(SOON, || async {
            let (status, answer) = ask(&address, request("GET", &address, "/health", "", None)).await?;
            ensure!(status == StatusCode::OK, "{status}: {answer}");
            Ok(())
        })
        .await;
        address
    }

    /// Makes the Secrets of environment `staging`, as the chart's notes say: it has none in git.
    pub async fn make_staging_secrets(&self) {
        let namespace = "todo-staging";
        let create = async |name: &str, content: &[String]| {
            let content: Vec<_> = content.iter().map(String::as_str).collect();
            let arguments = [&["create", "secret", "generic", name, "-n", namespace], &content[..]].concat();
            self.scene.kubectl_ok(&arguments, "").await;
        };
        self.scene.kubectl_ok(&["create", "namespace", namespace], "").await;
        let url = staging_database();
        let literals = [("database-url", url.as_str()), ("jwt-secret", SIGNING_KEY), ("openai-api-key", MODEL_KEY)];
        create("todo-secrets", &literals.map(|(key, value)| format!("--from-literal={key}={value}"))).await;
        create("database-ca", &[format!("--from-file=ca.crt={}", self.authority.display())]).await;
    }
}

async fn run(node: &Node, scene: &Scene) -> (Plumb, String) {
    let repository = scene.env.repository().path();
    let socket = |path: PathBuf| format!("unix://{}", path.display());
    let (repository, buildkit, containerd) =
        (repository.display().to_string(), socket(node.buildkit()), socket(node.containerd()));
    let args =
        ["run", "--repo", &repository, "--builder", &buildkit, "--containerd", &containerd, "--listen", "127.0.0.1:0"];
    let mut plumb = Plumb::spawn(scene.env.kubeconfig(), args);
    let line = plumb.wait_for_log(|line| line.contains("answering /livez"), SOON).await;
    let listens = line.split("address=").nth(1).expect("the address").trim().to_owned();
    (plumb, listens)
}

pub fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The images that a commit names, with their tags.
async fn images(scene: &Scene, commit: Oid) -> Vec<String> {
    let (code, output) = scene.verb(&["build", "dev", "--dry-run", "--at", &commit.to_string(), "-o", "json"]).await;
    assert_eq!(code, Some(0), "{output}");
    let shown: Value = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}"));
    let images = shown.as_array().into_iter().flatten().filter_map(|image| image["image"].as_str());
    images.map(ToOwned::to_owned).collect()
}

/// Brings those to the node that an earlier run has built; whether others are missing.
fn import(node: &Node, images: &[String]) -> bool {
    !image_cache("import", node, images).is_empty()
}

/// Keeps images of the node for later runs.
fn keep(node: &Node, images: &[String]) {
    image_cache("export", node, images);
}

fn image_cache(verb: &str, node: &Node, images: &[String]) -> String {
    done(Command::new(Path::new(ROOT).join("tests/cluster/image-cache")).arg(verb).arg(node.directory()).args(images))
}

/// Gives the node the base image that the applications are compiled in, and what earlier runs have compiled of their dependencies.
fn make_rust(node: &Node) -> bool {
    let started = Instant::now();
    done(Command::new(Path::new(ROOT).join("tests/cluster/rust")).arg(node.directory()));
    let base = started.elapsed();
    build_cache("restore", node);
    eprintln!("images will be compiled; their base took {base:.0?}, what is cached {:.0?}", started.elapsed() - base);
    true
}

fn build_cache(verb: &str, node: &Node) {
    done(Command::new(Path::new(ROOT).join("tests/integration/todo/build-cache")).arg(verb).arg(node.directory()));
}
