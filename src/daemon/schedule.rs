//! When an environment is looked at again: back-off after a failure that may pass by itself, and the slow resync. Jittered, so that a hundred
//! environments don't come at once.

use std::time::Duration;

use tokio::time::Instant;

const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The timers of one environment.
#[derive(Debug)]
pub(super) struct Schedule {
    retry: Option<Instant>,
    attempts: u32,
    resync: Instant,
}

impl Schedule {
    /// The first resync is a full period away.
    pub(super) fn new(resync: Duration) -> Self {
        Self { retry: None, attempts: 0, resync: Instant::now() + jitter(resync) }
    }

    /// It went well, or only a person can help: no retry.
    pub(super) fn settle(&mut self) {
        self.retry = None;
        self.attempts = 0;
    }

    /// It may pass by itself: try again after a pause that doubles up to the resync period.
    pub(super) fn back_off(&mut self, resync: Duration) -> Duration {
        let pause = jitter(FIRST_RETRY.saturating_mul(1 << self.attempts.min(20)).min(resync));
        self.attempts = self.attempts.saturating_add(1);
        self.retry = Some(Instant::now() + pause);
        pause
    }

    /// A resync was done.
    pub(super) fn resynced(&mut self, resync: Duration) {
        self.resync = Instant::now() + jitter(resync);
    }

    /// Whether a retry is due.
    pub(super) fn retry_due(&self) -> bool {
        self.retry.is_some_and(|at| at <= Instant::now())
    }

    /// Whether a resync is due.
    pub(super) fn resync_due(&self) -> bool {
        self.resync <= Instant::now()
    }

    /// Sleeps until something is due.
    pub(super) async fn due(&self) {
        tokio::time::sleep_until(self.retry.map_or(self.resync, |retry| retry.min(self.resync))).await;
    }
}

/// Between 80 % and 120 % of a duration.
fn jitter(duration: Duration) -> Duration {
    duration.mul_f64(rand::random_range(0.8..1.2))
}
