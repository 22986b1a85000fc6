//! What a kustomization reads, found from git objects alone: kustomize itself would fetch a URL in `resources` or `files` without
//! being asked twice.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::error::KustomizeError;
use super::references::{Reference, Want, forbidden, plugin_references, references};
use super::spelling::{Unclear, check_breaks};
use crate::model::path::{join, resolve};
use crate::model::{CommitId, Reads};
use crate::render::CHART;
use crate::render::error::RenderError;
use crate::render::yaml::{self, Budget, Notation};
use crate::source::{Entry, EntryKind, Snapshot};

/// The names a kustomization may have.
pub(in crate::render) const FILES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
/// More than this is no kustomization anybody wrote.
const LIMIT: usize = 10_000;

/// All files that a kustomization reads.
#[derive(Default)]
pub(super) struct Closure {
    /// The files to write out.
    pub files: BTreeMap<String, Entry>,
    /// What the kustomizations among them say. kustomize is given this: its own reader lets `<<` replace a key that stands before it, takes
    /// U+2028 for a line break, and so could see others.
    pub kustomizations: BTreeMap<String, Value>,
    /// What was looked at, with misses.
    looked_at: BTreeMap<String, Option<CommitId>>,
    directories: BTreeSet<String>,
    budget: Budget,
}

impl Closure {
    /// The closure of the kustomization in a directory.
    pub(super) fn of(snapshot: &Snapshot, directory: &str) -> Result<Self, RenderError> {
        let mut closure = Self::default();
        // With it, the directory is a chart.
        closure.look(snapshot, &join(directory, CHART))?;
        let mut waiting = vec![directory.to_owned()];
        while let Some(directory) = waiting.pop() {
            if closure.directories.insert(directory.clone()) {
                closure.directory(snapshot, &directory, &mut waiting)?;
            }
        }
        Ok(closure)
    }

    /// The cache key: a file that was missing and comes into being counts, too.
    pub(super) fn reads(&self) -> Reads {
        Reads(self.looked_at.iter().map(|(path, id)| (path.as_str().into(), *id)).collect())
    }

    /// The kustomization's own file.
    pub(super) fn main(&self, directory: &str) -> String {
        let own = FILES.iter().map(|name| join(directory, name)).find(|file| self.files.contains_key(file));
        own.unwrap_or_else(|| directory.to_owned())
    }

    fn look(&mut self, snapshot: &Snapshot, path: &str) -> Result<Option<Entry>, RenderError> {
        let entry = snapshot.entry(path)?;
        // A directory's own id would change with files that are not read.
        if entry.is_none_or(|entry| entry.kind != EntryKind::Tree) {
            self.looked_at.insert(path.to_owned(), entry.map(|entry| entry.id));
        }
        Ok(entry)
    }

    fn directory(
        &mut self,
        snapshot: &Snapshot,
        directory: &str,
        waiting: &mut Vec<String>,
    ) -> Result<(), RenderError> {
        let mut own = Vec::new();
        for name in FILES {
            let file = join(directory, name);
            own.extend(self.look(snapshot, &file)?.map(|entry| (file, entry)));
        }
        let found = own.len();
        let (Some((file, entry)), 1) = (own.pop(), found) else {
            return Err(KustomizeError::NotOne { directory: shown(directory), found }.into());
        };
        let mut content = self.documents(snapshot, &file, &entry)?;
        let (Some(content @ Value::Object(_)), true) = (content.pop(), content.is_empty()) else {
            return Err(KustomizeError::NotAMapping(file).into());
        };
        if let Some(field) = forbidden(&content) {
            return Err(KustomizeError::Forbidden { file, field: field.to_owned() }.into());
        }
        for reference in references(&content).map_err(unclear(&file))? {
            self.follow(snapshot, directory, &file, &reference, waiting)?;
        }
        self.kustomizations.insert(file, content);
        Ok(())
    }

