//! A branch goes back as a whole, and forward: what a roll-back of one environment, or a promotion to it, would change of others.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::bail;

use super::reverts;
use crate::cli::open::{self, Opened};
use crate::model::CommitId;
use crate::render::{Across, Definition, Tools};
use crate::source::{Draft, Reverted};

/// Of so many commits it is said whose they are: each may have to be rendered.
const TOLD: usize = 50;

/// A commit that would be reverted, and the environments that it made a difference to.
struct Undone<'a> {
    reverted: &'a Reverted,
    of: BTreeSet<String>,
}

/// Compares commits for all environments that the draft's branch decides on.
fn across<'a>(opened: &'a Opened, draft: &'a Draft, tools: &'a Tools) -> Across<'a> {
    let is_configuration = draft.branch() == opened.config_branch;
    Across::new(draft.store(), draft.branch(), is_configuration, &opened.definitions, tools)
}

/// Refuses what is promoted to one environment if it would change another one's content or definition. Blocking, as a render is.
pub(in crate::cli) fn spare_at_promotion(
    opened: &Opened,
    to: &Definition,
    draft: &Draft,
    commit: CommitId,
) -> anyhow::Result<()> {
    let (Some(before), Some(after)) = (draft.base(), draft.head()) else { return Ok(()) };
    let mut others = across(opened, draft, &open::tools()).differ(before, after)?;
    others.remove(&to.name);
    if others.is_empty() {
        return Ok(());
    }
    let (branch, named) = (draft.branch(), joined(&others));
    bail!(
        "branch {branch} is not {}'s alone: what would come to it changes {named} too. Nothing was written.\n\
         If that is meant, merge it by hand: git switch {branch} && git merge {}",
        to.name,
        commit.short()
    )
}

/// Refuses a roll-back that would change another environment's content or definition. Blocking, as a render is.
pub(super) fn spare(opened: &Opened, definition: &Definition, draft: &Draft, target: CommitId) -> anyhow::Result<()> {
    let (Some(before), Some(after)) = (draft.base(), draft.head()) else { return Ok(()) };
    let (name, branch, tools) = (&definition.name, draft.branch(), open::tools());
    let mut across = across(opened, draft, &tools);
    let mut others = across.differ(before, after)?;
    others.remove(name);
    if others.is_empty() {
        for (other, _) in opened.definitions.iter().filter(|(_, read)| read.is_err()) {
            tracing::warn!(environment = %other, %branch, "its definition is not valid, so whether this changes it is not known");
        }
        return Ok(());
    }
    let all: Vec<&Reverted> = draft.commits().iter().flat_map(|made| &made.reverts).collect();
    let mut undone = Vec::new();
    for reverted in all.iter().take(TOLD) {
        let of = match draft.store().line(reverted.id, 2)?.get(1) {
            Some(parent) => across.differ(*parent, reverted.id)?,
            None => BTreeSet::new(),
        };
        undone.push(Undone { reverted, of });
    }
    bail!(refusal(name, branch, target, &others, &undone, all.len()))
}

fn joined(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn refusal(
    name: &String,
    branch: &str,
    target: CommitId,
    others: &BTreeSet<String>,
    undone: &[Undone<'_>],
    count: usize,
) -> String {
    let named = joined(others);
    let mut text = format!(
        "branch {branch} is not {name}'s alone: reverting all that came after {} would change {named} too. Nothing was written.\n",
        target.short()
    );
    let theirs = |undone: &&Undone<'_>| !undone.of.is_disjoint(others);
    for Undone { reverted, of } in undone.iter().filter(theirs) {
        let of = joined(of);
        let _ = writeln!(text, "  {} {} ({of})", reverted.id.short(), reverted.subject); // A String takes everything.
    }
    if count > undone.len() {
        let _ = writeln!(text, "  and of {} older commits it was not looked whose they are", count - undone.len());
    }
    let own = undone.iter().filter(|undone| undone.of.len() == 1 && undone.of.contains(name));
    let own: Vec<&Reverted> = own.map(|undone| undone.reverted).collect();
    if own.is_empty() {
        let _ = write!(text, "None of them is {name}'s alone: what is to go there is to be taken out by hand.");
        return text;
    }
    let _ = writeln!(text, "What is {name}'s alone is reverted by\n  git switch {branch}");
    reverts(&own).iter().for_each(|revert| _ = writeln!(text, "  git {revert}"));
    if undone.iter().any(|undone| undone.of.contains(name) && theirs(&undone)) {
        text.push_str("What is of several is to be taken apart by hand.");
    }
    text.trim_end().to_owned()
}
