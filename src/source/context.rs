//! The context of an image: the files of one commit that it is built from.
//!
//! [`find`] looks where it is, [`Context::entries`] lists it after `.dockerignore`, from trees alone: no file's content is read, and a tree
//! that is known is not read again ([`Known`]). [`stream`] gives the very files that were listed as a tar.
//!
//! What would build something else than what git shows is refused, with its path: submodules, pointers of git-lfs, links that lead out.

use std::collections::{BTreeMap, HashMap};

use super::snapshot::{LFS_BYTES, is_lfs_pointer};
use super::{Entry, EntryKind, Snapshot, SourceError};
use crate::build::dockerfile::{Dockerfile, DockerfileError};
use crate::build::ignore::{Ignore, IgnoreError, Matched};
use crate::build::tag::{self, Entries, Mode};
use crate::model::CommitId;
use crate::model::images::ImageSource;
use crate::model::path::{join, normal, stays_inside};

mod tar;

pub use tar::{CHUNK, stream};

/// The largest file of a context, in bytes. One at a time is held in memory, and twice while git's library reads it: plumb's pod, with 256 MiB, has
/// to live through whatever is pushed.
pub const FILE_LIMIT: u64 = 64 << 20;
/// Directories inside each other.
const DEPTH: usize = 256;
/// Files and directories that are looked at, ignored ones included: a tree that names itself over and over has more of them than there is memory.
const ENTRIES: usize = 250_000;
const IGNORE_FILE: &str = ".dockerignore";
/// The largest Dockerfile that goes to the builder with its order, in bytes. However it is escaped, it is a line that the builder reads.
const DOCKERFILE_LIMIT: u64 = 128 << 10;

/// Why an image's sources can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// git could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The context or the Dockerfile is not there, or is something else.
    #[error("its {what}, {path}, {problem}")]
    NotThere {
        /// `context` or `Dockerfile`.
        what: &'static str,
        /// The path in the repository.
        path: String,
        /// What is there instead.
        problem: &'static str,
    },
    /// An ignore file is something else. Were it passed over, what it names would be sent.
    #[error("{path} {problem}, and what it leaves out would be sent; put the file itself there, or remove it")]
    IgnoreNotAFile {
        /// The ignore file.
        path: String,
        /// What is there instead.
        problem: &'static str,
    },
    /// An ignore file can't be read.
    #[error("{file}: {source}")]
    Ignore {
        /// The file.
        file: String,
        /// What is wrong.
        source: IgnoreError,
    },
    /// A Dockerfile can't be read.
    #[error("{file}: {source}")]
    Dockerfile {
        /// The file.
        file: String,
        /// What is wrong.
        source: DockerfileError,
    },
    /// `target` names no stage.
    #[error("{file} has no stage {target:?}, which its target names")]
    NoStage {
        /// The Dockerfile.
        file: String,
        /// The target.
        target: String,
    },
    /// Another repository's commit.
    #[error("{0} is a submodule, whose files are in another repository; name it in .dockerignore, or add the files")]
    Submodule(String),
    /// A link to something that is not in the context.
    #[error(
        "{path} is a symbolic link to {target:?}, which leads out of the context; name it in .dockerignore, or remove it"
    )]
    LeadsOut {
        /// The link.
        path: String,
        /// Its target.
        target: String,
    },
    /// A pointer of git-lfs in the place of a file.
    #[error(
        "{0} is a git-lfs pointer: the file itself is not in git; name it in .dockerignore, or add the file to git"
    )]
    Lfs(String),
    /// A file that is too large.
    #[error(
        "{path} is {size} bytes; the limit for a file of a context is {limit} bytes; name it in .dockerignore, or let the Dockerfile fetch it"
    )]
    TooLarge {
        /// The file.
        path: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Directories without end.
    #[error("{0} is more than 256 directories deep")]
    TooDeep(String),
    /// More than anybody builds an image from.
    #[error(
        "{path} has more than {limit} files and directories; give the image a smaller context, or name what it does not need in .dockerignore"
    )]
    TooMany {
        /// The context.
        path: String,
        /// How many there may be.
        limit: usize,
    },
}

impl ContextError {
    /// The file that it is about.
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::Source(_) => None,
            Self::NotThere { path: file, .. }
            | Self::IgnoreNotAFile { path: file, .. }
            | Self::Ignore { file, .. }
            | Self::Dockerfile { file, .. }
            | Self::NoStage { file, .. }
            | Self::LeadsOut { path: file, .. }
            | Self::TooLarge { path: file, .. }
            | Self::TooMany { path: file, .. }
            | Self::Submodule(file)
            | Self::Lfs(file)
            | Self::TooDeep(file) => Some(file),
        }
    }
}

