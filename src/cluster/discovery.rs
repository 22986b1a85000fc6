//! Which kinds the API server serves (aggregated discovery, two requests), kept until something unknown is asked for.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroup, APIResource, APIResourceList};
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::discovery::{Discovery, Scope};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::api::{As, Caller, answer_of};
use super::error::ClusterError;
use super::inventory::collection;
use crate::model::kinds::{KindInfo, Kinds};
use crate::model::{GroupKind, Manifest};
use crate::telemetry::Turns;

/// A discovery may take this long: an aggregated API server that is away slows it down.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// The newest [`Kinds`] and how often they changed.
#[derive(Default)]
pub struct Discovered {
    state: std::sync::RwLock<Known>,
    /// Held during discovery, so that a hundred environments that start at once ask once.
    asking: Mutex<Option<Instant>>,
    turns: Turns,
}

/// What discovery found, with a number that grows whenever it changes: renders that depend on it are cached by that number.
#[derive(Clone, Default)]
pub struct Known {
    /// The kinds.
    pub kinds: Arc<Kinds>,
    /// Grows with each change; 0: never asked.
    pub generation: u64,
}

impl Discovered {
    /// What is known now.
    pub fn known(&self) -> Known {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Asks the API server if nobody has asked yet.
    pub async fn ensure(&self, caller: &Caller) -> Result<Known, ClusterError> {
        let asked = caller.pulse().queue(&self.turns, self.asking.lock()).await;
        if asked.is_some() {
            return Ok(self.known());
        }
        self.ask(caller, asked).await
    }

    /// Asks the API server again, unless somebody did since `seen`: after a custom resource definition was made, or for an unknown kind.
    pub async fn refresh(&self, caller: &Caller, seen: u64) -> Result<Known, ClusterError> {
        let asked = caller.pulse().queue(&self.turns, self.asking.lock()).await;
        let known = self.known();
        if known.generation > seen {
            return Ok(known);
        }
        self.ask(caller, asked).await
    }

    async fn ask(
        &self,
        caller: &Caller,
        mut asked: tokio::sync::MutexGuard<'_, Option<Instant>>,
    ) -> Result<Known, ClusterError> {
        let what = || "discover the API's kinds".to_owned();
        let request = http::Request::get("/version").body(Vec::new()).map_err(kube::core::request::Error::BuildRequest);
        let version: Info = caller.call(&what, As::Plumb, request).await?;
        let unreachable = |source| ClusterError::Unreachable { what: what(), source };
        // Aggregated discovery (GA in 1.30) takes two requests; older servers are asked group by group.
        let ask = async {
            match Discovery::new(caller.client().clone()).run_aggregated().await {
                Ok(discovery) => Ok(discovery),
                Err(_) => Discovery::new(caller.client().clone()).run().await,
            }
        };
        let began = Instant::now();
        let answer = tokio::time::timeout(TIME_LIMIT, ask).await;
        caller.telemetry().metrics.request("discover", answer_of(&answer, |_| 200), began.elapsed());
        let timed_out = |_| ClusterError::TimedOut { what: what(), after: TIME_LIMIT };
        let discovery = answer.map_err(timed_out)?.map_err(unreachable)?;
        let mut kinds = Kinds::new(version.git_version);
        for group in discovery.groups() {
            let preferred = group.preferred_version_or_latest();
            let others = group.versions().filter(|version| *version != preferred);
            for version in std::iter::once(preferred).chain(others) {
                for (resource, capabilities) in group.versioned_resources(version) {
                    if resource.plural.contains('/') || !capabilities.supports_operation("patch") {
                        continue;
                    }
                    let info = KindInfo {
                        version: version.into(),
                        plural: resource.plural.as_str().into(),
                        namespaced: capabilities.scope == Scope::Namespaced,
                    };
                    kinds.add(GroupKind::new(&resource.group, &resource.kind), info);
                }
            }
        }
        *asked = Some(Instant::now());
        Ok(self.publish(kinds))
    }

    /// Takes in what a custom resource definition that was just established defines, and what it no longer does: discovery lags behind it by a moment.
    pub fn add_definition(&self, definition: &Manifest) {
        let value: Value = serde_json::from_str(definition.json.get()).unwrap_or_default();
        let known = self.known();
        let mut kinds = (*known.kinds).clone();
        if let Some((kind, versions)) = defined_kind(&value) {
            kinds.define(kind, versions);
        }
        self.publish(kinds);
    }

    fn publish(&self, kinds: Kinds) -> Known {
        let mut state = self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *state.kinds == kinds && state.generation > 0 {
            return state.clone();
        }
        *state = Known { kinds: Arc::new(kinds), generation: state.generation + 1 };
        state.clone()
    }
}

/// A version in which a kind is served, the preferred one first, other than those whose collection is at this path: asked anew, past what is remembered.
pub(super) async fn served_elsewhere(
    caller: &Caller,
    kind: &GroupKind,
    gone: &str,
) -> Result<Option<KindInfo>, ClusterError> {
    if kind.group.is_empty() {
        return Ok(None);
    }
    let what = || format!("ask in which versions {kind} is served");
    let get =
        |path: String| http::Request::get(path).body(Vec::new()).map_err(kube::core::request::Error::BuildRequest);
    let group = caller.call::<APIGroup>(&what, As::Plumb, get(format!("/apis/{}", kind.group))).await;
    let group = match group {
        Err(error) if error.code() == 404 => return Ok(None),
        other => other?,
    };
    let preferred = group.preferred_version.iter().chain(&group.versions);
    for version in preferred.map(|version| &*version.version) {
        let path = format!("/apis/{}/{version}", kind.group);
        let resources = match caller.call::<APIResourceList>(&what, As::Plumb, get(path)).await {
            Err(error) if error.code() == 404 => continue, // It went meanwhile.
            other => other?.resources,
        };
        let is_kind = |resource: &&APIResource| *resource.kind == *kind.kind && !resource.name.contains('/');
        let Some(resource) = resources.iter().find(is_kind) else { continue };
        let info = KindInfo {
            version: version.into(),
            plural: resource.name.as_str().into(),
            namespaced: resource.namespaced,
        };
        if collection(kind, &info) != gone {
            return Ok(Some(info));
        }
    }
    Ok(None)
}

/// The kind that a CustomResourceDefinition defines, in its served versions.
fn defined_kind(definition: &Value) -> Option<(GroupKind, Vec<KindInfo>)> {
    let text = |pointer: &str| definition.pointer(pointer).and_then(Value::as_str);
    let (group, kind, plural) = (text("/spec/group")?, text("/spec/names/kind")?, text("/spec/names/plural")?);
    let namespaced = text("/spec/scope") == Some("Namespaced");
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten();
    let served = versions.filter(|version| version.get("served") != Some(&Value::Bool(false)));
    let served = served.filter_map(|version| version.get("name").and_then(Value::as_str));
    let versions = served.map(|version| KindInfo { version: version.into(), plural: plural.into(), namespaced });
    Some((GroupKind::new(group, kind), versions.collect()))
}
