//! How often a password may be tried: after [`FREE`] wrong ones for an account each further try has to wait, twice as long as the one
//! before. Counted by what was typed as the address, whether there is such an account or not, and by each pod for itself.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// As many mistakes as somebody makes who has forgotten which password it was.
const FREE: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A thousand guesses a day, by each pod, are hopeless. It does lock people out: whoever knows an address can take every try for it, and
/// keeps its owner from signing in until this long after they stop (sessions that have begun go on). The two can't be told apart, since
/// behind the frontend nobody has an address of their own.
const LONGEST_PAUSE: Duration = Duration::from_secs(64);
/// After this long without a mistake all are forgotten.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);
/// More accounts than this are not remembered: those whose last mistake is the oldest go first.
const ACCOUNTS: usize = 10_000;

/// Wrong passwords, by account.
#[derive(Default)]
pub struct Attempts {
    mistakes: Mutex<HashMap<String, Mistakes>>,
}

#[derive(Clone, Copy)]
struct Mistakes {
    count: u32,
    last: Instant,
}

impl Mistakes {
    /// How long after the last one the next try may come.
    fn pause(self) -> Duration {
        match self.count.checked_sub(FREE) {
            None => Duration::ZERO,
            Some(over) => FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(over)).min(LONGEST_PAUSE),
        }
    }
}

impl Attempts {
    /// Whether a password may be tried now. If so it counts as a mistake until [`Attempts::right`]: else many could be tried at
    /// once. If not: how long to wait.
    pub fn begin(&self, account: &str, now: Instant) -> Result<(), Duration> {
        let mut mistakes = self.mistakes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = mistakes.get(account).copied().filter(|known| now.duration_since(known.last) < FORGOTTEN);
        if let Some(known) = known {
            let wait = known.pause().saturating_sub(now.duration_since(known.last));
            if !wait.is_zero() {
                return Err(wait);
            }
        } else if mistakes.len() >= ACCOUNTS {
            mistakes.retain(|_, known| now.duration_since(known.last) < FORGOTTEN);
            let oldest = mistakes.iter().min_by_key(|(_, known)| known.last).map(|(account, _)| account.clone());
            if let Some(oldest) = oldest.filter(|_| mistakes.len() >= ACCOUNTS) {
                mistakes.remove(&oldest);
            }
        }
        let count = known.map_or(0, |known| known.count).saturating_add(1);
        mistakes.insert(account.to_owned(), Mistakes { count, last: now });
        Ok(())
    }

    /// The password was right: nothing is held against the account.
    pub fn right(&self, account: &str) {
        self.mistakes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(account);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: &str = "ada@example.org";

    #[test]
    fn after_a_few_mistakes_each_try_waits_twice_as_long_as_the_one_before() {
        let (attempts, mut now) = (Attempts::default(), Instant::now());
        for _ in 0..FREE {
            assert_eq!(attempts.begin(ADA, now), Ok(()));
        }
        for seconds in [1, 2, 4, 8, 16, 32, 64, 64, 64] {
            let pause = Duration::from_secs(seconds);
            assert_eq!(attempts.begin(ADA, now), Err(pause));
            // Whoever asks too early does not have to wait longer for that.
            assert_eq!(attempts.begin(ADA, now + pause / 2), Err(pause / 2));
            assert_eq!(attempts.begin("eve@example.org", now), Ok(()), "others need not wait");
            attempts.right("eve@example.org");
            now += pause;
            assert_eq!(attempts.begin(ADA, now), Ok(()));
        }
    }

    #[test]
    fn the_right_password_and_time_make_good() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let mistakes = |now| (0..FREE).for_each(|_| attempts.begin(ADA, now).unwrap());
        mistakes(now);
        attempts.right(ADA);
        mistakes(now);
        assert!(attempts.begin(ADA, now).is_err());
        mistakes(now + FORGOTTEN);
    }

    #[test]
    fn only_so_many_accounts_are_remembered_and_the_oldest_goes_first() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for at in 0..=ACCOUNTS {
            attempts.begin(&at.to_string(), now + Duration::from_millis(at as u64)).unwrap();
        }
        let mistakes = attempts.mistakes.lock().unwrap();
        assert_eq!(mistakes.len(), ACCOUNTS);
        assert!(!mistakes.contains_key("0") && mistakes.contains_key("1"));
    }
}
