//! The next status from the last one and a deployment that ended. Pure: the same inputs give the same status, and an unchanged one costs no request.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

use super::drift::Standing;
use super::health;
use crate::health::environment::Word;
use crate::model::environment::{Condition, EnvironmentStatus, HistoryEntry};
use crate::model::{CommitId, Deployment, Failure, ObjectKey, Outcome};

/// How many deployments are kept.
pub const HISTORY: usize = 10;
/// Of more objects that were not written none is named.
const NAMED: usize = 500;
/// Condition messages may be 32 KiB; a person reads less.
const LONGEST: usize = 2000;

/// The commit that last passed the gates.
#[derive(Debug, Clone)]
pub struct Target {
    /// It.
    pub commit: CommitId,
    /// The digest of the definition that it did so under, if that is the one in force.
    pub definition: Option<String>,
}

/// The status after this deployment. `health` is how the environment stands, once anything was deployed.
pub fn next(
    last: &EnvironmentStatus,
    deployment: &Deployment,
    target: Option<&Target>,
    health: Option<&Word>,
    generation: Option<i64>,
    now: DateTime<Utc>,
) -> EnvironmentStatus {
    let mut status = last.clone();
    (status.observed_generation, status.removed) = (generation, None);
    if let Some(Target { commit, definition }) = target {
        let former = status.target.replace(commit.to_string());
        let known = status.target_definition.take().filter(|_| former == status.target);
        status.target_definition = definition.clone().or(known);
    }
    status.not_applied = not_applied(last, deployment, status.target.as_deref());
    if matches!(deployment.outcome, Outcome::Deployed | Outcome::Unchanged) {
        status.short_commit = Some(deployment.commit.short());
    }
    if deployment.outcome == Outcome::Deployed {
        status.objects = i64::try_from(deployment.objects).ok();
    }
    let (synced, reason, message) = synced(deployment);
    set(&mut status.conditions, "Synced", synced, reason, &message, generation, now);
    if let Some(word) = health {
        health::set_healthy(&mut status.conditions, word, generation, now);
    }
    health::set_ready(&mut status.conditions, generation, now);
    let entry = entry(deployment, now);
    // Nor is a rollout that failed undone by a restart, which finds everything as it left it.
    let wrote = deployment.applied > 0 || deployment.pruned > 0;
    let failed = |former: &HistoryEntry| former.commit == entry.commit && health::failed_at_health(former);
    let newest = status.history.first().filter(|former| former.commit == entry.commit);
    let stands = newest.is_some_and(|former| !replaces(deployment, &former.outcome));
    if stands || (deployment.outcome == Outcome::Deployed && !wrote && status.history.iter().any(failed)) {
        return status;
    }
    status.history.retain(|former| former.commit != entry.commit || !replaces(deployment, &former.outcome));
    status.history.insert(0, entry);
    if status.history.len() > HISTORY {
        let stands = |entry: &HistoryEntry| status.short_commit.as_ref().is_some_and(|short| is_of(entry, short));
        let oldest = status.history.iter().rposition(|entry| !stands(entry)).unwrap_or(HISTORY);
        status.history.remove(oldest);
    }
    status
}

/// What of the target has not been written. A commit that was not begun changes nothing of that.
fn not_applied(last: &EnvironmentStatus, deployment: &Deployment, target: Option<&str>) -> Option<Vec<String>> {
    let known = || last.not_applied.clone().filter(|_| last.target.as_deref() == target);
    if target != Some(&*deployment.commit.to_string()) {
        return known();
    }
    match (&deployment.outcome, &deployment.lacking) {
        (Outcome::Deployed | Outcome::Unchanged, _) => None,
        (_, None) => known(),
        (_, Some(lacking)) => (lacking.len() <= NAMED).then(|| lacking.iter().map(ObjectKey::qualified).collect()),
    }
}

/// Whether the status says already that this commit stands, under the definition of this generation.
pub fn stands(status: &EnvironmentStatus, commit: CommitId, generation: Option<i64>) -> bool {
    let synced = |condition: &Condition| condition.type_ == "Synced" && condition.status == "True";
    let of_it = status.short_commit == Some(commit.short()) && status.observed_generation == generation;
    of_it && status.conditions.iter().any(synced)
}

/// Whether this commit stands since then. However many came after it and were not written, a restart and a roll-back begin with it.
fn is_of(entry: &HistoryEntry, short: &str) -> bool {
    let written = matches!(entry.outcome.as_str(), "Deployed" | "Unchanged") || health::failed_at_health(entry);
    written && entry.commit.starts_with(short)
}

