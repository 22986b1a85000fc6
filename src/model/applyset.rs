//! The names of KEP-3659 (ApplySet), as kubectl's `apply --prune --applyset` reads and writes them.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::GroupKind;

/// The label that makes an object a member; its value is the parent's id.
pub const PART_OF: &str = "applyset.kubernetes.io/part-of";
/// The label on the parent that holds its id.
pub const ID: &str = "applyset.kubernetes.io/id";
/// The annotation on the parent that names the tool; kubectl refuses another tool's parent.
pub const TOOLING: &str = "applyset.kubernetes.io/tooling";
/// The annotation on the parent that names the members' kinds as `Kind.group`, sorted, separated by commas.
pub const GROUP_KINDS: &str = "applyset.kubernetes.io/contains-group-kinds";
/// The annotation on the parent that names the members' namespaces beyond the parent's own.
pub const NAMESPACES: &str = "applyset.kubernetes.io/additional-namespaces";

/// The field manager that keeps, on others' behalf, the value of a field that an environment leaves to them, until one of them writes it. No environment may be
/// called `handover`.
pub const HANDOVER: &str = "plumb-handover";

/// The id of the environment's ApplySet: the parent is cluster-scoped, so the namespace part of what is hashed is empty.
pub fn id(environment: &str) -> String {
    let digest = Sha256::digest(format!("{environment}..Environment.plumb.dev"));
    format!("applyset-{}-v1", URL_SAFE_NO_PAD.encode(digest))
}

/// The field manager of an environment's member objects.
pub fn manager(environment: &str) -> String {
    format!("plumb-{environment}")
}

/// Which kinds and namespaces an ApplySet has members in: where a prune has to look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// The kinds.
    pub kinds: BTreeSet<GroupKind>,
    /// The namespaces.
    pub namespaces: BTreeSet<String>,
}

impl Reach {
    /// Reads the parent's annotations; what is not of their form is passed over.
    pub fn parse(group_kinds: &str, namespaces: &str) -> Self {
        let parts = |text: &str| -> Vec<String> {
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        let kind = |text: String| match text.split_once('.') {
            Some((kind, group)) => GroupKind::new(group, kind),
            None => GroupKind::new("", &text),
        };
        Self {
            kinds: parts(group_kinds).into_iter().map(kind).collect(),
            namespaces: parts(namespaces).into_iter().collect(),
        }
    }

    /// The annotation's text for the kinds.
    pub fn group_kinds(&self) -> String {
        let kinds: BTreeSet<String> = self.kinds.iter().map(ToString::to_string).collect();
        kinds.into_iter().collect::<Vec<_>>().join(",")
    }

    /// The annotation's text for the namespaces.
    pub fn additional_namespaces(&self) -> String {
        self.namespaces.iter().cloned().collect::<Vec<_>>().join(",")
    }

    /// All of both.
    pub fn union(&self, other: &Self) -> Self {
        Self {
            kinds: self.kinds.union(&other.kinds).cloned().collect(),
            namespaces: self.namespaces.union(&other.namespaces).cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The id as `printf 'dev..Environment.plumb.dev' | openssl dgst -sha256 -binary | basenc --base64url` gives it.
    #[test]
    fn the_id_is_the_keps() {
        assert_eq!(id("dev"), "applyset-5Wts880xDkkaD1L8CzgYh27HQwtRPrHeDFXgyXVgpTQ-v1");
    }

    #[test]
    fn the_reach_survives_its_annotations() {
        let reach = Reach::parse("ConfigMap,Deployment.apps", "a,b");
        assert_eq!(reach.kinds.len(), 2);
        assert_eq!(Reach::parse(&reach.group_kinds(), &reach.additional_namespaces()), reach);
        assert_eq!(Reach::parse("", ""), Reach::default());
    }
}
