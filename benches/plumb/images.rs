//! How long it takes to know that no image changed: 20 images in a repository of 10,000 files. No cluster takes part.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use plumb::model::{CommitId, EnvironmentSpec, Kinds};
use plumb::render::{Cache, Request, Tools, render};
use plumb::source::{Store, Trust};

use crate::figures::{Figures, median, milliseconds};
use crate::scale::Scale;

pub const FIGURES: &[&str] = &["image_unchanged_ms", "image_unchanged_cold_ms", "image_one_changed_ms"];

const IMAGES: usize = 20;
const ROUNDS: usize = 15;

pub fn run(scale: &Scale, figures: &mut Figures) {
    let each = scale.image_files / IMAGES;
    println!("images: {IMAGES} images of {each} files");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let repository = git2::Repository::init_bare(directory.path()).expect("a repository");
    let store = || Store::open(directory.path(), &Trust::default()).expect("a repository that can be read");
    let files = files(&repository, each);
    let commits = |round: usize| {
        ["apps/README.md", "README.md", "apps/a0/d0/f0"]
            .map(|changed| commit(&repository, &files, changed, &format!("changed {round}")))
    };
    let spec = serde_json::json!({"branch": "dev", "namespace": "dev", "path": "m"});
    let spec: EnvironmentSpec = serde_json::from_value(spec).expect("a definition");
    let took = |cache: &mut Cache, id: CommitId, known: &mut Vec<String>| {
        let store = store();
        let started = Instant::now();
        let snapshot = store.at(id).expect("the commit");
        let request = Request {
            snapshot: &snapshot,
            environment: "dev",
            spec: &spec,
            part_of: "applyset-x-v1",
            kinds: &Kinds::builtin(),
            kinds_generation: 0,
            tools: &Tools::default(),
            cancel: &AtomicBool::new(false),
        };
        let desired = render(&request, cache).expect("it renders").into_desired();
        let took = milliseconds(started.elapsed());
        *known = desired.images.iter().map(plumb::model::images::Image::reference).collect();
        took
    };
    let (mut warm, mut cold, mut one) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let [first, second, changed] = commits(round);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let mut cache = Cache::default();
        cold.push(took(&mut cache, first, &mut before));
        warm.push(took(&mut cache, second, &mut after));
        assert_eq!(before, after, "no image changed");
        one.push(took(&mut cache, changed, &mut after));
        let differing = before.iter().filter(|image| !after.contains(image)).count();
        assert!(before.len() == IMAGES && differing == 1, "exactly one image changed: {differing} of {}", before.len());
    }
    figures.record("image_unchanged_ms", median(&warm));
    figures.record("image_unchanged_cold_ms", median(&cold));
    figures.record("image_one_changed_ms", median(&one));
}

/// The files of the whole repository. Loose objects: what git has right after a push.
fn files(repository: &git2::Repository, each: usize) -> BTreeMap<String, git2::Oid> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut plumb = String::from("images:\n");
    let mut containers = String::new();
    for image in 0..IMAGES {
        plumb.push_str(&format!("- {{name: image-{image}, context: apps/a{image}}}\n"));
        containers.push_str(&format!("  - {{name: c{image}, image: image-{image}}}\n"));
        files.insert(format!("apps/a{image}/Dockerfile"), "FROM scratch\nCOPY . /\n".to_owned());
        files.insert(format!("apps/a{image}/.dockerignore"), "**/*.log\nnode_modules\n!keep.log\n".to_owned());
        files
            .extend((0..each).map(|file| (format!("apps/a{image}/d{}/f{file}", file / 20), format!("{image} {file}"))));
    }
    files.insert("plumb.yaml".to_owned(), plumb);
    let pod = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers:\n{containers}");
    files.insert("m/pod.yaml".to_owned(), pod);
    files.into_iter().map(|(path, text)| (path, blob(repository, &text))).collect()
}

fn blob(repository: &git2::Repository, text: &str) -> git2::Oid {
    repository.blob(text.as_bytes()).expect("a blob")
}

/// A commit of all files with one of them changed.
fn commit(repository: &git2::Repository, files: &BTreeMap<String, git2::Oid>, changed: &str, text: &str) -> CommitId {
    let mut files = files.clone();
    files.insert(changed.to_owned(), blob(repository, text));
    let mut index = git2::Index::new().expect("an index");
    let (ctime, mtime) = (git2::IndexTime::new(0, 0), git2::IndexTime::new(0, 0));
    for (path, id) in files {
        let (dev, ino, uid, gid, file_size, flags, flags_extended) = (0, 0, 0, 0, 0, 0, 0);
        let (mode, path) = (0o100_644, path.into_bytes());
        let entry =
            git2::IndexEntry { ctime, mtime, dev, ino, mode, uid, gid, file_size, id, flags, flags_extended, path };
        index.add(&entry).expect("an entry");
    }
    let tree = index.write_tree_to(repository).expect("a tree");
    let tree = repository.find_tree(tree).expect("the tree");
    let who = git2::Signature::now("bench", "bench@example.com").expect("a signature");
    let id = repository.commit(None, &who, &who, "c", &tree, &[]).expect("a commit");
    id.to_string().parse().expect("a commit id")
}
