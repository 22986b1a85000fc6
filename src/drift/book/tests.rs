//! Opponents that undo every heal, and heals that are refused.

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
fn what_was_not_told_since_its_heal_was_not_begun_is_news_again_once() {
    let (mut book, now, key) = (Book::default(), Instant::now(), found("a").key);
    book.not_reached(&key); // Nothing is known of it.
    assert!(book.found(&found("a"), now).news);
    book.not_reached(&key);
    assert!(book.found(&found("a"), now).news);
    assert!(!book.found(&found("a"), now).news);
    // Once it stands again there is nothing to be told.
    book.not_reached(&key);
    book.stands(&key);
    book.found(&found("a"), now);
    assert!(!book.found(&found("a"), now).news);
    assert_eq!(book.fights().count(), 0, "it was healed by nobody");
}

/// An object that is gone while its watch lags, or whose version is served no more: what is known of it asks for a heal, which finds nothing to write.
#[test]
fn a_heal_that_found_nothing_is_tried_after_pauses_that_grow_and_is_no_failure_to_tell() {
    let (mut book, start, key) = (Book::default(), Instant::now(), found("a").key);
    let (mut now, mut rounds) = (start, 0);
    while now < start + Duration::from_secs(60) {
        assert_eq!(book.found(&found("a"), now), Advice { news: true, heal: true }, "nobody was told before");
        book.found_nothing(&key, now, 1.0);
        rounds += 1;
        assert!(book.waits(&key, now), "whatever happens to it meanwhile");
        now = book.next_at().expect("a heal that waits has a time");
        assert_eq!(book.take_due(now), std::slice::from_ref(&key));
    }
    assert!((3..=8).contains(&rounds), "{rounds}");
    assert!(book.failed(&key, now, true, 1.0), "that it can't be put back is news");
    assert_eq!(book.fights().count(), 0);
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

#[test]
fn a_refused_heal_is_tried_after_pauses_that_grow_however_often_somebody_writes() {
    let (mut book, start, key) = (Book::default(), Instant::now(), found("a").key);
    let (mut heals, mut told) = (0, 0);
    for millisecond in 0..60_000 {
        let now = start + Duration::from_millis(millisecond);
        if book.waits(&key, now) {
            continue;
        }
        if book.found(&found("a"), now).heal {
            heals += 1;
            told += u32::from(book.failed(&key, now, false, 1.0));
        }
    }
    assert_eq!((heals, told), (7, 1));
    assert_eq!(book.fights().count(), 0, "nothing was healed");
    // Undone by somebody and done again meanwhile it is another drift, and no other matter.
    let now = start + Duration::from_secs(60);
    book.stands(&key);
    assert!(!book.found(&found("a"), now).heal);
    let later = book.next_at().unwrap();
    assert_eq!(book.take_due(later), std::slice::from_ref(&key));
    assert!(book.found(&found("a"), later).heal && book.failed(&key, later, false, 1.0), "a new drift is told");
    // What comes to git, or the end of what was in the way, is not kept waiting.
    book.try_anew();
    assert!(!book.waits(&key, later) && book.found(&found("a"), later).heal);
    book.healed(&key, later);
    assert!(book.found(&found("a"), later).heal);
}

#[test]
fn a_failure_that_passes_wakes_and_one_that_lasts_does_not_unless_something_changes() {
    let (mut book, now, key) = (Book::default(), Instant::now(), found("a").key);
    book.found(&found("a"), now);
    book.failed(&key, now, true, 1.0);
    assert_eq!(book.next_at(), Some(now + FIRST_RETRY));
    let now = now + FIRST_RETRY;
    assert_eq!(book.take_due(now), std::slice::from_ref(&key));
    assert!(book.found(&found("a"), now).heal);
    book.failed(&key, now, false, 1.0);
    assert_eq!(book.next_at(), None);
    assert!(book.waits(&key, now));
    assert_eq!(book.next_at(), Some(now + 2 * FIRST_RETRY));
}

/// The failure of one is not the failure of another.
#[test]
fn each_drift_that_cannot_be_put_back_is_told_once() {
    let (mut book, now) = (Book::default(), Instant::now());
    for name in ["a", "b"] {
        book.found(&found(name), now);
        let told: Vec<bool> = (0..3).map(|_| book.failed(&found(name).key, now, true, 1.0)).collect();
        assert_eq!(told, [true, false, false], "{name}");
    }
    let other = Found { class: Class::Deleted, ..found("a") };
    book.found(&other, now);
    assert!(book.failed(&other.key, now, true, 1.0), "something else happened to it");
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
