//! Is an object as we left it? Read off its metadata alone: identity, and the set of fields that the API server says our field manager owns.
//!
//! Any tracked write by somebody else that changes or removes a value of ours takes its path out of our entry (structured-merge-diff `merge/update.go`), so
//! the difference of two sets names what was changed, without a request.

use std::sync::Arc;

use super::fields::FieldSet;
use crate::model::applyset::PART_OF;
use crate::model::live::{ApplyEntry, ResourceVersion};
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
    /// `metadata.resourceVersion` in the answer: what was written up to it is ours.
    pub resource_version: ResourceVersion,
}

impl Baseline {
    /// The baseline of an apply: what was sent, and the answer. `None` if the answer has no entry of this manager, which an apply of
    /// at least our label never gives.
    pub fn of(digest: Digest, answer: &Live, manager: &str) -> Option<Self> {
        let entry = answer.entry(manager)?;
        Some(Self {
            digest,
            uid: answer.uid.clone(),
            fields: Arc::clone(&entry.fields),
            time: entry.time,
            resource_version: answer.resource_version,
        })
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

/// The path of the label that makes an object ours.
pub(super) fn label() -> FieldSet {
    let path = serde_json::json!({"f:metadata": {"f:labels": {(format!("f:{PART_OF}")): {}}}});
    FieldSet::from_value(&path).unwrap_or_default()
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

impl Found {
    /// One of which these fields differ. Where our label is among them, the object is not marked as ours any more.
    pub fn differing(key: ObjectKey, paths: FieldSet) -> Self {
        match paths.touches(&label()) {
            true => Self::whole(key, Class::OwnershipLost),
            false => Self { key, class: Class::ValueChanged, paths },
        }
    }

    /// One of which no field is more to blame than another.
    pub fn whole(key: ObjectKey, class: Class) -> Self {
        Self { key, class, paths: FieldSet::default() }
    }

    /// It was looked for outside of the watch, which tells no label that was taken off from a deletion: if the very object that was applied still stands, it has
    /// lost its marks alone.
    pub fn seen(&mut self, applied: Option<&Baseline>, standing: Option<&Live>) {
        let same = matches!((applied, standing), (Some(applied), Some(standing)) if applied.uid == standing.uid);
        if self.class == Class::Deleted && same {
            self.class = Class::OwnershipLost;
        }
    }
}

/// What metadata says of an object that we applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is as we left it.
    AsApplied,
    /// Our entry is whole, but somebody wrote in our name, or a write left no trace in it: only the API server can tell, by a dry-run.
    Verify,
    /// It is being deleted: it is waited for.
    Terminating,
    /// It is not as we left it.
    Drifted(Class, FieldSet),
}

/// Compares an object with its baseline. `live` is `None` when it does not stand; `touched` is the resourceVersion at which it was last written without a trace
/// in its `managedFields` (see [`Live::touched_since`]).
pub fn judge(
    baseline: &Baseline,
    live: Option<&Live>,
    manager: &str,
    part_of: &str,
    touched: Option<ResourceVersion>,
) -> Verdict {
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
    let touched = touched.is_some_and(|version| version > baseline.resource_version);
    if touched || entry.time != baseline.time { Verdict::Verify } else { Verdict::AsApplied }
}

/// The API server's times have a resolution of a second, and its clock and ours are not the same: what it wrote less than this many seconds ago may have been
/// written again since, under the same time.
const SAME_MOMENT: i64 = 5;

/// Whether an apply would change anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It would not.
    Nothing,
    /// It would.
    Changes,
    /// The metadata can't tell: the content has to be compared.
    Unclear,
}

/// What an apply would change, from the object's metadata as it is and as the answer to a dry-run shows it. The API server renews our entry's time only if
/// something changes. `now` is in seconds since the epoch.
pub fn effect(before: &Live, after: &Live, manager: &str, now: i64) -> Effect {
    match (before.entry(manager), after.entry(manager)) {
        (Some(before), Some(after)) if before != after => Effect::Changes,
        (None, _) | (_, None) => Effect::Changes,
        // Whatever else it changed would have moved the generation, a label or an annotation.
        _ if before.counted && before.marks == after.marks => Effect::Nothing,
        (Some(entry), _) if entry.time.is_some_and(|time| time + SAME_MOMENT >= now) => Effect::Unclear,
        _ => Effect::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::live::ApplyEntry;

    const OURS: &str = r#"{"f:data":{"f:a":{},"f:b":{}},"f:metadata":{"f:labels":{"f:x":{}}}}"#;

    fn live(fields: &str) -> Live {
        Live {
            uid: "u".into(),
            part_of: Some("id".into()),
            applied: vec![ApplyEntry { manager: "plumb-dev".into(), fields: fields.into(), time: Some(7) }],
            resource_version: 30,
            ..Live::default()
        }
    }

    fn baseline() -> Baseline {
        Baseline::of(Digest::of(b"x"), &live(OURS), "plumb-dev").unwrap()
    }

    fn judged(live: Option<&Live>) -> Verdict {
        judge(&baseline(), live, "plumb-dev", "id", None)
    }

    #[test]
    fn what_the_watch_says_is_gone_and_still_stands_has_lost_its_marks() {
        let seen = |class: Class, applied: Option<&Baseline>, standing: Option<&Live>| {
            let mut found = Found::whole(ObjectKey::new("", "ConfigMap", "n", "a"), class);
            found.seen(applied, standing);
            found.class
        };
        let (applied, stands) = (baseline(), live(OURS));
        assert_eq!(seen(Class::Deleted, Some(&applied), Some(&stands)), Class::OwnershipLost);
        let another = Live { uid: "another".into(), ..live(OURS) };
        assert_eq!(seen(Class::Deleted, Some(&applied), Some(&another)), Class::Deleted, "made by somebody else since");
        assert_eq!(seen(Class::Deleted, Some(&applied), None), Class::Deleted);
        assert_eq!(seen(Class::Deleted, None, Some(&stands)), Class::Deleted);
        assert_eq!(seen(Class::ValueChanged, Some(&applied), Some(&stands)), Class::ValueChanged);
    }

    #[test]
    fn what_stands_as_it_was_applied_is_no_drift_however_it_is_written() {
        assert_eq!(judged(Some(&live(OURS))), Verdict::AsApplied);
        let other_writing = r#"{"f:metadata":{"f:labels":{"f:x":{}}},"f:data":{"f:b":{},"f:a":{}}}"#;
        assert_eq!(judged(Some(&live(other_writing))), Verdict::AsApplied);
    }

    #[test]
    fn what_differs_in_our_label_is_not_ours_any_more() {
        let differs = |fields: serde_json::Value| {
            let found =
                Found::differing(ObjectKey::new("", "ConfigMap", "n", "a"), FieldSet::from_value(&fields).unwrap());
            (found.class, found.paths.paths().len())
        };
        let ours = format!("f:{PART_OF}");
        assert_eq!(differs(json!({"f:metadata": {"f:labels": {ours: {}}}})), (Class::OwnershipLost, 0));
        assert_eq!(differs(json!({"f:metadata": {"f:labels": {}}, "f:data": {"f:x": {}}})), (Class::OwnershipLost, 0));
        assert_eq!(differs(json!({"f:metadata": {"f:labels": {"f:x": {}}}})), (Class::ValueChanged, 1));
        assert_eq!(differs(json!({"f:data": {"f:x": {}}})), (Class::ValueChanged, 1));
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
        let touched = |version| judge(&baseline, Some(&live(OURS)), "plumb-dev", "id", Some(version));
        assert_eq!(touched(31), Verdict::Verify);
        assert_eq!(touched(30), Verdict::AsApplied, "what was written before our own write is no concern");
    }

    #[test]
    fn a_dry_run_tells_by_the_time_whether_anything_would_change() {
        let at = |time: Option<i64>| {
            let mut live = live(OURS);
            live.applied[0].time = time;
            live
        };
        let effect = |before: &Live, after: &Live, now| effect(before, after, "plumb-dev", now);
        assert_eq!(effect(&at(Some(7)), &at(Some(7)), 100), Effect::Nothing);
        assert_eq!(effect(&at(Some(7)), &at(Some(100)), 100), Effect::Changes);
        assert_eq!(effect(&at(Some(7)), &at(Some(7)), 8), Effect::Unclear, "what changes now has the same time");
        assert_eq!(effect(&at(Some(107)), &at(Some(107)), 100), Effect::Unclear, "the API server's clock is ahead");
        assert_eq!(effect(&at(None), &at(None), 8), Effect::Nothing, "adopted as it was");
        assert_eq!(effect(&at(None), &at(Some(8)), 8), Effect::Changes);
        assert_eq!(effect(&at(Some(7)), &live(r#"{"f:data":{}}"#), 100), Effect::Changes);
        assert_eq!(effect(&Live { applied: Vec::new(), ..at(None) }, &at(None), 100), Effect::Changes);
        // Where the API server counts changes, the count tells.
        let counted = |marks| Live { counted: true, marks, ..at(Some(7)) };
        assert_eq!(effect(&counted(1), &counted(1), 8), Effect::Nothing);
        assert_eq!(effect(&counted(1), &counted(2), 8), Effect::Unclear, "an annotation that somebody else just wrote");
    }
}
