//! The messages of the commits that plumb writes: git's own words, and why.

use super::Reverted;
use crate::model::CommitId;

/// So many commits are listed in a message; the rest are counted.
pub(super) const LISTED: usize = 50;

/// A commit as a message names it: its id and the first line of its own.
pub(super) type Named = (CommitId, String);

/// A revert, as `git revert` words it.
pub(super) fn revert(reverted: &Reverted, environment: &str, target: &Named) -> String {
    let what = match reverted.merged_into {
        None => format!("This reverts commit {}.", reverted.id),
        Some(parent) => format!("This reverts commit {}, reversing\nchanges made to {parent}.", reverted.id),
    };
    format!("Revert \"{}\"\n\n{what}\n\n{}\n", reverted.subject, why(environment, target))
}

/// All reverts in one commit.
pub(super) fn squash(reverted: &[Reverted], environment: &str, target: &Named) -> String {
    let title = format!("Roll {environment} back to {}", target.0.short());
    let list = list(reverted.iter().map(|reverted| (reverted.id, reverted.subject.as_str())), reverted.len());
    format!("{title}\n\n{} It reverts, newest first:\n\n{list}", why(environment, target))
}

/// The merge that promotes `commit`. `brings` are the first commits of the `count` that come with it.
pub(super) fn promotion(from: &str, to: &str, commit: CommitId, brings: &[Named], count: usize) -> String {
    let list = list(brings.iter().map(|(id, subject)| (*id, subject.as_str())), count);
    format!(
        "Promote {from} to {to}\n\nplumb promote: merges {commit} of environment {from} into {to}. It brings, newest first:\n\n{list}"
    )
}

fn why(environment: &str, (id, subject): &Named) -> String {
    format!("plumb rollback of environment {environment} to {} ({subject}).", id.short())
}

fn list<'a>(commits: impl Iterator<Item = (CommitId, &'a str)>, count: usize) -> String {
    let mut text: String = commits.take(LISTED).map(|(id, subject)| format!("* {} {subject}\n", id.short())).collect();
    if let Some(more @ 1..) = count.checked_sub(LISTED) {
        text.push_str(&format!("* and {more} more\n"));
    }
    text
}
