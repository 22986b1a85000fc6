//! An image reference, as manifests and Dockerfiles write it: `repository[:tag][@digest]`.

use std::borrow::Cow;

use super::tag::{is_tag, was_tag};
use crate::model::images::{is_repository, split_registry};

/// The parts of an image reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference<'a> {
    /// Registry and path, as written.
    pub repository: &'a str,
    /// The tag.
    pub tag: Option<&'a str>,
    /// The digest, such as `sha256:…`.
    pub digest: Option<&'a str>,
}

impl<'a> Reference<'a> {
    /// Takes a reference apart. What is no reference has no tag and a repository that nobody declares.
    pub fn of(text: &'a str) -> Self {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        // A colon before the last slash is that of a registry's port.
        let path = name.rfind('/').map_or(0, |slash| slash + 1);
        match name.get(path..).and_then(|last| last.split_once(':')) {
            Some((last, tag)) => {
                let repository = name.get(..path + last.len()).unwrap_or(name);
                Self { repository, tag: Some(tag), digest }
            }
            None => Self { repository: name, tag: None, digest },
        }
    }

    /// Whether it leaves open which image of its repository is meant: without digest, and without tag or with `latest`.
    pub fn is_open(&self) -> bool {
        self.digest.is_none() && self.tag.is_none_or(|tag| tag == "latest")
    }
}

/// The full name of a repository: `todo` and `docker.io/library/todo` are the same.
pub fn canonical(repository: &str) -> Cow<'_, str> {
    const HUB: &str = "docker.io";
    let (host, path) = split_registry(repository);
    match (host.unwrap_or(HUB), path.contains('/')) {
        (HUB | "index.docker.io" | "registry-1.docker.io", false) => format!("{HUB}/library/{path}").into(),
        (HUB | "index.docker.io" | "registry-1.docker.io", true) => format!("{HUB}/{path}").into(),
        _ => repository.into(),
    }
}

/// Whether plumb gives images such names: one repository, and a tag that follows from content.
pub fn is_built(reference: &str) -> bool {
    is_tagged(reference, is_tag)
}

/// Whether plumb may have given an image this name at some time, by whatever rule it then had.
pub fn was_built(reference: &str) -> bool {
    is_tagged(reference, was_tag)
}

fn is_tagged(reference: &str, by: fn(&str) -> bool) -> bool {
    let Reference { repository, tag, digest } = Reference::of(reference);
    digest.is_none() && tag.is_some_and(by) && is_repository(repository)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_taken_apart() {
        for (text, repository, tag, digest) in [
            ("todo", "todo", None, None),
            ("todo:1", "todo", Some("1"), None),
            ("localhost:5000/todo", "localhost:5000/todo", None, None),
            ("localhost:5000/a/todo:1@sha256:0", "localhost:5000/a/todo", Some("1"), Some("sha256:0")),
            ("todo@sha256:0", "todo", None, Some("sha256:0")),
            ("", "", None, None),
        ] {
            assert_eq!(Reference::of(text), Reference { repository, tag, digest }, "{text}");
        }
        assert!(Reference::of("a").is_open() && Reference::of("a:latest").is_open());
        assert!(!Reference::of("a:1").is_open() && !Reference::of("a:latest@sha256:0").is_open());
    }

    #[test]
    fn an_image_of_plumbs_has_one_name_and_a_tag_of_content() {
        let (tag, former) = ("0123456789abcdef0123456789abcdef01234567", "0123456789abcdef");
        for name in ["todo", "registry.example.com:5000/team/todo"] {
            assert!(is_built(&format!("{name}:{tag}")) && was_built(&format!("{name}:{tag}")), "{name}");
            // It goes one day, and is built by nobody.
            assert!(!is_built(&format!("{name}:{former}")) && was_built(&format!("{name}:{former}")), "{name}");
        }
        for name in [
            &format!("docker.io/library/plumb:0.1.0,todo:{tag}"),
            &format!("todo:{tag}@sha256:0"),
            "todo:1",
            "todo",
            tag,
            &format!("todo:{}", &tag[1..]),
            &format!("todo:{}", tag.to_uppercase()),
            &format!("todo:{former}0"),
        ] {
            assert!(!is_built(name) && !was_built(name), "{name}");
        }
    }

    #[test]
    fn one_repository_has_one_full_name() {
        for name in ["todo", "library/todo", "docker.io/todo", "docker.io/library/todo", "index.docker.io/library/todo"]
        {
            assert_eq!(canonical(name), "docker.io/library/todo", "{name}");
        }
        assert_eq!(canonical("acme/todo"), "docker.io/acme/todo");
        assert_eq!(canonical("localhost/todo"), "localhost/todo");
        assert_eq!(canonical("localhost:5000/todo"), "localhost:5000/todo");
        assert_eq!(canonical("ghcr.io/todo"), "ghcr.io/todo");
    }
}
