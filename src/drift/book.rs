//! The drifts of one environment: what differs at this moment, and how long somebody who undoes our heals again and again is waited for.
//!
//! An object that drifts for the first time is put back at once. One whose same fields drift again soon after a heal is fought over: after a few heals
//! the pause between them doubles each time, so that two writers that disagree never become a storm of requests. Other fields of it are another
//! matter: each has its first heals at once, and there are only so many. A heal that fails is followed by a pause that grows too, whatever happens to the object
//! meanwhile: who may keep us from writing may also write all the time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::fields::FieldSet;
use super::fingerprint::{Class, Found};
use crate::model::ObjectKey;

/// So many heals of an object come without a pause.
const FREE: u32 = 3;
/// The first pause; it doubles with each heal.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// The first pause after a heal that failed; it doubles with each.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// The longest of them.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// A heal that holds for this long, and for twice its pause, is the end of a fight.
const CALM: Duration = Duration::from_secs(60);

/// The drifts of one environment.
#[derive(Debug, Default)]
pub struct Book {
    objects: HashMap<ObjectKey, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    /// How it differs now.
    open: Option<Found>,
    /// People were told of that by itself.
    told: bool,
    /// They were to be told of it with its heal, which was not begun.
    untold: bool,
    /// A heal has said that it is fought over.
    fight_told: bool,
    /// What happened to it last.
    last: Option<Class>,
    /// Heals in a row that did not hold.
    streak: u32,
    /// The fields that drifted since it was last calm.
    seen: FieldSet,
    /// Those of them that drifted again.
    again: FieldSet,
    healed: Option<Instant>,
    /// It is not healed before, and then looked at again.
    paused: Option<Instant>,
    /// Heals in a row that failed.
    failures: u32,
    /// It is not healed before, for the last heal failed.
    refused: Option<Instant>,
    /// The drift whose heal failed, as people know.
    failed_as: Option<Found>,
    /// Who wrote last, where that is recorded.
    opponent: Option<String>,
}

/// What is to be done about a drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advice {
    /// It is not what was known of the object before: people are told.
    pub news: bool,
    /// It may be put back now; otherwise later, see [`Book::next_at`].
    pub heal: bool,
}

/// An object that somebody else keeps changing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fight<'a> {
    /// The object.
    pub key: &'a ObjectKey,
    /// What happens to it.
    pub class: Class,
    /// The fields that are fought over; none if it is the whole object.
    pub fields: &'a FieldSet,
    /// Heals that did not hold.
    pub heals: u32,
    /// The other writer.
    pub opponent: Option<&'a str>,
    /// The pause before the next heal.
    pub pause: Duration,
}

impl Entry {
    fn pause(&self) -> Duration {
        match (self.streak + 1).checked_sub(FREE) {
            None => Duration::ZERO,
            Some(more) => FIRST_PAUSE.saturating_mul(1 << more.min(20)).min(LONGEST_PAUSE),
        }
    }

    /// The pauses that followed the heal before this drift, and the heals of it that failed, are over.
    fn may_heal_at(&self) -> Option<Instant> {
        let before = Self { streak: self.streak.saturating_sub(1), ..Self::default() };
        self.healed.map(|healed| healed + before.pause()).max(self.refused)
    }

    /// A drift before does not hold.
    fn held_at(&self) -> Option<Instant> {
        self.healed.map(|healed| healed + CALM.max(self.pause() * 2))
    }

    /// There is nothing to be remembered any more.
    fn calm_at(&self) -> Option<Instant> {
        self.held_at().max(self.refused.map(|refused| refused + CALM))
    }

    fn is_fight(&self) -> bool {
        self.streak >= FREE
    }

    /// A heal came to nothing: the next one waits, each time for longer.
    fn refuse(&mut self, now: Instant, passes: bool, spread: f64) {
        let pause = FIRST_RETRY.saturating_mul(1 << self.failures.min(20)).min(LONGEST_RETRY).mul_f64(spread);
        self.failures = self.failures.saturating_add(1);
        self.refused = Some(now + pause);
        // Nobody need be woken for what does not pass, unless something changes.
        self.paused = self.refused.filter(|_| passes);
    }

    /// Whether these fields drifted before. Where no field is more to blame than another, it is the object that did.
    fn knows(&self, paths: &FieldSet) -> bool {
        paths.is_empty() || self.seen.is_empty() || paths.touches(&self.seen)
    }
}

impl Book {
    /// An object was found to differ.
    pub fn found(&mut self, found: &Found, now: Instant) -> Advice {
        let entry = self.objects.entry(found.key.clone()).or_default();
        let news = std::mem::take(&mut entry.untold) || entry.open.as_ref() != Some(found);
        if entry.open.is_none() {
            // The time at which a fight would have ended decides, whether or not somebody looked at that moment.
            let again = entry.calm_at().is_some_and(|calm| now < calm);
            if !again {
                *entry = Entry::default();
            } else if entry.held_at().is_some_and(|held| now < held) && entry.knows(&found.paths) {
                entry.streak = entry.streak.saturating_add(1);
                entry.again = entry.again.union(&found.paths.intersection(&entry.seen));
            }
        }
        entry.seen = entry.seen.union(&found.paths);
        (entry.open, entry.last) = (Some(found.clone()), Some(found.class));
        entry.paused = entry.may_heal_at().filter(|at| *at > now);
        Advice { news, heal: entry.paused.is_none() }
    }