/// Where an image's context is at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The directory, relative to the repository's root; the root is empty.
    pub path: String,
    /// Its tree. As long as it is the same, so is everything in it.
    pub tree: Entry,
    /// The Dockerfile's path within the context.
    pub dockerfile: String,
    /// Its blob.
    pub dockerfile_entry: Entry,
}

/// Finds the context and the Dockerfile of an image.
pub fn find(snapshot: &Snapshot, image: &ImageSource) -> Result<Context, ContextError> {
    let path = normal(&image.context);
    let wrong = |what, path: &str, kind: Option<EntryKind>| ContextError::NotThere {
        what,
        path: path.to_owned(),
        problem: kind.map_or("is not in this commit", told),
    };
    let found = snapshot.entry(&path)?;
    let tree = found.filter(|entry| entry.kind == EntryKind::Tree);
    let tree = tree.ok_or_else(|| wrong("context", &image.context, found.map(|entry| entry.kind)))?;
    let dockerfile = normal(&image.dockerfile);
    let file = join(&path, &dockerfile);
    let found = snapshot.entry(&file)?;
    let is_file = |entry: &Entry| matches!(entry.kind, EntryKind::File | EntryKind::Executable);
    let entry = found.filter(is_file).ok_or_else(|| wrong("Dockerfile", &file, found.map(|entry| entry.kind)))?;
    Ok(Context { path, tree, dockerfile, dockerfile_entry: entry })
}

/// What is there, of what should be something else.
const fn told(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Tree => "is a directory",
        EntryKind::File | EntryKind::Executable => "is a file",
        EntryKind::Symlink => "is a symbolic link",
        EntryKind::Submodule => "is a submodule: its files are in another repository",
    }
}

impl Context {
    /// The Dockerfile's path in the repository.
    pub fn dockerfile_path(&self) -> String {
        join(&self.path, &self.dockerfile)
    }

    /// What the Dockerfile says with these build arguments.
    pub fn read_dockerfile(
        &self,
        snapshot: &Snapshot,
        args: &BTreeMap<String, String>,
    ) -> Result<Dockerfile, ContextError> {
        let file = self.dockerfile_path();
        let read = Dockerfile::read(&snapshot.blob(&file, &self.dockerfile_entry)?, args);
        read.map_err(|source| ContextError::Dockerfile { file, source })
    }

    /// What the image is built from: the files and links that `.dockerignore` leaves, sorted by path. Directories without any are not in it.
    pub fn entries(&self, snapshot: &Snapshot) -> Result<Vec<tag::Entry>, ContextError> {
        let ignore = self.ignore(snapshot)?;
        self.walk(snapshot, &ignore, ENTRIES)
    }

    fn walk(&self, snapshot: &Snapshot, ignore: &Ignore, limit: usize) -> Result<Vec<tag::Entry>, ContextError> {
        let mut walk = Walk { snapshot, context: &self.path, ignore, entries: Vec::new(), limit, seen: 0 };
        walk.directory("", &self.tree, None, 0)?;
        let mut entries = walk.entries;
        entries.sort_unstable();
        Ok(entries)
    }

    /// The Dockerfile's text, if `.dockerignore` leaves it out: then it goes to the builder beside the context, and no image has it.
    pub fn ignored_dockerfile(&self, snapshot: &Snapshot) -> Result<Option<String>, ContextError> {
        if !self.ignore(snapshot)?.leaves_out(&self.dockerfile) {
            return Ok(None);
        }
        let file = self.dockerfile_path();
        if snapshot.size(&file, self.dockerfile_entry.id)? > DOCKERFILE_LIMIT {
            return Err(ContextError::NotThere { what: "Dockerfile", path: file, problem: "is larger than 128 KiB" });
        }
        let text = String::from_utf8(snapshot.blob(&file, &self.dockerfile_entry)?);
        text.map(Some).map_err(|_| ContextError::Dockerfile { file, source: DockerfileError::NotText })
    }

