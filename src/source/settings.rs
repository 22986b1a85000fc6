//! What is watched, and how.

use std::path::PathBuf;
use std::time::Duration;

use super::Trust;

/// Where the repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepositoryUrl {
    /// A directory of this machine: a bare repository, or the top of a work tree.
    Local(PathBuf),
}

/// How the repository is watched and read.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// The repository.
    pub repository: RepositoryUrl,
    /// How often the refs are looked at even when nothing was heard of them. Default: 3 s for a local repository.
    pub interval: Option<Duration>,
    /// Whose local repositories are read beside one's own.
    pub trust: Trust,
}

impl SourceSettings {
    /// The defaults for this repository.
    pub fn new(repository: RepositoryUrl) -> Self {
        Self { repository, interval: None, trust: Trust::default() }
    }
}
