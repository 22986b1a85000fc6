//! Looks behind an object that is not ready: at its pods, the end of a log, the Warning events. A handful of requests, made once; what can't be read is left out.

use k8s_openapi::api::core::v1::Event;
use kube::Resource as _;
use kube::core::params::{GetParams, ListParams};
use kube::core::subresource::LogParams;
use kube::core::{DynamicObject, ObjectList, Request};
use serde::de::DeserializeOwned;
use tracing::debug;

use super::api::{As, Caller};
use super::discovery::Discovered;
use super::error::ClusterError;
use super::inventory::resource;
use crate::health::Object;
use crate::health::diagnosis::{self, Culprit, Evidence};
use crate::model::ObjectKey;
use crate::model::secret::Redactor;

/// A workload of many pods fails for one reason: so many are looked at.
const PODS: u32 = 50;
/// Old ReplicaSets are kept, ten by default.
const SETS: u32 = 100;
const EVENTS: u32 = 50;
/// The end of a log: lines, and bytes if those are long.
const LOG_LINES: i64 = 20;
const LOG_BYTES: i64 = 16 * 1024;

/// Reads what there is to be known about objects that are not ready.
pub struct Diagnosis<'a> {
    /// Sends the requests, with plumb's own rights.
    pub caller: &'a Caller,
    /// The kinds.
    pub discovered: &'a Discovered,
    /// Takes known secret values out of what others say.
    pub redactor: &'a Redactor,
    /// Seconds since the epoch.
    pub now: i64,
}

impl Diagnosis<'_> {
    /// Why an object is not ready, in one line; `None`: nothing was found, or nothing may be read.
    pub async fn of(&self, key: &ObjectKey) -> Option<String> {
        let evidence = self.evidence(key).await;
        let evidence =
            evidence.inspect_err(|error| debug!(object = %key, %error, "it could not be looked into")).ok()?;
        evidence.words(|text| self.redactor.redact(text))
    }

    async fn evidence(&self, key: &ObjectKey) -> Result<Evidence, ClusterError> {
        let namespace = key.namespace_or_empty();
        let object = self.object(key).await?;
        let mut evidence = Evidence::default();
        let (owner, culprit) = match key.kind.is("", "Pod") {
            true => (None, diagnosis::ill(&object, self.now)),
            false if diagnosis::has_pods(&key.kind) => {
                let read = self.culprit(key, &object).await;
                evidence.denied = read.as_ref().err().filter(|error| error.code() == 403).map(ToString::to_string);
                read.inspect_err(|error| debug!(object = %key, %error, "no pods")).unwrap_or_default()
            }
            false => (None, None),
        };
        if let Some(Culprit { name, log: Some(log), .. }) = &culprit {
            let read = self.log(namespace, name, log).await;
            // There is no node to ask, or its log is gone with the container.
            evidence.log = read.inspect_err(|error| debug!(object = %key, %error, "no log")).unwrap_or_default();
        }
        let of = owner.as_ref().unwrap_or(&object).metadata.uid.as_deref().unwrap_or_default();
        let of = culprit.as_ref().map_or(of, |culprit| &culprit.uid);
        let read = self.events(namespace, of).await;
        evidence.events = read.inspect_err(|error| debug!(object = %key, %error, "no events")).unwrap_or_default();
        evidence.culprit = culprit;
        Ok(evidence)
    }

    /// Who makes a workload's pods, if that is not the workload itself, and the pod that says most.
    async fn culprit(
        &self,
        key: &ObjectKey,
        workload: &Object,
    ) -> Result<(Option<Object>, Option<Culprit>), ClusterError> {
        let Some(selector) = diagnosis::selector(workload) else { return Ok((None, None)) };
        let namespace = key.namespace_or_empty();
        let mut owner = None;
        if key.kind.is("apps", "Deployment") {
            let path = format!("/apis/apps/v1/namespaces/{namespace}/replicasets");
            let sets: Vec<Object> = self.list(&path, ListParams::default().labels(&selector).limit(SETS)).await?;
            owner = diagnosis::newest(workload, &sets).cloned();
        }
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let pods: Vec<Object> = self.list(&path, ListParams::default().labels(&selector).limit(PODS)).await?;
        let culprit = diagnosis::culprit(owner.as_ref().unwrap_or(workload), &pods, self.now);
        Ok((owner, culprit))
    }

    async fn object(&self, key: &ObjectKey) -> Result<Object, ClusterError> {
        let kinds = self.discovered.known().kinds;
        let not_served = || ClusterError::NotServed { kind: key.kind.to_string(), version: "any".to_owned() };
        let info = kinds.preferred(&key.kind).ok_or_else(not_served)?;
        let path = DynamicObject::url_path(&resource(&key.kind, info), key.namespace.as_deref());
        let request = Request::new(path).get(&key.name, &GetParams::default());
        self.caller.call(&|| format!("read {key}"), As::Plumb, request).await
    }

    async fn list<T: DeserializeOwned + Clone>(&self, path: &str, params: ListParams) -> Result<Vec<T>, ClusterError> {
        let list: ObjectList<T> =
            self.caller.call(&|| format!("list {path}"), As::Plumb, Request::new(path).list(&params)).await?;
        Ok(list.items)
    }

    async fn log(&self, namespace: &str, pod: &str, log: &diagnosis::Log) -> Result<String, ClusterError> {
        let params = LogParams {
            container: Some(log.container.clone()),
            previous: log.previous,
            tail_lines: Some(LOG_LINES),
            limit_bytes: Some(LOG_BYTES),
            ..LogParams::default()
        };
        let request = Request::new(format!("/api/v1/namespaces/{namespace}/pods")).logs(pod, &params);
        self.caller.text(&|| format!("read the log of Pod/{namespace}/{pod}"), As::Plumb, request).await
    }

    /// Events of cluster-scoped objects are in the namespace `default`.
    async fn events(&self, namespace: &str, of: &str) -> Result<Vec<Event>, ClusterError> {
        let namespace = if namespace.is_empty() { "default" } else { namespace };
        let params = ListParams::default().fields(&format!("involvedObject.uid={of},type=Warning")).limit(EVENTS);
        self.list(&format!("/api/v1/namespaces/{namespace}/events"), params).await
    }
}
