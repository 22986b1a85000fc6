//! The steps before the first write: render, look at the cluster, plan, dry-run.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tracing::debug;

use super::{How, Mode, Reconciler};
use crate::cluster::discovery::Known;
use crate::cluster::gates::{Former, Gate, Gated};
use crate::cluster::standing::{self, Strangers};
use crate::cluster::{ClusterError, failure};
use crate::model::kinds::{KindInfo, Lookup};
use crate::model::{CommitId, Desired, Failure, GroupKind, ObjectKey, Stage};
use crate::plan::{self, Input, Plan, Planned};
use crate::render::{Request, render, source_failure};
use crate::source::Store;

/// How long a plan waits for the first list of its kinds.
const INVENTORY_WITHIN: Duration = Duration::from_secs(60);
/// So often it is looked around for one plan at most, while objects leave the inventory.
const LOOKS: u32 = 5;

pub(super) fn planning(error: ClusterError) -> Failure {
    failure::of_stage(Stage::Plan, &error)
}

impl Reconciler {
    pub(super) async fn discover(&self) -> Result<Known, Failure> {
        self.pulse.step("asking which kinds the API server has");
        let cluster = &self.cluster;
        cluster.discovered.ensure(&cluster.caller).await.map_err(planning)
    }

    /// Renders a commit on a blocking thread.
    pub(super) async fn render(&self, store: &Store, commit: CommitId, known: &Known) -> Result<Desired, Failure> {
        self.pulse.step(format!("rendering {}", commit.short()));
        let slot = Arc::clone(&self.shared.renders).acquire_owned();
        let slot = self.pulse.queue(&self.shared.render_turns, slot).await;
        let (this, store, known) = (self.clone(), store.clone(), known.clone());
        let work = move || {
            let _slot = slot; // Kept by the thread, not by whoever waits for it.
            let snapshot = store.at(commit).map_err(|error| source_failure(Stage::Source, &error))?;
            let request = Request {
                snapshot: &snapshot,
                environment: &this.name,
                spec: &this.definition.spec,
                part_of: &this.part_of,
                kinds: &known.kinds,
                kinds_generation: known.generation,
                tools: &this.shared.tools,
                cancel: &this.shared.cancel,
            };
            let mut cache = this.cache.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(render(&request, &mut cache).map_err(|error| error.failure())?.into_desired())
        };
        let rendered = tokio::task::spawn_blocking(work).await;
        rendered.unwrap_or_else(|error| Err(Failure::new(Stage::Render, format!("the render ended early: {error}"))))
    }

    /// Asks the API server again when something is desired that it did not serve when it was asked last; a new answer may change a render.
    pub(super) async fn discover_unknown(
        &self,
        store: &Store,
        desired: Desired,
        known: Known,
    ) -> Result<(Desired, Known), Failure> {
        let unknown = desired
            .objects
            .iter()
            .any(|manifest| !matches!(known.kinds.lookup(&manifest.key.kind, &manifest.version), Lookup::Served(_)));
        if !unknown {
            return Ok((desired, known));
        }
        let cluster = &self.cluster;
        let newer = cluster.discovered.refresh(&cluster.caller, known.generation).await.map_err(planning)?;
        if newer.generation == known.generation {
            return Ok((desired, known));
        }
        let desired = self.render(store, desired.commit, &newer).await?;
        Ok((self.pinned(desired, &newer).await?, newer))
    }

    /// Has every kind watched that the commit asks for or that the environment ever had, and waits for their first lists.
    pub(super) async fn watch_kinds(&self, desired: &Desired, known: &Known) -> Result<(), Failure> {
        self.pulse.step(format!("waiting for the first lists of what {} needs", desired.commit.short()));
        let listed = self.cluster.inventory.listed(&self.watched_kinds(desired, known), INVENTORY_WITHIN).await;
        if listed.is_err() {
            // A version that is known may be served no more; nothing else would ask.
            self.cluster.discovered.refresh(&self.cluster.caller, known.generation).await.ok();
        }
        listed.map_err(planning)
    }

