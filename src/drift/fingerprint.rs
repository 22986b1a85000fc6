//! Is an object as we left it? Read off its metadata alone: identity, and the set of fields that the API server says our field manager owns.
//!
//! Any tracked write by somebody else that changes or removes a value of ours takes its path out of our entry (structured-merge-diff `merge/update.go`), so
//! the difference of two sets names what was changed, without a request.

use std::sync::Arc;

use super::fields::FieldSet;
use crate::model::live::ApplyEntry;
use crate::model::{Digest, Live, ObjectKey};

/// What is remembered of an object's last successful apply: what was sent, and the fingerprint of what the API server made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    /// The digest of the manifest that was sent.
    pub digest: Digest,
    /// `metadata.uid` in the answer.
    pub uid: Box<str>,
    /// The field set of our Apply entry in the answer.
    pub fields: Arc<str>,
    /// The time of that entry, in seconds since the epoch.
    pub time: Option<i64>,
}

impl Baseline {
    /// The baseline of an apply: what was sent, and the answer. `None` if the answer has no entry of this manager, which an apply of
    /// at least our label never gives.
    pub fn of(digest: Digest, answer: &Live, manager: &str) -> Option<Self> {
        let entry = answer.entry(manager)?;
        Some(Self { digest, uid: answer.uid.clone(), fields: Arc::clone(&entry.fields), time: entry.time })
    }

    /// Whether this entry is the one we left. Sets compare by meaning; text is compared first since it nearly always decides.
    pub fn matches(&self, entry: &ApplyEntry) -> bool {
        self.time == entry.time && (self.fields == entry.fields || same_set(&self.fields, &entry.fields))
    }
}

fn same_set(one: &str, other: &str) -> bool {
    match (FieldSet::parse(one), FieldSet::parse(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// The classes of drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// A field that git sets has another value, or is gone.
    ValueChanged,
    /// The object lost our label or our entry: nothing of it is marked as ours.
    OwnershipLost,
    /// The object was deleted, also if it was made again since.
    Deleted,
    /// Somebody added fields inside the object.
    ForeignAddition,
}

impl Class {
    /// The word used in logs, Events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ValueChanged => "value-changed",
            Self::OwnershipLost => "ownership-lost",
            Self::Deleted => "deleted",
            Self::ForeignAddition => "foreign-addition",
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An object that is not as we left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The object.
    pub key: ObjectKey,
    /// What happened to it.
    pub class: Class,
    /// The paths that left our entry, or were added by others; empty when only the values can tell.
    pub paths: FieldSet,
}

/// What metadata says of an object that we applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is as we left it.
    AsApplied,
    /// Our entry is whole, but somebody wrote in our name, or a write left no trace in it: only an apply can tell, and it changes nothing if nothing differs.
    Verify,
    /// It is being deleted: it is waited for.
    Terminating,
    /// It is not as we left it.
    Drifted(Class, FieldSet),
}

/// Compares an object with its baseline. `live` is `None` when it does not stand; `touched` says that it was written without a trace in its
/// `managedFields` (see [`Live::touched_since`]).
pub fn judge(baseline: &Baseline, live: Option<&Live>, manager: &str, part_of: &str, touched: bool) -> Verdict {
    let Some(live) = live.filter(|live| live.uid == baseline.uid) else {
        return Verdict::Drifted(Class::Deleted, FieldSet::default());
    };
    if live.terminating {
        return Verdict::Terminating;
    }
    let entry = live.entry(manager).filter(|_| live.part_of.as_deref() == Some(part_of));
    let Some(entry) = entry else { return Verdict::Drifted(Class::OwnershipLost, FieldSet::default()) };
    if entry.fields != baseline.fields {
        match (FieldSet::parse(&baseline.fields), FieldSet::parse(&entry.fields)) {
            (Ok(before), Ok(now)) if before == now => {}
            (Ok(before), Ok(now)) => {
                let lost = before.difference(&now);
                return if lost.is_empty() { Verdict::Verify } else { Verdict::Drifted(Class::ValueChanged, lost) };
            }
            _ => return Verdict::Verify,
        }
    }
    if touched || entry.time != baseline.time { Verdict::Verify } else { Verdict::AsApplied }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::live::ApplyEntry;

    const OURS: &str = r#"{"f:data":{"f:a":{},"f:b":{}},"f:metadata":{"f:labels":{"f:x":{}}}}"#;

    fn live(fields: &str) -> Live {
        Live {
            uid: "u".into(),
            part_of: Some("id".into()),
            applied: vec![ApplyEntry { manager: "plumb-dev".into(), fields: fields.into(), time: Some(7) }],
            ..Live::default()
        }
    }

    fn judged(live: Option<&Live>) -> Verdict {
        let baseline = Baseline::of(Digest::of(b"x"), &self::live(OURS), "plumb-dev").unwrap();
        judge(&baseline, live, "plumb-dev", "id", false)
    }

    #[test]
    fn what_stands_as_it_was_applied_is_no_drift_however_it_is_written() {
        assert_eq!(judged(Some(&live(OURS))), Verdict::AsApplied);
        let other_writing = r#"{"f:metadata":{"f:labels":{"f:x":{}}},"f:data":{"f:b":{},"f:a":{}}}"#;
        assert_eq!(judged(Some(&live(other_writing))), Verdict::AsApplied);
    }

    #[test]
    fn a_lost_path_is_named() {
        let lost = judged(Some(&live(r#"{"f:data":{"f:b":{}},"f:metadata":{"f:labels":{"f:x":{}}}}"#)));
        let Verdict::Drifted(Class::ValueChanged, paths) = lost else { panic!("{lost:?}") };
        assert_eq!(paths.paths(), ["data.a"]);
    }

    #[test]
    fn gone_made_anew_and_disowned_are_told_apart() {
        let gone = Verdict::Drifted(Class::Deleted, FieldSet::default());
        assert_eq!(judged(None), gone);
        assert_eq!(judged(Some(&Live { uid: "other".into(), ..live(OURS) })), gone);
        let disowned = Verdict::Drifted(Class::OwnershipLost, FieldSet::default());
        assert_eq!(judged(Some(&Live { applied: Vec::new(), ..live(OURS) })), disowned);
        assert_eq!(judged(Some(&Live { part_of: None, ..live(OURS) })), disowned);
        assert_eq!(judged(Some(&Live { part_of: Some("another".into()), ..live(OURS) })), disowned);
        assert_eq!(judged(Some(&Live { terminating: true, ..live(OURS) })), Verdict::Terminating);
    }

    #[test]
    fn writes_in_our_name_and_writes_without_a_trace_are_verified() {
        let mut again = live(OURS);
        again.applied[0].time = Some(8);
        assert_eq!(judged(Some(&again)), Verdict::Verify);
        let more = r#"{"f:data":{"f:a":{},"f:b":{},"f:c":{}},"f:metadata":{"f:labels":{"f:x":{}}}}"#;
        assert_eq!(judged(Some(&live(more))), Verdict::Verify);
        let baseline = Baseline::of(Digest::of(b"x"), &live(OURS), "plumb-dev").unwrap();
        assert_eq!(judge(&baseline, Some(&live(OURS)), "plumb-dev", "id", true), Verdict::Verify);
    }
}
