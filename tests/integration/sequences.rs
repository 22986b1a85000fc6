//! Whatever happens, in whatever order: in the end the cluster equals git, and then nothing is written any more.
//!
//! Random sequences of commits, reverts, broken commits, edits, deletions and restarts run side by side on one control plane whose API server goes away and
//! freezes meanwhile. `PLUMB_SEQUENCES` says how many (20); `PLUMB_SEED` repeats a run's choices, though not its timing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Change, Cluster, ControlPlane, Plumb, Program, TestEnv, eventually};
use crate::scene::{SOON, Scene, condition, part_of};

/// So many at a time.
const BATCH: usize = 10;
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const RESYNC: Duration = Duration::from_secs(2);
/// A sequence may have waited for the pauses of a fight.
const CONVERGED: Duration = Duration::from_secs(180);

/// What git asks for: the value of each object.
type Wanted = BTreeMap<&'static str, u32>;

struct Sequence {
    seed: u64,
    rng: StdRng,
    scene: Scene,
    plumb: Plumb,
    /// Those before it, oldest first: what they said last is printed too when the sequence fails.
    ended: Vec<Plumb>,
    wanted: Wanted,
    pushed: Vec<Wanted>,
    /// The head can't be rendered.
    broken: bool,
    /// What lost the marks that prove that it is plumb's stays in git: else it would, rightly, never be deleted.
    unmarked: BTreeSet<&'static str>,
    steps: Vec<String>,
}

fn file(name: &str) -> String {
    format!("manifests/{name}.yaml")
}

/// The kind of an object, and where its value is.
fn kind_of(name: &str) -> (ApiResource, &'static str) {
    match name {
        "e" => (ApiResource::erase::<Secret>(&()), "/data/x"),
        "f" => (ApiResource::erase::<Deployment>(&()), "/spec/revisionHistoryLimit"),
        _ => (ApiResource::erase::<ConfigMap>(&()), "/data/x"),
    }
}

/// A value, as it stands in the object.
fn value(name: &str, value: u32) -> Value {
    match name {
        "e" => STANDARD.encode(value.to_string()).into(),
        "f" => value.into(),
        _ => value.to_string().into(),
    }
}

/// An object with nothing but its value, as a person's patch or as the beginning of a manifest.
fn with_value(name: &str, value: Value) -> Value {
    let (_, path) = kind_of(name);
    path.rsplit('/').take_while(|part| !part.is_empty()).fold(value, |value, part| json!({part: value}))
}

/// A Deployment that asks for no pods, so that it comes to rest.
fn manifest(name: &str, wanted: u32) -> String {
    let (kind, _) = kind_of(name);
    let mut object = with_value(name, value(name, wanted));
    object["apiVersion"] = kind.api_version.into();
    object["kind"] = kind.kind.into();
    object["metadata"] = json!({"name": name});
    if name == "f" {
        object["spec"]["replicas"] = 0.into();
        object["spec"]["selector"] = json!({"matchLabels": {"app": "f"}});
        let containers = json!([{"name": "c", "image": "registry.example/c:1"}]);
        object["spec"]["template"] = json!({"metadata": {"labels": {"app": "f"}}, "spec": {"containers": containers}});
    }
    object.to_string()
}

impl Sequence {
    async fn new(cluster: &Cluster, seed: u64) -> Self {
        let env = TestEnv::on(cluster.clone(), "seq").await;
        let scene = Scene::in_env(env, "prune: {budget: 100%}\nresync: 2s\nallow: {empty: true}").await;
        let stray: ConfigMap =
            serde_json::from_value(json!({"metadata": {"name": "stray"}, "data": {"x": "mine"}})).unwrap();
        scene.make_namespace().await;
        scene.config_maps().create(&PostParams::default(), &stray).await.unwrap();
        let plumb = scene.run();
        let rng = StdRng::seed_from_u64(seed);
        let mut sequence = Self {
            seed,
            rng,
            scene,
            plumb,
            ended: Vec::new(),
            wanted: Wanted::new(),
            pushed: Vec::new(),
            broken: false,
            unmarked: BTreeSet::new(),
            steps: Vec::new(),
        };
        sequence.push([("a", 0), ("b", 0), ("c", 0)].into());
        sequence
    }

    /// Commits so that git asks for exactly this.
    fn push(&mut self, mut wanted: Wanted) {
        self.unmarked.iter().for_each(|name| _ = wanted.entry(name).or_default());
        let changes = NAMES.iter().filter_map(|name| match wanted.get(name) {
            Some(value) => Some((file(name), Change::from(manifest(name, *value)))),
            None => self.wanted.contains_key(name).then(|| (file(name), Change::Remove)),
        });
        let repaired = std::mem::take(&mut self.broken).then(|| (file("broken"), Change::Remove));
        let changes: Vec<_> = changes.chain(repaired).collect();
        self.scene.env.repository().commit("dev", changes);
        self.pushed.push(wanted.clone());
        self.wanted = wanted;
    }

