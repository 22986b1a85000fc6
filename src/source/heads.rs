//! The heads of all branches, read so that no branch ever seems gone, or older, because of when or how it was read.
//!
//! A ref is a file below `refs/heads`, or a line of `packed-refs`, or both (the file counts). `git pack-refs` moves it from the one
//! to the other while we look, and a listing of a directory that changes may miss an entry. So files are read before lines, and
//! whatever would be news that an absent file alone tells (a branch gone, a branch at the commit of its line) is looked up again
//! by its exact name: that lookup is right at every moment of such a move.
//!
//! libgit2's iterator is not used: it skips a ref that it cannot read, as if it were gone.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::SourceError;
use super::store::commit_id;
use crate::model::CommitId;

const BRANCHES: &str = "refs/heads/";

/// The branches of a repository at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heads {
    /// The branch that the repository's HEAD names, also if it has no commit yet; nothing if HEAD is detached.
    pub default_branch: Option<String>,
    /// Branch → the commit at its head. Nested names such as `team/dev` are one name.
    pub branches: BTreeMap<String, CommitId>,
    /// Branches that are there but could not be read, or whose name is not UTF-8 (lossy). They are not gone.
    pub unreadable: Vec<String>,
}

/// The directories that were listed: a watch must cover these to hear of the next change. Filled also when the reading fails.
pub(super) type Directories = BTreeSet<PathBuf>;

/// Reads HEAD and all branches. The branches of `previous` are looked for by name, whether a listing has them or not.
pub(super) fn read(
    repository: &git2::Repository,
    previous: Option<&Heads>,
    directories: &mut Directories,
) -> Result<Heads, SourceError> {
    let common = repository.commondir();
    directories.insert(common.join("refs"));
    let mut loose = Loose::new(directories);
    loose.list(&common.join(BRANCHES.trim_end_matches('/')), "")?;
    let packed = packed(common)?;

    let known = |name: &str| previous.and_then(|heads| heads.branches.get(name));
    let mut heads = Heads { default_branch: default_branch(repository)?, ..Heads::default() };
    heads.unreadable = loose.unreadable;
    heads.branches = loose.branches;
    let mut uncertain: BTreeSet<&str> = loose.symbolic.iter().map(String::as_str).collect();
    for (name, id) in &packed.branches {
        if known(name) == Some(id) || loose.packed_since.contains(name) {
            heads.branches.entry(name.clone()).or_insert(*id);
        } else if !heads.branches.contains_key(name) {
            uncertain.insert(name);
        }
    }
    heads.unreadable.extend(packed.unreadable);
    uncertain.extend(previous.iter().flat_map(|heads| heads.branches.keys().map(String::as_str)));
    for name in uncertain {
        if !heads.branches.contains_key(name) && !heads.unreadable.iter().any(|unreadable| unreadable == name) {
            look_up(repository, name, &mut heads);
        }
    }
    heads.unreadable.sort();
    Ok(heads)
}

/// Looks one branch up by its exact name, file before line, following symbolic refs.
fn look_up(repository: &git2::Repository, name: &str, heads: &mut Heads) {
    let full = format!("{BRANCHES}{name}");
    match repository.find_reference(&full).and_then(|found| found.resolve()) {
        Ok(found) => match found.target() {
            Some(target) => drop(heads.branches.insert(name.to_owned(), commit_id(target))),
            None => heads.unreadable.push(name.to_owned()),
        },
        // Gone; unless its file is there, as that of a symbolic ref to nothing is.
        Err(error) if error.code() == git2::ErrorCode::NotFound => {
            if repository.commondir().join(full).symlink_metadata().is_ok_and(|found| !found.is_dir()) {
                heads.unreadable.push(name.to_owned());
            }
        }
        Err(_) => heads.unreadable.push(name.to_owned()),
    }
}

/// The branch that HEAD names.
fn default_branch(repository: &git2::Repository) -> Result<Option<String>, SourceError> {
    let head = repository.find_reference("HEAD").map_err(SourceError::git("read the repository's HEAD"))?;
    let target = head.symbolic_target().ok().flatten();
    Ok(target.and_then(|target| target.strip_prefix(BRANCHES)).map(str::to_owned))
}

