//! How many requests are under way at once, for all environments together.
//!
//! Additive increase, multiplicative decrease between one and thirty-two: a quiet API server answers as many a second with sixteen under way, a busy one,
//! whose answers wait for a processor or for its disk, with thirty-two; and a server that answers 429 is left alone for as long as it asks, then taken up
//! again with half as many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::telemetry::Turns;

/// The most requests under way.
pub const MOST: usize = 32;
/// Successes in a row after which one more is allowed.
const GROW_AFTER: usize = 32;

/// The shared bound. Clones share it.
#[derive(Clone, Debug)]
pub struct Limiter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    turns: Turns,
    semaphore: Arc<Semaphore>,
    allowed: AtomicUsize,
    successes: AtomicUsize,
    pause_until: Mutex<Option<Instant>>,
}

impl Default for Limiter {
    fn default() -> Self {
        Self {
            shared: Arc::new(Shared {
                turns: Turns::default(),
                semaphore: Arc::new(Semaphore::new(MOST)),
                allowed: AtomicUsize::new(MOST),
                successes: AtomicUsize::new(0),
                pause_until: Mutex::new(None),
            }),
        }
    }
}

impl Limiter {
    /// Counts the places that were given.
    pub fn turns(&self) -> &Turns {
        &self.shared.turns
    }

    /// Waits for a place, and for the end of a pause that the server asked for. `None` only if the limiter is closed, which it never is.
    pub async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let permit = self.shared.semaphore.clone().acquire_owned().await.ok()?;
        loop {
            let until = *self.shared.pause_until.lock().await;
            match until {
                Some(until) if until > Instant::now() => tokio::time::sleep_until(until).await,
                _ => return Some(permit),
            }
        }
    }

    /// An answer came that was not 429.
    pub fn succeeded(&self) {
        let shared = &self.shared;
        if shared.allowed.load(Ordering::Relaxed) == MOST {
            return;
        }
        if shared.successes.fetch_add(1, Ordering::Relaxed) + 1 >= GROW_AFTER {
            shared.successes.store(0, Ordering::Relaxed);
            let grown =
                shared.allowed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < MOST).then_some(n + 1));
            if grown.is_ok() {
                shared.semaphore.add_permits(1);
            }
        }
    }

    /// The server asked for a pause: nobody sends until it is over, then half as many as before.
    pub async fn throttled(&self, pause: Duration) {
        let mut until = self.shared.pause_until.lock().await;
        let now = Instant::now();
        let already = until.is_some_and(|until| until > now);
        *until = Some(until.map_or(now + pause, |until| until.max(now + pause)));
        if already {
            return; // The requests that were under way together count as one complaint.
        }
        let allowed = self.shared.allowed.load(Ordering::Relaxed);
        let forgotten = self.shared.semaphore.forget_permits(allowed - allowed.div_ceil(2));
        self.shared.allowed.fetch_sub(forgotten, Ordering::Relaxed);
        self.shared.successes.store(0, Ordering::Relaxed);
    }

    /// How many may be under way now.
    pub fn allowed(&self) -> usize {
        self.shared.allowed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_complaint_halves_and_success_grows_again() {
        let limiter = Limiter::default();
        limiter.throttled(Duration::from_secs(1)).await;
        limiter.throttled(Duration::from_secs(1)).await;
        assert_eq!(limiter.allowed(), MOST / 2, "complaints within one pause count once");
        let before = Instant::now();
        drop(limiter.place().await);
        assert!(before.elapsed() >= Duration::from_secs(1));
        (0..GROW_AFTER * 20).for_each(|_| limiter.succeeded());
        assert_eq!(limiter.allowed(), MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn never_below_one() {
        let limiter = Limiter::default();
        for _ in 0..10 {
            limiter.throttled(Duration::from_millis(1)).await;
            tokio::time::advance(Duration::from_millis(2)).await;
        }
        assert_eq!(limiter.allowed(), 1);
        assert!(limiter.place().await.is_some());
    }
}
