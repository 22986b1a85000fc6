//! A whole node: the handle of a running `tests/cluster/node`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::supervisor::{Supervisor, built, scripts};

/// How long to wait for an answer of HTTP.
const ANSWER: Duration = Duration::from_secs(2);

/// A build that buildkitd has done.
#[derive(Debug)]
pub struct Build {
    /// The full name of the image; empty if none was asked for.
    pub name: String,
    pub succeeded: bool,
}

/// A Kubernetes node with containerd and buildkitd, in namespaces of its own. It ends when this is dropped, and when
/// the process ends without dropping it. Needs root; tests of it are `#[ignore]`d, and `make integration` runs them
/// where they can be.
#[derive(Debug)]
pub struct Node {
    supervisor: Supervisor,
    address: String,
    bin: PathBuf,
}

impl Node {
    /// Starts one with `options` of `tests/cluster/node run`: `--registry`, `--docker`, `--no-kubernetes`, ...
    ///
    /// # Panics
    /// Where there can't be one, with the reason.
    pub fn start(options: &[&str]) -> Self {
        let possible = Command::new(scripts().join("node")).arg("possible").args(options).output();
        let possible = possible.expect("tests/cluster/node starts");
        let reason = String::from_utf8_lossy(&possible.stdout);
        assert!(possible.status.success(), "this test needs a node: {}", reason.trim());
        let bin = bin_of(options); // built before the supervisor's time runs
        let supervisor = Supervisor::start("node", options);
        let address = std::fs::read_to_string(supervisor.directory().join("address")).expect("the node has an address");
        Self { address: address.trim_end().to_owned(), supervisor, bin }
    }

    /// One with Kubernetes and a registry, for all tests that run at the time; it ends with the last of them.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Node>> = Mutex::new(Weak::new());
        // A test that panicked while it started one has left nothing in here.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let node = Arc::new(Self::start(&["--registry"]));
            *shared = Arc::downgrade(&node);
            node
        })
    }

    /// Its IPv4 address, where NodePorts answer.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// containerd's socket. Images and containers of pods are in its namespace `k8s.io`.
    pub fn containerd(&self) -> PathBuf {
        self.directory().join("run/containerd/containerd.sock")
    }

    /// buildkitd's socket. What it builds as `type=image` the kubelet finds.
    pub fn buildkit(&self) -> PathBuf {
        self.directory().join("run/buildkit/buildkitd.sock")
    }

    /// The Docker Engine's socket, with option `--docker`.
    pub fn docker(&self) -> PathBuf {
        self.directory().join("run/docker.sock")
    }

    /// A program of the node's, to be put into an image or run: `hello`, `buildctl`, `ctr`, ...
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// Builds the image `name:tag` from a directory with a Dockerfile, as a person would.
    pub fn buildctl(&self, context: &Path, name_and_tag: &str) -> Output {
        let local = |name: &str| format!("{name}={}", context.display());
        Command::new(self.program("buildctl"))
            .args(["--addr", &format!("unix://{}", self.buildkit().display()), "build", "--progress=plain"])
            .args(["--frontend=dockerfile.v0", "--local", &local("context"), "--local", &local("dockerfile")])
            .args(["--output", &format!("type=image,name=docker.io/library/{name_and_tag},unpack=true")])
            // A base is here, and there is nobody to be asked for it.
            .args(["--opt", "image-resolve-mode=local"])
            .stdin(Stdio::null())
            .output()
            .expect("buildctl starts")
    }

    /// The same for dockerd, with option `--docker` or `--runtime=docker`.
    pub fn docker_build(&self, context: &Path, name_and_tag: &str) -> Output {
        let mut docker = Command::new("docker");
        docker.args(["--host", &format!("unix://{}", self.docker().display()), "build", "--tag", name_and_tag]);
        docker.arg(context).stdin(Stdio::null()).output().expect("docker starts")
    }

    /// Gives the disk of option `--disk` more room.
    pub fn make_room(&self, size: &str) {
        make_room(self.directory(), size);
    }

    /// What buildkitd has in its history: the builds that have ended, whoever asked for them.
    pub fn builds(&self) -> Vec<Build> {
        let histories = Command::new(self.program("buildctl"))
            .args(["--addr", &format!("unix://{}", self.buildkit().display()), "debug", "histories"])
            .args(["--format", "{{json .}}"])
            .stdin(Stdio::null())
            .output()
            .expect("buildctl starts");
        assert!(histories.status.success(), "{}", String::from_utf8_lossy(&histories.stderr));
        let text = String::from_utf8(histories.stdout).expect("JSON");
        let events = serde_json::Deserializer::from_str(&text).into_iter::<Value>().map(|event| event.expect("JSON"));
        let ended = events.filter(|event| !event["record"]["CompletedAt"].is_null());
        ended
            .map(|event| {
                let record = &event["record"];
                let name = record["Exporters"][0]["Attrs"]["name"].as_str().unwrap_or_default().to_owned();
                Build { name, succeeded: record["error"].is_null() }
            })
            .collect()
    }

    /// Writes a context of an image that answers HTTP on port 8080 with `answer`.
    pub fn hello_context(&self, directory: &Path, answer: &str) {
        std::fs::copy(self.program("hello"), directory.join("hello")).expect("the program is copied");
        std::fs::write(directory.join("answer"), answer).expect("a file");
        let dockerfile = "FROM scratch\nCOPY hello answer /\nENTRYPOINT [\"/hello\"]\n";
        std::fs::write(directory.join("Dockerfile"), dockerfile).expect("a file");
    }
}

impl Deref for Node {
    type Target = Supervisor;

    fn deref(&self) -> &Supervisor {
        &self.supervisor
    }
}

fn bin_of(options: &[&str]) -> PathBuf {
    built(Command::new(scripts().join("node")).arg("build").args(options))
}

/// Gives the disk of a node that runs in this directory, with option `--disk`, so much room.
pub fn make_room(directory: &Path, size: &str) {
    let init = std::fs::read_to_string(directory.join("init")).expect("process 1 of the node");
    let mount = ["mount", "-o", &format!("remount,size={size}"), "/var/lib"];
    let done = Command::new("nsenter").args(["--mount", "--target", init.trim()]).args(mount).status();
    assert!(done.expect("nsenter runs").success(), "the disk is not larger");
}

/// The body that HTTP gives at an address.
///
/// # Errors
/// What keeps it from answering.
pub fn http_get(address: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address.parse()?, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: test\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("not HTTP")?;
    Ok(body.to_owned())
}
