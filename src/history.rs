//! What was deployed, put together from the Environment's status and from git. Pure.
//!
//! The status has the last deployments, without the commits that changed nothing: those cost no request, so nobody wrote them
//! down. Git has all commits, and says which of them changed something here. Together they tell what happened ([`lines`]), and to which
//! commit a roll-back goes that names none ([`previous`]).

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::model::environment::HistoryEntry;
use crate::model::{Commit, CommitId, Environment, Stage};

/// One commit of an environment's branch, and how it ended there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// The commit.
    pub commit: String,
    /// `Deployed`, `Failed`, `SupersededBy`, `Suspended`, `Unchanged`; or `Pending`: it changes something, and nothing is known of it yet.
    pub outcome: String,
    /// When it ended (RFC 3339). None for commits that were not written down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Who wrote it, as git says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The first line of its message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The stage that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Why, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The commit that took its place before it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<String>,
    /// Objects that were written.
    pub applied: i64,
    /// Objects that were deleted.
    pub pruned: i64,
    /// Milliseconds by stage.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub took_ms: BTreeMap<String, i64>,
    /// Commits before it that changed something too and came in the same push, newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub with: Vec<String>,
}

/// A commit of the branch's own line, from its head down.
#[derive(Debug, Clone)]
pub struct Logged {
    /// The commit.
    pub commit: Commit,
    /// Whether it asks for something else than its first parent does.
    pub changes: bool,
}

/// The history, newest first: the entries of the status as they are there, and between them what git knows of the commits in between.
///
/// `log` is the branch's line from its head down to the oldest of these entries, as far as that is known; `commit` looks one up in git.
pub fn lines(
    entries: &[HistoryEntry],
    log: &[Logged],
    mut commit: impl FnMut(CommitId) -> Option<Commit>,
) -> Vec<Line> {
    let names: Vec<String> = log.iter().map(|logged| logged.commit.id.to_string()).collect();
    let places: HashMap<&str, usize> = names.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
    let place = |entry: &HistoryEntry| places.get(entry.commit.as_str()).copied();
    let mut lines = Vec::new();
    let newest = entries.iter().find_map(place).unwrap_or(log.len());
    fill(&mut lines, None, log.get(..newest).unwrap_or_default());
    for (number, entry) in entries.iter().enumerate() {
        let here = place(entry);
        lines.push(told(entry, entry.commit.parse().ok().and_then(&mut commit)));
        // Where the branch was moved back, or an older commit came again, nothing lies between.
        let next = entries.get(number + 1).and_then(place);
        let gap = here.zip(next).and_then(|(here, next)| log.get(here + 1..next)).unwrap_or_default();
        let carrier = lines.len() - 1;
        fill(&mut lines, Some(carrier), gap);
    }
    lines
}

/// Adds commits that were not written down: those that changed nothing as lines of their own, the others to the line that they came with.
/// Above all entries that is the newest of them, which is pending.
fn fill(lines: &mut Vec<Line>, mut carrier: Option<usize>, gap: &[Logged]) {
    for logged in gap {
        if !logged.changes {
            lines.push(derived("Unchanged", logged));
        } else if let Some(line) = carrier.and_then(|carrier| lines.get_mut(carrier)) {
            line.with.push(logged.commit.id.to_string());
        } else {
            carrier = Some(lines.len());
            lines.push(derived("Pending", logged));
        }
    }
}

fn told(entry: &HistoryEntry, commit: Option<Commit>) -> Line {
    let superseded = entry.outcome == "SupersededBy";
    let (superseded_by, message) =
        if superseded { (entry.message.clone(), None) } else { (None, entry.message.clone()) };
    let (author, subject) = commit.map(|commit| (commit.author, commit.summary)).unzip();
    Line {
        commit: entry.commit.clone(),
        outcome: entry.outcome.clone(),
        time: Some(entry.time.clone()),
        author,
        subject,
        stage: entry.stage.clone(),
        message,
        superseded_by,
        applied: entry.applied,
        pruned: entry.pruned,
        took_ms: entry.took_ms.clone(),
        with: Vec::new(),
    }
}

fn derived(outcome: &str, logged: &Logged) -> Line {
    Line {
        commit: logged.commit.id.to_string(),
        outcome: outcome.to_owned(),
        time: None,
        author: Some(logged.commit.author.clone()),
        subject: Some(logged.commit.summary.clone()),
        stage: None,
        message: None,
        superseded_by: None,
        applied: 0,
        pruned: 0,
        took_ms: BTreeMap::new(),
        with: Vec::new(),
    }
}

/// The commit that was deployed last, if all of it was written, under the definition that stands now.
pub fn deployed(environment: &Environment) -> Option<CommitId> {
    let status = environment.status.as_ref().filter(|s| s.observed_generation == environment.metadata.generation)?;
    let short = status.short_commit.as_deref()?;
    let written = |entry: &&HistoryEntry| {
        let rolled_out = matches!(entry.outcome.as_str(), "Deployed" | "Unchanged");
        rolled_out || entry.stage.as_deref() == Some(Stage::Health.as_str())
    };
    status.history.iter().filter(written).find(|entry| entry.commit.starts_with(short))?.commit.parse().ok()
}

/// Where a roll-back goes that names no commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Previous {
    /// To `target`, which asks for the same as `deployed` does: the newest such, so that nothing is reverted in vain.
    To {
        /// Where the branch goes back to.
        target: CommitId,
        /// The commit that was deployed; mostly the same one.
        deployed: CommitId,
    },
    /// Nowhere: the head is a way back to this commit already, and is not deployed yet.
    UnderWay(CommitId),
    /// The status has no deployed commit of the branch before what stands.
    Unknown,
}

/// The last commit of the branch's line that was deployed and asks for something else than the head does, before whatever the head's content
/// is: a head that goes back to an older commit counts as that commit, so that two roll-backs go two steps back and not there and back again.
///
/// `line` is the branch from its head down; `same` says whether two commits ask for the same.
pub fn previous(
    line: &[CommitId],
    entries: &[HistoryEntry],
    mut same: impl FnMut(CommitId, CommitId) -> bool,
) -> Previous {
    let Some(head) = line.first().copied() else { return Previous::Unknown };
    // A commit may stand there twice: as it was deployed, and as the head came back to it and changed nothing.
    let mut told: HashMap<&str, bool> = HashMap::new();
    for entry in entries {
        *told.entry(&entry.commit).or_default() |= entry.outcome == "Deployed";
    }
    let told = line.iter().filter_map(|id| Some((*id, *told.get(id.to_string().as_str())?)));
    let told: Vec<(CommitId, bool)> = told.collect();
    let deployed: Vec<CommitId> = told.iter().filter(|(_, deployed)| *deployed).map(|(id, _)| *id).collect();
    let stands = deployed.iter().rposition(|id| same(head, *id));
    let known = told.first().is_some_and(|(newest, _)| *newest == head || same(head, *newest));
    let deployed = match stands {
        None => deployed.first(),
        Some(place) if known => deployed.get(place + 1),
        Some(place) => return deployed.get(place).map_or(Previous::Unknown, |id| Previous::UnderWay(*id)),
    };
    let Some(deployed) = deployed.copied() else { return Previous::Unknown };
    let newer = line.iter().skip(1).take_while(|id| **id != deployed).collect::<Vec<_>>();
    let target = newer.into_iter().rev().take_while(|id| same(**id, deployed)).last().copied().unwrap_or(deployed);
    Previous::To { target, deployed }
}
