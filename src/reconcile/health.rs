//! How the target stands, and what is behind what is not ready.

use futures::future::join_all;

use super::Reconciler;
use crate::cluster::diagnose::Diagnosis;
use crate::cluster::failure::redactor_of;
use crate::health::environment::{Finding, Summary};
use crate::model::{CommitId, ObjectKey};

impl Reconciler {
    /// How the objects of the target stand at this second since the epoch, without a request. `None`: nothing was deployed in this life.
    pub fn health(&self, now: i64) -> Option<(CommitId, Summary)> {
        let target = self.memory().target.clone()?;
        let summary = self.cluster.inventory.with_members(&self.part_of, |members| {
            Summary::of(target.objects.iter().map(|manifest| (&manifest.key, members.get(&manifest.key))), now)
        });
        Some((target.commit, summary))
    }

    /// Finds out why these objects are not ready: a few requests for each.
    pub async fn look_into(&self, keys: &[ObjectKey], now: i64) -> Vec<Finding> {
        let Some(target) = self.memory().target.clone() else { return Vec::new() };
        // With plumb's own rights, and without a sign of life of the task, which waits for something else meanwhile.
        let cluster = &self.shared.cluster;
        let redactor = redactor_of(&target);
        let diagnosis =
            Diagnosis { caller: &cluster.caller, discovered: &cluster.discovered, redactor: &redactor, now };
        let diagnosis = &diagnosis;
        let found = join_all(keys.iter().map(|key| async move { Some((key.clone(), diagnosis.of(key).await?)) }));
        found.await.into_iter().flatten().collect()
    }
}
