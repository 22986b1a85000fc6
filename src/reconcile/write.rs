//! The steps that write: the parent's reach, the namespace, the objects, the deletions.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch as channel;

use super::look::{accepted, planning};
use super::{How, Prepared, Reconciler};
use crate::cluster::execute::{Done, Executor};
use crate::cluster::gates::Gated;
use crate::cluster::parent::{Hold, Parent};
use crate::cluster::{ClusterError, failure, standing};
use crate::model::applyset::Reach;
use crate::model::marks::{self, Claim};
use crate::model::{Desired, Failure, ObjectKey, Stage};
use crate::plan::{Action, NamespaceState, Plan, Wait};

/// How often deletions are decided anew when the objects change meanwhile.
const PRUNE_ROUNDS: u32 = 5;
/// How long deletions wait for the watches, and for other environments to render.
const PATIENCE: Duration = Duration::from_secs(30);

/// An API server that was asked for something has done it within this time, or never does: a minute by default (`--request-timeout`), and some for an answer
/// that took long to be given up.
const CARRIED_OUT_WITHIN: Duration = Duration::from_secs(90);

fn applying(error: ClusterError) -> Failure {
    failure::of_stage(Stage::Apply, &error)
}

impl Reconciler {
    /// Before the first write, the parent names every kind and namespace that will have members: a crash leaves nothing untracked.
    pub(super) async fn widen_reach(&self, desired: &Desired) -> Result<(), Failure> {
        let known = self.shared.parents.reach(&self.name);
        let wanted = known.union(&reach_of(desired.objects.iter().map(|manifest| &manifest.key)));
        if wanted == known { Ok(()) } else { self.set_reach(&wanted).await }
    }

    /// After a prune, the parent names just what is left.
    pub(super) async fn shrink_reach(&self, desired: &Desired, done: &Done) -> Result<(), Failure> {
        let members = &self.cluster.inventory;
        let members = members
            .with_members(&self.part_of, |members| reach_of(members.keys().filter(|key| !done.pruned.contains(*key))));
        // A kind that is not served at this moment may still have objects: it stays named.
        let reach = self.shared.parents.reach(&self.name);
        let kinds = self.cluster.discovered.known().kinds;
        let unserved = reach.kinds.into_iter().filter(|kind| kinds.preferred(kind).is_none()).collect();
        let members = members.union(&Reach { kinds: unserved, ..Reach::default() });
        let mut left = members.union(&reach_of(desired.objects.iter().map(|manifest| &manifest.key)));
        // Nor is it known yet that there is nothing of what was written without an answer.
        if self.memory().lost.is_some_and(|lost| lost.elapsed() < CARRIED_OUT_WITHIN) {
            left = left.union(&self.shared.parents.reach(&self.name));
        }
        if left == self.shared.parents.reach(&self.name) { Ok(()) } else { self.set_reach(&left).await }
    }

    /// Where the environment has members, as the inventory knows them.
    pub fn reach_of_members(&self) -> Reach {
        self.cluster.inventory.with_members(&self.part_of, |members| reach_of(members.keys()))
    }

    async fn set_reach(&self, reach: &Reach) -> Result<(), Failure> {
        let parent = Parent { caller: &self.cluster.caller, name: &self.name };
        // Our own status write may come in between: looked at anew then.
        for _ in 0..3 {
            let now = parent.read().await.map_err(applying)?;
            match marks::claim(&now, &self.shared.instance) {
                Claim::Ours => {}
                Claim::Theirs(holder) => return Err(applying(ClusterError::HeldBy { holder })),
                Claim::Free | Claim::OtherRun => return Err(applying(ClusterError::TakenOver)),
            }
            match parent.apply_marks(&now, Hold::Claimed(&self.shared.instance), reach).await {
                Err(error) if error.code() == 409 => {}
                other => {
                    self.shared.parents.wrote(other.map_err(applying)?);
                    return Ok(());
                }
            }
        }
        Err(Failure::new(Stage::Apply, "the Environment keeps changing while its marks are written").transient())
    }

    /// Makes the environment's own namespace if it is absent.
    pub(super) async fn make_namespace(&self) -> Result<(), Failure> {
        let namespace = self.definition.spec.namespace.as_str();
        if self.memory().namespaces.contains_key(namespace) {
            return Ok(());
        }
        standing::make_namespace(self.writer(), namespace, &self.name).await.map_err(applying)?;
        self.memory().namespaces.insert(namespace.into(), NamespaceState::Active);
        Ok(())
    }

    pub(super) fn executor<'a>(&'a self, stop: &'a channel::Receiver<bool>) -> Executor<'a> {
        Executor {
            cluster: &self.cluster,
            writer: self.writer(),
            propagation: self.definition.spec.prune.propagation,
            stop,
        }
    }

