//! What a large environment holds in memory: after its first sync and a commit, and after a restart beside all that stands.

use crate::figures::Figures;
use crate::first_sync::mib;
use crate::scale::Scale;
use crate::world::{LIMIT, World, cluster, file, files};

pub const FIGURES: &[&str] = &["rss_mib_10000", "rss_mib_10000_restart", "bytes_per_object"];

pub async fn run(scale: &Scale, figures: &mut Figures) {
    println!("memory: 1 environment of {} ConfigMaps", scale.most_objects);
    let cluster = cluster().await;
    let world = World::new(&cluster, "memory").await;
    let name = world.name("dev");
    world.define([&name]);
    let pushed = world.push(&[(&name, files(scale.most_objects))]);
    let mut plumb = world.run_waiting(std::slice::from_ref(&name)).await;
    let empty = plumb.rss();
    world.move_branches(&pushed);
    plumb.wait_for_log(|line| line.contains(" deployed "), LIMIT).await;
    let synced = plumb.peak_rss();
    let seen = plumb.log_len();
    world.repository().commit(&name, [file(0, 1)]);
    plumb.wait_for_log_after(seen, |line| line.contains(" deployed "), LIMIT).await;
    let (peak, now) = (plumb.peak_rss(), plumb.rss());
    plumb.terminate(LIMIT).await;
    println!(
        "  peak {:.1} MiB after the first sync, {:.1} MiB after one more commit; {:.1} MiB held at the end",
        mib(synced),
        mib(peak),
        mib(now)
    );
    figures.record("rss_mib_10000", mib(peak));
    // Manifests included: plumb keeps what git asks for, to put it back without rendering.
    #[allow(clippy::cast_precision_loss)]
    figures.record("bytes_per_object", now.saturating_sub(empty) as f64 / scale.most_objects as f64);

    let mut plumb = world.run();
    plumb.wait_for_log(|line| line.contains(" deployed "), LIMIT).await;
    let (peak, now) = (plumb.peak_rss(), plumb.rss());
    plumb.terminate(LIMIT).await;
    println!("  after a restart: peak {:.1} MiB, {:.1} MiB held", mib(peak), mib(now));
    figures.record("rss_mib_10000_restart", mib(peak));
}
