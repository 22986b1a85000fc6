//! Figures, printed by `cargo test --release source::tests::bench -- --ignored --nocapture`.

use std::time::Instant;

use super::support::*;
use crate::source::heads::{Directories, read};

fn median(mut run: impl FnMut()) -> std::time::Duration {
    let mut took: Vec<_> = (0..21)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    took.sort();
    took[took.len() / 2]
}

#[test]
#[ignore = "prints figures"]
fn figures_of_reading_a_thousand_refs() {
    let scratch = Scratch::new();
    let work = scratch.work_tree("work");
    let store = open(&work);
    let id = head(&work, "HEAD");
    println!("open: {:?}", median(|| drop(open(&work))));
    println!("at: {:?}", median(|| drop(store.at(id))));
    println!("heads of 1: {:?}", median(|| drop(store.heads())));
    for number in 0..1000 {
        let file = work.join(format!(".git/refs/heads/b{number}"));
        std::fs::write(file, format!("{id}\n")).unwrap();
    }
    println!("heads of 1000 loose: {:?}", median(|| drop(store.heads())));
    git(&work, &["pack-refs", "--all"]);
    println!("heads of 1000 packed: {:?}", median(|| drop(store.heads())));
    let heads = store.heads().unwrap();
    let again = || drop(read(&store.repository().unwrap(), Some(&heads), &mut Directories::new()));
    println!("heads of 1000 packed, known before: {:?}", median(again));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures"]
async fn figures_of_hearing_a_moved_branch() {
    let scratch = Scratch::new();
    let work = scratch.work_tree("work");
    let commits = [head(&work, "HEAD"), commit(&work, "a.txt", "two")];
    let dev = work.join(".git/refs/heads/dev");
    for branches in [1, 100, 1000] {
        for number in 1..branches {
            std::fs::write(work.join(format!(".git/refs/heads/b{number}")), format!("{}\n", commits[0])).unwrap();
        }
        let mut watched = start(&work);
        watched.until_at("dev", commits[1]).await;
        let mut took = Vec::new();
        for turn in 0..40 {
            let next = commits[turn % 2];
            let lock = dev.with_extension("lock");
            std::fs::write(&lock, format!("{next}\n")).unwrap();
            let start = Instant::now();
            std::fs::rename(&lock, &dev).unwrap();
            watched.until_at("dev", next).await;
            took.push(start.elapsed());
        }
        took.sort();
        println!("renamed to published, {branches} loose branches: p50 {:?}, p95 {:?}", took[20], took[38]);
    }
}
