//! A newer head while an older commit is still being written.

use anyhow::ensure;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use crate::harness::{Change, Cluster, ControlPlane, Program, TestEnv, eventually};
use crate::scene::{SOON, Scene, config_map, short};

const MANY: usize = 1200;

/// Many ConfigMaps in one file, all with this value.
fn many(value: &str) -> String {
    config_maps(MANY, value)
}

fn config_maps(count: usize, value: &str) -> String {
    let objects: Vec<_> = (0..count).map(|number| config_map(&format!("m-{number}"), &[("x", value)])).collect();
    objects.join("---\n")
}

impl Scene {
    /// How many ConfigMaps have this value.
    async fn with_value(&self, value: &str) -> usize {
        let api: Api<ConfigMap> = self.config_maps();
        let has = |object: &ConfigMap| object.data.as_ref().and_then(|data| data.get("x")).is_some_and(|x| x == value);
        let list = api.list(&ListParams::default().labels("applyset.kubernetes.io/part-of")).await.unwrap();
        list.items.iter().filter(|object| has(object) && object.name_any().starts_with("m-")).count()
    }

    /// Waits until the writes of this value have begun: asks for one of the first only, so that it does not take longer than they do.
    async fn begun(&self, value: &str) {
        let wanted = format!("x={value}");
        eventually(SOON, || async {
            ensure!(self.data("m-0").await.as_ref() == Some(&wanted), "nothing is written yet");
            Ok(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_head_that_passes_its_gates_stops_the_older_writes() {
    let cluster = Cluster::Own(ControlPlane::start(false).into());
    let scene = Scene::in_env(TestEnv::on(cluster.clone(), "newer").await, "").await;
    let Some(audit) = scene.env.audit() else { return };
    let all = 3000;
    let first = scene.push([("many.yaml", config_maps(all, "1"))]);
    let plumb = scene.run();
    scene.deployed(first).await;

    let mark = audit.mark().await;
    let second = scene.push([("many.yaml", config_maps(all, "2"))]);
    scene.begun("2").await;
    // The API server stands still while plumb reads the newer commit: however slow the machine, most of the older one is yet to be written.
    let control_plane = cluster.control_plane().unwrap();
    control_plane.pause(Program::ApiServer);
    let third = scene.push([("many.yaml", config_maps(all, "1")), ("a.yaml", config_map("a", &[("x", "3")]))]);
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    control_plane.resume(Program::ApiServer);
    scene.deployed(third).await;
    assert_eq!(scene.with_value("1").await, all);
    assert_eq!(scene.data("a").await.as_deref(), Some("x=3"));
    let entry = scene.ended(second).await;
    assert_eq!((entry.outcome.as_str(), entry.message), ("SupersededBy", Some(third.to_string())));
    let applied = usize::try_from(entry.applied).unwrap();
    assert!(applied > 0 && applied < all, "{applied} of {all} were written: nothing was overtaken");
    // Every write of the older commit was answered before it ended: none was cut.
    let writes = scene.member_writes(&audit.since(mark).await);
    assert!(writes.0.iter().all(|event| event.code() == 200 || event.code() == 201));
    assert!(plumb.log().iter().any(|line| line.contains("superseded") && line.contains(&short(second))));
}

#[tokio::test]
async fn a_newer_head_that_is_refused_does_not() {
    let scene = Scene::new("worse").await;
    let first = scene.push([("many.yaml", many("1"))]);
    let _plumb = scene.run();
    scene.deployed(first).await;

    for bad in ["kind: [", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Not_A_Name}\n"] {
        let good =
            scene.push([("many.yaml", many(&format!("before {}", bad.len()))), ("bad.yaml", "# none\n".to_owned())]);
        scene.begun(&format!("before {}", bad.len())).await;
        let worse = scene.push([("bad.yaml", bad)]);
        scene.failed(worse).await;
        scene.deployed(good).await;
        assert_eq!(scene.with_value(&format!("before {}", bad.len())).await, MANY);
    }
    // The head is still the bad one; the next good one is deployed.
    let last = scene.push([("bad.yaml", Change::Remove), ("a.yaml", config_map("a", &[("x", "1")]).into())]);
    scene.deployed(last).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspension_is_seen_while_a_newer_head_is_at_its_gates() {
    let cluster = Cluster::Own(ControlPlane::start(false).into());
    let scene = Scene::in_env(TestEnv::on(cluster.clone(), "halt").await, "").await;
    let first = scene.push([("many.yaml", many("1"))]);
    let mut plumb = scene.run();
    scene.deployed(first).await;
    let second = scene.push([("many.yaml", many("2"))]);
    scene.begun("2").await;
    // The newer head's gates need the API server, and wait for it.
    let control_plane = cluster.control_plane().unwrap();
    control_plane.pause(Program::ApiServer);
    let third = scene.push([("many.yaml", many("3"))]);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    scene.define("suspend: true");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    control_plane.resume(Program::ApiServer);
    assert_eq!(scene.ended(third).await.outcome, "Suspended");
    assert_eq!(scene.with_value("3").await, 0, "written although the environment is suspended");
    assert!(!plumb.log().iter().any(|line| line.contains("deployed") && line.contains(&short(second))));
    // The head goes through its gates again when the environment goes on.
    scene.define("");
    scene.deployed(third).await;
    plumb.terminate(SOON).await;
    assert_eq!(scene.with_value("3").await, MANY);
}

#[tokio::test]
async fn a_burst_of_pushes_ends_at_the_last() {
    let scene = Scene::new("burst").await;
    let first = scene.push([("many.yaml", many("0"))]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    let mut last = first;
    for number in 1..=12 {
        last = scene.push([("many.yaml", many(&number.to_string()))]);
        tokio::time::sleep(std::time::Duration::from_millis(number * 15)).await;
    }
    scene.deployed(last).await;
    assert_eq!(scene.with_value("12").await, MANY);
    let history = scene.environment().await.unwrap().status.unwrap().history;
    assert_eq!(history[0].commit, last.to_string());
    assert!(history.iter().all(|entry| entry.outcome != "Failed"), "{history:#?}");
}
