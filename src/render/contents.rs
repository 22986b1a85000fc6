//! Which commits ask an environment for the same objects.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use super::request::{Request, Tools};
use super::{Cache, reads, render};
use crate::model::{CommitId, Digest, EnvironmentSpec, Kinds, Reads, applyset};
use crate::source::Store;

/// Compares what commits ask for: by what a render would read, and only where that differs by the renders themselves.
///
/// For people, who are told which commits changed something: it renders with the kinds of a current Kubernetes and asks no cluster.
pub struct Contents<'a> {
    store: &'a Store,
    environment: &'a str,
    spec: &'a EnvironmentSpec,
    tools: &'a Tools,
    kinds: Kinds,
    reads: HashMap<CommitId, Option<Reads>>,
    digests: HashMap<CommitId, Option<Digest>>,
    cache: Cache,
}

impl<'a> Contents<'a> {
    /// Compares nothing yet.
    pub fn new(store: &'a Store, environment: &'a str, spec: &'a EnvironmentSpec, tools: &'a Tools) -> Self {
        let (kinds, reads, digests, cache) = (Kinds::builtin(), HashMap::new(), HashMap::new(), Cache::default());
        Self { store, environment, spec, tools, kinds, reads, digests, cache }
    }

    /// Whether both ask for the same. A commit that can't be rendered is like none but those that read the same. Blocking, as a render is.
    pub fn same(&mut self, one: CommitId, other: CommitId) -> bool {
        if one == other {
            return true;
        }
        match (self.reads(one), self.reads(other)) {
            (Some(one), Some(other)) if one == other => return true,
            (None, _) | (_, None) => return false,
            _ => {}
        }
        matches!((self.digest(one), self.digest(other)), (Some(one), Some(other)) if one == other)
    }

    /// Whether it makes a difference which of them is deployed. Of two that can't be rendered neither is.
    pub fn differ(&mut self, one: CommitId, other: CommitId) -> bool {
        !self.same(one, other) && (self.digest(one).is_some() || self.digest(other).is_some())
    }

    fn reads(&mut self, commit: CommitId) -> Option<Reads> {
        let known = self.reads.entry(commit);
        known.or_insert_with(|| reads(&self.store.at(commit).ok()?, self.spec).ok()).clone()
    }

    fn digest(&mut self, commit: CommitId) -> Option<Digest> {
        if let Some(known) = self.digests.get(&commit) {
            return *known;
        }
        let digest = self.render(commit);
        self.digests.insert(commit, digest);
        digest
    }

    fn render(&mut self, commit: CommitId) -> Option<Digest> {
        let snapshot = self.store.at(commit).ok()?;
        let request = Request {
            snapshot: &snapshot,
            environment: self.environment,
            spec: self.spec,
            part_of: &applyset::id(self.environment),
            kinds: &self.kinds,
            kinds_generation: 0,
            tools: self.tools,
            cancel: &AtomicBool::new(false),
        };
        let rendered = render(&request, &mut self.cache);
        rendered
            .inspect_err(|error| tracing::debug!(commit = %commit.short(), %error, "not rendered"))
            .ok()
            .map(|rendered| rendered.into_desired().digest())
    }
}
