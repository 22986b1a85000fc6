//! Between commits: what of the target does not stand as it was applied, and how it is put back.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use serde_json::Value;
use tokio::sync::watch as channel;

use super::additions::additions;
use super::look::planning;
use super::{Mode, Prepared, Reconciler};
use crate::cluster::events::Regarding;
use crate::cluster::execute::Done;
use crate::cluster::gates::{Former, Gated};
use crate::cluster::inventory::{Changed, Members};
use crate::cluster::limiter;
use crate::cluster::standing::{self, Strangers};
use crate::drift::describe::{Drift, Owner};
use crate::drift::fingerprint::{Class, Found, Verdict, judge};
use crate::model::kinds::Lookup;
use crate::model::{CommitId, Desired, Failure, Manifest, ObjectKey};
use crate::plan::{Action, Plan, Reason, Step};

/// What became of objects that changed, as far as the inventory tells it: no request was made.
#[derive(Debug, Default)]
pub struct Examined {
    /// They are as they were applied, or nobody asks for them.
    pub stand: Vec<ObjectKey>,
    /// They are not.
    pub found: Vec<Found>,
    /// They are, but others have fields of their own in them.
    pub added: Vec<ObjectKey>,
    /// They are being deleted: waited for.
    pub terminating: Vec<ObjectKey>,
    /// Only a dry-run can tell.
    pub verify: Vec<ObjectKey>,
    /// The target's apply of them failed or was held back, and they are not being deleted: it may succeed now.
    pub freed: Vec<ObjectKey>,
}

/// Objects of the target that are about to be put back.
pub struct Restoring {
    /// What is to be done.
    pub gated: Gated,
    /// What happened to them, with what only the cluster could tell.
    pub found: Vec<Found>,
    manifests: HashMap<ObjectKey, Arc<Manifest>>,
}

impl Restoring {
    /// Keeps of what is to be done only these objects, and those that could not be checked: an apply that changes nothing does no harm.
    pub fn only(&mut self, keys: &HashSet<ObjectKey>) {
        let unchecked = |step: &Step| step.reason == Reason::NotVerified && step.action.writes();
        self.gated.plan.steps.retain(|step| keys.contains(&step.key) || unchecked(step));
        self.gated.plan.refused.retain(|refusal| keys.contains(&refusal.key));
    }

    /// Whether there is nothing to be done.
    pub fn is_settled(&self) -> bool {
        self.gated.refused.is_empty() && self.gated.plan.is_settled()
    }

    /// The manifest of one of the objects.
    pub fn manifest(&self, key: &ObjectKey) -> Option<Arc<Manifest>> {
        self.manifests.get(key).cloned()
    }
}

impl Reconciler {
    /// Looks at what changed, without a request.
    ///
    /// What was never applied in this life is not drift: bringing it is the deployment's work, tried again in its own time. Only where drift is
    /// merely told (`observing`) is it asked about.
    pub fn examine(&self, changed: &Changed, observing: bool) -> Examined {
        let memory = self.memory();
        let mut examined = Examined::default();
        let Some(target) = &memory.target else { return examined };
        self.cluster.inventory.with_members(&self.part_of, |members| {
            for manifest in &target.objects {
                let Some(touched) = changed.get(&manifest.key) else { continue };
                let (key, live) = (manifest.key.clone(), members.get(&manifest.key));
                if memory.jobs.have_run(manifest, live) {
                    examined.stand.push(key);
                    continue;
                }
                let baseline = match memory.baselines.get(&key) {
                    Some(baseline) if baseline.digest == manifest.digest => baseline,
                    other => {
                        examined.freed.extend(live.is_none_or(|live| !live.terminating).then(|| key.clone()));
                        examined.verify.extend((observing && other.is_none()).then_some(key));
                        continue;
                    }
                };
                match judge(baseline, live, &self.manager, &self.part_of, *touched) {
                    Verdict::AsApplied if live.is_some_and(|live| additions(live, manifest).is_some()) => {
                        examined.added.push(key);
                    }
                    Verdict::AsApplied => examined.stand.push(key),
                    Verdict::Verify => examined.verify.push(key),
                    Verdict::Terminating => examined.terminating.push(key),
                    Verdict::Drifted(class, paths) => examined.found.push(Found { key, class, paths }),
                }
            }
        });
        let asked: HashSet<&ObjectKey> = target.objects.iter().map(|manifest| &manifest.key).collect();
        examined.stand.extend(changed.keys().filter(|key| !asked.contains(key)).cloned());
        examined
    }

