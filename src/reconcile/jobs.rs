//! Jobs that go by themselves some time after they have run (`ttlSecondsAfterFinished`): one that is gone is not made again, which would run it again.
//!
//! Whether one that is gone had ended, nobody can tell. What can be told is that it was made with this very content.

use std::collections::HashMap;
use std::sync::Arc;

use tracing::debug;

use super::Reconciler;
use crate::cluster::discovery::Known;
use crate::drift::fingerprint::Baseline;
use crate::history;
use crate::model::{CommitId, Desired, Digest, Failure, Live, Manifest, ObjectKey};
use crate::plan::NamespaceState;
use crate::source::Store;

/// The Jobs that were made, with the content that they had. Those of a commit that was deployed wholly, and what was written since.
#[derive(Debug, Default)]
pub(super) struct Jobs(HashMap<ObjectKey, Digest>);

impl Jobs {
    /// Whether this is a Job that need not stand any more, and does not.
    pub(super) fn have_run(&self, manifest: &Manifest, live: Option<&Live>) -> bool {
        live.is_none_or(|live| live.terminating) && self.made(manifest)
    }

    /// Whether this is a Job that was made with this content and goes by itself.
    pub(super) fn made(&self, manifest: &Manifest) -> bool {
        self.0.get(&manifest.key) == Some(&manifest.digest) && manifest.goes_by_itself()
    }

    /// These were written, or found to stand as they would be written.
    pub(super) fn note(&mut self, baselines: &[(ObjectKey, Baseline)]) {
        let jobs = baselines.iter().filter(|(key, _)| key.kind.is("batch", "Job"));
        self.0.extend(jobs.map(|(key, baseline)| (key.clone(), baseline.digest)));
    }

    /// All of this commit was deployed. What it does not ask for is made again if a later one does.
    pub(super) fn only(&mut self, desired: &Desired) {
        if !self.0.is_empty() {
            self.0.retain(|key, _| desired.objects.iter().any(|manifest| manifest.key == *key));
        }
    }

    /// It was deleted by us.
    pub(super) fn forget(&mut self, key: &ObjectKey) {
        self.0.remove(key);
    }

    /// The namespace is no more, and what ran there with it. Those of which that is so.
    pub(super) fn forget_in(&mut self, namespace: &str) -> Vec<ObjectKey> {
        self.0.extract_if(|key, _| key.namespace_or_empty() == namespace).map(|(key, _)| key).collect()
    }
}

impl Reconciler {
    /// Learns at a start which Jobs an earlier life has made, from the commit that it deployed last. Nothing is rendered for it unless one does not stand.
    pub(super) async fn recall_jobs(&self, store: &Store, desired: &Desired, known: &Known) {
        let stands = |manifest: &Manifest| {
            self.cluster.inventory.with_members(&self.part_of, |members| members.contains_key(&manifest.key))
        };
        let gone = |manifest: &Arc<Manifest>| manifest.goes_by_itself() && !stands(manifest);
        if self.has_target() || !desired.objects.iter().any(gone) {
            return;
        }
        let environment = self.shared.parents.get(&self.name);
        let Some(commit) = environment.and_then(|environment| history::deployed(&environment)) else { return };
        let deployed = match commit == desired.commit {
            true => desired.objects.clone(),
            false => match self.as_deployed(store, commit, known).await {
                Ok(deployed) => deployed.objects,
                // Rewritten history may have taken it away.
                Err(failure) => {
                    return debug!(environment = %self.name, commit = %commit.short(), reason = %failure, "the commit before can't be rendered");
                }
            },
        };
        let mut memory = self.memory();
        for manifest in deployed.iter().filter(|manifest| manifest.goes_by_itself()) {
            let namespace = manifest.key.namespace.as_ref().and_then(|namespace| memory.namespaces.get(namespace));
            if namespace == Some(&NamespaceState::Active) {
                memory.jobs.0.entry(manifest.key.clone()).or_insert(manifest.digest);
            }
        }
    }

    async fn as_deployed(&self, store: &Store, commit: CommitId, known: &Known) -> Result<Desired, Failure> {
        self.pinned(self.render(store, commit, known).await?, known).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::tests::world::{COMMIT, bare, key, manifest_of};

    fn job(name: &str, image: &str, spec: serde_json::Value) -> Arc<Manifest> {
        manifest_of(&key("batch", "Job", name), "v1", json!({"spec": spec, "image": image}))
    }

    fn baseline(manifest: &Manifest) -> (ObjectKey, Baseline) {
        let (digest, uid, fields) = (manifest.digest, "u".into(), "{}".into());
        (manifest.key.clone(), Baseline { digest, uid, fields, time: None, resource_version: 1 })
    }

    #[test]
    fn a_job_that_is_gone_has_run_if_it_was_made_with_this_content_and_goes_by_itself() {
        let ttl = || json!({"ttlSecondsAfterFinished": 0});
        let (once, stays) = (job("once", "a", ttl()), job("stays", "a", json!({})));
        let mut jobs = Jobs::default();
        assert!(!jobs.have_run(&once, None), "never made");
        jobs.note(&[baseline(&once), baseline(&stays)]);
        assert!(jobs.have_run(&once, None) && !jobs.have_run(&stays, None));
        assert!(!jobs.have_run(&once, Some(&bare("u"))), "it stands");
        assert!(jobs.have_run(&once, Some(&Live { terminating: true, ..bare("u") })));
        assert!(!jobs.have_run(&job("once", "b", ttl()), None), "its content changed");
        let other = manifest_of(&key("example.org", "Job", "once"), "v1", json!({"spec": ttl(), "image": "a"}));
        jobs.note(&[baseline(&other)]);
        assert!(!jobs.have_run(&other, None), "another's kind");
        // What a commit does not ask for, a later one runs again.
        jobs.only(&Desired::only(COMMIT, vec![Arc::clone(&stays)]));
        assert!(!jobs.have_run(&once, None));
        // A namespace that is made anew has seen nothing run.
        jobs.note(&[baseline(&once)]);
        assert!(jobs.forget_in("elsewhere").is_empty() && jobs.have_run(&once, None));
        assert_eq!(jobs.forget_in("todo").len(), 2);
        assert!(!jobs.have_run(&once, None));
    }
}
