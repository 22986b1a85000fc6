//! What plumb answers to a kubelet and a Prometheus: liveness, readiness, metrics.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Change, Cluster, ControlPlane, Plumb, Program, TestEnv, eventually};
use crate::scene::{SOON, Scene, config_map, file_of};

const CANARY: &str = "canary-that-nobody-scrapes";

/// A plumb that listens.
struct Served {
    plumb: Plumb,
    address: String,
}

impl Served {
    async fn run(scene: &Scene, repository: &Path, instance: &str) -> Self {
        Self::run_with(scene, repository, instance, &[]).await
    }

    async fn run_with(scene: &Scene, repository: &Path, instance: &str, more: &[&str]) -> Self {
        let listen = ["--listen", "127.0.0.1:0", "--instance", instance].map(OsStr::new);
        let args = [OsStr::new("run"), "--repo".as_ref(), repository.as_ref()].into_iter().chain(listen);
        let args = args.chain(more.iter().map(AsRef::as_ref));
        let mut plumb = Plumb::spawn(scene.env.kubeconfig(), args);
        let line = plumb.wait_for_log(|line| line.contains("answering /livez"), SOON).await;
        let address = line.split("address=").nth(1).expect("the address").trim().to_owned();
        Self { plumb, address }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        get(&self.address, path).await.expect("plumb answers")
    }

    async fn ready(&self) -> String {
        eventually(SOON, || async {
            let (code, text) = self.get("/readyz").await;
            ensure!(code == 200, "{text}");
            Ok(text)
        })
        .await
    }

    async fn not_ready(&self, because: &str) {
        eventually(SOON, || async {
            let (code, text) = self.get("/readyz").await;
            ensure!(code == 503 && text.contains(because), "{code}: {text}");
            Ok(())
        })
        .await;
    }

    async fn metrics(&self) -> Metrics {
        let (code, text) = self.get("/metrics").await;
        assert_eq!(code, 200, "{text}");
        Metrics::parse(&text)
    }

    /// Waits until the environment's head has waited for longer than this.
    async fn waits_for(&self, environment: &str, seconds: f64) {
        eventually(SOON, || async {
            let age = self.metrics().await.0[&queue_age(environment)];
            ensure!(age > seconds, "{age}");
            Ok(())
        })
        .await;
    }

    /// Waits until a series has this value.
    async fn until(&self, series: &str, value: f64) {
        eventually(SOON, || async {
            let found = self.metrics().await.0.get(series).copied();
            ensure!(found == Some(value), "{series} is {found:?}");
            Ok(())
        })
        .await;
    }
}

async fn get(address: &str, path: &str) -> anyhow::Result<(u16, String)> {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: plumb\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("a head and a body")?;
        let code = head.split(' ').nth(1).context("a status")?.parse()?;
        Ok((code, body.to_owned()))
    };
    tokio::time::timeout(Duration::from_secs(10), ask).await?
}

/// The series of a scrape, by name and labels as they stand there.
struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Panics at anything that is not OpenMetrics text.
    fn parse(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").expect("the end is marked");
        let mut series = BTreeMap::new();
        for line in body.lines().filter(|line| !line.starts_with("# ")) {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            assert!(series.insert(name.to_owned(), value).is_none(), "twice: {line}");
        }
        Self(series)
    }

    /// The sum of the series of this name with this label.
    fn sum(&self, name: &str, label: &str) -> usize {
        let of = self.0.iter().filter(|(series, _)| series.starts_with(&format!("{name}{{")) && series.contains(label));
        of.map(|(_, value)| *value as usize).sum()
    }
}

