//! As long as an environment that may ask for the object has not rendered, nobody knows whether it is to be handed over.

use super::{Candidate, Scene, Verdict, Wait};
use crate::plan::Claim;

pub(super) fn guard(candidate: &Candidate<'_>, scene: &Scene<'_, '_>) -> Verdict {
    match scene.input.peers.claim(candidate.key) {
        Claim::Unknown(peer) => Verdict::Wait(Wait::PeerNotRendered(peer)),
        Claim::Nobody | Claim::Environment(_) => Verdict::Pass,
    }
}
