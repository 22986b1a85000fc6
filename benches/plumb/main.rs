//! `make bench`: what plumb costs, measured with the built program against a real API server.
//!
//! `cargo bench --bench plumb -- [NAME] [--quick]` runs the sections that yield a figure whose name contains NAME, prints a table
//! and writes `target/bench/report.json` (name → number). `--quick` runs everything small, to see that it works;
//! its numbers mean nothing and go to `target/bench/quick.json`.
//!
//! Counts and write rates are read from the API server's audit log, so plumb and what it is compared with are measured by the
//! same third party. The comparison is a bare kube-rs client in this process; each ratio is the median of pairs that
//! follow each other, so that a busy machine slows both down.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a benchmark may fail loudly, prints its figures, and the rules of the rooms are not about it"
)]

mod bare;
mod builds;
mod drift;
mod false_alarms;
mod figures;
mod first_sync;
mod images;
mod memory;
mod pushes;
mod requests;
mod scale;
mod world;

#[path = "../../tests/integration/harness/mod.rs"]
mod harness;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use figures::Figures;
use scale::Scale;

/// Measure plumb against a real API server.
#[derive(Debug, Parser)]
struct Args {
    /// Only the sections with a figure whose name contains this
    name: Option<String>,
    /// Everything small: a smoke test, not a measurement
    #[arg(long)]
    quick: bool,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let args = Args::parse();
    let scale = if args.quick { Scale::QUICK } else { Scale::FULL };
    let wanted = |section: &[&str]| match &args.name {
        Some(part) => section.iter().any(|figure| figure.contains(part.as_str())),
        None => true,
    };
    let started = Instant::now();
    let mut figures = Figures::default();
    if wanted(images::FIGURES) {
        images::run(&scale, &mut figures);
    }
    if wanted(first_sync::FIGURES) {
        first_sync::one_environment(&scale, &mut figures).await;
    }
    if wanted(pushes::FIGURES) {
        pushes::run(&scale, &mut figures).await;
    }
    if wanted(drift::FIGURES) {
        drift::run(&scale, &mut figures).await;
    }
    if wanted(false_alarms::FIGURES) {
        false_alarms::run(&scale, &mut figures).await;
    }
    if wanted(memory::FIGURES) {
        memory::run(&scale, &mut figures).await;
    }
    if wanted(memory::WORKLOAD_FIGURES) {
        memory::workloads(&scale, &mut figures).await;
    }
    if wanted(first_sync::MANY_FIGURES) {
        first_sync::many_environments(&scale, &mut figures).await;
    }
    if wanted(builds::FIGURES) {
        builds::run(&scale, &mut figures).await;
    }
    if figures.is_empty() {
        eprintln!("no figure's name contains {:?}", args.name.unwrap_or_default());
        return ExitCode::FAILURE;
    }
    println!("\n{figures}\n\n{:.0} s in all; load average at the end {}", started.elapsed().as_secs_f64(), load());
    if args.quick {
        println!("--quick: these numbers show that the benchmark works, nothing else");
    }
    let file = report(if args.quick { "quick.json" } else { "report.json" });
    figures.write(&file);
    println!("written to {}", file.display());
    ExitCode::SUCCESS
}

/// A file of `target/bench`.
fn report(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(target).join("bench").join(name)
}

/// How busy the machine is: the benchmark shares it with whatever else runs.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
