//! How often the API server is asked about an object of which the watch alone can't tell whether it is as it should be, and how often it is told
//! something.
//!
//! Somebody may write to an object many times a second without changing anything of ours. The first questions come at once, then the pause between them
//! doubles, so that such a writer costs a few requests a minute and no more.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::model::ObjectKey;

/// So many questions about an object come without a pause.
const FREE: u32 = 2;
/// The first pause; it doubles with each question.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// When each object was asked about.
#[derive(Debug, Default)]
pub struct Pace {
    asked: HashMap<ObjectKey, Asked>,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    in_a_row: u32,
    at: Instant,
}

impl Asked {
    fn pause(&self) -> Duration {
        match self.in_a_row.checked_sub(FREE) {
            None => Duration::ZERO,
            Some(more) => FIRST_PAUSE.saturating_mul(1 << more.min(10)).min(LONGEST_PAUSE),
        }
    }

    /// After so long without a question the next one is the first again.
    fn is_over(&self, now: Instant) -> bool {
        now >= self.at + (self.pause() * 2).max(FIRST_PAUSE * 2)
    }
}

impl Pace {
    /// Takes an object's turn to be asked about.
    ///
    /// # Errors
    /// When it has none yet: the time at which it has.
    pub fn ask(&mut self, key: &ObjectKey, now: Instant) -> Result<(), Instant> {
        self.asked.retain(|_, asked| !asked.is_over(now));
        let asked = self.asked.entry(key.clone()).or_insert(Asked { in_a_row: 0, at: now });
        let at = asked.at + asked.pause();
        if now < at {
            return Err(at);
        }
        *asked = Asked { in_a_row: asked.in_a_row.saturating_add(1), at: now };
        Ok(())
    }
}

/// Lets the first through at once, and each further one a second after the one before. What comes between is not queued: whoever is let in next tells how
/// it is then.
#[derive(Debug, Default)]
pub struct Throttle {
    last: Option<Instant>,
}

impl Throttle {
    /// Takes the turn.
    ///
    /// # Errors
    /// When it has not come yet: the time at which it comes.
    pub fn pass(&mut self, now: Instant) -> Result<(), Instant> {
        if let Some(at) = self.last.map(|last| last + FIRST_PAUSE).filter(|at| *at > now) {
            return Err(at);
        }
        self.last = Some(now);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test has a clock")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("", "ConfigMap", "n", name)
    }

    #[test]
    fn a_busy_writer_costs_a_few_questions_and_does_not_delay_those_about_others() {
        let (mut pace, start, mut asked) = (Pace::default(), Instant::now(), 0);
        for millisecond in 0..600_000 {
            asked += u32::from(pace.ask(&key("busy"), start + Duration::from_millis(millisecond)).is_ok());
        }
        assert!((10..=20).contains(&asked), "{asked}");
        let now = start + Duration::from_secs(600);
        assert!(pace.ask(&key("busy"), now).is_err());
        assert!(pace.ask(&key("other"), now).is_ok());
        assert!(pace.ask(&key("busy"), now + Duration::from_secs(120)).is_ok());
    }

    #[test]
    fn a_write_now_and_then_is_asked_about_at_once() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert!((0..100).all(|minute| pace.ask(&key("a"), start + Duration::from_secs(60 * minute)).is_ok()));
        assert_eq!(pace.asked.len(), 1);
    }

    /// A state that changes all the time, told as the task does it: at a change, or by the timer that the refusal named.
    fn tell(changes: &[Duration], start: Instant) -> (Vec<Instant>, bool) {
        let (mut throttle, mut timer, mut told, mut pending) =
            (Throttle::default(), None::<Instant>, Vec::new(), false);
        let mut look = |now: Instant, timer: &mut Option<Instant>, pending: &mut bool| match throttle.pass(now) {
            Ok(()) => {
                told.push(now);
                (*timer, *pending) = (None, false);
            }
            Err(at) => (*timer, *pending) = (Some(at), true),
        };
        for change in changes {
            while let Some(at) = timer.filter(|at| *at < start + *change) {
                look(at, &mut timer, &mut pending);
            }
            look(start + *change, &mut timer, &mut pending);
        }
        while let Some(at) = timer {
            look(at, &mut timer, &mut pending);
        }
        (told, pending)
    }

    #[test]
    fn the_first_is_told_at_once_and_ten_a_second_once_a_second() {
        let start = Instant::now();
        let changes: Vec<Duration> = (0..100).map(|tenth| Duration::from_millis(100 * tenth)).collect();
        let (told, pending) = tell(&changes, start);
        assert_eq!((told[0], told.len(), pending), (start, 11, false), "{told:?}");
    }

    proptest! {
        /// Never two within a second, and whatever came last is told, a second after it at the latest.
        #[test]
        fn what_is_told_is_bounded_and_the_last_is_never_lost(waits in prop::collection::vec(0u64..3000, 1..100)) {
            let (start, mut now) = (Instant::now(), Duration::ZERO);
            let changes: Vec<Duration> = waits.into_iter().map(|wait| { now += Duration::from_millis(wait); now }).collect();
            let (told, pending) = tell(&changes, start);
            prop_assert!(!pending);
            prop_assert!(told.windows(2).all(|pair| pair[1] - pair[0] >= FIRST_PAUSE));
            let last = *told.last().unwrap();
            prop_assert!(last >= start + now && last <= start + now + FIRST_PAUSE);
        }

        /// Whoever comes at the time that was named is let in, so nothing is put off twice.
        #[test]
        fn the_time_that_is_named_holds(writes in prop::collection::vec(0u64..90_000, 1..100)) {
            let (mut pace, mut now) = (Pace::default(), Instant::now());
            for wait in writes {
                now += Duration::from_millis(wait);
                if let Err(at) = pace.ask(&key("a"), now) {
                    prop_assert!(at > now && at <= now + LONGEST_PAUSE);
                    prop_assert!(pace.ask(&key("a"), at).is_ok());
                    now = at;
                }
            }
        }
    }
}
