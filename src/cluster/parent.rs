//! The Environment object in the cluster: its spec from git, its ApplySet marks, the claim of the one plumb that writes, its status.
//!
//! Three field managers keep out of each other's way, since an apply drops what it does not repeat: `plumb` has the spec, `plumb-applyset` the
//! marks and the claim, `plumb-status` the status. All environments are watched together, so that a hand-edited spec, a lost claim and an
//! approval are seen without asking.

mod any_version;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use any_version::AnyVersion;
use kube::Resource;
use kube::core::params::{DeleteParams, GetParams, ListParams, Patch, PatchParams, Preconditions};
use kube::core::request::Error as RequestError;
use kube::core::{DynamicObject, ObjectList, Request};
use serde_json::{Value, json};
use tokio::sync::watch as channel;
use tokio::task::JoinHandle;
use tracing::warn;

use super::api::{As, Caller};
use super::error::ClusterError;
use super::watch::{Sink, Unserved};
use crate::model::applyset::{self, Reach};
use crate::model::environment::{CONFIRM_PRUNE, DEFINED_AT, EnvironmentStatus, INSTANCE, RELEASED_BY};
use crate::model::live::ResourceVersion;
use crate::model::marks::{self, Instance};
use crate::model::{CommitId, Configuration, Environment};
use crate::render::Definition;

/// How the API server says that a field is not in its definition: with 500 where ownership is merged, with 400 otherwise.
const NOT_DEFINED: [&str; 2] = ["field not declared in schema", "strict decoding error: unknown field"];

/// The Environments of a cluster, by name.
pub type Environments = HashMap<String, Arc<Environment>>;

/// What is known of the Environments.
#[derive(Clone, Default)]
pub struct Known {
    /// All that stand.
    pub environments: Environments,
    /// The first list is done.
    pub listed: bool,
    /// Why nothing can be known at the moment.
    pub trouble: Option<String>,
    /// The custom resource definition is missing.
    pub no_crd: bool,
}

impl Known {
    fn put(&mut self, environment: Environment) {
        let name = environment.metadata.name.clone().unwrap_or_default();
        let newer = self.environments.get(&name).is_some_and(|known| version(known) > version(&environment));
        if !newer {
            self.environments.insert(name, Arc::new(environment));
        }
    }
}

