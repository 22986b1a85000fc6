//! A scratch repository and ways to wait for what a watch says.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::model::CommitId;
use crate::source::{RepositoryUrl, SourceSettings, SourceState, Store, Trust};

/// Generous: only a watch that has died waits this long.
pub const LIVE: Duration = Duration::from_secs(10);

/// Where servers listen.
pub const LOOPBACK: &str = "127.0.0.1";

/// A directory with repositories, removed at the end.
pub struct Scratch {
    pub root: tempfile::TempDir,
}

impl Scratch {
    pub fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A work tree `name` with branch `dev` and one commit.
    pub fn work_tree(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        git(self.root.path(), &["init", "-q", "-b", "dev", name]);
        commit(&path, "a.txt", "one");
        path
    }

    /// A bare repository `name` whose branch `dev` has one commit, and a work tree with it as `origin`.
    pub fn bare(&self, name: &str) -> (PathBuf, PathBuf) {
        let bare = self.path(name);
        git(self.root.path(), &["init", "-q", "--bare", "-b", "dev", name]);
        let work = self.work_tree(&format!("work-{name}"));
        git(&work, &["remote", "add", "origin", bare.to_str().unwrap()]);
        git(&work, &["push", "-q", "origin", "dev"]);
        (bare, work)
    }
}

/// The `git` command with nobody's configuration.
pub fn git_command(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env_remove("GIT_DIR")
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "gc.auto=0"]);
    command
}

/// Runs git, which must succeed, and returns what it prints.
pub fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = git_command(directory).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Commits one file and returns the commit.
pub fn commit(work: &Path, file: &str, text: &str) -> CommitId {
    let path = work.join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    git(work, &["add", "-A"]);
    git(work, &["commit", "-q", "--allow-empty", "-m", &format!("{file}: {text}")]);
    head(work, "HEAD")
}

/// A commit of a dozen git objects and 10^10 files: `app` has a Dockerfile and ten names for a tree that has ten names for another, and so on.
pub fn endless(repository: &git2::Repository) -> CommitId {
    let mut below = (repository.blob(b"x").unwrap(), 0o100_644);
    for _ in 0..10 {
        let mut tree = repository.treebuilder(None).unwrap();
        (0..10).for_each(|name| _ = tree.insert(name.to_string(), below.0, below.1).unwrap());
        below = (tree.write().unwrap(), 0o040_000);
    }
    let mut app = repository.treebuilder(Some(&repository.find_tree(below.0).unwrap())).unwrap();
    app.insert("Dockerfile", repository.blob(b"FROM scratch\n").unwrap(), 0o100_644).unwrap();
    let mut root = repository.treebuilder(None).unwrap();
    root.insert("app", app.write().unwrap(), 0o040_000).unwrap();
    let tree = repository.find_tree(root.write().unwrap()).unwrap();
    let who = git2::Signature::new("t", "t@t", &git2::Time::new(0, 0)).unwrap();
    let commit = repository.commit(None, &who, &who, "endless", &tree, &[]).unwrap();
    commit.to_string().parse().unwrap()
}

pub fn head(repository: &Path, revision: &str) -> CommitId {
    git(repository, &["rev-parse", revision]).parse().unwrap()
}

pub fn open(path: &Path) -> Store {
    Store::open(path, &Trust::default()).unwrap()
}

/// A running watch. `settings.interval` is an hour unless a test is about the poll: what is seen came from an event.
pub struct Watched {
    pub states: watch::Receiver<Arc<SourceState>>,
    pub stop: watch::Sender<bool>,
    pub task: tokio::task::JoinHandle<()>,
}

pub fn start(path: &Path) -> Watched {
    let mut settings = SourceSettings::new(RepositoryUrl::Local(path.to_owned()));
    settings.interval = Some(Duration::from_secs(3600));
    start_with(settings)
}

pub fn start_with(settings: SourceSettings) -> Watched {
    let (stop, stopped) = watch::channel(false);
    let (states, task) = crate::source::watch(settings, &crate::telemetry::Telemetry::default(), stopped);
    Watched { states, stop, task }
}

impl Watched {
    /// Waits until the state is as asked, and returns it.
    pub async fn until(&mut self, what: &str, is_so: impl Fn(&SourceState) -> bool) -> Arc<SourceState> {
        let waited = tokio::time::timeout(LIVE, self.states.wait_for(|state| is_so(state))).await;
        let found = waited.map(|found| found.unwrap().clone());
        found.unwrap_or_else(|_| panic!("{what}: still {:?}", self.states.borrow()))
    }

    pub async fn until_at(&mut self, branch: &str, commit: CommitId) -> Arc<SourceState> {
        self.until(&format!("{branch} at {commit}"), |state| at(state, branch) == Some(commit)).await
    }

    pub async fn until_ready(&mut self) -> Arc<SourceState> {
        self.until("ready", |state| matches!(state, SourceState::Ready { .. })).await
    }

    pub async fn until_failing(&mut self) -> Arc<SourceState> {
        self.until("failing", |state| matches!(state, SourceState::Failing { .. })).await
    }

    pub fn now(&mut self) -> Arc<SourceState> {
        self.states.borrow_and_update().clone()
    }
}

/// Where a branch is while the state is ready.
pub fn at(state: &SourceState, branch: &str) -> Option<CommitId> {
    match state {
        SourceState::Ready { heads, .. } => heads.branches.get(branch).copied(),
        _ => None,
    }
}