    /// Which of these objects stand as they were applied, as far as the inventory tells it.
    pub fn standing<'a>(&self, keys: impl IntoIterator<Item = &'a ObjectKey>) -> HashSet<ObjectKey> {
        let keys: Changed = keys.into_iter().map(|key| (key.clone(), None)).collect();
        let Examined { stand, added, .. } = self.examine(&keys, false);
        stand.into_iter().chain(added).collect()
    }

    /// Plans to put objects of the target back. What is not in the inventory is looked for: an object that lost our label still stands.
    pub async fn restoring(&self, examined: &Examined) -> Result<Restoring, Failure> {
        let verify: HashSet<&ObjectKey> = examined.verify.iter().collect();
        let keys: HashSet<&ObjectKey> =
            examined.found.iter().map(|found| &found.key).chain(verify.iter().copied()).collect();
        let part = self.part_of_target(&keys);
        let held = self.as_held();
        let known = self.discover().await?;
        self.watched_kinds(&part, &known); // A definition that was deleted has ended the watch of its kind.
        if examined.found.iter().any(|found| found.class == Class::Deleted) {
            self.memory().namespaces.clear(); // A namespace may have gone with its objects.
        }
        let (strangers, mut plan) = held.look_and_restore(&part, &known).await?;
        let unsure = |step: &&mut Step| {
            matches!(step.action, Action::Keep | Action::Update)
                && step.reason != Reason::Ran
                && verify.contains(&step.key)
        };
        for step in plan.steps.iter_mut().filter(unsure) {
            (step.action, step.reason) = (Action::Update, Reason::NotVerified); // The dry-run tells.
        }
        let gated = match plan.steps.iter().any(|step| step.reason == Reason::NotVerified) {
            true => held.dry_run(plan, &known, &Former::new(), Mode::Restore).await?,
            false => Gated { plan, ..Gated::default() },
        };
        let mut found = examined.found.clone();
        self.tell_lost(&mut found, &strangers);
        found.extend(gated.differing.iter().cloned());
        // Asked about, and gone before the answer.
        let gone = absent(&gated.plan, &strangers, &self.manager);
        found.extend(gone.filter(|found| verify.contains(&found.key)));
        let manifests = part.objects.into_iter().map(|manifest| (manifest.key.clone(), manifest)).collect();
        Ok(Restoring { gated, found, manifests })
    }

    /// What of these changes drifted and is about to be overwritten by a commit that passed its gates.
    pub async fn overwritten(&self, changed: &Changed, observing: bool, prepared: &Prepared) -> Vec<Found> {
        let mut found = self.examine(changed, observing).found;
        found.retain(|found| prepared.writes(&found.key));
        let gone: HashSet<&ObjectKey> =
            found.iter().filter(|found| found.class == Class::Deleted).map(|found| &found.key).collect();
        if gone.is_empty() {
            return found;
        }
        // The gates looked for what was missing then: more may have lost our label since.
        let (part, kinds) = (self.part_of_target(&gone), &prepared.known.kinds);
        let inventory = &self.cluster.inventory;
        let looked = standing::strangers(self.writer(), inventory, &part, &self.part_of, kinds).await;
        self.tell_lost(&mut found, looked.as_ref().unwrap_or(&prepared.strangers));
        found
    }

    /// Of what the watch says is gone, what still stands has lost our label.
    fn tell_lost(&self, found: &mut [Found], strangers: &Strangers) {
        let memory = self.memory();
        for found in found {
            found.seen(memory.baselines.get(&found.key), strangers.standing.get(&found.key));
        }
    }

    fn part_of_target(&self, keys: &HashSet<&ObjectKey>) -> Desired {
        let memory = self.memory();
        let Some(target) = &memory.target else { return Desired::only(CommitId::new([0; 20]), Vec::new()) };
        let objects = target.objects.iter().filter(|manifest| keys.contains(&manifest.key)).cloned().collect();
        Desired::only(target.commit, objects)
    }

    /// Puts objects back, each for itself.
    pub async fn put_back(&self, restoring: &Restoring, stop: &channel::Receiver<bool>) -> Done {
        self.pulse.step("putting drift back");
        let (mut done, held) = (Done::default(), self.as_held());
        match held.make_namespace().await {
            Ok(()) => held.apply(&restoring.gated, stop, &mut done).await,
            Err(failure) => done.failures.push(failure),
        }
        self.memory().note_lost(&done.failures);
        done
    }

    /// Takes a commit that was deployed before for what stands, without a write: what of it differs stays as it is, also when another commit comes.
    pub fn settle_for(&self, prepared: &Prepared) {
        self.remember_verified(&prepared.gated);
        let mut memory = self.memory();
        memory.leave(&prepared.desired, &prepared.desired.objects);
        memory.target = Some(Arc::clone(&prepared.desired));
        memory.held = Some(Arc::clone(&self.definition));
        drop(memory);
        self.use_images(&prepared.desired);
    }

    /// Whether it is known what drift restores.
    pub fn has_target(&self) -> bool {
        self.memory().target.is_some()
    }

    /// An object of the target.
    pub fn target_manifest(&self, key: &ObjectKey) -> Option<Arc<Manifest>> {
        let memory = self.memory();
        memory.target.as_ref()?.objects.iter().find(|manifest| manifest.key == *key).cloned()
    }

    /// What an Event on an object names.
    pub fn regarding(&self, key: &ObjectKey) -> Regarding {
        let api_version = self.target_manifest(key).map(|manifest| manifest.api_version()).unwrap_or_default();
        let uid = |members: &Members| members.get(key).map(|live| live.uid.to_string());
        let uid = self.cluster.inventory.with_members(&self.part_of, uid);
        Regarding { api_version, key: key.clone(), uid }
    }

    /// Remembers what a dry-run found to be as it should be, without a write.
    pub fn remember_verified(&self, gated: &Gated) {
        self.memory().know(&gated.verified);
    }

    /// Reads drifted objects as they are, and tells what differs and who wrote it.
    pub async fn describe(
        &self,
        found: &[Found],
        manifest: impl Fn(&ObjectKey) -> Option<Arc<Manifest>>,
    ) -> Vec<Drift> {
        let one = async |found: &Found| match manifest(&found.key) {
            Some(manifest) => {
                let live = self.read(&manifest).await.ok().flatten(); // Not readable: told without its values.
                let left = self.memory().baselines.get(&found.key).cloned();
                let owner = Owner { manager: &self.manager, left: left.as_ref() };
                let drift = Drift::describe(found, &manifest, live.as_ref(), &owner);
                let Some(live) = live.filter(|_| drift.unsure) else { return drift };
                match self.would_become(&manifest, &live).await {
                    Some(applied) => Drift::compared(found, &manifest, &live, &applied, &owner),
                    None => drift,
                }
            }
            None => Drift::undescribed(found),
        };
        futures::stream::iter(found).map(one).buffered(limiter::MOST).collect().await
    }

    /// What an apply would make of an object; `None` if that can't be told.
    async fn would_become(&self, manifest: &Manifest, live: &Value) -> Option<Value> {
        let (known, uid) = (self.discover().await.ok()?, live.pointer("/metadata/uid")?.as_str()?);
        let Lookup::Served(info) = known.kinds.lookup(&manifest.key.kind, &manifest.version) else { return None };
        self.as_held().writer().would_become(manifest, info, uid).await.ok()
    }

    /// An object as it is. It may be a Secret: to be compared, never kept.
    async fn read(&self, manifest: &Manifest) -> Result<Option<Value>, Failure> {
        let (known, key) = (self.discover().await?, &manifest.key);
        let Lookup::Served(info) = known.kinds.lookup(&key.kind, &manifest.version) else { return Ok(None) };
        self.as_held().writer().read(key, info).await.map_err(planning)
    }
}

