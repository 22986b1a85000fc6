//! Where a repository keeps its parts, and whether it may be trusted and can be read, found without opening it.
//!
//! libgit2 checks the owner only in one of its ways to open a repository, and its switch for that check is process-wide. So the
//! check is made here, for every repository, and the repository is then opened by the exact path of its git directory.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::SourceError;

/// Whose repositories are read: always those of the process's own user, and those of the owners named here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trust {
    owners: Vec<u32>,
}

impl Trust {
    /// Trusts the process's own user and these user ids.
    pub fn owners(owners: impl IntoIterator<Item = u32>) -> Self {
        Self { owners: owners.into_iter().collect() }
    }

    /// Refuses a file whose owner is neither this process's user nor named.
    pub(super) fn check(&self, path: &Path) -> Result<(), SourceError> {
        let owner = std::fs::metadata(path).map_err(SourceError::io(path))?.uid();
        let own = rustix::process::geteuid().as_raw();
        if owner == own || self.owners.contains(&owner) {
            return Ok(());
        }
        Err(SourceError::ForeignOwner { path: path.to_owned(), owner, own })
    }
}

/// The directories of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// Where this work tree's own HEAD is. The same as `common`, except in a linked worktree.
    pub git: PathBuf,
    /// Where refs, objects and the config are.
    pub common: PathBuf,
}

impl Layout {
    /// Finds the parts of the repository at `path`: a bare repository, a `.git` directory, or the top of a work tree, linked ones too.
    pub fn find(path: &Path, trust: &Trust) -> Result<Self, SourceError> {
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                let reason = "it is a file".to_owned();
                return Err(SourceError::NotARepository { path: path.to_owned(), reason });
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(SourceError::Missing(path.to_owned()));
            }
            Err(source) => return Err(SourceError::Io { path: path.to_owned(), source }),
        }
        trust.check(path)?;
        let git = git_directory(path)?;
        let common = match read_pointer(&git.join("commondir"), "")? {
            Some(common) => git.join(common),
            None => git.clone(),
        };
        for part in ["HEAD", "objects", "refs"] {
            if !exists(&common.join(part))? {
                let reason = format!("{} has no {part}", common.display());
                return Err(SourceError::NotARepository { path: path.to_owned(), reason });
            }
        }
        trust.check(&git)?;
        trust.check(&common)?;
        check_format(&common)?;
        Ok(Self { git, common })
    }
}

/// The git directory that belongs to `path`.
fn git_directory(path: &Path) -> Result<PathBuf, SourceError> {
    let dot_git = path.join(".git");
    match std::fs::metadata(&dot_git) {
        Ok(found) if found.is_dir() => Ok(dot_git),
        Ok(_) => match read_pointer(&dot_git, "gitdir: ")? {
            Some(target) if exists(&path.join(&target))? => Ok(path.join(target)),
            _ => Err(SourceError::NotARepository {
                path: path.to_owned(),
                reason: format!("{} names no git directory", dot_git.display()),
            }),
        },
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(path.to_owned()),
        Err(source) => Err(SourceError::Io { path: dot_git, source }),
    }
}

/// The path in a one-line file such as `.git` of a worktree or `commondir`; nothing if the file or its prefix is missing.
pub(super) fn read_pointer(file: &Path, prefix: &str) -> Result<Option<PathBuf>, SourceError> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(text.strip_prefix(prefix).map(|path| PathBuf::from(path.trim_end_matches(['\r', '\n'])))),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(SourceError::Io { path: file.to_owned(), source }),
    }
}

fn exists(path: &Path) -> Result<bool, SourceError> {
    path.try_exists().map_err(SourceError::io(path))
}

/// Names the formats that libgit2 would refuse with words that help nobody.
fn check_format(common: &Path) -> Result<(), SourceError> {
    let file = common.join("config");
    if !exists(&file)? {
        return Ok(());
    }
    let read = || SourceError::git(format!("read {}", file.display()));
    let config = git2::Config::open(&file).map_err(read())?.snapshot().map_err(read())?;
    let refuse = |feature: String, hint| Err(SourceError::Unsupported { path: common.to_owned(), feature, hint });
    match config.get_str("extensions.objectformat") {
        Ok(format) if !format.eq_ignore_ascii_case("sha1") => {
            return refuse(
                format!("the object format {format}"),
                "convert it, or push to one made with --object-format=sha1",
            );
        }
        _ => {}
    }
    match config.get_str("extensions.refstorage") {
        Ok(format) if !format.eq_ignore_ascii_case("files") => {
            return refuse(format!("the ref storage {format}"), "run git refs migrate --ref-format=files in it");
        }
        _ => {}
    }
    if config.get_str("extensions.partialclone").is_ok() {
        return refuse("a partial clone".to_owned(), "objects may be missing in it: clone it without --filter");
    }
    Ok(())
}
