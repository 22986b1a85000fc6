//! What git asks for is not deleted.

use super::{Candidate, Scene, Spare, Verdict};

pub(super) fn guard(candidate: &Candidate<'_>, scene: &Scene<'_, '_>) -> Verdict {
    if scene.desired.contains(candidate.key) { Verdict::Spare(Spare::InRender) } else { Verdict::Pass }
}
