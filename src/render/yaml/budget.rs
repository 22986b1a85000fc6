//! How much one render may read: what turns a YAML bomb, a huge file or 100,000 documents into an error of bounded cost.

use super::error::{Position, Problem, YamlError};

/// The bytes of one file.
pub const FILE_BYTES: usize = 16 << 20;
/// Lists and mappings inside each other.
pub const DEPTH: usize = 100;
const BYTES: usize = 64 << 20;
const DOCUMENTS: usize = 20_000;
const DOCUMENT_NODES: usize = 1_000_000;
const COPIED_NODES: usize = 200_000;
const COPIED_BYTES: usize = 8 << 20;

/// What is left of the limits of one render.
#[derive(Debug, Clone)]
pub struct Budget {
    bytes: usize,
    documents: usize,
    copied_nodes: usize,
    copied_bytes: usize,
    nodes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            bytes: BYTES,
            documents: DOCUMENTS,
            copied_nodes: COPIED_NODES,
            copied_bytes: COPIED_BYTES,
            nodes: DOCUMENT_NODES,
        }
    }
}

impl Budget {
    /// Takes a file's bytes.
    pub fn file(&mut self, bytes: usize) -> Result<(), YamlError> {
        let hint = "split it, or keep large data out of manifests";
        if bytes > FILE_BYTES {
            return Err(limit("the size of this file in bytes", FILE_BYTES, hint).at(Position::START));
        }
        let hint = "point the environment's path at a smaller directory";
        take(&mut self.bytes, bytes, || limit("the size of all files of this render in bytes", BYTES, hint))
            .map_err(|problem| problem.at(Position::START))
    }

    /// Takes one document, and gives it its nodes.
    pub(super) fn document(&mut self) -> Result<(), Problem> {
        self.nodes = DOCUMENT_NODES;
        let hint = "split the environment in several";
        take(&mut self.documents, 1, || limit("the number of documents of this render", DOCUMENTS, hint))
    }

    /// Takes one object out of the number of documents: for the items of a `List`.
    pub fn object(&mut self) -> Result<(), YamlError> {
        let nodes = self.nodes;
        let taken = self.document().map_err(|problem| problem.at(Position::START));
        self.nodes = nodes;
        taken
    }

    /// Takes one scalar, list or mapping of the current document.
    pub(super) fn node(&mut self) -> Result<(), Problem> {
        take(&mut self.nodes, 1, || limit("the number of values in one document", DOCUMENT_NODES, "split it"))
    }

    /// Takes what an anchor or alias copies.
    pub(super) fn copy(&mut self, nodes: usize, bytes: usize) -> Result<(), Problem> {
        let hint = "write the values out instead of multiplying them with aliases";
        take(&mut self.copied_nodes, nodes, || limit("the number of values copied by aliases", COPIED_NODES, hint))?;
        take(&mut self.copied_bytes, bytes, || limit("the size of what aliases copy in bytes", COPIED_BYTES, hint))
    }
}

fn limit(what: &'static str, limit: usize, hint: &'static str) -> Problem {
    Problem::Limit { what, limit, hint }
}

fn take(left: &mut usize, amount: usize, exceeded: impl FnOnce() -> Problem) -> Result<(), Problem> {
    *left = left.checked_sub(amount).ok_or_else(exceeded)?;
    Ok(())
}
