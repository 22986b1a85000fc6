//! What must be known of a chart before Helm sees it: its name, and that it reaches for nothing outside the repository.

use std::io::Read as _;

use serde_json::Value;

use super::error::HelmError;
use crate::model::path::join;
use crate::render::error::RenderError;
use crate::render::yaml::{self, Budget, Notation};
use crate::source::{EntryKind, Snapshot};

/// A chart, as far as it is read here. What Helm can judge itself is left to Helm.
pub(super) struct Chart {
    /// Its name, which Helm writes before every template's path.
    pub name: String,
    /// The default values of the chart and the charts inside, where they can be read.
    pub values: Vec<Value>,
}

impl Chart {
    /// Reads the chart at `path` and checks it and the charts in its `charts/`.
    pub(super) fn read(snapshot: &Snapshot, path: &str) -> Result<Self, RenderError> {
        let mut values = Vec::new();
        let name = check(snapshot, path, 0, &mut values)?;
        Ok(Self { name, values })
    }
}

/// Charts inside each other.
const DEPTH: usize = 10;

fn check(snapshot: &Snapshot, path: &str, depth: usize, values: &mut Vec<Value>) -> Result<String, RenderError> {
    let file = |name: &str| join(path, name);
    let chart = document(snapshot, &file("Chart.yaml"))?.unwrap_or_default();
    let name = chart.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    values.extend(document(snapshot, &file("values.yaml"))?);

    let mut inside = Vec::new();
    if snapshot.entry(&file("charts"))?.is_some_and(|entry| entry.kind == EntryKind::Tree) {
        inside = snapshot.list(&file("charts"))?;
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
    let schema = file("values.schema.json");
    if let Some(bytes) = content(snapshot, &schema)? {
        check_schema(&bytes, &schema)?;
    }
    for (name, entry) in inside {
        let inner = format!("{}/{name}", file("charts"));
        match entry.kind {
            EntryKind::Tree if depth < DEPTH => {
                check(snapshot, &inner, depth + 1, values)?;
            }
            EntryKind::File | EntryKind::Executable if name.ends_with("gz") => {
                check_packed(&snapshot.blob(&inner, &entry)?, &inner)?;
            }
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
fn document(snapshot: &Snapshot, file: &str) -> Result<Option<Value>, RenderError> {
    let Some(bytes) = content(snapshot, file)? else { return Ok(None) };
    let documents = yaml::read(&bytes, Notation::Yaml, &mut Budget::default()).unwrap_or_default();
    Ok(documents.into_iter().next().map(|document| document.value))
}

fn content(snapshot: &Snapshot, file: &str) -> Result<Option<Vec<u8>>, RenderError> {
    match snapshot.entry(file)? {
        Some(entry) if matches!(entry.kind, EntryKind::File | EntryKind::Executable) => {
            Ok(Some(snapshot.blob(file, &entry)?))
        }
        _ => Ok(None),
    }
}

/// Refuses a schema that Helm would fetch something for. A dead proxy does not prevent that: Go passes no proxy on the way to the machine
/// itself.
fn check_schema(bytes: &[u8], file: &str) -> Result<(), RenderError> {
    let schemas = yaml::read(bytes, Notation::Json, &mut Budget::default()).map_err(RenderError::yaml(file))?;
    match schemas.iter().find_map(|schema| remote_reference(&schema.value)) {
        Some(reference) => Err(HelmError::RemoteSchema { file: file.to_owned(), reference }.into()),
        None => Ok(()),
    }
}

/// The first reference that leaves the schema.
fn remote_reference(schema: &Value) -> Option<String> {
    match schema {
        Value::Object(map) => map.iter().find_map(|(key, value)| match (&**key, value) {
            ("$ref" | "$dynamicRef", Value::String(text)) if !text.starts_with('#') => Some(text.clone()),
            ("$schema", Value::String(text)) if !text.contains("://json-schema.org/") => Some(text.clone()),
            (_, value) => remote_reference(value),
        }),
        Value::Array(items) => items.iter().find_map(remote_reference),
        _ => None,
    }
}

/// The files of a packed chart.
pub(super) fn unpacked(bytes: &[u8]) -> tar::Archive<impl std::io::Read> {
    /// What a packed chart may unpack to; Helm has a limit of its own.
    const UNPACKED: u64 = 128 << 20;
    tar::Archive::new(flate2::read::GzDecoder::new(bytes).take(UNPACKED))
}

/// Checks the schemas in a packed chart.
fn check_packed(bytes: &[u8], file: &str) -> Result<(), RenderError> {
    let mut archive = unpacked(bytes);
    let Ok(entries) = archive.entries() else { return Ok(()) };
    for mut entry in entries.map_while(Result::ok) {
        if entry.path().is_ok_and(|path| path.ends_with("values.schema.json")) {
            let mut schema = Vec::new();
            let limit = u64::try_from(yaml::FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
            if entry.by_ref().take(limit).read_to_end(&mut schema).is_ok() {
                check_schema(&schema, file)?;
            }
        }
    }
    Ok(())
}
