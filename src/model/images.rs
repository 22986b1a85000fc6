//! `plumb.yaml` at the root of a branch: the images that the repository builds. Read and validated with every commit, so that a
//! mistake in it is found before anything is touched.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::path::is_inside;
use super::secret::{has_secret, sounds_secret};

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
    /// What it is built for, such as `linux/arm64`; the builder's own platform if unset, which is not in the tag.
    #[serde(default)]
    pub platform: Option<String>,
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
    /// The name is not that of a repository.
    #[error(
        "{0:?} is not an image's name: it is a repository such as todo-backend or registry.example.com/team/todo-backend, in small letters, without tag and digest"
    )]
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
    /// It is not that of one platform.
    #[error(
        "the platform of the image {image:?} is {platform:?}: it must be one, as an operating system and an architecture such as linux/arm64 or linux/arm/v7"
    )]
    BadPlatform {
        /// The image's name.
        image: String,
        /// The platform as written.
        platform: String,
    },
    /// A build argument that should be none. Its value is not told.
    #[error(
        "the build argument {arg:?} of the image {image:?} looks like a secret, and build arguments stay in git and in the image's history; plumb has no secrets of a build: let the program read it in the cluster, from a Secret, and replace what git has seen; what is no secret needs another name"
    )]
    SecretArg {
        /// The argument's name.
        arg: String,
        /// The image's name.
        image: String,
    },
}

/// The registry that an image's name begins with, if it names one, and the rest. What stands before the first slash is a registry if it has a dot or a
/// port, or is `localhost`.
pub fn split_registry(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), path),
        _ => (None, name),
    }
}

/// Whether this names one repository, by the grammar of the registries (github.com/distribution/reference). Builders are given such names alone:
/// others take more than one out of a text with a comma.
pub fn is_repository(name: &str) -> bool {
    let (registry, path) = split_registry(name);
    name.len() <= 255 && registry.is_none_or(is_registry) && path.split('/').all(is_path_component)
}

