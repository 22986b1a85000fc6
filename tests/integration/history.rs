//! What is kept of the commits of an environment, and shown of them.

use crate::harness::{Cluster, ControlPlane, Program, TestEnv};
use crate::scene::{SOON, Scene, config_map, short};

#[tokio::test]
async fn the_last_ten_commits_are_kept_with_how_each_ended_how_long_it_took_and_whose_it_was() {
    let scene = Scene::new("history").await;
    let _plumb = scene.run();
    let mut pushed = Vec::new();
    for value in 1..=12 {
        let commit = scene.push([("a.yaml", config_map("a", &[("x", &value.to_string())]))]);
        let entry = scene.deployed(commit).await;
        for stage in ["render", "plan", "dry-run", "apply", "prune"] {
            assert!(entry.took_ms.contains_key(stage), "{stage}: {entry:?}");
        }
        pushed.push(commit);
    }
    // What is deployed stays so while it is suspended; what is pushed then does not become so.
    scene.define("suspend: true");
    scene.condition("Synced", |synced| synced.reason == "Suspended").await;
    assert_eq!(scene.ended(pushed[11]).await.outcome, "Deployed");
    let waits = scene.push([("a.yaml", config_map("a", &[("x", "13")]))]);
    let entry = scene.ended(waits).await;
    assert_eq!((&*entry.outcome, entry.applied), ("Suspended", 0), "{entry:?}");
    assert_eq!(scene.data("a").await.as_deref(), Some("x=12"));
    let history = scene.environment().await.unwrap().status.unwrap().history;
    let kept: Vec<_> = history.iter().map(|entry| (entry.commit.clone(), &*entry.outcome)).collect();
    let deployed = pushed.iter().rev().map(|commit| (*commit, "Deployed"));
    let last = std::iter::once((waits, "Suspended")).chain(deployed).take(10);
    assert_eq!(kept, last.map(|(commit, outcome)| (commit.to_string(), outcome)).collect::<Vec<_>>());

    let (code, told) = scene.verb(&["history", &scene.name, "-n", "2"]).await;
    assert_eq!(code, Some(0), "{told}");
    let lines: Vec<&str> = told.lines().skip(1).collect();
    assert_eq!(lines.len(), 2, "{told}");
    for (line, (commit, outcome)) in lines.into_iter().zip([(waits, "Suspended"), (pushed[11], "Deployed")]) {
        let words = [&*short(commit), outcome, "A Tester", "test: a change"];
        words.iter().for_each(|word| assert!(line.contains(word), "no {word}: {told}"));
    }
}

#[tokio::test]
async fn a_commit_that_is_refused_has_the_time_of_each_stage_up_to_the_one_that_refused_it() {
    let scene = Scene::new("refused").await;
    let _plumb = scene.run();
    let good = scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
    scene.deployed(good).await;
    for (content, stages) in [
        ("a: [".to_owned(), &["render"][..]),
        (config_map("a", &[("not a key!", "1")]), &["dry-run", "plan", "render"]),
    ] {
        let entry = scene.ended(scene.push([("a.yaml", content)])).await;
        assert_eq!(entry.outcome, "Failed", "{entry:?}");
        assert!(entry.took_ms.keys().eq(stages), "{entry:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_while_the_api_server_is_away_is_told_in_its_order_once_it_answers_or_before_plumb_stops() {
    let cluster = Cluster::Own(ControlPlane::start(false).into());
    let scene = Scene::in_env(TestEnv::on(cluster.clone(), "untold").await, "").await;
    let control_plane = cluster.control_plane().unwrap();
    let mut plumb = scene.run();
    let good = scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
    scene.deployed(good).await;
    let mut ended = vec![good];
    control_plane.stop(Program::ApiServer);
    for number in 1..=3 {
        let bad = scene.push([("a.yaml", format!("a: [{number}"))]);
        plumb.wait_for_log(|line| line.contains(" failed ") && line.contains(&short(bad)), SOON).await;
        ended.insert(0, bad);
    }
    control_plane.start_again(Program::ApiServer);
    scene.ended(ended[0]).await;
    let history = async || -> Vec<String> {
        let history = scene.environment().await.unwrap().status.unwrap().history;
        history.into_iter().map(|entry| entry.commit).collect()
    };
    let expected = |ended: &[git2::Oid]| ended.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(history().await, expected(&ended));
    for bad in &ended[..3] {
        scene.told("DeploymentFailed", &[&short(*bad)]).await;
    }

    // Back before the next try, and plumb is told to stop: again if the API server took as long as that.
    loop {
        control_plane.stop(Program::ApiServer);
        let before = plumb.log_len();
        let bad = scene.push([("a.yaml", format!("a: [last {}", ended.len()))]);
        plumb.wait_for_log_after(before, |line| line.contains("the status could not be written"), SOON).await;
        control_plane.start_again(Program::ApiServer);
        let missed = history().await == expected(&ended);
        ended.insert(0, bad);
        if missed {
            break;
        }
    }
    // Ready, it may answer its first requests slowly; plumb's last words have a few seconds.
    plumb.terminate(SOON).await;
    assert_eq!(history().await, expected(&ended));
}