fn version(environment: &Environment) -> ResourceVersion {
    environment.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// The Environments of a cluster as the watch and our own writes show them. Clones share it.
#[derive(Clone)]
pub struct Parents {
    known: Arc<channel::Sender<Known>>,
}

impl Default for Parents {
    fn default() -> Self {
        Self { known: Arc::new(channel::Sender::new(Known::default())) }
    }
}

impl Parents {
    /// Starts watching. The task does not end by itself.
    pub fn watch(&self, caller: Caller) -> JoinHandle<()> {
        let sink = ParentSink { parents: self.clone(), path: Environment::url_path(&(), None), listing: None };
        tokio::spawn(super::watch::run(caller, sink))
    }

    /// Wakes with every change.
    pub fn subscribe(&self) -> channel::Receiver<Known> {
        self.known.subscribe()
    }

    /// One Environment.
    pub fn get(&self, name: &str) -> Option<Arc<Environment>> {
        self.known.borrow().environments.get(name).cloned()
    }

    /// Where an environment has members, as its annotations say.
    pub fn reach(&self, name: &str) -> Reach {
        self.get(name).map(|environment| marks::reach(&environment)).unwrap_or_default()
    }

    /// Takes in the answer to our own write.
    pub fn wrote(&self, environment: Environment) {
        self.known.send_modify(|known| known.put(environment));
    }

    /// Takes in that we have deleted this object.
    pub fn gone(&self, name: &str, environment: &Environment) {
        self.known.send_modify(|known| {
            let same = |known: &Arc<Environment>| known.metadata.uid == environment.metadata.uid;
            if known.environments.get(name).is_some_and(same) {
                known.environments.remove(name);
            }
        });
    }
}

struct ParentSink {
    parents: Parents,
    path: String,
    listing: Option<Environments>,
}

impl Sink for ParentSink {
    type Object = DynamicObject;

    fn kind(&self) -> String {
        "Environment.plumb.dev".to_owned()
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn selector(&self) -> Option<&str> {
        None
    }

    fn metadata_only(&self) -> bool {
        false
    }

    fn relisting(&mut self) {
        self.listing = Some(Environments::new());
    }

    /// One that somebody made unreadable, in a way that its schema lets pass, is as good as none: it is put back.
    fn observe(&mut self, mut object: DynamicObject) {
        object.metadata.managed_fields = None; // Never asked for here, and the largest part.
        let Some(object) = readable(&object) else { return self.gone(object) };
        match &mut self.listing {
            Some(listing) => _ = listing.insert(object.metadata.name.clone().unwrap_or_default(), Arc::new(object)),
            None => self.parents.wrote(object),
        }
    }

    fn gone(&mut self, object: DynamicObject) {
        let name = object.metadata.name.unwrap_or_default();
        self.parents.known.send_modify(|known| _ = known.environments.remove(&name));
    }

    /// What our own writes have shown since is newer than the list.
    fn listed(&mut self, at: ResourceVersion) {
        let environments = self.listing.take().unwrap_or_default();
        self.parents.known.send_modify(|known| {
            let newer = std::mem::replace(known, Known { environments, listed: true, ..Known::default() }).environments;
            newer.into_iter().filter(|(_, environment)| version(environment) > at).for_each(|(name, environment)| {
                known.environments.insert(name, environment);
            });
        });
    }

    fn delivered(&mut self, _: ResourceVersion) {
        self.parents.known.send_if_modified(|known| known.trouble.take().is_some());
    }

    /// 1 is older than what any list says, and a version that nothing is written on.
    fn rewound(&mut self) {
        self.parents.known.send_modify(|known| {
            for environment in known.environments.values_mut() {
                Arc::make_mut(environment).metadata.resource_version = Some("1".to_owned());
            }
        });
    }

    async fn unserved(&mut self, _: &Caller) -> Result<Unserved, ClusterError> {
        Ok(Unserved::Awaited)
    }

    fn stuck(&mut self, trouble: &ClusterError) {
        self.parents.known.send_modify(|known| {
            known.no_crd = trouble.code() == 404;
            known.trouble = Some(trouble.to_string());
        });
    }

    fn version_of(object: &DynamicObject) -> Option<&str> {
        object.metadata.resource_version.as_deref()
    }
}

fn readable(object: &DynamicObject) -> Option<Environment> {
    let read = serde_json::to_value(object).and_then(serde_json::from_value);
    let name = object.metadata.name.as_deref().unwrap_or_default();
    read.inspect_err(|error| warn!(environment = name, %error, "the Environment in the cluster can't be read"))
        .map(|AnyVersion(environment)| environment)
        .ok()
}

/// All Environments of the cluster, read once.
pub async fn list(caller: &Caller) -> Result<Vec<Environment>, ClusterError> {
    let request = Request::new(Environment::url_path(&(), None)).list(&ListParams::default());
    let answer = caller.call::<ObjectList<DynamicObject>>(&|| "list environments".to_owned(), As::Plumb, request).await;
    match answer {
        Err(error) if error.code() == 404 => Err(ClusterError::NoCrd),
        other => Ok(other?.items.iter().filter_map(readable).collect()),
    }
}

/// What is said of the holder when the marks are written.
#[derive(Debug, Clone, Copy)]
pub enum Hold<'a> {
    /// This plumb has the Environment.
    Claimed(&'a Instance),
    /// It gives it up.
    Released(&'a Instance),
}

/// Writes on one Environment object, always with plumb's own rights.
#[derive(Clone, Copy)]
pub struct Parent<'a> {
    /// Sends the requests.
    pub caller: &'a Caller,
    /// The environment's name.
    pub name: &'a str,
}

impl Parent<'_> {
    /// Reads the object as it is now.
    pub async fn read(&self) -> Result<Environment, ClusterError> {
        let request = Request::new(Environment::url_path(&(), None)).get(self.name, &GetParams::default());
        self.call(&|| format!("read Environment/{}", self.name), request).await
    }

    /// Makes the object what git says: its spec, the labels and annotations that git gives it, and where this was read. An apply leaves what others have added; if there is any in the spec, that is replaced as a whole.
    pub async fn apply_definition(
        &self,
        definition: &Definition,
        at: Option<&Configuration>,
    ) -> Result<Environment, ClusterError> {
        let Definition { labels, annotations, spec, .. } = definition;
        let at = at.map(|at| (DEFINED_AT.to_owned(), at.to_string()));
        let annotations: BTreeMap<String, String> = annotations.clone().into_iter().chain(at).collect();
        let metadata = json!({"name": self.name, "labels": labels, "annotations": annotations});
        let now = self.apply("plumb", metadata, Some(json!(spec))).await?;
        if now.spec == *spec {
            return Ok(now);
        }
        let body = json!([
            {"op": "replace", "path": "/metadata/resourceVersion", "value": now.metadata.resource_version},
            {"op": "replace", "path": "/spec", "value": spec},
        ]);
        let what = || format!("put back the spec of Environment/{}", self.name);
        let patch = serde_json::from_value(body).map_err(|source| ClusterError::Unreadable { what: what(), source })?;
        let params = PatchParams { field_manager: Some("plumb".to_owned()), ..PatchParams::default() };
        let request =
            Request::new(Environment::url_path(&(), None)).patch(self.name, &params, &Patch::Json::<()>(patch));
        self.call(&what, request).await
    }

    /// Writes the ApplySet marks and the claim, on exactly the state that was looked at: whoever else claims it in between gets the conflict.
    pub async fn apply_marks(
        &self,
        now: &Environment,
        hold: Hold<'_>,
        reach: &Reach,
    ) -> Result<Environment, ClusterError> {
        let mut annotations = json!({
            applyset::TOOLING: concat!("plumb/v", env!("CARGO_PKG_VERSION")),
            applyset::GROUP_KINDS: reach.group_kinds(),
            applyset::NAMESPACES: reach.additional_namespaces(),
        });
        let (name, value) = match hold {
            Hold::Claimed(me) => (INSTANCE, me.to_string()),
            Hold::Released(me) => (RELEASED_BY, me.name.clone()),
        };
        if let Value::Object(annotations) = &mut annotations {
            annotations.insert(name.to_owned(), value.into());
        }
        let metadata = json!({
            "name": self.name,
            "uid": now.metadata.uid,
            "resourceVersion": now.metadata.resource_version,
            "labels": {applyset::ID: applyset::id(self.name)},
            "annotations": annotations,
        });
        self.apply("plumb-applyset", metadata, None).await
    }

    /// Approves what this commit would prune beyond its budget.
    pub async fn confirm_prune(&self, commit: CommitId) -> Result<Environment, ClusterError> {
        let metadata = json!({"name": self.name, "annotations": {CONFIRM_PRUNE: commit.to_string()}});
        self.apply("plumb-approve", metadata, None).await
    }

    /// Writes the status.
    pub async fn apply_status(&self, status: &EnvironmentStatus) -> Result<Environment, ClusterError> {
        let body = json!({
            "apiVersion": Environment::api_version(&()), "kind": Environment::kind(&()),
            "metadata": {"name": self.name}, "status": status,
        });
        let params = PatchParams::apply("plumb-status").force();
        let request = Request::new(Environment::url_path(&(), None)).patch_subresource(
            "status",
            self.name,
            &params,
            &Patch::Apply(&body),
        );
        self.call(&|| format!("write the status of Environment/{}", self.name), request).await
    }

    /// Deletes the object as it was looked at, and only so: not one that changed, or was claimed, since.
    pub async fn delete(&self, now: &Environment) -> Result<(), ClusterError> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: now.metadata.uid.clone(),
                resource_version: now.metadata.resource_version.clone(),
            }),
            ..DeleteParams::default()
        };
        let request = Request::new(Environment::url_path(&(), None)).delete(self.name, &params);
        let what = || format!("delete Environment/{}", self.name);
        match self.caller.call::<Value>(&what, As::Plumb, request).await {
            Err(error) if error.code() == 404 => Ok(()),
            other => other.map(drop),
        }
    }

    async fn apply(&self, manager: &str, metadata: Value, spec: Option<Value>) -> Result<Environment, ClusterError> {
        let mut body = json!({
            "apiVersion": Environment::api_version(&()), "kind": Environment::kind(&()), "metadata": metadata,
        });
        if let (Some(spec), Value::Object(body)) = (spec, &mut body) {
            body.insert("spec".to_owned(), spec);
        }
        let params = PatchParams::apply(manager).force().validation_strict();
        let request = Request::new(Environment::url_path(&(), None)).patch(self.name, &params, &Patch::Apply(&body));
        match self.call(&|| format!("apply Environment/{} as {manager}", self.name), request).await {
            Err(error) if error.code() == 404 => Err(ClusterError::NoCrd),
            Err(ClusterError::Refused { status, .. })
                if NOT_DEFINED.iter().any(|text| status.message.contains(text)) =>
            {
                Err(ClusterError::OtherCrd { said: status.message })
            }
            other => other,
        }
    }

    async fn call(
        &self,
        what: &(dyn Fn() -> String + Sync),
        request: Result<http::Request<Vec<u8>>, RequestError>,
    ) -> Result<Environment, ClusterError> {
        self.caller.call(what, As::Plumb, request).await.map(|AnyVersion(environment)| environment)
    }
}