fn is_registry(host: &str) -> bool {
    let (domain, port) = host.split_once(':').unwrap_or((host, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_component = |part: &str| {
        let edges = part.bytes().next().zip(part.bytes().last());
        edges.is_some_and(|(first, last)| first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    is_digits(port) && domain.split('.').all(is_component)
}

/// Whether this is one platform: builders take several out of a text with a comma.
fn is_platform(text: &str) -> bool {
    let is_word = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    (2..=3).contains(&text.split('/').count()) && text.split('/').all(is_word)
}

/// Small letters and digits, in groups that a dot, one or two underscores, or dashes separate.
fn is_path_component(part: &str) -> bool {
    let is_alphanumeric = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    let is_separator = |gap: &str| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|byte| byte == b'-');
    part.starts_with(is_alphanumeric)
        && part.ends_with(is_alphanumeric)
        && part.split(is_alphanumeric).all(is_separator)
}

impl PlumbFile {
    /// Checks what the types don't hold: unique names, each that of one repository, paths inside the repository, one platform, no
    /// secrets among the build arguments. The error has the path of its field.
    pub fn validate(&self) -> Result<(), (String, ImagesError)> {
        let mut seen = std::collections::BTreeSet::new();
        for (index, image) in self.images.iter().enumerate() {
            let wrong = |field: &str, error| Err((format!("images[{index}].{field}"), error));
            if !is_repository(&image.name) {
                return wrong("name", ImagesError::BadName(image.name.clone()));
            }
            if !seen.insert(&image.name) {
                return wrong("name", ImagesError::DeclaredTwice(image.name.clone()));
            }
            for (field, path) in [("context", &image.context), ("dockerfile", &image.dockerfile)] {
                if !is_inside(path) {
                    return wrong(field, ImagesError::BadPath { field, image: image.name.clone(), path: path.clone() });
                }
            }
            if let Some(platform) = image.platform.as_ref().filter(|platform| !is_platform(platform)) {
                let (image, platform) = (image.name.clone(), platform.clone());
                return wrong("platform", ImagesError::BadPlatform { image, platform });
            }
            let secret = image.args.iter().find(|(name, value)| sounds_secret(name) || has_secret(value));
            if let Some((arg, _)) = secret {
                let error = ImagesError::SecretArg { arg: arg.clone(), image: image.name.clone() };
                return wrong(&format!("args.{arg}"), error);
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
        ImageSource { name, context, dockerfile: dockerfile(), target: None, args: BTreeMap::new(), platform: None }
    }

    #[test]
    fn names_are_unique_and_paths_stay_inside() {
        let check = |images: Vec<ImageSource>| PlumbFile { images }.validate();
        assert_eq!(check(vec![image("localhost:5000/a", "apps/a"), image("b", ".")]), Ok(()));
        assert_eq!(
            check(vec![image("a", "x"), image("a", "y")]),
            Err(("images[1].name".to_owned(), ImagesError::DeclaredTwice("a".to_owned())))
        );
        for (name, context) in [("a:1", "x"), ("", "x"), ("a@sha256:0", "x"), ("a", "../x"), ("a", "/x"), ("a", "")] {
            assert!(check(vec![image(name, context)]).is_err(), "{name} {context}");
        }
    }

    #[test]
    fn a_platform_is_one() {
        let check = |platform: &str| {
            let platform = Some(platform.to_owned());
            PlumbFile { images: vec![ImageSource { platform, ..image("web", "x") }] }.validate()
        };
        for platform in ["linux/amd64", "linux/arm/v7", "linux/ppc64le"] {
            assert_eq!(check(platform), Ok(()), "{platform}");
        }
        for platform in ["", "linux", "linux/", "linux/amd64,linux/arm64", "linux/arm64 ", "Linux/arm64", "a/b/c/d"] {
            let (path, error) = check(platform).unwrap_err();
            assert_eq!(path, "images[0].platform");
            assert!(matches!(error, ImagesError::BadPlatform { .. }), "{platform}: {error}");
        }
    }

    #[test]
    fn a_build_argument_is_no_secret() {
        let check = |name: &str, value: &str| {
            let args = BTreeMap::from([("A".to_owned(), "1".to_owned()), (name.to_owned(), value.to_owned())]);
            PlumbFile { images: vec![ImageSource { args, ..image("web", "x") }] }.validate()
        };
        for (name, value) in [("FEATURES", "full"), ("HTTPS_PROXY", "http://proxy:3128"), ("KEYBOARD", "de")] {
            assert_eq!(check(name, value), Ok(()), "{name}");
        }
        for (name, value) in
            [("NPM_TOKEN", "hunter2"), ("db-password", "hunter2"), ("HTTPS_PROXY", "http://me:hunter2@proxy:3128")]
        {
            let (path, error) = check(name, value).unwrap_err();
            assert_eq!(path, format!("images[0].args.{name}"));
            assert_eq!(error, ImagesError::SecretArg { arg: name.to_owned(), image: "web".to_owned() });
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_name_is_that_of_one_repository() {
        let long = "a".repeat(255);
        for name in ["a", "todo-backend", "team/todo_backend", "0/a__b.c---d", "localhost/a", "registry:5000/a", &long]
        {
            assert!(is_repository(name), "{name}");
        }
        for name in ["docker.io/library/a", "Registry-1.Example.com:443/team/a"] {
            assert!(is_repository(name), "{name}");
        }
        let longer = "a".repeat(256);
        // The third would make a builder name two images, one of them another's.
        for name in
            ["", "a:1", "docker.io/library/plumb:0.1.0,docker.io/library/web", "a,b", "A", "a b", "a@sha256:0", &longer]
        {
            assert!(!is_repository(name), "{name}");
        }
        for name in [
            "/a", "a/", "a//b", "-a", "a-", "a..b", "a___b", "a.-b", "ä", "a\nb", ".a/b", "h:/a", "h:x/a", "-h.io/a",
            "h..io/a",
        ] {
            assert!(!is_repository(name), "{name}");
        }
    }
}