    /// The kinds that are watched for this environment; starts the watches that are missing.
    pub(super) fn watched_kinds(&self, desired: &Desired, known: &Known) -> BTreeSet<GroupKind> {
        let mut infos: HashMap<GroupKind, KindInfo> = HashMap::new();
        for manifest in &desired.objects {
            if infos.contains_key(&manifest.key.kind) {
                continue;
            }
            if let Lookup::Served(info) = known.kinds.lookup(&manifest.key.kind, &manifest.version) {
                infos.insert(manifest.key.kind.clone(), info.clone());
            }
        }
        for kind in &self.shared.parents.reach(&self.name).kinds {
            if let Some(info) = known.kinds.preferred(kind) {
                infos.entry(kind.clone()).or_insert_with(|| info.clone());
            }
        }
        self.cluster.inventory.ensure(&infos);
        infos.into_keys().collect()
    }

    /// Reads what the watches don't show: the namespaces, and what stands without our label.
    async fn look_around(&self, desired: &Desired, known: &Known) -> Result<Strangers, Failure> {
        self.pulse.step(format!("looking at what stands where {} writes", desired.commit.short()));
        let writer = self.writer();
        let mut needed: BTreeSet<Arc<str>> =
            desired.objects.iter().filter_map(|manifest| manifest.key.namespace.clone()).collect();
        needed.insert(self.definition.spec.namespace.as_str().into());
        for namespace in needed {
            if self.memory().namespaces.get(&namespace) == Some(&plan::NamespaceState::Active) {
                continue;
            }
            let state = standing::namespace(writer, &namespace).await.map_err(planning)?;
            let mut memory = self.memory();
            let Some(state) = state else {
                memory.namespaces.remove(&namespace);
                let run_again = memory.jobs.forget_in(&namespace);
                drop(memory);
                self.cluster.inventory.change_again(&self.part_of, run_again.into_iter().map(|key| (key, None)));
                continue;
            };
            memory.namespaces.insert(namespace, state);
        }
        let inventory = &self.cluster.inventory;
        standing::strangers(writer, inventory, desired, &self.part_of, &known.kinds).await.map_err(planning)
    }

    /// Looks around and plans.
    pub(super) async fn look_and_plan(
        &self,
        store: &Store,
        desired: &Desired,
        known: &Known,
        how: How,
    ) -> Result<(Strangers, Planned), Failure> {
        let plan = |strangers: &Strangers| self.plan(desired, known, strangers, how);
        let missed = |strangers: &Strangers, planned: &Planned| match planned {
            Planned::Ready(plan) => strangers.missed(plan),
            _ => false,
        };
        self.look_until(Some(store), desired, known, plan, missed).await
    }

    /// The same for a part of a commit's objects, that is put back.
    pub(super) async fn look_and_restore(&self, part: &Desired, known: &Known) -> Result<(Strangers, Plan), Failure> {
        let anew = |input: &Input<'_>| plan::restore(&Input { left: None, ..*input });
        let how = How { mode: Mode::Restore, confirmed: None, taken: true };
        let plan = |strangers: &Strangers| self.decide(part, known, strangers, how, anew);
        self.look_until(None, part, known, plan, Strangers::missed).await
    }

    /// Looks around and plans; again, if objects left the inventory in between. With a `store`, Jobs that an earlier life has made are recalled from it.
    async fn look_until<R>(
        &self,
        store: Option<&Store>,
        desired: &Desired,
        known: &Known,
        plan: impl Fn(&Strangers) -> R,
        missed: impl Fn(&Strangers, &R) -> bool,
    ) -> Result<(Strangers, R), Failure> {
        let mut looks = 1;
        loop {
            let strangers = self.look_around(desired, known).await?;
            if let Some(store) = store {
                self.recall_jobs(store, desired, known).await;
            }
            let planned = plan(&strangers);
            if looks == LOOKS || !missed(&strangers, &planned) {
                self.forget_taken(&strangers);
                return Ok((strangers, planned));
            }
            looks += 1;
        }
    }

    /// What another environment has taken over is not this one's any more, whatever it once wrote.
    fn forget_taken(&self, strangers: &Strangers) {
        let taken: Vec<&ObjectKey> = {
            let peers = self.shared.peers.seen_from(&self.name);
            let taken = strangers.standing.iter().filter(|(_, live)| plan::peer(live, &peers).is_some());
            taken.map(|(key, _)| key).collect()
        };
        let mut memory = self.memory();
        taken.into_iter().for_each(|key| memory.forget_object(key));
    }

