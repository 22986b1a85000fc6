//! What happens between commits: a drift put back, a thousand deletions put back, a restart beside all that stands.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use rand::Rng as _;
use rustix::process::Signal;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::bare;
use crate::figures::{Figures, listed, median, milliseconds, percentile};
use crate::harness::{Plumb, eventually};
use crate::requests::{MEMBERS, Writes, seconds};
use crate::scale::Scale;
use crate::world::{LIMIT, World, bodies, cluster, files, object_name, ready};

pub const FIGURES: &[&str] = &[
    "drift_revert_ms_p50",
    "drift_revert_ms_p99",
    "drift_bare_ms_p50",
    "heal_1000_ratio",
    "heal_1000_s",
    "restart_s",
    "restart_synced_s",
    "restart_changes",
];

/// Longer than what counts as doing it again: otherwise plumb, rightly, takes the benchmark for an opponent.
const APART: Duration = Duration::from_millis(60);

pub async fn run(scale: &Scale, figures: &mut Figures) {
    println!(
        "drift: {} ConfigMaps under watch; one is changed at a time, then many are deleted at once",
        scale.objects
    );
    let cluster = cluster().await;
    let world = World::new(&cluster, "drift").await;
    let beside = world.create_namespace("bare").await;
    let in_flight = bare::best_concurrency(&world, &bodies(&beside, scale.objects)).await;
    let name = world.name("dev");
    world.define([&name]);
    let pushed = world.push(&[(&name, files(scale.objects))]);
    let mut plumb = world.run_waiting(std::slice::from_ref(&name)).await;
    world.move_branches(&pushed);
    plumb.wait_for_log(|line| line.contains(" deployed "), LIMIT).await;

    bare::apply(&world, &bodies(&beside, scale.objects), in_flight).await;
    let minimal = minimal_client(&world, &beside).await;
    let (mut plumbs, mut bares) = (Vec::new(), Vec::new());
    let (mut ours, mut theirs) = (Changes::watch(&world, &name).await, Changes::watch(&world, &beside).await);
    for turn in 1..=scale.drifts {
        plumbs.push(ours.disturb(&world, turn % scale.objects, turn).await);
        bares.push(theirs.disturb(&world, turn % scale.objects, turn).await);
    }
    minimal.abort();
    let [p10, p90] = [0.1, 0.9].map(|part| percentile(&plumbs, part));
    println!("  drift visible → reverted, ms: p10 {p10:.1}, p90 {p90:.1}; the slowest {:.1}", percentile(&plumbs, 1.0));
    figures.record("drift_revert_ms_p50", median(&plumbs));
    figures.record("drift_revert_ms_p99", percentile(&plumbs, 0.99));
    figures.record("drift_bare_ms_p50", median(&bares));

    heal_many(scale, &world, &name, &beside, &plumb, in_flight, figures).await;
    restart(scale, &world, &name, plumb, figures).await;
}

/// The events of one namespace, as a third party sees them.
struct Changes {
    namespace: String,
    /// Name and revision of what was changed, and when it was seen.
    seen: UnboundedReceiver<(String, String, Instant)>,
}

impl Changes {
    async fn watch(world: &World, namespace: &str) -> Self {
        let api: Api<ConfigMap> = Api::namespaced(world.admin(), namespace);
        let from = api.list_metadata(&ListParams::default()).await.expect("a list").metadata.resource_version;
        let mut events = api.watch(&WatchParams::default(), &from.unwrap_or_default()).await.expect("a watch").boxed();
        let (sender, seen) = unbounded_channel();
        tokio::spawn(async move {
            while let Some(event) = events.try_next().await.expect("the watch goes on") {
                let at = Instant::now();
                let WatchEvent::Modified(object) = event else { continue };
                let revision = object.data.and_then(|mut data| data.remove("revision")).unwrap_or_default();
                if sender.send((object.metadata.name.unwrap_or_default(), revision, at)).is_err() {
                    return;
                }
            }
        });
        Self { namespace: namespace.to_owned(), seen }
    }

    /// Changes a value as a person does, and gives the milliseconds from the moment that the change is seen to the moment that git's value is.
    async fn disturb(&mut self, world: &World, number: usize, turn: usize) -> f64 {
        tokio::time::sleep(APART.mul_f64(rand::rng().random_range(0.5..1.5))).await;
        let name = object_name(number);
        let api: Api<ConfigMap> = Api::namespaced(world.admin(), &self.namespace);
        let changed = format!("by hand {turn}");
        let patch = Patch::Merge(json!({"data": {"revision": changed}}));
        api.patch(&name, &PatchParams::default(), &patch).await.expect("the API server takes it");
        let drifted = self.wait_for(&name, &changed).await;
        let reverted = self.wait_for(&name, "0").await;
        milliseconds(reverted - drifted)
    }

    async fn wait_for(&mut self, name: &str, revision: &str) -> Instant {
        loop {
            let next = tokio::time::timeout(LIMIT, self.seen.recv()).await.expect("the change is seen");
            let (seen, what, at) = next.expect("the watch goes on");
            if (seen.as_str(), what.as_str()) == (name, revision) {
                return at;
            }
        }
    }
}

