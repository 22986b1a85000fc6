//! `compose.yaml` with the images that were deployed: what a developer's machine runs, here on a dockerd of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::site::{ROOT, done};
use crate::harness::Node;

const PAGES: &str = "http://127.0.0.1:3000";

/// Starts it, uses it through the pages, and takes it down: nothing of it is left. `archives` have the images of these names.
pub fn comes_up_is_used_and_leaves_nothing(images: &[String], archives: &[PathBuf]) {
    let node = Node::start(&["--no-kubernetes", "--docker"]);
    let host = format!("unix://{}", node.docker().display());
    let docker = |arguments: &[&str]| done(Command::new("docker").args(["--host", &host]).args(arguments));
    let postgres = PathBuf::from(done(&mut Command::new(Path::new(ROOT).join("tests/cluster/postgres-image"))).trim());
    for archive in archives.iter().chain([&postgres]) {
        docker(&["load", "--quiet", "--input", &archive.display().to_string()]);
    }
    for image in images {
        let (name, _) = image.split_once(':').expect("a tag");
        docker(&["tag", image, &format!("{name}:latest")]);
    }
    let compose = |arguments: &[&str]| {
        let file = Path::new(ROOT).join("compose.yaml");
        let mut command = compose();
        // No key of whoever runs this, from neither their environment nor their `.env`.
        command.env("DOCKER_HOST", &host).env("OPENAI_API_KEY", "");
        command.arg("--file").arg(file).args(["--project-name", "todo"]).args(arguments);
        done(&mut command)
    };
    compose(&["up", "--no-build", "--detach"]);

    let init = std::fs::read_to_string(node.directory().join("init")).expect("the node runs");
    let jar = tempfile::NamedTempFile::new().expect("a temporary file");
    let jar = jar.path().display().to_string();
    let curl = |arguments: &[&str]| {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", init.trim(), "--", "curl", "--silent", "--show-error"]);
        // The frontend's container has started; that it listens takes some milliseconds more.
        command.args([
            "--max-time",
            "30",
            "--retry",
            "10",
            "--retry-connrefused",
            "--cookie",
            &jar,
            "--cookie-jar",
            &jar,
        ]);
        done(command.args(arguments))
    };
    let get = |arguments: &[&str]| curl(&[&["--fail"], arguments].concat());
    assert!(get(&[&format!("{PAGES}/signup")]).contains("password"));
    let account = ["--data", "name=Ada", "--data", "email=ada@example.org", "--data", "password=long enough"];
    get(&[&account[..], &[&format!("{PAGES}/signup")]].concat());
    get(&["--data", "title=water the plants", &format!("{PAGES}/tasks")]);
    let tasks = get(&[PAGES]);
    assert!(tasks.contains("water the plants"), "{tasks}");
    // Without a key there is no chat: that is said, and is no success.
    let status = ["--retry", "0", "--write-out", "\n%{http_code}"];
    let chat = curl(&[&status[..], &["--data", "message=hello", &format!("{PAGES}/chat")]].concat());
    assert!(chat.contains("The chat is not set up on this server") && chat.ends_with("\n503"), "{chat}");

    compose(&["down", "--volumes"]);
    for left in [
        &["ps", "--all", "--quiet"][..],
        &["volume", "ls", "--quiet"],
        &["network", "ls", "--quiet", "--filter", "name=todo"],
    ] {
        assert_eq!(docker(left), "", "{left:?}");
    }
}

/// Docker's plugin, or the program of its own that Debian 12 has.
fn compose() -> Command {
    let plugin = Command::new("docker").args(["compose", "version"]).output();
    if plugin.is_ok_and(|output| output.status.success()) {
        let mut docker = Command::new("docker");
        docker.arg("compose");
        return docker;
    }
    Command::new("docker-compose")
}
