//! Which kinds the API server serves: data that the cluster room fills in by discovery and that pure code asks.

mod builtin;

use std::collections::HashMap;
use std::sync::Arc;

use super::GroupKind;

pub use builtin::is_builtin;

/// What is known of one version of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindInfo {
    /// The version, such as `v1`.
    pub version: Arc<str>,
    /// The plural used in paths.
    pub plural: Arc<str>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

/// What a look-up found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// The API server serves it.
    Served(&'a KindInfo),
    /// It serves the kind in other versions only.
    OtherVersions(Vec<&'a str>),
    /// It serves the group, without this kind: most likely a mistake in the name.
    NoSuchKind,
    /// It does not know the group: a custom resource whose definition is missing, perhaps not for long.
    NoSuchGroup,
}

/// The kinds of one API server at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kinds {
    /// The server's `gitVersion`, such as `v1.36.3`.
    pub server_version: String,
    kinds: HashMap<GroupKind, Vec<KindInfo>>,
}

impl Kinds {
    /// No kinds yet, for a server of this version.
    pub fn new(server_version: impl Into<String>) -> Self {
        Self { server_version: server_version.into(), kinds: HashMap::new() }
    }

    /// Adds a version of a kind, unless it is there. The first one added is the preferred one.
    pub fn add(&mut self, kind: GroupKind, info: KindInfo) {
        let versions = self.kinds.entry(kind).or_default();
        if versions.iter().all(|known| known.version != info.version) {
            versions.push(info);
        }
    }

    /// Makes these the versions of a kind. Those that are known keep their order, before new ones.
    pub fn define(&mut self, kind: GroupKind, infos: Vec<KindInfo>) {
        let versions = self.kinds.entry(kind.clone()).or_default();
        versions.retain(|known| infos.iter().any(|info| info.version == known.version));
        infos.into_iter().for_each(|info| self.add(kind.clone(), info));
    }

    /// Looks a kind up in one version.
    pub fn lookup(&self, kind: &GroupKind, version: &str) -> Lookup<'_> {
        match self.kinds.get(kind) {
            Some(versions) => match versions.iter().find(|info| &*info.version == version) {
                Some(info) => Lookup::Served(info),
                None => Lookup::OtherVersions(versions.iter().map(|info| &*info.version).collect()),
            },
            None if self.kinds.keys().any(|known| known.group == kind.group) => Lookup::NoSuchKind,
            None => Lookup::NoSuchGroup,
        }
    }

    /// All kinds with the versions served, the preferred one first; in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&GroupKind, &[KindInfo])> {
        self.kinds.iter().map(|(kind, versions)| (kind, versions.as_slice()))
    }

    /// The preferred version of a kind.
    pub fn preferred(&self, kind: &GroupKind) -> Option<&KindInfo> {
        self.kinds.get(kind).and_then(|versions| versions.first())
    }

    /// All `group/version` and `group/version/Kind` served, sorted: Helm's Capabilities.APIVersions.
    pub fn api_versions(&self) -> Vec<String> {
        let mut all = std::collections::BTreeSet::new();
        for (kind, versions) in &self.kinds {
            for info in versions {
                let group = if kind.group.is_empty() { String::new() } else { format!("{}/", kind.group) };
                all.insert(format!("{group}{}", info.version));
                all.insert(format!("{group}{}/{}", info.version, kind.kind));
            }
        }
        all.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_says_which_versions_there_are() {
        let kind = || GroupKind::new("x.dev", "Widget");
        let info = |version: &str| KindInfo { version: version.into(), plural: "widgets".into(), namespaced: true };
        let versions = |kinds: &Kinds| -> Vec<String> {
            kinds.iter().flat_map(|(_, infos)| infos).map(|info| info.version.to_string()).collect()
        };
        let mut kinds = Kinds::new("v1.36.3");
        kinds.define(kind(), vec![info("v1alpha1"), info("v1")]);
        kinds.define(kind(), vec![info("v2"), info("v1")]);
        assert_eq!(versions(&kinds), ["v1", "v2"], "the known one first, the one that left gone");
        assert_eq!(kinds.lookup(&kind(), "v1alpha1"), Lookup::OtherVersions(vec!["v1", "v2"]));
    }
}
