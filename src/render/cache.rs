//! What an environment's last render read and yielded.

use std::sync::Arc;

use super::collect::Files;
use super::error::RenderError;
use super::request::Request;
use crate::model::environment::{Allow, IgnoreRule};
use crate::model::images::Image;
use crate::model::{Desired, Manifest, Reads};
use crate::source::Snapshot;
use crate::source::context::Known;

/// The last render of one environment. Objects are shared with whoever holds them, so it costs little memory of its own.
#[derive(Default)]
pub struct Cache {
    context: Option<Context>,
    last: Option<Desired>,
    /// The same before images were put in; only where there are images.
    plain: Option<Plain>,
    files: Files,
    /// The contexts of images; what an environment's definition says is nothing to them.
    contexts: Known,
}

/// What a renderer made: the objects as git has them.
#[derive(Clone)]
pub(super) struct Plain {
    pub objects: Vec<Arc<Manifest>>,
    /// What the renderer read.
    pub reads: Reads,
    /// Rules of the definition that are about nothing, and hooks.
    pub remarks: Vec<String>,
}

/// All that decides a render, besides the files it reads.
#[derive(Debug, PartialEq, Eq)]
struct Context {
    environment: String,
    part_of: String,
    namespace: String,
    path: String,
    values: Vec<String>,
    allow: Allow,
    ignore: Vec<IgnoreRule>,
    kinds_generation: u64,
}

impl Context {
    fn of(request: &Request<'_>) -> Self {
        let spec = request.spec;
        Self {
            environment: request.environment.to_owned(),
            part_of: request.part_of.to_owned(),
            namespace: spec.namespace.clone(),
            path: spec.path.clone(),
            values: spec.values.clone(),
            allow: spec.allow.clone(),
            ignore: spec.ignore.clone(),
            kinds_generation: request.kinds_generation,
        }
    }
}

impl Cache {
    /// Forgets everything if the definition or the kinds changed.
    pub(super) fn enter(&mut self, request: &Request<'_>) {
        let context = Context::of(request);
        if self.context.as_ref() != Some(&context) {
            let contexts = std::mem::take(&mut self.contexts);
            *self = Self { context: Some(context), contexts, ..Self::default() };
        }
    }

    /// The last render, for this commit, if all that it read is the same.
    pub(super) fn unchanged(&self, request: &Request<'_>) -> Result<Option<Desired>, RenderError> {
        let Some(last) = &self.last else { return Ok(None) };
        if !holds(&last.reads, request.snapshot)? {
            return Ok(None);
        }
        Ok(Some(Desired { commit: request.snapshot.commit(), ..last.clone() }))
    }

    /// What the renderer made last, if all that it read is the same.
    pub(super) fn plain(&self, request: &Request<'_>) -> Result<Option<Plain>, RenderError> {
        let Some(plain) = &self.plain else { return Ok(None) };
        Ok(if holds(&plain.reads, request.snapshot)? { Some(plain.clone()) } else { None })
    }

    /// Whether the last render had these images.
    pub(super) fn has_images(&self, images: &[Image]) -> bool {
        self.last.as_ref().is_some_and(|last| last.images == images)
    }

    /// The contexts that were listed.
    pub(super) fn contexts(&mut self) -> &mut Known {
        &mut self.contexts
    }

    /// The files of the last render; the cache has none until the next [`Cache::keep_files`], so the commit after a failed one is read whole.
    pub(super) fn take_files(&mut self) -> Files {
        std::mem::take(&mut self.files)
    }

    /// Keeps a render.
    pub(super) fn keep(&mut self, desired: Desired, plain: Plain) {
        self.plain = (!desired.images.is_empty()).then_some(plain);
        self.last = Some(desired);
    }

    /// Keeps the files of a render.
    pub(super) fn keep_files(&mut self, files: Files) {
        self.files = files;
    }
}

/// Whether every path that was read has the same id, or is missing as it was.
fn holds(reads: &Reads, snapshot: &Snapshot) -> Result<bool, RenderError> {
    for (path, id) in &reads.0 {
        if snapshot.entry(path)?.map(|entry| entry.id) != *id {
            return Ok(false);
        }
    }
    Ok(true)
}
