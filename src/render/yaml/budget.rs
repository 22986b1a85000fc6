//! How much one render may read: what turns a YAML bomb, a huge file or 100,000 documents into an error of bounded cost.

use super::error::{Position, Problem, YamlError};

/// The bytes of one file.
pub const FILE_BYTES: usize = 16 << 20;
/// Lists and mappings inside each other.
pub(super) const DEPTH: usize = 100;
/// A mapping's weight; a scalar's and a list's is 1. The smallest mapping takes 630 bytes: a B-tree's leaf has room for eleven entries.
pub(super) const MAPPING: usize = 8;

/// The limits of one render.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The bytes of all files.
    pub bytes: usize,
    /// Documents, and the items of `List`s.
    pub documents: usize,
    /// The values of one file, by weight. A file is held whole until its objects are finished: some 80 bytes a unit.
    pub weight: usize,
    /// Values that aliases copy.
    pub copied_nodes: usize,
    /// Bytes that aliases copy.
    pub copied_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 20, documents: 20_000, weight: 1_000_000, copied_nodes: 200_000, copied_bytes: 8 << 20 }
    }
}

/// What is left of the limits of one render.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    limits: Limits,
    left: Limits,
}

impl Budget {
    #[cfg(test)]
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, left: limits }
    }

    /// Takes a file's bytes, and gives it its values.
    pub fn file(&mut self, bytes: usize) -> Result<(), YamlError> {
        self.left.weight = self.limits.weight;
        let hint = "split it, or keep large data out of manifests";
        if bytes > FILE_BYTES {
            return Err(exceeded("the size of this file in bytes", FILE_BYTES, hint).at(Position::START));
        }
        let (what, hint) = ("the size of all files of this render in bytes", "point spec.path at a smaller directory");
        take(&mut self.left.bytes, bytes).ok_or_else(|| exceeded(what, self.limits.bytes, hint).at(Position::START))
    }

    /// Takes one document.
    pub(super) fn document(&mut self) -> Result<(), Problem> {
        let (what, hint) = ("the number of documents of this render", "split the environment in several");
        take(&mut self.left.documents, 1).ok_or_else(|| exceeded(what, self.limits.documents, hint))
    }

    /// Takes an object that has no document of its own: an item of a `List`.
    pub fn object(&mut self) -> Result<(), YamlError> {
        self.document().map_err(|problem| problem.at(Position::START))
    }

    /// Takes one value of the current file.
    pub(super) fn value(&mut self, weight: usize) -> Result<(), Problem> {
        let what = "the number of values in one file";
        take(&mut self.left.weight, weight).ok_or_else(|| exceeded(what, self.limits.weight, "split it"))
    }

    /// Takes what an anchor or alias copies.
    pub(super) fn copy(&mut self, nodes: usize, bytes: usize) -> Result<(), Problem> {
        let hint = "write the values out instead of multiplying them with aliases";
        let what = "the number of values copied by aliases";
        take(&mut self.left.copied_nodes, nodes).ok_or_else(|| exceeded(what, self.limits.copied_nodes, hint))?;
        let what = "the size of what aliases copy in bytes";
        take(&mut self.left.copied_bytes, bytes).ok_or_else(|| exceeded(what, self.limits.copied_bytes, hint))
    }
}

fn exceeded(what: &'static str, limit: usize, hint: &'static str) -> Problem {
    Problem::Limit { what, limit, hint }
}

fn take(left: &mut usize, amount: usize) -> Option<()> {
    *left = left.checked_sub(amount)?;
    Some(())
}
