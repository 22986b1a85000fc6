use std::path::Path;
use std::sync::Arc;

use git2::build::TreeUpdateBuilder;
use git2::{FileMode, Repository, Signature};
use serde_json::json;

use super::*;
use crate::model::environment::{EnvironmentStatus, INSTANCE};
use crate::source::Trust;

const PLUMB_YAML: &str = "images: [{name: web, context: app}]\n";

/// A repository with the definition of `dev` on `main`.
struct Scene {
    directory: tempfile::TempDir,
    environments: Environments,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { directory: tempfile::tempdir().unwrap(), environments: Environments::new() };
        Repository::init_bare(scene.path()).unwrap().set_head("refs/heads/main").unwrap();
        scene.define("dev", "branch: dev");
        scene
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Commits files, `None` removes one, and names the commit.
    fn commit(&self, branch: &str, files: &[(&str, Option<&str>)]) -> CommitId {
        let repository = Repository::open_bare(self.path()).unwrap();
        let parent = repository.find_branch(branch, git2::BranchType::Local).ok();
        let parent = parent.map(|branch| branch.get().peel_to_commit().unwrap());
        let empty = repository.treebuilder(None).unwrap().write().unwrap();
        let tree =
            parent.as_ref().map_or_else(|| repository.find_tree(empty).unwrap(), |parent| parent.tree().unwrap());
        let mut update = TreeUpdateBuilder::new();
        for (path, text) in files {
            match text {
                Some(text) => update.upsert(*path, repository.blob(text.as_bytes()).unwrap(), FileMode::Blob),
                None => update.remove(*path),
            };
        }
        let tree = repository.find_tree(update.create_updated(&repository, &tree).unwrap()).unwrap();
        let who = Signature::now("Ada", "ada@example.com").unwrap();
        let parents: Vec<_> = parent.iter().collect();
        let reference = format!("refs/heads/{branch}");
        let id = repository.commit(Some(&reference), &who, &who, "a change", &tree, &parents).unwrap();
        id.to_string().parse().unwrap()
    }

    fn define(&self, name: &str, spec: &str) -> CommitId {
        let text = format!(
            "apiVersion: plumb.dev/v1alpha1\nkind: Environment\nmetadata: {{name: {name}}}\nspec: {{{spec}, namespace: {name}, path: manifests}}\n"
        );
        self.commit("main", &[(&format!("environments/{name}/environment.yaml"), Some(&text))])
    }

    /// A version of the image.
    fn web(&self, answer: &str) -> CommitId {
        let files =
            [("plumb.yaml", PLUMB_YAML), ("app/Dockerfile", "FROM scratch\nCOPY answer /\n"), ("app/answer", answer)];
        self.commit("dev", &files.map(|(path, text)| (path, Some(text))))
    }

    fn status(&mut self, name: &str, holder: &str, status: EnvironmentStatus) {
        let spec = serde_json::from_value(json!({"branch": "dev", "namespace": "n", "path": "."})).unwrap();
        let mut environment = Environment::new(name, spec);
        environment.metadata.annotations = Some([(INSTANCE.to_owned(), holder.to_owned())].into());
        environment.status = Some(status);
        self.environments.insert(name.to_owned(), Arc::new(environment));
    }

    fn read_with(&self, commits: &mut Commits, adjust: impl FnOnce(&mut Heads)) -> Result<Vec<String>, Doubt> {
        let store = Store::open(self.path(), &Trust::default()).unwrap();
        let mut heads = store.heads().unwrap();
        adjust(&mut heads);
        let me = Instance { name: "me".to_owned(), run: "1".to_owned() };
        let mut images = commits.images(&store, &heads, None, &self.environments, &me)?;
        images.sort();
        images.dedup();
        Ok(images)
    }

    fn read(&self) -> Result<Vec<String>, Doubt> {
        self.read_with(&mut Commits::default(), |_| {})
    }

    /// The image of one commit alone.
    fn image(&self, commit: CommitId) -> String {
        let store = Store::open(self.path(), &Trust::default()).unwrap();
        declared_images(&store.at(commit).unwrap(), &mut Known::default()).unwrap()[0].reference()
    }
}

fn entry(commit: impl ToString, outcome: &str, stage: Option<&str>) -> HistoryEntry {
    HistoryEntry {
        commit: commit.to_string(),
        outcome: outcome.to_owned(),
        time: "2026-11-21T10:32:00Z".to_owned(),
        stage: stage.map(str::to_owned),
        message: None,
        applied: 1,
        pruned: 0,
        took_ms: BTreeMap::new(),
    }
}

fn history(entries: Vec<HistoryEntry>) -> EnvironmentStatus {
    EnvironmentStatus { history: entries, ..EnvironmentStatus::default() }
}