/// What of a commit that was deployed before does not stand any more, as a start or a resync finds it.
pub(super) fn drifted(gated: &Gated, strangers: &Strangers, manager: &str) -> Vec<Found> {
    gated.differing.iter().cloned().chain(absent(&gated.plan, strangers, manager)).collect()
}

/// What a plan makes or adopts, of objects that were deployed before: they are gone, or no longer ours.
fn absent<'a>(plan: &'a Plan, strangers: &'a Strangers, manager: &'a str) -> impl Iterator<Item = Found> + 'a {
    plan.steps.iter().filter_map(move |step| {
        let class = match step.action {
            Action::Create => Class::Deleted,
            // Without our label, but applied by us; or without our entry. What has neither was made by somebody else.
            Action::Adopt => match strangers.standing.get(&step.key) {
                Some(live) if live.entry(manager).is_none() => Class::Deleted,
                _ => Class::OwnershipLost,
            },
            _ => return None,
        };
        Some(Found::whole(step.key.clone(), class))
    })
}

impl Prepared {
    /// What does not stand any more of what was deployed before. What both somebody and this commit changed can't be told apart, and is not told.
    pub fn drifted_since(&self) -> Vec<Found> {
        let mut found = self.drifted.clone();
        found.retain(|found| match found.class {
            Class::Deleted | Class::OwnershipLost => self.stood.ever.contains(&found.key),
            _ => self.stood.so.contains(&found.key),
        });
        found
    }

    /// Leaves alone what drifted and the commit did not change.
    pub(super) fn leave_drifted(&mut self) {
        let found: HashSet<&ObjectKey> = self.drifted.iter().map(|found| &found.key).collect();
        let left = |step: &&mut Step| self.stood.so.contains(&step.key) && found.contains(&step.key);
        for step in self.gated.plan.steps.iter_mut().filter(left) {
            (step.action, step.reason) = (Action::Keep, Reason::Drifted);
        }
    }

    /// Whether an object is written.
    pub fn writes(&self, key: &ObjectKey) -> bool {
        self.gated.plan.steps.iter().any(|step| step.key == *key && step.action.writes())
    }

    /// The manifest of one of the commit's objects.
    pub fn manifest(&self, key: &ObjectKey) -> Option<Arc<Manifest>> {
        self.desired.objects.iter().find(|manifest| manifest.key == *key).cloned()
    }
}
