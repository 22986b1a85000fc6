//! Builds that a newer commit does not need, although it needs some of the same images.

use super::{Yard, built, deployment, dockerfile};
use crate::harness::{gone, running};
use crate::scene::SOON;

const PLUMB_YAML: &str = "images:\n- {name: ground, context: apps/ground}\n- {name: web, context: apps/web}\n";

/// More than an environment builds at once.
const WORDS: [&str; 3] = ["outdated-by-the-second", "outdated-by-the-third", "outdated-by-one-that-ends"];

fn on_ground(more: &str) -> String {
    format!("FROM ground\n{more}\n")
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn what_a_newer_commit_with_the_same_base_does_not_need_is_cancelled_at_once() {
    let yard = Yard::new("outdated").await;
    let first = yard.push([
        ("plumb.yaml", PLUMB_YAML.to_owned()),
        ("apps/ground/Dockerfile", dockerfile("")),
        ("apps/ground/answer", yard.answer("ground")),
        ("apps/web/Dockerfile", on_ground("LABEL first=yes")),
        ("manifests/web.yaml", deployment("web")),
    ]);
    let mut plumb = yard.run();
    yard.scene.deployed(first).await;
    let web = yard.runs("web").await;

    // hello serves until it is stopped: these builds have no end.
    let mut pushed = Vec::new();
    for (number, word) in WORDS.into_iter().enumerate() {
        pushed.push(
            yard.push([("apps/web/Dockerfile", on_ground(&format!("ENV PORT=0\nRUN [\"/hello\", \"{word}\"]")))]),
        );
        running(word).await;
        if let Some(before) = number.checked_sub(1) {
            gone(WORDS[before]).await;
        }
    }
    let quick = yard.push([("apps/web/Dockerfile", on_ground("LABEL quick=yes"))]);
    yard.scene.deployed(quick).await;
    yard.runs_another("web", &web).await;
    gone(WORDS[2]).await;
    for (number, commit) in pushed.iter().enumerate() {
        let entry = yard.scene.ended(*commit).await;
        let newer = pushed.get(number + 1).unwrap_or(&quick);
        assert_eq!((entry.outcome.as_str(), entry.message), ("SupersededBy", Some(newer.to_string())));
    }
    assert_eq!((built(&plumb, "ground"), built(&plumb, "web")), (1, 2), "{:#?}", plumb.log());
    assert!(!plumb.log().iter().any(|line| line.contains(" ERROR ")), "{:#?}", plumb.log());
    plumb.terminate(SOON).await;
}
