//! Events on an Environment: what `kubectl describe environment` shows.

use kube::Resource;
use kube::core::Request;
use kube::core::params::PostParams;
use serde_json::json;

use super::api::{As, Caller};
use super::error::ClusterError;
use crate::model::Environment;

/// The API's limit for an Event's message is 1,024 bytes.
const LONGEST: usize = 1000;

/// One Event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `Warning` rather than `Normal`.
    pub warning: bool,
    /// A CamelCase word.
    pub reason: &'static str,
    /// A sentence, without secret values.
    pub message: String,
}

/// Posts an Event on an Environment. Events of cluster-scoped objects live in the namespace `default`.
pub async fn post(
    caller: &Caller,
    name: &str,
    uid: Option<&str>,
    event: &Event,
    instance: &str,
) -> Result<(), ClusterError> {
    let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let mut end = event.message.len().min(LONGEST);
    while !event.message.is_char_boundary(end) {
        end -= 1;
    }
    let body = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"generateName": format!("{name}."), "namespace": "default"},
        "involvedObject": {
            "apiVersion": Environment::api_version(&()), "kind": Environment::kind(&()), "name": name, "uid": uid,
        },
        "type": if event.warning { "Warning" } else { "Normal" },
        "reason": event.reason, "message": &event.message[..end],
        "source": {"component": "plumb"}, "reportingComponent": "plumb.dev/plumb", "reportingInstance": instance,
        "firstTimestamp": now, "lastTimestamp": now, "count": 1,
    });
    let request =
        Request::new("/api/v1/namespaces/default/events").create(&PostParams::default(), body.to_string().into_bytes());
    let answer =
        caller.call::<serde_json::Value>(&|| format!("post an Event on Environment/{name}"), As::Plumb, request).await;
    answer.map(drop)
}
