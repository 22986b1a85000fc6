//! One daemon with a large and a small environment, to which commits are pushed one after the other; then commits that concern neither; then
//! nothing at all.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use rand::Rng as _;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::figures::{Figures, listed, median, milliseconds, percentile};
use crate::first_sync::mib;
use crate::harness::{Audit, Plumb};
use crate::requests::{Beside, MEMBERS};
use crate::scale::Scale;
use crate::world::{LIMIT, World, cluster, file, files, object_name};

pub const FIGURES: &[&str] = &[
    "one_of_2000_ms_p50",
    "one_of_2000_ms_p99",
    "one_of_2000_member_requests",
    "one_object_ms_p50",
    "one_object_ms_p99",
    "noop_commit_requests",
    "steady_requests",
    "rss_mib_2000",
];

/// Between two commits, so that each finds plumb at rest as a person's push does.
const REST: Duration = Duration::from_millis(100);

pub async fn run(scale: &Scale, figures: &mut Figures) {
    println!(
        "pushes: {} commits each to an environment of {} ConfigMaps and to one of 1, in turn, same repository and daemon",
        scale.commits, scale.objects
    );
    let cluster = cluster().await;
    let world = World::new(&cluster, "pushes").await;
    let (large, small) = (world.name("large"), world.name("small"));
    let names = [large.clone(), small.clone()];
    world.define(&names);
    let pushed = world.push(&[(&large, files(scale.objects)), (&small, files(1))]);
    let mut plumb = world.run_waiting(&names).await;
    world.move_branches(&pushed);
    for name in &names {
        wait_for(&mut plumb, 0, name, " deployed ").await;
    }
    let mut large = Branch::watch(&world, large, scale.objects).await;
    let mut small = Branch::watch(&world, small, 1).await;

    let mark = world.audit().mark().await;
    for revision in 1..=scale.commits {
        large.push(&world, &mut plumb, revision).await;
        small.push(&world, &mut plumb, revision).await;
    }
    tokio::time::sleep(REST).await; // the last status and Event
    let audit = world.audit().since(mark).await;
    let beside = Beside::of(&audit);
    println!("  beside the writes: {beside}");
    assert!(beside.status_patches <= 2 * scale.commits && beside.events <= 2 * scale.commits, "more than one a commit");
    large.tell("1 of the large");
    small.tell("the small one");
    figures.record("one_of_2000_ms_p50", median(&large.took));
    figures.record("one_of_2000_ms_p99", percentile(&large.took, 0.99));
    figures.record(
        "one_of_2000_member_requests",
        member_requests(&audit.in_namespace(&large.name).of(MEMBERS), scale.commits),
    );
    figures.record("one_object_ms_p50", median(&small.took));
    figures.record("one_object_ms_p99", percentile(&small.took, 0.99));

    figures.record("noop_commit_requests", unrelated_commits(scale, &world, &mut plumb, &large.name).await);
    figures.record("steady_requests", quiet(scale, &world).await);
    println!("  RSS of plumb: {:.1} MiB now, {:.1} MiB at its peak", mib(plumb.rss()), mib(plumb.peak_rss()));
    figures.record("rss_mib_2000", mib(plumb.peak_rss()));
    plumb.terminate(LIMIT).await;
}

/// An environment, and what the API server shows of its objects.
struct Branch {
    name: String,
    objects: usize,
    /// Name and revision of what was changed, and when it was seen.
    seen: UnboundedReceiver<(String, usize, Instant)>,
    took: Vec<f64>,
}

impl Branch {
    async fn watch(world: &World, name: String, objects: usize) -> Self {
        let api: Api<ConfigMap> = Api::namespaced(world.admin(), &name);
        let from = api.list_metadata(&ListParams::default()).await.expect("a list").metadata.resource_version;
        let mut events = api.watch(&WatchParams::default(), &from.unwrap_or_default()).await.expect("a watch").boxed();
        let (sender, seen) = unbounded_channel();
        tokio::spawn(async move {
            while let Some(event) = events.try_next().await.expect("the watch goes on") {
                let at = Instant::now();
                let WatchEvent::Modified(object) = event else { continue };
                let revision = object.data.as_ref().and_then(|data| data.get("revision")?.parse().ok());
                let change = (object.metadata.name.unwrap_or_default(), revision.unwrap_or_default(), at);
                if sender.send(change).is_err() {
                    return;
                }
            }
        });
        Self { name, objects, seen, took: Vec::new() }
    }