    fn follow(
        &mut self,
        snapshot: &Snapshot,
        directory: &str,
        file: &str,
        reference: &Reference,
        waiting: &mut Vec<String>,
    ) -> Result<(), RenderError> {
        let Reference { field, entry, want } = reference;
        let (file, field, entry) = (file.to_owned(), field.clone(), entry.clone());
        if looks_remote(&entry) {
            return Err(KustomizeError::Remote { file, field, entry }.into());
        }
        let Some(path) = resolve(directory, &entry) else {
            return Err(KustomizeError::Outside { file, field, entry }.into());
        };
        if self.files.len() + self.directories.len() + waiting.len() > LIMIT {
            return Err(KustomizeError::TooMany { file, limit: LIMIT }.into());
        }
        let Some(found) = self.look(snapshot, &path)? else {
            return Err(KustomizeError::Missing { file, field, entry }.into());
        };
        match (found.kind, want) {
            (EntryKind::Tree, Want::File) => Err(KustomizeError::Missing { file, field, entry }.into()),
            (EntryKind::Tree, Want::Plugin) => Err(KustomizeError::Directory { file, field, entry }.into()),
            (EntryKind::Tree, Want::FileOrDirectory) => {
                waiting.push(path);
                Ok(())
            }
            (EntryKind::File | EntryKind::Executable, Want::Plugin) => {
                check_breaks(&String::from_utf8_lossy(&snapshot.blob(&path, &found)?)).map_err(unclear(&path))?;
                let documents = self.documents(snapshot, &path, &found)?;
                for document in &documents {
                    for reference in plugin_references(document).map_err(unclear(&path))? {
                        self.follow(snapshot, directory, &path, &reference, waiting)?;
                    }
                }
                Ok(())
            }
            // Its text is not what is given to kustomize.
            (EntryKind::File | EntryKind::Executable, Want::File) if is_kustomization(&path) => {
                Err(KustomizeError::Itself { file, field, entry }.into())
            }
            (EntryKind::File | EntryKind::Executable, _) => {
                self.files.insert(path, found);
                Ok(())
            }
            (EntryKind::Symlink, _) => Err(RenderError::NotAFile { file: path, what: "symbolic link" }),
            (EntryKind::Submodule, _) => Err(RenderError::NotAFile { file: path, what: "submodule" }),
        }
    }

    /// The documents of a file that is part of the closure.
    fn documents(&mut self, snapshot: &Snapshot, file: &str, entry: &Entry) -> Result<Vec<Value>, RenderError> {
        if !matches!(entry.kind, EntryKind::File | EntryKind::Executable) {
            return Err(RenderError::NotAFile { file: file.to_owned(), what: "link, directory or submodule" });
        }
        self.files.insert(file.to_owned(), *entry);
        let bytes = snapshot.blob(file, entry)?;
        let documents = yaml::read(&bytes, Notation::Yaml, &mut self.budget).map_err(RenderError::yaml(file))?;
        Ok(documents.into_iter().map(|document| document.value).collect())
    }
}

/// Whether kustomize might take an entry for something to fetch. Its own rules are looser than a path's (`git@`, `gh:`, a bare
/// `github.com/`, `host:path`), and it tries them before it looks at the disk, so whatever comes near them is refused.
pub(super) fn looks_remote(entry: &str) -> bool {
    let lower = entry.to_lowercase();
    let user = lower.split_once('@').is_some_and(|(user, _)| {
        !user.is_empty() && user.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    });
    user || lower.contains(':')
        || lower.contains('?')
        || lower.starts_with("github.com")
        || lower.contains("_git/")
        || lower.contains(".git/")
        || lower.ends_with(".git")
}

fn is_kustomization(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| FILES.contains(&name))
}

fn unclear(file: &str) -> impl Fn(Unclear) -> RenderError {
    |unclear| {
        let file = file.to_owned();
        match unclear {
            Unclear::Misspelt { key, meant } => KustomizeError::Spelling { file, key, meant },
            Unclear::Inline(source) => KustomizeError::Inline { file, source },
            Unclear::LineBreak => KustomizeError::LineBreak(file),
        }
        .into()
    }
}

fn shown(directory: &str) -> String {
    if directory.is_empty() { ".".to_owned() } else { directory.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kustomize_would_fetch_is_told_from_a_path() {
        for remote in [
            "https://example.com/a.yaml",
            "http://x",
            "git@github.com:a/b",
            "github.com/a/b",
            "GitHub.com/a/b",
            "git::https://x/y",
            "ssh://x",
            "file:///etc/passwd",
            "org-1@host/path",
            "host:path",
            "a/b?ref=main",
            "dev.azure.com/x/_git/y",
            "x/y.git",
            "x/y.git/z",
        ] {
            assert!(looks_remote(remote), "{remote}");
        }
        for local in
            ["a.yaml", "../base", "./a/b.yaml", "foo.d/x", "a@2x/b.c@d.yaml".trim_start_matches("a"), "base-1.2"]
        {
            assert!(!looks_remote(local), "{local}");
        }
    }

    #[test]
    fn paths_stay_in_the_repository() {
        assert_eq!(resolve("m/dev", "../base"), Some("m/base".to_owned()));
        assert_eq!(resolve("", "./a//b"), Some("a/b".to_owned()));
        assert_eq!(resolve("m", "."), Some("m".to_owned()));
        assert_eq!(resolve("m", ".."), Some(String::new()));
        for outside in ["../../x", "/etc/passwd", "a\\b", "../m/../../x"] {
            assert_eq!(resolve("m", outside), None, "{outside}");
        }
    }
}