    /// Decides, while memory, peers and inventory stand still.
    pub(super) fn plan(&self, desired: &Desired, known: &Known, strangers: &Strangers, how: How) -> Planned {
        if how.mode == Mode::Restore && self.is_known_from_status(desired.commit) {
            // All is looked at anew: what differs of what was deployed is told, and not written then.
            let anew = |input: &Input<'_>| plan::plan(&Input { left: None, ..*input });
            return self.decide(desired, known, strangers, how, anew);
        }
        self.decide(desired, known, strangers, how, plan::plan)
    }

    fn decide<R>(
        &self,
        desired: &Desired,
        known: &Known,
        strangers: &Strangers,
        how: How,
        decide: impl FnOnce(&Input<'_>) -> R,
    ) -> R {
        let stood = self.stood_in_status(desired.commit);
        let memory = self.memory();
        let peers = self.shared.peers.seen_from(&self.name);
        self.cluster.inventory.with_members(&self.part_of, |members| {
            decide(&Input {
                environment: &self.name,
                manager: &self.manager,
                part_of: &self.part_of,
                spec: &self.definition.spec,
                desired,
                kinds: &known.kinds,
                baseline: &|key| memory.baselines.get(key),
                has_run: &|manifest| memory.jobs.made(manifest),
                had: &|manifest| memory.has_had(manifest) || stood.as_ref().is_some_and(|stood| stood(manifest)),
                left: Some(&memory.left),
                members,
                strangers: &strangers.standing,
                peers: &peers,
                namespaces: &memory.namespaces,
                inventory_complete: true, // Waited for: watch_kinds before a plan, prune before deletions.
                confirmed_prune: how.confirmed,
                object_by_object: how.mode == Mode::Restore,
                keeps: how.mode == Mode::Restore || how.taken,
                removal: self.removal.as_deref(),
            })
        })
    }

    /// What an earlier life of plumb deployed, while this one has not applied anything yet: it tells what a commit that came in between no longer has.
    pub(super) async fn former(&self, store: &Store, commit: CommitId, known: &Known) -> Former {
        if !self.memory().baselines.is_empty() {
            return Former::new();
        }
        let environment = self.shared.parents.get(&self.name);
        let target = environment.as_ref().and_then(|environment| environment.status.as_ref()?.target.as_ref());
        let Some(target) = target.and_then(|target| target.parse().ok()).filter(|target| *target != commit) else {
            return Former::new();
        };
        match self.render(store, target, known).await {
            Ok(former) => former.objects.into_iter().map(|manifest| (manifest.key.clone(), manifest)).collect(),
            Err(failure) => {
                // Rewritten history may have taken it away. What a co-owner pins of it then stays.
                debug!(environment = %self.name, commit = %target.short(), reason = %failure, "the commit before can't be rendered");
                Former::new()
            }
        }
    }

    /// The API server's own word on all that changed, before the first write of a new commit.
    pub(super) async fn dry_run(
        &self,
        plan: Plan,
        known: &Known,
        former: &Former,
        mode: Mode,
    ) -> Result<Gated, Failure> {
        self.pulse.step("asking the API server whether it would take a commit");
        let applied = |key: &_| self.memory().baselines.get(key).map(|baseline| Arc::clone(&baseline.fields));
        let gate = Gate {
            writer: self.writer(),
            kinds: &known.kinds,
            inventory: &self.cluster.inventory,
            part_of: &self.part_of,
            applied: &applied,
            former,
            replace: self.definition.spec.replace,
            object_by_object: mode == Mode::Restore,
        };
        let refused = || Failure::new(Stage::DryRun, "refused");
        gate.pass(plan).await.map_err(|failures| Failure::first_of(failures).unwrap_or_else(refused))
    }
}

/// The plan, or why nothing of it may be done.
pub(super) fn accepted(planned: Planned) -> Result<Plan, Failure> {
    let refused = || Failure::new(Stage::Plan, "refused");
    match planned {
        Planned::Ready(plan) => Ok(plan),
        Planned::Refused(refusals) => {
            Err(Failure::first_of(refusals.into_iter().map(Failure::from).collect()).unwrap_or_else(refused))
        }
        Planned::AskFirst(ask) => Err(Failure::from(&ask)),
    }
}
