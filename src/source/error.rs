//! What can go wrong between plumb and a repository.

use std::path::PathBuf;

use crate::model::CommitId;

/// Why the repository, or something in it, could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nothing is at the path yet.
    #[error("there is no repository at {}", .0.display())]
    Missing(PathBuf),
    /// Something is at the path, but not (yet) a repository.
    #[error("{} is not a git repository: {reason}", .path.display())]
    NotARepository {
        /// The path that was given.
        path: PathBuf,
        /// What is missing there.
        reason: String,
    },
    /// The files belong to someone who isn't trusted. git's own `safe.directory` rule, with the same reason.
    #[error(
        "{} belongs to the user id {owner}, and plumb runs as {own}: whoever owns a repository decides what is deployed. \
         If that is meant, say --trust-owner {owner}",
        .path.display()
    )]
    ForeignOwner {
        /// The file or directory with the foreign owner.
        path: PathBuf,
        /// Its user id.
        owner: u32,
        /// The user id of this process.
        own: u32,
    },
    /// A repository format that cannot be read.
    #[error("{} uses {feature}, which plumb cannot read; {hint}", .path.display())]
    Unsupported {
        /// The repository.
        path: PathBuf,
        /// What it uses, as `extensions.*` of its config calls it.
        feature: String,
        /// What to do.
        hint: &'static str,
    },
    /// A file or directory of the repository could not be read.
    #[error("cannot read {}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// `packed-refs` has a line that is none.
    #[error("{} is damaged at line {line}: compare it with git show-ref", .path.display())]
    DamagedRefs {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// git objects or refs could not be read.
    #[error("cannot {action}")]
    Git {
        /// What was tried, ready to stand after "cannot".
        action: String,
        /// libgit2's reason.
        #[source]
        source: git2::Error,
    },
    /// A remote could not be asked or fetched from.
    #[error("cannot fetch from {url}")]
    Remote {
        /// The remote, without any secret.
        url: String,
        /// The reason.
        #[source]
        source: Box<super::RemoteError>,
    },
    /// The file system does not answer.
    #[error("{} does not answer for {seconds} s", .path.display())]
    Hangs {
        /// The repository.
        path: PathBuf,
        /// For how long so far.
        seconds: u64,
    },
    /// Every branch vanished at once, as in a repository that is being made anew.
    #[error("every branch is gone from {}; not believed until there is one", .0.display())]
    EveryBranchGone(PathBuf),
    /// The commit is not in the object database.
    #[error("the commit {0} is not in the repository")]
    NoSuchCommit(CommitId),
    /// A revision that names no commit.
    #[error("{0:?} names no commit of the repository: give a branch, a commit id, or either with ~1 or ^")]
    NoSuchRevision(String),
    /// A path that cannot be one of the repository.
    #[error("{0:?} is not a path inside the repository: it must be relative, without '..'")]
    BadPath(String),
    /// A directory was needed.
    #[error("{path:?} is not a directory at commit {commit}")]
    NotADirectory {
        /// The path inside the repository.
        path: String,
        /// The commit.
        commit: CommitId,
    },
    /// A tree has an entry whose name is not UTF-8.
    #[error("the file name {0:?} is not UTF-8: rename the file (the question marks stand for the bad bytes)")]
    NameNotUtf8(String),
    /// A tree has an entry that no working git would have written.
    #[error("the tree has an entry {0:?}: such a name would leave its directory and is refused")]
    HostileName(String),
    /// A blob is larger than plumb reads.
    #[error("{path} is {size} bytes at commit {commit}; the limit for a file is {limit} bytes")]
    TooLarge {
        /// The path inside the repository.
        path: String,
        /// The commit.
        commit: CommitId,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// An entry that is not a file was to be read as one.
    #[error("{path} is not a file at commit {commit}")]
    NotAFile {
        /// The path inside the repository.
        path: String,
        /// The commit.
        commit: CommitId,
    },
}

impl SourceError {
    /// Adds what was tried to an error of libgit2; for `map_err`.
    pub(super) fn git(action: impl Into<String>) -> impl FnOnce(git2::Error) -> Self {
        move |source| Self::Git { action: action.into(), source }
    }

    /// Adds the path to an I/O error; for `map_err`.
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { path: path.into(), source }
    }

    /// Whether it may be there at the next try: a repository that is made anew at its path, a commit whose head a network file system showed first. A bad
    /// name never.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Git { .. } | Self::Io { .. } | Self::NoSuchCommit(_)) || self.is_not_there()
    }

    /// Whether the repository is not there yet, as opposed to there and unreadable.
    pub fn is_not_there(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::NotARepository { .. })
    }
}

/// The error and its sources in one line, as a log or a status shows it.
pub(super) fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
