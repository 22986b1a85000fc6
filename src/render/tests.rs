//! Renders of whole commits, from real repositories.

use std::sync::atomic::AtomicBool;

use serde_json::json;

use super::*;
use crate::model::environment::EnvironmentSpec;
use crate::model::kinds::KindInfo;
use crate::model::{CommitId, GroupKind, Kinds};
use crate::source::{Snapshot, Store, Trust};

/// A bare repository in a temporary directory; every commit is the whole of its files.
pub(super) struct TestRepository {
    directory: tempfile::TempDir,
    repository: git2::Repository,
}

/// A file's mode in git.
pub(super) const LINK: i32 = 0o120_000;
const FILE: i32 = 0o100_644;

impl TestRepository {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let repository = git2::Repository::init_bare(directory.path()).unwrap();
        Self { directory, repository }
    }

    pub(super) fn commit(&self, files: &[(&str, &str)]) -> Snapshot {
        self.commit_modes(&files.iter().map(|(path, text)| (*path, text.as_bytes(), FILE)).collect::<Vec<_>>())
    }

    pub(super) fn commit_modes(&self, files: &[(&str, &[u8], i32)]) -> Snapshot {
        let tree = self.tree("", files);
        let tree = self.repository.find_tree(tree).unwrap();
        let who = git2::Signature::new("t", "t@t", &git2::Time::new(0, 0)).unwrap();
        let id = self.repository.commit(None, &who, &who, "c", &tree, &[]).unwrap();
        let id: CommitId = id.to_string().parse().unwrap();
        self.store().at(id).unwrap()
    }

    fn commit_on(&self, parents: &[CommitId], files: &[(&str, &str)]) -> CommitId {
        let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_bytes(), FILE)).collect();
        let tree = self.repository.find_tree(self.tree("", &files)).unwrap();
        let who = git2::Signature::new("t", "t@t", &git2::Time::new(0, 0)).unwrap();
        let parent = |id: &CommitId| self.repository.find_commit(id.to_string().parse().unwrap()).unwrap();
        let parents: Vec<_> = parents.iter().map(parent).collect();
        let parents: Vec<_> = parents.iter().collect();
        self.repository.commit(None, &who, &who, "c", &tree, &parents).unwrap().to_string().parse().unwrap()
    }

    /// A commit with more files than can be looked at, in `app`.
    pub(super) fn endless(&self) -> Snapshot {
        self.store().at(crate::source::tests::support::endless(&self.repository)).unwrap()
    }

    fn store(&self) -> Store {
        Store::open(self.directory.path(), &Trust::default()).unwrap()
    }

    fn tree(&self, prefix: &str, files: &[(&str, &[u8], i32)]) -> git2::Oid {
        let mut builder = self.repository.treebuilder(None).unwrap();
        let mut done = std::collections::BTreeSet::new();
        for (path, bytes, mode) in files {
            let Some(rest) = path.strip_prefix(prefix) else { continue };
            match rest.split_once('/') {
                Some((directory, _)) if done.insert(directory) => {
                    let tree = self.tree(&format!("{prefix}{directory}/"), files);
                    builder.insert(directory, tree, 0o040_000).unwrap();
                }
                Some(_) => {}
                None => {
                    builder.insert(rest, self.repository.blob(bytes).unwrap(), *mode).unwrap();
                }
            }
        }
        builder.write().unwrap()
    }
}

