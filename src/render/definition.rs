//! plumb's own files: `environments/<name>/environment.yaml` on the configuration branch, and `plumb.yaml` on each environment's own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Deserialize;

use super::error::{RenderError, source_failure, yaml_failure};
use super::finish;
use super::yaml::{self, Position, Problem, Typed, YamlError};
use crate::model::environment::OWN_ANNOTATIONS;
use crate::model::images::PlumbFile;
use crate::model::path::is_inside;
use crate::model::{CommitId, EnvironmentSpec, Failure, GroupKind, Origin, Stage};
use crate::source::{Entry, EntryKind, Snapshot, SourceError};

/// The directory of the definitions.
pub(super) const ENVIRONMENTS: &str = "environments";
/// The file that names the images a branch builds.
pub(super) const PLUMB_FILE: &str = "plumb.yaml";
const ENVIRONMENT_FILE: &str = "environment.yaml";
const API_VERSION: &str = "plumb.dev/v1alpha1";

/// One environment as git defines it.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Its name, which is that of its directory.
    pub name: String,
    /// What it says.
    pub spec: EnvironmentSpec,
    /// Labels for the Environment object.
    pub labels: BTreeMap<String, String>,
    /// Annotations for the Environment object.
    pub annotations: BTreeMap<String, String>,
    /// The file, relative to the repository's root.
    pub file: Arc<str>,
}

/// Why one definition can't be used. It spoils no other.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DefinitionError {
    /// The file can't be read from git.
    #[error("{file}: {source}")]
    Source {
        /// The file.
        file: Arc<str>,
        /// git's answer.
        source: Arc<SourceError>,
    },
    /// It is a directory, a link or a submodule.
    #[error("{0} is not a file")]
    NotAFile(Arc<str>),
    /// What should be a directory is a link or a submodule.
    #[error("{0} is not a directory")]
    NotADirectory(Arc<str>),
    /// It is called otherwise than a definition is.
    #[error("{0} is not called environment.yaml")]
    OtherName(Arc<str>),
    /// It is not what it should be.
    #[error("{file}:{}: {source}", .source.at)]
    Yaml {
        /// The file.
        file: Arc<str>,
        /// What is wrong.
        source: YamlError,
    },
}

impl DefinitionError {
    /// The error as a failure of the environment.
    pub fn failure(&self) -> Failure {
        let wrong = |file: &Arc<str>, reason: &str| {
            Failure::new(Stage::Definition, reason).at(Origin { file: file.clone(), line: 0, document: 0 })
        };
        match self {
            Self::Yaml { file, source } => yaml_failure(Stage::Definition, file, source),
            Self::Source { source, .. } => source_failure(Stage::Definition, source),
            Self::NotAFile(file) => wrong(file, "it is not a file").hint("put the definition itself there"),
            Self::NotADirectory(file) => wrong(file, "it is not a directory").hint("put the directory itself there"),
            Self::OtherName(file) => wrong(file, "a definition is called environment.yaml")
                .hint("rename it; to have no such environment, remove it"),
        }
    }
}

/// What the definitions of a commit are: one result a name.
pub type All = BTreeMap<String, Result<Arc<Definition>, DefinitionError>>;

/// Reads definitions, each blob once.
#[derive(Debug, Default)]
pub struct Definitions {
    read: HashMap<(String, CommitId), Result<Arc<Definition>, DefinitionError>>,
}

