//! Image references, as Docker reads them.

use crate::model::images::split_registry;

/// A reference in full, with registry and tag, as containerd's store and the kubelet name it: `todo:1` is `docker.io/library/todo:1`.
pub fn full(reference: &str) -> String {
    let (registry, path) = split(reference);
    let library = if registry == "docker.io" && !path.contains('/') { "library/" } else { "" };
    let tag = if tag_of(path).is_none() && !path.contains('@') { ":latest" } else { "" };
    format!("{registry}/{library}{path}{tag}")
}

/// The registry, and the rest.
pub fn split(reference: &str) -> (&str, &str) {
    match split_registry(reference) {
        (None | Some("index.docker.io"), path) => ("docker.io", path),
        (Some(registry), path) => (registry, path),
    }
}

/// The reference without tag and digest: the name that workloads ask for.
pub fn name(reference: &str) -> &str {
    let bare = reference.split_once('@').map_or(reference, |(bare, _)| bare);
    let start = bare.rfind('/').map_or(0, |slash| slash + 1);
    match bare.get(start..).and_then(|last| last.find(':')) {
        Some(colon) => bare.get(..start + colon).unwrap_or(bare),
        None => bare,
    }
}

/// The tag, if there is one.
pub fn tag_of(reference: &str) -> Option<&str> {
    let bare = reference.split_once('@').map_or(reference, |(bare, _)| bare);
    let last = bare.rsplit_once('/').map_or(bare, |(_, last)| last);
    last.split_once(':').map(|(_, tag)| tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_completed_as_docker_does_it() {
        let table = [
            ("todo:1", "docker.io/library/todo:1"),
            ("todo", "docker.io/library/todo:latest"),
            ("team/todo:1", "docker.io/team/todo:1"),
            ("docker.io/todo:1", "docker.io/library/todo:1"),
            ("index.docker.io/team/todo:1", "docker.io/team/todo:1"),
            ("docker.io/library/todo:1", "docker.io/library/todo:1"),
            ("localhost/todo:1", "localhost/todo:1"),
            ("localhost:5000/todo", "localhost:5000/todo:latest"),
            ("registry:5000/a/b:1", "registry:5000/a/b:1"),
            ("ghcr.io/a/b@sha256:00", "ghcr.io/a/b@sha256:00"),
        ];
        for (given, expected) in table {
            assert_eq!(full(given), expected, "{given}");
            assert_eq!(full(&full(given)), expected, "{given} twice");
        }
    }

    #[test]
    fn a_port_is_no_tag() {
        assert_eq!((name("registry:5000/a/b"), tag_of("registry:5000/a/b")), ("registry:5000/a/b", None));
        assert_eq!((name("registry:5000/a/b:1"), tag_of("registry:5000/a/b:1")), ("registry:5000/a/b", Some("1")));
        assert_eq!((name("a:1@sha256:00"), tag_of("a:1@sha256:00")), ("a", Some("1")));
    }
}
