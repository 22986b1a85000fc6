//! A bare git repository in a temporary directory, committed to without a work tree, as a push does it.

use std::path::{Path, PathBuf};

use git2::build::TreeUpdateBuilder;
use git2::{Commit, FileMode, ObjectType, Oid, Repository, RepositoryInitOptions, Signature, Tree};

/// What a commit does to one path.
#[derive(Debug, Clone)]
pub enum Change {
    /// The file is there with this content.
    Write(Vec<u8>),
    /// A symbolic link to this target.
    Link(String),
    /// What the object database holds already, in this mode: a submodule's commit, a tree made by hand.
    Object(Oid, FileMode),
    /// There is no such file.
    Remove,
}

impl From<&str> for Change {
    fn from(content: &str) -> Self {
        Self::Write(content.as_bytes().to_vec())
    }
}

impl From<String> for Change {
    fn from(content: String) -> Self {
        Self::Write(content.into_bytes())
    }
}

impl From<Vec<u8>> for Change {
    fn from(content: Vec<u8>) -> Self {
        Self::Write(content)
    }
}

/// The repository; its HEAD is `main`. It is removed when this is dropped.
#[derive(Debug)]
pub struct ScratchRepository {
    directory: tempfile::TempDir,
}

impl ScratchRepository {
    /// An empty one.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut options = RepositoryInitOptions::new();
        options.bare(true).initial_head("main");
        Repository::init_opts(directory.path().join("repo.git"), &options).expect("a repository");
        Self { directory }
    }

    /// What to give as `--repo`.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("repo.git")
    }

    /// Commits `changes` on top of `branch`, and moves it there. A branch that does not exist is made: from `main`, if
    /// that one exists, else from nothing. Panics on a path that git refuses (`..`, `.git`); [`Self::open`] does
    /// everything else.
    pub fn commit<P, C>(&self, branch: &str, changes: impl IntoIterator<Item = (P, C)>) -> Oid
    where
        P: AsRef<Path>,
        C: Into<Change>,
    {
        let id = self.write(branch, changes);
        self.set_branch(branch, id);
        id
    }

    /// The same, but the branch does not move there yet.
    pub fn write<P, C>(&self, branch: &str, changes: impl IntoIterator<Item = (P, C)>) -> Oid
    where
        P: AsRef<Path>,
        C: Into<Change>,
    {
        let repository = self.open();
        let parent = [branch, "main"].iter().find_map(|name| find(&repository, name));
        let base = match &parent {
            Some(parent) => parent.tree().expect("its tree"),
            None => empty_tree(&repository),
        };
        write_on(&repository, parent.as_ref(), &base, changes)
    }

    /// Commits on top of `branch`, which exists, what the older commit `of` has, with `changes`: a revert and more.
    pub fn commit_again<P, C>(&self, branch: &str, of: Oid, changes: impl IntoIterator<Item = (P, C)>) -> Oid
    where
        P: AsRef<Path>,
        C: Into<Change>,
    {
        let repository = self.open();
        let parent = find(&repository, branch).expect("the branch");
        let base = repository.find_commit(of).and_then(|commit| commit.tree()).expect("its tree");
        let id = write_on(&repository, Some(&parent), &base, changes);
        self.set_branch(branch, id);
        id
    }

    /// Points `branch` at `commit`, wherever it was: a forced push.
    pub fn set_branch(&self, branch: &str, commit: Oid) {
        let name = format!("refs/heads/{branch}");
        self.open().reference(&name, commit, true, "test").expect("a reference");
    }

    /// Removes `branch`.
    pub fn delete_branch(&self, branch: &str) {
        let repository = self.open();
        let mut reference = repository.find_reference(&format!("refs/heads/{branch}")).expect("the branch");
        reference.delete().expect("the branch goes");
    }

    /// The repository itself, for what the other methods do not do.
    pub fn open(&self) -> Repository {
        Repository::open_bare(self.path()).expect("the repository")
    }
}

fn find<'r>(repository: &'r Repository, branch: &str) -> Option<Commit<'r>> {
    let id = repository.refname_to_id(&format!("refs/heads/{branch}")).ok()?;
    Some(repository.find_commit(id).expect("a commit"))
}

fn write_on<P, C>(
    repository: &Repository,
    parent: Option<&Commit<'_>>,
    base: &Tree<'_>,
    changes: impl IntoIterator<Item = (P, C)>,
) -> Oid
where
    P: AsRef<Path>,
    C: Into<Change>,
{
    let mut update = TreeUpdateBuilder::new();
    for (path, change) in changes {
        let blob = |content: &[u8]| repository.blob(content).expect("a blob");
        match change.into() {
            Change::Write(content) => update.upsert(path.as_ref(), blob(&content), FileMode::Blob),
            Change::Link(target) => update.upsert(path.as_ref(), blob(target.as_bytes()), FileMode::Link),
            Change::Object(id, mode) => update.upsert(path.as_ref(), id, mode),
            Change::Remove => update.remove(path.as_ref()),
        };
    }
    let tree = update.create_updated(repository, base).expect("a tree");
    let tree = repository.find_tree(tree).expect("the tree");
    let author = Signature::now("A Tester", "tester@example.org").expect("a signature");
    let parents: Vec<_> = parent.into_iter().collect();
    repository.commit(None, &author, &author, "test: a change", &tree, &parents).expect("a commit")
}

fn empty_tree(repository: &Repository) -> Tree<'_> {
    let id = repository.odb().and_then(|odb| odb.write(ObjectType::Tree, &[])).expect("the empty tree");
    repository.find_tree(id).expect("the empty tree")
}
