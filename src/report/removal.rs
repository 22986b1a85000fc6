//! What is told of an environment whose definition left git.

use chrono::{DateTime, Utc};
use tracing::{error, info, warn};

use super::status::set;
use crate::cluster::events::Event;
use crate::model::environment::EnvironmentStatus;
use crate::model::{CommitId, Failure};

/// How a removed environment stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// Its objects stay, and nobody keeps them as they are.
    Orphaned,
    /// This many objects are being deleted.
    Going(usize),
    /// This many objects stay, for these reasons.
    Staying(usize, String),
    /// Nothing is deleted: a person is asked first, or something is in the way.
    Stopped(Failure),
}

impl Removed {
    fn words(&self, commit: CommitId) -> String {
        let left = format!("its definition left git ({})", commit.short());
        match self {
            Self::Orphaned => format!("{left}; its objects stay as they are, and are not looked after any more"),
            Self::Going(0) => format!("{left}; it has no objects"),
            Self::Going(1) => format!("{left}; 1 object is being deleted"),
            Self::Going(objects) => format!("{left}; {objects} objects are being deleted"),
            Self::Staying(1, why) => format!("{left}; 1 object stays: {why}"),
            Self::Staying(objects, why) => format!("{left}; {objects} objects stay: {why}"),
            Self::Stopped(failure) => format!("{left}; its objects stay: {failure}"),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Stopped(_) => STOPPED,
            Self::Orphaned | Self::Going(_) | Self::Staying(..) => "Removed",
        }
    }
}

/// The reason of the condition `Ready` as long as nothing is deleted.
pub const STOPPED: &str = "RemovalStopped";

/// The status of a removed environment. What nobody looks at any more is unknown.
pub fn status(
    last: &EnvironmentStatus,
    commit: CommitId,
    removed: &Removed,
    generation: Option<i64>,
    now: DateTime<Utc>,
) -> EnvironmentStatus {
    let mut status = last.clone();
    (status.observed_generation, status.removed, status.drift) = (generation, Some(commit.to_string()), None);
    let (reason, words) = (removed.reason(), removed.words(commit));
    let others: Vec<String> = status.conditions.iter().map(|condition| condition.type_.clone()).collect();
    for type_ in others.iter().filter(|type_| !matches!(type_.as_str(), "Ready" | "Synced")) {
        set(&mut status.conditions, type_, "Unknown", "Removed", "its definition left git", generation, now);
    }
    let synced = if *removed == Removed::Orphaned { "Unknown" } else { "False" };
    set(&mut status.conditions, "Synced", synced, reason, &words, generation, now);
    set(&mut status.conditions, "Ready", "False", reason, &words, generation, now);
    status
}

/// The status of an environment that is defined again and not deployed yet.
pub fn taken_up(last: &EnvironmentStatus, generation: Option<i64>, now: DateTime<Utc>) -> EnvironmentStatus {
    let mut status = last.clone();
    status.removed = None;
    for type_ in ["Synced", "Ready"] {
        let words = "it is defined again, and not deployed yet";
        set(&mut status.conditions, type_, "Unknown", "DefinedAgain", words, generation, now);
    }
    status
}

/// The line of a removed environment.
pub fn log(environment: &str, commit: CommitId, removed: &Removed) {
    let commit = commit.short();
    match removed {
        Removed::Orphaned => {
            warn!(%environment, %commit, policy = "orphan", "its definition left git; its objects stay as they are");
        }
        Removed::Going(objects) => {
            info!(%environment, %commit, policy = "delete", objects, "its definition left git; its objects are being deleted");
        }
        Removed::Staying(objects, why) => warn!(%environment, %commit, objects, reason = why, "objects stay"),
        Removed::Stopped(failure) => {
            let object = failure.object.as_ref().map(tracing::field::display);
            let (reason, hint, retry) = (&failure.reason, &failure.hint, failure.transient);
            error!(%environment, %commit, object, %reason, hint, retry, "its definition left git, and its objects are not deleted");
        }
    }
}

/// The line of an environment that is no more.
pub fn forgotten(environment: &str, deleted: usize) {
    info!(%environment, deleted, "removed: it has no objects any more");
}

/// The Event of a removed environment.
pub fn event(commit: CommitId, removed: &Removed) -> Event {
    let warning = matches!(removed, Removed::Stopped(_));
    Event { warning, reason: removed.reason(), message: removed.words(commit) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::environment::Condition;
    use crate::model::{Deployment, Outcome, Stage};

    const COMMIT: CommitId = CommitId::new([0xab; 20]);

    fn deployed() -> EnvironmentStatus {
        let deployment = Deployment {
            commit: CommitId::new([1; 20]),
            outcome: Outcome::Deployed,
            objects: 3,
            applied: 3,
            unchanged: 0,
            pruned: 0,
            lacking: Some(Vec::new()),
            took: std::time::Duration::ZERO,
            stages: Vec::new(),
        };
        let mut status = super::super::status::next(
            &EnvironmentStatus::default(),
            &deployment,
            Some(&super::super::status::Target { commit: deployment.commit, definition: None }),
            None,
            Some(1),
            DateTime::UNIX_EPOCH,
        );
        set(&mut status.conditions, "Drifted", "False", "AsInGit", "", Some(1), DateTime::UNIX_EPOCH);
        status.drift = Some(0);
        status
    }

    fn condition<'a>(status: &'a EnvironmentStatus, type_: &str) -> &'a Condition {
        status.conditions.iter().find(|condition| condition.type_ == type_).unwrap()
    }

    #[test]
    fn nothing_is_claimed_of_what_nobody_looks_at() {
        let status = status(&deployed(), COMMIT, &Removed::Orphaned, Some(2), DateTime::UNIX_EPOCH);
        assert_eq!(status.removed.as_deref(), Some(COMMIT.to_string().as_str()));
        assert_eq!((status.drift, &status.target, status.history.len()), (None, &deployed().target, 1));
        let of = |type_| (condition(&status, type_).status.as_str(), condition(&status, type_).reason.as_str());
        assert_eq!((of("Ready"), of("Synced")), (("False", "Removed"), ("Unknown", "Removed")));
        assert_eq!(of("Drifted"), ("Unknown", "Removed"));
        assert!(condition(&status, "Ready").message.contains("left git (abababa); its objects stay"));
    }

    #[test]
    fn the_same_end_gives_the_same_status_and_a_definition_ends_it() {
        let failure = Failure::new(Stage::Prune, "it would delete 5 of 5 objects").hint("plumb approve dev");
        let stopped = Removed::Stopped(failure);
        let first = status(&deployed(), COMMIT, &stopped, Some(1), DateTime::UNIX_EPOCH);
        assert_eq!(status(&first, COMMIT, &stopped, Some(1), DateTime::UNIX_EPOCH), first);
        let ready = condition(&first, "Ready");
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", STOPPED));
        assert!(ready.message.contains("5 of 5 objects; plumb approve dev"), "{}", ready.message);
        assert!(event(COMMIT, &stopped).warning && !event(COMMIT, &Removed::Going(2)).warning);
        let again = taken_up(&first, Some(2), DateTime::UNIX_EPOCH);
        assert_eq!((again.removed.as_deref(), condition(&again, "Ready").status.as_str()), (None, "Unknown"));
    }
}
