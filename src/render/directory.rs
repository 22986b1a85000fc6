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

/// More files than this are no environment, but a mistake in its path.
const FILES: usize = 100_000;
/// Directories inside each other.
const DEPTH: usize = 64;

/// The renderer of plain directories.
pub struct Directory;

impl Renderer for Directory {
    fn render(&self, request: &Request<'_>, out: &mut Collector<'_>) -> Result<Reads, RenderError> {
        let mut files = Vec::new();
        walk(request, &normal(&request.spec.path), 0, &mut files)?;
        for File { path, notation, entry } in files {
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

fn walk(request: &Request<'_>, directory: &str, depth: usize, files: &mut Vec<File>) -> Result<(), RenderError> {
    let too_many = |what, limit| RenderError::TooMany { path: request.spec.path.clone(), what, limit };
    if depth > DEPTH {
        return Err(too_many("directories inside each other", DEPTH));
    }
    for (name, entry) in request.snapshot.list(directory)? {
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
            (EntryKind::Tree, _) => walk(request, &path, depth + 1, files)?,
            (EntryKind::Symlink, _) => return Err(RenderError::NotAFile { file: path, what: "symbolic link" }),
            (EntryKind::Submodule, _) => return Err(RenderError::NotAFile { file: path, what: "submodule" }),
            (EntryKind::File | EntryKind::Executable, Some(notation)) => files.push(File { path, notation, entry }),
            (EntryKind::File | EntryKind::Executable, None) => {}
        }
        if files.len() > FILES {
            return Err(too_many("files", FILES));
        }
    }
    Ok(())
}
