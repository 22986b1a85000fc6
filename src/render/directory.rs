//! A directory of plain manifests: `*.yaml`, `*.yml` and `*.json`, recursively, in the order of their paths.
//!
//! Hidden files are no manifests, nor are `plumb.yaml` and `environments/` at the repository's root.

use std::sync::Arc;

use super::Renderer;
use super::collect::Collector;
use super::definition::{ENVIRONMENTS, PLUMB_FILE};
use super::error::RenderError;
use super::finish::Draft;
use super::request::Request;
use super::yaml::{self, Notation};
use crate::model::path::{join, normal};
use crate::model::{EnvironmentSpec, Origin, Reads};
use crate::source::{Entry, EntryKind, Snapshot};

/// More files and directories than this are no environment, but a mistake in its path; or a tree that names itself over and over.
const ENTRIES: usize = 100_000;
/// Directories inside each other.
const DEPTH: usize = 64;

/// The renderer of plain directories.
pub struct Directory;

impl Renderer for Directory {
    fn render(&self, request: &Request<'_>, out: &mut Collector<'_>) -> Result<Reads, RenderError> {
        let mut found = Found::default();
        walk(request, &normal(&request.spec.path), 0, &mut found)?;
        for File { path, notation, entry } in found.files {
            if out.take_known(&path, entry.id) {
                continue;
            }
            let bytes = request.snapshot.blob(&path, &entry)?;
            let file: Arc<str> = path.into();
            let documents = yaml::read(&bytes, notation, &mut out.budget).map_err(RenderError::yaml(file.clone()))?;
            let draft = |document: yaml::Document| Draft {
                origin: Origin { file: file.clone(), line: document.line, document: document.index },
                value: document.value,
            };
            let drafts = documents.into_iter().map(draft).collect();
            out.add(file.clone(), Some(entry.id), drafts).map_err(|error| precise(error, &bytes, notation))?;
        }
        self.reads(request.snapshot, request.spec)
    }

    fn reads(&self, snapshot: &Snapshot, spec: &EnvironmentSpec) -> Result<Reads, RenderError> {
        let root = normal(&spec.path);
        let tree = snapshot.entry(&root)?.map(|entry| entry.id);
        Ok(Reads(vec![(root.into(), tree)]))
    }
}

/// An object's error at the line of the field it is about: only errors are worth reading a file twice.
fn precise(mut error: RenderError, bytes: &[u8], notation: Notation) -> RenderError {
    if let (RenderError::Object(object), Notation::Yaml) = (&mut error, notation)
        && let Some(line) =
            object.problem.field().and_then(|field| yaml::line_of(bytes, object.origin.document, &field))
    {
        object.origin.line = line;
    }
    error
}

struct File {
    path: String,
    notation: Notation,
    entry: Entry,
}

#[derive(Default)]
struct Found {
    files: Vec<File>,
    /// Whatever was looked at.
    seen: usize,
}

fn walk(request: &Request<'_>, directory: &str, depth: usize, found: &mut Found) -> Result<(), RenderError> {
    let too_many = |what, limit| RenderError::TooMany { path: request.spec.path.clone(), what, limit };
    if depth > DEPTH {
        return Err(too_many("directories inside each other", DEPTH));
    }
    for (name, entry) in request.snapshot.list(directory)? {
        found.seen += 1;
        if found.seen > ENTRIES {
            return Err(too_many("files and directories", ENTRIES));
        }
        let path = join(directory, &name);
        if name.starts_with('.') || matches!(&*path, ENVIRONMENTS | PLUMB_FILE) {
            continue;
        }
        let notation = match name.rsplit_once('.') {
            Some((_, "yaml" | "yml")) => Some(Notation::Yaml),
            Some((_, "json")) => Some(Notation::Json),
            _ => None,
        };
        match (entry.kind, notation) {
            (EntryKind::Tree, _) => walk(request, &path, depth + 1, found)?,
            (EntryKind::Symlink, _) => return Err(RenderError::NotAFile { file: path, what: "symbolic link" }),
            (EntryKind::Submodule, _) => return Err(RenderError::NotAFile { file: path, what: "submodule" }),
            (EntryKind::File | EntryKind::Executable, Some(notation)) => {
                found.files.push(File { path, notation, entry })
            }
            (EntryKind::File | EntryKind::Executable, None) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{TestRepository, render_with, spec};
    use super::super::{Cache, Tools};
    use super::*;

    #[test]
    fn a_directory_without_end_is_refused_where_too_much_was_looked_at() {
        let repository = TestRepository::new();
        let snapshot = repository.endless();
        let spec = spec(json!({"path": "app"}));
        let refused = render_with(&snapshot, &spec, &Tools::default(), &mut Cache::default()).unwrap_err();
        assert!(matches!(refused, RenderError::TooMany { limit: ENTRIES, .. }), "{refused}");
    }
}
