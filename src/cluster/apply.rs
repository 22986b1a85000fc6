//! The writes on member objects: server-side apply, delete, and the few patches that move ownership. Each is one request, with the
//! preconditions that make it safe.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::Resource;
use kube::core::params::{
    DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
};
use kube::core::{DynamicObject, ObjectList, PartialObjectMeta, Request};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::api::{As, Caller};
use super::error::ClusterError;
use super::inventory::resource;
use crate::model::environment::Propagation;
use crate::model::kinds::KindInfo;
use crate::model::{Manifest, ObjectKey};
use crate::plan::Precondition;

/// The metadata of an object, `managedFields` included, without its content.
pub type Metadata = PartialObjectMeta<DynamicObject>;

/// A whole live object. It may be a Secret: never shown, never kept.
pub struct Whole {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// All of it.
    pub content: Value,
}

impl Whole {
    /// Who owns its fields.
    pub fn owners(&self) -> &[ManagedFieldsEntry] {
        self.metadata.managed_fields.as_deref().unwrap_or_default()
    }
}

/// Writes as one environment: its field manager and the rights it acts with.
#[derive(Clone, Copy)]
pub struct Writer<'a> {
    /// Sends the requests.
    pub caller: &'a Caller,
    /// The field manager, `plumb-<environment>`.
    pub manager: &'a str,
    /// Whose rights are used.
    pub by: As<'a>,
}

/// The request builder for one object's collection.
fn at(key: &ObjectKey, info: &KindInfo) -> Request {
    Request::new(DynamicObject::url_path(&resource(&key.kind, info), key.namespace.as_deref()))
}

/// What is sent of a manifest; with a `uid` the API server refuses it to any other object.
fn body<'a>(manifest: &'a Manifest, uid: Option<&str>) -> Result<Cow<'a, RawValue>, ClusterError> {
    let Some(uid) = uid else { return Ok(Cow::Borrowed(&manifest.json)) };
    let unreadable = |source| ClusterError::Unreadable { what: format!("the manifest of {}", manifest.key), source };
    let mut body: Value = serde_json::from_str(manifest.json.get()).map_err(unreadable)?;
    if let Some(Value::Object(metadata)) = body.get_mut("metadata") {
        metadata.insert("uid".to_owned(), uid.into());
    }
    to_raw_value(&body).map(Cow::Owned).map_err(unreadable)
}

