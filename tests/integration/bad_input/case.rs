//! What a case is: one broken change to a good environment, and what plumb must say about it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::{Change, ScratchRepository};

/// Stands for the environment's own name in the files and expectations of a case; its namespace and branch have the same.
pub const ENV: &str = "@ENV@";
/// Stands for the name of an environment that nobody breaks.
pub const BYSTANDER: &str = "@BYSTANDER@";

/// What an environment holds before it is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// A directory of manifests.
    Plain,
    /// A Helm chart, with a values file beside it.
    Chart,
    /// A kustomization.
    Kustomization,
}

/// How a file of a case comes to be.
#[derive(Clone)]
pub enum Content {
    /// Text, with [`ENV`] and [`BYSTANDER`] in it.
    Text(String),
    /// Anything else.
    Is(Change),
    /// What has to be made in the repository first.
    Made(fn(&ScratchRepository) -> Change),
}

/// One broken change.
#[derive(Clone)]
pub struct Case {
    /// Its name, which is part of its environment's.
    pub name: &'static str,
    /// What the environment is made of.
    pub base: Base,
    /// What the broken commit changes on the environment's branch.
    pub files: Vec<(PathBuf, Content)>,
    /// What the broken commit changes in the definition, on the configuration branch: this text to that one.
    pub definition: Option<(&'static str, String)>,
    /// Further lines of the good definition's spec.
    pub spec: &'static str,
    /// Objects that somebody else made in the environment's namespace.
    pub stands: Vec<Value>,
    /// The stage that stops it.
    pub stage: &'static str,
    /// What status, log and Event say: where it is wrong, what is wrong, what to do.
    pub says: &'static [&'static str],
}

/// A case whose environment is a directory of manifests.
pub fn plain(name: &'static str) -> Case {
    of(Base::Plain, name)
}

/// A case whose environment is made of `base`.
pub fn of(base: Base, name: &'static str) -> Case {
    let (files, stands) = (Vec::new(), Vec::new());
    Case { name, base, files, definition: None, spec: "", stands, stage: "", says: &[] }
}

impl Case {
    /// The commit writes this text.
    pub fn write(mut self, path: &str, text: impl Into<String>) -> Self {
        self.files.push((path.into(), Content::Text(text.into())));
        self
    }

    /// The commit makes this change, at a path that need not be UTF-8.
    pub fn change(mut self, path: impl AsRef<[u8]>, change: Change) -> Self {
        let path = PathBuf::from(OsStr::from_bytes(path.as_ref()));
        self.files.push((path, Content::Is(change)));
        self
    }

    /// The commit changes what is made in the repository first.
    pub fn made(mut self, path: &str, make: fn(&ScratchRepository) -> Change) -> Self {
        self.files.push((path.into(), Content::Made(make)));
        self
    }

    /// The commit removes this.
    pub fn remove(self, path: &str) -> Self {
        self.change(path, Change::Remove)
    }

    /// Not the branch is broken but the definition.
    pub fn definition(mut self, from: &'static str, to: impl Into<String>) -> Self {
        self.definition = Some((from, to.into()));
        self
    }

    /// The good definition says more than the least.
    pub fn with_spec(mut self, lines: &'static str) -> Self {
        self.spec = lines;
        self
    }

    /// Somebody else's object stands in the namespace.
    pub fn stands(mut self, object: Value) -> Self {
        self.stands.push(object);
        self
    }

    /// What comes of it.
    pub fn fails(mut self, stage: &'static str, says: &'static [&'static str]) -> Self {
        (self.stage, self.says) = (stage, says);
        self
    }
}
