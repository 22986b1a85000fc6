//! The environment's namespace holds all it has, and things that are not in git: it is never deleted by a prune. It goes with the environment, if the
//! environment's manifests had it.

use super::{Candidate, Scene, Spare, Verdict};

pub(super) fn guard(candidate: &Candidate<'_>, scene: &Scene<'_, '_>) -> Verdict {
    let own = candidate.key.kind.is("", "Namespace") && *candidate.key.name == *scene.input.spec.namespace;
    if own && scene.input.removal.is_none() { Verdict::Spare(Spare::OwnNamespace) } else { Verdict::Pass }
}
