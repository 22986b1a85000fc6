//! What is kept of the commits of an environment, and shown of them.

use anyhow::ensure;

use crate::harness::eventually;
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
    // What is deployed is suspended, and so is what is pushed then.
    scene.define("suspend: true");
    eventually(SOON, || async {
        let entry = scene.ended(pushed[11]).await;
        ensure!(entry.outcome == "Suspended", "{entry:?}");
        Ok(())
    })
    .await;
    let waits = scene.push([("a.yaml", config_map("a", &[("x", "13")]))]);
    let entry = scene.ended(waits).await;
    assert_eq!((&*entry.outcome, entry.applied), ("Suspended", 0), "{entry:?}");
    assert_eq!(scene.data("a").await.as_deref(), Some("x=12"));
    let history = scene.environment().await.unwrap().status.unwrap().history;
    let kept: Vec<_> = history.iter().map(|entry| (entry.commit.clone(), &*entry.outcome)).collect();
    let suspended = [waits, pushed[11]].map(|commit| (commit, "Suspended"));
    let deployed = pushed.iter().rev().map(|commit| (*commit, "Deployed"));
    let last = suspended.into_iter().chain(deployed).take(10);
    assert_eq!(kept, last.map(|(commit, outcome)| (commit.to_string(), outcome)).collect::<Vec<_>>());

    let (code, told) = scene.verb(&["history", &scene.name, "-n", "2"]).await;
    assert_eq!(code, Some(0), "{told}");
    let lines: Vec<&str> = told.lines().skip(1).collect();
    assert_eq!(lines.len(), 2, "{told}");
    for (line, commit) in lines.into_iter().zip([waits, pushed[11]]) {
        let words = [&*short(commit), "Suspended", "A Tester", "test: a change"];
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