/// Whether an end takes the place of how the same commit ended before. A commit ends once, and trying it again replaces that; but coming back to one that was
/// deployed, being overtaken on the way there, or suspending it, does not undo that: it gets an entry of its own only if another commit ended in between.
pub fn replaces(deployment: &Deployment, former: &str) -> bool {
    let wrote_nothing = match deployment.outcome {
        Outcome::Unchanged | Outcome::Suspended => true,
        Outcome::SupersededBy(_) => deployment.applied == 0 && deployment.pruned == 0,
        Outcome::Deployed | Outcome::Failed(_) => false,
    };
    !(wrote_nothing && former == "Deployed")
}

/// The status while there is no such branch.
pub fn branch_missing(
    last: &EnvironmentStatus,
    branch: &str,
    generation: Option<i64>,
    now: DateTime<Utc>,
) -> EnvironmentStatus {
    let mut status = last.clone();
    let message = format!("there is no branch {branch}; the environment stays as it is until it is pushed");
    set(&mut status.conditions, "Synced", "Unknown", "BranchMissing", &message, generation, now);
    health::set_ready(&mut status.conditions, generation, now);
    status
}

/// The status after drift was found or put back. The same drift gives the same status.
pub fn drifted(
    last: &EnvironmentStatus,
    drift: &Standing,
    generation: Option<i64>,
    now: DateTime<Utc>,
) -> EnvironmentStatus {
    let mut status = last.clone();
    status.drift = i64::try_from(drift.objects).ok();
    status.drift_by_class = drift.classes.iter().map(|(class, count)| ((*class).to_owned(), *count)).collect();
    let (drifted, reason, message) = drift.condition();
    set(&mut status.conditions, "Drifted", drifted, reason, &message, generation, now);
    let known = status.conditions.iter().any(|condition| condition.type_ == "Contested");
    if known || !drift.fights.is_empty() {
        let (contested, reason) = if drift.fights.is_empty() { ("False", "Calm") } else { ("True", "Fight") };
        set(&mut status.conditions, "Contested", contested, reason, &drift.contested(), generation, now);
    }
    status
}

fn synced(deployment: &Deployment) -> (&'static str, &'static str, String) {
    let commit = deployment.commit.short();
    match &deployment.outcome {
        Outcome::Deployed => ("True", "Deployed", format!("{} objects are as {commit} says", deployment.objects)),
        Outcome::Unchanged => ("True", "Unchanged", format!("{commit} changes nothing here")),
        Outcome::Failed(failure) => {
            ("False", reason_word(failure), format!("{commit} failed at {}: {failure}", failure.stage))
        }
        Outcome::SupersededBy(by) => ("Unknown", "Superseded", format!("{commit} was overtaken by {}", by.short())),
        Outcome::Suspended => ("Unknown", "Suspended", "the environment is suspended".to_owned()),
    }
}

fn reason_word(failure: &Failure) -> &'static str {
    use crate::model::Stage::{Apply, Build, Definition, DryRun, Health, Plan, Prune, Render, Source};
    match failure.stage {
        Source => "SourceFailed",
        Definition => "DefinitionInvalid",
        Render => "RenderFailed",
        Plan => "PlanRefused",
        DryRun => "DryRunRefused",
        Build => "BuildFailed",
        Apply => "ApplyFailed",
        Prune => "PruneStopped",
        Health => "RolloutFailed",
    }
}

pub(super) fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: &str,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: DateTime<Utc>,
) {
    let former = conditions.iter().position(|condition| condition.type_ == type_);
    let since = former.and_then(|at| conditions.get(at)).filter(|condition| condition.status == status);
    let last_transition_time = since.map_or_else(|| stamp(now), |condition| condition.last_transition_time.clone());
    let condition = Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: cut(message),
        last_transition_time,
        observed_generation: generation,
    };
    match former.and_then(|at| conditions.get_mut(at)) {
        Some(former) => *former = condition,
        None => conditions.push(condition),
    }
}

fn entry(deployment: &Deployment, now: DateTime<Utc>) -> HistoryEntry {
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let (stage, message) = match &deployment.outcome {
        Outcome::Failed(failure) => (Some(failure.stage.to_string()), Some(cut(&failure.to_string()))),
        Outcome::SupersededBy(by) => (None, Some(by.to_string())),
        _ => (None, None),
    };
    let took_ms: BTreeMap<String, i64> =
        deployment.stages.iter().map(|(stage, took)| (stage.to_string(), milliseconds(*took))).collect();
    HistoryEntry {
        commit: deployment.commit.to_string(),
        outcome: deployment.outcome.as_str().to_owned(),
        time: stamp(now),
        stage,
        message,
        applied: count(deployment.applied),
        pruned: count(deployment.pruned),
        took_ms,
    }
}

