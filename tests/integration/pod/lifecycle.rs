//! plumb is upgraded, uninstalled and installed again, as `docs/upgrade-and-uninstall.md` tells: what it has deployed runs on, and is not written.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;

use super::stand::{ROOT, Stand, dockerfile, push_web, run};
use crate::harness::eventually;
use crate::scene::SOON;

pub async fn another_version_writes_nothing(stand: &Stand) {
    let before = at_rest(stand).await;
    let kustomization = next_version(stand);
    stand.install(kustomization.path()).await;
    eventually(SOON, || async {
        let images = stand.images_of_plumb().await;
        ensure!(images == ["plumb:0.1.1", "plumb:0.1.1"], "{images:?}");
        Ok(())
    })
    .await;
    nothing_was_written(stand, &before).await;

    let commit = push_web(stand, "web 8", dockerfile(""));
    stand.scene.deployed(commit).await;
    stand.answers("web", "web 8").await;
    stand.built([8, 1]).await;
}

pub async fn uninstalled_it_leaves_workloads_and_installed_again_it_goes_on(stand: &Stand) {
    let before = at_rest(stand).await;
    let kustomization = next_version(stand);
    stand.uninstall(kustomization.path()).await;
    let namespaces: Api<Namespace> = Api::all(stand.scene.env.admin());
    for namespace in ["plumb", "plumb-builder"] {
        assert!(namespaces.get_opt(namespace).await.unwrap().is_none(), "{namespace} is still there");
    }
    let kinds = stand.scene.kubectl_ok(&["get", "crd", "--output=name"], "").await;
    assert!(!kinds.contains("plumb.dev"), "{kinds}");
    unchanged(stand, &before).await;
    stand.answers("api", "api 1").await;
    stand.answers("web", "web 8").await;

    stand.install(kustomization.path()).await;
    nothing_was_written(stand, &before).await;
    let commit = push_web(stand, "web 9", dockerfile(""));
    stand.scene.deployed(commit).await;
    stand.answers("web", "web 9").await;
    stand.built([9, 1]).await;
}

/// The pod that has just been installed has looked at everything, and everything is what it was.
async fn nothing_was_written(stand: &Stand, before: &BTreeSet<String>) {
    let log = eventually(SOON, || async {
        let pod = stand.plumb_pod().await.metadata.name.unwrap_or_default();
        let log = stand.scene.kubectl_ok(&["logs", &pod, "-n", "plumb"], "").await;
        ensure!(log.contains(r#""message":"deployed""#), "it has not looked yet: {log}");
        Ok(log)
    })
    .await;
    let deployed = log.lines().find(|line| line.contains(r#""message":"deployed""#)).unwrap_or_default();
    assert!(deployed.contains(r#""applied":0,"#) && deployed.contains(r#""pruned":0,"#), "{deployed}");
    assert!(!log.contains("drift"), "{log}");
    unchanged(stand, before).await;
}

async fn unchanged(stand: &Stand, before: &BTreeSet<String>) {
    let now = workloads(stand).await;
    let changed: Vec<_> = now.symmetric_difference(before).collect();
    assert!(changed.is_empty(), "{changed:#?}");
}

/// What stands when the last deployment's old pods have gone.
async fn at_rest(stand: &Stand) -> BTreeSet<String> {
    eventually(SOON, || async {
        ensure!(stand.pods("web").await.len() == 1, "the old pod is still there");
        let before = workloads(stand).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let after = workloads(stand).await;
        ensure!(after == before, "it still moves: {:?}", after.difference(&before));
        Ok(after)
    })
    .await
}

/// What stands in the environment's namespace, with what changes when it is made anew or written; pods, whose status the kubelet writes at any time, with what
/// changes when they are made anew or restarted.
async fn workloads(stand: &Stand) -> BTreeSet<String> {
    let table = async |kinds: &str, last: &str| {
        let columns = format!("custom-columns=KIND:.kind,NAME:.metadata.name,UID:.metadata.uid,LAST:{last}");
        stand.scene.kubectl_ok(&["get", kinds, "-n", &stand.scene.namespace, "--output", &columns], "").await
    };
    let written =
        table("deployments,replicasets,services,endpointslices,configmaps", ".metadata.resourceVersion").await;
    let pods = table("pods", ".status.containerStatuses[*].restartCount").await;
    written.lines().chain(pods.lines()).map(str::to_owned).collect()
}

/// The next version: for this test the same image with another tag.
fn next_version(stand: &Stand) -> tempfile::TempDir {
    let mut tag = Command::new(stand.node.program("ctr"));
    tag.arg("--address").arg(stand.node.containerd()).args(["--namespace", "k8s.io", "images", "tag", "--force"]);
    run(tag.args(["docker.io/library/plumb:0.1.0", "docker.io/library/plumb:0.1.1"]));
    let directory = tempfile::tempdir().unwrap();
    run(Command::new("cp").arg("-r").arg(Path::new(ROOT).join("deploy")).arg(directory.path()));
    let text = "resources: [deploy]\nimages: [{name: plumb, newTag: 0.1.1}]\n";
    std::fs::write(directory.path().join("kustomization.yaml"), text).unwrap();
    directory
}
