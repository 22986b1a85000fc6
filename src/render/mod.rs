//! From files at one commit to complete manifests.
//!
//! [`render`] tells a Helm chart, a kustomization and a directory of plain manifests apart, lets the one [`Renderer`] read what it
//! needs from git objects, and finishes every object (checks, namespace, label). What was read is the cache key: a commit that changes none of
//! it renders nothing.

mod cache;
mod collect;
mod contents;
mod definition;
mod directory;
mod error;
pub mod finish;
mod helm;
mod kustomize;
mod materialise;
mod own;
mod process;
mod request;
#[cfg(test)]
mod tests;
pub mod yaml;

#[cfg(test)]
pub(crate) use tests::program as test_program;

pub use cache::Cache;
pub use collect::Collector;
pub use contents::Contents;
pub use definition::{Definition, DefinitionError, Definitions, definition_of, plumb_file};
pub use error::RenderError;
pub use helm::HelmError;
pub use kustomize::KustomizeError;
pub use materialise::MaterialiseError;
pub use own::check as check_own_definition;
pub use process::ProcessError;
pub use request::{Kustomize, Rendered, Request, Tools};

use crate::model::{CommitId, Desired, EnvironmentSpec, Reads, images};
use crate::source::{EntryKind, Snapshot};
use definition::PLUMB_FILE;

/// Reads one kind of source and hands its objects to a [`Collector`].
pub trait Renderer {
    /// Renders the environment's path. The answer is what was read: it decides when the render is made anew.
    fn render(&self, request: &Request<'_>, out: &mut Collector<'_>) -> Result<Reads, RenderError>;

    /// The same answer without the render.
    fn reads(&self, snapshot: &Snapshot, spec: &EnvironmentSpec) -> Result<Reads, RenderError>;
}

/// The objects that the environment wants at the request's commit. Blocking: git is read, and a child process may run.
pub fn render(request: &Request<'_>, cache: &mut Cache) -> Result<Rendered, RenderError> {
    cache.enter(request);
    if let Some(desired) = cache.unchanged(request)? {
        return Ok(Rendered::Same(desired));
    }
    plumb_file(request.snapshot)?;
    let renderer = detect(request.snapshot, request.spec)?;
    let mut known = cache.take_files();
    let mut out = Collector::new(request, &mut known);
    let mut reads = renderer.render(request, &mut out)?;
    let collected = out.done()?;
    reads.0.push(read_plumb_file(request.snapshot)?);
    let commit = request.snapshot.commit();
    let desired = Desired { commit, objects: collected.objects, reads, remarks: collected.remarks };
    cache.keep(desired.clone(), collected.files);
    Ok(if collected.same { Rendered::Same(desired) } else { Rendered::New(desired) })
}

/// What a render at this commit would read. Nothing is rendered: where two commits have the same, they ask for the same.
pub fn reads(snapshot: &Snapshot, spec: &EnvironmentSpec) -> Result<Reads, RenderError> {
    let mut reads = detect(snapshot, spec)?.reads(snapshot, spec)?;
    reads.0.push(read_plumb_file(snapshot)?);
    Ok(reads)
}

fn read_plumb_file(snapshot: &Snapshot) -> Result<(Box<str>, Option<CommitId>), RenderError> {
    Ok((PLUMB_FILE.into(), snapshot.entry(PLUMB_FILE)?.map(|entry| entry.id)))
}

/// Tells what is at the environment's path from what is in it.
fn detect(snapshot: &Snapshot, spec: &EnvironmentSpec) -> Result<Box<dyn Renderer>, RenderError> {
    let path = &spec.path;
    if !images::is_inside(path) {
        return Err(RenderError::BadPath(path.clone()));
    }
    match snapshot.entry(path)?.map(|entry| entry.kind) {
        Some(EntryKind::Tree) => {}
        Some(_) => return Err(RenderError::BadPath(path.clone())),
        None => return Err(RenderError::Missing { field: "spec.path", path: path.clone() }),
    }
    let entries = snapshot.list(path)?;
    let has = |names: &[&str]| entries.iter().any(|(name, _)| names.contains(&name.as_str()));
    if has(&["Chart.yaml"]) {
        return Ok(Box::new(helm::Helm));
    }
    if !spec.values.is_empty() {
        return Err(RenderError::ValuesWithoutChart(path.clone()));
    }
    if has(&kustomize::FILES) { Ok(Box::new(kustomize::Kustomization)) } else { Ok(Box::new(directory::Directory)) }
}