pub(super) fn milliseconds(took: Duration) -> i64 {
    i64::try_from(took.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn cut(message: &str) -> String {
    message.chars().take(LONGEST).collect()
}

pub(super) fn stamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::Stage;

    pub(in super::super) fn ended(commit: u8, outcome: Outcome) -> Deployment {
        let commit = CommitId::new([commit; 20]);
        let took = Duration::from_millis(41);
        Deployment {
            commit,
            outcome,
            objects: 12,
            applied: 2,
            unchanged: 10,
            pruned: 0,
            lacking: None,
            took,
            stages: vec![(Stage::Apply, took)],
        }
    }

    #[test]
    fn what_of_the_target_was_not_written_is_kept_until_it_is() {
        let failed = |commit: u8, lacking: Option<usize>| {
            let key = |number: usize| ObjectKey::new("apps", "Deployment", "n", &format!("d{number}"));
            let lacking = lacking.map(|count| (0..count).map(key).collect());
            Deployment { lacking, ..ended(commit, Outcome::Failed(Failure::new(Stage::Apply, "refused"))) }
        };
        let target = |commit: u8| Target { commit: CommitId::new([commit; 20]), definition: None };
        let after = |last: &EnvironmentStatus, deployment: &Deployment, commit: u8| {
            next(last, deployment, Some(&target(commit)), None, Some(1), at(1))
        };
        let partly = after(&EnvironmentStatus::default(), &failed(1, Some(1)), 1);
        let expected = Some(vec!["Deployment.apps/n/d0".to_owned()]);
        assert_eq!(partly.not_applied, expected);
        // A head that is refused, and the target itself where its gates could not be passed, were not begun.
        assert_eq!(after(&partly, &failed(2, None), 1).not_applied, expected);
        assert_eq!(after(&partly, &failed(1, None), 1).not_applied, expected);
        assert_eq!(after(&partly, &failed(1, Some(0)), 1).not_applied, Some(Vec::new()), "a deletion failed");
        assert_eq!(after(&partly, &failed(1, Some(NAMED + 1)), 1).not_applied, None);
        assert_eq!(after(&partly, &ended(1, Outcome::Deployed), 1).not_applied, None);
        assert_eq!(after(&partly, &failed(3, None), 2).not_applied, None, "another target");
    }

    #[test]
    fn under_which_definition_the_target_passed_is_kept_until_it_passes_under_another() {
        let after = |last: &EnvironmentStatus, commit: u8, definition: Option<&str>| {
            let target = Target { commit: CommitId::new([commit; 20]), definition: definition.map(str::to_owned) };
            next(last, &ended(9, Outcome::Deployed), Some(&target), None, Some(1), at(1))
        };
        let first = after(&EnvironmentStatus::default(), 1, Some("a"));
        assert_eq!(first.target_definition.as_deref(), Some("a"));
        assert_eq!(after(&first, 1, None).target_definition.as_deref(), Some("a"));
        assert_eq!(next(&first, &ended(9, Outcome::Deployed), None, None, Some(1), at(1)), first);
        assert_eq!(after(&first, 1, Some("b")).target_definition.as_deref(), Some("b"));
        assert_eq!(after(&first, 2, None).target_definition, None, "another target");
    }

    pub(in super::super) fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    #[test]
    fn ten_are_kept_newest_first_and_a_commit_ends_once() {
        let mut status = EnvironmentStatus::default();
        for commit in 0..15 {
            status = next(&status, &ended(commit, Outcome::Deployed), None, None, None, at(commit.into()));
        }
        status = next(&status, &ended(14, Outcome::Deployed), None, None, None, at(99));
        assert_eq!(status.history.len(), 10);
        assert_eq!(status.history[0].time, stamp(at(99)));
        assert!(status.history[1].commit.starts_with("0d0d"));
        assert_eq!(status.short_commit.as_deref(), Some("0e0e0e0"));
    }

    #[test]
    fn what_stands_is_not_pushed_out_by_what_came_to_nothing_after_it() {
        let mut status = EnvironmentStatus::default();
        for commit in 0..2 {
            status = next(&status, &ended(commit, Outcome::Deployed), None, None, None, at(commit.into()));
        }
        for commit in 2..20 {
            let overtaken = Outcome::SupersededBy(CommitId::new([commit + 1; 20]));
            status = next(&status, &ended(commit, overtaken), None, None, None, at(commit.into()));
        }
        let kept: Vec<&str> = status.history.iter().map(|entry| &entry.commit[..2]).collect();
        assert_eq!(kept, ["13", "12", "11", "10", "0f", "0e", "0d", "0c", "0b", "01"]);
    }

    #[test]
    fn being_overtaken_before_a_write_does_not_undo_what_was_deployed() {
        let deployed = next(&EnvironmentStatus::default(), &ended(1, Outcome::Deployed), None, None, None, at(1));
        let overtaken = Outcome::SupersededBy(CommitId::new([2; 20]));
        let nothing = Deployment { applied: 0, ..ended(1, overtaken.clone()) };
        let outcomes = |deployment| -> Vec<String> {
            let status = next(&deployed, deployment, None, None, None, at(2));
            status.history.into_iter().map(|entry| entry.outcome).collect()
        };
        assert_eq!(outcomes(&nothing), ["Deployed"]);
        assert_eq!(outcomes(&ended(1, overtaken)), ["SupersededBy"], "some of it was overwritten");
    }

    #[test]
    fn what_was_deployed_stays_in_the_history_while_it_is_suspended() {
        let deployed = next(&EnvironmentStatus::default(), &ended(1, Outcome::Deployed), None, None, None, at(1));
        let suspended = next(&deployed, &ended(1, Outcome::Suspended), None, None, None, at(2));
        let outcomes = |status: &EnvironmentStatus| -> Vec<String> {
            status.history.iter().map(|entry| entry.outcome.clone()).collect()
        };
        assert_eq!(suspended.history, deployed.history, "a commit ends once");
        assert_eq!(suspended.conditions[0].reason, "Suspended");
        assert_eq!(outcomes(&next(&suspended, &ended(1, Outcome::Deployed), None, None, None, at(4))), ["Deployed"]);
        let bad = Outcome::Failed(Failure::new(Stage::Render, "bad indentation"));
        let other = next(&suspended, &ended(2, bad), None, None, None, at(5));
        for outcome in [Outcome::Suspended, Outcome::Unchanged] {
            let expected = [outcome.as_str(), "Failed", "Deployed"];
            let back = next(&other, &ended(1, outcome.clone()), None, None, None, at(6));
            assert_eq!(outcomes(&back), expected, "the head came back to it");
        }
    }

    #[test]
    fn a_missing_branch_is_told_until_a_commit_ends_and_takes_nothing_away() {
        let good = next(&EnvironmentStatus::default(), &ended(1, Outcome::Deployed), None, None, None, at(1));
        let missing = branch_missing(&good, "dev", None, at(2));
        let synced = |status: &EnvironmentStatus| {
            let synced = status.conditions.iter().find(|condition| condition.type_ == "Synced").unwrap();
            (synced.status.clone(), synced.reason.clone())
        };
        assert_eq!(synced(&missing), ("Unknown".to_owned(), "BranchMissing".to_owned()));
        assert_eq!((&missing.history, &missing.short_commit), (&good.history, &good.short_commit));
        assert_eq!(branch_missing(&missing, "dev", None, at(3)), missing, "the same costs no request");
        let back = next(&missing, &ended(1, Outcome::Unchanged), None, None, None, at(4));
        assert_eq!(synced(&back), ("True".to_owned(), "Unchanged".to_owned()));
    }

    #[test]
    fn a_commit_stands_by_the_status_until_another_end_is_told_or_the_definition_changes() {
        let (commit, last) = (CommitId::new([1; 20]), EnvironmentStatus::default());
        let after =
            |last: &EnvironmentStatus, deployment: &Deployment| next(last, deployment, None, None, Some(7), at(1));
        let deployed = after(&last, &ended(1, Outcome::Deployed));
        assert!(
            stands(&deployed, commit, Some(7)) && stands(&after(&last, &ended(1, Outcome::Unchanged)), commit, Some(7))
        );
        assert!(!stands(&deployed, CommitId::new([2; 20]), Some(7)) && !stands(&deployed, commit, Some(8)));
        for outcome in [Outcome::Suspended, Outcome::Failed(Failure::new(Stage::Render, "bad indentation"))] {
            let status = after(&deployed, &ended(2, outcome));
            assert_eq!(status.short_commit, Some(commit.short()), "it does stand");
            assert!(!stands(&status, commit, Some(7)), "{status:#?}");
        }
        assert!(!stands(&branch_missing(&deployed, "dev", Some(7), at(2)), commit, Some(7)));
    }

    #[test]
    fn a_failure_keeps_the_commit_that_stands_and_the_time_of_the_change() {
        let good = next(
            &EnvironmentStatus::default(),
            &ended(1, Outcome::Deployed),
            Some(&Target { commit: CommitId::new([1; 20]), definition: None }),
            None,
            None,
            at(1),
        );
        let failure = Failure::new(Stage::Render, "bad indentation");
        let bad = next(&good, &ended(2, Outcome::Failed(failure.clone())), None, None, None, at(2));
        let worse = next(&bad, &ended(3, Outcome::Failed(failure)), None, None, None, at(3));
        assert_eq!(worse.short_commit.as_deref(), Some("0101010"));
        assert_eq!(worse.target, good.target);
        let ready = worse.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "RenderFailed"));
        assert_eq!(ready.last_transition_time, stamp(at(2)));
    }
}
