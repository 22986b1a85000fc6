//! What another environment asks for is left to that one, never deleted, whichever of the two pushes came first.

use super::{Candidate, Scene, Verdict};
use crate::plan::Claim;

pub(super) fn guard(candidate: &Candidate<'_>, scene: &Scene<'_, '_>) -> Verdict {
    match scene.input.peers.claim(candidate.key) {
        Claim::Environment(to) => Verdict::HandOver(to),
        Claim::Nobody | Claim::Unknown(_) => Verdict::Pass,
    }
}
