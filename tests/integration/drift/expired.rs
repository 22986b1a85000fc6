//! The API server has lost the history that a watch wants to go on from: what happened meanwhile is noticed all the same.

use kube::api::{DeleteParams, Patch, PatchParams};
use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Cluster, ControlPlane, Program, TestEnv, eventually};
use crate::scene::{SOON, Scene, config_map};

/// Its watch cache knows no history from before its start.
fn restart_api_server(cluster: &Cluster) {
    let control_plane = cluster.control_plane().expect("its own");
    tokio::task::block_in_place(|| {
        control_plane.stop(Program::ApiServer);
        control_plane.start_again(Program::ApiServer);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_while_the_history_was_lost_is_put_back() {
    let cluster = Cluster::Own(ControlPlane::start(false).into());
    let scene = Scene::in_env(TestEnv::on(cluster.clone(), "expired").await, "").await;
    let first = scene.push([("a.yaml", config_map("a", &[("x", "1")])), ("b.yaml", config_map("b", &[("x", "1")]))]);
    let mut plumb = scene.run_with(&["--log", "debug"]);
    scene.deployed(first).await;

    plumb.signal(Signal::STOP);
    restart_api_server(&cluster); // Its connections are gone, and nothing of what follows waits in them.
    let maps = scene.config_maps();
    eventually(SOON, || async {
        let patch = Patch::Merge(json!({"data": {"x": "by hand"}}));
        maps.patch("a", &PatchParams::default(), &patch).await?;
        Ok(())
    })
    .await;
    maps.delete("b", &DeleteParams::default()).await.unwrap();
    restart_api_server(&cluster);
    plumb.signal(Signal::CONT);

    plumb.wait_for_log(|line| line.contains("watch expired") && line.contains("ConfigMap"), SOON).await;
    for (object, class) in [("/a", "value-changed"), ("/b", "deleted")] {
        let told = |line: &str| line.contains("drift") && line.contains(object) && line.contains(class);
        plumb.wait_for_log(told, SOON).await;
    }
    scene.data_becomes("a", Some("x=1")).await;
    scene.data_becomes("b", Some("x=1")).await;
}