/// A program: from the environment (`PLUMB_HELM`), the `PATH`, or what the test cluster's build left. Says so if there is none.
pub(crate) fn program(name: &str) -> Option<std::path::PathBuf> {
    use std::io::Write as _;
    let named = std::env::var_os(format!("PLUMB_{}", name.to_uppercase())).map(std::path::PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME").map(std::path::PathBuf::from);
    let cache = cache.or_else(|| Some(std::path::PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let built = cache.and_then(|cache| std::fs::read_dir(cache.join("plumb/cluster")).ok()).into_iter().flatten();
    let built = built.filter_map(Result::ok).map(|directory| directory.path().join(name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::split_paths(&path).map(|directory| directory.join(name)).collect::<Vec<_>>();
    let found = named.into_iter().chain(built).chain(path).find(|file| file.is_file());
    if found.is_none() {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: there is no {name}: build the test cluster or set PLUMB_{}",
            name.to_uppercase()
        );
    }
    found
}

pub(super) fn spec(value: serde_json::Value) -> EnvironmentSpec {
    let mut spec = json!({"branch": "dev", "namespace": "dev", "path": "m"});
    spec.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
    serde_json::from_value(spec).unwrap()
}

pub(super) fn kinds() -> Kinds {
    let mut kinds = Kinds::new("v1.36.3");
    for (group, version, kind, namespaced) in [
        ("", "v1", "ConfigMap", true),
        ("", "v1", "Secret", true),
        ("", "v1", "Service", true),
        ("apps", "v1", "Deployment", true),
        ("apiextensions.k8s.io", "v1", "CustomResourceDefinition", false),
    ] {
        kinds.add(GroupKind::new(group, kind), KindInfo { version: version.into(), plural: "x".into(), namespaced });
    }
    kinds
}

pub(super) fn render_with(
    snapshot: &Snapshot,
    spec: &EnvironmentSpec,
    tools: &Tools,
    cache: &mut Cache,
) -> Result<Rendered, RenderError> {
    let (kinds, cancel) = (kinds(), AtomicBool::new(false));
    let (environment, part_of, kinds_generation) = ("dev", "applyset-x-v1", 1);
    let request =
        Request { snapshot, environment, spec, part_of, kinds: &kinds, kinds_generation, tools, cancel: &cancel };
    let rendered = render(&request, cache)?;
    let (Rendered::Same(desired) | Rendered::New(desired)) = &rendered;
    assert_eq!(reads(snapshot, spec).unwrap(), desired.reads, "what a render reads is known without it");
    Ok(rendered)
}

fn plain(snapshot: &Snapshot, spec: &EnvironmentSpec, cache: &mut Cache) -> Result<Rendered, RenderError> {
    render_with(snapshot, spec, &Tools::default(), cache)
}

fn map(name: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  key: \"{value}\"\n")
}

fn shown(desired: &Desired) -> Vec<String> {
    desired.objects.iter().map(|object| format!("{} {}", object.key, object.origin)).collect()
}

#[test]
fn a_directory_is_read_whole_and_in_order() {
    let repository = TestRepository::new();
    let two = format!("# head\n---\n{}---\n---\n{}", map("two", "1"), map("three", "1"));
    let list =
        "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMapList\", \"items\": [\n{\"metadata\": {\"name\": \"four\"}}]}";
    let snapshot = repository.commit(&[
        ("m/b/two.yml", &two),
        ("m/a.yaml", &map("one", "1")),
        ("m/c.json", list),
        ("m/README.md", "# not: a manifest"),
        ("m/.hidden.yaml", "\t"),
        ("m/.git-hooks/x.yaml", "\t"),
        ("other/x.yaml", "\t"),
    ]);
    let desired = plain(&snapshot, &spec(json!({})), &mut Cache::default()).unwrap().into_desired();
    assert_eq!(
        shown(&desired),
        [
            "ConfigMap/dev/one m/a.yaml:1",
            "ConfigMap/dev/two m/b/two.yml:3",
            "ConfigMap/dev/three m/b/two.yml:11",
            "ConfigMap/dev/four m/c.json:1",
        ]
    );
    assert_eq!(desired.commit, snapshot.commit());
}

#[test]
fn the_root_may_be_a_directory_of_manifests_beside_plumbs_own_files() {
    let repository = TestRepository::new();
    let snapshot = repository.commit(&[
        ("a.yaml", &map("one", "1")),
        ("plumb.yaml", "images: []\n"),
        ("environments/dev/environment.yaml", "x: y\n"),
        ("environments/dev/values.yaml", "x: y\n"),
    ]);
    let desired = plain(&snapshot, &spec(json!({"path": "."})), &mut Cache::default()).unwrap().into_desired();
    assert_eq!(shown(&desired), ["ConfigMap/dev/one a.yaml:1"]);
}

#[test]
fn commits_that_ask_for_the_same_are_known() {
    let repository = TestRepository::new();
    let store = repository.store();
    let (spec, tools) = (spec(json!({})), Tools::default());
    let mut contents = Contents::new(&store, "dev", &spec, &tools);
    let one = map("one", "1");
    let base = repository.commit(&[("m/a.yaml", &one)]).commit();
    let beside = repository.commit(&[("m/a.yaml", &one), ("README", "x")]).commit();
    let comment = repository.commit(&[("m/a.yaml", &format!("# why\n{one}"))]).commit();
    let other = repository.commit(&[("m/a.yaml", &map("one", "2"))]).commit();
    let broken = repository.commit(&[("m/a.yaml", "kind: [")]).commit();
    let broken_again = repository.commit(&[("m/a.yaml", "kind: ["), ("README", "x")]).commit();
    for (a, b, same) in [
        (base, base, true),
        (base, beside, true),
        (comment, base, true),
        (base, other, false),
        (other, comment, false),
        (base, broken, false),
        (broken, broken_again, true),
        (base, CommitId::new([7; 20]), false),
    ] {
        assert_eq!(contents.same(a, b), same, "{a} {b}");
        assert_eq!(contents.same(b, a), same, "{b} {a}");
    }
}

#[test]
fn only_what_changed_is_read_again() {
    let repository = TestRepository::new();
    let (one, two) = (map("one", "1"), map("two", "1"));
    let mut cache = Cache::default();
    let mut at = |files: &[(&str, &str)]| plain(&repository.commit(files), &spec(json!({})), &mut cache);
    let Rendered::New(first) = at(&[("m/a.yaml", &one), ("m/b.yaml", &two)]).unwrap() else { panic!("new") };

    let elsewhere = at(&[("m/a.yaml", &one), ("m/b.yaml", &two), ("x", "1")]).unwrap();
    assert!(matches!(elsewhere, Rendered::Same(_)), "nothing under the path changed");
    let beside = at(&[("m/a.yaml", &one), ("m/b.yaml", &two), ("m/x.md", "1")]).unwrap();
    assert!(matches!(beside, Rendered::Same(_)), "no manifest changed");
    assert_ne!(beside.into_desired().commit, first.commit);

    let Rendered::New(second) = at(&[("m/a.yaml", &one), ("m/b.yaml", &map("two", "2"))]).unwrap() else {
        panic!("new")
    };
    assert!(std::sync::Arc::ptr_eq(&first.objects[0], &second.objects[0]), "the unchanged file was not read again");
    assert_ne!(first.objects[1].digest, second.objects[1].digest);

    let Rendered::New(fewer) = at(&[("m/a.yaml", &one)]).unwrap() else { panic!("a file is gone") };
    assert_eq!(fewer.objects.len(), 1);
    assert!(at(&[("m/a.yaml", &one), ("m/b.yaml", "a: b: c")]).is_err());
    assert_eq!(at(&[("m/a.yaml", &one)]).unwrap().into_desired().objects.len(), 1, "a good commit after a bad one");
    assert!(at(&[("m/a.yaml", &one), ("plumb.yaml", "image: []")]).is_err(), "plumb.yaml is read by every render");
}

#[test]
fn a_definition_in_another_file_decides_the_scope() {
    let repository = TestRepository::new();
    let crd = |scope: &str| {
        format!(
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: things.x.dev}}\nspec: {{group: x.dev, scope: {scope}, names: {{kind: Thing}}}}\n"
        )
    };
    let thing = "apiVersion: x.dev/v1\nkind: Thing\nmetadata: {name: t}\n";
    let spec =
        spec(json!({"allow": {"clusterScoped": ["apiextensions.k8s.io/CustomResourceDefinition", "x.dev/Thing"]}}));
    let mut cache = Cache::default();
    let mut at = |scope| {
        let snapshot = repository.commit(&[("m/a.yaml", thing), ("m/z.yaml", &crd(scope))]);
        shown(&plain(&snapshot, &spec, &mut cache).unwrap().into_desired())
    };
    assert_eq!(at("Cluster")[0], "Thing/t m/a.yaml:1");
    assert_eq!(at("Namespaced")[0], "Thing/dev/t m/a.yaml:1", "the unchanged file follows the changed definition");
}

#[test]
fn bad_commits_name_file_object_and_remedy() {
    let repository = TestRepository::new();
    let one = map("one", "1");
    let twice = format!("{one}---\n{one}");
    let huge = map("one", &"x".repeat(5 << 20));
    let many = "---\na: 1\n".repeat(100_000);
    let manifests = |text: &str| repository.commit(&[("m/ok.yaml", &map("ok", "1")), ("m/x.yaml", text)]);
    let failure = |snapshot: &Snapshot, more: serde_json::Value| {
        plain(snapshot, &spec(more), &mut Cache::default()).unwrap_err().failure().to_string()
    };
    for (text, expected) in [
        ("a: b: c\n", "m/x.yaml:1: column "),
        ("a:\n\t- b\n", "m/x.yaml:2: column "),
        ("a: 1\na: 2\n", "m/x.yaml:2: column 1: the key \"a\" stands twice"),
        ("kind: ConfigMap\n", "m/x.yaml:1: apiVersion is missing; if this file is no manifest"),
        (&twice, "m/x.yaml:8: ConfigMap/dev/one: the object is defined twice, first at m/x.yaml:1; remove"),
        (
            "a: 1\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n  labels:\n    on-call: yes\n",
            "m/x.yaml:1: apiVersion is missing",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n  labels:\n    on-call: yes\n",
            "m/x.yaml:6: ConfigMap/dev/x: metadata.labels.on-call is a boolean, not text; write the value in quotes",
        ),
        (&huge, "m/x.yaml:1: ConfigMap/dev/one: the object is 5243"),
        (&many, "m/x.yaml:40000: column 1: the number of documents"),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: other}\n",
            "m/x.yaml:3: ConfigMap/other/x: its namespace is \"other\"",
        ),
    ] {
        let shown = failure(&manifests(text), json!({}));
        assert!(shown.starts_with(expected), "{shown}");
    }
    let good = repository.commit(&[("m/a.yaml", &one), ("e/README", ""), ("f", "")]);
    for (more, expected) in [
        (json!({"path": "x"}), "\"x\", which the environment's spec.path names, is not in this commit; add it"),
        (json!({"path": "f"}), "the environment's path \"f\" is not a directory"),
        (json!({"path": "../m"}), "the environment's path \"../m\" is not a directory"),
        (json!({"path": "e"}), "\"e\" renders to no object at all; nothing is pruned"),
        (json!({"values": ["v.yaml"]}), "the environment names values files, but \"m\" is not a Helm chart"),
    ] {
        let shown = failure(&good, more);
        assert!(shown.starts_with(expected), "{shown}");
    }
    assert!(plain(&good, &spec(json!({"path": "e", "allow": {"empty": true}})), &mut Cache::default()).is_ok());
    let link = repository.commit_modes(&[("m/a.yaml", one.as_bytes(), FILE), ("m/x", b"/etc", LINK)]);
    assert!(failure(&link, json!({})).starts_with("m/x: m/x is a symbolic link"));
}

