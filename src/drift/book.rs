//! The drifts of one environment: what differs at this moment, and how long somebody who undoes our heals again and again is waited for.
//!
//! An object that drifts for the first time is put back at once. One whose same fields drift again soon after a heal is fought over: after a few heals
//! the pause between them doubles each time, so that two writers that disagree never become a storm of requests. Other fields of it are another
//! matter: each has its first heals at once, and there are only so many.

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
    /// It is not healed before.
    paused: Option<Instant>,
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

    /// The pause that followed the heal before this drift is over.
    fn may_heal_at(&self) -> Option<Instant> {
        let before = Self { streak: self.streak.saturating_sub(1), ..Self::default() };
        self.healed.map(|healed| healed + before.pause())
    }

    fn calm_at(&self) -> Option<Instant> {
        self.healed.map(|healed| healed + CALM.max(self.pause() * 2))
    }

    fn is_fight(&self) -> bool {
        self.streak >= FREE
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
        let news = entry.open.as_ref() != Some(found);
        if entry.open.is_none() {
            // The time at which a fight would have ended decides, whether or not somebody looked at that moment.
            let again = entry.calm_at().is_some_and(|calm| now < calm);
            if !again {
                *entry = Entry::default();
            } else if entry.knows(&found.paths) {
                entry.streak = entry.streak.saturating_add(1);
                entry.again = entry.again.union(&found.paths.intersection(&entry.seen));
            }
        }
        entry.seen = entry.seen.union(&found.paths);
        (entry.open, entry.last) = (Some(found.clone()), Some(found.class));
        entry.paused = entry.may_heal_at().filter(|at| *at > now);
        Advice { news, heal: entry.paused.is_none() }
    }

    /// Whether an object is known to differ and waits for its next heal: there is nothing to be done about it before.
    pub fn waits(&self, key: &ObjectKey, now: Instant) -> bool {
        self.objects.get(key).is_some_and(|entry| entry.open.is_some() && entry.paused.is_some_and(|at| at > now))
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
        // Not at one number of heals alone: what was put right by somebody else in between counted too.
        entry.is_fight() && !std::mem::replace(&mut entry.fight_told, true)
    }

    /// An object turned out to be as it should be, without a heal. True: people were told that it was not, and are told that this is over.
    pub fn stands(&mut self, key: &ObjectKey) -> bool {
        let Some(entry) = self.objects.get_mut(key) else { return false };
        (entry.open, entry.paused) = (None, None);
        let over = std::mem::take(&mut entry.told);
        if entry.healed.is_none() {
            self.objects.remove(key);
        }
        over
    }

    /// Objects that are no longer asked for are no longer looked after.
    pub fn retain(&mut self, wanted: impl Fn(&ObjectKey) -> bool) {
        self.objects.retain(|key, _| wanted(key));
    }

    /// Ends the fights that are over. True if one was.
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn found(name: &str) -> Found {
        let key = ObjectKey::new("", "ConfigMap", "n", name);
        Found::whole(key, Class::ValueChanged)
    }

    /// An opponent that undoes every heal `delay` after it; the heals at their times.
    fn fight(book: &mut Book, start: Instant, until: Duration, delay: Duration) -> Vec<Duration> {
        let (mut now, mut heals) = (start, Vec::new());
        while now < start + until {
            if !book.found(&found("a"), now).heal {
                now = book.next_at().expect("a heal that waits has a time");
                assert_eq!(book.take_due(now), [found("a").key]);
                continue;
            }
            heals.push(now - start);
            book.healed(&found("a").key, now);
            now += delay;
        }
        heals
    }

    #[test]
    fn the_first_drifts_are_healed_at_once_and_a_fight_backs_off() {
        let (mut book, start) = (Book::default(), Instant::now());
        let heals = fight(&mut book, start, Duration::from_secs(60), Duration::from_millis(1));
        assert!(heals.len() <= 10, "{heals:?}");
        assert!(heals[2] < Duration::from_secs(1) && heals[3] > Duration::from_secs(1), "{heals:?}");
        let fights: Vec<_> = book.fights().collect();
        assert_eq!(fights.len(), 1);
    }

    #[test]
    fn a_fight_is_told_once_and_over_when_a_heal_holds() {
        let (mut book, start) = (Book::default(), Instant::now());
        let (mut now, mut told) = (start, 0);
        for _ in 0..6 {
            book.found(&found("a"), now);
            book.by(&found("a").key, Some("kubectl-edit"));
            if !book.found(&found("a"), now).heal {
                now = book.next_at().unwrap();
                assert!(book.found(&found("a"), now).heal);
            }
            told += u32::from(book.healed(&found("a").key, now));
            now += Duration::from_millis(5);
        }
        assert_eq!(told, 1);
        assert_eq!(book.fights().next().and_then(|fight| fight.opponent), Some("kubectl-edit"));
        assert!(!book.calm(now + Duration::from_secs(30)));
        assert!(book.calm(now + Duration::from_secs(300)));
        assert_eq!((book.fights().count(), book.next_at()), (0, None));
    }

    #[test]
    fn a_fight_is_told_although_the_drift_that_made_it_one_ended_without_a_heal() {
        let (mut book, now, key) = (Book::default(), Instant::now(), found("a").key);
        let heal = |book: &mut Book| {
            book.found(&found("a"), now);
            book.healed(&key, now)
        };
        assert_eq!([(); 3].map(|()| heal(&mut book)), [false; 3]);
        book.found(&found("a"), now);
        book.stands(&key);
        assert!(heal(&mut book));
        assert!(!heal(&mut book), "once");
    }

    fn in_fields(fields: serde_json::Value) -> Found {
        Found { paths: FieldSet::from_value(&fields).unwrap(), ..found("a") }
    }

    /// Finds and heals; whether it is a fight now.
    fn drifts(book: &mut Book, found: &Found, now: Instant) -> bool {
        book.found(found, now);
        book.healed(&found.key, now);
        book.fights().next().is_some()
    }

    #[test]
    fn many_fields_once_are_no_fight_and_one_field_often_is() {
        let (mut book, mut now) = (Book::default(), Instant::now());
        let field = |name: &str| in_fields(json!({"f:data": {format!("f:{name}"): {}}}));
        for name in ["p", "q", "r", "s", "t", "u"] {
            assert!(!drifts(&mut book, &field(name), now), "{name}");
            now += Duration::from_secs(1);
        }
        let often: Vec<bool> = (0..4).map(|_| drifts(&mut book, &field("r"), now)).collect();
        assert_eq!(often, [false, false, true, true]);
        assert_eq!(book.fights().next().unwrap().fields.paths(), ["data.r"]);
        // Changed below, or taken out whole, is the same place.
        let (mut book, whole) = (Book::default(), in_fields(json!({"f:data": {}})));
        let either = [field("p"), whole.clone(), field("q"), whole].map(|found| drifts(&mut book, &found, now));
        assert_eq!(either, [false, false, false, true]);
        // Deleted in between is no other matter.
        let mut book = Book::default();
        let mixed = [field("p"), found("a"), field("p"), found("a")].map(|found| drifts(&mut book, &found, now));
        assert_eq!(mixed, [false, false, false, true]);
    }

    #[test]
    fn the_same_drift_is_news_once() {
        let (mut book, now) = (Book::default(), Instant::now());
        assert_eq!(book.found(&found("a"), now), Advice { news: true, heal: true });
        assert_eq!(book.found(&found("a"), now), Advice { news: false, heal: true });
        let worse = Found { class: Class::Deleted, ..found("a") };
        assert!(book.found(&worse, now).news);
        assert_eq!(book.open().count(), 1);
        book.stands(&found("a").key);
        assert_eq!(book.open().count(), 0);
    }

    #[test]
    fn the_end_of_a_drift_is_told_if_the_drift_was() {
        let (mut book, now, key) = (Book::default(), Instant::now(), found("a").key);
        book.told(&key);
        assert!(!book.stands(&key), "nothing differed");
        book.found(&found("a"), now);
        assert!(!book.stands(&key), "nobody was told");
        book.found(&found("a"), now);
        book.told(&key);
        assert!(book.stands(&key));
        assert!(!book.stands(&key), "once");
        book.found(&found("a"), now);
        book.told(&key);
        book.healed(&key, now);
        assert!(!book.stands(&key), "a heal was told");
        book.told(&key);
        book.found(&found("a"), now);
        assert!(!book.stands(&key), "told of the heal before");
    }

    #[test]
    fn a_change_now_and_then_is_no_fight() {
        let (mut book, start) = (Book::default(), Instant::now());
        let heals = fight(&mut book, start, Duration::from_secs(3600), Duration::from_secs(90));
        assert_eq!(heals.len(), 40);
        assert_eq!(book.fights().count(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
        /// Whatever the opponents do: heals are bounded, nothing waits for ever, and no timer fires for nothing.
        #[test]
        fn heals_are_bounded_and_nothing_is_forgotten(writes in prop::collection::vec((0u64..4000, 0usize..3), 1..300)) {
            let (mut book, start) = (Book::default(), Instant::now());
            let (mut now, mut heals) = (start, HashMap::<usize, Vec<Instant>>::new());
            let mut differs = [false; 3];
            let names = ["a", "b", "c"];
            let heal = |book: &mut Book, which: usize, now: Instant, heals: &mut HashMap<usize, Vec<Instant>>, differs: &mut [bool; 3]| {
                if differs[which] && book.found(&found(names[which]), now).heal {
                    book.healed(&found(names[which]).key, now);
                    heals.entry(which).or_default().push(now);
                    differs[which] = false;
                }
            };
            for (wait, which) in writes {
                let until = now + Duration::from_millis(wait);
                while let Some(at) = book.next_at().filter(|at| *at <= until) {
                    now = now.max(at);
                    for key in book.take_due(now) {
                        heal(&mut book, names.iter().position(|name| **name == *key.name).unwrap(), now, &mut heals, &mut differs);
                    }
                    book.calm(now);
                    prop_assert!(book.next_at().is_none_or(|next| next > now), "a timer that fires again at once");
                }
                now = until;
                differs[which] = true;
                heal(&mut book, which, now, &mut heals, &mut differs);
            }
            for times in heals.values() {
                for (index, first) in times.iter().enumerate() {
                    let within = times[index..].iter().filter(|at| **at - *first < Duration::from_secs(60)).count();
                    prop_assert!(within <= 10, "{within} heals in a minute");
                }
            }
            // Nobody writes any more: all is healed in the end, and the book is closed.
            while let Some(at) = book.next_at() {
                now = at;
                for key in book.take_due(now) {
                    heal(&mut book, names.iter().position(|name| **name == *key.name).unwrap(), now, &mut heals, &mut differs);
                }
                book.calm(now);
            }
            prop_assert_eq!(differs, [false; 3]);
            prop_assert_eq!(book.open().count() + book.fights().count(), 0);
        }
    }
}
