//! A look at all objects of a commit, which writes nothing: for a verb.

use super::{Mode, Reconciler, Verdict};
use crate::drift::describe::Drift;
use crate::model::{CommitId, Failure};
use crate::source::Store;

/// What a look at all objects of a commit found.
#[derive(Debug, Default)]
pub struct Survey {
    /// What is not as it says, by key.
    pub drifts: Vec<Drift>,
    /// What could not be looked at.
    pub refused: Vec<Failure>,
}

impl Reconciler {
    /// Asks by dry-runs how the objects of a commit stand.
    pub async fn survey(&self, store: &Store, commit: CommitId) -> Result<Survey, Failure> {
        let Verdict::Passed(prepared) = self.prepare(store, commit, Mode::Restore, None).await? else {
            return Ok(Survey::default());
        };
        let mut found = prepared.drifted.clone();
        self.settle_for(&prepared);
        found.extend(self.additions(self.with_additions()).await.found);
        let mut drifts = self.describe(&found, |key| prepared.manifest(key)).await;
        drifts.retain(|drift| !drift.values_stand);
        drifts.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Survey { drifts, refused: prepared.gated.refused.clone() })
    }
}
