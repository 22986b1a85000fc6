//! The cluster that the tests share.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::control_plane::ControlPlane;

/// A cluster to test against: a control plane that the harness started, or somebody's.
#[derive(Debug, Clone)]
pub enum Cluster {
    /// Started by the harness, which then can make users and read the audit log.
    Own(Arc<ControlPlane>),
    /// The one that `PLUMB_TEST_KUBECONFIG` names; all requests are made as its user, and are not counted.
    Given(PathBuf),
}

impl Cluster {
    /// The cluster of this test process. The first call starts it, or looks at `PLUMB_TEST_KUBECONFIG`; it ends with
    /// the process.
    pub fn shared() -> Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        let start = || match std::env::var_os("PLUMB_TEST_KUBECONFIG").filter(|path| !path.is_empty()) {
            Some(path) => Self::Given(PathBuf::from(path)),
            None => Self::own(),
        };
        SHARED.get_or_init(start).clone()
    }

    /// A fresh one with a controller-manager, beside the shared one; it ends with the last clone.
    pub fn own() -> Self {
        Self::Own(Arc::new(ControlPlane::start(true)))
    }

    /// A kubeconfig that may do everything.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        match self {
            Self::Own(control_plane) => control_plane.admin_kubeconfig(),
            Self::Given(path) => path.clone(),
        }
    }

    /// What only a cluster of the harness can do; for a given one, the reason why not.
    ///
    /// # Errors
    /// The words to skip a test with.
    pub fn control_plane(&self) -> Result<&ControlPlane, String> {
        match self {
            Self::Own(control_plane) => Ok(control_plane),
            Self::Given(path) => Err(format!(
                "skipped: PLUMB_TEST_KUBECONFIG={} is somebody's cluster, this test needs one of its own (audit log, users)",
                path.display()
            )),
        }
    }
}

/// A client for `kubeconfig`. It belongs to the runtime that it is made on.
pub async fn client(kubeconfig: &Path) -> kube::Client {
    let parsed = kube::config::Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(parsed, &kube::config::KubeConfigOptions::default())
        .await
        .expect("a kubeconfig that says how to connect");
    kube::Client::try_from(config).expect("a client")
}
