//! What people are told of an environment's health: the conditions `Healthy` and `Ready`, how a rollout ended, the line and the Event.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tracing::{error, info, warn};

use super::log::took;
use super::status::{cut, milliseconds, set, stamp};
use crate::cluster::events::Event;
use crate::health::environment::{Verdict, Word};
use crate::model::environment::{Condition, EnvironmentStatus, HistoryEntry};
use crate::model::{CommitId, ObjectKey, Stage};

/// How a commit's rollout ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rolled {
    /// The commit.
    pub commit: CommitId,
    /// From the end of its deployment.
    pub took: Duration,
    /// It ran out of time.
    pub failed: bool,
}

/// The status when the environment stands like this, and perhaps a rollout ended.
pub fn status(
    last: &EnvironmentStatus,
    word: &Word,
    rolled: Option<&Rolled>,
    generation: Option<i64>,
    now: DateTime<Utc>,
) -> EnvironmentStatus {
    let mut status = last.clone();
    set_healthy(&mut status.conditions, word, generation, now);
    set_ready(&mut status.conditions, generation, now);
    let Some(Rolled { commit, took, failed }) = rolled else { return status };
    let commit = commit.to_string();
    let is_it = |entry: &&mut HistoryEntry| entry.commit == commit && entry.outcome == "Deployed";
    if let Some(entry) = status.history.iter_mut().find(is_it) {
        entry.took_ms.entry(Stage::Health.to_string()).or_insert_with(|| milliseconds(*took));
        if *failed {
            entry.outcome = "Failed".to_owned();
            (entry.stage, entry.message) = (Some(Stage::Health.to_string()), Some(cut(&word.message)));
            entry.time = stamp(now);
        }
    }
    status
}

/// Whether the rollout of this environment's newest deployment failed already.
pub fn rollout_failed(status: &EnvironmentStatus, commit: CommitId) -> bool {
    let commit = commit.to_string();
    status.history.iter().any(|entry| entry.commit == commit && failed_at_health(entry))
}

/// The rollout ran out of time; up to then all had gone well.
pub(super) fn failed_at_health(entry: &HistoryEntry) -> bool {
    entry.stage.as_deref() == Some(Stage::Health.as_str())
}

pub(super) fn set_healthy(conditions: &mut Vec<Condition>, word: &Word, generation: Option<i64>, now: DateTime<Utc>) {
    let (status, reason) = match word.verdict {
        Verdict::Healthy => ("True", "Healthy"),
        Verdict::RollingOut => ("Unknown", "RolloutInProgress"),
        Verdict::Progressing => ("Unknown", "Progressing"),
        Verdict::Failed => ("False", "ObjectFailed"),
        Verdict::TimedOut => ("False", "TimedOut"),
    };
    set(conditions, "Healthy", status, reason, &word.message, generation, now);
}

/// Ready is what all of the others say that is not well, or that all is.
pub(super) fn set_ready(conditions: &mut Vec<Condition>, generation: Option<i64>, now: DateTime<Utc>) {
    let all = ["Synced", "Healthy"].map(|type_| conditions.iter().find(|condition| condition.type_ == type_));
    let worst = |status: &str| all.into_iter().flatten().find(|condition| condition.status == status);
    let Some(says) = worst("False").or_else(|| worst("Unknown")).or_else(|| worst("True")).cloned() else { return };
    set(conditions, "Ready", &says.status, &says.reason, &says.message, generation, now);
}

/// The line when an environment became healthy, or ceased to be, `duration` after the commit was deployed. `ended`: its rollout ran out of time.
pub fn log(
    environment: &str,
    commit: CommitId,
    word: &Word,
    object: Option<&ObjectKey>,
    duration: Duration,
    ended: bool,
) {
    let (commit, took, reason) = (commit.short(), took(duration), &word.message);
    let object = object.map(tracing::field::display);
    match word.verdict {
        Verdict::Healthy => info!(%environment, %commit, %took, "healthy"),
        _ if ended => error!(%environment, %commit, stage = %Stage::Health, object, %reason, %took, "failed"),
        _ => warn!(%environment, %commit, object, %reason, %took, "unhealthy"),
    }
}

