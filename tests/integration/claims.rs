//! The Environment object: one plumb writes to it, it is as git says, and it is an ApplySet's parent.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use plumb::model::Environment;
use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Change, Cluster, ControlPlane, Plumb, Program, TestEnv, eventually};
use crate::scene::{SOON, Scene, config_map, part_of, short};

impl Scene {
    fn run_as(&self, instance: &str, more: &[&str]) -> Plumb {
        let repository = self.env.repository().path();
        let args = ["run", "--repo", repository.to_str().unwrap(), "--instance", instance];
        Plumb::spawn(self.env.kubeconfig(), args.iter().chain(more))
    }

    fn environments(&self) -> Api<Environment> {
        Api::all(self.env.admin())
    }

    async fn holder(&self) -> Option<String> {
        self.environment().await?.annotations().get("plumb.dev/instance").cloned()
    }
}

#[tokio::test]
async fn one_plumb_writes_to_an_environment() {
    let scene = Scene::new("writer").await;
    let first = scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
    let mut one = scene.run_as("one", &[]);
    scene.deployed(first).await;
    assert!(scene.holder().await.unwrap().starts_with("one#"));

    // Another installation is refused, whatever the verb, and names the holder.
    let mut other = scene.run_as("other", &[]);
    let line = other.wait_for_log(|line| line.contains("held by another plumb"), SOON).await;
    assert!(line.contains("one") && line.contains("--take-over"), "{line}");
    let (code, output) = scene.verb(&["apply", &scene.name, "--instance", "third"]).await;
    assert!(code == Some(1) && output.contains("\"one\""), "{output}");
    let second = scene.push([("a.yaml", config_map("a", &[("x", "2")]))]);
    scene.deployed(second).await;
    assert!(!other.log().iter().any(|line| line.contains("deployed")));

    // Ctrl-C gives the claim up, and who waits for it has it.
    one.signal(Signal::INT);
    assert!(one.wait(SOON).await.success());
    other.wait_for_log(|line| line.contains("deployed") || line.contains("unchanged"), SOON).await;
    assert!(scene.holder().await.unwrap().starts_with("other#"));

    // A restart of the same installation goes on at once, also after a kill.
    other.kill();
    let held = scene.holder().await.unwrap();
    let mut other = scene.run_as("other", &[]);
    let third = scene.push([("a.yaml", config_map("a", &[("x", "3")]))]);
    scene.deployed(third).await;
    assert_ne!(scene.holder().await.unwrap(), held);

    // Taken over, and the one that had it writes no more.
    let mut taker = scene.run_as("taker", &["--take-over"]);
    eventually(SOON, || async {
        ensure!(scene.holder().await.is_some_and(|holder| holder.starts_with("taker#")), "not taken over yet");
        Ok(())
    })
    .await;
    other
        .wait_for_log(
            |line| line.contains("held by another plumb") || line.contains("taken the environment over"),
            SOON,
        )
        .await;
    let seen = other.log_len();
    let fourth = scene.push([("a.yaml", config_map("a", &[("x", "4")]))]);
    taker.wait_for_log(|line| line.contains("deployed") && line.contains(&short(fourth)), SOON).await;
    assert!(!other.log()[seen..].iter().any(|line| line.contains("deployed")), "both write");

    // Two runs of one installation do not fight either: the later one has it.
    let mut later = scene.run_as("taker", &[]);
    taker.wait_for_log(|line| line.contains("taken the environment over"), SOON).await;
    let fifth = scene.push([("a.yaml", config_map("a", &[("x", "5")]))]);
    later.wait_for_log(|line| line.contains("deployed") && line.contains(&short(fifth)), SOON).await;
    assert!(!taker.log().iter().any(|line| line.contains(&short(fifth))));

    // A new definition is written by the one that has it; the other knows only the old one, and keeps it to itself.
    let (before, seen) = (later.log_len(), taker.log_len());
    scene.define("resync: 1h");
    let sixth = scene.push([("a.yaml", config_map("a", &[("x", "6")]))]);
    later.wait_for_log(|line| line.contains("deployed") && line.contains(&short(sixth)), SOON).await;
    scene.define("resync: 2h");
    eventually(SOON, || async {
        let resync = scene.environment().await.unwrap().spec.resync.get();
        ensure!(resync == Duration::from_secs(7200), "{resync:?}");
        Ok(())
    })
    .await;
    // Nor is it written when that one has gone. The other installation waits for that too, so it has to go first.
    other.signal(Signal::INT);
    assert!(other.wait(SOON).await.success());
    later.signal(Signal::INT);
    assert!(later.wait(SOON).await.success());
    let seventh = scene.push([("a.yaml", config_map("a", &[("x", "7")]))]);
    taker.wait_for_log(|line| line.contains("deployed") && line.contains(&short(seventh)), SOON).await;
    let told: Vec<_> = taker.log().split_off(seen).into_iter().chain(later.log().split_off(before)).collect();
    assert!(!told.iter().any(|line| line.contains("drift")), "{told:#?}");
}

