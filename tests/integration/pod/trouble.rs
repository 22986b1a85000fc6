//! What breaks under plumb in its pod: it converges, leaves nothing half done, and builds nothing twice.

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use super::stand::{Stand, dockerfile, push_web, uids};
use plumb::model::environment::Condition;

use crate::harness::{Change, Program, ask_to_end, eventually, kill_container, running};
use crate::scene::{SOON, config_map};

pub async fn a_dockerfile_that_fails_applies_nothing(stand: &Stand) {
    let map = ("manifests/c.yaml", config_map("c", &[("x", "2")]));
    let bad = stand.push([("apps/web/Dockerfile", dockerfile("ENV PORT=none\nRUN [\"/hello\"]")), map]);
    let entry = stand.scene.ended(bad).await;
    assert_eq!((entry.outcome.as_str(), entry.stage.as_deref()), ("Failed", Some("build")), "{entry:?}");
    let message = entry.message.unwrap_or_default();
    // The image, the file, the step, and what it printed last.
    for words in ["web:", "Dockerfile", "RUN [", "exit code 1", "lookup tcp/none"] {
        assert!(message.contains(words), "{words:?} is not in {message:?}");
    }
    assert_eq!(stand.scene.data("c").await.as_deref(), Some("x=1"), "nothing of it is applied");
    stand.answers("web", "web 1").await;

    let good = push_web(stand, "web 3", dockerfile(""));
    stand.scene.deployed(good).await;
    stand.answers("web", "web 3").await;
    assert_eq!(stand.scene.data("c").await.as_deref(), Some("x=2"));
    stand.built([3, 1]).await;
}

/// For that the rights of `deploy/` let it read pods, their logs and Events.
pub async fn a_container_that_crashes_is_told_with_its_last_words(stand: &Stand) {
    let crashes = "apiVersion: apps/v1
kind: Deployment
metadata: {name: crashes}
spec:
  selector: {matchLabels: {app: crashes}}
  template:
    metadata: {labels: {app: crashes}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: crashes, image: 'plumb:0.1.0', imagePullPolicy: Never, args: [no-such-verb]}]
";
    let bad = stand.push([("manifests/crashes.yaml", crashes)]);
    stand.scene.deployed(bad).await;
    let told = |healthy: &Condition| {
        healthy.status != "True" && ["crashes", "no-such-verb"].iter().all(|words| healthy.message.contains(words))
    };
    stand.scene.condition("Healthy", told).await;
    let good = stand.push([("manifests/crashes.yaml", Change::Remove)]);
    stand.scene.deployed(good).await;
    stand.healthy().await;
}

pub async fn killed_in_the_middle_of_a_build(stand: &Stand) {
    // Of this node alone: another's test may run beside it.
    let word = format!("{}-serves-until-it-is-ended", stand.scene.name);
    // hello serves until it is asked to end.
    let commit =
        push_web(stand, "web 4", dockerfile(&format!("ENV PORT=0\nRUN [\"/hello\", \"{word}\"]\nENV PORT=8080")));
    running(&word).await;
    stand.lose_plumb().await;
    // The last image that the builder was asked for, by both pods.
    eventually(SOON, || async {
        let log = stand.scene.kubectl_ok(&["logs", "deployment/plumb-builder", "-n", "plumb-builder"], "").await;
        let asked: Vec<&str> = log.lines().filter(|line| line.contains("\"building\"")).collect();
        let images: Vec<_> = asked.iter().filter_map(|line| line.split("\"image\":").nth(1)).collect();
        let [.., first, second] = images[..] else { anyhow::bail!("{asked:?}") };
        ensure!(first == second, "the new pod has not asked for it yet: {asked:?}");
        Ok(())
    })
    .await;
    eventually(SOON, || async {
        ask_to_end(&word);
        let status = stand.scene.environment().await.and_then(|environment| environment.status).unwrap_or_default();
        ensure!(status.target == Some(commit.to_string()), "not built yet: {:?}", status.history.first());
        Ok(())
    })
    .await;
    stand.scene.deployed(commit).await;
    stand.answers("web", "web 4").await;
    stand.built([4, 1]).await;
}

pub async fn killed_in_the_middle_of_an_apply(stand: &Stand) {
    const MANY: usize = 800;
    let scene = &stand.scene;
    let written = async |x: &str| {
        let maps = scene.config_maps().list(&ListParams::default()).await.expect("the API server answers");
        maps.items
            .iter()
            .filter(|map| map.name_any().starts_with("m-") && map.data.as_ref().is_some_and(|data| data["x"] == x))
            .count()
    };
    // On a machine that is busy with something else it may be at its end before it is killed.
    for x in ["1", "2", "3"] {
        let all: Vec<_> = (0..MANY).map(|number| config_map(&format!("m-{number}"), &[("x", x)])).collect();
        let plumb = stand.plumb_container().await;
        let commit = scene.push([("many.yaml", all.join("---\n"))]);
        eventually(SOON, || async {
            ensure!(written(x).await > 20, "it has not begun");
            Ok(())
        })
        .await;
        kill_container(&plumb);
        let half = written(x).await;
        scene.deployed(commit).await;
        assert_eq!(written(x).await, MANY);
        eventually(SOON, || async {
            ensure!(stand.plumb_container().await != plumb, "the kubelet has not started it anew");
            Ok(())
        })
        .await;
        if half < MANY {
            return;
        }
    }
    panic!("it was never killed in the middle");
}

pub async fn containerd_is_started_anew(stand: &Stand) {
    let before = uids(&stand.pods("api").await);
    stand.node.stop(Program::Containerd);
    let meanwhile = push_web(stand, "web 5", dockerfile(""));
    let entry = stand.scene.ended(meanwhile).await;
    assert_eq!((entry.outcome.as_str(), entry.stage.as_deref()), ("Failed", Some("build")), "{entry:?}");
    stand.node.start_again(Program::Containerd);
    stand.scene.deployed(meanwhile).await;
    stand.answers("web", "web 5").await;
    let next = push_web(stand, "web 6", dockerfile(""));
    stand.scene.deployed(next).await;
    stand.answers("web", "web 6").await;
    stand.built([6, 1]).await;
    assert_eq!(uids(&stand.pods("api").await), before);
}

pub async fn the_builder_is_away_for_a_while(stand: &Stand) {
    let scene = &stand.scene;
    let scale = async |replicas: &str| {
        let replicas = format!("--replicas={replicas}");
        scene.kubectl_ok(&["scale", "deployment/plumb-builder", &replicas, "-n", "plumb-builder"], "").await;
    };
    scale("0").await;
    let builders: Api<Pod> = Api::namespaced(scene.env.admin(), "plumb-builder");
    eventually(SOON, || async {
        ensure!(builders.list(&ListParams::default()).await?.items.is_empty(), "its pod is still there");
        Ok(())
    })
    .await;
    let commit = push_web(stand, "web 7", dockerfile(""));
    let entry = scene.ended(commit).await;
    let message = entry.message.clone().unwrap_or_default();
    assert_eq!((entry.outcome.as_str(), entry.stage.as_deref()), ("Failed", Some("build")), "{entry:?}");
    assert!(message.contains("the image builder at http://plumb-builder.plumb-builder:8090 is away"), "{message}");
    scene.kubectl_ok(&["delete", "configmap", "c", "-n", &scene.namespace], "").await;
    eventually(SOON, || async {
        ensure!(scene.data("c").await.as_deref() == Some("x=2"), "not made again yet");
        Ok(())
    })
    .await;
    scale("1").await;
    scene.deployed(commit).await;
    stand.answers("web", "web 7").await;
    stand.built([7, 1]).await;
}
