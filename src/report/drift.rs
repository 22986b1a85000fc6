//! What people are told of drift: the log lines, the Events on the objects, and how the environment stands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tracing::field::{DisplayValue, display};
use tracing::{info, warn};

use super::crowd::Alike;
use super::log::took;
use crate::cluster::events::Event;
use crate::drift::book::{Book, Fight};
use crate::drift::describe::{Drift, Field};
use crate::drift::fingerprint::{Class, Found};

/// Of many fields of one object so many are told each in a line of its own.
const FIELDS: usize = 5;
/// Of many objects so many are named in a message.
const NAMED: usize = 5;

/// What was done about a drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// git's values are back.
    Reverted,
    /// The object stands again.
    Created,
    /// It could not be put back.
    Failed,
    /// It is being deleted, and made again when it is gone.
    Waiting,
    /// A new commit is on its way, which puts it back.
    LeftToCommit,
    /// Others added it, and the definition does not say `foreignAdditions: revert`.
    Kept,
    /// The definition says `selfHeal: false`.
    Reported,
    /// The environment is suspended.
    Suspended,
}

impl Action {
    /// The word used in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reverted => "reverted",
            Self::Created => "created",
            Self::Failed => "failed",
            Self::Waiting => "waiting",
            Self::LeftToCommit => "left",
            Self::Kept => "kept",
            Self::Reported => "reported",
            Self::Suspended => "suspended",
        }
    }

    /// The words used in logs and Events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reverted => "reverted",
            Self::Created => "created",
            Self::Failed => "failed",
            Self::Waiting => "waiting until it is gone",
            Self::LeftToCommit => "left to the new commit",
            Self::Kept => "none, foreignAdditions is report",
            Self::Reported => "none, selfHeal is false",
            Self::Suspended => "none, suspended",
        }
    }
}

/// How a drift was noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noticed {
    /// As it happened.
    Watch,
    /// At the start: it happened while plumb was away.
    Start,
    /// By a resync: the ownership record did not show it.
    Resync,
}

impl Noticed {
    const fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Watch => None,
            Self::Start => Some("while plumb was away"),
            Self::Resync => Some("by the resync"),
        }
    }
}

/// Tells drifts and what was done about each, at this time in seconds since the epoch: a line for each field.
pub fn told(environment: &str, drifts: &[(Drift, Action)], noticed: Noticed, duration: Duration, now: i64) {
    let (noticed, took) = (noticed.as_str(), took(duration));
    drifts.iter().for_each(|(drift, action)| one(environment, drift, *action, noticed, &took, now));
}

/// What drifts that are told in one line have in common.
pub type Kind = (Class, Action, Noticed);

/// Tells a burst of drifts that are alike, in one line.
pub fn crowd(environment: &str, ((class, action, noticed), alike, duration): &(Kind, Alike, Duration)) {
    let (objects, examples) = (alike.objects, bare(&examples(alike)));
    let (action, noticed, took) = (bare(action.as_str()), noticed.as_str().map(bare), took(*duration));
    warn!(%environment, objects, %class, %action, noticed, %took, %examples, "drift");
}

fn examples(alike: &Alike) -> String {
    let examples: Vec<String> = alike.examples.iter().map(ToString::to_string).collect();
    match alike.objects.saturating_sub(examples.len()) {
        0 => examples.join(", "),
        more => format!("{}, and {more} more", examples.join(", ")),
    }
}

fn one(environment: &str, drift: &Drift, action: Action, noticed: Option<&str>, took: &str, now: i64) {
    let Drift { key: object, class, manager, .. } = drift;
    let (manager, action) = (bare(manager.as_deref().unwrap_or("unknown")), bare(action.as_str()));
    let noticed = noticed.map(bare);
    let age = drift.since.and_then(|since| u64::try_from(now - since).ok()).map(Duration::from_secs);
    let age = age.map(|age| display(humantime::format_duration(age)));
    if *class == Class::Deleted || drift.fields.is_empty() {
        warn!(%environment, %object, %class, %manager, age, %action, noticed, %took, "drift");
    }
    for Field { path, want, live } in drift.fields.iter().take(FIELDS) {
        let (want, live) = (bare(want), bare(live));
        warn!(%environment, %object, field = %path, %class, %want, %live, %manager, age, %action, noticed, %took, "drift");
    }
    if let Some(more) = drift.fields.len().checked_sub(FIELDS).filter(|more| *more > 0) {
        warn!(%environment, %object, %class, more, %manager, %action, "drift in more fields");
    }
}

/// A value as the log shows it: in quotes only where it would not be told from what follows.
fn bare(text: &str) -> DisplayValue<String> {
    let plain =
        !text.is_empty() && text.chars().all(|letter| !letter.is_whitespace() && !letter.is_control() && letter != '"');
    display(if plain { text.to_owned() } else { format!("{text:?}") })
}

/// A drift that ended without a heal.
pub fn over(environment: &str, object: &crate::model::ObjectKey) {
    info!(%environment, %object, "no longer drifted");
}

