//! A repository on disk: commits and trees are read from here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::heads::{self, Heads};
use super::layout::Layout;
use super::{Snapshot, SourceError, Trust};
use crate::model::{Commit, CommitId};

/// How many commits are looked at for an older version of a file.
const HISTORY: usize = 10_000;

/// Knows how to open the object database of one repository. Cheap to clone, and shared between threads.
///
/// Every use opens the repository anew (some 50 µs): libgit2's handles are not `Sync`, and what they cache and map goes with them.
#[derive(Debug, Clone)]
pub struct Store {
    layout: Arc<Layout>,
}

impl Store {
    /// Finds the repository at `path` (bare, a work tree's top, a linked worktree) and checks that it can be read and trusted.
    ///
    /// Refused, each with what to do: a foreign owner who isn't in `trust`, SHA-256 objects, reftable, partial clones.
    pub fn open(path: &Path, trust: &Trust) -> Result<Self, SourceError> {
        let path = &std::path::absolute(path).map_err(SourceError::io(path))?;
        let layout = Layout::find(path, trust)?;
        open_bare(&layout.common)?;
        Ok(Self { layout: Arc::new(layout) })
    }

    /// The tree of a commit.
    pub fn at(&self, commit: CommitId) -> Result<Snapshot, SourceError> {
        Snapshot::new(self.repository()?, commit)
    }

    /// A commit's author, time and summary. `branch` is where it was found.
    pub fn commit(&self, id: CommitId, branch: &str) -> Result<Commit, SourceError> {
        let repository = self.repository()?;
        let commit = find_commit(&repository, id)?;
        let author = commit.author();
        let seconds = author.when().seconds();
        Ok(Commit {
            id,
            branch: branch.to_owned(),
            author: plain(author.name_bytes()),
            time: chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default(),
            summary: first_line(commit.message_bytes()),
        })
    }

    /// The branch's own line: a commit, its first parent, and so on; newest first, at most `limit` of them.
    pub fn line(&self, head: CommitId, limit: usize) -> Result<Vec<CommitId>, SourceError> {
        let repository = self.repository()?;
        let (mut line, mut next) = (Vec::new(), Some(head));
        while let Some(id) = next.filter(|_| line.len() < limit) {
            line.push(id);
            next = find_commit(&repository, id)?.parent_ids().next().map(commit_id);
        }
        Ok(line)
    }

    /// Whether `newer` is `older` or was built on it. A commit that is no longer in the repository is nobody's ancestor.
    pub fn is_ancestor(&self, older: CommitId, newer: CommitId) -> Result<bool, SourceError> {
        let repository = self.repository()?;
        find_commit(&repository, newer)?;
        match find_commit(&repository, older) {
            Err(SourceError::NoSuchCommit(_)) => return Ok(false),
            found => drop(found?),
        }
        let compare = SourceError::git(format!("compare the commits {older} and {newer}"));
        Ok(older == newer || repository.graph_descendant_of(oid(newer), oid(older)).map_err(compare)?)
    }

    /// Whether `newest` or a commit that it was built on has exactly this file at `path`. What lies further back than some ten thousand commits is not
    /// known and counts as one that had it; so does all of a shallow clone, whose walk ends at a commit that is not there.
    pub fn once_held(&self, path: &str, file: CommitId, newest: CommitId) -> Result<bool, SourceError> {
        let repository = self.repository()?;
        if repository.is_shallow() {
            return Ok(true);
        }
        let failed = || SourceError::git(format!("read the history of {path}"));
        let mut walk = repository.revwalk().map_err(failed())?;
        walk.push(oid(newest)).map_err(failed())?;
        for (count, commit) in walk.enumerate() {
            let tree = commit.and_then(|commit| repository.find_commit(commit)?.tree()).map_err(failed())?;
            let entry = tree.get_path(Path::new(path));
            if entry.is_ok_and(|entry| entry.id() == oid(file)) || count >= HISTORY {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The commit that a revision names: a commit id or its start, `dev`, `dev~1`, `HEAD^`, a tag. A branch comes before a tag of its name.
    ///
    /// `HEAD` is that of the work tree that was opened.
    pub fn resolve(&self, revision: &str) -> Result<CommitId, SourceError> {
        let repository = git2::Repository::open_bare(&self.layout.git)
            .map_err(SourceError::git(format!("open {}", self.layout.git.display())))?;
        let not_found = || SourceError::NoSuchRevision(revision.to_owned());
        let object = repository
            .revparse_single(&format!("refs/heads/{revision}"))
            .or_else(|_| repository.revparse_single(revision))
            .map_err(|_| not_found())?;
        Ok(commit_id(object.peel_to_commit().map_err(|_| not_found())?.id()))
    }

    /// The default branch and the heads of all branches, now.
    pub fn heads(&self) -> Result<Heads, SourceError> {
        heads::read(&self.repository()?, None, &mut heads::Directories::new())
    }

    /// Where refs, packed-refs and the default branch's HEAD are.
    pub(super) fn common_dir(&self) -> &Path {
        &self.layout.common
    }

    pub(super) fn repository(&self) -> Result<git2::Repository, SourceError> {
        open_bare(&self.layout.common)
    }
}

/// Opens exactly this git directory: no search, and no owner check beyond the one that [`Layout::find`] made.
fn open_bare(common: &PathBuf) -> Result<git2::Repository, SourceError> {
    git2::Repository::open_bare(common).map_err(SourceError::git(format!("open the repository {}", common.display())))
}

pub(super) fn find_commit(repository: &git2::Repository, id: CommitId) -> Result<git2::Commit<'_>, SourceError> {
    repository.find_commit(oid(id)).map_err(|source| match source.code() {
        git2::ErrorCode::NotFound => SourceError::NoSuchCommit(id),
        _ => SourceError::Git { action: format!("read the commit {id}"), source },
    })
}

/// The first line that isn't blank, as `git log --oneline` shows it.
fn first_line(message: &[u8]) -> String {
    plain(message.trim_ascii_start().split(|byte| *byte == b'\n').next().unwrap_or_default())
}

/// What somebody wrote into a commit, as it may be printed: lossy where it is not UTF-8, and without control characters, which would
/// do as they please with a terminal.
pub(super) fn plain(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned()
}

pub(super) fn oid(id: CommitId) -> git2::Oid {
    // 20 bytes are always an object id here; the zero id names nothing and is reported as not found.
    git2::Oid::from_bytes(id.as_bytes()).unwrap_or(git2::Oid::ZERO_SHA1)
}

pub(super) fn commit_id(oid: git2::Oid) -> CommitId {
    let mut bytes = [0; 20];
    for (byte, from) in bytes.iter_mut().zip(oid.as_bytes()) {
        *byte = *from;
    }
    CommitId::new(bytes)
}
