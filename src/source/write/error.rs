//! What can go wrong when commits are written. Whatever it is, the branch is where it was; what is not known says so.

use std::path::PathBuf;

use crate::model::CommitId;
use crate::source::{RemoteError, SourceError};

/// Why commits could not be made, or not be brought to their branch.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The target of a roll-back is no part of the branch.
    #[error(
        "{} is not in the history of branch {branch}, so no revert leads back to it; `git log {branch}` shows what is",
        .target.short()
    )]
    NotInHistory {
        /// The commit to go back to.
        target: CommitId,
        /// The branch.
        branch: String,
    },
    /// The target of a roll-back came with a merge: no commit of the branch's own line leaves its files alone.
    #[error(
        "{} came to branch {branch} with the merge {}: the branch itself never was at it. Go back to {}~1, to a later \
         commit of the branch (`git log --first-parent {branch}`), or take the files of {} as they are with --squash",
        .target.short(), .merge.short(), .merge.short(), .target.short()
    )]
    BesideTheLine {
        /// The commit to go back to.
        target: CommitId,
        /// The branch.
        branch: String,
        /// The merge that brought it.
        merge: CommitId,
    },
    /// So many reverts that one commit serves better.
    #[error("that would be {count} revert commits, more than {limit}; --squash makes it one")]
    TooMany {
        /// How many commits would be reverted.
        count: usize,
        /// How many are, at most.
        limit: usize,
    },
    /// Both sides of a merge changed the same place.
    #[error(
        "{} does not merge into branch {branch}: both changed {}. Nothing was written; merge by hand: \
         git switch {branch} && git merge {}",
        .commit.short(), .files.join(", "), .commit.short()
    )]
    Conflict {
        /// The commit to be merged.
        commit: CommitId,
        /// The branch that it is merged into.
        branch: String,
        /// The files in which they disagree.
        files: Vec<String>,
    },
    /// Two histories without a common commit.
    #[error("{} and branch {branch} have no commit in common, which is no promotion but a mix-up", .commit.short())]
    Unrelated {
        /// The commit to be merged.
        commit: CommitId,
        /// The branch that it is merged into.
        branch: String,
    },
    /// A commit needs a name and an address.
    #[error(
        "git does not know who you are, and a commit names its author: git config --global user.name 'Your Name' && \
         git config --global user.email you@example.com, or GIT_AUTHOR_NAME, GIT_AUTHOR_EMAIL, GIT_COMMITTER_NAME and \
         GIT_COMMITTER_EMAIL in the environment"
    )]
    NoIdentity(#[source] git2::Error),
    /// The branch is checked out: moved from elsewhere, the files there would look like changes that undo it.
    #[error(
        "branch {branch} is checked out in {}, and is not moved under somebody's feet (if that is gone: git worktree prune)",
        .work_tree.display()
    )]
    CheckedOut {
        /// The branch.
        branch: String,
        /// Where.
        work_tree: PathBuf,
    },
    /// Somebody was faster.
    #[error("branch {branch} moved meanwhile; nothing was written. See what came, and say it again")]
    Moved {
        /// The branch.
        branch: String,
    },
    /// The repository does not want it: a hook, a protected branch, rights.
    #[error("the repository refuses the commits for branch {branch}: {reason}. Nothing was written")]
    Refused {
        /// The branch.
        branch: String,
        /// Its words.
        reason: String,
    },
    /// It did not come to an answer.
    #[error("branch {branch} could not be pushed (git ls-remote says whether it moved all the same)")]
    Push {
        /// The branch.
        branch: String,
        /// Why.
        #[source]
        source: RemoteError,
    },
    /// The temporary repository could not be made.
    #[error("cannot write {}", .path.display())]
    Scratch {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The repository could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl WriteError {
    /// Adds what was tried to an error of libgit2; for `map_err`.
    pub(super) fn git(action: impl Into<String>) -> impl FnOnce(git2::Error) -> Self {
        let action = action.into();
        move |source| Self::Source(SourceError::Git { action, source })
    }

    /// Adds the path to an I/O error; for `map_err`.
    pub(super) fn scratch(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Scratch { path: path.into(), source }
    }
}
