//! The way to a cluster: a kubeconfig or the pod's service account, with time-outs and without hidden retries.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::api::Caller;
use super::discovery::Discovered;
use super::error::ClusterError;
use super::inventory::Inventory;
use super::limiter::Limiter;
use crate::telemetry::Pulse;

/// Everything plumb holds of one cluster. Cheap to clone; clones share connections, limiter, kinds and inventory.
#[derive(Clone)]
pub struct Cluster {
    /// Sends requests.
    pub caller: Caller,
    /// Which kinds the API server serves.
    pub discovered: Arc<Discovered>,
    /// What stands in the cluster and is ours.
    pub inventory: Inventory,
}

impl Cluster {
    /// Reads the configuration: the given kubeconfig, else `KUBECONFIG` and `~/.kube/config`, else the pod's service account. Sends nothing.
    pub async fn connect(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Self, ClusterError> {
        let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
        let mut config = match kubeconfig {
            Some(path) => {
                let kubeconfig = Kubeconfig::read_from(path).map_err(|e| ClusterError::NoConfig(Box::new(e)))?;
                Config::from_custom_kubeconfig(kubeconfig, &options)
                    .await
                    .map_err(|e| ClusterError::NoConfig(Box::new(e)))?
            }
            None if context.is_some() => {
                Config::from_kubeconfig(&options).await.map_err(|e| ClusterError::NoConfig(Box::new(e)))?
            }
            None => Config::infer().await.map_err(|e| ClusterError::NoConfig(Box::new(e)))?,
        };
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(5));
        // For watches: a stream that is silent for longer than bookmarks allow is dead. Other requests have their own limit.
        config.read_timeout = Some(Duration::from_secs(90));
        config.write_timeout = Some(Duration::from_secs(30));
        let client = Client::try_from(config).map_err(|e| ClusterError::NoConfig(Box::new(e)))?;
        Ok(Self::over(client))
    }

    /// A cluster over a client that was built elsewhere.
    pub fn over(client: Client) -> Self {
        let caller = Caller::new(client, Limiter::default());
        let inventory = Inventory::new(caller.clone());
        Self { caller, discovered: Arc::default(), inventory }
    }

    /// A cluster at an address where there is no API server.
    #[cfg(test)]
    pub(crate) fn at(address: std::net::SocketAddr) -> Self {
        let config = Config::new(format!("http://{address}").parse().expect("a URL"));
        Self::over(Client::try_from(config).expect("a client"))
    }

    /// The same cluster for one task: the answers are signs of life of it.
    pub fn with_pulse(self, pulse: Pulse) -> Self {
        Self { caller: self.caller.with_pulse(pulse), ..self }
    }
}
