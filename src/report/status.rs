//! The next status from the last one and a deployment that ended. Pure: the same inputs give the same status, and an unchanged one costs no request.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

use super::drift::Standing;
use super::health;
use crate::health::environment::Word;
use crate::model::environment::{Condition, EnvironmentStatus, HistoryEntry};
use crate::model::{CommitId, Deployment, Failure, ObjectKey, Outcome, Stage};

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
    let stands = newest.is_some_and(|former| !replaces(deployment, End::of(former)));
    if stands || (deployment.outcome == Outcome::Deployed && !wrote && status.history.iter().any(failed)) {
        return status;
    }
    status.history.retain(|former| former.commit != entry.commit || !replaces(deployment, End::of(former)));
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

/// How a commit ended, as far as it counts for what may take the place of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All of it was written, whether its rollout failed or not.
    Written,
    /// There was nothing to write.
    Unchanged,
    /// Anything else.
    Other,
}

impl End {
    fn of(entry: &HistoryEntry) -> Self {
        match entry.outcome.as_str() {
            "Deployed" => Self::Written,
            "Unchanged" => Self::Unchanged,
            _ if health::failed_at_health(entry) => Self::Written,
            _ => Self::Other,
        }
    }
}

impl From<&Outcome> for End {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Deployed => Self::Written,
            Outcome::Unchanged => Self::Unchanged,
            Outcome::Failed(failure) if failure.stage == Stage::Health => Self::Written,
            Outcome::Failed(_) | Outcome::Suspended | Outcome::SupersededBy(_) => Self::Other,
        }
    }
}

/// Whether an end takes the place of how the same commit ended before. A commit ends once, and trying it again replaces that; but coming back to one that was
/// written, being overtaken on the way there, or suspending it, does not undo that: it gets an entry of its own only if another commit ended in between.
pub fn replaces(deployment: &Deployment, former: End) -> bool {
    match deployment.outcome {
        Outcome::Unchanged => former != End::Written,
        Outcome::Suspended => former == End::Other,
        Outcome::SupersededBy(_) => deployment.applied > 0 || deployment.pruned > 0 || former == End::Other,
        Outcome::Deployed | Outcome::Failed(_) => true,
    }
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
pub(super) mod tests;
