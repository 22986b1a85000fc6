//! Which images nobody needs any more. Pure: what stands, what refers to it and the time are arguments.
//!
//! An image goes only if all of this lets it: it is plumb's own beyond doubt, nothing refers to it, it is not among the newest of its name, and it
//! has stood long enough.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::reference::{Reference, canonical, was_built};

/// An image that stands, under one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its name, with the tag.
    pub reference: String,
    /// The value of plumb's label: the name that it was built under, with the tag.
    pub built_as: Option<String>,
    /// When it came there, in seconds since 1970; not positive: nobody knows.
    pub created: i64,
}

impl Standing {
    /// Whether it is plumb's own beyond doubt: nothing else may be removed.
    pub fn is_own(&self) -> bool {
        self.own().is_some()
    }

    /// The full name of its repository, if plumb built it under this very name and tag. A label alone proves nothing: whoever builds upon an image
    /// of plumb's inherits it, and anybody can give an image another name, or another tag that looks like plumb's.
    fn own(&self) -> Option<String> {
        let (stands, built) = (Reference::of(&self.reference), Reference::of(self.built_as.as_deref()?));
        let name = canonical(stands.repository);
        let own = canonical(built.repository) == name && built.tag == stands.tag;
        (own && was_built(&self.reference)).then(|| name.into_owned())
    }
}

/// What is kept though nothing refers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// So many of each name, the newest.
    pub newest: usize,
    /// What has stood for less than so many seconds.
    pub seconds: i64,
}

/// Everything that refers to images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// By the repository's full name and the tag.
    tags: BTreeSet<(String, String)>,
    /// Repositories of which a digest is referred to: which tag that is, the text does not tell.
    repositories: BTreeSet<String>,
    /// An image is referred to by its id alone: it may be any.
    any: Option<String>,
}

impl References {
    /// This image is needed, as a container or an `Image` names it.
    pub fn add(&mut self, image: &str) {
        let Reference { repository, tag, digest } = Reference::of(image);
        match (tag, digest) {
            (Some(_), None) if repository == "sha256" => self.any = Some(image.to_owned()),
            // docker runs what is named by an id without its algorithm, too.
            (None, None) if repository.len() == 64 && is_hex(repository) => self.any = Some(image.to_owned()),
            (tag, Some(_)) => {
                self.repositories.insert(canonical(repository).into_owned());
                tag.into_iter().for_each(|tag| self.add_tag(repository, tag));
            }
            (tag, None) => self.add_tag(repository, tag.unwrap_or("latest")),
        }
    }

    fn add_tag(&mut self, repository: &str, tag: &str) {
        self.tags.insert((canonical(repository).into_owned(), tag.to_owned()));
    }

    /// Whether this image may be meant by any of them.
    pub fn have(&self, image: &str) -> bool {
        let Reference { repository, tag, .. } = Reference::of(image);
        let key = (canonical(repository).into_owned(), tag.unwrap_or("latest").to_owned());
        self.any.is_some() || self.repositories.contains(&key.0) || self.tags.contains(&key)
    }

    /// An image that somebody names by its id alone, if there is one: then nothing can be told apart.
    pub fn by_id(&self) -> Option<&str> {
        self.any.as_deref()
    }
}

impl<S: AsRef<str>> Extend<S> for References {
    fn extend<I: IntoIterator<Item = S>>(&mut self, images: I) {
        images.into_iter().for_each(|image| self.add(image.as_ref()));
    }
}

impl<S: AsRef<str>> FromIterator<S> for References {
    fn from_iter<I: IntoIterator<Item = S>>(images: I) -> Self {
        let mut references = Self::default();
        references.extend(images);
        references
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The images that may go, as places in `images`, the oldest first. `now` is in seconds since 1970.
pub fn removable(images: &[Standing], references: &References, policy: Policy, now: i64) -> Vec<usize> {
    let mut by_name: BTreeMap<String, Vec<(usize, &Standing)>> = BTreeMap::new();
    for (place, image) in images.iter().enumerate() {
        if let Some(name) = image.own() {
            by_name.entry(name).or_default().push((place, image));
        }
    }
    let is_old = |image: &Standing| image.created > 0 && now.saturating_sub(image.created) >= policy.seconds;
    let mut removable = Vec::new();
    for own in by_name.values_mut() {
        // What came at a time that nobody knows may be the newest.
        own.sort_by_key(|(_, image)| (image.created > 0, Reverse(image.created), &image.reference));
        let old = own.iter().skip(policy.newest).filter(|(_, image)| is_old(image));
        removable.extend(old.filter(|(_, image)| !references.have(&image.reference)));
    }
    removable.sort_by_key(|(place, image)| (image.created, *place));
    removable.into_iter().map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests;