#[test]
fn one_bad_definition_spoils_no_other() {
    let repository = TestRepository::new();
    let definition = |name: &str| {
        format!(
            "apiVersion: plumb.dev/v1alpha1\nkind: Environment\nmetadata: {{name: {name}}}\nspec: {{branch: b, namespace: ns, path: p}}\n"
        )
    };
    let mut definitions = Definitions::default();
    assert!(definitions.at(&repository.commit(&[("a", "")])).unwrap().is_empty());
    let snapshot = repository.commit(&[
        ("environments/dev/environment.yaml", &definition("dev")),
        ("environments/prod/environment.yaml", &definition("dev")),
        ("environments/shared/values.yaml", ""),
        ("environments/README.md", ""),
    ]);
    for _ in 0..2 {
        let all = definitions.at(&snapshot).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["dev", "prod"]);
        assert_eq!(all["dev"].as_ref().unwrap().spec.branch, "b");
        let failure = all["prod"].as_ref().unwrap_err().failure().to_string();
        assert!(failure.starts_with("environments/prod/environment.yaml:3: column "), "{failure}");
    }
    assert_eq!(definition_of(&snapshot, "dev").unwrap().unwrap().spec.namespace, "ns");
    assert!(definition_of(&snapshot, "prod").is_err() && definition_of(&snapshot, "shared").unwrap().is_none());
}

