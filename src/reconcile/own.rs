//! The gate before all others: a commit that changes its environment's own definition.

use super::{Mode, Reconciler};
use crate::model::{CommitId, Failure, Stage};
use crate::render;
use crate::source::Store;

impl Reconciler {
    /// Refuses a commit that says of its environment what only the configuration branch may say.
    pub async fn check_own_definition(&self, store: &Store, commit: CommitId) -> Result<(), Failure> {
        let Some(configuration) = self.shared.configuration() else { return Ok(()) };
        let (store, definition) = (store.clone(), self.definition.clone());
        let check = move || {
            render::check_own_definition(&store, commit, &definition, &configuration.branch, configuration.commit)
        };
        let checked = tokio::task::spawn_blocking(check).await;
        let ended = |error| Err(Failure::new(Stage::Definition, format!("the check ended early: {error}")));
        checked.unwrap_or_else(ended).inspect_err(|failure| self.not_rendered(commit, Mode::Commit, failure))
    }
}
