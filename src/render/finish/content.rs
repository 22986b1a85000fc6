//! What is put right or refused inside an object, whatever its namespace.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};

use super::error::Problem;
use crate::model::GroupKind;

/// What becomes of a null in a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nulls {
    /// It is an error: the author wrote it by hand, and can remove it.
    Refuse,
    /// The field is left out, as the API server does on decoding: a chart's `{{ with }}` that yields nothing leaves `annotations:`
    /// behind, and whoever deploys the chart is not its author. Where a null would turn into an empty text (labels, a ConfigMap's
    /// data) it is an error all the same.
    LeaveOut,
}

/// The maps of a kind whose values are text; a null there would become "".
fn text_maps(kind: &GroupKind) -> &'static [&'static str] {
    match (&*kind.group, &*kind.kind) {
        ("", "ConfigMap") => &["data", "binaryData"],
        ("", "Secret") => &["data", "stringData"],
        _ => &[],
    }
}

/// Checks that labels, annotations and data hold text alone.
pub(super) fn check_text(kind: &GroupKind, object: &Value) -> Result<(), Problem> {
    let metadata = ["labels", "annotations"].map(|field| (format!("metadata.{field}"), object.get("metadata"), field));
    let data = text_maps(kind).iter().map(|field| ((*field).to_owned(), Some(object), *field));
    for (path, holder, field) in metadata.into_iter().chain(data) {
        match holder.and_then(|holder| holder.get(field)) {
            None | Some(Value::Null) => {}
            Some(Value::Object(map)) => {
                for (key, value) in map {
                    match value {
                        Value::String(_) => {}
                        Value::Null => return Err(Problem::Null(format!("{path}.{key}"))),
                        other => return Err(wrong_type(format!("{path}.{key}"), other, "text")),
                    }
                }
            }
            Some(other) => return Err(wrong_type(path, other, "a mapping")),
        }
    }
    Ok(())
}

pub(super) fn wrong_type(field: String, found: &Value, expected: &'static str) -> Problem {
    Problem::Type { field, found: type_name(found), expected }
}

pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// Drops what `kubectl create --dry-run -o yaml` writes and nobody means, and refuses what only a cluster can have written.
pub(super) fn server_managed(object: &mut Map<String, Value>) -> Result<(), Problem> {
    object.remove("status");
    object.iter_mut().for_each(|(field, value)| without_timestamp(field, value));
    let Some(Value::Object(metadata)) = object.get_mut("metadata") else { return Ok(()) };
    for field in [
        "managedFields",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "generation",
        "selfLink",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        if metadata.contains_key(field) {
            return Err(Problem::ServerManaged(field));
        }
    }
    if metadata.contains_key("generateName") { Err(Problem::GenerateName) } else { Ok(()) }
}

/// Drops `creationTimestamp: null` from every `metadata` at or below a field: pod templates and their like have one as well.
fn without_timestamp(field: &str, value: &mut Value) {
    match value {
        Value::Object(map) => {
            if field == "metadata" && map.get("creationTimestamp") == Some(&Value::Null) {
                map.remove("creationTimestamp");
            }
            map.iter_mut().for_each(|(field, value)| without_timestamp(field, value));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| without_timestamp("", item)),
        _ => {}
    }
}

/// Puts the content of kinds right that server-side apply would make a trap of.
pub(super) fn by_kind(kind: &GroupKind, object: &mut Map<String, Value>) -> Result<(), Problem> {
    if kind.is("", "Secret") {
        return secret(object);
    }
    if kind.is("rbac.authorization.k8s.io", "ClusterRole")
        && object.get("aggregationRule").is_some_and(Value::is_object)
    {
        // The aggregation controller owns the rules; ours would be overwritten for ever.
        object.remove("rules");
    }
    Ok(())
}

/// Turns `stringData` into `data`, as the API server does on a write: else `stringData.x` would be ours and `data.x` nobody's, and a key
/// that leaves git would stay in the cluster.
fn secret(object: &mut Map<String, Value>) -> Result<(), Problem> {
    if let Some(Value::Object(data)) = object.get("data") {
        for (key, value) in data {
            if value.as_str().is_none_or(|text| !is_base64(text)) {
                return Err(Problem::NotBase64(key.clone()));
            }
        }
    }
    let Some(Value::Object(plain)) = object.remove("stringData") else { return Ok(()) };
    let data = object.entry("data").or_insert_with(|| Value::Object(Map::new()));
    if data.is_null() {
        *data = Value::Object(Map::new());
    }
    if let Value::Object(data) = data {
        for (key, value) in plain {
            if let Value::String(text) = value {
                data.insert(key, Value::String(BASE64.encode(text)));
            }
        }
    }
    Ok(())
}

/// As Go's decoder has it: line breaks inside are skipped.
fn is_base64(text: &str) -> bool {
    if text.contains(['\n', '\r']) {
        return BASE64.decode(text.replace(['\n', '\r'], "")).is_ok();
    }
    BASE64.decode(text).is_ok()
}

/// Refuses nulls or leaves them out. A null in a list is always refused: leaving it out would move the others.
pub(super) fn nulls(policy: Nulls, value: &mut Value) -> Result<(), Problem> {
    if policy == Nulls::LeaveOut {
        leave_out(value);
    }
    match find_null(value) {
        Some(path) => Err(Problem::Null(path)),
        None => Ok(()),
    }
}

fn leave_out(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(leave_out);
        }
        Value::Array(items) => items.iter_mut().for_each(leave_out),
        _ => {}
    }
}

/// The path of the first null.
fn find_null(value: &Value) -> Option<String> {
    let join = |head: String, rest: String| match rest.chars().next() {
        None => head,
        Some('[') => head + &rest,
        Some(_) => head + "." + &rest,
    };
    match value {
        Value::Null => Some(String::new()),
        Value::Object(map) => map.iter().find_map(|(key, value)| find_null(value).map(|rest| join(key.clone(), rest))),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, value)| find_null(value).map(|rest| join(format!("[{index}]"), rest))),
        _ => None,
    }
}
