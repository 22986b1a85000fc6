//! Carries a plan out: phase by phase, many requests at once, each with its step's preconditions; then, only if every write succeeded, the deletions.
//!
//! After each write it looks whether it should stop; a write under way is never cut. What was done so far is always in the result, so that nothing is forgotten.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use tokio::sync::watch as channel;

use super::apply::{Metadata, Writer};
use super::connect::Cluster;
use super::error::ClusterError;
use super::gates::Pinned;
use super::heal::Attempts;
use super::{definitions, failure, limiter};
use crate::drift::fields::FieldSet;
use crate::drift::fingerprint::Baseline;
use crate::drift::ownership;
use crate::model::applyset;
use crate::model::environment::Propagation;
use crate::model::kinds::{KindInfo, Kinds, Lookup};
use crate::model::{Failure, Live, Manifest, ObjectKey, Stage};
use crate::plan::{Action, Plan, Precondition, Step, order, propagation};

/// How long it is waited, in milliseconds, for an API server to take a definition up.
const PAUSES: [u64; 4] = [50, 200, 800, 2000];
/// A replaced object may take this long to go.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// What carrying out a plan needs.
#[derive(Clone, Copy)]
pub struct Executor<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Who writes.
    pub writer: Writer<'a>,
    /// How dependents are deleted where something runs ([`propagation::of`]).
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
}

impl Done {
    pub(super) fn wrote(&mut self, manifest: &Manifest, live: &Live, manager: &str) {
        if let Some(baseline) = Baseline::of(manifest.digest, live, manager) {
            self.baselines.push((manifest.key.clone(), baseline));
        }
    }
}

