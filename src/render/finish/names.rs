//! The rules for names (k8s.io/apimachinery `util/validation`), as far as they hold for every object of a kind.
//!
//! The API server checks names too, but only the author's file and line make its answer useful, and a name ends up in paths.

use crate::model::GroupKind;

use super::error::Problem;

const SUBDOMAIN: &str =
    "lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit, at most 253 characters";
const LABEL: &str =
    "lower-case letters, digits and '-', beginning and ending with a letter or digit, at most 63 characters";
const SEGMENT: &str = "not '.' or '..', without '/' and '%', at most 253 characters";

/// Checks the name of an object of this kind.
pub(super) fn name(kind: &GroupKind, name: &str) -> Result<(), Problem> {
    let (valid, rule) = match &*kind.group {
        // These allow names such as `system:node`.
        "rbac.authorization.k8s.io" | "certificates.k8s.io" | "flowcontrol.apiserver.k8s.io" => {
            (is_path_segment(name), SEGMENT)
        }
        "" if matches!(&*kind.kind, "Namespace" | "Service") => (is_label(name), LABEL),
        _ => (is_subdomain(name), SUBDOMAIN),
    };
    if valid { Ok(()) } else { Err(refused("name", name, rule)) }
}

/// Checks a namespace.
pub(super) fn namespace(name: &str) -> Result<(), Problem> {
    if is_label(name) { Ok(()) } else { Err(refused("namespace", name, LABEL)) }
}

/// Splits an `apiVersion` in group and version.
pub(super) fn api_version(text: &str) -> Result<(&str, &str), Problem> {
    let (group, version) = text.split_once('/').unwrap_or(("", text));
    let group_is_valid = if text.contains('/') { is_subdomain(group) } else { true };
    if group_is_valid && is_label(version) { Ok((group, version)) } else { Err(Problem::ApiVersion(shown(text))) }
}

/// Checks a kind: a word in CamelCase.
pub(super) fn kind(kind: &str) -> Result<(), Problem> {
    let valid = !kind.is_empty() && kind.len() <= 63 && kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if valid { Ok(()) } else { Err(refused("kind", kind, "a word of letters and digits, such as Deployment")) }
}

fn refused(what: &'static str, name: &str, rule: &'static str) -> Problem {
    Problem::Name { what, name: shown(name), rule }
}

fn shown(name: &str) -> String {
    name.chars().take(100).collect()
}

/// RFC 1123 label.
fn is_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let bytes = name.as_bytes();
    name.len() <= 63
        && bytes.iter().all(|byte| inner(*byte))
        && bytes.first().is_some_and(|byte| *byte != b'-')
        && bytes.last().is_some_and(|byte| *byte != b'-')
}

/// RFC 1123 subdomain; unlike in DNS, a part of it may be longer than 63 characters.
fn is_subdomain(name: &str) -> bool {
    let part = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(part)
}

fn is_path_segment(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= 253 && !name.contains(['/', '%', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_their_kind() {
        let check = |group: &str, kind: &str, text: &str| name(&GroupKind::new(group, kind), text).is_ok();
        for (group, kind, text, valid) in [
            ("", "ConfigMap", "a.b-c.1", true),
            ("", "ConfigMap", "A", false),
            ("", "ConfigMap", "a_b", false),
            ("", "ConfigMap", "-a", false),
            ("", "ConfigMap", "a..b", false),
            ("", "ConfigMap", "", false),
            ("", "ConfigMap", "../x", false),
            ("", "ConfigMap", &"a".repeat(254), false),
            ("", "Service", "a.b", false),
            ("", "Namespace", &"a".repeat(64), false),
            ("rbac.authorization.k8s.io", "ClusterRole", "system:Node", true),
            ("rbac.authorization.k8s.io", "ClusterRole", "a/b", false),
        ] {
            assert_eq!(check(group, kind, text), valid, "{kind} {text:?}");
        }
    }

    #[test]
    fn api_versions_are_split() {
        assert_eq!(api_version("v1"), Ok(("", "v1")));
        assert_eq!(api_version("apps/v1"), Ok(("apps", "v1")));
        for bad in ["", "/v1", "apps/", "a/b/c", "Apps/v1", "v 1"] {
            assert!(api_version(bad).is_err(), "{bad:?}");
        }
    }
}
