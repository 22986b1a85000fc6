//! Deletions come after every write of the commit has succeeded: not while one of its objects can't be written.

use super::{Candidate, Scene, Verdict, Wait};

pub(super) fn guard(_: &Candidate<'_>, scene: &Scene<'_, '_>) -> Verdict {
    match scene.not_applied {
        Some(object) => Verdict::Wait(Wait::NotAllApplied(object.clone())),
        None => Verdict::Pass,
    }
}