    /// Changes one object, another one each time, and waits until everybody is done with it.
    async fn push(&mut self, world: &World, plumb: &mut Plumb, revision: usize) {
        let jitter = rand::rng().random_range(0.5..1.5);
        tokio::time::sleep(REST.mul_f64(jitter)).await;
        let number = revision * 7 % self.objects;
        let commit = world.repository().write(&self.name, [file(number, revision)]);
        let lines = plumb.log_len();
        let moved = Instant::now();
        world.repository().set_branch(&self.name, commit);
        let wanted = (object_name(number), revision);
        let visible = loop {
            let next = tokio::time::timeout(LIMIT, self.seen.recv()).await.expect("the change becomes visible");
            let (name, revision, at) = next.expect("the watch goes on");
            if (name, revision) == wanted {
                break at;
            }
        };
        self.took.push(milliseconds(visible - moved));
        wait_for(plumb, lines, &self.name, " deployed ").await;
    }

    fn tell(&self, what: &str) {
        let [p10, p50, p90, p99] = [0.1, 0.5, 0.9, 0.99].map(|part| percentile(&self.took, part));
        println!(
            "  {what}, branch moved → visible, ms: p10 {p10:.1}, p50 {p50:.1}, p90 {p90:.1}, p99 {p99:.1}; first three {}",
            listed(&self.took[..self.took.len().min(3)])
        );
    }
}

async fn wait_for(plumb: &mut Plumb, after: usize, environment: &str, message: &str) {
    let environment = format!("environment={environment} ");
    plumb.wait_for_log_after(after, |line| line.contains(message) && line.contains(&environment), LIMIT).await;
}

/// Requests on member objects a commit: each changed object should have one dry-run and one write.
#[allow(clippy::cast_precision_loss)]
fn member_requests(members: &Audit, commits: usize) -> f64 {
    let mut objects: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for event in &members.0 {
        let (dry_runs, writes) = objects.entry(&event.object_ref.name).or_default();
        *(if event.is_dry_run() { dry_runs } else { writes }) += 1;
    }
    let odd = objects.iter().find(|(_, count)| **count != (1, 1));
    let odd = odd.map_or_else(String::new, |odd| format!("; not one of each: {odd:?}"));
    println!(
        "  requests on members of the large: {} dry-runs, {} in all{odd}",
        members.dry_runs().len(),
        members.len()
    );
    members.len() as f64 / commits as f64
}

/// All requests after commits that touch no environment's inputs: on an environment's branch, on the configuration branch, on a branch
/// that nobody deploys.
#[allow(clippy::cast_precision_loss)]
async fn unrelated_commits(scale: &Scale, world: &World, plumb: &mut Plumb, large: &str) -> f64 {
    let mark = world.audit().mark().await;
    for number in 0..scale.idle_commits {
        let readme = [("README.md", format!("revision {number}\n"))];
        let lines = plumb.log_len();
        world.repository().commit(large, readme.clone());
        wait_for(plumb, lines, large, " unchanged ").await;
        world.repository().commit("main", readme.clone());
        world.repository().commit("nobodys", readme);
        tokio::time::sleep(REST).await;
    }
    // Longer than the poll of the refs, should an event have been missed.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let audit = world.audit().since(mark).await;
    println!("  {} commits that touch no environment: {}", 3 * scale.idle_commits, total(&audit));
    audit.len() as f64
}

/// All requests while nothing happens.
#[allow(clippy::cast_precision_loss)]
async fn quiet(scale: &Scale, world: &World) -> f64 {
    let mark = world.audit().mark().await;
    tokio::time::sleep(scale.quiet).await;
    let audit = world.audit().since(mark).await;
    println!("  {:?} of quiet: {}", scale.quiet, total(&audit));
    audit.len() as f64
}

fn total(audit: &Audit) -> String {
    if audit.is_empty() { "no request".to_owned() } else { format!("{} requests: {}", audit.len(), Beside::of(audit)) }
}
