//! A drift in words: which fields, what git wants, what the cluster has, and who wrote it, as far as the API server recorded that.

use serde_json::Value;

use super::fields::{self, FieldSet, lookup};
use super::fingerprint::{Class, Found, label};
use crate::model::secret::{MASK, sounds_secret};
use crate::model::{Manifest, ObjectKey, mask};

mod writer;

pub use writer::Owner;
use writer::foreign;

/// Values are cut after this many characters.
const LONGEST: usize = 100;
/// What stands for a value that is not there.
const ABSENT: &str = "(absent)";
/// What stands for more than a value that others added.
const ADDED: &str = "(added)";

/// A drift, ready to be told. No secret value is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The object.
    pub key: ObjectKey,
    /// What happened to it.
    pub class: Class,
    /// The fields, in the order of their paths.
    pub fields: Vec<Field>,
    /// Who wrote it: a field manager, with the subresource it wrote through (`kubectl/scale`). A tool's name, never a user's. `None`: not recorded.
    pub manager: Option<String>,
    /// When that manager last wrote, in seconds since the epoch, where it is recorded.
    pub since: Option<i64>,
    /// All values are git's again: only somebody else has written them. Nothing to tell.
    pub values_stand: bool,
    /// They may be, or may not: the object has more or less than git says, which defaults may account for. What an apply would make of it tells.
    pub unsure: bool,
    /// What others put into fields that git has empty: the API server keeps no such field, and gives it to whoever fills it.
    pub added: FieldSet,
    /// It was not read, since it is one of too many at once.
    pub one_of_many: bool,
}

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its path.
    pub path: String,
    /// What git asks for.
    pub want: String,
    /// What the cluster has.
    pub live: String,
}

impl Drift {
    /// A drift of which nothing more is known.
    pub fn undescribed(found: &Found) -> Self {
        Self {
            key: found.key.clone(),
            class: found.class,
            fields: Vec::new(),
            manager: None,
            since: None,
            values_stand: false,
            unsure: false,
            added: FieldSet::default(),
            one_of_many: false,
        }
    }

    /// The same of one of too many at once to read each object.
    pub fn one_of_many(found: &Found) -> Self {
        Self { one_of_many: true, ..Self::undescribed(found) }
    }

    /// Describes a drift from the object as it is now; `None`: it does not stand.
    pub fn describe(found: &Found, manifest: &Manifest, live: Option<&Value>, owner: &Owner<'_>) -> Self {
        let mut drift = Self::undescribed(found);
        let Some(live) = live.filter(|_| found.class != Class::Deleted) else { return drift };
        let want: Value = serde_json::from_str(manifest.json.get()).unwrap_or_default();
        let hides = is_secret(manifest);
        let writer = match found.class {
            Class::OwnershipLost => owner.writer(&label(), live),
            _ => owner.writer(&found.paths, live),
        };
        if found.paths.is_empty() {
            differences("", &want, live, &mut |path, want, live| {
                drift.fields.push(field(path.to_owned(), Some(want), live, hides));
            });
        } else {
            let fields = found.paths.lookup(&want, live);
            let stands = |found: &lookup::Found<'_>| match (found.one, found.other, found.times) {
                (Some(want), Some(live), 1) => covers(want, live),
                _ => false,
            };
            drift.values_stand = fields.iter().all(stands);
            let gone = |found: &lookup::Found<'_>| found.one.is_some_and(fields::is_empty) && found.other.is_none();
            let alike = fields.iter().all(|found| found.one == found.other);
            drift.unsure =
                drift.class == Class::ValueChanged && !alike && fields.iter().all(|found| stands(found) || gone(found));
            let told = fields.into_iter().filter(|found| !stands(found));
            drift.fields = told
                .map(|found| match found.times {
                    // What is in it has not been git's, and nobody has looked at it for secrets.
                    _ if found.one.is_none() && found.other.is_some_and(|live| live.is_object() || live.is_array()) => {
                        Field { live: ADDED.to_owned(), ..field(found.path, found.one, None, hides) }
                    }
                    0 | 1 => field(found.path, found.one, found.other, hides),
                    times => {
                        Field { live: format!("(there {times} times)"), ..field(found.path, found.one, None, hides) }
                    }
                })
                .collect();
        }
        (drift.manager, drift.since) = writer.unwrap_or_default();
        drift
    }

    /// Describes a drift of which the values alone don't tell, by what an apply would make of the object.
    pub fn compared(found: &Found, manifest: &Manifest, live: &Value, applied: &Value, owner: &Owner<'_>) -> Self {
        let want: Value = serde_json::from_str(manifest.json.get()).unwrap_or_default();
        let (differing, mut drift) = (found.paths.differing(live, applied), Self::undescribed(found));
        (drift.manager, drift.since) = owner.writer(&found.paths, live).unwrap_or_default();
        drift.values_stand = differing.is_empty();
        if drift.values_stand {
            let empty = found.paths.empty_in(&want);
            let others = foreign(live).map(|(_, fields)| fields.under(&empty));
            drift.added = others.fold(FieldSet::default(), |all, fields| all.union(&fields));
        }
        let fields = differing.lookup(&want, live).into_iter();
        let hides = is_secret(manifest);
        drift.fields = fields.map(|found| field(found.path, found.one, found.other, hides)).collect();
        drift
    }
}

/// Whether no value of an object is to be shown. They are compared all the same.
fn is_secret(manifest: &Manifest) -> bool {
    manifest.key.kind.is("", "Secret")
}

fn field(path: String, want: Option<&Value>, live: Option<&Value>, hides: bool) -> Field {
    let hides = hides || sounds_secret(&path);
    Field { want: shown(want, hides), live: shown(live, hides), path }
}

fn shown(value: Option<&Value>, hides: bool) -> String {
    let text = match value {
        None => return ABSENT.to_owned(),
        Some(_) if hides => return MASK.to_owned(),
        Some(Value::String(text)) => mask::masked_text(text),
        Some(other) => mask::masked(other).to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// The values of `want` that `live` does not have. Where an item of a list is can't be told without the schema, so a list is compared as a whole.
fn differences<'a>(
    parent: &str,
    want: &'a Value,
    live: &'a Value,
    each: &mut impl FnMut(&str, &'a Value, Option<&'a Value>),
) {
    let (Value::Object(want), Value::Object(have)) = (want, live) else { return };
    for (name, want) in want {
        if parent.is_empty() && matches!(name.as_str(), "apiVersion" | "kind") {
            continue;
        }
        let path = fields::below(parent, name);
        match (want, have.get(name)) {
            (Value::Object(_), Some(live @ Value::Object(_))) => differences(&path, want, live, each),
            (want, live) if live.is_none_or(|live| !covers(want, live)) => each(&path, want, live),
            _ => {}
        }
    }
}

/// Whether all that `want` says is in `live`: defaults that the API server added are no difference.
fn covers(want: &Value, live: &Value) -> bool {
    match (want, live) {
        (Value::Object(want), Value::Object(live)) => {
            want.iter().all(|(name, want)| live.get(name).is_some_and(|live| covers(want, live)))
        }
        (Value::Array(want), Value::Array(live)) => {
            want.len() == live.len() && want.iter().zip(live).all(|(want, live)| covers(want, live))
        }
        _ => want == live,
    }
}

#[cfg(test)]
mod tests;
