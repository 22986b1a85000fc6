use std::future::pending;

use serde_json::json;

use super::*;
use crate::builder::BuildKit;
use crate::builder::containerd::Containerd;
use crate::daemon::tests::{definition, repository, shared, source};
use crate::model::Desired;
use crate::model::images::Image;
use crate::plan::Peers as _;
use crate::reconcile::Reconciler;
use crate::reconcile::images::Images;

#[tokio::test]
async fn the_watch_of_the_environments_must_not_end() {
    let (_states, source) = source();
    let (_stop, stopped) = channel::channel(false);
    let mut parents = tokio::spawn(async { panic!("a test's own") });
    let mut supervisor = Supervisor::new(shared(), Settings::default());
    let ended = supervisor.supervise(source, stopped, &mut parents).await;
    assert_eq!(ended, Err(DaemonError::ParentsEnded));
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_at_rest_is_alive_and_one_that_is_not_polled_is_not() {
    let (states, source) = source();
    let (stop, stopped) = channel::channel(false);
    let shared = shared();
    let pulses = shared.telemetry.pulses.clone();
    let alive = || pulses.reports().iter().all(|report| report.is_alive());
    let mut parents = tokio::spawn(pending());
    let mut supervisor = Supervisor::new(Arc::clone(&shared), Settings::default());
    {
        let mut following = std::pin::pin!(supervisor.supervise(source, stopped, &mut parents));
        let hour = tokio::time::sleep(Duration::from_secs(3600));
        tokio::select! {
            _ = &mut following => panic!("it follows until it is stopped"),
            () = hour => {}
        }
        assert_eq!(pulses.reports().len(), 1);
        assert!(alive());
        tokio::time::sleep(pulse::BOUND * 2).await;
        assert!(!alive(), "its thread is stuck");
        stop.send_replace(true);
        assert_eq!(following.await, Ok(()));
    }
    drop((states, supervisor));
    assert!(pulses.reports().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panicked_is_followed_by_a_pause_that_the_supervisor_does_not_wait_for() {
    let directory = tempfile::tempdir().unwrap();
    let mut supervisor = Supervisor::new(shared(), Settings::default());
    let task = supervisor.joined.spawn(async { panic!("a test's own") }).id();
    let wanted = Wanted::new(definition("dev"), None, None, repository(directory.path()));
    let running = Running { wanted: channel::channel(wanted).0, stop: channel::channel(false).0, task, leaving: false };
    supervisor.running.insert("dev".to_owned(), running);
    let panicked = supervisor.joined.join_next_with_id().await.unwrap();
    assert!(panicked.is_err());
    supervisor.ended(panicked);
    assert!(supervisor.running.contains_key("dev"), "it is not started again before the pause is over");
    let paused = supervisor.joined.join_next_with_id().await.unwrap();
    supervisor.ended(paused);
    assert!(supervisor.running.is_empty() && supervisor.joined.is_empty());
}

#[tokio::test]
async fn an_environment_without_a_task_is_about_to_use_no_image() {
    let nowhere = || "tcp://127.0.0.1:9".parse().unwrap();
    let images = Images::new(Arc::new(BuildKit::new(nowhere(), Containerd::new(nowhere()))));
    let shared = Arc::into_inner(shared()).unwrap().with_images(Some(images));
    let supervisor = Supervisor::new(Arc::new(shared), Settings::default());
    let source = serde_json::from_value(json!({"name": "web", "context": "."})).unwrap();
    let image = Image { source: Arc::new(source), tag: "1".to_owned(), bases: BTreeMap::new(), used: true };
    let desired = Desired { images: vec![image], ..Desired::only(CommitId::new([1; 20]), Vec::new()) };
    let claimed = || supervisor.shared.images.as_ref().unwrap().claimed();
    for name in ["dev", "prod"] {
        let asked = Reconciler::new(Arc::clone(&supervisor.shared), definition(name)).lacking(&desired).await;
        assert!(asked.is_err(), "there is no builder");
    }
    supervisor.left("dev");
    assert_eq!(claimed().len(), 1, "prod is about to use it");
    supervisor.left("prod");
    assert!(claimed().is_empty());
}

#[test]
fn a_branch_that_is_there_and_unreadable_is_not_gone() {
    let directory = tempfile::tempdir().unwrap();
    let (was, now) = (CommitId::new([1; 20]), CommitId::new([2; 20]));
    let last = Wanted::new(definition("dev"), None, Some(was), repository(directory.path()));
    let mut heads = Heads::default();
    assert_eq!(head_of("dev", &heads, Some(&last)), None, "gone");
    heads.unreadable.push("dev".to_owned());
    heads.unreadable.push("main".to_owned());
    assert_eq!(head_of("dev", &heads, Some(&last)), Some(was));
    assert_eq!(head_of("dev", &heads, None), None, "nobody knows where it was");
    assert_eq!(head_of("main", &heads, Some(&last)), None, "it followed another branch");
    heads.branches.insert("dev".to_owned(), now);
    assert_eq!(head_of("dev", &heads, Some(&last)), Some(now));
}

/// What they ask for is told when their heads move, before anybody acts on it.
#[tokio::test]
async fn every_environment_that_moves_is_unknown_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (was, now) = (CommitId::new([1; 20]), CommitId::new([2; 20]));
    let heads = |commit| Heads { branches: [("dev".to_owned(), commit)].into(), ..Heads::default() };
    let suspended = |name| {
        let mut definition = (*definition(name)).clone();
        definition.spec.suspend = true;
        Arc::new(definition)
    };
    let mut supervisor =
        Supervisor::new(shared(), Settings { only: vec!["dev".to_owned(), "off".to_owned()], ..Settings::default() });
    let defined = [definition("dev"), suspended("off"), definition("others"), definition("new")];
    let definitions: Defined = defined.iter().map(|it| (it.name.clone(), Ok(Arc::clone(it)))).collect();
    for definition in &defined[..2] {
        let wanted = Wanted::new(Arc::clone(definition), None, Some(was), repository(directory.path()));
        let task = supervisor.joined.spawn(pending()).id();
        let (wanted, stop) = (channel::channel(wanted).0, channel::channel(false).0);
        supervisor.running.insert(definition.name.clone(), Running { wanted, stop, task, leaving: false });
    }
    let peers = supervisor.shared.peers.clone();
    let known = || defined.each_ref().map(|it| peers.seen_from("another").has_rendered(&it.name));
    supervisor.tell_peers(&definitions, &heads(was));
    assert_eq!(known(), [false; 4]);
    defined.iter().for_each(|definition| peers.claims(definition, &Desired::only(was, Vec::new())));
    supervisor.tell_peers(&definitions, &heads(was));
    assert_eq!(known(), [true; 4], "nothing is new");
    supervisor.tell_peers(&definitions, &Heads::default());
    assert_eq!(known(), [true; 4], "without their branch they ask for what they did");
    supervisor.tell_peers(&definitions, &heads(now));
    assert_eq!(known(), [false; 4]);
}

#[tokio::test]
async fn an_environment_of_another_plumb_that_leaves_git_asks_for_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (commit, store) = (CommitId::new([1; 20]), repository(directory.path()));
    let heads = Heads { branches: [("dev".to_owned(), commit)].into(), ..Heads::default() };
    let mut supervisor = Supervisor::new(shared(), Settings { only: vec!["mine".to_owned()], ..Settings::default() });
    let mut unborn = (*definition("unborn")).clone();
    unborn.spec.branch = "not-pushed-yet".to_owned();
    let defined = [definition("left"), definition("stays"), Arc::new(unborn)];
    let mut definitions: Defined = defined.iter().map(|it| (it.name.clone(), Ok(Arc::clone(it)))).collect();
    supervisor.tell_peers(&definitions, &heads);
    let peers = supervisor.shared.peers.clone();
    let known = || defined.each_ref().map(|it| peers.seen_from("mine").has_rendered(&it.name));
    for definition in &defined {
        supervisor.look_on(definition, &heads, &store);
    }
    assert_eq!(known(), [false; 3]);
    definitions.retain(|name, _| name == "stays");
    supervisor.look_away(&definitions);
    assert_eq!(known(), [true, false, true], "it is known that they ask for nothing");
    let part_of = crate::model::applyset::id("left");
    assert_eq!(
        peers.seen_from("mine").environment_of(&part_of).as_deref(),
        Some("left"),
        "its objects may be taken over"
    );
    assert_eq!(supervisor.looked_on.keys().collect::<Vec<_>>(), ["stays"], "and nothing more is learned of it");
}
