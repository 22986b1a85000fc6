//! Carries a plan out: phase by phase, many requests at once, each with its step's preconditions; then, only if every write succeeded, the deletions.
//!
//! After each write it looks whether it should stop; a write under way is never cut. What was done so far is always in the result, so that nothing is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use tokio::sync::watch as channel;

use super::apply::{Metadata, Writer};
use super::connect::Cluster;
use super::error::ClusterError;
use super::gates::Pinned;
use super::{definitions, failure, limiter};
use crate::drift::fields::FieldSet;
use crate::drift::fingerprint::Baseline;
use crate::drift::ownership;
use crate::model::applyset;
use crate::model::environment::Propagation;
use crate::model::kinds::{KindInfo, Kinds, Lookup};
use crate::model::live::ResourceVersion;
use crate::model::{Failure, GroupKind, Live, Manifest, ObjectKey, Stage};
use crate::plan::{Action, Plan, Step, order};

/// A replaced object may take this long to go.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// What carrying out a plan needs.
#[derive(Clone, Copy)]
pub struct Executor<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Who writes.
    pub writer: Writer<'a>,
    /// How dependents are deleted.
    pub propagation: Propagation,
    /// Turns true when a newer commit has passed its gates, or plumb shuts down.
    pub stop: &'a channel::Receiver<bool>,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Done {
    /// Objects that were written, with what to remember of them.
    pub baselines: Vec<(ObjectKey, Baseline)>,
    /// Objects that were deleted.
    pub pruned: BTreeSet<ObjectKey>,
    /// Deletions that came too late for the state they were planned for: to be decided anew.
    pub overtaken: usize,
    /// What failed, each object alone.
    pub failures: Vec<Failure>,
    /// Stopped before the end.
    pub stopped: bool,
    /// The newest resourceVersion written, by kind.
    pub written: BTreeMap<GroupKind, ResourceVersion>,
}

impl Done {
    fn wrote(&mut self, manifest: &Manifest, live: &Live, manager: &str) {
        if let Some(baseline) = Baseline::of(manifest.digest, live, manager) {
            self.baselines.push((manifest.key.clone(), baseline));
        }
        let written = self.written.entry(manifest.key.kind.clone()).or_default();
        *written = (*written).max(live.resource_version);
    }
}

