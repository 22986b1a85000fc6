//! What every integration test stands on.
//!
//! [`Cluster::shared`] is one control plane for the whole process, started by the first test that asks; [`TestEnv`] is
//! a test's own corner of it: names, a git repository, a user whose requests the API server logs; [`Plumb`] is the built
//! program, running. [`ControlPlane::start`] is a cluster for one test alone, for those that take the API server away.
//! [`Node`] is a whole node with containerd and buildkitd, for those that run pods or build images.
//!
//! Every wait is bounded. What cannot go on panics, with what was seen last.

// A test uses what it needs of this; the parts are there for all of them.
#![allow(dead_code, unused_imports)]

mod audit;
mod cluster;
mod control_plane;
mod env;
mod node;
mod plumb;
mod processes;
mod repository;
mod supervisor;

use std::future::Future;
use std::time::{Duration, Instant};

pub use audit::{Audit, AuditEvent, AuditLog, AuditMark};
pub use cluster::{Cluster, client};
pub use control_plane::ControlPlane;
pub use env::TestEnv;
pub use node::{Build, Node, http_get, make_room};
pub use plumb::Plumb;
pub use processes::{ask_to_end, gone, kill_container, running};
pub use repository::{Change, ScratchRepository};
pub use supervisor::{Program, start_under};

/// How long anything may take that a test waits for. The machine may be busy with much else; nothing is measured here.
pub const SOON: Duration = Duration::from_secs(180);

/// The variable with the milliseconds that each wait looks late: what it waits for has to last that long.
const LATE: &str = "PLUMB_TEST_LATE_MS";

/// Tries `attempt` again until it gives a value, and panics with its last error when `timeout` is over.
pub async fn eventually<T, F, Fut>(timeout: Duration, mut attempt: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    if let Some(late) = std::env::var(LATE).ok().and_then(|late| late.parse().ok()) {
        tokio::time::sleep(Duration::from_millis(late)).await;
    }
    let started = Instant::now();
    let mut last = None;
    while let Some(left) = timeout.checked_sub(started.elapsed()) {
        match tokio::time::timeout(left, attempt()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(error)) => last = Some(error),
            Err(_) => break, // keeps the error of the attempt before, which says more than "timed out"
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    match last {
        Some(error) => panic!("not within {timeout:?}: {error:#}"),
        None => panic!("not within {timeout:?}: not one attempt ended"),
    }
}
