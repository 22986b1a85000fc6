//! Drafts: reverts and merges as git makes them, brought to a branch or not at all.

mod history;
mod promote;
mod publish;
mod rollback;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::support::*;
use crate::model::CommitId;
use crate::source::{Draft, DraftCommit, RepositoryUrl, SourceSettings, Store, WriteError};

fn who(repository: &Path) {
    git(repository, &["config", "user.name", "Grace"]);
    git(repository, &["config", "user.email", "grace@example.com"]);
}

/// A bare repository with `dev` at one commit, and a work tree of it.
fn repository(scratch: &Scratch) -> (PathBuf, PathBuf) {
    let (bare, work) = scratch.bare("repo.git");
    who(&bare);
    (bare, work)
}

fn push(work: &Path, file: &str, text: &str) -> CommitId {
    let id = commit(work, file, text);
    git(work, &["push", "-q", "origin", "HEAD"]);
    id
}

fn local(path: &Path) -> SourceSettings {
    SourceSettings::new(RepositoryUrl::Local(path.to_owned()))
}

/// A draft on the branch's head that goes back to `target`.
fn roll_back(store: &Store, branch: &str, target: CommitId, squash: bool) -> Result<Draft, WriteError> {
    let mut draft = Draft::begin(store, branch, store.heads().unwrap().branches.get(branch).copied())?;
    draft.roll_back(branch, target, squash)?;
    Ok(draft)
}

fn reverted(commit: &DraftCommit) -> Vec<CommitId> {
    commit.reverts.iter().map(|reverted| reverted.id).collect()
}

fn tree(repository: &Path, commit: CommitId) -> String {
    git(repository, &["rev-parse", &format!("{commit}^{{tree}}")])
}

/// Every file of a directory, with its content.
fn files(directory: &Path) -> BTreeSet<(PathBuf, Vec<u8>)> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => drop(found.insert((path.clone(), std::fs::read(&path).unwrap()))),
        }
    }
    found
}
