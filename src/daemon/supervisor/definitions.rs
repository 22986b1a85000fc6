//! The supervisor reads the definitions of the configuration branch.

use std::sync::{Arc, PoisonError};

use tracing::{error, warn};

use super::{Defined, Supervisor};
use crate::model::Stage;
use crate::source::{Heads, Store};

impl Supervisor {
    /// Reads the definitions of the configuration branch, if it moved. The error is a sentence.
    pub(super) async fn read_definitions(&mut self, heads: &Heads, store: &Store) -> Result<(), String> {
        let branch = self.settings.config_branch.as_ref().or(heads.default_branch.as_ref());
        let branch = branch
            .ok_or("the repository's HEAD names no branch; name the one with environments/ by --config-branch")?;
        let commit = *heads.branches.get(branch).ok_or_else(|| {
            let others: Vec<&str> = heads.branches.keys().map(String::as_str).take(10).collect();
            format!(
                "the configuration branch {branch:?} does not exist (there are: {}); push it, or name another by --config-branch",
                others.join(", ")
            )
        })?;
        if self.definitions.as_ref().is_some_and(|(known, _)| *known == commit) {
            return Ok(());
        }
        self.pulse.step("reading the definitions");
        let (store, reader) = (store.clone(), Arc::clone(&self.reader));
        let read = move || {
            let snapshot = store.at(commit).map_err(|error| error.to_string())?;
            reader.lock().unwrap_or_else(PoisonError::into_inner).at(&snapshot).map_err(|error| error.to_string())
        };
        let read = tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())??;
        let read: Defined =
            read.into_iter().map(|(name, read)| (name, read.map_err(|error| error.failure()))).collect();
        if read.is_empty() {
            warn!(%branch, commit = %commit.short(), "there is no environments/<name>/environment.yaml; `plumb init` writes a first one");
        }
        for (name, failure) in read.iter().filter_map(|(name, definition)| Some((name, definition.as_ref().err()?))) {
            error!(environment = %name, commit = %commit.short(), stage = %Stage::Definition, reason = %failure, "the definition is not valid; the environment stays as it is");
        }
        for name in self.settings.only.iter().filter(|name| !read.contains_key(*name)) {
            warn!(environment = %name, commit = %commit.short(), "no such environment is defined; waiting for its definition");
        }
        let ours = read.iter().filter(|(name, _)| self.is_ours(name));
        let ours = ours.map(|(name, read)| (name.as_str(), read.as_ref().err().map(ToString::to_string)));
        self.shared.telemetry.standing().defined(ours);
        self.shared.configured(branch, commit);
        self.definitions = Some((commit, read));
        Ok(())
    }
}
