//! Deleting a namespace deletes what is in it, deleting a CRD all objects of its kind: not while the render has one of them.

use super::{Candidate, Scene, Spare, Verdict};
use crate::model::{Kinds, ObjectKey};
use crate::plan::place::is_crd;

pub(super) fn guard(candidate: &Candidate<'_>, scene: &Scene<'_, '_>) -> Verdict {
    match scene.desired.iter().filter(|object| needs(object, candidate.key, scene.input.kinds)).min() {
        Some(object) => Verdict::Spare(Spare::StillNeeded((*object).clone())),
        None => Verdict::Pass,
    }
}

/// Whether the object would go with `what`.
pub(in crate::plan) fn needs(object: &ObjectKey, what: &ObjectKey, kinds: &Kinds) -> bool {
    if what.kind.is("", "Namespace") {
        return object.namespace.as_ref() == Some(&what.name);
    }
    // A CRD is called <plural>.<group>.
    let group = &object.kind.group;
    is_crd(&what.kind)
        && what
            .name
            .strip_suffix(&**group)
            .and_then(|plural| plural.strip_suffix('.'))
            .is_some_and(|plural| kinds.preferred(&object.kind).is_none_or(|info| *info.plural == *plural))
}
