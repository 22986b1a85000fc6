//! Events on an Environment and on its objects: what `kubectl describe` shows.

use kube::Resource;
use kube::core::Request;
use kube::core::params::PostParams;
use serde_json::json;

use super::api::{As, Caller};
use super::error::ClusterError;
use crate::model::environment::GROUP;
use crate::model::{Environment, ObjectKey};

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

/// What an Event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regarding {
    /// `group/version`.
    pub api_version: String,
    /// The object.
    pub key: ObjectKey,
    /// `metadata.uid`, if known.
    pub uid: Option<String>,
}

impl Regarding {
    /// An Environment.
    pub fn environment(name: &str, uid: Option<&str>) -> Self {
        let api_version = Environment::api_version(&()).into_owned();
        Self { api_version, key: ObjectKey::new(GROUP, "Environment", "", name), uid: uid.map(str::to_owned) }
    }
}

/// Posts an Event. Those of cluster-scoped objects live in the namespace `default`.
pub async fn post(caller: &Caller, about: &Regarding, event: &Event, instance: &str) -> Result<(), ClusterError> {
    let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let mut end = event.message.len().min(LONGEST);
    while !event.message.is_char_boundary(end) {
        end -= 1;
    }
    let (key, name) = (&about.key, &about.key.name);
    let namespace = key.namespace.as_deref().unwrap_or("default");
    let body = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"generateName": format!("{name}."), "namespace": namespace},
        "involvedObject": {
            "apiVersion": about.api_version, "kind": key.kind.kind, "name": name, "namespace": key.namespace, "uid": about.uid,
        },
        "type": if event.warning { "Warning" } else { "Normal" },
        "reason": event.reason, "message": &event.message[..end],
        "source": {"component": "plumb"}, "reportingComponent": "plumb.dev/plumb", "reportingInstance": instance,
        "firstTimestamp": now, "lastTimestamp": now, "count": 1,
    });
    let path = format!("/api/v1/namespaces/{namespace}/events");
    let request = Request::new(path).create(&PostParams::default(), body.to_string().into_bytes());
    let answer = caller.call::<serde_json::Value>(&|| format!("post an Event on {key}"), As::Plumb, request).await;
    answer.map(drop)
}