/// The least that can put a value back: it watches whole objects, compares one field, and applies.
async fn minimal_client(world: &World, namespace: &str) -> tokio::task::JoinHandle<()> {
    let api: Api<ConfigMap> = Api::namespaced(world.client().await, namespace);
    let from = api.list_metadata(&ListParams::default()).await.expect("a list").metadata.resource_version;
    let mut events = api.watch(&WatchParams::default(), &from.unwrap_or_default()).await.expect("a watch").boxed();
    let all: BTreeMap<String, serde_json::Value> =
        bodies(namespace, Scale::FULL.objects).into_iter().map(|body| (body.name, body.json)).collect();
    tokio::spawn(async move {
        let params = PatchParams::apply("bare").force();
        while let Some(event) = events.try_next().await.expect("the watch goes on") {
            let WatchEvent::Modified(object) = event else { continue };
            let name = object.metadata.name.unwrap_or_default();
            let right =
                object.data.and_then(|mut data| data.remove("revision")).is_some_and(|revision| revision == "0");
            if let (false, Some(body)) = (right, all.get(&name)) {
                api.patch_metadata(&name, &params, &Patch::Apply(body)).await.expect("the API server takes it");
            }
        }
    })
}

/// Half of the objects are deleted while plumb is held, so that only the healing is measured.
async fn heal_many(
    scale: &Scale,
    world: &World,
    name: &str,
    beside: &str,
    plumb: &Plumb,
    in_flight: usize,
    figures: &mut Figures,
) {
    let count = scale.objects / 2;
    let all = config_maps(world, name).await.expect("the API server counts them");
    let (mut ratios, mut times) = (Vec::new(), Vec::new());
    for pair in 0..scale.pairs {
        let bare = async || {
            delete(world, beside, 0..count).await;
            bare::apply(world, &bodies(beside, count), in_flight).await
        };
        let early = if pair % 2 == 1 { Some(bare().await) } else { None };
        // The other half each time: what is deleted again and again is fought over, and waits.
        let from = pair % 2 * count;
        plumb.signal(Signal::STOP);
        delete(world, name, from..from + count).await;
        let mark = world.audit().mark().await;
        let lines = plumb.log_len();
        let began = chrono::Utc::now();
        plumb.signal(Signal::CONT);
        all_stand(world, name, all).await;
        tokio::time::sleep(Duration::from_millis(500)).await; // The line, and what may come too much.
        let writes = Writes::of(&world.audit().since(mark).await, count);
        let told = plumb.log().len() - lines;
        let bare = match early {
            Some(early) => early,
            None => bare().await,
        };
        println!("  {count} deleted: plumb {:.0}/s in {told} log lines, bare {:.0}/s", writes.rate(), bare.rate());
        ratios.push(writes.rate() / bare.rate());
        times.push(seconds(began, writes.last));
    }
    println!("  ratios {}; seconds until the last is back {}", listed(&ratios), listed(&times));
    figures.record("heal_1000_ratio", median(&ratios));
    figures.record("heal_1000_s", median(&times));
}

async fn delete(world: &World, namespace: &str, numbers: std::ops::Range<usize>) {
    let api: Api<ConfigMap> = Api::namespaced(world.admin(), namespace);
    let one = async |number| {
        api.delete(&object_name(number), &DeleteParams::default()).await.expect("the object goes");
    };
    futures::stream::iter(numbers).map(one).buffer_unordered(16).collect::<()>().await;
}

/// Waits until so many objects stand. They are counted, not read: reading them again and again would slow down the API server that plumb is writing to.
async fn all_stand(world: &World, namespace: &str, count: usize) {
    eventually(LIMIT, || async {
        let standing = config_maps(world, namespace).await?;
        anyhow::ensure!(standing == count, "{standing} of {count} stand");
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(())
    })
    .await;
}

/// How many ConfigMaps stand in a namespace, the API server's own among them.
async fn config_maps(world: &World, namespace: &str) -> anyhow::Result<usize> {
    let api: Api<ConfigMap> = Api::namespaced(world.admin(), namespace);
    let page = api.list_metadata(&ListParams::default().limit(1)).await?;
    let more = page.metadata.remaining_item_count.unwrap_or_default();
    Ok(page.items.len() + usize::try_from(more)?)
}

/// plumb is ended and started again, and nothing has changed meanwhile.
#[allow(clippy::cast_precision_loss)]
async fn restart(scale: &Scale, world: &World, name: &str, mut plumb: Plumb, figures: &mut Figures) {
    tokio::time::sleep(Duration::from_secs(1)).await;
    plumb.terminate(LIMIT).await;
    // The times in the ownership record count seconds.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let before = versions(world, name).await;
    let mark = world.audit().mark().await;
    let began = Instant::now();
    let mut plumb = world.run();
    ready(&mut plumb).await;
    let took = began.elapsed().as_secs_f64();
    plumb.wait_for_log(|line| line.contains(" deployed ") || line.contains(" unchanged "), LIMIT).await;
    let synced = began.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let audit = world.audit().since(mark).await;
    let after = versions(world, name).await;
    let changed = after.iter().filter(|(object, version)| before.get(*object) != Some(*version)).count();
    let (asked, written) = (audit.of(MEMBERS).dry_runs().len(), audit.of(MEMBERS).writes().len());
    println!(
        "  restart beside {} objects: ready after {took:.2} s, compared after {synced:.2} s; {asked} dry-runs, {written} writes, {changed} objects changed",
        scale.objects
    );
    plumb.terminate(LIMIT).await;
    figures.record("restart_s", took);
    figures.record("restart_synced_s", synced);
    figures.record("restart_changes", (written + changed) as f64);
}

async fn versions(world: &World, namespace: &str) -> BTreeMap<String, String> {
    let api: Api<ConfigMap> = Api::namespaced(world.admin(), namespace);
    let objects = api.list_metadata(&ListParams::default()).await.expect("a list").items.into_iter();
    let version = |object: kube::core::ObjectMeta| Some((object.name?, object.resource_version?));
    objects.filter_map(|object| version(object.metadata)).collect()
}
