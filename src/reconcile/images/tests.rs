//! Before a builder that remembers names, and whose removals wait for the test.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;

use super::*;
use crate::builder::{Built, Context, Progress, PullPolicy, Stored};
use crate::cluster::Cluster;
use crate::model::Reads;
use crate::model::images::ImageSource;
use crate::model::marks::Instance;
use crate::reconcile::Shared;
use crate::render::{Definition, Tools};

struct StandIn {
    present: Mutex<HashSet<String>>,
    removals: Semaphore,
    away: AtomicBool,
    /// How often it was asked what stands.
    asked: AtomicUsize,
}

impl StandIn {
    fn new(names: &[&str], removals: usize) -> Self {
        let present = names.iter().map(|name| reference::full(name)).collect();
        let (away, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
        Self { present: Mutex::new(present), removals: Semaphore::new(removals), away, asked }
    }

    fn reached(&self) -> Result<(), BuildError> {
        let away = || BuildError::Away { endpoint: "http://builder".to_owned(), reason: "refused".to_owned() };
        if self.away.load(Ordering::Relaxed) { Err(away()) } else { Ok(()) }
    }
}

#[async_trait]
impl Builder for StandIn {
    async fn present(&self, references: &[String]) -> Result<Vec<bool>, BuildError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.reached()?;
        let present = self.present.lock().unwrap();
        Ok(references.iter().map(|reference| present.contains(&reference::full(reference))).collect())
    }

    async fn build(&self, order: &BuildOrder, _: Context, _: Sender<Progress>) -> Result<Built, BuildError> {
        self.present.lock().unwrap().insert(reference::full(&order.reference));
        Ok(Built { digest: None })
    }

    async fn images(&self) -> Result<Vec<Stored>, BuildError> {
        Ok(Vec::new())
    }

    async fn remove(&self, reference: &str) -> Result<(), BuildError> {
        self.removals.acquire().await.unwrap().forget();
        self.present.lock().unwrap().remove(&reference::full(reference));
        Ok(())
    }

    fn pull_policy(&self) -> PullPolicy {
        PullPolicy::Never
    }
}

fn images(names: &[&str], removals: usize) -> Images {
    Images::new(Arc::new(StandIn::new(names, removals)))
}

async fn stand(images: &Images, reference: &str) -> bool {
    images.stand(&[reference.to_owned()]).await.unwrap() == [true]
}

/// What a commit asks for.
fn desired(images: &[(&str, &str)]) -> Desired {
    let image = |(name, tag): &(&str, &str)| Image {
        source: serde_json::from_value::<ImageSource>(json!({"name": name, "context": "."})).map(Arc::new).unwrap(),
        tag: (*tag).to_owned(),
        bases: BTreeMap::new(),
        used: true,
    };
    Desired {
        commit: CommitId::new([1; 20]),
        objects: Vec::new(),
        images: images.iter().map(image).collect(),
        reads: Reads::default(),
        remarks: Vec::new(),
    }
}

fn reconciler(images: Images) -> Reconciler {
    let nowhere: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let instance = Instance { name: "test".to_owned(), run: "1".to_owned() };
    let shared = Shared::new(Cluster::at(nowhere), instance, Tools::default()).with_images(Some(images));
    let spec = serde_json::from_value(json!({"branch": "dev", "namespace": "n", "path": "."})).unwrap();
    let (labels, annotations, file) = (BTreeMap::new(), BTreeMap::new(), "environment.yaml".into());
    let definition = Definition { name: "dev".to_owned(), labels, annotations, spec, file };
    Reconciler::new(Arc::new(shared), Arc::new(definition))
}

#[tokio::test]
async fn what_is_on_its_way_to_the_cluster_is_not_removed() {
    let reconciler = reconciler(images(&["web:1", "web:2", "web:3", "web:4"], 9));
    let images = reconciler.shared.images.as_ref().unwrap();
    let first = desired(&[("web", "1"), ("web", "4")]);
    assert!(reconciler.lacking(&first).await.unwrap().is_none());
    let name = |tag: u32| format!("docker.io/library/web:{tag}");
    assert!(!images.remove(&name(1)).await.unwrap(), "it is at the gates");
    reconciler.use_images(&first);
    assert!(reconciler.lacking(&desired(&[("web", "2")])).await.unwrap().is_none());
    for tag in [1, 2, 4] {
        assert!(!images.remove(&name(tag)).await.unwrap(), "{tag}: it is written, or at the gates");
    }
    assert!(images.remove(&name(3)).await.unwrap());
    // Images or not, the next one takes its place.
    reconciler.use_images(&desired(&[]));
    assert!(reconciler.lacking(&desired(&[])).await.unwrap().is_none());
    assert!(stand(images, "web:2").await);
    assert!(images.remove(&name(2)).await.unwrap());
    assert!(!stand(images, "web:2").await, "what was known is forgotten");
    let lacking = reconciler.lacking(&desired(&[("web", "2")])).await.unwrap();
    assert_eq!(lacking.unwrap().references(), HashSet::from(["web:2".to_owned()]));
}

