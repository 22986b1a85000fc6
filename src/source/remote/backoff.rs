//! When to ask a remote again.

use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(15);

/// The interval while all is well; doubled for each failure in a row, up to a limit; and never quite regular, so that many of us
/// don't ask one server at one moment.
#[derive(Debug)]
pub(super) struct Backoff {
    interval: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub fn new(interval: Option<Duration>, longest: Duration) -> Self {
        let interval = interval.unwrap_or(INTERVAL);
        Self { interval, longest: longest.max(interval), failures: 0 }
    }

    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    pub fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// The time until the next attempt: up to a tenth more or less when all is well, up to a half less after a failure.
    pub fn delay(&self) -> Duration {
        let full = self.interval.saturating_mul(2u32.saturating_pow(self.failures)).min(self.longest);
        let factor = if self.failures == 0 { 0.9..1.1 } else { 0.5..1.0 };
        full.mul_f64(rand::random_range(factor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_double_the_delay_up_to_the_limit_and_a_success_ends_that() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(Some(seconds(10)), seconds(60));
        let within =
            |backoff: &Backoff, low, high| (0..50).all(|_| (seconds(low)..=seconds(high)).contains(&backoff.delay()));
        assert!(within(&backoff, 9, 11));
        for (low, high) in [(10, 20), (20, 40), (30, 60), (30, 60)] {
            backoff.failed();
            assert!(within(&backoff, low, high), "{backoff:?}");
        }
        (0..1000).for_each(|_| backoff.failed());
        assert!(within(&backoff, 30, 60));
        backoff.succeeded();
        assert!(within(&backoff, 9, 11));
        let delays: std::collections::BTreeSet<_> = (0..50).map(|_| backoff.delay()).collect();
        assert!(delays.len() > 10, "jitter");
    }
}