impl Executor<'_> {
    pub(super) fn stopped(&self) -> bool {
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
        if step.action != Action::Replace && (step.migrate || pinned.is_some() || !step.leaves.is_empty()) {
            let mut attempts = Attempts::default();
            loop {
                let released = self.release(step, manifest, info, pinned).await;
                if !attempts.overtaken(&released) {
                    break released?;
                }
            }
        }
        let mut answer = match (&step.action, &step.precondition) {
            (Action::Replace, Some(precondition)) => {
                self.delete(step, info, precondition).await?;
                self.wait_gone(manifest, info, &precondition.uid).await?;
                self.make(step, manifest, info).await?
            }
            (_, Some(precondition)) => self.apply_standing(step, manifest, info, kinds, &precondition.uid).await?,
            (_, None) => self.make(step, manifest, info).await?,
        };
        for former in &step.let_go {
            answer = self.writer.let_go(manifest, info, &applyset::manager(former), &answer).await?;
        }
        Ok(self.cluster.inventory.wrote(&step.key.kind, &answer))
    }

    /// Makes an object that does not stand.
    async fn make(&self, step: &Step, manifest: &Manifest, info: &KindInfo) -> Result<Metadata, ClusterError> {
        let mut pauses = PAUSES.into_iter();
        loop {
            match self.writer.apply(&manifest.as_made(), info, None, false).await {
                Ok(made) => return self.give_away(manifest, info, made).await,
                Err(error) => pause(&mut pauses, step.redefined, error).await?,
            }
        }
    }

    /// Applies over an object that stands. One that was deleted since the plan is made again; a refusal that has a remedy is mended, once.
    async fn apply_standing(
        &self,
        step: &Step,
        manifest: &Manifest,
        info: &KindInfo,
        kinds: &Kinds,
        uid: &str,
    ) -> Result<Metadata, ClusterError> {
        let (mut pauses, mut mended) = (PAUSES.into_iter(), false);
        loop {
            let error = match self.writer.apply(manifest, info, Some(uid), true).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if error.code() == 409 {
                return match self.writer.metadata(&manifest.key, info).await? {
                    None => self.make(step, manifest, info).await,
                    Some(_) => Err(error),
                };
            }
            if !std::mem::replace(&mut mended, true) && self.mend(manifest, info, kinds, &error).await? {
                continue;
            }
            pause(&mut pauses, step.redefined, error).await?;
        }
    }

    /// Moves ownership before an apply: what client-side apply left becomes ours, what is left to others gets another owner, and what we give up is taken
    /// from its co-owners, so that it leaves the cluster when it leaves git.
    async fn release(
        &self,
        step: &Step,
        manifest: &Manifest,
        info: &KindInfo,
        pinned: Option<&FieldSet>,
    ) -> Result<(), ClusterError> {
        let Some(mut now) = self.writer.metadata(&manifest.key, info).await? else { return Ok(()) };
        let owners = |now: &Metadata| now.metadata.managed_fields.clone().unwrap_or_default();
        if step.migrate
            && let Some(moved) = ownership::migrate_client_side_apply(&owners(&now), self.writer.manager)?
        {
            now = self.move_ownership(manifest, info, &now.metadata, &moved).await?;
        }
        if !manifest.left_alone().is_empty() {
            let former: Vec<String> = step.let_go.iter().map(|environment| applyset::manager(environment)).collect();
            let droppers: Vec<&str> = former.iter().map(String::as_str).chain([self.writer.manager]).collect();
            self.hand_over(manifest, info, &droppers).await?;
            let Some(handed_over) = self.writer.metadata(&manifest.key, info).await? else { return Ok(()) };
            now = handed_over;
        }
        let Some(pinned) = pinned else { return Ok(()) };
        let answer = self.writer.dry_run(manifest, info, now.metadata.uid.as_deref()).await?;
        let lost = ownership::would_lose(&self.owned(&now)?, &self.owned(&answer)?).union(pinned);
        let lost = lost.outside(manifest.left_alone());
        let released = ownership::release_pins(&owners(&now), self.writer.manager, &lost)?;
        if let Some(entries) = released.entries {
            self.move_ownership(manifest, info, &now.metadata, &entries).await?;
        }
        Ok(())
    }

    pub(super) async fn move_ownership(
        &self,
        manifest: &Manifest,
        info: &KindInfo,
        now: &ObjectMeta,
        entries: &[ManagedFieldsEntry],
    ) -> Result<Metadata, ClusterError> {
        // 0 is a version that no object has.
        let version = now.resource_version.as_deref().unwrap_or("0");
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

    /// Waits until the object with this uid does not stand any more. Where another stands by then, somebody else was faster: whose it is has to be decided anew.
    async fn wait_gone(&self, manifest: &Manifest, info: &KindInfo, uid: &str) -> Result<(), ClusterError> {
        let gone = async {
            let mut pause = Duration::from_millis(20);
            loop {
                match self.writer.metadata(&manifest.key, info).await? {
                    None => return Ok(()),
                    Some(object) if object.metadata.uid.as_deref() == Some(uid) => {}
                    Some(_) => return Err(ClusterError::MadeAgain { object: manifest.key.to_string() }),
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
        (step, self.delete(step, info, precondition).await)
    }

    async fn delete(&self, step: &Step, info: &KindInfo, precondition: &Precondition) -> Result<(), ClusterError> {
        let propagation = propagation::of(&step.key.kind, self.propagation);
        self.writer.delete(&step.key, info, precondition, propagation).await
    }
}

/// Waits where an API server may not have taken up yet what was `redefined` a moment ago: it answers 404, or as the former definition has it. Any other error is
/// given back, and this one when there was enough patience.
async fn pause(
    pauses: &mut impl Iterator<Item = u64>,
    redefined: bool,
    error: ClusterError,
) -> Result<(), ClusterError> {
    let lags = redefined && (definitions::is_unserved(&error) || matches!(error.code(), 400 | 422 | 500));
    let Some(pause) = pauses.next().filter(|_| lags) else { return Err(error) };
    tokio::time::sleep(Duration::from_millis(pause)).await;
    Ok(())
}

fn served<'a>(kinds: &'a Kinds, manifest: &Manifest) -> Result<&'a KindInfo, ClusterError> {
    match kinds.lookup(&manifest.key.kind, &manifest.version) {
        Lookup::Served(info) => Ok(info),
        _ => {
            Err(ClusterError::NotServed { kind: manifest.key.kind.to_string(), version: manifest.version.to_string() })
        }
    }
}

#[cfg(test)]
mod tests;