/// The Event beside that line.
pub fn event(commit: CommitId, word: &Word, ended: bool) -> Event {
    let (commit, message) = (commit.short(), &word.message);
    match word.verdict {
        Verdict::Healthy => Event { warning: false, reason: "Healthy", message: format!("{commit}: {message}") },
        _ if ended => Event {
            warning: true,
            reason: "DeploymentFailed",
            message: format!("{commit} failed at {}: {message}", Stage::Health),
        },
        _ => Event { warning: true, reason: "Unhealthy", message: format!("{commit}: {message}") },
    }
}

#[cfg(test)]
mod tests {
    use super::super::status::next;
    use super::super::status::tests::{at, ended};
    use super::*;
    use crate::model::{Deployment, Failure, Outcome};

    fn word(verdict: Verdict) -> Word {
        Word { verdict, message: format!("it is {verdict:?}") }
    }

    fn condition<'a>(status: &'a EnvironmentStatus, type_: &str) -> (&'a str, &'a str, &'a str) {
        let condition = status.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
        (&condition.status, &condition.reason, &condition.message)
    }

    #[test]
    fn ready_is_synced_and_healthy() {
        let failure = || Outcome::Failed(Failure::new(Stage::Render, "bad indentation"));
        for (outcome, verdict, ready) in [
            (Outcome::Deployed, Verdict::Healthy, ("True", "Deployed")),
            (Outcome::Deployed, Verdict::RollingOut, ("Unknown", "RolloutInProgress")),
            (Outcome::Deployed, Verdict::Progressing, ("Unknown", "Progressing")),
            (Outcome::Deployed, Verdict::Failed, ("False", "ObjectFailed")),
            (Outcome::Deployed, Verdict::TimedOut, ("False", "TimedOut")),
            (Outcome::Suspended, Verdict::Healthy, ("Unknown", "Suspended")),
            (Outcome::Suspended, Verdict::Failed, ("False", "ObjectFailed")),
            (failure(), Verdict::Healthy, ("False", "RenderFailed")),
            (failure(), Verdict::Failed, ("False", "RenderFailed")),
        ] {
            let last = EnvironmentStatus::default();
            let status = next(&last, &ended(1, outcome), None, Some(&word(verdict)), None, at(1));
            let (is, reason, message) = condition(&status, "Ready");
            assert_eq!((is, reason), ready);
            assert!(is != "False" || !message.is_empty());
            let later = super::status(&status, &word(Verdict::Healthy), None, None, at(2));
            assert_eq!(condition(&later, "Healthy"), ("True", "Healthy", "it is Healthy"));
            assert_eq!(condition(&later, "Synced"), condition(&status, "Synced"));
        }
    }

    #[test]
    fn a_rollout_ends_the_commit_and_a_restart_does_not_undo_it() {
        let rolled = |failed| Rolled { commit: CommitId::new([1; 20]), took: Duration::from_secs(300), failed };
        let deployed = next(&EnvironmentStatus::default(), &ended(1, Outcome::Deployed), None, None, None, at(1));
        let well = status(&deployed, &word(Verdict::Healthy), Some(&rolled(false)), None, at(9));
        assert_eq!((well.history[0].outcome.as_str(), well.history[0].took_ms["health"]), ("Deployed", 300_000));
        assert_eq!(well.history[0].time, stamp(at(1)));
        let bad = status(&deployed, &word(Verdict::TimedOut), Some(&rolled(true)), None, at(9));
        let entry = &bad.history[0];
        assert_eq!((entry.outcome.as_str(), entry.stage.as_deref()), ("Failed", Some("health")));
        assert_eq!(entry.message.as_deref(), Some("it is TimedOut"));
        assert!(rollout_failed(&bad, CommitId::new([1; 20])) && !rollout_failed(&bad, CommitId::new([2; 20])));
        let restarted = Deployment { applied: 0, ..ended(1, Outcome::Deployed) };
        assert_eq!(next(&bad, &restarted, None, None, None, at(10)).history, bad.history);
        let again = next(&bad, &ended(1, Outcome::Deployed), None, None, None, at(10));
        assert_eq!((again.history.len(), again.history[0].outcome.as_str()), (1, "Deployed"));
        // A later word does not touch how a commit ended that failed otherwise.
        let failed = Outcome::Failed(Failure::new(Stage::Apply, "refused"));
        let failed = next(&EnvironmentStatus::default(), &ended(1, failed), None, None, None, at(1));
        let after = status(&failed, &word(Verdict::TimedOut), Some(&rolled(true)), None, at(9));
        assert_eq!(after.history, failed.history);
    }
}
