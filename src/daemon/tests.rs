use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use serde_json::json;
use tokio::task::JoinSet;

use super::*;
use crate::cluster::Cluster;
use crate::model::Desired;
use crate::model::marks::Instance;
use crate::plan::Peers as _;
use crate::reconcile::{Mode, Reconciler};
use crate::render::Tools;
use crate::source::{self, RepositoryUrl, SourceSettings, Trust};
use crate::telemetry::{Pulses, pulse};

fn shared_at(address: SocketAddr) -> Arc<Shared> {
    let instance = Instance { name: "test".to_owned(), run: "1".to_owned() };
    Arc::new(Shared::new(Cluster::at(address), instance, Tools::default()))
}

/// Over a cluster whose connections are refused.
pub(super) fn shared() -> Arc<Shared> {
    shared_at("127.0.0.1:9".parse().unwrap())
}

pub(super) fn definition(name: &str) -> Arc<Definition> {
    let spec = serde_json::from_value(json!({"branch": "dev", "namespace": "n", "path": "."})).unwrap();
    let (labels, annotations, file) = (BTreeMap::new(), BTreeMap::new(), "environment.yaml".into());
    Arc::new(Definition { name: name.to_owned(), labels, annotations, spec, file })
}

pub(super) fn repository(directory: &Path) -> Store {
    git2::Repository::init_bare(directory).unwrap();
    Store::open(directory, &Trust::default()).unwrap()
}

/// Panics if a task hangs at any moment of this time.
async fn all_alive(pulses: &Pulses, during: Duration) {
    let end = tokio::time::Instant::now() + during;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(7)).await;
        let hang: Vec<_> = pulses.reports().into_iter().filter(|report| !report.is_alive()).collect();
        assert!(hang.is_empty(), "{hang:?}");
    }
}

pub(super) fn source() -> (channel::Sender<Arc<SourceState>>, channel::Receiver<Arc<SourceState>>) {
    channel::channel(Arc::new(SourceState::Waiting { reason: "a test".to_owned() }))
}

#[tokio::test]
async fn a_source_that_ended_is_an_error_and_a_stop_is_none() {
    let (states, source) = source();
    let (_stop, stopped) = channel::channel(false);
    drop(states);
    let ended = run(shared(), Settings::default(), source, stopped).await;
    assert_eq!(ended, Err(DaemonError::SourceEnded));

    // Told to stop, the source ends too, and may be the first to be seen.
    let (states, source) = self::source();
    let (stop, stopped) = channel::channel(false);
    stop.send_replace(true);
    drop(states);
    assert_eq!(run(shared(), Settings::default(), source, stopped).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn an_hour_without_api_server_and_repository_is_no_hang() {
    let (shared, directory) = (shared(), tempfile::tempdir().unwrap());
    let (stop, stopped) = channel::channel(false);
    let nothing = SourceSettings::new(RepositoryUrl::Local(directory.path().join("nothing")));
    let (source, watching) = source::watch(nothing, &shared.telemetry, stopped.clone());
    let daemon = tokio::spawn(run(Arc::clone(&shared), Settings::default(), source, stopped.clone()));
    let store = repository(&directory.path().join("repo.git"));
    let wanted = Wanted::new(definition("dev"), None, None, store);
    let (_wanted, wanted) = channel::channel(wanted);
    let task = Task::new(Arc::clone(&shared), Settings::default(), wanted, stopped);
    let environment = tokio::spawn(task.run());

    all_alive(&shared.telemetry.pulses, Duration::from_secs(3600)).await;
    let tasks: Vec<String> = shared.telemetry.pulses.reports().into_iter().map(|report| report.task).collect();
    assert_eq!(tasks, ["environment dev", "source", "supervisor", "watch of Environment.plumb.dev"]);
    stop.send_replace(true);
    assert_eq!(daemon.await.unwrap(), Ok(()));
    environment.await.unwrap();
    watching.await.unwrap();
}

/// Forty environments start at once and ask, one after the other, an API server that takes their connections and says nothing: the last has its time-out
/// after twenty minutes.
#[tokio::test(start_paused = true)]
async fn a_long_queue_for_an_api_server_that_says_nothing_is_no_hang() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (shared, directory) = (shared_at(silent.local_addr().unwrap()), tempfile::tempdir().unwrap());
    let (store, commit) = (repository(directory.path()), CommitId::new([1; 20]));
    let pulses = shared.telemetry.pulses.clone();
    let began = tokio::time::Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..40 {
        let pulse = pulses.enter(format!("environment {number}"), pulse::BOUND);
        let reconciler = Reconciler::new(Arc::clone(&shared), definition("dev")).with_pulse(pulse);
        let store = store.clone();
        tasks.spawn(async move { reconciler.prepare(&store, commit, Mode::Commit, None).await.err() });
    }
    all_alive(&pulses, Duration::from_secs(1100)).await;
    assert!(!tasks.is_empty() && !pulses.reports().is_empty(), "some are still in the queue");
    while let Some(failure) = tasks.join_next().await {
        assert!(failure.unwrap().unwrap().transient);
    }
    assert!(began.elapsed() > pulse::BOUND * 3);
}

/// It is tried again, and may ask for anything then.
#[tokio::test]
async fn a_failure_that_may_pass_by_itself_does_not_tell_what_a_head_asks_for() {
    let (shared, directory) = (shared(), tempfile::tempdir().unwrap());
    let (store, dev) = (repository(directory.path()), definition("dev"));
    let repository = git2::Repository::open(directory.path()).unwrap();
    let commit = |text: &[u8]| {
        let mut tree = repository.treebuilder(None).unwrap();
        tree.insert(&*dev.file, repository.blob(text).unwrap(), 0o100_644).unwrap();
        let tree = repository.find_tree(tree.write().unwrap()).unwrap();
        let author = git2::Signature::now("a", "a@example.org").unwrap();
        let id = repository.commit(None, &author, &author, "x", &tree, &[]).unwrap();
        id.to_string().parse::<CommitId>().unwrap()
    };
    let (configuration, wrong, absent) = (commit(b"on main"), commit(b"no: definition"), CommitId::new([9; 20]));
    shared.configured("main", configuration);
    let reconciler = Reconciler::new(Arc::clone(&shared), Arc::clone(&dev));
    let known = || shared.peers.seen_from("prod").has_rendered("dev");
    for (head, transient) in [(absent, true), (wrong, false)] {
        shared.peers.enter([(&dev, Some(configuration))]);
        shared.peers.claims(&dev, &Desired::only(configuration, Vec::new()));
        shared.peers.enter([(&dev, Some(head))]);
        let failure = reconciler.check_own_definition(&store, head).await.unwrap_err();
        assert_eq!((failure.transient, known()), (transient, !transient), "{failure}");
    }
}
