//! What an apply alone cannot heal, and what makes it possible: fields that stand in the way of ours, fields that must not stand beside ours, and entries of a
//! version that is gone. Each moves ownership first, by a patch of `metadata.managedFields` alone, and leaves the content to the apply.

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::core::response::StatusCause;

use super::apply::{Whole, Writer};
use super::error::ClusterError;
use super::execute::{Done, Executor};
use super::{failure, limiter};
use crate::drift::contested::Contested;
use crate::drift::fields::FieldSet;
use crate::drift::ownership;
use crate::model::kinds::{KindInfo, Kinds, Lookup};
use crate::model::{Live, Manifest, Stage};
use crate::plan::immutable::{self, Cause};

/// How often something is done anew that somebody else's write came in between of.
const ATTEMPTS: u32 = 4;

/// The ownership that an object needs before it can be applied, and the state that it was read in.
pub(super) struct Remedy {
    now: Whole,
    entries: Vec<ManagedFieldsEntry>,
}

impl Writer<'_> {
    /// What would make an apply possible that was refused; `None` if nothing that plumb may do would.
    pub(super) async fn remedy(
        &self,
        manifest: &Manifest,
        info: &KindInfo,
        kinds: &Kinds,
        refusal: &ClusterError,
    ) -> Result<Option<Remedy>, ClusterError> {
        let causes = causes(refusal);
        let contested = !causes.is_empty() && immutable::immutable_fields(&causes).is_none();
        if !contested && refusal.code() != 500 {
            return Ok(None);
        }
        let Some(now) = self.object(&manifest.key, info).await? else { return Ok(None) };
        let entries = match contested {
            true => self.claim_in_the_way(manifest, &now, &causes)?,
            false => ownership::move_to_version(now.owners(), served(kinds, manifest), &manifest.api_version())?,
        };
        Ok(entries.map(|entries| Remedy { now, entries }))
    }

    fn claim_in_the_way(
        &self,
        manifest: &Manifest,
        now: &Whole,
        causes: &[Cause],
    ) -> Result<Option<Vec<ManagedFieldsEntry>>, ClusterError> {
        let what = || format!("the manifest of {}", manifest.key);
        let unreadable = |source| ClusterError::Unreadable { what: what(), source };
        let git = serde_json::from_str(manifest.json.get()).map_err(unreadable)?;
        let version = manifest.api_version();
        let contested = Contested {
            entries: now.owners(),
            manager: self.manager,
            api_version: &version,
            live: &now.content,
            git: &git,
            left_alone: manifest.left_alone(),
        };
        let refused: Vec<&str> = causes.iter().map(|cause| &*cause.field).collect();
        let paths = contested.in_the_way(&refused)?;
        if paths.is_empty() {
            return Ok(None);
        }
        Ok(ownership::claim(now.owners(), self.manager, &version, &paths)?)
    }
}

impl Executor<'_> {
    /// Carries a remedy out. False if there is none.
    pub(super) async fn mend(
        &self,
        manifest: &Manifest,
        info: &KindInfo,
        kinds: &Kinds,
        refusal: &ClusterError,
    ) -> Result<bool, ClusterError> {
        let mut attempts = Attempts::default();
        loop {
            let Some(Remedy { now, entries }) = self.writer.remedy(manifest, info, kinds, refusal).await? else {
                return Ok(false);
            };
            let moved = self.move_ownership(manifest, info, &now.metadata, &entries).await;
            if !attempts.overtaken(&moved) {
                return moved.map(|_| true);
            }
        }
    }

    /// Takes out of objects of ours what others have put into them.
    pub async fn take_out_all(&self, additions: Vec<(Arc<Manifest>, FieldSet)>, kinds: &Kinds) -> Done {
        let answers = futures::stream::iter(additions).map(|(manifest, paths)| async move {
            if self.stopped() {
                return (manifest, None);
            }
            let answer = match kinds.lookup(&manifest.key.kind, &manifest.version) {
                Lookup::Served(info) => self.take_out_foreign(&manifest, info, &paths).await,
                _ => Ok(None),
            };
            (manifest, Some(answer))
        });
        let mut done = Done::default();
        for (manifest, answer) in answers.buffered(limiter::MOST).collect::<Vec<_>>().await {
            match answer {
                Some(Ok(Some(live))) => done.wrote(&manifest, &live, self.writer.manager),
                Some(Ok(None)) => {} // Gone, or of a version that is served no more.
                Some(Err(error)) => done.failures.push(failure::of_object(Stage::Apply, &manifest, &error)),
                None => done.stopped = true,
            }
        }
        done
    }

    /// Takes fields out that others have put into an object of ours: they become ours, and the apply that follows does not have them. Fields that git has
    /// and fields that are left to others stay. The answer is what to remember; `None` if the object does not stand.
    pub async fn take_out_foreign(
        &self,
        manifest: &Manifest,
        info: &KindInfo,
        paths: &FieldSet,
    ) -> Result<Option<Live>, ClusterError> {
        let (version, paths) = (manifest.api_version(), paths.outside(manifest.left_alone()));
        let mut attempts = Attempts::default();
        let uid = loop {
            let Some(now) = self.writer.metadata(&manifest.key, info).await? else { return Ok(None) };
            let owners = now.metadata.managed_fields.as_deref().unwrap_or_default();
            let Some(entries) = ownership::claim(owners, self.writer.manager, &version, &paths)? else {
                break now.metadata.uid;
            };
            let moved = self.move_ownership(manifest, info, &now.metadata, &entries).await;
            if !attempts.overtaken(&moved) {
                break moved?.metadata.uid;
            }
        };
        let answer = self.writer.apply(manifest, info, uid.as_deref(), true).await?;
        Ok(Some(self.cluster.inventory.wrote(&manifest.key.kind, &answer)))
    }
}

/// Counts how often a write came too late for the state that it was made from: controllers write a status at any time.
#[derive(Default)]
pub(super) struct Attempts(u32);

impl Attempts {
    /// Whether that was so and it makes sense to read and write again.
    pub(super) fn overtaken<R>(&mut self, result: &Result<R, ClusterError>) -> bool {
        self.0 += 1;
        self.0 < ATTEMPTS && result.as_ref().is_err_and(|error| error.code() == 409)
    }
}

/// Whether a version of this object's kind is served, as its `apiVersion`. A version of another group than the kind's is not ours to judge.
fn served<'a>(kinds: &'a Kinds, manifest: &'a Manifest) -> impl Fn(&str) -> bool + 'a {
    move |api_version| {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        group != &*manifest.key.kind.group || matches!(kinds.lookup(&manifest.key.kind, version), Lookup::Served(_))
    }
}

/// The fields that an answer 422 names.
pub(super) fn causes(error: &ClusterError) -> Vec<Cause> {
    let details = error.status().filter(|status| status.code == 422).and_then(|status| status.details.as_ref());
    let causes = details.map(|details| details.causes.as_slice()).unwrap_or_default();
    let cause = |cause: &StatusCause| Cause {
        reason: cause.reason.clone(),
        field: cause.field.clone(),
        message: cause.message.clone(),
    };
    causes.iter().map(cause).collect()
}
