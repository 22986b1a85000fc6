//! Going on: one environment's commit is brought to another environment's branch.

use super::message::{self, LISTED, Named};
use super::rollback::named;
use super::{Draft, WriteError};
use crate::model::CommitId;
use crate::source::SourceError;
use crate::source::store::{find_commit, oid};

/// How a promotion gets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The branch has the commit already.
    Already,
    /// The branch moves to the commit, or is made there.
    FastForward,
    /// A merge commit, with the branch's head as its first parent.
    Merge,
}

/// What a promotion does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    /// How.
    pub arrival: Arrival,
    /// The commits that come with it, newest first: id and subject. At most 50.
    pub brings: Vec<(CommitId, String)>,
    /// How many come.
    pub count: usize,
}

impl Draft {
    /// Brings the branch, which is the environment `to`'s, to `commit`, which is the environment `from`'s.
    pub fn promote(&mut self, from: &str, to: &str, commit: CommitId) -> Result<Promotion, WriteError> {
        let repository = self.store.repository()?;
        let theirs = find_commit(&repository, commit)?;
        let (brings, count) = brings(&repository, self.head, commit)?;
        let promotion = |arrival, brings| Ok(Promotion { arrival, brings, count });
        let Some(head) = self.head else {
            self.head = Some(commit);
            return promotion(Arrival::FastForward, brings);
        };
        if count == 0 {
            return promotion(Arrival::Already, brings);
        }
        let base = match repository.merge_base(oid(head), oid(commit)) {
            Ok(base) => base,
            Err(error) if error.code() == git2::ErrorCode::NotFound => {
                return Err(WriteError::Unrelated { commit, branch: self.branch.clone() });
            }
            Err(source) => return Err(WriteError::git("find the common commit")(source)),
        };
        if base == oid(head) {
            self.head = Some(commit);
            return promotion(Arrival::FastForward, brings);
        }
        let ours = find_commit(&repository, head)?;
        let merge = WriteError::git(format!("merge {commit} into {}", self.branch));
        let mut merged = repository.merge_commits(&ours, &theirs, None).map_err(merge)?;
        let files = conflicts(&merged)?;
        if !files.is_empty() {
            return Err(WriteError::Conflict { commit, branch: self.branch.clone(), files });
        }
        let tree = merged.write_tree_to(&repository).and_then(|tree| repository.find_tree(tree));
        let tree = tree.map_err(WriteError::git("write the merged files"))?;
        let message = message::promotion(from, to, commit, &brings, count);
        self.commit(&repository, &tree, &message, &[&theirs], Vec::new())?;
        promotion(Arrival::Merge, brings)
    }
}

/// What `commit` has and `head` has not, newest first: the first of them, and how many.
fn brings(
    repository: &git2::Repository,
    head: Option<CommitId>,
    commit: CommitId,
) -> Result<(Vec<Named>, usize), SourceError> {
    let list = || SourceError::git(format!("list the commits of {commit}"));
    let mut walk = repository.revwalk().map_err(list())?;
    walk.set_sorting(git2::Sort::TOPOLOGICAL).map_err(list())?;
    walk.push(oid(commit)).map_err(list())?;
    if let Some(head) = head {
        walk.hide(oid(head)).map_err(list())?;
    }
    let (mut brings, mut count) = (Vec::new(), 0);
    for id in walk {
        let id = id.map_err(list())?;
        if count < LISTED {
            brings.push(named(&repository.find_commit(id).map_err(list())?));
        }
        count += 1;
    }
    Ok((brings, count))
}

/// The files that a merge leaves to a person.
fn conflicts(merged: &git2::Index) -> Result<Vec<String>, WriteError> {
    let list = || WriteError::git("list the conflicts");
    let mut files = Vec::new();
    for conflict in merged.conflicts().map_err(list())? {
        let conflict = conflict.map_err(list())?;
        let entry = conflict.our.or(conflict.their).or(conflict.ancestor);
        files.extend(entry.map(|entry| String::from_utf8_lossy(&entry.path).into_owned()));
    }
    files.sort();
    files.dedup();
    Ok(files)
}
