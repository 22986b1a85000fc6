//! An environment whose branch is gone: nothing is pruned, and the log and the status say so until it is pushed again.

use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use super::Task;
use super::tell::TELL_AGAIN;
use crate::cluster::events::{self, Event, Regarding};
use crate::report;

/// What was told of it.
#[derive(Default)]
pub(super) struct Missing {
    logged: bool,
    /// The status says so.
    pub(super) told: bool,
    /// The status could not be written; when to try again.
    pub(super) untold: Option<Instant>,
}

impl Task {
    /// Tells once that there is no such branch.
    pub(super) async fn tell_missing(&mut self) {
        let (head, branch) = {
            let wanted = self.wanted.borrow();
            (wanted.head, wanted.definition.spec.branch.clone())
        };
        if head.is_some() {
            (self.missing.logged, self.missing.untold) = (false, None);
            return;
        }
        let name = Arc::clone(&self.reconciler.name);
        if !std::mem::replace(&mut self.missing.logged, true) {
            warn!(environment = %name, %branch, "there is no such branch; the environment stays as it is until it is pushed");
        }
        if self.missing.told || self.missing.untold.is_some_and(|at| at > Instant::now()) {
            return;
        }
        // What ended before is told before: it would say that there is a branch.
        if !self.write_untold().await {
            self.missing.untold = Some(Instant::now() + TELL_AGAIN);
            return;
        }
        let shared = Arc::clone(&self.reconciler.shared);
        let Some(environment) = shared.parents.get(&name) else {
            self.missing.untold = None; // It is told when the Environment comes, which wakes the task.
            return;
        };
        let last = environment.status.clone().unwrap_or_default();
        let generation = environment.metadata.generation;
        let status = report::status::branch_missing(&last, &branch, generation, chrono::Utc::now());
        if status != last {
            if let Err(error) = self.write_status(&status).await {
                warn!(environment = %name, %error, "the status could not be written; trying again");
                self.missing.untold = Some(Instant::now() + TELL_AGAIN);
                return;
            }
            let about = Regarding::environment(&name, environment.metadata.uid.as_deref());
            let message = format!("there is no branch {branch}; the environment stays as it is until it is pushed");
            let event = Event { warning: true, reason: "BranchMissing", message };
            if let Err(error) = events::post(&shared.cluster.caller, &about, &event, &shared.instance.name).await {
                warn!(environment = %name, %error, "the Event could not be posted");
            }
        }
        self.status = Some(status);
        (self.missing.told, self.missing.untold) = (true, None);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch as channel;

    use super::*;
    use crate::daemon::environment::Wanted;
    use crate::daemon::tests::{definition, repository, shared};

    /// A timer that stays in the past would wake the task again at once, for ever.
    #[tokio::test]
    async fn without_an_environment_there_is_nothing_to_be_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let wanted = Wanted::new(definition("dev"), None, None, repository(directory.path()));
        let ((_wanted, wanted), (_stop, stop)) = (channel::channel(wanted), channel::channel(false));
        let mut task = Task::new(shared(), super::super::Settings::default(), wanted, stop);
        task.missing.untold = Some(Instant::now());
        task.tell_missing().await;
        assert!(task.missing.logged && !task.missing.told && task.missing.untold.is_none());
    }
}
