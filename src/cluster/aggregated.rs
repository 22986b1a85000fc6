//! API groups that an API server extension serves: while it is away they look as if they did not exist, and their objects stand all the same.

use std::collections::BTreeSet;

use kube::core::Request;
use kube::core::params::ListParams;
use serde::Deserialize;

use super::api::{As, Caller};
use super::error::ClusterError;

#[derive(Deserialize)]
struct Services {
    items: Vec<Service>,
}

#[derive(Deserialize)]
struct Service {
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    group: String,
    /// Absent for what the API server serves itself.
    service: Option<serde_json::Value>,
}

/// The groups that extensions serve, or would if they were there.
pub async fn groups(caller: &Caller) -> Result<BTreeSet<String>, ClusterError> {
    let request = Request::new("/apis/apiregistration.k8s.io/v1/apiservices").list(&ListParams::default());
    let services: Services = caller.call(&|| "list the API services".to_owned(), As::Plumb, request).await?;
    let extensions = services.items.into_iter().filter(|service| service.spec.service.is_some());
    Ok(extensions.map(|service| service.spec.group).collect())
}
