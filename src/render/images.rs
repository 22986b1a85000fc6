//! The images that a commit's `plumb.yaml` declares: their tags, and the reads that decide them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::definition::{PLUMB_FILE, plumb_file};
use super::error::RenderError;
use super::finish::{Containers, rewrite};
use crate::build::dockerfile::Dockerfile;
use crate::build::order::order;
use crate::build::reference::{Reference, canonical};
use crate::build::rewrite::Rewrite;
use crate::build::tag::{Inputs, tag};
use crate::model::images::{Image, ImageSource, ImagesError};
use crate::model::{Manifest, Reads};
use crate::source::Snapshot;
use crate::source::context::{self, Context, ContextError, Known};

/// The images of one commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Images {
    /// Each after those that it is based on.
    pub images: Vec<Image>,
    /// What a person should know of their Dockerfiles.
    pub remarks: Vec<String>,
}

/// One declared image on its way to a tag.
struct Source {
    image: Arc<ImageSource>,
    context: Context,
    dockerfile: Dockerfile,
    /// Images of the same commit that it is based on: as written, and which.
    bases: BTreeMap<String, usize>,
}

/// Reads the images of a commit. Without a `plumb.yaml` it is one look into the root's tree.
pub(super) fn images(snapshot: &Snapshot, known: &mut Known) -> Result<Images, RenderError> {
    let declared = plumb_file(snapshot)?.unwrap_or_default().images;
    let mut sources = declared.into_iter().map(|image| source(snapshot, image)).collect::<Result<Vec<_>, _>>()?;
    let names = names(&sources)?;
    for source in &mut sources {
        source.bases = bases(&source.dockerfile, &names);
    }
    let based: Vec<(&str, Vec<usize>)> =
        sources.iter().map(|source| (&*source.image.name, source.bases.values().copied().collect())).collect();
    let order = order(&based).map_err(|source| RenderError::Circle { file: PLUMB_FILE, source })?;
    let mut tags: Vec<Option<Image>> = vec![None; sources.len()];
    let mut images = Vec::with_capacity(sources.len());
    for index in order {
        let Some(source) = sources.get(index) else { continue };
        let image = tagged(snapshot, source, &tags, known)?;
        images.push(image.clone());
        if let Some(slot) = tags.get_mut(index) {
            *slot = Some(image);
        }
    }
    known.sweep();
    Ok(Images { images, remarks: sources.iter().flat_map(remarks).collect() })
}

/// What [`images`] reads: `plumb.yaml` and the contexts' trees, which have everything else in them.
pub(super) fn reads(snapshot: &Snapshot) -> Result<Reads, RenderError> {
    let mut reads = vec![(PLUMB_FILE.into(), snapshot.entry(PLUMB_FILE)?.map(|entry| entry.id))];
    // One that can't be read declares nothing, and what is wrong with it is in it.
    let declared = plumb_file(snapshot).ok().flatten().unwrap_or_default().images;
    let contexts: BTreeSet<String> = declared.into_iter().map(|image| image.context).collect();
    for context in contexts {
        let id = snapshot.entry(&context)?.map(|entry| entry.id);
        reads.push((context.into(), id));
    }
    Ok(Reads(reads))
}

/// What became of a render's objects.
pub(super) struct Applied {
    /// With the images that are built for them.
    pub objects: Vec<Arc<Manifest>>,
    /// The images that they need, each after those that it is based on.
    pub images: Vec<Image>,
    /// What is to be said of that.
    pub remarks: Vec<String>,
}

/// The objects with the images that are built for them, and what is to be said of that.
pub(super) fn apply(
    found: &Images,
    objects: &[Arc<Manifest>],
    pull_policy: Option<&'static str>,
) -> Result<Applied, RenderError> {
    if found.images.is_empty() {
        return Ok(Applied { objects: objects.to_vec(), images: Vec::new(), remarks: Vec::new() });
    }
    let references = found.images.iter().map(|image| (&*image.source.name, image.reference()));
    let Containers { objects, used, explicit } = rewrite(objects, &Rewrite::new(references, pull_policy))?;
    let bases: BTreeSet<&String> = found.images.iter().flat_map(|image| image.bases.values()).collect();
    let named: BTreeSet<_> =
        explicit.iter().map(|(_, image)| canonical(Reference::of(image.trim()).repository).into_owned()).collect();
    let is_idle = |image: &&Image| {
        let name = &image.source.name;
        !used.contains(name) && !bases.contains(&image.reference()) && !named.contains(&*canonical(name))
    };
    let idle = found.images.iter().filter(is_idle).map(|image| &image.source.name);
    let mut remarks: Vec<String> = idle
        .map(|name| format!("{PLUMB_FILE}: no container of this environment uses the image {name:?}, and no other image is based on it"))
        .collect();
    remarks.extend(explicit.into_iter().map(|(key, image)| {
        format!("{key} uses {image:?}, which says itself which image it means: it is left alone; without tag and digest it would be the one that is built")
    }));
    remarks.extend(found.remarks.iter().cloned());
    let images = needed(found.images.clone(), &used);
    Ok(Applied { objects, images, remarks })
}

