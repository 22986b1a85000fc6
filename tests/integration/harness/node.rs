//! A whole node: the handle of a running `tests/cluster/node`.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::supervisor::{Supervisor, built, scripts};

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
            .stdin(Stdio::null())
            .output()
            .expect("buildctl starts")
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
