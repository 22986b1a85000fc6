//! Custom resource definitions: after one is applied, its kind can be written once the API server has established it.

use std::time::Duration;

use kube::core::Request;
use kube::core::params::GetParams;
use serde_json::Value;

use super::api::As;
use super::connect::Cluster;
use super::error::ClusterError;
use crate::model::{Failure, Manifest, Stage};

/// A definition may take this long to be established; an API server under load takes a few seconds.
const ESTABLISHED_WITHIN: Duration = Duration::from_secs(30);

/// Waits for each definition among these objects and makes its kinds known. Failures name the definition.
pub async fn establish(cluster: &Cluster, objects: impl Iterator<Item = &Manifest>) -> Vec<Failure> {
    let mut failures = Vec::new();
    for definition in objects.filter(|object| object.key.kind.is("apiextensions.k8s.io", "CustomResourceDefinition")) {
        match tokio::time::timeout(ESTABLISHED_WITHIN, wait(cluster, definition)).await {
            Ok(Ok(())) => cluster.discovered.add_definition(definition),
            Ok(Err(failure)) => failures.push(failure),
            Err(_) => {
                let reason = format!("not established within {}", humantime::format_duration(ESTABLISHED_WITHIN));
                failures.push(on(definition, reason).transient());
            }
        }
    }
    failures
}

async fn wait(cluster: &Cluster, definition: &Manifest) -> Result<(), Failure> {
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let mut pause = Duration::from_millis(10);
    loop {
        let request = Request::new(path).get(&definition.key.name, &GetParams::default());
        let what = || format!("read {}", definition.key);
        let now: Value = cluster
            .caller
            .call(&what, As::Plumb, request)
            .await
            .map_err(|error| super::failure::of_object(Stage::Apply, definition, &error))?;
        let condition = |kind: &str| {
            let conditions = now.pointer("/status/conditions").and_then(Value::as_array);
            conditions.into_iter().flatten().find(|condition| condition["type"] == kind)
        };
        if condition("Established").is_some_and(|condition| condition["status"] == "True") {
            return Ok(());
        }
        if let Some(refused) = condition("NamesAccepted").filter(|condition| condition["status"] == "False") {
            return Err(on(
                definition,
                format!("its names are taken: {}", refused["message"].as_str().unwrap_or_default()),
            ));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

fn on(definition: &Manifest, reason: String) -> Failure {
    Failure::new(Stage::Apply, reason).on(definition.key.clone()).at(definition.origin.clone())
}

/// Whether a 404 says that the API server does not know the path, rather than a namespace or an object.
pub fn is_unserved(error: &ClusterError) -> bool {
    let details = error.status().filter(|status| status.code == 404).map(|status| status.details.as_ref());
    details.is_some_and(|details| details.is_none_or(|details| details.name.is_empty()))
}
