//! From nothing to everything: one environment of many objects, and many environments pushed at once.

use chrono::Utc;

use crate::bare::{self, Body};
use crate::figures::{Figures, listed, median};
use crate::harness::Cluster;
use crate::requests::{Beside, Writes, seconds};
use crate::scale::Scale;
use crate::world::{LIMIT, World, bodies, cluster, files};

pub const FIGURES: &[&str] = &["first_sync_ratio", "first_sync_s"];
pub const MANY_FIGURES: &[&str] = &["env100_ratio", "env100_s"];

/// One environment of 2,000 ConfigMaps.
pub async fn one_environment(scale: &Scale, figures: &mut Figures) {
    println!("first sync: 1 environment of {} ConfigMaps, one file each", scale.objects);
    let (ratio, took) = compare(scale, 1, scale.objects).await;
    figures.record("first_sync_ratio", ratio);
    figures.record("first_sync_s", took);
}

/// 100 environments of 20 ConfigMaps, all branches in one push.
pub async fn many_environments(scale: &Scale, figures: &mut Figures) {
    println!("first sync: {} environments of {} ConfigMaps, one push", scale.environments, scale.objects_each);
    let (ratio, took) = compare(scale, scale.environments, scale.objects_each).await;
    figures.record("env100_ratio", ratio);
    figures.record("env100_s", took);
}

/// The median ratio of plumb's rate of writes to the bare client's, and the median seconds from push to last write.
async fn compare(scale: &Scale, environments: usize, objects: usize) -> (f64, f64) {
    let cluster = cluster().await;
    let world = World::new(&cluster, "bare").await;
    let bodies = bare_bodies(&world, environments, objects).await;
    let in_flight = bare::best_concurrency(&world, &bodies).await;
    let (mut ratios, mut times) = (Vec::new(), Vec::new());
    for pair in 0..scale.pairs {
        // Whoever comes second may profit or suffer from the first.
        let plumb_first = pair % 2 == 0;
        let early = if plumb_first { Some(sync(&cluster, environments, objects).await) } else { None };
        let bare = bare::apply(&world, &bodies, in_flight).await;
        world.clear().await;
        let (writes, took) = match early {
            Some(early) => early,
            None => sync(&cluster, environments, objects).await,
        };
        println!("  plumb {:.0}/s, bare {:.0}/s", writes.rate(), bare.rate());
        ratios.push(writes.rate() / bare.rate());
        times.push(took);
    }
    println!("  ratios {}; seconds from push to last write {}", listed(&ratios), listed(&times));
    (median(&ratios), median(&times))
}

async fn bare_bodies(world: &World, environments: usize, objects: usize) -> Vec<Body> {
    let mut all = Vec::new();
    for number in 0..environments {
        all.extend(bodies(&world.create_namespace(&number.to_string()).await, objects));
    }
    all
}

/// Lets a fresh plumb, which waits for the branches, sync them all. Its writes, and the seconds from push to last write.
async fn sync(cluster: &Cluster, environments: usize, objects: usize) -> (Writes, f64) {
    let world = World::new(cluster, "sync").await;
    let names: Vec<String> = (0..environments).map(|number| world.name(&number.to_string())).collect();
    world.define(&names);
    let branches: Vec<_> = names.iter().map(|name| (name, files(objects))).collect();
    let pushed = world.push(&branches);
    let mut plumb = world.run_waiting(&names).await;
    let mark = world.audit().mark().await;

    let moved = Utc::now();
    world.move_branches(&pushed);
    for name in &names {
        let environment = format!("environment={name} ");
        plumb.wait_for_log(|line| line.contains(" deployed ") && line.contains(&environment), LIMIT).await;
    }
    // Status and Event follow the line; SIGTERM lets them end, and gives the claims up by one more parent patch each.
    let peak = plumb.peak_rss();
    plumb.terminate(LIMIT).await;
    let audit = world.audit().since(mark).await;
    world.clear().await;

    let writes = Writes::of(&audit, environments * objects);
    let beside = Beside::of(&audit);
    println!("  beside the writes, the claims given up at the end included: {beside}; peak RSS {:.1} MiB", mib(peak));
    assert!(beside.status_patches <= environments && beside.events <= environments, "more than one a deployment");
    (writes, seconds(moved, writes.last))
}

/// Bytes as MiB.
#[allow(clippy::cast_precision_loss)]
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}