#[tokio::test]
async fn what_a_person_removed_from_the_node_is_missing_at_the_next_commit() {
    let behind = Arc::new(StandIn::new(&["web:1", "web:2"], 0));
    let reconciler = reconciler(Images::new(behind.clone()));
    let lacking = async |tag: &str| reconciler.lacking(&desired(&[("web", tag)])).await;
    for tag in ["1", "2"] {
        assert!(lacking(tag).await.unwrap().is_none(), "{tag}");
    }
    behind.away.store(true, Ordering::Relaxed);
    assert!(lacking("1").await.unwrap().is_none(), "nobody can be asked: it was there");
    behind.away.store(false, Ordering::Relaxed);
    behind.present.lock().unwrap().remove(&reference::full("web:1"));
    assert_eq!(lacking("1").await.unwrap().unwrap().references(), HashSet::from(["web:1".to_owned()]));
    behind.away.store(true, Ordering::Relaxed);
    assert!(lacking("1").await.is_err(), "and it is known that it was not");
}

#[tokio::test]
async fn what_an_environment_runs_is_known_and_costs_no_request() {
    let behind = Arc::new(StandIn::new(&["web:1", "web:2"], 0));
    let reconciler = reconciler(Images::new(behind.clone()));
    let (first, second) = (desired(&[("web", "1")]), desired(&[("web", "2")]));
    assert!(reconciler.lacking(&first).await.unwrap().is_none());
    reconciler.use_images(&first);
    for _ in 0..3 {
        assert!(reconciler.lacking(&first).await.unwrap().is_none());
    }
    assert_eq!(behind.asked.load(Ordering::Relaxed), 1, "commits with the same images ask nobody");
    for next in [&second, &first] {
        assert!(reconciler.lacking(next).await.unwrap().is_none());
        reconciler.use_images(next);
    }
    assert_eq!(behind.asked.load(Ordering::Relaxed), 3, "a revert asks whether the old one still stands");
    reconciler.forget_images(&first);
    assert!(reconciler.lacking(&first).await.unwrap().is_none());
    assert_eq!(behind.asked.load(Ordering::Relaxed), 4, "a resync asks again");
}

#[tokio::test]
async fn of_images_that_nobody_is_about_to_use_nothing_is_known() {
    let reconciler = reconciler(images(&["web:1", "web:2", "web:3"], 9));
    let images = reconciler.shared.images.as_ref().unwrap();
    reconciler.use_images(&desired(&[("web", "1")]));
    for tag in ["1", "2", "3"] {
        assert!(reconciler.lacking(&desired(&[("web", tag)])).await.unwrap().is_none());
        images.known().digests.insert(format!("web:{tag}"), "sha256:0".to_owned());
    }
    images.forget_unclaimed();
    let known = || {
        let known = images.known();
        known.stand.iter().chain(known.digests.keys()).cloned().collect::<BTreeSet<String>>()
    };
    assert_eq!(
        known(),
        BTreeSet::from(["web:1", "web:3"].map(str::to_owned)),
        "what is deployed, and what is at the gates"
    );
    images.left("dev");
    assert!(images.remove("docker.io/library/web:1").await.unwrap(), "its environment is gone");
    images.forget_unclaimed();
    assert!(known().is_empty());
}

#[tokio::test]
async fn whoever_asks_for_an_image_waits_for_the_end_of_its_removal() {
    let gate = Arc::new(StandIn::new(&["web:1"], 0));
    let images = Images::new(gate.clone());
    assert!(stand(&images, "web:1").await);
    let removed = images.remove("docker.io/library/web:1");
    let asked = async {
        tokio::task::yield_now().await;
        stand(&images, "web:1").await
    };
    let opened = async {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        gate.removals.add_permits(1);
    };
    let (removed, asked, ()) = tokio::join!(removed, asked, opened);
    assert!(removed.unwrap() && !asked, "it was never seen to stand while it went");
}