/// The images that containers use, and those that these are based on.
fn needed(mut images: Vec<Image>, used: &BTreeSet<String>) -> Vec<Image> {
    let mut needed = BTreeSet::new();
    for image in images.iter_mut().rev() {
        image.used = used.contains(&image.source.name);
        if image.used || needed.contains(&image.reference()) {
            needed.insert(image.reference());
            needed.extend(image.bases.values().cloned());
        }
    }
    images.retain(|image| needed.contains(&image.reference()));
    images
}

fn source(snapshot: &Snapshot, image: ImageSource) -> Result<Source, RenderError> {
    let read = || {
        let context = context::find(snapshot, &image)?;
        let dockerfile = context.read_dockerfile(snapshot, &image.args)?;
        match &image.target {
            Some(target) if !dockerfile.has_stage(target) => {
                Err(ContextError::NoStage { file: context.dockerfile_path(), target: target.clone() })
            }
            _ => Ok((context, dockerfile)),
        }
    };
    let (context, dockerfile) = read().map_err(RenderError::image(&image.name))?;
    Ok(Source { image: Arc::new(image), context, dockerfile, bases: BTreeMap::new() })
}

/// The images by their full names.
fn names(sources: &[Source]) -> Result<BTreeMap<String, usize>, RenderError> {
    let mut names = BTreeMap::new();
    for (index, source) in sources.iter().enumerate() {
        let name = &source.image.name;
        if names.insert(canonical(name).into_owned(), index).is_some() {
            return Err(RenderError::Images { file: PLUMB_FILE, source: ImagesError::DeclaredTwice(name.clone()) });
        }
    }
    Ok(names)
}

/// Which images of its Dockerfile are built from this repository, too: the same rule as for containers.
fn bases(dockerfile: &Dockerfile, names: &BTreeMap<String, usize>) -> BTreeMap<String, usize> {
    let own = |image: &String| {
        let reference = Reference::of(image);
        let index = names.get(&*canonical(reference.repository)).filter(|_| reference.is_open())?;
        Some((image.clone(), *index))
    };
    dockerfile.images.iter().filter_map(own).collect()
}

fn tagged(
    snapshot: &Snapshot,
    source: &Source,
    tags: &[Option<Image>],
    known: &mut Known,
) -> Result<Image, RenderError> {
    let Source { image, context, bases, .. } = source;
    let base = |index: &usize| tags.get(*index).and_then(Option::as_ref);
    let inputs = Inputs {
        entries: known.entries(snapshot, context).map_err(RenderError::image(&image.name))?,
        dockerfile: context.dockerfile_entry.id,
        target: image.target.as_deref(),
        args: &image.args,
        platform: image.platform.as_deref(),
        bases: bases.values().filter_map(base).map(|base| (&*base.source.name, &*base.tag)).collect(),
    };
    let references = bases.iter().filter_map(|(written, index)| Some((written.clone(), base(index)?.reference())));
    Ok(Image { source: Arc::clone(image), tag: tag(&inputs), bases: references.collect(), used: false })
}

/// What may change an image though nothing in git does.
fn remarks(source: &Source) -> Vec<String> {
    let file = source.context.dockerfile_path();
    let foreign = source.dockerfile.floating().filter(|image| !source.bases.contains_key(*image));
    let foreign = foreign.map(|image| ("base image", image));
    let syntax = source.dockerfile.floating_syntax().map(|image| ("syntax", image));
    let mut remarks: Vec<String> = foreign
        .chain(syntax)
        .map(|(what, image)| {
            format!("{file}: the {what} {image:?} has no digest: the same sources may build something else another day")
        })
        .collect();
    let open = source.dockerfile.open.iter();
    remarks.extend(
        open.map(|image| format!("{file}: which image {image:?} is, only the builder knows: it is not in the tag")),
    );
    remarks
}

#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
