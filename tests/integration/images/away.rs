//! What was deployed stands and is put back, also while its builder is away.

use std::path::Path;

use anyhow::ensure;

use super::Yard;
use crate::harness::eventually;
use crate::scene::{SOON, config_map, short};

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn with_its_builder_away_plumb_starts_and_heals_what_it_deployed() {
    let yard = Yard::new("away").await;
    yard.push([("manifests/c.yaml", config_map("c", &[("x", "1")]))]);
    let first = yard.push_both();
    let mut plumb = yard.run();
    yard.scene.deployed(first).await;
    plumb.terminate(SOON).await;

    let nowhere = yard.scene.env.repository().path().join("no.sock");
    let nowhere = format!("unix://{}", nowhere.display());
    let mut plumb = yard.scene.run_with(&["--builder", &nowhere, "--containerd", &nowhere]);
    yard.scene.kubectl_ok(&["delete", "configmap", "c", "-n", &yard.scene.namespace], "").await;
    eventually(SOON, || async {
        ensure!(yard.scene.data("c").await.as_deref() == Some("x=1"), "not made again yet");
        Ok(())
    })
    .await;
    yard.push([("apps/web/answer", yard.answer("web 2"))]);
    let waits = plumb.wait_for_log(|line| line.contains(" waiting: "), SOON).await;
    assert!(waits.contains("is away"), "{waits}");
}

/// Nor does it matter that the head is a commit after the one that was deployed, which asked for nothing else.
#[tokio::test]
#[ignore = "needs root: make integration"]
async fn resyncs_of_a_commit_that_changed_nothing_need_no_builder() {
    let yard = Yard::new("awaylater").await;
    yard.scene.define("resync: 1s");
    yard.push([("manifests/c.yaml", config_map("c", &[("x", "1")]))]);
    let first = yard.push_both();
    let place = tempfile::tempdir().unwrap();
    let link = |socket: &Path, name: &str| {
        std::os::unix::fs::symlink(socket, place.path().join(name)).unwrap();
        format!("unix://{}", place.path().join(name).display())
    };
    let (buildkit, containerd) = (link(&yard.node.buildkit(), "b"), link(&yard.node.containerd(), "c"));
    let mut plumb = yard.scene.run_with(&["--builder", &buildkit, "--containerd", &containerd, "--log", "debug"]);
    yard.scene.deployed(first).await;
    let before = plumb.log_len();
    let docs = short(yard.push([("README.md", "Words.\n".to_owned())]));
    plumb.wait_for_log_after(before, |line| line.contains(" unchanged ") && line.contains(&docs), SOON).await;

    ["b", "c"].iter().for_each(|name| std::fs::remove_file(place.path().join(name)).unwrap());
    for _ in 0..3 {
        let before = plumb.log_len();
        plumb.wait_for_log_after(before, |line| line.contains(" resync "), SOON).await;
    }
    yard.scene.kubectl_ok(&["delete", "configmap", "c", "-n", &yard.scene.namespace], "").await;
    yard.scene.data_becomes("c", Some("x=1")).await;
    yard.scene.condition("Synced", |condition| condition.status == "True").await;
    assert!(!plumb.log().iter().any(|line| line.contains(" failed ")), "{:#?}", plumb.log());
}