    fn change(&mut self) {
        let mut wanted = self.wanted.clone();
        for _ in 0..self.rng.random_range(1..4) {
            let name = NAMES.choose(&mut self.rng).unwrap();
            match self.rng.random_bool(0.7) {
                true => _ = wanted.insert(name, self.rng.random_range(0..5)),
                false => _ = wanted.remove(name),
            }
        }
        self.steps.push(format!("commit {wanted:?}"));
        self.push(wanted);
    }

    fn revert(&mut self) {
        let wanted = self.pushed.choose(&mut self.rng).unwrap().clone();
        self.steps.push(format!("revert to {wanted:?}"));
        self.push(wanted);
    }

    /// A commit that can't be rendered: what stood before it stays, until the next good one.
    fn break_it(&mut self) {
        self.steps.push("broken commit".to_owned());
        self.broken = true;
        self.scene.env.repository().commit("dev", [(file("broken"), "a: [".to_owned())]);
    }

    /// The API server may be away: then the person has no success either. The label is taken off or damaged, never another ApplySet's: what that seems to
    /// have is refused until a person decides.
    async fn tamper(&mut self) {
        let name = *NAMES.choose(&mut self.rng).unwrap();
        let number = self.rng.random_range(100..200);
        let other = format!("applyset-{number}-v1");
        let patch = match self.rng.random_range(0..7) {
            0 | 1 => with_value(name, value(name, number)),
            2 => with_value(name, Value::Null),
            3 => json!({"metadata": {"labels": {"applyset.kubernetes.io/part-of": null}}}),
            4 => json!({"metadata": {"labels": {"applyset.kubernetes.io/part-of": "nonsense"}}}),
            5 => json!({"metadata": {"managedFields": [{}]}}),
            _ => json!({"metadata": {"labels": {"somebody": other}}}),
        };
        if patch.get("metadata").is_some() {
            self.unmarked.insert(name);
        }
        self.steps.push(format!("patch {name} {patch}"));
        let _ = self.api(name).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
    }

    async fn delete(&mut self) {
        let name = NAMES.choose(&mut self.rng).unwrap();
        self.steps.push(format!("delete {name}"));
        let _ = self.api(name).delete(name, &DeleteParams::default()).await;
    }

    async fn restart(&mut self) {
        let killed = self.rng.random_bool(0.5);
        self.steps.push(format!("restart, killed: {killed}"));
        match killed {
            true => self.plumb.kill(),
            false => {
                self.plumb.signal(Signal::TERM);
                self.plumb.wait(CONVERGED).await;
            }
        }
        self.ended.push(std::mem::replace(&mut self.plumb, self.scene.run()));
    }

    async fn step(&mut self) {
        match self.rng.random_range(0..12) {
            0..=2 => self.change(),
            3 => self.revert(),
            4 => self.break_it(),
            5..=8 => self.tamper().await,
            9 | 10 => self.delete().await,
            _ => self.restart().await,
        }
        let pause = self.rng.random_range(0..400);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    async fn live(&mut self) {
        for _ in 0..self.rng.random_range(8..20) {
            self.step().await;
        }
    }

    async fn end(mut self) {
        // A broken head keeps what stood before it, which may be any commit that it overtook: the end is a good one.
        self.change();
        self.equals_git().await;
        tokio::time::sleep(Duration::from_secs(6)).await; // Times in the ownership record count seconds.
        self.equals_git().await;
        // The status is written once more when the Deployment's controller has come to it.
        self.scene.condition("Ready", |ready| ready.status == "True").await;
        // And once more when a fight is over, which many edits of one object are: a minute after its last heal.
        eventually(SOON, || async {
            let status = self.scene.environment().await.and_then(|environment| environment.status).unwrap_or_default();
            ensure!(condition(&status, "Contested").is_none_or(|contested| contested.status != "True"), "{status:?}");
            Ok(())
        })
        .await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (before, lines) = (self.versions().await, self.plumb.log_len());
        let audit = self.scene.env.audit().expect("a control plane of its own");
        assert!(!audit.since(audit.start()).await.writes().is_empty(), "the log shows what plumb writes");
        let mark = audit.mark().await;
        tokio::time::sleep(RESYNC.mul_f64(5.0 * 1.2)).await;
        assert_eq!(self.versions().await, before, "{}: it is written although all is as it should be", self.story());
        // Nor a write that would change nothing, or of the Environment's status.
        let writes = audit.since(mark).await.writes();
        assert!(writes.is_empty(), "{}: written: {writes:#?}", self.story());
        let told: Vec<String> = self.plumb.log().split_off(lines);
        // Of one object; what is summed up, or told to be over, was before.
        let alarm = |line: &String| line.contains(" WARN drift ") && line.contains(" object=");
        assert!(!told.iter().any(alarm), "{}: false alarms: {told:#?}", self.story());
    }

    fn story(&self) -> String {
        format!("seed {}: {}", self.seed, self.steps.join("; "))
    }

    fn api(&self, name: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.scene.env.admin(), &self.scene.namespace, &kind_of(name).0)
    }