/// Taken for a removal, these would delete what nobody meant to remove.
#[test]
fn what_looks_like_a_definition_by_mistake_is_an_error_and_not_nothing() {
    let repository = TestRepository::new();
    let snapshot = repository.commit_modes(&[
        ("environments/dev/environment.yml", b"", FILE),
        ("environments/qa/Environment.yaml", b"", FILE),
        ("environments/prod", b"dev", LINK),
        ("environments/shared/values.yaml", b"", FILE),
    ]);
    let all = Definitions::default().at(&snapshot).unwrap();
    let told: Vec<String> = all.values().map(|read| read.as_ref().unwrap_err().failure().to_string()).collect();
    assert_eq!(
        told,
        [
            "environments/dev/environment.yml: a definition is called environment.yaml; rename it; to have no such environment, remove it",
            "environments/prod: it is not a directory; put the directory itself there",
            "environments/qa/Environment.yaml: a definition is called environment.yaml; rename it; to have no such environment, remove it",
        ]
    );
    assert!(Definitions::default().at(&repository.commit(&[("environments", "a file")])).is_err());
}

/// Whether a commit may say this of its own environment, where the configuration branch has these versions of the definition, the newest last.
fn own_definition(versions: &[&str], own: Option<&str>) -> Result<(), String> {
    let repository = TestRepository::new();
    let file = "environments/dev/environment.yaml";
    let text = |more: &str| {
        format!(
            "apiVersion: plumb.dev/v1alpha1\nkind: Environment\nmetadata: {{name: dev}}\nspec:\n  branch: dev\n  namespace: todo\n  path: p\n{more}"
        )
    };
    let mut main: Option<CommitId> = None;
    for version in versions {
        let parents: Vec<CommitId> = main.into_iter().collect();
        main = Some(repository.commit_on(&parents, &[(file, &text(version))]));
    }
    let own = match own {
        Some(own) => repository.commit_on(&[], &[(file, &text(own)), ("p/a.yaml", "")]),
        None => repository.commit_on(&[], &[("p/a.yaml", "")]),
    };
    let (store, main) = (repository.store(), main.unwrap());
    let definition = definition_of(&store.at(main).unwrap(), "dev").unwrap().unwrap();
    check_own_definition(&store, own, &definition, "main", main).map_err(|failure| failure.to_string())
}

#[test]
fn a_branch_may_have_its_definition_in_any_version_that_the_configuration_branch_once_had() {
    let (one, two) = ("", "  resync: 5m\n");
    for own in [None, Some(one), Some(two), Some("  resync: 300s # the same\n")] {
        assert_eq!(own_definition(&[one, two], own), Ok(()), "{own:?}");
    }
    let refused = own_definition(&[one, two], Some("  resync: 5m\n  serviceAccount: admin\n")).unwrap_err();
    assert!(
        refused.starts_with("environments/dev/environment.yaml:9: spec.serviceAccount is changed on the branch dev"),
        "{refused}"
    );
    let broken = own_definition(&[one], Some("spec: {}\n")).unwrap_err();
    assert!(broken.contains("stands twice") && broken.contains("git checkout main -- environments/dev"), "{broken}");
    assert_eq!(own_definition(&["spec: {}\n", one], Some("spec: {}\n")), Ok(()), "corrected on main since");
    // What is read from its own branch anyway can't differ.
    assert_eq!(own_definition(&["  suspend: true\n"], Some("  suspend: true\n")), Ok(()));
}
