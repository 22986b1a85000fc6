//! Some kinds are served in two API groups, and one object is listed in both: its uid tells. Deleting it by its old name would delete
//! what git asks for under the new one.

use super::{Candidate, Scene, Spare, Verdict};

pub(super) fn guard(candidate: &Candidate<'_>, scene: &Scene<'_, '_>) -> Verdict {
    if scene.desired_uids.contains(&*candidate.live.uid) { Verdict::Spare(Spare::SameObject) } else { Verdict::Pass }
}