    /// What git and people made; the controllers put a ConfigMap of their own into a namespace, when they come to it.
    async fn made(&self) -> kube::Result<BTreeMap<String, DynamicObject>> {
        let mut made = BTreeMap::new();
        for kind in ["a", "e", "f"] {
            let all = self.api(kind).list(&ListParams::default()).await?.items;
            made.extend(all.into_iter().map(|object| (object.name_any(), object)));
        }
        made.remove("kube-root-ca.crt");
        Ok(made)
    }

    /// A Deployment's status is its controller's, which comes to it when it can.
    async fn versions(&self) -> BTreeMap<String, Option<String>> {
        let made = self.made().await.expect("the API server answers");
        let version = |object: DynamicObject| {
            object.metadata.generation.map(|number| number.to_string()).or(object.metadata.resource_version)
        };
        made.into_iter().map(|(name, object)| (name, version(object))).collect()
    }

    async fn equals_git(&self) {
        let equals = async || {
            let all = self.made().await?;
            for name in NAMES {
                let object = all.get(name);
                // What still goes may look like what git has now: it is made anew.
                if let Some(ObjectMeta { deletion_timestamp: Some(since), uid, finalizers, .. }) =
                    object.map(|object| &object.metadata)
                {
                    bail!("{name} ({uid:?}) is being deleted since {since:?}, finalizers {finalizers:?}");
                }
                let found = object.map(|object| object.data.pointer(kind_of(name).1).cloned().unwrap_or_default());
                let wanted = self.wanted.get(name).map(|wanted| value(name, *wanted));
                ensure!(found == wanted, "{name} is {found:?} and should be {wanted:?}");
                let label = object.and_then(|object| object.labels().get("applyset.kubernetes.io/part-of").cloned());
                let ours = wanted.is_some().then(|| part_of(&self.scene.name));
                ensure!(label == ours, "{name} has the label {label:?}");
            }
            let stray = all.get("stray").map(|stray| &stray.data["data"]);
            ensure!(stray == Some(&json!({"x": "mine"})), "the stray is {stray:?}");
            Ok(())
        };
        let mut last = None;
        let within = tokio::time::timeout(CONVERGED, async {
            while let Err(error) = equals().await {
                last = Some(error);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        if within.await.is_err() {
            panic!("{}: it does not become equal to git: {last:?}", self.story());
        }
    }
}

/// Takes the API server away and gives it back, now and then, until told to stop.
async fn outages(control_plane: Arc<Cluster>, seed: u64, stop: tokio::sync::watch::Receiver<bool>) {
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(rng.random_range(500..3000))).await;
        if *stop.borrow() {
            return;
        }
        let (frozen, pause) = (rng.random_bool(0.5), Duration::from_millis(rng.random_range(200..2500)));
        tokio::task::block_in_place(|| {
            let control_plane = control_plane.control_plane().expect("its own");
            if frozen {
                control_plane.pause(Program::ApiServer)
            } else {
                control_plane.stop(Program::ApiServer)
            }
            std::thread::sleep(pause);
            if frozen {
                control_plane.resume(Program::ApiServer)
            } else {
                control_plane.start_again(Program::ApiServer)
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_sequence_ends_equal_to_git_and_at_rest() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seed = number("PLUMB_SEED").unwrap_or_else(rand::random);
    let count = number("PLUMB_SEQUENCES").unwrap_or(20);
    eprintln!("PLUMB_SEED={seed} PLUMB_SEQUENCES={count}");
    let cluster = Arc::new(Cluster::Own(ControlPlane::start(true).into()));
    let seeds: Vec<u64> = (0..count).map(|number| seed.wrapping_add(number)).collect();
    for batch in seeds.chunks(BATCH) {
        let mut sequences = Vec::new();
        for seed in batch {
            sequences.push(Sequence::new(&cluster, *seed).await);
        }
        let (over, stop) = tokio::sync::watch::channel(false);
        let outages = tokio::spawn(outages(Arc::clone(&cluster), batch[0], stop));
        futures::future::join_all(sequences.iter_mut().map(Sequence::live)).await;
        over.send_replace(true);
        outages.await.expect("the API server comes and goes");
        futures::future::join_all(sequences.into_iter().map(Sequence::end)).await;
    }
}
