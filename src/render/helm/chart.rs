//! What must be known of a chart before Helm sees it: its name, and that it reaches for nothing outside the repository.

use serde_json::Value;

use super::error::HelmError;
use super::packed::{UNPACKED, is_packed, repacked};
use crate::model::path::{join, resolve};
use crate::render::error::RenderError;
use crate::render::yaml::{self, Budget, Notation};
use crate::source::{EntryKind, Snapshot};

/// A chart, as far as it is read here. What Helm can judge itself is left to Helm.
#[derive(Default)]
pub(super) struct Chart {
    /// Its name, which Helm writes before every template's path.
    pub name: String,
    /// The default values of the chart and the charts inside, where they can be read.
    pub values: Vec<Value>,
    /// The packed charts inside, as Helm is to have them.
    pub packed: Vec<(String, Vec<u8>)>,
}

impl Chart {
    /// Reads the chart at `path` and checks it and the charts in its `charts/`.
    pub(super) fn read(snapshot: &Snapshot, path: &str) -> Result<Self, RenderError> {
        let mut found = Self::default();
        found.name = check(snapshot, path, 0, &mut found, &mut { UNPACKED })?;
        Ok(found)
    }
}

/// The file that Helm checks values by.
pub(super) const SCHEMA: &str = "values.schema.json";

/// Charts inside each other.
pub(super) const DEPTH: usize = 10;

/// Checks one chart and gives its name; `left` is what may still be unpacked.
fn check(
    snapshot: &Snapshot,
    path: &str,
    depth: usize,
    found: &mut Chart,
    left: &mut u64,
) -> Result<String, RenderError> {
    if depth > DEPTH {
        return Err(HelmError::TooDeep { file: path.to_owned(), limit: DEPTH }.into());
    }
    let file = |name: &str| join(path, name);
    let chart = document(snapshot, &file("Chart.yaml"))?.unwrap_or_default();
    let name = chart.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    found.values.extend(document(snapshot, &file("values.yaml"))?);

    let mut inside = Vec::new();
    match snapshot.entry(&file("charts"))?.map(|entry| entry.kind) {
        Some(EntryKind::Tree) => inside = snapshot.list(&file("charts"))?,
        Some(EntryKind::Symlink) => return Err(HelmError::Link(file("charts")).into()),
        _ => {}
    }
    let dependencies = chart.get("dependencies").and_then(Value::as_array).into_iter().flatten();
    for wanted in dependencies.filter_map(|dependency| dependency.get("name")?.as_str()) {
        let packed = format!("{wanted}-");
        let is_there =
            inside.iter().any(|(name, _)| name == wanted || (name.starts_with(&packed) && name.ends_with("gz")));
        if !is_there && !is_named_inside(snapshot, &file("charts"), &inside, wanted)? {
            return Err(HelmError::Dependency { file: file("Chart.yaml"), name: wanted.to_owned() }.into());
        }
    }
    let schema = file(SCHEMA);
    if let Some(bytes) = content(snapshot, &schema)? {
        check_schema(&bytes, &schema)?;
    }
    for (name, entry) in inside {
        let inner = format!("{}/{name}", file("charts"));
        match entry.kind {
            EntryKind::Tree => {
                check(snapshot, &inner, depth + 1, found, left)?;
            }
            EntryKind::File | EntryKind::Executable if name.ends_with("gz") => {
                let bytes = snapshot.blob(&inner, &entry)?;
                if is_packed(&bytes) {
                    let packed = repacked(&bytes, &inner, depth + 1, left)?;
                    found.packed.push((inner, packed));
                }
            }
            EntryKind::Symlink => return Err(HelmError::Link(inner).into()),
            _ => {}
        }
    }
    Ok(name)
}

