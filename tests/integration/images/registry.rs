//! A registry that refuses, and one that fails: who is at fault is said, nothing is applied, and what passes by itself needs no other commit.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::ensure;

use super::{Yard, deployment, dockerfile};
use crate::harness::{Node, Plumb, eventually};
use crate::scene::{SOON, config_map};

/// Where it listens on the node; buildkitd speaks plain HTTP to its own machine.
const HOST: &str = "localhost:5443";
pub const PASSWORD: &str = "letmein-42";
/// `plumb` with [`PASSWORD`], as htpasswd has it: bcrypt, with the least rounds.
const USERS: &str = "plumb:$2b$04$N9qo8uLOickgx2ZMRZoMye1aLejQwOilXkw8gOMKI2rllOqfdJEF6\n";

/// A registry that lets nobody in but `plumb`. It ends with this.
pub struct Registry {
    host: &'static str,
    directory: tempfile::TempDir,
    child: Option<Child>,
}

impl Registry {
    /// Not started yet.
    pub fn new(host: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let users = directory.path().join("users");
        std::fs::write(&users, USERS).unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{host}\"}}\n\
             auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
            directory.path().join("storage").display(),
            users.display(),
        );
        let file = directory.path().join("config.yaml");
        std::fs::write(&file, config).unwrap();
        std::fs::create_dir(directory.path().join("storage")).unwrap();
        Self { host, directory, child: None }
    }

    pub fn start(&mut self, node: &Node) {
        let file = self.directory.path().join("config.yaml");
        let init = std::fs::read_to_string(node.directory().join("init")).expect("process 1 of the node");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "nsenter", "--net", "--target", init.trim()])
            .arg(node.program("registry"))
            .arg("serve")
            .arg(&file)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the registry starts");
        self.child = Some(child);
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn storage(&self) -> PathBuf {
        self.directory.path().join("storage")
    }

    /// Takes its storage away: a file is there instead of the directory.
    fn lose_storage(&self) {
        std::fs::rename(self.storage(), self.directory.path().join("kept")).unwrap();
        std::fs::write(self.storage(), "").unwrap();
    }

    fn find_storage(&self) {
        std::fs::remove_file(self.storage()).unwrap();
        std::fs::rename(self.directory.path().join("kept"), self.storage()).unwrap();
    }

    /// A file with the login, as a Secret of type kubernetes.io/dockerconfigjson has it.
    pub fn logins(&self) -> PathBuf {
        self.logins_with(PASSWORD)
    }

    fn logins_with(&self, password: &str) -> PathBuf {
        let file = self.directory.path().join("config.json");
        let auths = serde_json::json!({"auths": {self.host: {"username": "plumb", "password": password}}});
        std::fs::write(&file, auths.to_string()).unwrap();
        file
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(super) fn run(yard: &Yard, logins: Option<&Path>) -> Plumb {
    let buildkit = format!("unix://{}", yard.node.buildkit().display());
    let logins = logins.map(|file| ["--registry-logins".to_owned(), file.display().to_string()]);
    let args = ["--builder".to_owned(), buildkit, "--push".to_owned(), "--registry-insecure".to_owned()];
    yard.scene.run_with(&args.into_iter().chain(logins.into_iter().flatten()).collect::<Vec<_>>())
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_registry_that_refuses_or_fails_is_named_and_nothing_is_applied_until_it_takes_the_image() {
    let yard = Yard::new("refused").await;
    let mut registry = Registry::new(HOST);
    registry.start(&yard.node);
    let image = format!("{HOST}/web");
    let commit = yard.push([
        ("plumb.yaml", format!("images: [{{name: '{image}', context: apps/web}}]\n")),
        ("apps/web/Dockerfile", dockerfile("")),
        ("apps/web/answer", yard.answer("refused")),
        ("manifests/web.yaml", deployment("web").replace("image: web", &format!("image: '{image}'"))),
        ("manifests/c.yaml", config_map("c", &[("x", "1")])),
    ]);
    let refused = async |says: &str| {
        eventually(SOON, || async {
            let entry = yard.scene.ended(commit).await;
            let message = entry.message.clone().unwrap_or_default();
            ensure!((entry.outcome.as_str(), entry.stage.as_deref()) == ("Failed", Some("build")), "{entry:?}");
            ensure!(message.contains(HOST) && message.contains(says), "{message}");
            assert!(!message.contains(PASSWORD), "{message}");
            Ok(())
        })
        .await;
        assert_eq!(yard.scene.data("c").await, None, "nothing of it is applied");
    };

    let mut stranger = run(&yard, None);
    refused(&format!("the registry {HOST} answers 401")).await;
    stranger.terminate(SOON).await;

    let mut plumb = run(&yard, Some(&registry.logins_with("of-last-year")));
    plumb.wait_for_log(|line| line.contains(" failed ") && line.contains("answers 401"), SOON).await;
    registry.lose_storage();
    // The same plumb reads them anew, and tries again.
    registry.logins();
    refused(&format!("the registry {HOST} answers 500")).await;

    registry.find_storage();
    yard.scene.deployed(commit).await;
    assert_eq!(yard.scene.data("c").await.as_deref(), Some("x=1"));
    assert!(registry.storage().join("docker/registry/v2/repositories/web/_manifests/tags").is_dir());
    assert!(!plumb.log().join("\n").contains(PASSWORD));
}