impl Writer<'_> {
    /// Applies an object. With a `uid` it must be that very object: server-side apply would silently make a deleted one again. Without `force`, fields that
    /// another manager has set otherwise are a conflict: for an object that should not stand yet.
    pub async fn apply(
        &self,
        manifest: &Manifest,
        info: &KindInfo,
        uid: Option<&str>,
        force: bool,
    ) -> Result<Metadata, ClusterError> {
        let params = PatchParams { force, ..PatchParams::apply(self.manager) }.validation_strict();
        let body = Patch::Apply(body(manifest, uid)?);
        let request = at(&manifest.key, info).patch_metadata(&manifest.key.name, &params, &body);
        self.caller.call(&|| format!("apply {}", manifest.key), self.by, request).await
    }

    /// Asks what applying an object would do.
    pub async fn dry_run(
        &self,
        manifest: &Manifest,
        info: &KindInfo,
        uid: Option<&str>,
    ) -> Result<Metadata, ClusterError> {
        let params = PatchParams::apply(self.manager).force().dry_run().validation_strict();
        let body = Patch::Apply(body(manifest, uid)?);
        let request = at(&manifest.key, info).patch_metadata(&manifest.key.name, &params, &body);
        self.caller.call(&|| format!("dry-run of {}", manifest.key), self.by, request).await
    }

    /// What applying an object would make of it, whole. It may be a Secret: to be compared, never to be shown.
    pub async fn would_become(&self, manifest: &Manifest, info: &KindInfo, uid: &str) -> Result<Value, ClusterError> {
        let params = PatchParams::apply(self.manager).force().dry_run().validation_strict();
        let body = Patch::Apply(body(manifest, Some(uid))?);
        let request = at(&manifest.key, info).patch(&manifest.key.name, &params, &body);
        self.caller.call(&|| format!("dry-run of {}", manifest.key), self.by, request).await
    }

    /// Deletes exactly the object that was planned for: another uid or a newer resourceVersion is a conflict. Gone already is done.
    pub async fn delete(
        &self,
        key: &ObjectKey,
        info: &KindInfo,
        precondition: &Precondition,
        propagation: Propagation,
    ) -> Result<(), ClusterError> {
        let policy = match propagation {
            Propagation::Foreground => PropagationPolicy::Foreground,
            Propagation::Background => PropagationPolicy::Background,
        };
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions {
                uid: Some(precondition.uid.to_string()),
                resource_version: Some(precondition.resource_version.to_string()),
            }),
            ..DeleteParams::default()
        };
        let what = || format!("delete {key}");
        let request = at(key, info).delete(&key.name, &params);
        match self.caller.call::<Value>(&what, self.by, request).await {
            Err(error) if error.code() == 404 => Ok(()),
            other => other.map(drop),
        }
    }

    /// Asks whether the replacement of an object could be created: the passing answer is 409 AlreadyExists, since validation and admission come
    /// before storage.
    pub async fn could_create(&self, manifest: &Manifest, info: &KindInfo) -> Result<(), ClusterError> {
        let what = || format!("dry-run of creating {} anew", manifest.key);
        let params = PostParams { dry_run: true, field_manager: Some(self.manager.to_owned()) };
        let request = at(&manifest.key, info).create(&params, manifest.json.get().as_bytes().to_vec());
        match self.caller.call::<Value>(&what, self.by, request).await {
            Err(error) if error.status().is_some_and(kube::core::Status::is_already_exists) => Ok(()),
            other => other.map(drop),
        }
    }

    /// What the API server would make of a manifest by itself, under a name of its own choice: git's values, defaults, and what admission does.
    pub async fn would_make(&self, manifest: &Manifest, info: &KindInfo) -> Result<Value, ClusterError> {
        let unreadable =
            |source| ClusterError::Unreadable { what: format!("the manifest of {}", manifest.key), source };
        let mut object: Value = serde_json::from_str(manifest.json.get()).map_err(unreadable)?;
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            metadata.remove("name");
            metadata.insert("generateName".to_owned(), "plumb-".into());
        }
        let params = PostParams { dry_run: true, field_manager: Some(self.manager.to_owned()) };
        let request = at(&manifest.key, info).create(&params, serde_json::to_vec(&object).map_err(unreadable)?);
        self.caller.call(&|| format!("dry-run of creating the like of {}", manifest.key), self.by, request).await
    }

    /// Replaces `metadata.managedFields` by a patch that names the resourceVersion it was made from.
    pub async fn patch_ownership(
        &self,
        key: &ObjectKey,
        info: &KindInfo,
        patch: json_patch::Patch,
    ) -> Result<Metadata, ClusterError> {
        let params = PatchParams { field_manager: Some(self.manager.to_owned()), ..PatchParams::default() };
        let request = at(key, info).patch_metadata(&key.name, &params, &Patch::Json::<()>(patch));
        self.caller.call(&|| format!("move the field ownership of {key}"), self.by, request).await
    }

    /// Lets another manager's fields go by its empty apply; without it they would stay behind when the object changes hands.
    pub async fn let_go(
        &self,
        manifest: &Manifest,
        info: &KindInfo,
        former: &str,
        now: &Metadata,
    ) -> Result<Metadata, ClusterError> {
        let key = &manifest.key;
        let body = json!({
            "apiVersion": manifest.api_version(), "kind": key.kind.kind,
            "metadata": {
                "name": key.name, "namespace": key.namespace,
                "uid": now.metadata.uid, "resourceVersion": now.metadata.resource_version,
            },
        });
        let params = PatchParams::apply(former).force();
        let request = at(key, info).patch_metadata(&key.name, &params, &Patch::Apply(&body));
        self.caller.call(&|| format!("let the fields of {former} on {key} go"), self.by, request).await
    }

    /// Applies some fields of an object as another manager of plumb's, without force: a field that somebody else has set otherwise is a conflict.
    pub async fn share(
        &self,
        key: &ObjectKey,
        info: &KindInfo,
        manager: &str,
        body: &Value,
    ) -> Result<Metadata, ClusterError> {
        let request = at(key, info).patch_metadata(&key.name, &PatchParams::apply(manager), &Patch::Apply(body));
        self.caller.call(&|| format!("share fields of {key} as {manager}"), self.by, request).await
    }

    /// One object as it is, with its owners; `None` if it does not stand.
    pub async fn object(&self, key: &ObjectKey, info: &KindInfo) -> Result<Option<Whole>, ClusterError> {
        let Some(content) = self.read(key, info).await? else { return Ok(None) };
        let metadata = content.get("metadata").cloned().unwrap_or_default();
        let unreadable = |source| ClusterError::Unreadable { what: format!("the metadata of {key}"), source };
        Ok(Some(Whole { metadata: serde_json::from_value(metadata).map_err(unreadable)?, content }))
    }

    /// The live metadata of one object; `None` if it does not stand.
    pub async fn metadata(&self, key: &ObjectKey, info: &KindInfo) -> Result<Option<Metadata>, ClusterError> {
        let request = at(key, info).get_metadata(&key.name, &GetParams::default());
        match self.caller.call(&|| format!("read the metadata of {key}"), As::Plumb, request).await {
            Err(error) if error.code() == 404 => Ok(None),
            other => other.map(Some),
        }
    }

    /// One object as it is; `None` if it does not stand.
    pub async fn read(&self, key: &ObjectKey, info: &KindInfo) -> Result<Option<Value>, ClusterError> {
        let request = at(key, info).get(&key.name, &GetParams::default());
        match self.caller.call(&|| format!("read {key}"), As::Plumb, request).await {
            Err(error) if error.code() == 404 => Ok(None),
            other => other.map(Some),
        }
    }

    /// The live metadata of the objects of `key`'s kind in its namespace that a label selector picks, page by page to `each`.
    pub async fn metadata_list(
        &self,
        key: &ObjectKey,
        info: &KindInfo,
        selector: &str,
        mut each: impl FnMut(Metadata),
    ) -> Result<(), ClusterError> {
        let mut params = ListParams::default().labels(selector).limit(500);
        let what = || format!("list the metadata of {} in {:?}", key.kind, key.namespace_or_empty());
        loop {
            let request = at(key, info).list_metadata(&params);
            let page: ObjectList<Metadata> = self.caller.call(&what, As::Plumb, request).await?;
            page.items.into_iter().for_each(&mut each);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
