//! Which images the commits have that an environment is at, was at, or may be brought back to.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Doubt;
use crate::cluster::parent::Environments;
use crate::model::environment::HistoryEntry;
use crate::model::images::Image;
use crate::model::marks::{self, Claim, Instance};
use crate::model::{CommitId, Environment, Failure, Stage};
use crate::render::{Definitions, RenderError, declared_images};
use crate::source::context::Known;
use crate::source::{Heads, SourceError, Store};

/// How many commits of each environment's branch are looked at, from its head on. The status has as many deployments.
const LINE: usize = 10;

/// The images of commits, remembered: a commit never changes.
#[derive(Default)]
pub(super) struct Commits {
    definitions: Definitions,
    contexts: Known,
    images: HashMap<CommitId, Images>,
}

/// The images of a commit, or why it has none.
type Images = Result<Vec<String>, NoImages>;

#[derive(Clone)]
enum NoImages {
    /// It is no commit of this repository, or not any more.
    Gone,
    /// Its sources are no images.
    Bad(Failure),
}

/// A commit whose images are needed.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Needed {
    commit: CommitId,
    environment: String,
    why: Why,
}

/// What is known of a commit decides what it means that its images can't be told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// It is on the branch, or was tried: nothing was ever built from bad sources.
    Seen,
    /// It was deployed.
    Deployed,
    /// It was deployed by another plumb, perhaps from another repository.
    Elsewhere,
}

impl Commits {
    /// The images of all environments' commits. Blocking: git is read.
    pub(super) fn images(
        &mut self,
        store: &Store,
        heads: &Heads,
        config_branch: Option<&str>,
        environments: &Environments,
        me: &Instance,
    ) -> Result<Vec<String>, Doubt> {
        let branches = self.branches(store, heads, config_branch)?;
        let mut needed = BTreeSet::new();
        for (name, branch) in &branches {
            needed.extend(on_branch(store, heads, name, branch)?);
        }
        for (name, environment) in environments {
            let ours = branches.contains_key(name) && !matches!(marks::claim(environment, me), Claim::Theirs(_));
            needed.extend(in_status(name, environment, ours)?);
        }
        let mut images = Vec::new();
        for Needed { commit, environment, why } in &needed {
            match (self.of(store, *commit, environment)?, why) {
                (Ok(found), _) => images.extend(found),
                // Nobody can go back to what is not there any more.
                (Err(NoImages::Gone), Why::Seen | Why::Deployed) | (Err(NoImages::Bad(_)), Why::Seen) => {}
                (Err(NoImages::Gone), Why::Elsewhere) => {
                    return Err(Doubt::Elsewhere { environment: environment.clone(), commit: *commit });
                }
                (Err(NoImages::Bad(reason)), Why::Deployed | Why::Elsewhere) => {
                    return Err(Doubt::Commit { environment: environment.clone(), commit: *commit, reason });
                }
            }
        }
        self.images.retain(|commit, _| needed.iter().any(|needed| needed.commit == *commit));
        Ok(images)
    }

    /// The environments that are defined, and their branches.
    fn branches(
        &mut self,
        store: &Store,
        heads: &Heads,
        config_branch: Option<&str>,
    ) -> Result<BTreeMap<String, String>, Doubt> {
        let branch = config_branch.or(heads.default_branch.as_deref()).ok_or(Doubt::NoConfiguration)?;
        let commit = heads.branches.get(branch).ok_or(Doubt::NoConfiguration)?;
        let definitions = self.definitions.at(&store.at(*commit)?)?;
        let mut branches = BTreeMap::new();
        for (environment, definition) in definitions {
            match definition {
                Ok(definition) => _ = branches.insert(environment, definition.spec.branch.clone()),
                Err(error) => return Err(Doubt::Definition { environment, reason: error.failure() }),
            }
        }
        Ok(branches)
    }

    fn of(&mut self, store: &Store, commit: CommitId, environment: &str) -> Result<Images, Doubt> {
        if let Some(known) = self.images.get(&commit) {
            return Ok(known.clone());
        }
        let snapshot = store.at(commit).map_err(RenderError::from);
        let read = snapshot.and_then(|snapshot| declared_images(&snapshot, &mut self.contexts));
        let images = match read {
            Ok(images) => Ok(images.iter().map(Image::reference).collect()),
            // It may be fetched later.
            Err(RenderError::Source(SourceError::NoSuchCommit(_))) => return Ok(Err(NoImages::Gone)),
            Err(error) => {
                let reason = error.failure();
                if reason.transient {
                    return Err(Doubt::Commit { environment: environment.to_owned(), commit, reason });
                }
                Err(NoImages::Bad(reason))
            }
        };
        self.images.insert(commit, images.clone());
        Ok(images)
    }
}

/// The newest commits of an environment's branch.
fn on_branch(store: &Store, heads: &Heads, name: &str, branch: &str) -> Result<Vec<Needed>, Doubt> {
    let environment = name.to_owned();
    if heads.unreadable.iter().any(|unreadable| unreadable == branch) {
        return Err(Doubt::Branch { environment, branch: branch.to_owned() });
    }
    let Some(head) = heads.branches.get(branch).copied() else { return Ok(Vec::new()) };
    let line = match store.line(head, LINE) {
        // A shallow clone ends early.
        Err(SourceError::NoSuchCommit(missing)) if missing != head => vec![head],
        line => line?,
    };
    Ok(line.into_iter().map(|commit| Needed { commit, environment: environment.clone(), why: Why::Seen }).collect())
}

/// The commits that were deployed, as the Environment's status tells.
fn in_status(name: &str, environment: &Environment, ours: bool) -> Result<Vec<Needed>, Doubt> {
    let Some(status) = &environment.status else { return Ok(Vec::new()) };
    let why = |deployed| match (ours, deployed) {
        (false, _) => Why::Elsewhere,
        (true, true) => Why::Deployed,
        (true, false) => Why::Seen,
    };
    let history = status.history.iter().map(|entry| (&entry.commit, why(was_written(entry))));
    let commits = history.chain(status.target.iter().map(|target| (target, why(true))));
    let needed = commits.map(|(text, why)| {
        let commit = text.parse().map_err(|_| Doubt::Status { environment: name.to_owned(), text: text.clone() })?;
        Ok(Needed { commit, environment: name.to_owned(), why })
    });
    needed.collect()
}

/// Whether anything of it may have been written: then it had its images.
fn was_written(entry: &HistoryEntry) -> bool {
    let after = [Stage::Apply, Stage::Prune, Stage::Health].map(Stage::as_str);
    entry.outcome == "Deployed" || entry.stage.as_deref().is_some_and(|stage| after.contains(&stage))
}

#[cfg(test)]
mod tests;
