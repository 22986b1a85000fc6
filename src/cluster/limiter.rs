//! How many requests are under way at once, for all environments together.
//!
//! Additive increase, multiplicative decrease between one and thirty-two: a quiet API server answers as many a second with sixteen under way, a busy one,
//! whose answers wait for a processor or for its disk, with thirty-two; and a server that answers 429 is left alone for as long as it asks, then taken up
//! again with half as many.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
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
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    allowed: usize,
    /// Places of the semaphore beyond those that are allowed: they were taken as it was throttled, and go as they are given back.
    owed: usize,
    successes: usize,
    pause_until: Option<Instant>,
}

impl Default for Limiter {
    fn default() -> Self {
        let state = State { allowed: MOST, owed: 0, successes: 0, pause_until: None };
        let (turns, semaphore) = (Turns::default(), Arc::new(Semaphore::new(MOST)));
        Self { shared: Arc::new(Shared { turns, semaphore, state: Mutex::new(state) }) }
    }
}

impl Limiter {
    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the places that were given.
    pub fn turns(&self) -> &Turns {
        &self.shared.turns
    }

    /// Waits for a place, and for the end of a pause that the server asked for. `None` only if the limiter is closed, which it never is.
    pub async fn place(&self) -> Option<OwnedSemaphorePermit> {
        loop {
            let permit = self.shared.semaphore.clone().acquire_owned().await.ok()?;
            while let Some(until) = self.pause_until() {
                tokio::time::sleep_until(until).await;
            }
            if !self.is_owed() {
                return Some(permit);
            }
            permit.forget();
        }
    }

    fn pause_until(&self) -> Option<Instant> {
        self.state().pause_until.filter(|until| *until > Instant::now())
    }

    /// Whether a place that was just taken is one too many; it counts as gone then.
    fn is_owed(&self) -> bool {
        let mut state = self.state();
        let owed = state.owed > 0;
        state.owed -= usize::from(owed);
        owed
    }

    /// An answer came that was not 429.
    pub fn succeeded(&self) {
        let mut state = self.state();
        if state.allowed == MOST {
            return;
        }
        state.successes += 1;
        if state.successes < GROW_AFTER {
            return;
        }
        (state.successes, state.allowed) = (0, state.allowed + 1);
        match state.owed.checked_sub(1) {
            Some(owed) => state.owed = owed,
            None => self.shared.semaphore.add_permits(1),
        }
    }

    /// The server asked for a pause: nobody sends until it is over, then half as many as before.
    pub fn throttled(&self, pause: Duration) {
        let mut state = self.state();
        let now = Instant::now();
        let already = state.pause_until.is_some_and(|until| until > now);
        state.pause_until = Some(state.pause_until.map_or(now + pause, |until| until.max(now + pause)));
        if already {
            return; // The requests that were under way together count as one complaint.
        }
        let fewer = state.allowed / 2;
        state.allowed -= fewer;
        state.successes = 0;
        // Places that are taken, or that somebody waits for, can't be forgotten here.
        state.owed += fewer - self.shared.semaphore.forget_permits(fewer);
    }

    /// How many may be under way now.
    pub fn allowed(&self) -> usize {
        self.state().allowed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_complaint_halves_and_success_grows_again() {
        let limiter = Limiter::default();
        limiter.throttled(Duration::from_secs(1));
        limiter.throttled(Duration::from_secs(1));
        assert_eq!(limiter.allowed(), MOST / 2, "complaints within one pause count once");
        let before = Instant::now();
        drop(limiter.place().await);
        assert!(before.elapsed() >= Duration::from_secs(1));
        (0..GROW_AFTER * 20).for_each(|_| limiter.succeeded());
        assert_eq!(limiter.allowed(), MOST);
    }

    /// Under load there is no idle place to be taken away: whoever gives one back hands it to the next.
    #[tokio::test(start_paused = true)]
    async fn a_complaint_halves_what_is_under_way_and_waited_for() {
        let limiter = Limiter::default();
        let mut under_way = Vec::new();
        for _ in 0..MOST {
            under_way.push(limiter.place().await.unwrap());
        }
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let waiting = (0..4 * MOST).map(|_| {
            let (limiter, now, most) = (limiter.clone(), Arc::clone(&now), Arc::clone(&most));
            tokio::spawn(async move {
                let _place = limiter.place().await.unwrap();
                most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(1)).await;
                now.fetch_sub(1, Ordering::Relaxed);
            })
        });
        let waiting: Vec<_> = waiting.collect();
        tokio::task::yield_now().await;
        limiter.throttled(Duration::from_secs(1));
        assert_eq!(limiter.allowed(), MOST / 2);
        drop(under_way);
        for waited in waiting {
            waited.await.unwrap();
        }
        assert_eq!(most.load(Ordering::Relaxed), MOST / 2);
        (0..GROW_AFTER * 20).for_each(|_| limiter.succeeded());
        assert_eq!((limiter.allowed(), limiter.shared.semaphore.available_permits()), (MOST, MOST));
    }

    /// What grows again before the places that are too many were given back is not counted twice.
    #[tokio::test(start_paused = true)]
    async fn success_pays_what_is_owed() {
        let limiter = Limiter::default();
        let mut under_way = Vec::new();
        for _ in 0..MOST {
            under_way.push(limiter.place().await.unwrap());
        }
        limiter.throttled(Duration::from_secs(1));
        (0..GROW_AFTER * 20).for_each(|_| limiter.succeeded());
        drop(under_way);
        assert_eq!((limiter.allowed(), limiter.shared.semaphore.available_permits()), (MOST, MOST));
    }

    #[tokio::test(start_paused = true)]
    async fn never_below_one() {
        let limiter = Limiter::default();
        for _ in 0..10 {
            limiter.throttled(Duration::from_millis(1));
            tokio::time::advance(Duration::from_millis(2)).await;
        }
        assert_eq!(limiter.allowed(), 1);
        assert!(limiter.place().await.is_some());
    }
}