    /// Applies object by object; what is held back or refused is a failure of that object alone.
    pub(super) async fn apply(&self, gated: &Gated, stop: &channel::Receiver<bool>, done: &mut Done) {
        *done = self.executor(stop).write(&gated.plan, &gated.pinned).await;
        done.failures.extend(gated.refused.iter().cloned());
        done.failures.extend(gated.plan.refused.iter().cloned().map(Failure::from));
        let held = gated.plan.steps.iter().filter(|step| step.action == Action::Hold);
        done.failures.extend(held.map(|step| {
            let why = gated.plan.notes.iter().find(|note| note.key == step.key);
            let why = why.map_or_else(|| format!("held back: {}", step.reason.words()), |note| note.text.clone());
            let failure = Failure::new(Stage::Apply, why).on(step.key.clone()).transient();
            match &step.manifest {
                Some(manifest) => failure.at(manifest.origin.clone()),
                None => failure,
            }
        }));
        self.remember_verified(gated);
        self.remember(done);
    }

    /// Remembers what was written.
    pub(super) fn remember(&self, done: &Done) {
        let mut memory = self.memory();
        memory.know(&done.baselines);
        if done.failures.iter().any(|failure| failure.transient) {
            memory.namespaces.clear(); // One of them may be what went away.
        }
    }

    /// Deletes what left git, deciding on what the watches have delivered by now, and anew when an object changed meanwhile or another environment
    /// had still to say whether it wants it.
    pub(super) async fn prune(
        &self,
        prepared: &Prepared,
        stop: &channel::Receiver<bool>,
        done: &mut Done,
    ) -> Result<(), Failure> {
        if !deletes(&prepared.gated.plan) {
            return Ok(());
        }
        let mut peers = self.shared.peers.subscribe();
        let mut waits = Vec::new();
        for round in 1..=PRUNE_ROUNDS {
            self.pulse.step(format!("deleting what left git by {}", prepared.desired.commit.short()));
            let plan = self.decide_deletions(prepared).await?;
            done.overtaken = 0;
            self.executor(stop).prune(&plan, done).await;
            self.forget_pruned(done);
            waits = plan.waits;
            if done.stopped || !done.failures.is_empty() || (done.overtaken == 0 && waits.is_empty()) {
                return Ok(());
            }
            if done.overtaken > 0 {
                tokio::time::sleep(Duration::from_millis(50) * round).await;
            } else if !waits.iter().any(passes_by_itself) || !soon(&mut peers, stop).await {
                break;
            }
        }
        Err(undecided(done.overtaken, &waits))
    }

    fn forget_pruned(&self, done: &Done) {
        let mut memory = self.memory();
        done.pruned.iter().for_each(|key| memory.forget_object(key));
    }

    async fn decide_deletions(&self, prepared: &Prepared) -> Result<Plan, Failure> {
        let Prepared { desired, known, strangers, how, .. } = prepared;
        let kinds = self.watched_kinds(desired, known);
        self.cluster.inventory.caught_up(&kinds, PATIENCE).await.map_err(planning)?;
        // It has passed its gates.
        accepted(self.plan(desired, known, strangers, How { taken: true, ..*how }))
    }
}

fn deletes(plan: &Plan) -> bool {
    !plan.waits.is_empty() || plan.steps.iter().any(|step| step.action == Action::Prune)
}

/// Waits for a change of what the others ask for; false: none came, or it is time to stop.
async fn soon(peers: &mut channel::Receiver<u64>, stop: &channel::Receiver<bool>) -> bool {
    let mut stop = stop.clone();
    tokio::select! {
        changed = tokio::time::timeout(PATIENCE, peers.changed()) => changed.is_ok(),
        _ = stop.wait_for(|stop| *stop) => false,
    }
}

fn passes_by_itself(wait: &Wait) -> bool {
    matches!(wait, Wait::PeerNotRendered(_) | Wait::InventoryIncomplete)
}

fn undecided(overtaken: usize, waits: &[Wait]) -> Failure {
    if overtaken > 0 {
        let reason = format!("{overtaken} objects keep changing while they are to be deleted");
        return Failure::new(Stage::Prune, reason).transient();
    }
    let reasons: BTreeSet<String> = waits.iter().map(ToString::to_string).collect();
    let reason = format!("{} deletions wait: {}", waits.len(), reasons.into_iter().collect::<Vec<_>>().join("; "));
    let failure = Failure::new(Stage::Prune, reason);
    if waits.iter().any(|wait| matches!(wait, Wait::Unconfirmed(_))) {
        return failure.hint("`plumb plan` shows what would go, `plumb approve` confirms it for this commit");
    }
    failure.transient()
}

fn reach_of<'a>(keys: impl Iterator<Item = &'a ObjectKey>) -> Reach {
    let mut reach = Reach::default();
    for key in keys {
        if !reach.kinds.contains(&key.kind) {
            reach.kinds.insert(key.kind.clone());
        }
        let namespace = key.namespace_or_empty();
        if !namespace.is_empty() && !reach.namespaces.contains(namespace) {
            reach.namespaces.insert(namespace.to_owned());
        }
    }
    reach
}