#[tokio::test]
async fn builds_are_told_and_what_stood_is_none() {
    let (images, directory) = (images(&["web:1"], 0), tempfile::tempdir().unwrap());
    git2::Repository::init_bare(directory.path()).unwrap();
    let store = Store::open(directory.path(), &crate::source::Trust::default()).unwrap();
    let mut builds = images.builds();
    for (tag, built) in [("1", false), ("2", true), ("2", false)] {
        let wanted = desired(&[("web", tag)]);
        images.build("dev", &store, wanted.commit, &wanted.images, Needed::default()).await.unwrap();
        assert_eq!(builds.has_changed().unwrap(), built, "{tag}");
        builds.mark_unchanged();
    }
}

#[tokio::test]
async fn a_builder_is_waited_for_until_it_has_come_up_or_the_time_is_over() {
    let behind = Arc::new(StandIn::new(&["web:1", "web:2"], 0));
    let reconciler = reconciler(Images::new(behind.clone()));
    let images = reconciler.shared.images.as_ref().unwrap();
    let away = |away: bool| behind.away.store(away, Ordering::Relaxed);
    let lacking = async |tag: &str| reconciler.lacking(&desired(&[("web", tag)])).await;
    let awaited = async || lacking("1").await.unwrap_err().awaited;

    away(true);
    assert!(!awaited().await, "nobody wants to wait");
    images.wait_for_builder(Duration::ZERO);
    assert!(!awaited().await, "the time is over");
    images.wait_for_builder(Duration::from_secs(3600));
    assert!(awaited().await && awaited().await);

    away(false);
    assert!(lacking("3").await.unwrap().is_some());
    away(true);
    assert!(awaited().await, "what builds may come up after what tells what stands");
    away(false);
    assert!(lacking("2").await.unwrap().is_none());
    away(true);
    assert!(!awaited().await, "it was there, and is gone");
}

#[tokio::test]
async fn a_base_that_a_stage_is_called_as_goes_by_its_tag() {
    use futures::StreamExt as _;

    let directory = tempfile::tempdir().unwrap();
    let repository = git2::Repository::init_bare(directory.path()).unwrap();
    let store = Store::open(directory.path(), &crate::source::Trust::default()).unwrap();
    let author = git2::Signature::now("a", "a@example.com").unwrap();
    for (dockerfile, ignore, key) in [
        ("FROM web AS Web\nRUN make\n", "", "web:1"),
        ("FROM web AS Web\nRUN make\n", "*\n", "web:1"),
        ("FROM web AS made\nRUN make\n", "", "web"),
        ("FROM web AS made\nRUN make\n", "*\n", "web"),
    ] {
        let mut tree = repository.treebuilder(None).unwrap();
        for (name, text) in [("Dockerfile", dockerfile), (".dockerignore", ignore)] {
            tree.insert(name, repository.blob(text.as_bytes()).unwrap(), 0o100_644).unwrap();
        }
        let tree = repository.find_tree(tree.write().unwrap()).unwrap();
        let commit = repository.commit(None, &author, &author, "app", &tree, &[]).unwrap();
        let commit = commit.to_string().parse::<CommitId>().unwrap();
        let mut image = desired(&[("app", "2")]).images.remove(0);
        image.bases = BTreeMap::from([("web".to_owned(), "web:1".to_owned())]);
        let Wanted { order, context } = wanted(&store, commit, &image, None);
        assert_eq!(order.bases, BTreeMap::from([(key.to_owned(), "web:1".to_owned())]), "{dockerfile}");
        let sent: Vec<u8> = context().map(|piece| piece.unwrap().to_vec()).concat().await;
        let sent = String::from_utf8(sent).unwrap() + order.ignored_dockerfile.as_deref().unwrap_or_default();
        assert_eq!(sent.matches(&format!("FROM {key} AS")).count(), 1, "{dockerfile:?} {ignore:?}: {sent:?}");
    }
}

#[tokio::test]
async fn an_image_bears_the_commit_that_it_is_built_from_and_where_that_is() {
    let directory = tempfile::tempdir().unwrap();
    git2::Repository::init_bare(directory.path()).unwrap();
    let store = Store::open(directory.path(), &crate::source::Trust::default()).unwrap();
    let desired = desired(&[("web", "1")]);
    let labels = |url| wanted(&store, desired.commit, &desired.images[0], url).order.labels;
    let revision = ("org.opencontainers.image.revision".to_owned(), desired.commit.to_string());
    assert_eq!(labels(None), BTreeMap::from([revision.clone()]));
    let source = ("org.opencontainers.image.source".to_owned(), "https://git.example.org/todo.git".to_owned());
    assert_eq!(labels(Some(&source.1)), BTreeMap::from([revision, source.clone()]));
}