impl Executor<'_> {
    fn stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Carries out the writes of a plan, phase by phase. The `pinned` fields, which leave git, are taken from their co-owners first.
    pub async fn write(&self, plan: &Plan, pinned: &Pinned) -> Done {
        let mut done = Done::default();
        let writes: Vec<&Step> = plan.steps.iter().filter(|step| step.action.writes()).collect();
        for phase in writes.chunk_by(|a, b| order::phase(&a.key.kind) == order::phase(&b.key.kind)) {
            // Kinds that the phase before defined are known by now.
            let kinds = self.cluster.discovered.known().kinds;
            let kinds = &*kinds;
            let (mut steps, mut writing) = (phase.iter(), FuturesUnordered::new());
            loop {
                while writing.len() < limiter::MOST
                    && !self.stopped()
                    && let Some(step) = steps.next()
                {
                    if let Some(manifest) = &step.manifest {
                        writing.push(self.step(step, manifest, kinds, pinned.get(&step.key)));
                    }
                }
                match writing.next().await {
                    Some((manifest, Ok(live))) => done.wrote(manifest, &live, self.writer.manager),
                    Some((manifest, Err(error))) => {
                        done.failures.push(failure::of_object(Stage::Apply, manifest, &error))
                    }
                    None => break,
                }
            }
            done.stopped = steps.next().is_some();
            if done.stopped {
                return done;
            }
            let established =
                definitions::establish(self.cluster, phase.iter().filter_map(|step| step.manifest.as_deref()));
            done.failures.extend(established.await);
            // In the order of the objects, not of the answers: the same trouble reads the same.
            done.failures.sort_by(|a, b| a.object.cmp(&b.object));
        }
        done
    }

    async fn step<'s>(
        &self,
        step: &Step,
        manifest: &'s Manifest,
        kinds: &Kinds,
        pinned: Option<&FieldSet>,
    ) -> (&'s Manifest, Result<Live, ClusterError>) {
        (manifest, self.write_one(step, manifest, kinds, pinned).await)
    }

    async fn write_one(
        &self,
        step: &Step,
        manifest: &Manifest,
        kinds: &Kinds,
        pinned: Option<&FieldSet>,
    ) -> Result<Live, ClusterError> {
        let info = served(kinds, manifest)?;
        let uid = step.precondition.as_ref().map(|precondition| &*precondition.uid);
        if step.migrate || pinned.is_some() {
            self.release(manifest, info, step.migrate, pinned).await?;
        }
        let mut answer = match (&step.action, &step.precondition) {
            (Action::Replace, Some(precondition)) => {
                self.writer.delete(&step.key, info, precondition, self.propagation).await?;
                self.wait_gone(manifest, info, &precondition.uid).await?;
                self.writer.apply(manifest, info, None, true).await?
            }
            (action, _) => self.apply_defined(manifest, info, uid, *action != Action::Create).await?,
        };
        for former in &step.let_go {
            answer = self.writer.let_go(manifest, info, &applyset::manager(former), &answer).await?;
        }
        Ok(self.cluster.inventory.wrote(&step.key.kind, &answer))
    }

    /// Applies. A kind that was defined a moment ago may still be answered 404 by an API server that has not taken it up; an object that was deleted
    /// since the plan is made again.
    async fn apply_defined(
        &self,
        manifest: &Manifest,
        info: &KindInfo,
        uid: Option<&str>,
        force: bool,
    ) -> Result<Metadata, ClusterError> {
        let mut pauses = [50, 200, 800, 2000].into_iter();
        loop {
            match self.writer.apply(manifest, info, uid, force).await {
                Err(error) if error.code() == 404 && definitions::is_unserved(&error) => {
                    let Some(pause) = pauses.next() else { return Err(error) };
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                Err(error) if error.code() == 409 && uid.is_some() => {
                    return match self.writer.metadata(&manifest.key, info).await? {
                        None => self.writer.apply(manifest, info, None, false).await,
                        Some(_) => Err(error),
                    };
                }
                other => return other,
            }
        }
    }

    /// Moves ownership before an apply: what client-side apply left becomes ours, and what we give up is taken from its co-owners, so that it leaves
    /// the cluster when it leaves git.
    async fn release(
        &self,
        manifest: &Manifest,
        info: &KindInfo,
        migrate: bool,
        pinned: Option<&FieldSet>,
    ) -> Result<(), ClusterError> {
        let Some(mut now) = self.writer.metadata(&manifest.key, info).await? else { return Ok(()) };
        let owners = |now: &Metadata| now.metadata.managed_fields.clone().unwrap_or_default();
        if migrate && let Some(moved) = ownership::migrate_client_side_apply(&owners(&now), self.writer.manager)? {
            now = self.move_ownership(manifest, info, &now, &moved).await?;
        }
        let Some(pinned) = pinned else { return Ok(()) };
        let answer = self.writer.dry_run(manifest, info, now.metadata.uid.as_deref()).await?;
        let lost = ownership::would_lose(&self.owned(&now)?, &self.owned(&answer)?).union(pinned);
        let released = ownership::release_pins(&owners(&now), self.writer.manager, &lost)?;
        if let Some(entries) = released.entries {
            self.move_ownership(manifest, info, &now, &entries).await?;
        }
        Ok(())
    }

    async fn move_ownership(
        &self,
        manifest: &Manifest,
        info: &KindInfo,
        now: &Metadata,
        entries: &[ManagedFieldsEntry],
    ) -> Result<Metadata, ClusterError> {
        let version = self.cluster.inventory.reduce(now).resource_version;
        let unreadable =
            |source| ClusterError::Unreadable { what: format!("the ownership of {}", manifest.key), source };
        let patch = ownership::managed_fields_patch(version, entries).map_err(unreadable)?;
        self.writer.patch_ownership(&manifest.key, info, patch).await
    }

    /// The fields that our entry names.
    fn owned(&self, object: &Metadata) -> Result<FieldSet, ClusterError> {
        let live = self.cluster.inventory.reduce(object);
        Ok(live.entry(self.writer.manager).map(|entry| FieldSet::parse(&entry.fields)).transpose()?.unwrap_or_default())
    }

    async fn wait_gone(&self, manifest: &Manifest, info: &KindInfo, uid: &str) -> Result<(), ClusterError> {
        let gone = async {
            let mut pause = Duration::from_millis(20);
            loop {
                match self.writer.metadata(&manifest.key, info).await? {
                    Some(object) if object.metadata.uid.as_deref() == Some(uid) => {}
                    _ => return Ok(()),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
        };
        let slow = |_| ClusterError::TimedOut { what: format!("wait for {} to go", manifest.key), after: GONE_WITHIN };
        tokio::time::timeout(GONE_WITHIN, gone).await.map_err(slow)?
    }

    /// Carries out the deletions of a plan, in its order, phase by phase.
    pub async fn prune(&self, plan: &Plan, done: &mut Done) {
        let known = self.cluster.discovered.known();
        let kinds = &*known.kinds;
        let prunes: Vec<&Step> = plan.steps.iter().filter(|step| step.action == Action::Prune).collect();
        for phase in prunes.chunk_by(|a, b| order::phase(&a.key.kind) == order::phase(&b.key.kind)) {
            let (mut steps, mut deleting) = (phase.iter(), FuturesUnordered::new());
            loop {
                while deleting.len() < limiter::MOST
                    && !self.stopped()
                    && let Some(step) = steps.next()
                {
                    deleting.push(self.delete_one(step, kinds));
                }
                match deleting.next().await {
                    Some((step, Ok(()))) => _ = done.pruned.insert(step.key.clone()),
                    Some((_, Err(error))) if error.code() == 409 => done.overtaken += 1,
                    Some((step, Err(error))) => {
                        done.failures.push(failure::of_stage(Stage::Prune, &error).on(step.key.clone()));
                    }
                    None => break,
                }
            }
            done.stopped = steps.next().is_some();
            if done.stopped {
                return;
            }
        }
    }

    async fn delete_one<'s>(&self, step: &'s Step, kinds: &Kinds) -> (&'s Step, Result<(), ClusterError>) {
        // A kind that is no longer served took its objects with it.
        let (Some(info), Some(precondition)) = (kinds.preferred(&step.key.kind), &step.precondition) else {
            return (step, Ok(()));
        };
        (step, self.writer.delete(&step.key, info, precondition, self.propagation).await)
    }
}

fn served<'a>(kinds: &'a Kinds, manifest: &Manifest) -> Result<&'a KindInfo, ClusterError> {
    match kinds.lookup(&manifest.key.kind, &manifest.version) {
        Lookup::Served(info) => Ok(info),
        _ => {
            Err(ClusterError::NotServed { kind: manifest.key.kind.to_string(), version: manifest.version.to_string() })
        }
    }
}