    /// Whether an object is known to differ and waits for its next heal: there is nothing to be done about it before. What changed since its heal was
    /// refused is looked at then.
    pub fn waits(&mut self, key: &ObjectKey, now: Instant) -> bool {
        let Some(entry) = self.objects.get_mut(key).filter(|entry| entry.open.is_some()) else { return false };
        entry.paused = entry.paused.max(entry.refused).filter(|at| *at > now);
        entry.paused.is_some()
    }

    /// Who wrote the object that differs.
    pub fn by(&mut self, key: &ObjectKey, opponent: Option<&str>) {
        if let (Some(entry), Some(opponent)) = (self.objects.get_mut(key), opponent) {
            entry.opponent = Some(opponent.to_owned());
        }
    }

    /// People were told by itself that the object differs.
    pub fn told(&mut self, key: &ObjectKey) {
        if let Some(entry) = self.objects.get_mut(key).filter(|entry| entry.open.is_some()) {
            entry.told = true;
        }
    }

    /// An object was put back. True: it is fought over from now on.
    pub fn healed(&mut self, key: &ObjectKey, now: Instant) -> bool {
        let Some(entry) = self.objects.get_mut(key) else { return false };
        (entry.open, entry.told, entry.healed, entry.paused) = (None, false, Some(now), None);
        (entry.failures, entry.refused, entry.failed_as, entry.untold) = (0, None, None, false);
        // Not at one number of heals alone: what was put right by somebody else in between counted too.
        entry.is_fight() && !std::mem::replace(&mut entry.fight_told, true)
    }

    /// A heal of an object was not begun: whoever finds it next tells what it would have told.
    pub fn not_reached(&mut self, key: &ObjectKey) {
        if let Some(entry) = self.objects.get_mut(key).filter(|entry| entry.open.is_some()) {
            entry.untold = true;
        }
    }

    /// A heal of an object failed, in a way that passes by itself or not; `spread` keeps many environments from trying again at once. True: people don't know yet
    /// that this drift can't be put back.
    pub fn failed(&mut self, key: &ObjectKey, now: Instant, passes: bool, spread: f64) -> bool {
        let Some(entry) = self.objects.get_mut(key) else { return false };
        entry.refuse(now, passes, spread);
        let news = entry.failed_as != entry.open;
        entry.failed_as.clone_from(&entry.open);
        news
    }

    /// A heal of an object found nothing to write, although what is known of the object asks for it. That may last, so the next one comes after a pause as if it
    /// had failed; it is no failure to tell, and whoever finds the object next tells what this heal would have told.
    pub fn found_nothing(&mut self, key: &ObjectKey, now: Instant, spread: f64) {
        if let Some(entry) = self.objects.get_mut(key) {
            entry.refuse(now, true, spread);
        }
        self.not_reached(key);
    }

    /// What failed may go well now: git or the definition changed.
    pub fn try_anew(&mut self) {
        self.objects.values_mut().for_each(|entry| {
            if entry.refused.take().is_some() {
                entry.paused = None;
            }
        });
    }

    /// An object turned out to be as it should be, without a heal. True: people were told that it was not, and are told that this is over.
    pub fn stands(&mut self, key: &ObjectKey) -> bool {
        let Some(entry) = self.objects.get_mut(key) else { return false };
        (entry.open, entry.paused, entry.failed_as, entry.untold) = (None, None, None, false);
        let over = std::mem::take(&mut entry.told);
        if entry.healed.is_none() && entry.refused.is_none() {
            self.objects.remove(key);
        }
        over
    }

    /// Objects that are no longer asked for are no longer looked after.
    pub fn retain(&mut self, wanted: impl Fn(&ObjectKey) -> bool) {
        self.objects.retain(|key, _| wanted(key));
    }

    /// Ends the fights that are over, and forgets refusals. True if one was.
    pub fn calm(&mut self, now: Instant) -> bool {
        let fights = self.fights().count();
        self.objects.retain(|_, entry| entry.open.is_some() || entry.calm_at().is_some_and(|calm| now < calm));
        self.fights().count() != fights
    }

    /// The objects that waited for their next heal, and need wait no longer. Each is named once: it is to be looked at again.
    pub fn take_due(&mut self, now: Instant) -> Vec<ObjectKey> {
        let due = self.objects.iter_mut().filter_map(|(key, entry)| entry.paused.take_if(|at| *at <= now).map(|_| key));
        due.cloned().collect()
    }

    /// When [`Self::take_due`] or [`Self::calm`] has something new to say.
    pub fn next_at(&self) -> Option<Instant> {
        let calm = self.objects.values().filter(|entry| entry.open.is_none()).filter_map(Entry::calm_at);
        self.objects.values().filter_map(|entry| entry.paused).chain(calm).min()
    }

    /// What differs at this moment.
    pub fn open(&self) -> impl Iterator<Item = &Found> {
        self.objects.values().filter_map(|entry| entry.open.as_ref())
    }

    /// What is fought over at this moment.
    pub fn fights(&self) -> impl Iterator<Item = Fight<'_>> {
        self.objects.iter().filter(|(_, entry)| entry.is_fight()).map(|(key, entry)| Fight {
            key,
            class: entry.last.unwrap_or(Class::ValueChanged),
            fields: &entry.again,
            heals: entry.streak,
            opponent: entry.opponent.as_deref(),
            pause: entry.pause(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test has a clock")]
mod tests;