const HINT: &str = "let one of the two go: change git, or name the field under spec.ignore, or stop the other writer";

/// An object that somebody else changes again and again.
pub fn fight(environment: &str, fight: &Fight<'_>) {
    let Fight { key: object, class, heals, opponent, pause, .. } = *fight;
    let (opponent, pause) = (bare(opponent.unwrap_or("unknown")), humantime::format_duration(pause));
    let fields = contested_fields(fight).map(|fields| bare(&fields));
    warn!(%environment, %object, fields, %class, %opponent, heals, %pause, hint = HINT, "fight: every heal is undone; the pauses between heals grow");
}

/// What of the object is fought over; none where it is the whole object.
fn contested_fields(fight: &Fight<'_>) -> Option<String> {
    (!fight.fields.is_empty()).then(|| names(fight.fields.paths().into_iter()))
}

fn again_and_again(fight: &Fight<'_>) -> String {
    let done = if fight.class == Class::Deleted { "deleted" } else { "changed" };
    format!("{done} again and again by {}", fight.opponent.unwrap_or("an unknown writer"))
}

/// The Event on an object that is fought over.
pub fn fight_event(fight: &Fight<'_>) -> Event {
    let fields = contested_fields(fight).map(|fields| format!(": {fields}")).unwrap_or_default();
    let message = format!("{}{fields}; put back after growing pauses. {HINT}", again_and_again(fight));
    Event { warning: true, reason: "Contested", message }
}

/// Many such objects at once, in one line; with the opponents as far as they are known.
pub fn fights(environment: &str, alike: &Alike, opponents: &BTreeSet<&str>) {
    let (objects, examples) = (alike.objects, bare(&examples(alike)));
    let opponent =
        if opponents.is_empty() { "unknown".to_owned() } else { names(opponents.iter().map(ToString::to_string)) };
    let opponent = bare(&opponent);
    warn!(%environment, objects, %opponent, %examples, hint = HINT, "fight: every heal is undone; the pauses between heals grow");
}

/// The Event on the object.
pub fn event(drift: &Drift, action: Action) -> Event {
    let by = drift.manager.as_deref().map(|manager| format!(" by {manager}")).unwrap_or_default();
    let fields = drift.fields.iter().map(|field| format!("{}: want {}, was {}", field.path, field.want, field.live));
    let fields = if drift.fields.is_empty() { String::new() } else { format!(" {}", names(fields)) };
    let message = format!("{}{by}{fields}; {}", drift.class, action.as_str());
    Event { warning: true, reason: "Drift", message }
}

/// How an environment stands at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// What differs: the object and its fields, each in words.
    pub open: Vec<String>,
    /// How many objects that are.
    pub objects: usize,
    /// How many are of each class; an object may be of two.
    pub classes: BTreeMap<&'static str, i64>,
    /// What is fought over, each in words.
    pub fights: Vec<String>,
    /// Why nothing is put back.
    pub observed: Option<&'static str>,
}

impl Standing {
    /// As the books have it.
    pub fn of(books: [&Book; 2], observed: Option<&'static str>) -> Self {
        let (mut objects, mut classes) = (BTreeSet::new(), BTreeMap::new());
        for found in books.iter().flat_map(|book| book.open()) {
            objects.insert(&found.key);
            *classes.entry(found.class.as_str()).or_default() += 1;
        }
        let mut open: Vec<String> = books.iter().flat_map(|book| book.open()).map(words).collect();
        open.sort();
        let mut fights: Vec<String> = books
            .iter()
            .flat_map(|book| book.fights())
            .map(|fight| {
                let fields = contested_fields(&fight).map(|fields| format!(" ({fields})")).unwrap_or_default();
                format!("{}{fields} is {}", fight.key, again_and_again(&fight))
            })
            .collect();
        fights.sort();
        Self { open, objects: objects.len(), classes, fights, observed }
    }

    pub(super) fn contested(&self) -> String {
        names(self.fights.iter().cloned())
    }

    pub(super) fn condition(&self) -> (&'static str, &'static str, String) {
        if self.open.is_empty() {
            return ("False", "NoDrift", "all objects are as they were applied".to_owned());
        }
        let message = names(self.open.iter().cloned());
        let added = self.classes.keys().all(|class| *class == Class::ForeignAddition.as_str());
        let reason = if added { "ForeignAdditions" } else { "Drifted" };
        ("True", self.observed.unwrap_or(reason), message)
    }
}

fn words(found: &Found) -> String {
    let paths = found.paths.paths();
    if paths.is_empty() {
        format!("{} ({})", found.key, found.class)
    } else if found.class == Class::ForeignAddition {
        format!("{} (added: {})", found.key, names(paths.into_iter()))
    } else {
        format!("{} ({})", found.key, names(paths.into_iter()))
    }
}

/// The first few, and how many more there are.
fn names(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len().saturating_sub(NAMED);
    let first: Vec<String> = all.take(NAMED).collect();
    if more == 0 { first.join(", ") } else { format!("{}, and {more} more", first.join(", ")) }
}
