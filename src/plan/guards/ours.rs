//! Only what is provably ours: our label and an Apply entry of our manager. Labels are copied by controllers and people; a label alone
//! proves nothing.

use super::{Candidate, Scene, Spare, Verdict};
use crate::plan::standing::is_ours;

pub(super) fn guard(candidate: &Candidate<'_>, scene: &Scene<'_, '_>) -> Verdict {
    if is_ours(candidate.live, scene.input) { Verdict::Pass } else { Verdict::Spare(Spare::NotOurs) }
}