impl Definitions {
    /// All environments that the commit defines; none if it has no `environments/`. A directory without an `environment.yaml` defines none, but what looks
    /// like a definition by mistake is an error and no environment that is gone.
    pub fn at(&mut self, snapshot: &Snapshot) -> Result<All, SourceError> {
        let mut all = All::new();
        let mut read = HashMap::new();
        if snapshot.entry(ENVIRONMENTS)?.is_none() {
            return Ok(all);
        }
        for (name, entry) in snapshot.list(ENVIRONMENTS)? {
            let entry = match found(snapshot, &name, &entry)? {
                Found::Nothing => continue,
                Found::Definition(entry) => entry,
                Found::Mistaken(error) => {
                    all.insert(name, Err(error));
                    continue;
                }
            };
            let file = file_of(&name);
            let key = (name, entry.id);
            let known = self.read.remove(&key);
            let result = known.unwrap_or_else(|| definition(snapshot, &key.0, &entry, file).map(Arc::new));
            all.insert(key.0.clone(), result.clone());
            // What git could not give now, it may give later.
            if !matches!(result, Err(DefinitionError::Source { .. })) {
                read.insert(key, result);
            }
        }
        self.read = read;
        Ok(all)
    }
}

/// The definition of one environment at a commit; `None`: there is none.
pub fn definition_of(snapshot: &Snapshot, name: &str) -> Result<Option<Definition>, DefinitionError> {
    let file = file_of(name);
    match snapshot.entry(&file) {
        Ok(None) => Ok(None),
        Ok(Some(entry)) => definition(snapshot, name, &entry, file).map(Some),
        Err(source) => Err(DefinitionError::Source { file, source: Arc::new(source) }),
    }
}

fn file_of(name: &str) -> Arc<str> {
    format!("{ENVIRONMENTS}/{name}/{ENVIRONMENT_FILE}").into()
}

/// What an entry of `environments/` is.
enum Found {
    Nothing,
    Definition(Entry),
    Mistaken(DefinitionError),
}

