//! One look at a local repository: its heads or what is wrong, and the directories that must be watched to hear of the next change.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::source::heads::{self, Directories};
use crate::source::{Heads, SourceError, Store, Trust};

/// A branch counts as deleted if two looks this far apart both miss it.
const SECOND_LOOK: Duration = Duration::from_millis(10);

/// The files that matter in a git directory. An event on anything else there (an index, a FETCH_HEAD) wakes nobody.
const GIT_FILES: [&str; 6] = ["HEAD", "commondir", "config", "objects", "packed-refs", "refs"];

/// What to listen for in a watched directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Interest {
    /// Any entry.
    Everything,
    /// Entries of these names.
    Names(Vec<OsString>),
}

/// Directory → what matters in it.
pub(super) type Wanted = BTreeMap<PathBuf, Interest>;

/// The result of one look.
#[derive(Debug)]
pub(super) struct Survey {
    pub outcome: Result<(Heads, Store), SourceError>,
    pub wanted: Wanted,
}

/// Looks at the repository at `path`, which must be absolute. `previous` are the heads that stand.
pub(super) fn survey(path: &Path, trust: &Trust, previous: Option<&Heads>) -> Survey {
    let mut wanted = around(path);
    let outcome = look(path, trust, previous, &mut wanted);
    Survey { outcome, wanted }
}

fn look(
    path: &Path,
    trust: &Trust,
    previous: Option<&Heads>,
    wanted: &mut Wanted,
) -> Result<(Heads, Store), SourceError> {
    let store = Store::open(path, trust)?;
    wanted.insert(store.common_dir().to_owned(), Interest::Names(GIT_FILES.map(OsString::from).to_vec()));
    let mut directories = Directories::new();
    let heads = look_twice(&store, previous, &mut directories);
    wanted.extend(directories.into_iter().map(|directory| (directory, Interest::Everything)));
    let heads = heads?;
    if heads.branches.is_empty() && previous.is_some_and(|previous| !previous.branches.is_empty()) {
        // A repository that is deleted and cloned again is empty for a while. That is not a wish to deploy nothing.
        return Err(SourceError::EveryBranchGone(path.to_owned()));
    }
    Ok((heads, store))
}

/// Reads the heads; and again, a little later, if a branch seems to be deleted.
fn look_twice(store: &Store, previous: Option<&Heads>, directories: &mut Directories) -> Result<Heads, SourceError> {
    let heads = heads::read(&store.repository()?, previous, directories)?;
    if previous.is_some_and(|previous| lost(previous, &heads)) {
        std::thread::sleep(SECOND_LOOK);
        return heads::read(&store.repository()?, previous, directories);
    }
    Ok(heads)
}

/// Whether a branch of `previous` is neither readable nor unreadable now.
fn lost(previous: &Heads, now: &Heads) -> bool {
    previous.branches.keys().any(|name| !now.branches.contains_key(name) && !now.unreadable.contains(name))
}

/// What tells of a repository that appears, goes or is replaced: the entry of each level above it that isn't there or may be renamed.
fn around(path: &Path) -> Wanted {
    let mut wanted = Wanted::new();
    let mut below = path;
    for directory in path.ancestors().skip(1) {
        if let Some(name) = below.file_name() {
            wanted.insert(directory.to_owned(), Interest::Names(vec![name.to_owned()]));
        }
        // The nearest directory that exists tells when the next one is made.
        if directory.is_dir() {
            break;
        }
        wanted.remove(directory);
        below = directory;
    }
    for directory in [path.to_owned(), path.join(".git")] {
        let names = GIT_FILES.iter().chain([&".git"]).map(OsString::from).collect();
        if directory.is_dir() {
            wanted.insert(directory, Interest::Names(names));
        }
    }
    wanted
}
