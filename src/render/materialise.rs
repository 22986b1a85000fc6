//! Writes chosen files of a commit into a private directory, for programs that read files. Nothing in it leads out of it.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::model::path::{join, stays_inside};
use crate::source::{Entry, EntryKind, Snapshot, SourceError, is_lfs_pointer};

const FILES: usize = 20_000;
const BYTES: usize = 64 << 20;
const DEPTH: usize = 64;

/// Why files could not be written out.
#[derive(Debug, thiserror::Error)]
pub enum MaterialiseError {
    /// git could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The directory could not be written.
    #[error("cannot write {}", .path.display())]
    Io {
        /// The file in the private directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A symbolic link that leads out of what is written.
    #[error("{0} is a symbolic link that leads out of its directory, or has '..' after a name")]
    LinkOut(String),
    /// A submodule.
    #[error("{0} is a submodule, whose files are in another repository")]
    Submodule(String),
    /// A pointer of git-lfs.
    #[error("{0} is a pointer of git-lfs: its content is not in the repository")]
    Lfs(String),
    /// Too many files, bytes or directories.
    #[error("{path} has more than {limit} {what}")]
    TooMuch {
        /// The directory.
        path: String,
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        limit: usize,
    },
    /// A symbolic link where a file is needed.
    #[error("{0} is not a file")]
    NotAFile(String),
}

impl MaterialiseError {
    /// The file in the repository that is at fault.
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::LinkOut(file) | Self::Submodule(file) | Self::Lfs(file) | Self::NotAFile(file) => Some(file),
            Self::TooMuch { path, .. } => Some(path),
            Self::Source(_) | Self::Io { .. } => None,
        }
    }
}

/// A private directory (mode 0700) that is removed when it is dropped: `tree` holds files at their paths of the repository, `home`
/// is for the program.
pub(super) struct Workshop {
    directory: tempfile::TempDir,
    files: usize,
    bytes: usize,
}

impl Workshop {
    pub(super) fn new() -> Result<Self, MaterialiseError> {
        let failed = |source| MaterialiseError::Io { path: std::env::temp_dir(), source };
        let private = fs::Permissions::from_mode(0o700);
        let directory =
            tempfile::Builder::new().prefix("plumb-render-").permissions(private).tempdir().map_err(failed)?;
        let workshop = Self { directory, files: 0, bytes: 0 };
        workshop.make_directory(&workshop.tree())?;
        workshop.make_directory(&workshop.home())?;
        Ok(workshop)
    }

    /// Where the repository's root would be.
    pub(super) fn tree(&self) -> PathBuf {
        self.directory.path().join("tree")
    }

