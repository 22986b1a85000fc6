//! The definition says that nothing is deleted.

use super::{Candidate, Scene, Spare, Verdict};

pub(super) fn guard(_: &Candidate<'_>, scene: &Scene<'_, '_>) -> Verdict {
    if scene.input.spec.prune.enabled { Verdict::Pass } else { Verdict::Spare(Spare::PruningOff) }
}
