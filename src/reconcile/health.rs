//! How the target stands, and what is behind what is not ready.

use std::sync::Arc;

use futures::future::join_all;

use super::Reconciler;
use crate::cluster::diagnose::Diagnosis;
use crate::cluster::failure::redactor_of;
use crate::health::environment::{Finding, Summary};
use crate::model::scrub::scrub;
use crate::model::secret::Redactor;
use crate::model::{CommitId, Desired, Live, ObjectKey};

impl Reconciler {
    /// How the objects of the target stand at this second since the epoch, without a request. `None`: nothing was deployed in this life.
    pub fn health(&self, now: i64) -> Option<(CommitId, Summary)> {
        let memory = self.memory();
        let target = memory.target.clone()?;
        let well = Live::default();
        let summary = self.cluster.inventory.with_members(&self.part_of, |members| {
            let objects = target.objects.iter().map(|manifest| {
                let live = members.get(&manifest.key);
                (&manifest.key, if memory.jobs.have_run(manifest, live) { Some(&well) } else { live })
            });
            Summary::of(objects, self.definition.spec.wait_for_ingress, now)
        });
        drop(memory);
        let summary = match summary.is_current() {
            true => summary,
            false => {
                let redactor = self.redactor(&target);
                summary.cleaned(|text| scrub(&redactor.redact(text)))
            }
        };
        Some((target.commit, summary))
    }

    /// Takes out the values of the target's Secrets. Made once for each target.
    fn redactor(&self, target: &Arc<Desired>) -> Arc<Redactor> {
        let mut memory = self.memory();
        match &memory.redactor {
            Some((of, redactor)) if Arc::ptr_eq(of, target) => Arc::clone(redactor),
            _ => {
                let redactor = Arc::new(redactor_of(target));
                memory.redactor = Some((Arc::clone(target), Arc::clone(&redactor)));
                redactor
            }
        }
    }

    /// Finds out why these objects are not ready: a few requests for each.
    pub async fn look_into(&self, keys: &[ObjectKey], now: i64) -> Vec<Finding> {
        let Some(target) = self.memory().target.clone() else { return Vec::new() };
        // With plumb's own rights, and without a sign of life of the task, which waits for something else meanwhile.
        let cluster = &self.shared.cluster;
        let redactor = self.redactor(&target);
        let diagnosis =
            Diagnosis { caller: &cluster.caller, discovered: &cluster.discovered, redactor: &redactor, now };
        let diagnosis = &diagnosis;
        let found = join_all(keys.iter().map(|key| async move { Some((key.clone(), diagnosis.of(key).await?)) }));
        found.await.into_iter().flatten().collect()
    }
}