/// A CI that cancels its job sends SIGTERM.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_apply_that_is_cancelled_gives_its_claim_up() {
    let cluster = Cluster::Own(ControlPlane::start(false).into());
    let scene = Scene::in_env(TestEnv::on(cluster.clone(), "cancel").await, "").await;
    let many: Vec<_> = (0..4000).map(|number| config_map(&format!("m-{number}"), &[("x", "1")])).collect();
    scene.push([("many.yaml", many.join("---\n"))]);
    for signal in [Signal::TERM, Signal::INT] {
        let repository = scene.env.repository().path().to_owned();
        let mut apply =
            Plumb::spawn(scene.env.kubeconfig(), ["apply", &scene.name, "--repo", repository.to_str().unwrap()]);
        eventually(SOON, || async {
            ensure!(scene.holder().await.is_some(), "not claimed yet");
            Ok(())
        })
        .await;
        // The API server stands still, so that it can't be done before it is cancelled.
        let control_plane = cluster.control_plane().unwrap();
        control_plane.pause(Program::ApiServer);
        apply.signal(signal);
        apply.wait_for_log(|line| line.contains("stopping"), SOON).await;
        control_plane.resume(Program::ApiServer);
        assert_eq!(apply.wait(SOON).await.code(), Some(1));
        // Or before it had begun, if it was that fast.
        assert!(apply.output().await.contains("stopped before"), "{:?}", apply.log());
        assert_eq!(scene.holder().await, None);
    }
}