fn found(snapshot: &Snapshot, name: &str, entry: &Entry) -> Result<Found, SourceError> {
    match entry.kind {
        EntryKind::File | EntryKind::Executable => return Ok(Found::Nothing),
        EntryKind::Symlink | EntryKind::Submodule => {
            return Ok(Found::Mistaken(DefinitionError::NotADirectory(format!("{ENVIRONMENTS}/{name}").into())));
        }
        EntryKind::Tree => {}
    }
    if let Some(entry) = snapshot.entry(&file_of(name))? {
        return Ok(Found::Definition(entry));
    }
    let directory = format!("{ENVIRONMENTS}/{name}");
    let alike = |file: &String| {
        let file = file.to_ascii_lowercase();
        matches!(file.as_str(), ENVIRONMENT_FILE | "environment.yml" | "environment.json")
    };
    let alike = snapshot.list(&directory)?.into_iter().map(|(file, _)| file).find(alike);
    Ok(alike.map_or(Found::Nothing, |file| {
        Found::Mistaken(DefinitionError::OtherName(format!("{directory}/{file}").into()))
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: EnvironmentSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

fn definition(snapshot: &Snapshot, name: &str, entry: &Entry, file: Arc<str>) -> Result<Definition, DefinitionError> {
    if !matches!(entry.kind, EntryKind::File | EntryKind::Executable) {
        return Err(DefinitionError::NotAFile(file));
    }
    let bytes = snapshot
        .blob(&file, entry)
        .map_err(|source| DefinitionError::Source { file: file.clone(), source: Arc::new(source) })?;
    parse(&bytes, name, file.clone()).map_err(|source| DefinitionError::Yaml { file, source })
}

pub(super) fn parse(bytes: &[u8], name: &str, file: Arc<str>) -> Result<Definition, YamlError> {
    let document: Typed<Document> = yaml::read_typed(bytes)?;
    check(&document, name).map_err(|(path, message)| {
        let at: Position = document.at(&path);
        YamlError { at, problem: Problem::Type { path, message } }
    })?;
    let Document { metadata, spec, .. } = document.value;
    let Metadata { name, labels, annotations } = metadata;
    Ok(Definition { name, spec, labels, annotations, file })
}

/// The rules that are no types: the same as the CEL rules and patterns of the CRD, checked before anything is sent.
fn check(document: &Typed<Document>, directory: &str) -> Result<(), (String, String)> {
    let Document { api_version, kind, metadata, spec } = &document.value;
    let rule = |holds: bool, path: &str, message: &str| {
        if holds { Ok(()) } else { Err((path.to_owned(), message.to_owned())) }
    };
    rule(api_version == API_VERSION, "apiVersion", &format!("it must be {API_VERSION}"))?;
    rule(kind == "Environment", "kind", "it must be Environment")?;
    let environment = GroupKind::new(crate::model::environment::GROUP, "Environment");
    let valid_name = finish::is_valid_name(&environment, &metadata.name) && metadata.name.len() <= 63;
    rule(
        valid_name,
        "metadata.name",
        "a name has lower-case letters, digits, '-' and '.', begins and ends with a letter or digit, and has at most 63 characters",
    )?;
    rule(
        metadata.name == directory,
        "metadata.name",
        &format!("the name must be that of the directory, {directory:?}"),
    )?;
    let reserved = crate::model::environment::RESERVED.contains(&metadata.name.as_str());
    rule(!reserved, "metadata.name", "this name is one of plumb's own field managers; give the environment another")?;
    for name in metadata.labels.keys().chain(metadata.annotations.keys()) {
        let own = name.starts_with("applyset.kubernetes.io/") || OWN_ANNOTATIONS.contains(&name.as_str());
        rule(!own, "metadata", &format!("{name} is written by plumb itself; leave it out"))?;
    }
    let branch = &spec.branch;
    let is_branch =
        !branch.is_empty() && branch.len() <= 244 && !branch.starts_with('-') && !branch.starts_with("refs/");
    rule(is_branch, "spec.branch", "a branch is a name such as dev, without refs/heads/ and not starting with a dash")?;
    rule(
        finish::is_valid_namespace(&spec.namespace),
        "spec.namespace",
        "a namespace has lower-case letters, digits and '-', and at most 63 characters",
    )?;
    let inside = "it must be relative to the repository's root, without '..'";
    rule(is_inside(&spec.path), "spec.path", inside)?;
    for (index, file) in spec.values.iter().enumerate() {
        rule(is_inside(file), &format!("spec.values[{index}]"), inside)?;
    }
    let account = spec.service_account.as_deref();
    rule(
        account.is_none_or(|account| finish::is_valid_name(&GroupKind::new("", "ServiceAccount"), account)),
        "spec.serviceAccount",
        "it must be a service account's name; leave it out to write as plumb itself",
    )?;
    for (index, ignore) in spec.ignore.iter().enumerate() {
        rule(!ignore.fields.is_empty(), &format!("spec.ignore[{index}].fields"), "it must name at least one field")?;
        for (at, field) in ignore.fields.iter().enumerate() {
            let refusal = field.refusal().map(|refusal| refusal.to_string());
            rule(
                refusal.is_none(),
                &format!("spec.ignore[{index}].fields[{at}]"),
                refusal.as_deref().unwrap_or_default(),
            )?;
        }
        let named = !ignore.kind.is_empty() && !ignore.name.is_empty();
        rule(named, &format!("spec.ignore[{index}]"), "kind and name must not be empty")?;
    }
    for (index, namespace) in spec.allow.namespaces.iter().enumerate() {
        let path = format!("spec.allow.namespaces[{index}]");
        rule(
            finish::is_valid_namespace(namespace),
            &path,
            "it must be a namespace's name; patterns are not known here",
        )?;
    }
    Ok(())
}

/// `plumb.yaml` at the root of the branch, read and checked; `None` if there is none.
pub fn plumb_file(snapshot: &Snapshot) -> Result<Option<PlumbFile>, RenderError> {
    let Some(entry) = snapshot.entry(PLUMB_FILE)? else { return Ok(None) };
    let what = match entry.kind {
        EntryKind::File | EntryKind::Executable => None,
        EntryKind::Symlink => Some("symbolic link"),
        EntryKind::Tree => Some("directory"),
        EntryKind::Submodule => Some("submodule"),
    };
    if let Some(what) = what {
        return Err(RenderError::NotAFile { file: PLUMB_FILE.to_owned(), what });
    }
    let bytes = snapshot.blob(PLUMB_FILE, &entry)?;
    let plumb: Typed<PlumbFile> = yaml::read_typed(&bytes).map_err(RenderError::yaml(PLUMB_FILE))?;
    plumb.value.validate().map_err(|(path, error)| {
        let at = plumb.at(&path);
        RenderError::yaml(PLUMB_FILE)(YamlError { at, problem: Problem::Type { path, message: error.to_string() } })
    })?;
    Ok(Some(plumb.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: plumb.dev/v1alpha1\nkind: Environment\nmetadata:\n  name: dev\nspec:\n  branch: dev\n  namespace: todo-dev\n  path: manifests/todo-app\n";

    fn read(text: &str) -> Result<Definition, String> {
        parse(text.as_bytes(), "dev", "f".into()).map_err(|error| format!("{} {error}", error.at))
    }

    #[test]
    fn a_definition_is_read() {
        let definition = read(GOOD).unwrap();
        assert_eq!((&*definition.name, &*definition.spec.namespace), ("dev", "todo-dev"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (from, to, expected) in [
            ("name: dev", "name: prod", "4:3 metadata.name: the name must be that of the directory, \"dev\""),
            ("name: dev", "name: Dev", "4:3 metadata.name: a name has"),
            ("v1alpha1", "v2", "1:1 apiVersion: it must be plumb.dev/v1alpha1"),
            ("Environment", "Env", "2:1 kind: it must be Environment"),
            ("branch: dev", "branch: refs/heads/dev", "6:3 spec.branch: a branch is a name"),
            ("branch: dev", "branch: no", "6:3 spec.branch: invalid type: boolean `false`, expected a string"),
            ("branch: dev", "brunch: dev", "6:3 spec.brunch: unknown field `brunch`"),
            ("namespace: todo-dev", "namespace: Todo", "7:3 spec.namespace: a namespace has"),
            ("manifests/todo-app", "../x", "8:3 spec.path: it must be relative"),
            ("manifests/todo-app", "/x", "8:3 spec.path: it must be relative"),
            ("manifests/todo-app", "x\n  values: [a, ../b]", "9:15 spec.values[1]: it must be relative"),
            ("manifests/todo-app", "x\n  prune: {budget: 101%}", "9:11 spec.prune.budget: "),
            ("manifests/todo-app", "x\n  timeout: soon", "9:3 spec.timeout: "),
            ("manifests/todo-app", "x\n  ignore: [{kind: A, fields: []}]", "9:22 spec.ignore[0].fields: it must name"),
            ("manifests/todo-app", "x\n  ignore: [{kind: '', fields: [a]}]", "9:12 spec.ignore[0]: kind and name"),
            (
                "manifests/todo-app",
                "x\n  ignore:\n  - kind: Deployment\n    fields:\n    - spec.replicas\n    - spec.ports[0]",
                "13:7 spec.ignore[0].fields[1]: \"spec.ports[0]\" names an element by its place",
            ),
            (
                "manifests/todo-app",
                "x\n  ignore: [{kind: A, fields: [metadata.name]}]",
                "9:31 spec.ignore[0].fields[0]: \"metadata.name\" can't be left to others",
            ),
            ("manifests/todo-app", "x\n  serviceAccount: ''", "9:3 spec.serviceAccount: "),
            ("manifests/todo-app", "x\n  branch: main", "9:3 the key \"branch\" stands twice"),
            ("spec:", "status: {}\nspec:", "5:1 status: unknown field `status`"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            let error = read(&text).unwrap_err();
            assert!(error.starts_with(expected), "{to}: {error}");
        }
    }
}
