//! A control plane of one's own: the handle of a running `tests/cluster/control-plane`.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::supervisor::{Supervisor, built, scripts};

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
}

impl Deref for ControlPlane {
    type Target = Supervisor;

    fn deref(&self) -> &Supervisor {
        &self.supervisor
    }
}

/// Where helm, kubectl and the servers are, built if need be: the first time that takes minutes.
pub fn bin_directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| built(&mut Command::new(scripts().join("build"))))
}
