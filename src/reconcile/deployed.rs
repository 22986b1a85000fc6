//! What was deployed before, as far as the status tells a life of plumb that remembers nothing of the objects: at a start, and after a resync forgot it.

use std::collections::HashSet;

use super::Reconciler;
use crate::cluster::gates::Former;
use crate::model::environment::EnvironmentStatus;
use crate::model::{CommitId, Desired, Manifest, ObjectKey};

/// The commit that passed its gates last.
struct Deployed {
    target: CommitId,
    /// What of it has not been written.
    lacking: HashSet<String>,
}

/// Of the objects that are asked for, those that were deployed before.
#[derive(Debug, Default)]
pub(super) struct Stood {
    /// In whatever form.
    pub(super) ever: HashSet<ObjectKey>,
    /// As they are asked for now.
    pub(super) so: HashSet<ObjectKey>,
}

fn target_of(status: &EnvironmentStatus) -> Option<CommitId> {
    status.target.as_ref()?.parse().ok()
}

impl Reconciler {
    /// The commit that passed its gates last, if the status says that all of it stood at the end of its deployment.
    pub fn deployed_target(&self) -> Option<CommitId> {
        self.deployed().filter(|deployed| deployed.lacking.is_empty()).map(|deployed| deployed.target)
    }

    /// The same if some of it did; `None` if nobody knows what.
    fn deployed(&self) -> Option<Deployed> {
        let environment = self.shared.parents.get(&self.name)?;
        let status = environment.status.as_ref()?;
        let stands = target_of(status)?;
        let target = self.memory().same.filter(|(target, _)| *target == stands).map_or(stands, |(_, same)| same);
        let lacking = match status.short_commit == Some(stands.short()) {
            true => HashSet::new(),
            false => status.not_applied.as_ref()?.iter().cloned().collect(),
        };
        Some(Deployed { target, lacking })
    }

    /// Whether a commit passed its gates last, in this life or, as long as none did, in an earlier one.
    pub(super) fn has_passed(&self, commit: CommitId) -> bool {
        let environment = self.shared.parents.get(&self.name);
        let status = environment.and_then(|environment| target_of(environment.status.as_ref()?));
        let memory = self.memory();
        let same = memory.same.filter(|(target, _)| Some(*target) == status).map(|(_, same)| same);
        let target = memory.target.as_ref().map_or(status, |target| Some(target.commit));
        [same, target].contains(&Some(commit))
    }

    /// What of this commit stood at the end of its deployment in an earlier life, as long as nothing was deployed in this one. `None`: nobody knows.
    pub(super) fn stood_in_status(&self, commit: CommitId) -> Option<impl Fn(&Manifest) -> bool + use<>> {
        if self.memory().target.is_some() {
            return None;
        }
        let deployed = self.deployed().filter(|deployed| deployed.target == commit)?;
        Some(move |manifest: &Manifest| !deployed.lacking.contains(&manifest.key.qualified()))
    }

    /// The commit that ended unchanged since this status was written, if the status speaks of what it asks for.
    pub fn stands_as(&self, status: &EnvironmentStatus) -> Option<CommitId> {
        let (target, same) = self.memory().same?;
        let speaks = target_of(status) == Some(target) && status.short_commit == Some(target.short());
        speaks.then_some(same)
    }

    /// A commit asks for just what stands.
    pub(super) fn remember_same(&self, commit: CommitId) {
        let environment = self.shared.parents.get(&self.name);
        let target = environment.and_then(|environment| target_of(environment.status.as_ref()?));
        self.memory().same = target.map(|target| (target, commit));
    }

    /// Whether all of a commit is to be looked at anew, since the status tells better than this life's memory what of it was deployed.
    pub(super) fn is_known_from_status(&self, commit: CommitId) -> bool {
        let forgot = || self.memory().baselines.is_empty();
        self.deployed().is_some_and(|deployed| deployed.target == commit && (deployed.lacking.is_empty() || forgot()))
    }

    /// What stood of what is asked for, by the status. Nothing is, as long as this life's memory tells.
    pub(super) fn stood(&self, desired: &Desired, former: &Former) -> Stood {
        let Some(deployed) = self.deployed().filter(|_| self.memory().baselines.is_empty()) else {
            return Stood::default();
        };
        let written = |manifest: &&Manifest| !deployed.lacking.contains(&manifest.key.qualified());
        let same_commit = deployed.target == desired.commit;
        let asked = || desired.objects.iter().map(|manifest| &**manifest).filter(written);
        let keys = |manifest: &Manifest| manifest.key.clone();
        let same = |manifest: &&Manifest| {
            same_commit || former.get(&manifest.key).is_some_and(|former| former.digest == manifest.digest)
        };
        let ever = |manifest: &&Manifest| same_commit || former.contains_key(&manifest.key);
        Stood { ever: asked().filter(ever).map(keys).collect(), so: asked().filter(same).map(keys).collect() }
    }
}
