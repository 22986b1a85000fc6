//! When images are looked for that nobody needs any more: now and then, and some time after something was built. What goes is decided elsewhere:
//! [`crate::reconcile::collection`].

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::sync::watch as channel;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::Settings;
use super::environment::jitter;
use crate::build::collect::Policy;
use crate::reconcile::Shared;
use crate::reconcile::collection::Collector;
use crate::report::log;
use crate::source::SourceState;
use crate::telemetry::pulse;

/// So long after a start or a build there is something to be seen.
const AFTER: Duration = Duration::from_secs(600);

/// How images are collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collection {
    /// Of each name, so many stay, the newest.
    pub newest: usize,
    /// None goes that has not stood for so long.
    pub age: Duration,
    /// How often they are looked for.
    pub every: Duration,
}

/// Starts collecting, if that is wanted and there is a builder.
pub(super) fn start(
    shared: &Arc<Shared>,
    settings: &Settings,
    source: &channel::Receiver<Arc<SourceState>>,
) -> Option<AbortHandle> {
    let builds = shared.images.as_ref()?.builds();
    let collection = settings.collection?;
    let policy =
        Policy { newest: collection.newest, seconds: i64::try_from(collection.age.as_secs()).unwrap_or(i64::MAX) };
    let pulse = shared.telemetry.pulses.enter("image collection", pulse::BOUND);
    let collector = Collector::new(Arc::clone(shared), settings.config_branch.clone(), policy, pulse.clone());
    let (metrics, source) = (shared.telemetry.metrics.clone(), source.clone());
    let collect = async move {
        let (mut pace, mut told) = (Pace::new(collection.every, builds), None);
        loop {
            pulse.idle("waiting for images to grow old", pace.turn()).await;
            let state = Arc::clone(&source.borrow());
            let round = collector.round(&state, Utc::now().timestamp()).await;
            metrics.collected(round.as_ref().ok().map(|round| (round.removed.len(), round.bytes)));
            log::collected(&round, &mut told);
        }
    };
    Some(tokio::spawn(collect).abort_handle())
}

/// When the next round is due.
struct Pace {
    every: Duration,
    due: Instant,
    builds: channel::Receiver<u64>,
}

impl Pace {
    fn new(every: Duration, builds: channel::Receiver<u64>) -> Self {
        Self { every, due: Instant::now() + AFTER.min(every).mul_f64(jitter()), builds }
    }

    /// Waits until it is time.
    async fn turn(&mut self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(self.due) => break,
                // Several builds in a row are one.
                Ok(()) = self.builds.changed() => {
                    self.due = self.due.min(Instant::now() + AFTER.min(self.every).mul_f64(jitter()));
                }
            }
        }
        self.due = Instant::now() + self.every.mul_f64(jitter());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// How long it takes from now on.
    async fn waits(pace: &mut Pace) -> Duration {
        let began = Instant::now();
        pace.turn().await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_comes_in_its_time_and_earlier_after_a_build() {
        let builds = channel::Sender::new(0);
        let mut pace = Pace::new(60 * MINUTE, builds.subscribe());
        let first = waits(&mut pace).await;
        assert!((8 * MINUTE..=12 * MINUTE).contains(&first), "{first:?}");
        let second = waits(&mut pace).await;
        assert!((48 * MINUTE..=72 * MINUTE).contains(&second), "{second:?}");
        for _ in 0..3 {
            builds.send_modify(|count| *count += 1);
        }
        let built = waits(&mut pace).await;
        assert!((8 * MINUTE..=12 * MINUTE).contains(&built), "{built:?}");
        // A build never puts a round off, however many there are.
        tokio::time::sleep(47 * MINUTE).await;
        builds.send_modify(|count| *count += 1);
        drop(builds);
        let due = waits(&mut pace).await;
        assert!(due <= 12 * MINUTE, "{due:?}");
        assert!(waits(&mut pace).await >= 48 * MINUTE, "nothing is built any more");
        let mut quick = Pace::new(MINUTE, channel::Sender::new(0).subscribe());
        assert!(waits(&mut quick).await <= 2 * MINUTE);
    }
}
