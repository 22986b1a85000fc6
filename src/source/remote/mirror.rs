//! The bare mirror of a remote: made whole or not at all, and moved from one complete set of refs to the next.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::RemoteError;
use super::connection::Connection;
use crate::source::store::find_commit;
use crate::source::{Heads, RemoteUrl, SourceError, SourceSettings, Store, Trust};
use crate::telemetry::Pulse;

/// So many failed fetches in a row from a server that lists its branches, and the fault is taken to be in the mirror.
const FAILURES_BEFORE_ANEW: u32 = 2;
/// The mirror's HEAD if that of the remote names no branch: it is detached, or has no commit yet. git makes every HEAD a ref.
const NO_BRANCH: &str = "refs/no-branch";

/// One remote and its mirror.
pub(super) struct Mirror {
    url: RemoteUrl,
    settings: SourceSettings,
    directory: PathBuf,
    checked: bool,
    failed_fetches: u32,
    pulse: Pulse,
}

impl Mirror {
    pub fn new(url: RemoteUrl, settings: SourceSettings, pulse: Pulse) -> Self {
        let hash = Sha256::digest(url.as_str().as_bytes());
        let name: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let directory = settings.cache.join(format!("{name}.git"));
        Self { url, settings, directory, checked: false, failed_fetches: 0, pulse }
    }

    /// What an earlier run left, if it is whole: the heads that stand until the remote is reached.
    pub fn known(&self) -> Option<(std::sync::Arc<Heads>, Store)> {
        let store = self.open()?;
        let heads = store.heads().ok()?;
        (!heads.branches.is_empty()).then(|| (std::sync::Arc::new(heads), store))
    }

    /// Brings the mirror to where the remote is, and says whether anything was fetched.
    ///
    /// The branches are listed first. Nothing else is asked if they are as before, and nothing is pruned unless the list came whole.
    pub async fn sync(&mut self) -> Result<(Heads, Store, bool), RemoteError> {
        prepare_directory(&self.settings.cache)?;
        let connection = Connection::prepare(&self.url, &self.settings).await?;
        let advertised = self.ask(&connection).await?;
        let _lock = self.lock().await?;
        let current = self.whole().await;
        let before = current.as_ref().and_then(|store| store.heads().ok());
        if let (Some(store), Some(before)) = (&current, &before) {
            if advertised.branches.is_empty() && !before.branches.is_empty() {
                return Err(SourceError::EveryBranchGone(PathBuf::from(self.url.as_str())).into());
            }
            if *before == advertised {
                return Ok((advertised, store.clone(), false));
            }
        }
        let fetched = match current {
            Some(store) if self.failed_fetches < FAILURES_BEFORE_ANEW => {
                remove_stale_locks(&self.directory)?;
                make_way(&store, &before.unwrap_or_default(), &advertised)?;
                self.fetch(&connection, &self.directory).await
            }
            _ => self.make_anew(&connection).await,
        };
        self.failed_fetches = if fetched.is_ok() { 0 } else { self.failed_fetches.saturating_add(1) };
        fetched?;
        let store = Store::open(&self.directory, &Trust::default())?;
        let head = match &advertised.default_branch {
            Some(branch) => format!("refs/heads/{branch}"),
            None => NO_BRANCH.to_owned(),
        };
        let set = SourceError::git(format!("set the mirror's HEAD to {head:?}"));
        store.repository()?.reference_symbolic("HEAD", &head, true, "as the remote").map_err(set)?;
        let heads = store.heads()?;
        Ok((heads, store, true))
    }

    /// Packs what many fetches left, when git thinks it is time. Best effort.
    pub async fn tidy(&self) {
        let Ok(connection) = Connection::prepare(&self.url, &self.settings).await else { return };
        let Ok(_lock) = self.lock().await else { return };
        self.pulse.step("packing the mirror");
        let arguments = ["gc", "--auto", "--quiet"];
        let done = connection.git(Some(&self.directory), arguments, "packing the mirror", self.settings.fetch_timeout);
        if let Err(error) = done.await {
            tracing::debug!(error = %error, "the mirror was not packed");
        }
    }

    async fn ask(&self, connection: &Connection) -> Result<Heads, RemoteError> {
        self.pulse.step("asking the remote for its branches");
        let arguments = ["ls-remote", "--symref", "--quiet", "--", self.url.as_str(), "HEAD", "refs/heads/*"];
        let limit = self.settings.ask_timeout;
        let listed = connection.git(None, arguments, "asking the remote for its branches", limit).await?;
        parse_listing(&listed)
    }

    async fn fetch(&self, connection: &Connection, directory: &Path) -> Result<(), RemoteError> {
        self.pulse.step("fetching");
        let options = ["fetch", "--quiet", "--atomic", "--prune", "--no-tags", "--no-write-fetch-head", "--no-auto-gc"];
        let source = ["--no-recurse-submodules", "--", self.url.as_str(), "+refs/heads/*:refs/heads/*"];
        let arguments = options.into_iter().chain(source);
        connection.git(Some(directory), arguments, "fetching", self.settings.fetch_timeout).await.map(drop)
    }

    /// Fetches all of it into a new directory, which then takes the place of the old one.
    async fn make_anew(&self, connection: &Connection) -> Result<(), RemoteError> {
        self.remove_leftovers()?;
        let new = self.directory.with_extension("new");
        let arguments = ["init", "--quiet", "--bare", "--template=", "--object-format=sha1"];
        connection.git(Some(&new), arguments, "making the mirror", self.settings.ask_timeout).await?;
        self.fetch(connection, &new).await?;
        let old = self.directory.with_extension("old");
        if self.directory.exists() {
            tracing::warn!(mirror = %self.directory.display(), "the mirror was not whole and is made anew");
            std::fs::rename(&self.directory, &old).map_err(RemoteError::mirror(&old))?;
        }
        std::fs::rename(&new, &self.directory).map_err(RemoteError::mirror(&self.directory))?;
        self.remove_leftovers()
    }

