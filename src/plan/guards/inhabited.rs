//! Deleting a namespace deletes all that is in it: not while another environment may have objects there.

use super::{Candidate, Scene, Spare, Verdict};

pub(super) fn guard(candidate: &Candidate<'_>, scene: &Scene<'_, '_>) -> Verdict {
    if !candidate.key.kind.is("", "Namespace") {
        return Verdict::Pass;
    }
    match scene.input.peers.lives_in(&candidate.key.name) {
        Some(environment) => Verdict::Spare(Spare::Inhabited(environment)),
        None => Verdict::Pass,
    }
}
