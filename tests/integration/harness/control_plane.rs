//! A control plane of one's own: the handle of a running `tests/cluster/control-plane`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::supervisor::{Program, Supervisor, built, scripts};

/// etcd, kube-apiserver and, if asked for, kube-controller-manager. They end when this is dropped, and also when the
/// process ends without dropping it, killed or not: the supervisor notices that its standard input is closed.
#[derive(Debug)]
pub struct ControlPlane {
    supervisor: Supervisor,
}

impl ControlPlane {
    /// Starts one; about 320 MiB, and 100 MiB more and some load with the controller-manager.
    pub fn start(controller_manager: bool) -> Self {
        bin_directory(); // built before the clock of START runs
        let options = if controller_manager { &[][..] } else { &["--no-controller-manager"] };
        Self { supervisor: Supervisor::start("control-plane", options) }
    }

    /// A kubeconfig of group `system:masters`.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.directory().join("admin.kubeconfig")
    }

    /// Where the API server writes what users in group `plumb-testers` requested.
    pub fn audit_log(&self) -> PathBuf {
        self.directory().join("audit.log")
    }

    /// The directory of the cluster's files and logs; gone when it has ended.
    pub fn directory(&self) -> &Path {
        self.supervisor.directory()
    }

    /// Makes a client certificate, and gives the kubeconfig that holds it.
    pub fn user(&self, name: &str, groups: &[&str]) -> PathBuf {
        self.supervisor.user(name, groups)
    }

    /// Kills a program, at once.
    pub fn stop(&self, program: Program) {
        self.supervisor.stop(program);
    }

    /// Starts it again, same port and data; returns when the API server is ready.
    pub fn start_again(&self, program: Program) {
        self.supervisor.start_again(program);
    }

    /// Freezes a program: connections to it are accepted by the kernel, and hang.
    pub fn pause(&self, program: Program) {
        self.supervisor.pause(program);
    }

    /// Lets it go on.
    pub fn resume(&self, program: Program) {
        self.supervisor.resume(program);
    }
}

/// Where helm, kubectl and the servers are, built if need be: the first time that takes minutes.
pub fn bin_directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| built(&mut Command::new(scripts().join("build"))))
}
