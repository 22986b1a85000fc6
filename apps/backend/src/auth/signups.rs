//! How often somebody may sign up: [`AT_ONCE`] accounts, then one every [`PAUSE`]. All together, since behind the frontend nobody has
//! an address of their own, and by each pod for itself: so whoever takes every turn keeps others from signing up meanwhile. In
//! return nobody makes accounts by the thousand, each of which may use the model.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// As many people as may come together.
const AT_ONCE: u32 = 10;
const PAUSE: Duration = Duration::from_secs(10);

/// Accounts that were made of late.
#[derive(Default)]
pub struct SignUps {
    /// When as many as at the start may sign up at once again: each sign-up puts it off by one pause.
    rested: Mutex<Option<Instant>>,
}

impl SignUps {
    /// Whether somebody may sign up now, which then counts. If not: how long to wait.
    pub fn begin(&self, now: Instant) -> Result<(), Duration> {
        let mut rested = self.rested.lock().unwrap_or_else(PoisonError::into_inner);
        let until = rested.map_or(now, |rested| rested.max(now)) + PAUSE;
        let wait = (until - now).saturating_sub(PAUSE * AT_ONCE);
        if !wait.is_zero() {
            return Err(wait);
        }
        *rested = Some(until);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_few_at_once_each_has_to_wait_for_its_turn() {
        let (sign_ups, mut now) = (SignUps::default(), Instant::now());
        let some = |count: u32, now| (0..count).for_each(|_| sign_ups.begin(now).unwrap());
        some(AT_ONCE, now);
        for _ in 0..3 {
            assert_eq!(sign_ups.begin(now), Err(PAUSE));
            // Whoever asks too early does not have to wait longer for that, nor has anybody else.
            assert_eq!(sign_ups.begin(now + PAUSE / 4), Err(PAUSE / 4 * 3));
            now += PAUSE;
            some(1, now);
        }
        now += PAUSE * 3;
        some(3, now);
        assert_eq!(sign_ups.begin(now), Err(PAUSE));
        // However long nobody came, no more than at the start.
        now += PAUSE * 1000;
        some(AT_ONCE, now);
        assert_eq!(sign_ups.begin(now), Err(PAUSE));
    }
}
