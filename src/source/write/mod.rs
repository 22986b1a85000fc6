//! Commits that plumb writes: made beside the repository, and pushed to it like anybody's.
//!
//! A [`Draft`] is a temporary bare repository that reads the objects of the real one (git's alternates) and keeps its own
//! for itself. So its commits can be rendered and planned before anybody else sees them, and a draft that is dropped was
//! never there.
//!
//! [`Draft::publish`] pushes with the `git` program, to a directory as to a URL. The repository's own word holds then: its hooks,
//! its permissions (libgit2 knows nothing of `core.sharedRepository`), its `receive.*` settings; and one code is right for both.

mod checkout;
mod error;
mod message;
mod promote;
mod rollback;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

pub use error::WriteError;
pub use promote::{Arrival, Promotion};

use super::remote::push::{self, Answer};
use super::store::{commit_id, find_commit};
use super::{RemoteUrl, RepositoryUrl, SourceError, SourceSettings, Store, Trust};
use crate::model::CommitId;

/// New commits for one branch, which nobody else sees yet.
pub struct Draft {
    /// The repository that they are for; the mirror of a remote one.
    origin: Store,
    /// Its directory, without detours through a linked work tree.
    common: PathBuf,
    /// The temporary repository.
    store: Store,
    branch: String,
    /// Where the branch was when the draft was begun, and must be when it is published; `None`: it does not exist.
    base: Option<CommitId>,
    head: Option<CommitId>,
    commits: Vec<DraftCommit>,
    directory: TempDir,
}

/// A commit that a draft makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DraftCommit {
    /// Its id.
    pub id: CommitId,
    /// The first line of its message.
    pub subject: String,
    /// What it reverts, newest first.
    pub reverts: Vec<Reverted>,
}

/// A commit that is reverted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reverted {
    /// Its id.
    pub id: CommitId,
    /// The first line of its message.
    pub subject: String,
    /// The first parent, if it is a merge: that one's files come back.
    pub merged_into: Option<CommitId>,
}

impl Draft {
    /// An empty draft on top of a branch's head. `base` is `None` for a branch that does not exist yet.
    pub fn begin(origin: &Store, branch: &str, base: Option<CommitId>) -> Result<Self, WriteError> {
        let directory = tempfile::Builder::new().prefix("plumb-draft.").tempdir();
        let directory = directory.map_err(WriteError::scratch(std::env::temp_dir()))?;
        let path = directory.path();
        git2::Repository::init_bare(path).map_err(WriteError::git(format!("make {}", path.display())))?;
        let common = origin.common_dir();
        let common = common.canonicalize().map_err(SourceError::io(common))?;
        borrow_objects(&common, path)?;
        let store = Store::open(path, &Trust::default())?;
        if let Some(base) = base {
            find_commit(&store.repository()?, base)?;
        }
        let (origin, branch) = (origin.clone(), branch.to_owned());
        Ok(Self { origin, common, store, branch, base, head: base, commits: Vec::new(), directory })
    }

    /// The branch.
    pub fn branch(&self) -> &str {
        &self.branch
    }

    /// Where the branch is.
    pub fn base(&self) -> Option<CommitId> {
        self.base
    }

    /// Where the branch is to be.
    pub fn head(&self) -> Option<CommitId> {
        self.head
    }

    /// Whether the branch would stay where it is.
    pub fn is_empty(&self) -> bool {
        self.head == self.base
    }

    /// The commits that were made, oldest first.
    pub fn commits(&self) -> &[DraftCommit] {
        &self.commits
    }

    /// A repository in which all of it can be read. It is gone with the draft.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The work tree in which the branch is checked out, if there is one: then it is not published.
    pub fn checked_out(&self) -> Result<Option<PathBuf>, WriteError> {
        Ok(checkout::of(&self.common, &self.branch)?)
    }

    /// The remote of a repository that is somebody's clone: what is written there is not at the remote yet.
    pub fn remote(&self) -> Result<Option<String>, WriteError> {
        let remotes = self.origin.repository()?.remotes().map_err(WriteError::git("list the remotes"))?;
        Ok(remotes.iter().flatten().flatten().next().map(str::to_owned))
    }

    /// Brings the branch to the draft's head, if it is still where the draft began. All of it or nothing.
    pub async fn publish(&self, settings: &SourceSettings) -> Result<(), WriteError> {
        let Some(head) = self.head.filter(|_| !self.is_empty()) else { return Ok(()) };
        let branch = || self.branch.clone();
        let url = match &settings.repository {
            RepositoryUrl::Remote(url) => url.clone(),
            RepositoryUrl::Local(_) => {
                if let Some(work_tree) = self.checked_out()? {
                    return Err(WriteError::CheckedOut { branch: branch(), work_tree });
                }
                RemoteUrl::directory(&self.common)
            }
        };
        // What the connection puts down for git goes with the draft.
        let settings = SourceSettings { cache: self.directory.path().to_owned(), ..settings.clone() };
        let push = push::Push { from: self.directory.path(), branch: &self.branch, expected: self.base, new: head };
        match push::push(&url, &settings, &push).await {
            Ok(Answer::Done) => Ok(()),
            Ok(Answer::Moved) => Err(WriteError::Moved { branch: branch() }),
            Ok(Answer::Refused(reason)) => Err(WriteError::Refused { branch: branch(), reason }),
            Err(source) => Err(WriteError::Push { branch: branch(), source }),
        }
    }

    /// Adds a commit of this tree on top.
    fn commit(
        &mut self,
        repository: &git2::Repository,
        tree: &git2::Tree<'_>,
        message: &str,
        more_parents: &[&git2::Commit<'_>],
        reverts: Vec<Reverted>,
    ) -> Result<(), WriteError> {
        let who = self.origin.repository()?;
        let author = who.author_from_env().map_err(WriteError::NoIdentity)?;
        let committer = who.committer_from_env().map_err(WriteError::NoIdentity)?;
        let first = self.head.map(|head| find_commit(repository, head)).transpose()?;
        let parents: Vec<&git2::Commit<'_>> = first.iter().chain(more_parents.iter().copied()).collect();
        let id = repository.commit(None, &author, &committer, message, tree, &parents);
        let id = commit_id(id.map_err(WriteError::git("write a commit"))?);
        let subject = message.lines().next().unwrap_or_default().to_owned();
        self.commits.push(DraftCommit { id, subject, reverts });
        self.head = Some(id);
        Ok(())
    }
}

/// Lets the repository at `path` read the objects of another one: gitrepository-layout(5), `objects/info/alternates`.
fn borrow_objects(common: &Path, path: &Path) -> Result<(), WriteError> {
    let (file, objects) = (path.join("objects/info/alternates"), common.join("objects"));
    let line = [std::os::unix::ffi::OsStrExt::as_bytes(objects.as_os_str()), b"\n"].concat();
    std::fs::write(&file, line).map_err(WriteError::scratch(&file))?;
    // Where a shallow clone's history ends, so that nobody looks beyond.
    let (from, to) = (common.join("shallow"), path.join("shallow"));
    if from.exists() {
        std::fs::copy(&from, &to).map_err(WriteError::scratch(&to))?;
    }
    Ok(())
}
