//! From documents to single objects: lists are taken apart, and what is no part of a deployment is left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::model::{GroupKind, Manifest, Origin};

/// Of many hooks at most this many are named.
const NAMED: usize = 3;

/// An object as it was read, with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Where it came from.
    pub origin: Origin,
    /// What was read; not yet known to be an object.
    pub value: Value,
}

/// Takes a document apart into objects. `List` and every other kind that ends in `List`, has `items` and has no name is a list: a
/// custom resource may be called `AllowList`.
pub fn expand(draft: Draft, into: &mut Vec<Draft>) {
    let Draft { origin, mut value } = draft;
    let Some(item_kind) = list_of(&value) else {
        into.push(Draft { origin, value });
        return;
    };
    let api_version = value.get("apiVersion").cloned();
    let Some(Value::Array(items)) = value.get_mut("items").map(Value::take) else { return };
    for mut item in items {
        // The items of a typed list, as an API server writes it, don't say what they are.
        if let (Value::Object(object), Some(kind)) = (&mut item, &item_kind)
            && !object.contains_key("kind")
            && !object.contains_key("apiVersion")
        {
            object.insert("kind".to_owned(), Value::String(kind.clone()));
            object.extend(api_version.clone().map(|version| ("apiVersion".to_owned(), version)));
        }
        expand(Draft { origin: origin.clone(), value: item }, into);
    }
}

/// The kind of a list's items: `Some(None)` for a plain `List`.
fn list_of(value: &Value) -> Option<Option<String>> {
    let item_kind = value.get("kind")?.as_str()?.strip_suffix("List")?;
    let is_list = value.get("items").is_some_and(Value::is_array) && value.pointer("/metadata/name").is_none();
    is_list.then(|| (!item_kind.is_empty()).then(|| item_kind.to_owned()))
}

/// Whether an object is no part of what is deployed: a Helm hook that only runs on a test, a deletion or a rollback.
///
/// Install and upgrade hooks are ordinary objects here.
pub fn is_other_hook(value: &Value) -> bool {
    let other = |event: &str| {
        matches!(
            event,
            "test" | "test-success" | "test-failure" | "pre-delete" | "post-delete" | "pre-rollback" | "post-rollback"
        )
    };
    let mut events = words(value, "/metadata/annotations/helm.sh~1hook").peekable();
    events.peek().is_some() && events.all(other)
}

/// Whether it is a hook that Helm deletes before it makes it again, which is its way unless told otherwise, or as soon as it has succeeded.
pub(super) fn is_made_anew(value: &Value) -> bool {
    let mut policies = words(value, "/metadata/annotations/helm.sh~1hook-delete-policy").peekable();
    let is_deleted = policies.peek().is_none() || policies.any(|policy| policy != "hook-failed");
    is_deleted && words(value, "/metadata/annotations/helm.sh~1hook").next().is_some()
}

/// The words of a list in an annotation.
fn words<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a str> {
    let list = value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// What there is to know of hooks that run something: Helm would wait for them, one after the other.
pub fn remark_on_hooks(objects: &[Arc<Manifest>]) -> Option<String> {
    let runs = |kind: &GroupKind| kind.is("batch", "Job") || kind.is("", "Pod");
    let hooks =
        objects.iter().filter(|object| runs(&object.key.kind) && object.json.get().contains("\"helm.sh/hook\":"));
    let hooks: Vec<String> = hooks.map(|hook| hook.key.to_string()).collect();
    let named = hooks.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = hooks.len().checked_sub(NAMED).filter(|more| *more > 0).map(|more| format!(", and {more} more"));
    let more = more.unwrap_or_default();
    (!hooks.is_empty()).then(|| {
        format!("Helm's hooks are applied with the rest, in plumb's own order, and nothing waits for them to end: {named}{more}")
    })
}

/// Whether it is one of plumb's own definitions: they are read from the configuration branch, not deployed.
pub fn is_definition(value: &Value) -> bool {
    let group = value.get("apiVersion").and_then(Value::as_str).and_then(|version| version.split('/').next());
    group == Some(crate::model::environment::GROUP) && value.get("kind").and_then(Value::as_str) == Some("Environment")
}

/// The kinds that a render defines itself, and whether their objects live in namespaces.
pub type Defined = BTreeMap<GroupKind, bool>;

/// Adds the kind that a CustomResourceDefinition defines.
pub fn defines(value: &Value, defined: &mut Defined) {
    let is_crd = value.get("kind").and_then(Value::as_str) == Some("CustomResourceDefinition")
        && value
            .get("apiVersion")
            .and_then(Value::as_str)
            .is_some_and(|version| version.starts_with("apiextensions.k8s.io/"));
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
    if is_crd && let (Some(group), Some(kind)) = (text("/spec/group"), text("/spec/names/kind")) {
        defined.insert(GroupKind::new(group, kind), text("/spec/scope") != Some("Cluster"));
    }
}
