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