    /// A directory for the program.
    pub(super) fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// The root of both; its path is taken out of messages.
    pub(super) fn root(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a whole directory of the commit. Links stay links if they lead to something inside `path`.
    pub(super) fn write_tree(&mut self, snapshot: &Snapshot, path: &str) -> Result<(), MaterialiseError> {
        self.write_below(snapshot, path, path, 0)
    }

    fn write_below(
        &mut self,
        snapshot: &Snapshot,
        top: &str,
        path: &str,
        depth: usize,
    ) -> Result<(), MaterialiseError> {
        if depth > DEPTH {
            let what = "directories inside each other";
            return Err(MaterialiseError::TooMuch { path: top.to_owned(), what, limit: DEPTH });
        }
        self.count(top, 0)?;
        self.make_directory(&self.tree().join(path))?;
        for (name, entry) in snapshot.list(path)? {
            let path = join(path, &name);
            match entry.kind {
                EntryKind::Tree => self.write_below(snapshot, top, &path, depth + 1)?,
                EntryKind::File | EntryKind::Executable => self.write_file(snapshot, &path, &entry)?,
                EntryKind::Submodule => return Err(MaterialiseError::Submodule(path)),
                EntryKind::Symlink => {
                    let target = snapshot.blob(&path, &entry)?;
                    let target = std::str::from_utf8(&target).map_err(|_| MaterialiseError::LinkOut(path.clone()))?;
                    if !stays_inside(top, &path, target) {
                        return Err(MaterialiseError::LinkOut(path));
                    }
                    self.count(top, 0)?;
                    let link = self.tree().join(&path);
                    symlink(target, &link).map_err(|source| MaterialiseError::Io { path: link, source })?;
                }
            }
        }
        Ok(())
    }

    /// Writes one file of the commit, unless it is there.
    pub(super) fn write_file(
        &mut self,
        snapshot: &Snapshot,
        path: &str,
        entry: &Entry,
    ) -> Result<(), MaterialiseError> {
        if !matches!(entry.kind, EntryKind::File | EntryKind::Executable) {
            return Err(MaterialiseError::NotAFile(path.to_owned()));
        }
        let bytes = snapshot.blob(path, entry)?;
        if is_lfs_pointer(&bytes) {
            return Err(MaterialiseError::Lfs(path.to_owned()));
        }
        self.count(path, bytes.len())?;
        self.write(&self.tree().join(path), &bytes)
    }

    /// Writes a file of our own.
    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), MaterialiseError> {
        if let Some(parent) = path.parent() {
            self.make_directory(parent)?;
        }
        let written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        match written.and_then(|mut file| std::io::Write::write_all(&mut file, bytes)) {
            Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(MaterialiseError::Io { path: path.to_owned(), source })
            }
            _ => Ok(()),
        }
    }

    fn make_directory(&self, path: &Path) -> Result<(), MaterialiseError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| MaterialiseError::Io { path: path.to_owned(), source })
    }

    fn count(&mut self, path: &str, bytes: usize) -> Result<(), MaterialiseError> {
        self.files += 1;
        self.bytes += bytes;
        let too_much = |what, limit| Err(MaterialiseError::TooMuch { path: path.to_owned(), what, limit });
        match () {
            () if self.files > FILES => too_much("files and directories", FILES),
            () if self.bytes > BYTES => too_much("bytes", BYTES),
            () => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LINK, TestRepository};
    use super::*;

    const FILE: i32 = 0o100_644;

    #[test]
    fn a_tree_is_written_privately_and_removed() {
        let repository = TestRepository::new();
        let snapshot = repository.commit_modes(&[("c/a", b"x", FILE), ("c/t/b", b"../a", LINK), ("d", b"y", FILE)]);
        let mut workshop = Workshop::new().unwrap();
        workshop.write_tree(&snapshot, "c").unwrap();
        let root = workshop.root().to_owned();
        assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read(workshop.tree().join("c/t/b")).unwrap(), b"x");
        assert!(!workshop.tree().join("d").exists());
        drop(workshop);
        assert!(!root.exists());
    }

    #[test]
    fn a_tree_without_end_is_refused() {
        let repository = TestRepository::new();
        let snapshot = repository.endless();
        let mut workshop = Workshop::new().unwrap();
        let refused = workshop.write_tree(&snapshot, "app").unwrap_err();
        assert!(matches!(refused, MaterialiseError::TooMuch { limit: FILES, .. }), "{refused}");
        assert_eq!(workshop.files, FILES + 1);
    }

    #[test]
    fn what_leads_out_or_is_not_there_is_refused() {
        let repository = TestRepository::new();
        let refused = |path: &str, bytes: &[u8], mode: i32| {
            let snapshot = repository.commit_modes(&[(path, bytes, mode)]);
            Workshop::new().unwrap().write_tree(&snapshot, "c").unwrap_err().to_string()
        };
        assert!(refused("c/t/x", b"/etc/passwd", LINK).starts_with("c/t/x is a symbolic link that leads out"));
        assert!(refused("c/x", b"version https://git-lfs.github.com/spec/v1\noid", FILE).contains("git-lfs"));
    }
}
