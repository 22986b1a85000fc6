//! Between commits: what of the target does not stand as it was applied, and how it is put back.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use serde_json::Value;
use tokio::sync::watch as channel;

use super::look::planning;
use super::{Mode, Prepared, Reconciler};
use crate::cluster::events::Regarding;
use crate::cluster::execute::Done;
use crate::cluster::gates::{Former, Gated};
use crate::cluster::inventory::{Changed, Members};
use crate::cluster::limiter;
use crate::drift::describe::Drift;
use crate::drift::fields::FieldSet;
use crate::drift::fingerprint::{Class, Found, Verdict, judge};
use crate::model::kinds::Lookup;
use crate::model::{Desired, Failure, Live, Manifest, ObjectKey, Reads};
use crate::plan::{Action, Reason};

/// At most so many objects are read to tell what was changed in them: the rest is healed first and told in one line.
pub const DESCRIBED: usize = 16;

/// What became of objects that changed, as far as the inventory tells it: no request was made.
#[derive(Debug, Default)]
pub struct Examined {
    /// They are as they were applied, or nobody asks for them.
    pub stand: Vec<ObjectKey>,
    /// They are not.
    pub found: Vec<Found>,
    /// They are being deleted: waited for.
    pub terminating: Vec<ObjectKey>,
    /// Only an apply, or a dry-run where nothing is remembered of the object, can tell.
    pub verify: Vec<ObjectKey>,
}

/// Objects of the target that are about to be put back.
pub struct Restoring {
    /// What is to be done.
    pub gated: Gated,
    /// What happened to them, with what only the cluster could tell.
    pub found: Vec<Found>,
    manifests: HashMap<ObjectKey, Arc<Manifest>>,
    before: HashMap<ObjectKey, Live>,
}

