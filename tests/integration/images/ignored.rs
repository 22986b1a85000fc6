//! What `.dockerignore` leaves out is in no image, the Dockerfile itself among it.

use std::process::Command;

use serde_json::Value;

use super::{Yard, deployment};

/// The digest of an image's last layer, and the paths in it.
fn last_layer(yard: &Yard, image: &str) -> (String, Vec<String>) {
    let ctr = |args: &[&str]| {
        let mut ctr = Command::new(yard.node.program("ctr"));
        let done = ctr.arg("-a").arg(yard.node.containerd()).args(["-n", "k8s.io"]).args(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    };
    let listed = String::from_utf8(ctr(&["images", "ls"])).unwrap();
    let line = listed.lines().find(|line| line.contains(&format!("/{image} "))).expect("the kubelet sees it");
    let manifest = ctr(&["content", "get", line.split_whitespace().nth(2).unwrap()]);
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let layer = manifest["layers"].as_array().unwrap().last().unwrap()["digest"].as_str().unwrap().to_owned();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), ctr(&["content", "get", &layer])).unwrap();
    let paths = Command::new("tar").arg("-tzf").arg(file.path()).output().unwrap();
    assert!(paths.status.success(), "{}", String::from_utf8_lossy(&paths.stderr));
    (layer, String::from_utf8(paths.stdout).unwrap().lines().map(str::to_owned).collect())
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn an_ignored_dockerfile_is_not_in_the_image_and_its_edits_change_no_layer() {
    let yard = Yard::new("ignoredfile").await;
    let dockerfile = |more: &str| format!("FROM hello-base:1\nCOPY . /\n{more}");
    let first = yard.push([
        ("plumb.yaml", "images: [{name: web, context: apps/web, dockerfile: build/web}]\n".to_owned()),
        ("apps/web/.dockerignore", "build\n.dockerignore\n".to_owned()),
        ("apps/web/build/web", dockerfile("")),
        ("apps/web/answer", yard.answer("web 1")),
        ("manifests/web.yaml", deployment("web")),
    ]);
    let _plumb = yard.run();
    yard.scene.deployed(first).await;
    let web = yard.runs("web").await;
    let (layer, paths) = last_layer(&yard, &web);
    assert_eq!(paths, ["answer"]);

    let second = yard.push([("apps/web/build/web", dockerfile("LABEL edited=yes\n"))]);
    yard.scene.deployed(second).await;
    let edited = yard.runs_another("web", &web).await;
    assert_eq!(last_layer(&yard, &edited), (layer, paths));
}
