//! A context is streamed: its size costs no memory.

use std::process::Command;

use bytes::Bytes;
use futures::StreamExt;
use plumb::builder::containerd::Containerd;
use plumb::builder::{BuildKit, Context, Endpoint};

use super::daemons::{Daemons, build, order};

const BUILDKITD: &str = "PLUMB_TEST_BUILDKITD";
const CONTAINERD: &str = "PLUMB_TEST_CONTAINERD";
const MIB: usize = 1 << 20;

/// A tar of a Dockerfile and 50 files of 4 MiB each, made while it is read.
fn large() -> Context {
    let file = |name: String, data: Bytes| {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).expect("a short name");
        header.set_mode(0o644);
        header.set_size(data.len() as u64);
        header.set_cksum();
        let padding = vec![0; data.len().next_multiple_of(512) - data.len()];
        [Bytes::copy_from_slice(header.as_bytes()), data, Bytes::from(padding)].map(Ok)
    };
    let dockerfile = file("Dockerfile".to_owned(), Bytes::from_static(b"FROM scratch\nCOPY file7 /\n"));
    let files = futures::stream::iter(0..50u8).flat_map(move |number| {
        // Of the kernel's randomness would be slow; what matters is that no two are alike.
        let data: Vec<u8> = (0..4 * MIB).map(|at| (at as u8).wrapping_mul(number) ^ (at >> 8) as u8).collect();
        futures::stream::iter(file(format!("file{number}"), Bytes::from(data)))
    });
    let end = futures::stream::iter([Ok(Bytes::from_static(&[0; 1024]))]);
    Box::pin(futures::stream::iter(dockerfile).chain(files).chain(end))
}

/// The most memory that this process ever had, in KiB.
fn high_water() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel tells it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_context_of_200_mib_costs_no_more_memory_than_a_file_of_it() {
    let daemons = Daemons::shared();
    // A process of its own: what other tests need would count as well.
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "builder::memory::the_process_that_is_measured", "--include-ignored", "--nocapture"])
        .env(BUILDKITD, daemons.buildkitd().to_string())
        .env(CONTAINERD, daemons.containerd().to_string())
        .output()
        .expect("the child ran");
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{said}{}", String::from_utf8_lossy(&child.stdout));
    let grown = said.split("grown by ").nth(1).and_then(|rest| rest.split(' ').next()).expect("the child says it");
    let grown: usize = grown.parse().expect("a number");
    eprintln!("a context of 200 MiB: {grown} KiB more");
    // One file, its successor, and the pieces that are under way.
    assert!(grown < 24 << 10, "{grown} KiB more");
}

#[tokio::test]
#[ignore = "a part of the test above"]
async fn the_process_that_is_measured() {
    let (Ok(buildkitd), Ok(containerd)) = (std::env::var(BUILDKITD), std::env::var(CONTAINERD)) else { return };
    let endpoint = |text: String| text.parse::<Endpoint>().expect("an address");
    let builder = BuildKit::new(endpoint(buildkitd), Containerd::new(endpoint(containerd)));
    let small = super::daemons::dockerfile("FROM scratch\nLABEL small=1\n");
    build(&builder, &order("small:1"), small).await.0.expect("it is built");
    let before = high_water();
    build(&builder, &order("large:1"), large()).await.0.expect("it is built");
    eprintln!("grown by {} KiB", high_water() - before);
}