impl Restoring {
    /// Keeps of what is to be done only these objects.
    pub fn only(&mut self, keys: &HashSet<&ObjectKey>) {
        self.gated.plan.steps.retain(|step| keys.contains(&step.key));
        self.gated.plan.refused.retain(|refusal| keys.contains(&refusal.key));
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
                let Some(traceless) = changed.get(&manifest.key) else { continue };
                let key = manifest.key.clone();
                let Some(baseline) = memory.baselines.get(&key) else {
                    examined.verify.extend(observing.then_some(key));
                    continue;
                };
                if baseline.digest != manifest.digest {
                    continue; // Its apply failed, and is tried again in its turn.
                }
                match judge(baseline, members.get(&key), &self.manager, &self.part_of, *traceless) {
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

    /// Plans to put objects of the target back. What is not in the inventory is looked for: an object that lost our label still stands.
    pub async fn restoring(&self, examined: &Examined) -> Result<Restoring, Failure> {
        let verify: HashSet<&ObjectKey> = examined.verify.iter().collect();
        let keys: HashSet<&ObjectKey> =
            examined.found.iter().map(|found| &found.key).chain(verify.iter().copied()).collect();
        let part = self.part_of_target(&keys);
        let known = self.discover().await?;
        if examined.found.iter().any(|found| found.class == Class::Deleted) {
            self.memory().namespaces.clear(); // A namespace may have gone with its objects.
        }
        let strangers = self.look_around(&part, &known).await?;
        let mut plan = self.plan_restore(&part, &known, &strangers);
        for step in plan.steps.iter_mut().filter(|step| step.action == Action::Keep && verify.contains(&step.key)) {
            (step.action, step.reason) = (Action::Update, Reason::Drifted); // As far as anybody knows: the apply itself tells.
        }
        // A dry-run tells of what has no baseline.
        let gated = match plan.steps.iter().any(|step| step.reason == Reason::NotVerified) {
            true => self.dry_run(plan, &known, &Former::new(), Mode::Restore).await?,
            false => Gated { plan, ..Gated::default() },
        };
        let mut found = examined.found.clone();
        for found in found.iter_mut().filter(|found| found.class == Class::Deleted) {
            let same = |live: &Live| self.memory().baselines.get(&found.key).is_some_and(|known| known.uid == live.uid);
            if strangers.get(&found.key).is_some_and(same) {
                found.class = Class::OwnershipLost;
            }
        }
        found.extend(gated.differing.iter().cloned());
        let before = self.cluster.inventory.with_members(&self.part_of, |members| {
            let live = |key: &&ObjectKey| Some(((*key).clone(), members.get(*key)?.clone()));
            examined.verify.iter().filter_map(|key| live(&key)).collect()
        });
        let manifests = part.objects.into_iter().map(|manifest| (manifest.key.clone(), manifest)).collect();
        Ok(Restoring { gated, found, manifests, before })
    }

    fn part_of_target(&self, keys: &HashSet<&ObjectKey>) -> Desired {
        let memory = self.memory();
        let Some(target) = &memory.target else {
            return Desired {
                commit: crate::model::CommitId::new([0; 20]),
                objects: Vec::new(),
                reads: Reads::default(),
                remarks: Vec::new(),
            };
        };
        let objects = target.objects.iter().filter(|manifest| keys.contains(&manifest.key)).cloned().collect();
        Desired { commit: target.commit, objects, reads: Reads::default(), remarks: Vec::new() }
    }

    /// Puts objects back, each for itself.
    pub async fn put_back(&self, restoring: &Restoring, stop: &channel::Receiver<bool>) -> Done {
        self.pulse.step("putting drift back");
        let mut done = Done::default();
        match self.make_namespace().await {
            Ok(()) => self.apply(&restoring.gated, stop, &mut done).await,
            Err(failure) => done.failures.push(failure),
        }
        done
    }

    /// Takes a commit that was deployed before for what stands, without a write: what of it differs stays as it is.
    pub fn settle_for(&self, prepared: &Prepared) {
        self.remember_verified(&prepared.gated);
        self.memory().target = Some(Arc::clone(&prepared.desired));
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

    /// Whether an object of the target stands as it was applied, as far as the inventory tells it.
    pub fn stands(&self, key: &ObjectKey) -> bool {
        self.examine(&[(key.clone(), false)].into(), false).stand.contains(key)
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
        self.memory().baselines.extend(gated.verified.iter().cloned());
    }

    /// Whether an apply of this object, of which nothing else could tell, changed anything.
    pub fn was_changed(&self, restoring: &Restoring, key: &ObjectKey) -> bool {
        let Some(before) = restoring.before.get(key) else { return true };
        let same = |now: &Live| {
            now.uid == before.uid
                && now.entry(&self.manager) == before.entry(&self.manager)
                && !now.content_moved(before)
        };
        self.cluster.inventory.with_members(&self.part_of, |members| !members.get(key).is_some_and(same))
    }

    /// Reads drifted objects as they are, and tells what differs and who wrote it.
    pub async fn describe(
        &self,
        found: &[Found],
        manifest: impl Fn(&ObjectKey) -> Option<Arc<Manifest>>,
    ) -> Vec<Drift> {
        if found.len() > DESCRIBED {
            return found.iter().map(Drift::undescribed).collect();
        }
        let one = async |found: &Found| match manifest(&found.key) {
            Some(manifest) => {
                let live = self.read(&manifest).await.ok().flatten(); // Not readable: told without its values.
                Drift::describe(found, &manifest, live.as_ref())
            }
            None => Drift::undescribed(found),
        };
        futures::stream::iter(found).map(one).buffered(limiter::MOST).collect().await
    }

    /// An object as it is; of a Secret the metadata alone.
    async fn read(&self, manifest: &Manifest) -> Result<Option<Value>, Failure> {
        let (known, key) = (self.discover().await?, &manifest.key);
        let Lookup::Served(info) = known.kinds.lookup(&key.kind, &manifest.version) else { return Ok(None) };
        if !key.kind.is("", "Secret") {
            return self.writer().read(key, info).await.map_err(planning);
        }
        let metadata = self.writer().metadata(key, info).await.map_err(planning)?;
        Ok(metadata.and_then(|object| serde_json::to_value(object).ok()))
    }
}

impl Restoring {
    /// The manifest of one of the objects.
    pub fn manifest(&self, key: &ObjectKey) -> Option<Arc<Manifest>> {
        self.manifests.get(key).cloned()
    }
}

impl Prepared {
    /// What of a commit that was deployed before does not stand any more, as a start or a resync finds it.
    pub fn drifted(&self) -> Vec<Found> {
        let differs = self.gated.differing.iter().cloned();
        let gone = self.gated.plan.steps.iter().filter(|step| step.action == Action::Create);
        let gone = gone.map(|step| Found { key: step.key.clone(), class: Class::Deleted, paths: FieldSet::default() });
        differs.chain(gone).collect()
    }

    /// The manifest of one of the commit's objects.
    pub fn manifest(&self, key: &ObjectKey) -> Option<Arc<Manifest>> {
        self.desired.objects.iter().find(|manifest| manifest.key == *key).cloned()
    }
}
