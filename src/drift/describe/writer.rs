//! Who wrote an object that drifted, as far as its `managedFields` say.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;

use crate::drift::fields::FieldSet;
use crate::drift::fingerprint::Baseline;
use crate::drift::ownership::is_apply_of;
use crate::model::applyset::HANDOVER;

/// Entries of these are of writers that the API server does not tell apart any more (beyond ten that update, the oldest), or never knew.
pub(super) const NOBODY: [&str; 2] = ["ancient-changes", "before-first-apply"];

/// Whose object it is that drifted.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// Our field manager.
    pub manager: &'a str,
    /// What our last apply left, as far as that is remembered.
    pub left: Option<&'a Baseline>,
}

/// A writer's name, and when it wrote, as far as either is recorded.
pub(super) type Writer = (Option<String>, Option<i64>);

/// The entries that can be read, with their fields.
fn entries(live: &Value) -> impl Iterator<Item = (ManagedFieldsEntry, FieldSet)> {
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten();
    let entries = entries.filter_map(|entry| serde_json::from_value::<ManagedFieldsEntry>(entry.clone()).ok());
    entries.filter_map(|entry| {
        let fields = FieldSet::parse(&entry.fields_v1.as_ref()?.0.to_string()).ok()?;
        Some((entry, fields))
    })
}

/// The entries that are not plumb's, with their fields.
pub(super) fn foreign(live: &Value) -> impl Iterator<Item = (ManagedFieldsEntry, FieldSet)> {
    entries(live).filter(|(entry, _)| !entry.manager.as_deref().unwrap_or_default().starts_with("plumb-"))
}

/// Whether all these paths are in our entry still: nobody has taken them from us, so nobody who shares them changed them.
fn are_ours(paths: &FieldSet, live: &Value, manager: &str) -> bool {
    let ours = |(entry, fields)| is_apply_of(&entry, manager).then_some(fields);
    !paths.is_empty() && entries(live).find_map(ours).is_some_and(|ours| paths.difference(&ours).is_empty())
}

impl Owner<'_> {
    /// The last writer of these paths.
    pub(super) fn writer(&self, paths: &FieldSet, live: &Value) -> Option<Writer> {
        if are_ours(paths, live, self.manager) {
            return self.in_our_name(live);
        }
        // What plumb keeps on others' behalf is theirs.
        let others =
            entries(live).filter(|(entry, _)| !is_apply_of(entry, self.manager) && !is_apply_of(entry, HANDOVER));
        let wrote = others.filter(|(_, fields)| fields.touches(paths)).map(|(entry, _)| entry);
        // An entry of the scale subresource has no time: it is the newest that can be.
        let last = wrote.max_by_key(|entry| time(entry).unwrap_or(i64::MAX))?;
        if last.manager.as_deref().is_some_and(|manager| NOBODY.contains(&manager)) {
            return Some((None, None));
        }
        let since = time(&last);
        let subresource = last.subresource.filter(|name| !name.is_empty());
        let name = last.manager.map(|name| match subresource {
            Some(subresource) => format!("{name}/{subresource}"),
            None if name == self.manager => self.namesake(),
            None => name,
        });
        Some((name, since))
    }

    /// Somebody has applied under our name, if our entry has another time than the one that we left.
    fn in_our_name(&self, live: &Value) -> Option<Writer> {
        let (left, (entry, _)) = (self.left?, entries(live).find(|(entry, _)| is_apply_of(entry, self.manager))?);
        let same = live.pointer("/metadata/uid").and_then(Value::as_str) == Some(&*left.uid);
        (same && time(&entry) != left.time).then(|| (Some(self.namesake()), time(&entry)))
    }

    fn namesake(&self) -> String {
        format!("{} (not this plumb)", self.manager)
    }
}

fn time(entry: &ManagedFieldsEntry) -> Option<i64> {
    entry.time.as_ref().map(|time| time.0.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;
    use serde_json::json;

    fn paths(value: &Value) -> FieldSet {
        FieldSet::from_value(value).unwrap()
    }

    fn entry(manager: &str, operation: &str, second: u32, fields: Value) -> Value {
        let time = format!("2026-01-01T00:00:{second:02}Z");
        json!({"manager": manager, "operation": operation, "time": time, "fieldsV1": fields})
    }

    fn wrote(left: Option<i64>, entries: &[Value]) -> Option<Writer> {
        let live = json!({"metadata": {"uid": "u", "managedFields": entries}});
        let baseline = left.map(|time| Baseline {
            digest: Digest::of(b"x"),
            uid: "u".into(),
            fields: "{}".into(),
            time: Some(time),
            resource_version: 1,
        });
        let owner = Owner { manager: "plumb-dev", left: baseline.as_ref() };
        owner.writer(&paths(&json!({"f:data": {"f:a": {}}})), &live)
    }

    /// Whoever has the same value wrote none of what is ours.
    #[test]
    fn what_is_ours_still_was_written_in_our_name_or_by_nobody_known() {
        let fields = || json!({"f:data": {"f:a": {}}});
        let live = [entry("plumb-dev", "Apply", 5, fields()), entry("kubectl-edit", "Update", 9, fields())];
        let at_5 = 1_767_225_605;
        assert_eq!(wrote(None, &live), None, "not remembered");
        assert_eq!(wrote(Some(at_5), &live), None, "our own apply");
        let name = Some("plumb-dev (not this plumb)".to_owned());
        assert_eq!(wrote(Some(at_5 - 1), &live), Some((name.clone(), Some(at_5))));
        let lost = [entry("plumb-dev", "Apply", 5, json!({"f:data": {}})), entry("plumb-dev", "Update", 9, fields())];
        assert_eq!(wrote(Some(at_5), &lost), Some((name, Some(at_5 + 4))));
        let other = [entry("plumb-prod", "Apply", 9, fields()), entry(HANDOVER, "Apply", 10, fields())];
        assert_eq!(wrote(None, &other), Some((Some("plumb-prod".to_owned()), Some(at_5 + 4))), "another environment");
    }
}
