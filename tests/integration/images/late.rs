//! A builder, or a registry, that comes up after plumb: it is waited for, that is said once, and no commit fails for it.

use super::registry::{Registry, run};
use super::{Yard, deployment, dockerfile};
use crate::harness::{Node, Plumb, Program};
use crate::scene::{SOON, Scene};

/// Where this module's registry listens on the node.
const HOST: &str = "localhost:5444";

fn is_waiting(line: &str) -> bool {
    line.contains(" waiting: ")
}

/// The commit that waited is the environment's first, and it has ended once, well.
async fn nothing_failed(plumb: &Plumb, scene: &Scene) {
    let log = plumb.log();
    assert_eq!(log.iter().filter(|line| is_waiting(line)).count(), 1, "{log:#?}");
    assert!(!log.iter().any(|line| line.contains(" ERROR ")), "{log:#?}");
    let history = scene.environment().await.and_then(|environment| environment.status).unwrap_or_default().history;
    assert!(history.len() == 1 && history[0].outcome == "Deployed", "{history:?}");
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_builder_that_comes_up_after_plumb_is_waited_for_and_one_that_goes_away_is_told() {
    let node = Node::start(&["--no-kubernetes"]);
    let scene = Scene::new("late").await;
    let push = |answer: &str| {
        let files = [
            ("plumb.yaml", "images: [{name: web, context: apps/web}]\n".to_owned()),
            ("apps/web/Dockerfile", "FROM scratch\nCOPY answer /\n".to_owned()),
            ("apps/web/answer", answer.to_owned()),
            ("manifests/web.yaml", deployment("web")),
        ];
        scene.env.repository().commit("dev", files)
    };
    let daemons = [Program::Containerd, Program::Buildkitd];
    daemons.into_iter().rev().for_each(|daemon| node.stop(daemon));
    let first = push("1");
    let [buildkit, containerd] = [node.buildkit(), node.containerd()].map(|path| format!("unix://{}", path.display()));
    let mut plumb = scene.run_with(&["--builder", &buildkit, "--containerd", &containerd]);
    let line = plumb.wait_for_log(is_waiting, SOON).await;
    assert!(line.contains("containerd.sock is away"), "{line}");
    daemons.into_iter().for_each(|daemon| node.start_again(daemon));
    scene.deployed(first).await;
    nothing_failed(&plumb, &scene).await;

    daemons.into_iter().rev().for_each(|daemon| node.stop(daemon));
    let message = scene.failed(push("2")).await;
    assert!(message.contains("containerd.sock is away"), "{message}");
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_registry_that_comes_up_after_plumb_is_waited_for_at_every_start() {
    let yard = Yard::new("lateregistry").await;
    let image = format!("{HOST}/web");
    let commit = yard.push([
        ("plumb.yaml", format!("images: [{{name: '{image}', context: apps/web}}]\n")),
        ("apps/web/Dockerfile", dockerfile("")),
        ("apps/web/answer", yard.answer("late")),
        ("manifests/web.yaml", deployment("web").replace("image: web", &format!("image: '{image}'"))),
    ]);
    let mut registry = Registry::new(HOST);
    let mut plumb = run(&yard, Some(&registry.logins()));
    let line = plumb.wait_for_log(is_waiting, SOON).await;
    assert!(line.contains(&format!("the registry {HOST}")), "{line}");
    registry.start(&yard.node);
    yard.scene.deployed(commit).await;
    nothing_failed(&plumb, &yard.scene).await;

    // What stands has a digest that only the registry can tell: nothing is rolled out without it.
    plumb.terminate(SOON).await;
    registry.stop();
    let standing =
        yard.scene.kubectl_ok(&["get", "deployment/web", "-o", "yaml", "-n", &yard.scene.namespace], "").await;
    assert!(standing.contains("@sha256:"), "{standing}");
    let mut plumb = run(&yard, Some(&registry.logins()));
    plumb.wait_for_log(is_waiting, SOON).await;
    registry.start(&yard.node);
    plumb.wait_for_log(|line| line.contains(" deployed ") || line.contains(" unchanged "), SOON).await;
    let now = yard.scene.kubectl_ok(&["get", "deployment/web", "-o", "yaml", "-n", &yard.scene.namespace], "").await;
    let generation = |text: &str| text.lines().find(|line| line.starts_with("  generation:")).map(str::to_owned);
    assert_eq!(generation(&now), generation(&standing));
}