/// The branches in `packed-refs`, without those that have a file as well: gitrepository-layout(5).
fn packed(common: &Path) -> Result<Packed, SourceError> {
    let file = common.join("packed-refs");
    let text = match std::fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Packed::default()),
        Err(source) => return Err(SourceError::Io { path: file, source }),
    };
    let damaged = |line: usize| SourceError::DamagedRefs { path: file.clone(), line };
    let mut packed = Packed::default();
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        // A header, or what the annotated tag of the line before points to.
        if line.starts_with(b"#") || line.starts_with(b"^") {
            continue;
        }
        let line = line.strip_suffix(b"\n").ok_or_else(|| damaged(number + 1))?;
        let (id, name) = line.split_at_checked(40).ok_or_else(|| damaged(number + 1))?;
        let id = parse_id(id).ok_or_else(|| damaged(number + 1))?;
        let name = name.strip_prefix(b" ").ok_or_else(|| damaged(number + 1))?;
        let Some(name) = name.strip_prefix(BRANCHES.as_bytes()) else { continue };
        match std::str::from_utf8(name) {
            Ok(name) => drop(packed.branches.insert(name.to_owned(), id)),
            Err(_) => packed.unreadable.push(String::from_utf8_lossy(name).into_owned()),
        }
    }
    Ok(packed)
}

#[derive(Default)]
struct Packed {
    branches: BTreeMap<String, CommitId>,
    unreadable: Vec<String>,
}

fn parse_id(text: &[u8]) -> Option<CommitId> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The branches that are files.
struct Loose<'a> {
    branches: BTreeMap<String, CommitId>,
    /// Symbolic refs, to be followed.
    symbolic: Vec<String>,
    /// Listed, and gone when they were to be read: what a line read later says of them holds.
    packed_since: BTreeSet<String>,
    unreadable: Vec<String>,
    directories: &'a mut Directories,
}

impl<'a> Loose<'a> {
    fn new(directories: &'a mut Directories) -> Self {
        Self {
            branches: BTreeMap::new(),
            symbolic: Vec::new(),
            packed_since: BTreeSet::new(),
            unreadable: Vec::new(),
            directories,
        }
    }

    fn list(&mut self, directory: &Path, prefix: &str) -> Result<(), SourceError> {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            // git removes a directory with its last ref.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(SourceError::Io { path: directory.to_owned(), source }),
        };
        self.directories.insert(directory.to_owned());
        for entry in entries {
            let entry = entry.map_err(SourceError::io(directory))?;
            let file_name = entry.file_name();
            let shown = format!("{prefix}{}", file_name.to_string_lossy());
            let kind = entry.file_type().map_err(SourceError::io(entry.path()))?;
            match (file_name.to_str(), kind.is_dir()) {
                (Some(_), true) => self.list(&entry.path(), &format!("{shown}/"))?,
                (Some(name), false) if name.ends_with(".lock") => {}
                // A device or pipe would never end.
                (Some(_), false) if kind.is_file() || kind.is_symlink() => self.read(&entry.path(), shown),
                _ => self.unreadable.push(shown),
            }
        }
        Ok(())
    }

    fn read(&mut self, file: &Path, name: String) {
        // A commit id and a line feed; a symbolic ref is recognised by its start. Three system calls a ref.
        let mut start = [0; 41];
        let length = match std::fs::File::open(file).and_then(|mut file| file.read(&mut start)) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.packed_since.insert(name);
                return;
            }
            Err(_) => return self.unreadable.push(name),
        };
        let text = start.get(..length).unwrap_or_default();
        if text.starts_with(b"ref:") {
            self.symbolic.push(name);
        } else if let Some(id) = parse_id(text.trim_ascii_end())
            && git2::Reference::is_valid_name(&format!("{BRANCHES}{name}"))
        {
            self.branches.insert(name, id);
        } else {
            self.unreadable.push(name);
        }
    }
}