    fn remove_leftovers(&self) -> Result<(), RemoteError> {
        for extension in ["new", "old"] {
            let path = self.directory.with_extension(extension);
            match std::fs::remove_dir_all(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(RemoteError::Mirror { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn open(&self) -> Option<Store> {
        Store::open(&self.directory, &Trust::default()).ok()
    }

    /// The mirror, if it can be used. The first time, everything at its heads is looked for: a machine may have died while it was written.
    async fn whole(&mut self) -> Option<Store> {
        let store = self.open()?;
        if !self.checked {
            self.pulse.step("checking the mirror");
            let looked_at = store.clone();
            tokio::task::spawn_blocking(move || complete(&looked_at)).await.ok()?.ok()?;
            self.checked = true;
        }
        Some(store)
    }

    /// Keeps other processes (a `plumb plan` beside the daemon) out of the mirror until dropped.
    async fn lock(&self) -> Result<File, RemoteError> {
        self.pulse.step("waiting for the mirror's lock");
        let path = self.directory.with_extension("lock");
        let file = File::create(&path).map_err(RemoteError::mirror(&path))?;
        let start = Instant::now();
        while file.try_lock().is_err() {
            if start.elapsed() > self.settings.fetch_timeout {
                return Err(RemoteError::Busy(path));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(file)
    }
}

/// Deletes the branches that are gone from the remote and whose names its new ones need: where `team` was, there is `team/dev`, or the reverse. git
/// would refuse to do both in the one step that moves all refs.
fn make_way(store: &Store, before: &Heads, advertised: &Heads) -> Result<(), SourceError> {
    let repository = store.repository()?;
    for name in before.branches.keys().filter(|name| is_in_the_way(name, advertised)) {
        let delete = || SourceError::git(format!("delete the branch {name:?} of the mirror"));
        let mut gone = repository.find_reference(&format!("refs/heads/{name}")).map_err(delete())?;
        gone.delete().map_err(delete())?;
    }
    Ok(())
}

fn is_in_the_way(name: &str, advertised: &Heads) -> bool {
    let branches = &advertised.branches;
    let below = format!("{name}/");
    let is_directory = branches.range(below.clone()..).next().is_some_and(|(branch, _)| branch.starts_with(&below));
    is_directory || name.match_indices('/').any(|(end, _)| branches.contains_key(name.get(..end).unwrap_or_default()))
}

/// Makes the directory for mirrors, for this user alone.
fn prepare_directory(cache: &Path) -> Result<(), RemoteError> {
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(cache).map_err(RemoteError::mirror(cache))?;
    // Whoever owns it could put a mirror of their own there.
    Ok(Trust::default().check(cache)?)
}

/// Looks for every tree and file at every head.
fn complete(store: &Store) -> Result<(), SourceError> {
    let repository = store.repository()?;
    let odb = repository.odb().map_err(SourceError::git("open the object database"))?;
    let mut seen = BTreeSet::new();
    let mut trees = Vec::new();
    for head in store.heads()?.branches.into_values() {
        trees.push(find_commit(&repository, head)?.tree_id());
    }
    while let Some(id) = trees.pop() {
        if !seen.insert(id) {
            continue;
        }
        let tree = repository.find_tree(id).map_err(SourceError::git(format!("read the tree {id}")))?;
        for entry in &tree {
            match entry.kind() {
                Some(git2::ObjectType::Tree) => trees.push(entry.id()),
                Some(git2::ObjectType::Blob) => {
                    odb.read_header(entry.id()).map_err(SourceError::git(format!("read the blob {}", entry.id())))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Removes what a killed git left. Only for the holder of the mirror's lock: nobody else can be using these files.
fn remove_stale_locks(directory: &Path) -> Result<(), RemoteError> {
    let mut directories = vec![directory.join("refs")];
    let mut stale: Vec<PathBuf> =
        ["HEAD.lock", "packed-refs.lock", "config.lock", "gc.pid.lock"].map(|name| directory.join(name)).into();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).map_err(RemoteError::mirror(&directory))? {
            let path = entry.map_err(RemoteError::mirror(&directory))?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "lock") {
                stale.push(path);
            }
        }
    }
    for path in stale {
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(RemoteError::Mirror { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads `git ls-remote --symref`: `ref: <name>\tHEAD` and `<id>\t<name>` lines.
fn parse_listing(listed: &[u8]) -> Result<Heads, RemoteError> {
    let mut heads = Heads::default();
    for line in listed.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let bad = || RemoteError::Advertisement(String::from_utf8_lossy(line).into_owned());
        let tab = line.iter().position(|byte| *byte == b'\t').ok_or_else(bad)?;
        let (value, name) = line.split_at(tab);
        let (value, name) = (std::str::from_utf8(value).map_err(|_| bad())?, name.get(1..).unwrap_or_default());
        if let Some(target) = value.strip_prefix("ref: ") {
            if name == b"HEAD" {
                heads.default_branch = target.strip_prefix("refs/heads/").map(str::to_owned);
            }
        } else if let Some(branch) = name.strip_prefix(b"refs/heads/") {
            match std::str::from_utf8(branch) {
                Ok(branch) => drop(heads.branches.insert(branch.to_owned(), value.parse().map_err(|_| bad())?)),
                Err(_) => heads.unreadable.push(String::from_utf8_lossy(branch).into_owned()),
            }
        }
    }
    heads.unreadable.sort();
    Ok(heads)
}