#[tokio::test]
async fn the_environment_object_is_as_git_says() {
    let scene = Scene::with("object", "resync: 1h").await;
    let first = scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
    let mut plumb = scene.run();
    scene.deployed(first).await;
    let wanted = scene.environment().await.unwrap().spec;
    let as_wanted = || async {
        let now = scene.environment().await.map(|environment| environment.spec);
        ensure!(now.as_ref() == Some(&wanted), "the spec is {now:?}");
        Ok(())
    };
    // A value of git's, a value that git leaves at its default, and fields that git does not have.
    for edit in [
        json!({"branch": "other"}),
        json!({"suspend": true}),
        json!({"serviceAccount": "cluster-admin"}),
        json!({"allow": {"namespaces": ["kube-system"]}, "values": ["x.yaml"]}),
    ] {
        let seen = plumb.log_len();
        scene
            .environments()
            .patch(&scene.name, &PatchParams::default(), &Patch::Merge(json!({"spec": edit})))
            .await
            .unwrap();
        let line = plumb.wait_for_log_after(seen, |line| line.contains("drift"), SOON).await;
        assert!(line.contains(&format!("Environment/{}", scene.name)), "{line}");
        eventually(SOON, as_wanted).await;
    }
    // It has come to rest.
    let state = || async { (scene.environment().await.unwrap().resource_version(), plumb.log_len()) };
    eventually(SOON, || async {
        let before = state().await;
        tokio::time::sleep(Duration::from_secs(2)).await; // A status may come a second later.
        let after = state().await;
        ensure!(after == before, "{before:?}, {after:?}: {:#?}", plumb.log());
        Ok(())
    })
    .await;

    // Deleted, it is made again with its marks and status, and nothing happens to its objects.
    let identity = scene.identity("a").await;
    let status = scene.environment().await.unwrap().status;
    scene.environments().delete(&scene.name, &DeleteParams::default()).await.unwrap();
    eventually(SOON, || async {
        let made = scene.environment().await;
        ensure!(made.as_ref().is_some_and(|made| made.status == status), "not made again: {made:?}");
        Ok(())
    })
    .await;
    eventually(SOON, as_wanted).await;
    let made = scene.environment().await.unwrap();
    assert_eq!(made.annotations()["applyset.kubernetes.io/contains-group-kinds"], "ConfigMap");
    assert_eq!(scene.identity("a").await, identity);
    let second = scene.push([("a.yaml", config_map("a", &[("x", "2")]))]);
    scene.deployed(second).await;
}

#[tokio::test]
async fn an_environment_is_an_applyset_that_kubectl_leaves_alone() {
    let scene = Scene::new("applyset").await;
    let other = scene.env.name("elsewhere");
    scene.define(&format!("allow:\n  namespaces: [{other}]\n  clusterScoped: [Namespace]"));
    let first = scene.push([
        ("a.yaml", config_map("a", &[("x", "1")])),
        ("s.yaml", format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: {other}}}\n")),
        ("n.yaml", format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {other}}}\n")),
        ("j.yaml", "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: j}\nspec: {suspend: true, schedule: '@daily', jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: example.org/c}]}}}}}\n".to_owned()),
    ]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    let parent = scene.environment().await.unwrap();
    let annotation = |name: &str| parent.annotations()[&format!("applyset.kubernetes.io/{name}")].clone();
    assert_eq!(parent.labels()["applyset.kubernetes.io/id"], part_of(&scene.name));
    assert_eq!(annotation("tooling"), concat!("plumb/v", env!("CARGO_PKG_VERSION")));
    assert_eq!(annotation("contains-group-kinds"), "ConfigMap,CronJob.batch,Namespace,Secret");
    let namespaces = annotation("additional-namespaces");
    assert_eq!(namespaces.split(',').collect::<BTreeSet<_>>(), BTreeSet::from([&*other, &*scene.namespace]));

    // What has no members any more is no longer named.
    let second = scene.push([("s.yaml", Change::Remove), ("j.yaml", Change::Remove)]);
    assert_eq!(scene.deployed(second).await.pruned, 2);
    let parent = scene.environment().await.unwrap();
    assert_eq!(parent.annotations()["applyset.kubernetes.io/contains-group-kinds"], "ConfigMap,Namespace");

    // kubectl would prune what is ours, and refuses for the sake of the tooling mark.
    let applyset = format!("--applyset=environments.plumb.dev/{}", scene.name);
    let kubectl = Plumb::spawn_program(
        "sh",
        &scene.env.cluster().admin_kubeconfig(),
        [
            "-c",
            r#"printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: z}\n' | kubectl apply --prune "$1" -n "$2" -f -"#,
            "sh",
            &applyset,
            &scene.namespace,
        ],
        |command| _ = command.env("KUBECTL_APPLYSET", "true"),
    );
    let mut kubectl = kubectl;
    assert_eq!(kubectl.wait(SOON).await.code(), Some(1));
    let said = kubectl.output().await;
    assert!(said.contains("managed by tooling \"plumb\""), "{said}");
    assert!(scene.data("a").await.is_some() && scene.data("z").await.is_none());
}
