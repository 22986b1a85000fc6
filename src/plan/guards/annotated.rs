//! A person said that this object stays.

use super::{Candidate, Scene, Spare, Verdict};

pub(super) fn guard(candidate: &Candidate<'_>, _: &Scene<'_, '_>) -> Verdict {
    if candidate.live.prune_disabled { Verdict::Spare(Spare::Annotated) } else { Verdict::Pass }
}