/// Whether a directory under another name holds the chart.
fn is_named_inside(
    snapshot: &Snapshot,
    charts: &str,
    inside: &[(String, crate::source::Entry)],
    wanted: &str,
) -> Result<bool, RenderError> {
    for (name, entry) in inside {
        if entry.kind == EntryKind::Tree {
            let chart = document(snapshot, &format!("{charts}/{name}/Chart.yaml"))?.unwrap_or_default();
            if chart.get("name").and_then(Value::as_str) == Some(wanted) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The first document of a file, if it is there and can be read; what can't is Helm's to complain about.
///
/// A link is followed, as by Helm; whether it leads out of the chart is looked at when the chart is written out.
fn document(snapshot: &Snapshot, file: &str) -> Result<Option<Value>, RenderError> {
    let target = match snapshot.entry(file)? {
        Some(entry) if entry.kind == EntryKind::Symlink => {
            let target = String::from_utf8_lossy(&snapshot.blob(file, &entry)?).into_owned();
            let directory = file.rsplit_once('/').map_or("", |(directory, _)| directory);
            Some(resolve(directory, &target).ok_or_else(|| HelmError::Link(file.to_owned()))?)
        }
        _ => None,
    };
    let Some(bytes) = content(snapshot, target.as_deref().unwrap_or(file))? else { return Ok(None) };
    let documents = yaml::read(&bytes, Notation::Yaml, &mut Budget::default()).unwrap_or_default();
    Ok(documents.into_iter().next().map(|document| document.value))
}

fn content(snapshot: &Snapshot, file: &str) -> Result<Option<Vec<u8>>, RenderError> {
    match snapshot.entry(file)? {
        Some(entry) if matches!(entry.kind, EntryKind::File | EntryKind::Executable) => {
            Ok(Some(snapshot.blob(file, &entry)?))
        }
        // Helm follows it under this name, so what it leads to would have to be looked at.
        Some(entry) if entry.kind == EntryKind::Symlink => Err(HelmError::Link(file.to_owned()).into()),
        _ => Ok(None),
    }
}

/// Refuses a schema that Helm would fetch something for. A dead proxy does not prevent that: Go passes no proxy on the way to the machine
/// itself.
pub(super) fn check_schema(bytes: &[u8], file: &str) -> Result<(), RenderError> {
    let schemas = yaml::read(bytes, Notation::Json, &mut Budget::default()).map_err(RenderError::yaml(file))?;
    match schemas.iter().find_map(|schema| remote_reference(&schema.value)) {
        Some(reference) => Err(HelmError::RemoteSchema { file: file.to_owned(), reference }.into()),
        None => Ok(()),
    }
}

/// Whether it is a draft, which Helm knows without asking.
fn is_standard(schema: &str) -> bool {
    ["http://json-schema.org/", "https://json-schema.org/"].iter().any(|drafts| schema.starts_with(drafts))
}

/// The first reference that leaves the schema.
fn remote_reference(schema: &Value) -> Option<String> {
    match schema {
        Value::Object(map) => map.iter().find_map(|(key, value)| match (&**key, value) {
            ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(text)) if !text.starts_with('#') => {
                Some(text.clone())
            }
            ("$schema", Value::String(text)) if !is_standard(text) => Some(text.clone()),
            (_, value) => remote_reference(value),
        }),
        Value::Array(items) => items.iter().find_map(remote_reference),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_schema_would_fetch_is_refused() {
        for remote in [
            r#"{"properties": {"a": {"$ref": "http://127.0.0.1/x"}}}"#,
            r#"{"$ref": "file:///etc/passwd"}"#,
            r#"{"$ref": "other.json"}"#,
            r#"{"$schema": "http://127.0.0.1/x?://json-schema.org/"}"#,
            r#"{"$recursiveRef": "http://127.0.0.1/x"}"#,
            r#"{"allOf": [{"$dynamicRef": "http://127.0.0.1/x"}]}"#,
        ] {
            assert!(check_schema(remote.as_bytes(), "s").is_err(), "{remote}");
        }
        let own = r##"{"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": "#/$defs/a"}"##;
        assert!(check_schema(own.as_bytes(), "s").is_ok());
    }
}
