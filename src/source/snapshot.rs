//! The files of one commit, read straight from the object database: no checkout, so nothing else can change under a reader.

use super::SourceError;
use super::store::{commit_id, oid};
use crate::model::CommitId;

/// The largest file that is read, in bytes. A Kubernetes object is at most 1.5 MiB in etcd; a chart's packed dependency may be larger.
pub const BLOB_LIMIT: u64 = 16 * 1024 * 1024;

/// What a pointer of git-lfs is never longer than.
pub(super) const LFS_BYTES: u64 = 1024;

/// Whether a file is a pointer of git-lfs: what it points to is not in git.
pub fn is_lfs_pointer(content: &[u8]) -> bool {
    content.len() as u64 <= LFS_BYTES && content.starts_with(b"version https://git-lfs.github.com/spec/")
}

/// What a tree entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A directory.
    Tree,
    /// A file.
    File,
    /// A file with the executable bit.
    Executable,
    /// A symbolic link; its blob is the target.
    Symlink,
    /// Another repository's commit. Its files are not here.
    Submodule,
}

/// One entry of a tree: what it is, and the id of its object. Equal ids are equal contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The object id of the blob or tree (a foreign commit's for a submodule).
    pub id: CommitId,
    /// What it is.
    pub kind: EntryKind,
}

/// One commit's tree. It has its own handle on the object database, so it may move to a blocking thread.
pub struct Snapshot {
    repository: git2::Repository,
    commit: CommitId,
    root: git2::Oid,
}

impl Snapshot {
    pub(super) fn new(repository: git2::Repository, commit: CommitId) -> Result<Self, SourceError> {
        let root = super::store::find_commit(&repository, commit)?.tree_id();
        Ok(Self { repository, commit, root })
    }

    /// The commit whose tree this is.
    pub fn commit(&self) -> CommitId {
        self.commit
    }

    /// The entry at `path`, relative to the repository's root ("" and "." are the root itself), or nothing. Symlinks are not followed.
    pub fn entry(&self, path: &str) -> Result<Option<Entry>, SourceError> {
        let mut entry = Entry { id: commit_id(self.root), kind: EntryKind::Tree };
        for name in components(path)? {
            if entry.kind != EntryKind::Tree {
                return Ok(None);
            }
            let tree = self.tree(path, &entry)?;
            match tree.get_name(name) {
                Some(found) => entry = entry_of(&found),
                None => return Ok(None),
            }
        }
        Ok(Some(entry))
    }

    /// The entries of the directory at `path`, one level, in git's order (by bytes, directories as if their name ended in a slash).
    ///
    /// A name that is not UTF-8, or that no git writes (`..`, `.git`, one with a slash), is an error that names it: a
    /// caller may use these names as file names.
    pub fn list(&self, path: &str) -> Result<Vec<(String, Entry)>, SourceError> {
        let entry = match self.entry(path)? {
            Some(entry) if entry.kind == EntryKind::Tree => entry,
            _ => return Err(SourceError::NotADirectory { path: path.to_owned(), commit: self.commit }),
        };
        self.children(path, &entry)
    }

    /// The same for a directory that is known already.
    pub(super) fn children(&self, path: &str, directory: &Entry) -> Result<Vec<(String, Entry)>, SourceError> {
        let tree = self.tree(path, directory)?;
        tree.iter().map(|found| Ok((checked_name(path, found.name_bytes())?, entry_of(&found)))).collect()
    }

    /// How many bytes a file has, without reading it.
    pub(super) fn size(&self, path: &str, id: CommitId) -> Result<u64, SourceError> {
        let read = || SourceError::git(format!("read {path} at commit {}", self.commit));
        let odb = self.repository.odb().map_err(read())?;
        Ok(odb.read_header(oid(id)).map_err(read())?.0 as u64)
    }

    /// A file's bytes, however many they are; whoever asks has looked at the size.
    pub(super) fn whole(&self, path: &str, id: CommitId) -> Result<git2::Blob<'_>, SourceError> {
        let read = SourceError::git(format!("read {path} at commit {}", self.commit));
        self.repository.find_blob(oid(id)).map_err(read)
    }

    /// The bytes of a file, or of a symlink's target. The size is looked at before anything is read; at most [`BLOB_LIMIT`] bytes.
    /// `path` is for messages.
    pub fn blob(&self, path: &str, entry: &Entry) -> Result<Vec<u8>, SourceError> {
        if matches!(entry.kind, EntryKind::Tree | EntryKind::Submodule) {
            return Err(SourceError::NotAFile { path: path.to_owned(), commit: self.commit });
        }
        let size = self.size(path, entry.id)?;
        if size > BLOB_LIMIT {
            let (path, commit) = (path.to_owned(), self.commit);
            return Err(SourceError::TooLarge { path, commit, size, limit: BLOB_LIMIT });
        }
        Ok(self.whole(path, entry.id)?.content().to_vec())
    }

    fn tree(&self, path: &str, entry: &Entry) -> Result<git2::Tree<'_>, SourceError> {
        let action = || format!("read the directory {path:?} at commit {}", self.commit);
        self.repository.find_tree(oid(entry.id)).map_err(|source| SourceError::Git { action: action(), source })
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({})", self.commit)
    }
}

/// The names on the way to `path`. Empty ones and `.` don't count.
fn components(path: &str) -> Result<impl Iterator<Item = &str>, SourceError> {
    let names = || path.split('/').filter(|name| !matches!(*name, "" | "."));
    if path.starts_with('/') || path.contains('\0') || names().any(|name| name == "..") {
        return Err(SourceError::BadPath(path.to_owned()));
    }
    Ok(names())
}

/// The name as text, if it may stand in a file system: git's own rules for what a tree must not hold.
fn checked_name(directory: &str, name: &[u8]) -> Result<String, SourceError> {
    let shown = || match directory {
        "" | "." => String::from_utf8_lossy(name).into_owned(),
        directory => format!("{}/{}", directory.trim_end_matches('/'), String::from_utf8_lossy(name)),
    };
    let Ok(text) = std::str::from_utf8(name) else { return Err(SourceError::NameNotUtf8(shown())) };
    let hostile = matches!(text, "" | "." | "..") || text.eq_ignore_ascii_case(".git") || text.contains(['/', '\0']);
    if hostile { Err(SourceError::HostileName(shown())) } else { Ok(text.to_owned()) }
}

fn entry_of(entry: &git2::TreeEntry<'_>) -> Entry {
    // The kinds of git's tree format; old repositories have other permission bits, which mean nothing.
    let kind = match entry.filemode_raw() & 0o170_000 {
        0o040_000 => EntryKind::Tree,
        0o120_000 => EntryKind::Symlink,
        0o160_000 => EntryKind::Submodule,
        _ if entry.filemode_raw() & 0o100 != 0 => EntryKind::Executable,
        _ => EntryKind::File,
    };
    Entry { id: commit_id(entry.id()), kind }
}