fn gone() -> CommitId {
    CommitId::new([7; 20])
}

#[test]
fn the_images_of_a_branchs_newest_commits_of_the_history_and_of_the_target_are_needed() {
    let mut scene = Scene::new();
    let commits: Vec<CommitId> = (0..LINE + 4).map(|number| scene.web(&number.to_string())).collect();
    let image = |number: usize| scene.image(commits[number]);
    let line: BTreeSet<String> = (4..LINE + 4).map(image).collect();
    assert_eq!(line.len(), LINE, "each has its own");
    assert_eq!(scene.read().unwrap().into_iter().collect::<BTreeSet<_>>(), line);

    let (history_image, target_image, of_another) = (image(0), image(1), image(2));
    let target = Some(commits[1].to_string());
    let deployed = history(vec![entry(commits[0], "Deployed", None), entry(gone(), "Deployed", None)]);
    scene.status("dev", "me#1", EnvironmentStatus { target, ..deployed });
    scene.status("removed", "other#1", history(vec![entry(commits[2], "Failed", Some("apply"))]));
    let mut needed = line;
    needed.extend([history_image, target_image, of_another]);
    let mut known = Commits::default();
    for _ in 0..2 {
        let read = scene.read_with(&mut known, |_| {}).unwrap();
        assert_eq!(read.into_iter().collect::<BTreeSet<_>>(), needed, "the third image is nobody's");
    }
    assert_eq!(known.images.len(), LINE + 3);
    // What is not asked for any more is forgotten; a branch that is gone asks for nothing.
    let few = scene.read_with(&mut known, |heads| _ = heads.branches.remove("dev")).unwrap();
    assert_eq!((few.len(), known.images.len()), (3, 3));
}

#[test]
fn bad_sources_are_no_images_unless_they_were_deployed() {
    let mut scene = Scene::new();
    let good = scene.web("1");
    let image = scene.image(good);
    let bad = scene.commit("dev", &[("plumb.yaml", Some("images: 7\n"))]);
    scene.status("dev", "me#1", history(vec![entry(bad, "Failed", Some("render")), entry(bad, "Suspended", None)]));
    assert_eq!(scene.read().unwrap(), [image]);
    for (outcome, stage) in [("Deployed", None), ("Failed", Some("apply")), ("Failed", Some("health"))] {
        scene.status("dev", "me#1", history(vec![entry(bad, outcome, stage)]));
        assert!(matches!(scene.read(), Err(Doubt::Commit { commit, .. }) if commit == bad), "{outcome} {stage:?}");
    }
    scene.status("dev", "me#1", EnvironmentStatus { target: Some(bad.to_string()), ..history(vec![]) });
    assert!(matches!(scene.read(), Err(Doubt::Commit { .. })));
}

#[test]
fn what_is_not_known_is_a_doubt() {
    let mut scene = Scene::new();
    scene.web("1");
    assert!(scene.read().is_ok());
    let unreadable = scene.read_with(&mut Commits::default(), |heads| heads.unreadable.push("dev".to_owned()));
    assert!(matches!(unreadable, Err(Doubt::Branch { branch, .. }) if branch == "dev"));
    let no_head: fn(&mut Heads) = |heads| heads.default_branch = None;
    let no_branch: fn(&mut Heads) = |heads| _ = heads.branches.remove("main");
    for adjust in [no_head, no_branch] {
        assert!(matches!(scene.read_with(&mut Commits::default(), adjust), Err(Doubt::NoConfiguration)));
    }
    let no_head = scene.read_with(&mut Commits::default(), |heads| _ = heads.branches.insert("dev".to_owned(), gone()));
    assert!(matches!(no_head, Err(Doubt::Source(SourceError::NoSuchCommit(commit))) if commit == gone()));

    // Another plumb, of another repository, may go back to what is not here.
    for (name, holder) in [("dev", "other#1"), ("foreign", "other#1"), ("removed", "me#1")] {
        scene.status(name, holder, history(vec![entry(gone(), "Deployed", None)]));
        let read = scene.read();
        assert!(matches!(&read, Err(Doubt::Elsewhere { environment, .. }) if environment == name), "{name}: {read:?}");
        scene.environments.clear();
    }
    scene.status("dev", "me#1", history(vec![entry("nonsense", "Deployed", None)]));
    assert!(matches!(scene.read(), Err(Doubt::Status { text, .. }) if text == "nonsense"));
    scene.environments.clear();

    scene.define("second", "branch: ''");
    assert!(matches!(scene.read(), Err(Doubt::Definition { environment, .. }) if environment == "second"));
    scene.define("second", "branch: second, suspend: true");
    assert!(scene.read().is_ok());
}
