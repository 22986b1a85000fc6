//! A drift in words: which fields, what git wants, what the cluster has, and who wrote it, as far as the API server recorded that.

use serde_json::Value;

use super::fields::{self, FieldSet, lookup};
use super::fingerprint::{Class, Found};
use crate::model::secret::{self, MASK};
use crate::model::{Manifest, ObjectKey};

mod writer;

pub use writer::Owner;
use writer::{are_ours, foreign, label};

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

    /// Describes a drift from the object as it is now; `None`: it does not stand. Of a Secret the metadata is enough.
    pub fn describe(found: &Found, manifest: &Manifest, live: Option<&Value>, owner: &Owner<'_>) -> Self {
        let mut drift = Self::undescribed(found);
        let Some(live) = live.filter(|_| found.class != Class::Deleted) else { return drift };
        let want: Value = serde_json::from_str(manifest.json.get()).unwrap_or_default();
        let writer = match found.class {
            Class::OwnershipLost => owner.writer(&label(), live),
            _ => owner.writer(&found.paths, live),
        };
        if found.key.kind.is("", "Secret") {
            // Who wrote a value has set another one; a value that is gone has no writer.
            let stands = writer.is_some() || are_ours(&found.paths, live, owner.manager);
            let left = if stands { MASK } else { ABSENT };
            let fields = found.paths.lookup(&want, live).into_iter();
            drift.fields = fields
                .map(|found| Field { path: found.path, want: shown(found.one, true), live: left.to_owned() })
                .collect();
        } else if found.paths.is_empty() {
            differences("", &want, live, &mut |path, want, live| {
                drift.fields.push(field(path.to_owned(), Some(want), live));
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
                        Field { live: ADDED.to_owned(), ..field(found.path, found.one, None) }
                    }
                    0 | 1 => field(found.path, found.one, found.other),
                    times => Field { live: format!("(there {times} times)"), ..field(found.path, found.one, None) },
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
        drift.fields = fields.map(|found| field(found.path, found.one, found.other)).collect();
        drift
    }
}

fn field(path: String, want: Option<&Value>, live: Option<&Value>) -> Field {
    let hides = secret::sounds_secret(&path);
    Field { want: shown(want, hides), live: shown(live, hides), path }
}

fn shown(value: Option<&Value>, hides: bool) -> String {
    let text = match value {
        None => return ABSENT.to_owned(),
        Some(_) if hides => return MASK.to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    if secret::has_secret(&text) {
        return MASK.to_owned();
    }
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
mod tests {
    use super::*;
    use crate::plan::tests::world;
    use serde_json::json;

    fn found(key: &ObjectKey, paths: Value) -> Found {
        Found { key: key.clone(), class: Class::ValueChanged, paths: FieldSet::from_value(&paths).unwrap() }
    }

    const DEV: Owner<'static> = Owner { manager: "plumb-dev", left: None };

    fn texts(drift: &Drift) -> Vec<String> {
        drift.fields.iter().map(|field| format!("{} {} {}", field.path, field.want, field.live)).collect()
    }

    #[test]
    fn a_scaled_deployment_names_the_tool_and_its_subresource() {
        let key = world::key("apps", "Deployment", "web");
        let manifest = world::manifest_of(&key, "v1", json!({"kind": "Deployment", "spec": {"replicas": 2}}));
        let live = json!({"spec": {"replicas": 5}, "metadata": {"managedFields": [
            {"manager": "old", "operation": "Update", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            {"manager": "kubectl", "operation": "Update", "subresource": "scale", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            {"manager": "other", "operation": "Update", "fieldsV1": {"f:spec": {"f:paused": {}}}},
        ]}});
        let drift = Drift::describe(&found(&key, json!({"f:spec": {"f:replicas": {}}})), &manifest, Some(&live), &DEV);
        assert_eq!(texts(&drift), ["spec.replicas 2 5"]);
        assert_eq!((drift.manager.as_deref(), drift.since), (Some("kubectl/scale"), None));
    }

    #[test]
    fn a_writer_that_is_no_longer_told_apart_is_not_known() {
        let key = world::key("", "Secret", "s");
        let manifest = world::manifest_of(&key, "v1", json!({"data": {"a": "aGVsbG8="}}));
        for nobody in writer::NOBODY {
            let live = json!({"metadata": {"managedFields": [
                {"manager": nobody, "operation": "Update", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:data": {"f:a": {}}}},
            ]}});
            let drift = Drift::describe(&found(&key, json!({"f:data": {"f:a": {}}})), &manifest, Some(&live), &DEV);
            assert_eq!((drift.manager.as_deref(), drift.since), (None, None), "{nobody}");
            assert_eq!(texts(&drift), [format!("data.a {MASK} {MASK}")], "somebody has set it nevertheless");
        }
    }

    #[test]
    fn a_value_that_was_changed_back_stands() {
        let key = world::config_map("a");
        let manifest = world::manifest_of(&key, "v1", json!({"data": {"a": "1", "b": "1"}}));
        let stands = |a: &str| {
            let live = json!({"data": {"a": a, "b": "1"}, "metadata": {"managedFields": []}});
            let found = found(&key, json!({"f:data": {"f:a": {}, "f:b": {}}}));
            Drift::describe(&found, &manifest, Some(&live), &DEV).values_stand
        };
        assert!(stands("1") && !stands("2"));
        let gone = json!({"data": {"a": "1"}});
        assert!(
            !Drift::describe(&found(&key, json!({"f:data": {"f:b": {}}})), &manifest, Some(&gone), &DEV).values_stand
        );
    }

    #[test]
    fn an_item_given_twice_is_told_without_the_values_of_others() {
        let key = world::key("", "Pod", "p");
        let manifest = world::manifest_of(&key, "v1", json!({"env": [{"name": "A", "value": "1"}]}));
        let live =
            json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "b"}, {"name": "A", "value": "2"}]});
        let set = json!({"f:env": {"k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}}});
        let drift = Drift::describe(&found(&key, set), &manifest, Some(&live), &DEV);
        assert_eq!(texts(&drift), ["env[name=A] {\"name\":\"A\",\"value\":\"1\"} (there 2 times)"]);
        assert!(!drift.values_stand);
    }

    /// `covers` can't tell what others put into an empty field from a default in it.
    #[test]
    fn where_git_has_something_empty_an_apply_tells() {
        let key = world::config_map("a");
        let manifest = world::manifest_of(&key, "v1", json!({"data": {}, "spec": {"podSelector": {}}}));
        let owners = json!([{"manager": "kubectl-patch", "operation": "Update", "fieldsV1": {
            "f:data": {".": {}, "f:y": {}}, "f:spec": {"f:podSelector": {}},
        }}]);
        let data = found(&key, json!({"f:data": {}}));
        let filled = json!({"data": {"y": "2"}, "metadata": {"managedFields": owners}});
        let drift = Drift::describe(&data, &manifest, Some(&filled), &DEV);
        assert!(drift.unsure && drift.values_stand);
        let drift = Drift::compared(&data, &manifest, &filled, &filled, &DEV);
        assert!(drift.values_stand && drift.fields.is_empty(), "the apply leaves it");
        assert_eq!(drift.added.paths(), ["data.y"]);
        // Taken away again, nothing is left of what the API server does not keep.
        let nothing = json!({"metadata": {"managedFields": []}});
        assert!(Drift::describe(&data, &manifest, Some(&nothing), &DEV).unsure);
        let drift = Drift::compared(&data, &manifest, &nothing, &nothing, &DEV);
        assert!(drift.values_stand && drift.added.is_empty());

        // Set back by hand with defaults beside: nothing is added.
        let item = json!({"f:list": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}}}});
        let back = found(&key, item);
        let manifest_of = |list: Value| world::manifest_of(&key, "v1", json!({"list": list}));
        let owner = json!({"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {
            "f:list": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}, "f:default": {}}},
        }});
        let stands = json!({"list": [{"name": "a", "default": 1}], "metadata": {"managedFields": [owner]}});
        let drift = Drift::compared(&back, &manifest_of(json!([{"name": "a"}])), &stands, &stands, &DEV);
        assert!(drift.values_stand && drift.added.is_empty());

        // One value: the apply sets it back.
        let selector = found(&key, json!({"f:spec": {"f:podSelector": {}}}));
        let (narrow, wide) = (json!({"matchLabels": {"a": "b"}}), json!({}));
        let with = |selector: &Value| json!({"spec": {"podSelector": selector}, "metadata": {"managedFields": owners}});
        assert!(Drift::describe(&selector, &manifest, Some(&with(&narrow)), &DEV).unsure);
        let drift = Drift::compared(&selector, &manifest, &with(&narrow), &with(&wide), &DEV);
        assert_eq!(texts(&drift), [r#"spec.podSelector {} {"matchLabels":{"a":"b"}}"#]);
        assert!(!drift.values_stand && drift.added.is_empty());
        assert_eq!(drift.manager.as_deref(), Some("kubectl-patch"));
        assert!(!Drift::describe(&selector, &manifest, Some(&with(&wide)), &DEV).unsure, "it is as git says");
    }

    #[test]
    fn a_removed_field_is_absent_and_has_no_known_writer() {
        let key = world::config_map("a");
        let manifest = world::manifest_of(&key, "v1", json!({"data": {"a": "1"}}));
        let live = json!({"data": {"b": "2"}, "metadata": {"managedFields": []}});
        let drift = Drift::describe(&found(&key, json!({"f:data": {"f:a": {}}})), &manifest, Some(&live), &DEV);
        assert_eq!(texts(&drift), ["data.a 1 (absent)"]);
        assert_eq!(drift.manager, None);
    }

    #[test]
    fn without_paths_the_values_tell_and_defaults_are_no_difference() {
        let key = world::key("apps", "Deployment", "web");
        let manifest =
            world::manifest_of(&key, "v1", json!({"kind": "x", "spec": {"a": {"b": 1}, "l": [{"n": 1}], "gone": 0}}));
        let live = json!({"spec": {"a": {"b": 2, "default": true}, "l": [{"n": 1, "default": 2}], "more": 3}});
        let drift = Drift::describe(&found(&key, json!({})), &manifest, Some(&live), &DEV);
        assert_eq!(texts(&drift), ["spec.a.b 1 2", "spec.gone 0 (absent)"]);
    }

    #[test]
    fn secret_values_are_never_told() {
        let secret = world::key("", "Secret", "s");
        let manifest = world::manifest_of(&secret, "v1", json!({"data": {"a": "aGVsbG8="}}));
        let live = json!({"metadata": {"managedFields": [
            {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:data": {"f:a": {}}}},
        ]}});
        let drift = Drift::describe(&found(&secret, json!({"f:data": {"f:a": {}}})), &manifest, Some(&live), &DEV);
        assert_eq!(texts(&drift), [format!("data.a {MASK} {MASK}")]);
        let pod = world::key("", "Pod", "p");
        let env = |value: &str| json!({"env": [{"name": "DB_PASSWORD", "value": value}, {"name": "DB", "value": format!("postgres://u:{value}@h/d")}]});
        let set = json!({"f:env": {
            "k:{\"name\":\"DB_PASSWORD\"}": {"f:value": {}}, "k:{\"name\":\"DB\"}": {"f:value": {}},
        }});
        let drift = Drift::describe(
            &found(&pod, set),
            &world::manifest_of(&pod, "v1", env("canary-a")),
            Some(&env("canary-b")),
            &DEV,
        );
        assert!(!format!("{drift:?}").contains("canary"), "{drift:?}");
    }

    #[test]
    fn a_deleted_object_has_no_fields() {
        let key = world::config_map("a");
        let gone = Found::whole(key.clone(), Class::Deleted);
        assert!(Drift::describe(&gone, &world::manifest(&key, 1), None, &DEV).fields.is_empty());
    }
}