    /// Looks at the content of every file: none is too large, and none a pointer of git-lfs. What comes to be built is looked at so first.
    pub fn check(&self, snapshot: &Snapshot, entries: &[tag::Entry], limit: u64) -> Result<(), ContextError> {
        for entry in entries.iter().filter(|entry| entry.mode != Mode::Symlink) {
            let path = join(&self.path, &entry.path);
            let size = snapshot.size(&path, entry.id)?;
            if size > limit {
                return Err(ContextError::TooLarge { path, size, limit });
            }
            if size <= LFS_BYTES && is_lfs_pointer(snapshot.whole(&path, entry.id)?.content()) {
                return Err(ContextError::Lfs(path));
            }
        }
        Ok(())
    }

    /// `<Dockerfile>.dockerignore` beside the Dockerfile, or else `.dockerignore` at the context's top, as BuildKit has it.
    fn ignore(&self, snapshot: &Snapshot) -> Result<Ignore, ContextError> {
        for name in [format!("{}{IGNORE_FILE}", self.dockerfile), IGNORE_FILE.to_owned()] {
            let file = join(&self.path, &name);
            let Some(entry) = snapshot.entry(&file)? else { continue };
            if !matches!(entry.kind, EntryKind::File | EntryKind::Executable) {
                return Err(ContextError::IgnoreNotAFile { path: file, problem: told(entry.kind) });
            }
            let read = Ignore::parse(&snapshot.blob(&file, &entry)?);
            return read.map_err(|source| ContextError::Ignore { file, source });
        }
        Ok(Ignore::default())
    }
}

/// The root of the repository has no path.
fn shown(path: &str) -> String {
    if path.is_empty() { ".".to_owned() } else { path.to_owned() }
}

struct Walk<'a> {
    snapshot: &'a Snapshot,
    context: &'a str,
    ignore: &'a Ignore,
    entries: Vec<tag::Entry>,
    limit: usize,
    seen: usize,
}

impl Walk<'_> {
    fn directory(
        &mut self,
        path: &str,
        tree: &Entry,
        parent: Option<&Matched>,
        depth: usize,
    ) -> Result<(), ContextError> {
        if depth > DEPTH {
            return Err(ContextError::TooDeep(join(self.context, path)));
        }
        for (name, entry) in self.snapshot.children(&join(self.context, path), tree)? {
            self.seen += 1;
            if self.seen > self.limit {
                return Err(ContextError::TooMany { path: shown(self.context), limit: self.limit });
            }
            let path = join(path, &name);
            let verdict = self.ignore.verdict(&path, parent);
            let mode = match entry.kind {
                EntryKind::Tree => {
                    if !verdict.ignored || self.ignore.may_keep_beneath(&path) {
                        self.directory(&path, &entry, Some(&verdict.matched), depth + 1)?;
                    }
                    continue;
                }
                _ if verdict.ignored => continue,
                EntryKind::File => Mode::File,
                EntryKind::Executable => Mode::Executable,
                EntryKind::Symlink => {
                    self.link(&path, &entry)?;
                    Mode::Symlink
                }
                EntryKind::Submodule => return Err(ContextError::Submodule(join(self.context, &path))),
            };
            self.entries.push(tag::Entry { path, mode, id: entry.id });
        }
        Ok(())
    }

    fn link(&self, path: &str, entry: &Entry) -> Result<(), ContextError> {
        let whole = join(self.context, path);
        let target = self.snapshot.blob(&whole, entry)?;
        let inside = std::str::from_utf8(&target).is_ok_and(|target| stays_inside("", path, target));
        if inside {
            return Ok(());
        }
        Err(ContextError::LeadsOut { path: whole, target: String::from_utf8_lossy(&target).into_owned() })
    }
}

/// The digests of contexts by their trees: what was listed once is not listed again.
#[derive(Debug, Default)]
pub struct Known {
    digests: HashMap<(CommitId, String), Entries>,
    used: HashMap<(CommitId, String), Entries>,
}

impl Known {
    /// The digest of a context's entries. The ignore file and the Dockerfile are in the tree, so it and their place decide all.
    pub fn entries(&mut self, snapshot: &Snapshot, context: &Context) -> Result<Entries, ContextError> {
        let key = (context.tree.id, context.dockerfile.clone());
        let known = self.used.get(&key).or_else(|| self.digests.get(&key)).copied();
        let entries = match known {
            Some(entries) => entries,
            None => Entries::of(&context.entries(snapshot)?),
        };
        self.used.insert(key, entries);
        Ok(entries)
    }

    /// Forgets what was not asked for since the last call.
    pub fn sweep(&mut self) {
        self.digests = std::mem::take(&mut self.used);
    }
}

#[cfg(test)]
#[path = "context/tests.rs"]
mod tests;
