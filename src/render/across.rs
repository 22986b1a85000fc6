//! Which environments commits of one branch make a difference to: several may be deployed from it, by other paths or with other values.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::request::Tools;
use super::{Contents, Definition, Definitions};
use crate::model::{CommitId, Failure};
use crate::source::{SourceError, Store};

/// The definitions of a commit, a bad one as its failure.
type Defined = BTreeMap<String, Result<Arc<Definition>, Failure>>;

/// Compares commits for all environments that their branch decides on: those that are deployed from it, and if it is the configuration branch, those that it
/// defines.
pub struct Across<'a> {
    store: &'a Store,
    contents: Vec<(&'a str, Contents<'a>)>,
    is_configuration: bool,
    reader: Definitions,
    defined: HashMap<CommitId, Defined>,
}

impl<'a> Across<'a> {
    /// Compares nothing yet. `definitions` are those in force; which of them are of this branch is theirs to say.
    pub fn new(
        store: &'a Store,
        branch: &str,
        is_configuration: bool,
        definitions: &'a BTreeMap<String, Result<Arc<Definition>, Failure>>,
        tools: &'a Tools,
    ) -> Self {
        let contents = definitions.iter().filter_map(|(name, definition)| {
            let definition = definition.as_ref().ok().filter(|definition| definition.spec.branch == branch)?;
            Some((name.as_str(), Contents::new(store, name, &definition.spec, tools)))
        });
        let (contents, reader, defined) = (contents.collect(), Definitions::default(), HashMap::new());
        Self { store, contents, is_configuration, reader, defined }
    }

    /// The environments for which the two differ: in what they ask for, or in how they define it. Blocking, as a render is.
    pub fn differ(&mut self, one: CommitId, other: CommitId) -> Result<BTreeSet<String>, SourceError> {
        let mut differ = BTreeSet::new();
        if self.is_configuration {
            let (one, other) = (self.defined(one)?, self.defined(other)?);
            let names = one.keys().chain(other.keys()).filter(|name| one.get(*name) != other.get(*name));
            differ.extend(names.cloned());
        }
        for (name, contents) in &mut self.contents {
            if !differ.contains(*name) && contents.differ(one, other) {
                differ.insert((*name).to_owned());
            }
        }
        Ok(differ)
    }

    fn defined(&mut self, commit: CommitId) -> Result<Defined, SourceError> {
        if let Some(known) = self.defined.get(&commit) {
            return Ok(known.clone());
        }
        let read = self.reader.at(&self.store.at(commit)?)?;
        let defined = read.into_iter().map(|(name, read)| (name, read.map_err(|error| error.failure())));
        let defined: Defined = defined.collect();
        self.defined.insert(commit, defined.clone());
        Ok(defined)
    }
}
