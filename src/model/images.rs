//! `plumb.yaml` at the root of a branch: the images that the repository builds. Read and validated with every commit, so that a
//! mistake in it is found before anything is touched.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

/// The whole of `plumb.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlumbFile {
    /// The images, in the order of the file.
    #[serde(default)]
    pub images: Vec<ImageSource>,
}

/// One image: its name and what it is built from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageSource {
    /// The repository part of the image reference, without tag or digest.
    pub name: String,
    /// A directory of the repository.
    pub context: String,
    /// The Dockerfile, relative to the context.
    #[serde(default = "dockerfile")]
    pub dockerfile: String,
    /// The stage to build; the last one if unset.
    #[serde(default)]
    pub target: Option<String>,
    /// Build arguments. Never secrets: they stay in the image's history.
    #[serde(default)]
    pub args: BTreeMap<String, String>,
}

fn dockerfile() -> String {
    "Dockerfile".to_owned()
}

/// An image that a commit asks for. It is light: what it is built from is read again when it is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// What `plumb.yaml` says.
    pub source: Arc<ImageSource>,
    /// The tag that follows from its content.
    pub tag: String,
    /// The images of the same repository that it is based on: as its Dockerfile writes them, and the references they are built as.
    pub bases: BTreeMap<String, String>,
    /// A container of the environment has it; otherwise it is there for others to be based on.
    pub used: bool,
}

impl Image {
    /// Name and tag.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.source.name, self.tag)
    }
}

/// What is wrong with a `plumb.yaml` that could be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ImagesError {
    /// Two entries have the same name.
    #[error("the image {0:?} is declared twice; an image has one entry")]
    DeclaredTwice(String),
    /// The name is empty, or has a tag or digest.
    #[error("{0:?} is not an image's name: it is a repository such as todo-backend, without tag and digest")]
    BadName(String),
    /// A path leaves the repository.
    #[error(
        "{field} of the image {image:?} is {path:?}: it must be relative to the repository's root and must not contain '..'"
    )]
    BadPath {
        /// `context` or `dockerfile`.
        field: &'static str,
        /// The image's name.
        image: String,
        /// The path as written.
        path: String,
    },
}

/// Whether a path of a user's document stays inside the repository: relative, without `..`, backslash or NUL, and not empty.
pub fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with('/')
        && !path.contains(['\\', '\0'])
        && path.split('/').all(|part| part != "..")
}

impl PlumbFile {
    /// Checks what the types don't hold: unique names, names without tags, paths inside the repository.
    pub fn validate(&self) -> Result<(), ImagesError> {
        let mut seen = std::collections::BTreeSet::new();
        for image in &self.images {
            let last = image.name.rsplit('/').next().unwrap_or_default();
            if last.is_empty() || last.contains(':') || image.name.contains(['@', ' ']) {
                return Err(ImagesError::BadName(image.name.clone()));
            }
            if !seen.insert(&image.name) {
                return Err(ImagesError::DeclaredTwice(image.name.clone()));
            }
            for (field, path) in [("context", &image.context), ("dockerfile", &image.dockerfile)] {
                if !is_inside(path) {
                    return Err(ImagesError::BadPath { field, image: image.name.clone(), path: path.clone() });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, context: &str) -> ImageSource {
        let (name, context) = (name.to_owned(), context.to_owned());
        ImageSource { name, context, dockerfile: dockerfile(), target: None, args: BTreeMap::new() }
    }

    #[test]
    fn names_are_unique_and_paths_stay_inside() {
        let check = |images: Vec<ImageSource>| PlumbFile { images }.validate();
        assert_eq!(check(vec![image("localhost:5000/a", "apps/a"), image("b", ".")]), Ok(()));
        assert_eq!(check(vec![image("a", "x"), image("a", "y")]), Err(ImagesError::DeclaredTwice("a".to_owned())));
        for (name, context) in [("a:1", "x"), ("", "x"), ("a@sha256:0", "x"), ("a", "../x"), ("a", "/x"), ("a", "")] {
            assert!(check(vec![image(name, context)]).is_err(), "{name} {context}");
        }
    }
}
