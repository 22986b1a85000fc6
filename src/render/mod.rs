//! From files at one commit to complete manifests.
//!
//! [`render`] tells a Helm chart, a kustomization and a directory of plain manifests apart, lets the one [`Renderer`] read what it
//! needs from git objects, and finishes every object (checks, namespace, label). Then containers get the images that the commit's `plumb.yaml`
//! declares, by the tags that follow from their sources. What was read is the cache key: a commit that changes none of it renders nothing, and
//! one that changes sources of images alone runs no renderer.

mod across;
mod cache;
mod collect;
mod contents;
mod definition;
mod directory;
mod error;
pub mod finish;
mod helm;
mod images;
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

pub use across::Across;
pub use cache::Cache;
pub use collect::Collector;
pub use contents::Contents;
pub use definition::{Definition, DefinitionError, Definitions, definition_of, plumb_file};
pub use error::RenderError;
pub(crate) use error::source_failure;
pub use helm::HelmError;
pub use kustomize::KustomizeError;
pub use materialise::MaterialiseError;
pub use own::check as check_own_definition;
pub use process::ProcessError;
pub use request::{Kustomize, Rendered, Request, Tools};

use crate::model::images::Image;
use crate::model::path::is_inside;
use crate::model::{Desired, EnvironmentSpec, Reads};
use crate::source::{EntryKind, Snapshot, context};
use cache::Plain;
use images::Applied;

/// The file that makes a directory a chart, whatever else is in it.
const CHART: &str = "Chart.yaml";

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
    let found = images::images(request.snapshot, cache.contexts())?;
    let (plain, same) = match cache.plain(request)? {
        Some(plain) => (plain, true),
        None => plain_render(request, cache)?,
    };
    let Applied { objects, images, remarks: of_images } =
        images::apply(&found, &plain.objects, request.tools.pull_policy)?;
    let mut reads = plain.reads.clone();
    reads.0.extend(images::reads(request.snapshot)?.0);
    let remarks = plain.remarks.iter().cloned().chain(of_images).collect();
    let desired = Desired { commit: request.snapshot.commit(), objects, images, reads, remarks };
    let same = same && cache.has_images(&desired.images);
    cache.keep(desired.clone(), plain);
    Ok(if same { Rendered::Same(desired) } else { Rendered::New(desired) })
}

/// The objects as git has them, before any image is put in, and whether they are those of the last render.
fn plain_render(request: &Request<'_>, cache: &mut Cache) -> Result<(Plain, bool), RenderError> {
    let renderer = detect(request.snapshot, request.spec)?;
    let mut known = cache.take_files();
    let mut out = Collector::new(request, &mut known);
    let reads = renderer.render(request, &mut out)?;
    let collected = out.done()?;
    cache.keep_files(collected.files);
    Ok((Plain { objects: collected.objects, reads, remarks: collected.remarks }, collected.same))
}

/// The images that the commit's `plumb.yaml` declares, each after those it is based on. What is `known` of contexts is not read again.
pub fn declared_images(snapshot: &Snapshot, known: &mut context::Known) -> Result<Vec<Image>, RenderError> {
    Ok(images::images(snapshot, known)?.images)
}

/// What a render at this commit would read. Nothing is rendered: where two commits have the same, they ask for the same.
pub fn reads(snapshot: &Snapshot, spec: &EnvironmentSpec) -> Result<Reads, RenderError> {
    let mut reads = detect(snapshot, spec)?.reads(snapshot, spec)?;
    reads.0.extend(images::reads(snapshot)?.0);
    Ok(reads)
}

/// Tells what is at the environment's path from what is in it.
fn detect(snapshot: &Snapshot, spec: &EnvironmentSpec) -> Result<Box<dyn Renderer>, RenderError> {
    let path = &spec.path;
    if !is_inside(path) {
        return Err(RenderError::BadPath(path.clone()));
    }
    match snapshot.entry(path)?.map(|entry| entry.kind) {
        Some(EntryKind::Tree) => {}
        Some(_) => return Err(RenderError::BadPath(path.clone())),
        None => return Err(RenderError::Missing { field: "spec.path", path: path.clone() }),
    }
    let entries = snapshot.list(path)?;
    let has = |names: &[&str]| entries.iter().any(|(name, _)| names.contains(&name.as_str()));
    if has(&[CHART]) {
        return Ok(Box::new(helm::Helm));
    }
    if !spec.values.is_empty() {
        return Err(RenderError::ValuesWithoutChart(path.clone()));
    }
    if has(&kustomize::FILES) { Ok(Box::new(kustomize::Kustomization)) } else { Ok(Box::new(directory::Directory)) }
}
