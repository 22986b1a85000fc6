//! Going back: reverts of everything after a commit.
//!
//! The branch's own line is reverted, newest first; a merge by its first parent, as `git revert -m 1` does. Each revert so finds
//! exactly the files that its commit left, which is why it gives exactly those of the parent: no merge of texts is made, there is
//! nothing to conflict, and the last revert leaves the tree of the target.

use super::message::{self, Named};
use super::{Draft, Reverted, WriteError};
use crate::model::CommitId;
use crate::source::SourceError;
use crate::source::store::{commit_id, find_commit, oid, plain};

/// More reverts than this are asked for as one commit.
pub(super) const LIMIT: usize = 100;

impl Draft {
    /// Puts reverts of everything after `target` on top: one for each commit of the branch's line that changed something, or one for all.
    ///
    /// Adds nothing where the branch has the target's files already.
    pub fn roll_back(&mut self, environment: &str, target: CommitId, squash: bool) -> Result<(), WriteError> {
        let repository = self.store.repository()?;
        let branch = || self.branch.clone();
        let head = self.head.ok_or_else(|| WriteError::NotInHistory { target, branch: branch() })?;
        let to = find_commit(&repository, target)?;
        let mut line = line(&repository, head, target)?;
        if !line.complete {
            let merge = line.merge_of(&repository, target)?;
            let merge = merge.ok_or_else(|| WriteError::NotInHistory { target, branch: branch() })?;
            if !squash {
                return Err(WriteError::BesideTheLine { target, branch: branch(), merge });
            }
            line.leave_out(&repository, target)?;
        }
        if find_commit(&repository, head)?.tree_id() == to.tree_id() {
            return Ok(());
        }
        let target = named(&to);
        let mut undone = Vec::new();
        for id in &line.commits {
            let commit = find_commit(&repository, commit_id(*id))?;
            let parent = commit.parent(0).ok();
            if parent.as_ref().map(git2::Commit::tree_id) != Some(commit.tree_id()) {
                let (id, subject) = named(&commit);
                let merged_into = parent.filter(|_| commit.parent_count() > 1).map(|parent| commit_id(parent.id()));
                undone.push(Reverted { id, subject, merged_into });
            }
        }
        if squash {
            let tree = to.tree().map_err(WriteError::git("read the target's files"))?;
            let message = message::squash(&undone, environment, &target);
            return self.commit(&repository, &tree, &message, &[], undone);
        }
        if undone.len() > LIMIT {
            return Err(WriteError::TooMany { count: undone.len(), limit: LIMIT });
        }
        for reverted in undone {
            let before = find_commit(&repository, reverted.id)?.parent(0).and_then(|parent| parent.tree());
            let before = before.map_err(WriteError::git(format!("read the files before {}", reverted.id)))?;
            let message = message::revert(&reverted, environment, &target);
            self.commit(&repository, &before, &message, &[], vec![reverted])?;
        }
        Ok(())
    }
}

/// The commits from a head down its first parents, to a commit that is left out, or to the beginning.
struct Line {
    commits: Vec<git2::Oid>,
    /// The commit to end at was met.
    complete: bool,
}

fn line(repository: &git2::Repository, head: CommitId, end: CommitId) -> Result<Line, SourceError> {
    let (mut commits, mut next) = (Vec::new(), Some(oid(head)));
    while let Some(id) = next {
        if id == oid(end) {
            return Ok(Line { commits, complete: true });
        }
        commits.push(id);
        next = find_commit(repository, commit_id(id))?.parent_ids().next();
    }
    Ok(Line { commits, complete: false })
}

impl Line {
    /// The merge that brought a commit: the oldest of the line that contains it. All newer ones do, too.
    fn merge_of(&self, repository: &git2::Repository, commit: CommitId) -> Result<Option<CommitId>, SourceError> {
        let with = self.end_of(|id| contains(repository, id, oid(commit)))?;
        Ok(with.checked_sub(1).and_then(|last| self.commits.get(last)).map(|id| commit_id(*id)))
    }

    /// Leaves out what a commit contains: where the line forked off to it, and all before.
    fn leave_out(&mut self, repository: &git2::Repository, commit: CommitId) -> Result<(), SourceError> {
        let end = self.end_of(|id| contains(repository, oid(commit), id).map(|contained| !contained))?;
        self.commits.truncate(end);
        Ok(())
    }

    /// How many commits of the line, from its head on, this is true of; it is of none after the first that it is not true of.
    fn end_of(&self, mut is_so: impl FnMut(git2::Oid) -> Result<bool, SourceError>) -> Result<usize, SourceError> {
        let (mut low, mut high) = (0, self.commits.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.commits.get(middle) {
                Some(id) if is_so(*id)? => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }
}

/// Whether `older` is in the history of `newer`.
fn contains(repository: &git2::Repository, newer: git2::Oid, older: git2::Oid) -> Result<bool, SourceError> {
    let compare = SourceError::git(format!("compare the commits {newer} and {older}"));
    repository.graph_descendant_of(newer, older).map_err(compare)
}

pub(super) fn named(commit: &git2::Commit<'_>) -> Named {
    (commit_id(commit.id()), commit.summary_bytes().map(plain).unwrap_or_default())
}
