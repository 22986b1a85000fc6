//! Nothing is deleted on half a picture: an object may stand under a kind that is not listed yet, and the budget be counted wrong.

use super::{Candidate, Scene, Verdict, Wait};

pub(super) fn guard(_: &Candidate<'_>, scene: &Scene<'_, '_>) -> Verdict {
    if scene.input.inventory_complete { Verdict::Pass } else { Verdict::Wait(Wait::InventoryIncomplete) }
}
