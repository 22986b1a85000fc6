//! What is being deleted needs no second request.

use super::{Candidate, Scene, Spare, Verdict};

pub(super) fn guard(candidate: &Candidate<'_>, _: &Scene<'_, '_>) -> Verdict {
    if candidate.live.terminating { Verdict::Spare(Spare::Terminating) } else { Verdict::Pass }
}
