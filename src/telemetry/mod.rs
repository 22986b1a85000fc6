//! What plumb knows of itself: which of its tasks make progress, which environments it holds, what it has counted.
//!
//! Any room that acts may write here; only [`crate::serve`] reads. [`board`] and [`standing`] decide and are pure; time is an argument there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[warn(clippy::disallowed_types, clippy::disallowed_methods)]
pub mod board;
pub mod metrics;
pub mod pulse;
#[warn(clippy::disallowed_types, clippy::disallowed_methods)]
pub mod standing;

pub use metrics::Metrics;
pub use pulse::{Pulse, Pulses, Turns};
pub use standing::{Held, Standing};

/// All of it. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Telemetry {
    /// The tasks' signs of life.
    pub pulses: Pulses,
    /// What is counted and timed.
    pub metrics: Metrics,
    standing: Arc<Mutex<Standing>>,
}

impl Telemetry {
    /// How the environments stand.
    pub fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An environment is no more: nothing is told of it any longer.
    pub fn forget(&self, environment: &str) {
        self.metrics.forget(environment);
        self.standing().forget(environment);
    }
}
