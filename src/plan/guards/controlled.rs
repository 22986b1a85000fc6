//! What a controller made, its controller deletes: it would only make it again.

use super::{Candidate, Scene, Spare, Verdict};
use crate::model::live::Owner;

pub(super) fn guard(candidate: &Candidate<'_>, _: &Scene<'_, '_>) -> Verdict {
    match candidate.live.owner.as_deref() {
        Some(Owner::Controller(_)) => Verdict::Spare(Spare::Controlled),
        _ => Verdict::Pass,
    }
}