fn deployments(environment: &str, outcome: &str) -> String {
    format!(r#"plumb_deployments_total{{environment="{environment}",outcome="{outcome}"}}"#)
}

fn queue_age(environment: &str) -> String {
    format!(r#"plumb_queue_age_seconds{{environment="{environment}"}}"#)
}

fn secret(name: &str, data: &str) -> String {
    format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\n{data}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_and_metrics_tell_what_happened() {
    let scene = Scene::new("serve").await;
    let Some(audit) = scene.env.audit() else { return };
    let mark = audit.mark().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = directory.path().join("repo.git");
    let mut served = Served::run(&scene, &repository, &scene.instance()).await;

    served.not_ready("the repository is not read: ").await;
    served.not_ready("the definitions are not read yet").await;
    assert_eq!(served.get("/livez").await.0, 200);
    std::os::unix::fs::symlink(scene.env.repository().path(), &repository).unwrap();
    assert_eq!(served.ready().await, "ready\n");

    let name = scene.name.as_str();
    let good = secret("s", &format!("stringData: {{token: {CANARY}}}"));
    let first = scene.push([("a.yaml", config_map("a", &[("k", "1")])), ("s.yaml", good)]);
    scene.deployed(first).await;
    served.until(&deployments(name, "Deployed"), 1.0).await;
    served.until(&queue_age(name), 0.0).await;
    served.until(&format!(r#"plumb_environment_synced{{environment="{name}"}}"#), 1.0).await;
    served.until(&format!(r#"plumb_inventory_objects{{environment="{name}"}}"#), 2.0).await;

    scene.kubectl_ok(&["patch", "cm", "a", "-n", &scene.namespace, "-p", r#"{"data":{"k":"2"}}"#], "").await;
    let reverted = format!(r#"plumb_drift_total{{environment="{name}",class="value-changed",action="reverted"}}"#);
    served.until(&reverted, 1.0).await;

    let refused = scene.push([(
        "t.yaml",
        secret("t", &format!("type: kubernetes.io/dockerconfigjson\nstringData: {{.dockerconfigjson: '{CANARY} {{'}}")),
    )]);
    scene.failed(refused).await;
    let unreadable = scene.push([("t.yaml", secret("t", &format!("data: {{token: \"{CANARY}")))]);
    scene.failed(unreadable).await;
    served.until(&deployments(name, "Failed"), 2.0).await;
    let metrics = served.metrics().await;
    let failures = |stage| metrics.sum("plumb_deployment_failures_total", &format!(r#"stage="{stage}""#));
    assert_eq!([failures("dry-run"), failures("render")], [1, 1]);
    assert_eq!(metrics.0[&deployments(name, "Deployed")], 1.0);
    assert_eq!(metrics.0[&format!(r#"plumb_environment_synced{{environment="{name}"}}"#)], 0.0);
    assert_eq!(metrics.0[r#"plumb_deployment_stage_duration_seconds_count{stage="apply"}"#], 1.0);
    assert!(metrics.0[r#"plumb_source_reads_total{result="success"}"#] >= 3.0);
    assert!(metrics.0["process_resident_memory_bytes"] > 1e6);

    // The API server counts the same, and no scrape asks it anything.
    // One or the other may be a request ahead until all is told.
    eventually(SOON, || async {
        let now = audit.mark().await;
        for path in ["/livez", "/readyz", "/metrics"] {
            for _ in 0..5 {
                served.get(path).await;
            }
        }
        let meanwhile = audit.since(now).await;
        ensure!(meanwhile.is_empty(), "{meanwhile:#?}");
        let asked = audit.since(mark).await;
        let metrics = served.metrics().await;
        let counted = |verb| metrics.sum("plumb_api_requests_total", &format!(r#"verb="{verb}""#));
        for verb in ["list", "create", "patch", "delete"] {
            let real = asked.only(|event| event.verb == verb && !event.is_dry_run()).len();
            ensure!(counted(verb) == real, "{verb}: {} are counted, {real} were made", counted(verb));
        }
        ensure!(counted("patch") > 0 && counted("list") > 0, "no request is counted");
        ensure!(counted("dry-run") == asked.dry_runs().len(), "dry-runs: {} are counted", counted("dry-run"));
        Ok(())
    })
    .await;

    for path in ["/livez", "/readyz", "/metrics"] {
        let (_, text) = served.get(path).await;
        let encoded = base64::engine::general_purpose::STANDARD.encode(CANARY);
        assert!(!text.contains(CANARY) && !text.contains(&encoded[..encoded.len() - 4]), "{path} shows it: {text}");
    }
    assert!(served.plumb.terminate(SOON).await.success());
    assert!(get(&served.address, "/livez").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_held_or_broken_is_named_and_who_left_has_no_series() {
    let scene = Scene::new("held").await;
    let repository = scene.env.repository().path();
    let commit = scene.push([("a.yaml", config_map("a", &[("k", "1")]))]);
    let (other, broken) = (scene.env.name("other"), scene.env.name("broken"));
    scene.define_other(&other, "dev", "elsewhere", "");
    scene.define_other(&broken, "dev", "manifests", "nonsense: true");
    let held = Served::run(&scene, &repository, "one").await;
    scene.deployed(commit).await;
    let said = held.ready().await;
    assert!(said.starts_with(&format!("ready\nenvironment {broken} is not written to: ")), "{said}");
    assert!(said.contains(&file_of(&broken)) && said.contains("nonsense"), "{said}");

    let second = Served::run(&scene, &repository, "two").await;
    let said = second.ready().await;
    let expected =
        format!("environment {} is not written to: the environment is held by another plumb, \"one\"", scene.name);
    assert!(said.contains(&expected), "{said}");
    second.until(&queue_age(&scene.name), 0.0).await;
    assert_eq!(second.metrics().await.0[&deployments(&scene.name, "Deployed")], 0.0);

    held.until(&deployments(&other, "Failed"), 1.0).await;
    let gone = [(file_of(&other), Change::Remove)];
    scene.env.repository().commit("main", gone);
    eventually(SOON, || async {
        let left = held.metrics().await.0.keys().filter(|series| series.contains(&other)).count();
        ensure!(left == 0, "{left} series are left");
        Ok(())
    })
    .await;
    held.until(&deployments(&scene.name, "Deployed"), 1.0).await;
    assert!(!held.ready().await.contains(&other));
    let (_, tasks) = held.get("/livez").await;
    assert!(
        tasks.contains(&format!("environment {}: ", scene.name)) && !tasks.contains(&format!("environment {other}: ")),
        "{tasks}"
    );
}

/// Asks again and again whether it lives; gives what it said when it did not, and how often it was asked.
fn watch_life(address: &str, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<(Vec<String>, usize)> {
    let (address, stop) = (address.to_owned(), Arc::clone(stop));
    tokio::spawn(async move {
        let (mut dead, mut asked) = (Vec::new(), 0);
        while !stop.load(Ordering::Relaxed) {
            asked += 1;
            match get(&address, "/livez").await {
                Ok((200, _)) => {}
                Ok((code, text)) => dead.push(format!("{code}: {text}")),
                Err(error) => dead.push(format!("{error:#}")),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (dead, asked)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_plumb_depends_on_may_be_away_and_plumb_lives() {
    let cluster = Cluster::Own(ControlPlane::start(false).into());
    let env = TestEnv::on(cluster.clone(), "live").await;
    let scene = Scene::in_env(env, "").await;
    let control_plane = cluster.control_plane().unwrap();
    let mut last = scene.push([("a.yaml", config_map("a", &[("k", "0")]))]);
    let repository = scene.env.repository().path();
    let mut served = Served::run(&scene, &repository, &scene.instance()).await;
    scene.deployed(last).await;
    served.ready().await;
    let stop = Arc::new(AtomicBool::new(false));
    let life = watch_life(&served.address, &stop);

    for count in 1..=60 {
        last = scene.push([("a.yaml", config_map("a", &[("k", &count.to_string())]))]);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    scene.deployed(last).await;
    served.ready().await;

    control_plane.stop(Program::ApiServer);
    last = scene.push([("a.yaml", config_map("a", &[("k", "away")]))]);
    served.not_ready("the Environments are not seen: ").await;
    eventually(SOON, || async {
        let metrics = served.metrics().await;
        let lost = metrics.sum("plumb_api_requests_total", r#"code="unreachable""#);
        ensure!(lost > 2, "{lost} requests reached nobody");
        Ok(())
    })
    .await;
    // Tried again and again, its head has not come to its end.
    served.waits_for(&scene.name, 5.0).await;
    control_plane.start_again(Program::ApiServer);
    scene.deployed(last).await;
    served.ready().await;
    served.until(&queue_age(&scene.name), 0.0).await;

    let aside = repository.with_extension("aside");
    std::fs::rename(&repository, &aside).unwrap();
    served.not_ready("the repository is not read: ").await;
    std::fs::rename(&aside, &repository).unwrap();
    served.ready().await;
    let main = scene.env.repository().open().refname_to_id("refs/heads/main").unwrap();
    scene.env.repository().delete_branch("main");
    served.not_ready("the definitions can't be read: ").await;
    scene.env.repository().set_branch("main", main);
    served.ready().await;

    eventually(SOON, || async {
        let (_, tasks) = served.get("/livez").await;
        for task in ["supervisor: ", "source: ", "watch of Environment.plumb.dev: ", "watch of ConfigMap: "] {
            ensure!(tasks.contains(&format!("\n{task}")), "{task} is not watched: {tasks}");
        }
        ensure!(tasks.contains(&format!("\nenvironment {}: waiting for events for ", scene.name)), "{tasks}");
        Ok(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let (dead, asked) = life.await.unwrap();
    assert!(dead.is_empty(), "of {asked}: {dead:#?}");
    assert!(asked > 50, "{asked}");
    assert!(served.plumb.terminate(SOON).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_waits_for_its_images_has_an_age_and_an_end_when_a_newer_one_comes() {
    let scene = Scene::new("waits").await;
    let (name, repository) = (scene.name.as_str(), scene.env.repository().path());
    let first = scene.push([("a.yaml", config_map("a", &[("k", "1")]))]);
    let nowhere = format!("unix://{}", repository.join("no.sock").display());
    let builder = ["--builder", &nowhere, "--containerd", &nowhere];
    let mut served = Served::run_with(&scene, &repository, &scene.instance(), &builder).await;
    scene.deployed(first).await;
    served.until(&queue_age(name), 0.0).await;

    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: web, image: web}]}\n";
    let files = [
        ("plumb.yaml", "images: [{name: web, context: apps/web}]\n"),
        ("apps/web/Dockerfile", "FROM scratch\nCOPY answer /\n"),
        ("apps/web/answer", "1"),
        ("manifests/web.yaml", pod),
    ];
    let waits = scene.env.repository().commit("dev", files);
    served.plumb.wait_for_log(|line| line.contains(" waiting: "), SOON).await;
    served.waits_for(name, 2.0).await;

    let newer = scene.push([("web.yaml", Change::Remove), ("a.yaml", config_map("a", &[("k", "2")]).into())]);
    scene.deployed(newer).await;
    served.until(&queue_age(name), 0.0).await;
    let entry = scene.ended(waits).await;
    assert_eq!((entry.outcome.as_str(), entry.message), ("SupersededBy", Some(newer.to_string())));
    assert_eq!(served.metrics().await.0[&deployments(name, "SupersededBy")], 1.0);
    scene.condition("Synced", |synced| synced.status == "True").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_listens_at_what_it_was_told_and_at_nothing_by_itself() {
    let scene = Scene::new("listen").await;
    let commit = scene.push([("a.yaml", config_map("a", &[("k", "1")]))]);
    let silent = scene.run();
    scene.deployed(commit).await;
    assert_eq!(silent.listening(), Vec::<String>::new());
    drop(silent);
    let served = Served::run(&scene, &scene.env.repository().path(), &scene.instance()).await;
    served.ready().await;
    assert_eq!(served.plumb.listening(), std::slice::from_ref(&served.address));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_taken_is_said_before_anything_is_done() {
    let scene = Scene::new("taken").await;
    let Some(audit) = scene.env.audit() else { return };
    let mark = audit.mark().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, output) = scene.verb(&["run", "--listen", &address]).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.starts_with(&format!("plumb: can't listen on {address}: Address already in use")), "{output}");
    assert!(output.contains("--listen (PLUMB_LISTEN) names another address"), "{output}");
    let (code, output) = scene.verb(&["run", "--listen", "everywhere"]).await;
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("--listen <ADDRESS:PORT>"), "{output}");
    assert!(audit.since(mark).await.is_empty());
}
