//! A reconciler and what it remembers between commits.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Semaphore;

use super::images::Images;
use super::jobs::Jobs;
use super::peers::PeerBook;
use super::removal::Doubts;
use crate::cluster::Cluster;
use crate::cluster::api::As;
use crate::cluster::apply::Writer;
use crate::cluster::parent::Parents;
use crate::drift::fields::FieldSet;
use crate::drift::fingerprint::Baseline;
use crate::model::marks::{self, Claim, Instance};
use crate::model::secret::Redactor;
use crate::model::{CommitId, Configuration, Desired, Digest, Failure, Manifest, ObjectKey, applyset};
use crate::plan::NamespaceState;
use crate::render::{Cache, Definition, Tools};
use crate::telemetry::{Pulse, Telemetry, Turns};

/// What all environments of one plumb share.
pub struct Shared {
    /// The cluster.
    pub cluster: Cluster,
    /// This plumb.
    pub instance: Instance,
    /// The Environment objects.
    pub parents: Parents,
    /// The claims of all environments.
    pub peers: PeerBook,
    /// helm and kustomize.
    pub tools: Tools,
    /// Who builds images; `None`: nobody.
    pub images: Option<Images>,
    /// Set when plumb stops: a child process that renders is killed.
    pub cancel: AtomicBool,
    /// Renders under way at once: each uses a core.
    pub renders: Arc<Semaphore>,
    /// Counts the renders that began.
    pub render_turns: Turns,
    /// What plumb knows of itself.
    pub telemetry: Telemetry,
    configuration: Mutex<Option<Configuration>>,
}

impl Shared {
    /// Over this cluster, with nothing known yet.
    pub fn new(cluster: Cluster, instance: Instance, tools: Tools) -> Self {
        Self {
            telemetry: cluster.caller.telemetry().clone(),
            cluster,
            instance,
            parents: Parents::default(),
            peers: PeerBook::default(),
            tools,
            images: None,
            cancel: AtomicBool::new(false),
            renders: Arc::new(Semaphore::new(2)),
            render_turns: Turns::default(),
            configuration: Mutex::default(),
        }
    }

    /// The same with somebody who builds images.
    pub fn with_images(self, images: Option<Images>) -> Self {
        Self { images, ..self }
    }

    /// Where the definitions in force were read; `None` as long as none were.
    pub fn configuration(&self) -> Option<Configuration> {
        self.configuration.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The definitions of this commit are in force.
    pub fn configured(&self, branch: &str, commit: CommitId) {
        let now = Configuration { branch: branch.to_owned(), commit };
        *self.configuration.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }
}

/// One environment, as its definition says at this moment.
#[derive(Clone)]
pub struct Reconciler {
    /// What all environments share.
    pub shared: Arc<Shared>,
    /// The cluster that it is in, with requests in its name.
    pub cluster: Cluster,
    /// Its task's signs of life.
    pub pulse: Pulse,
    /// The environment's name.
    pub name: Arc<str>,
    /// Its definition.
    pub definition: Arc<Definition>,
    /// The value of its members' part-of label.
    pub part_of: Arc<str>,
    /// The field manager of its members.
    pub manager: Arc<str>,
    /// Its definition left git; why a person is to be asked before its objects go.
    pub(super) removal: Option<Doubts>,
    pub(super) cache: Arc<Mutex<Cache>>,
    memory: Arc<Mutex<Memory>>,
}

/// What is remembered between commits, in this life of plumb.
#[derive(Default)]
pub(super) struct Memory {
    /// What was applied, and what the API server made of it.
    pub(super) baselines: HashMap<ObjectKey, Baseline>,
    /// When the API server's answer to a write was last lost: it may have been carried out.
    pub(super) lost: Option<Instant>,
    /// The Jobs that were made: some of them go by themselves.
    pub(super) jobs: Jobs,
    /// What was deployed with this content before, and is not known to stand. Where drift is not put back, it stays as it is until git changes it.
    pub(super) left: HashMap<ObjectKey, Digest>,
    /// The namespaces that were seen to stand.
    pub(super) namespaces: HashMap<Arc<str>, NamespaceState>,
    /// What the commit asks for that passed its gates last: what drift restores.
    pub(super) target: Option<Arc<Desired>>,
    /// The definition that it passed them under.
    pub(super) held: Option<Arc<Definition>>,
    /// A commit that ended unchanged, beside the status's target at the time: it asks for the same, and the status is not written for it.
    pub(super) same: Option<(CommitId, CommitId)>,
    /// What of other managers' fields inside an object is an addition, as far as that was asked: by the text of all of them.
    pub(super) additions: HashMap<ObjectKey, (Digest, Arc<str>, FieldSet)>,
    /// Takes the secret values of this target out of what others say.
    pub(super) redactor: Option<(Arc<Desired>, Arc<Redactor>)>,
    /// The content that stands wholly; a commit with the same changes nothing.
    pub(super) settled: Option<Digest>,
}

/// What was known of the objects before a resync.
pub struct Forgotten {
    baselines: HashMap<ObjectKey, Baseline>,
    left: HashMap<ObjectKey, Digest>,
}

impl Memory {
    /// These were written, or found to stand as they would be written.
    pub(super) fn know(&mut self, baselines: &[(ObjectKey, Baseline)]) {
        self.jobs.note(baselines);
        for (key, baseline) in baselines {
            self.left.remove(key);
            self.baselines.insert(key.clone(), baseline.clone());
        }
    }

    /// Writes ended so. Of what failed in passing nobody knows whether the API server carried it out after all.
    pub(super) fn note_lost<'a>(&mut self, failures: impl IntoIterator<Item = &'a Failure>) {
        if failures.into_iter().any(|failure| failure.transient) {
            self.lost = Some(Instant::now());
        }
    }

    /// Whether an object was written with this content, also if it does not stand so any more.
    pub(super) fn has_written(&self, manifest: &Manifest) -> bool {
        let written = self.baselines.get(&manifest.key).map(|baseline| &baseline.digest);
        written.or_else(|| self.left.get(&manifest.key)) == Some(&manifest.digest) || self.jobs.made(manifest)
    }

    /// Whether an object was written, with whatever content, or is known from an earlier life.
    pub(super) fn has_had(&self, manifest: &Manifest) -> bool {
        let key = &manifest.key;
        self.baselines.contains_key(key) || self.left.contains_key(key) || self.jobs.made(manifest)
    }

    /// The object is gone, or another environment's.
    pub(super) fn forget_object(&mut self, key: &ObjectKey) {
        self.baselines.remove(key);
        self.jobs.forget(key);
        self.left.remove(key);
    }

    /// These objects of what is asked for now do not, or nobody knows; what is not asked for any more is forgotten.
    pub(super) fn leave<'a>(&mut self, desired: &Desired, left: impl IntoIterator<Item = &'a Arc<Manifest>>) {
        let asked: HashSet<&ObjectKey> = desired.objects.iter().map(|manifest| &manifest.key).collect();
        self.left.retain(|key, _| asked.contains(key));
        for manifest in left {
            if !self.baselines.contains_key(&manifest.key) {
                self.left.insert(manifest.key.clone(), manifest.digest);
            }
        }
    }
}

impl Reconciler {
    /// A reconciler that remembers nothing yet.
    pub fn new(shared: Arc<Shared>, definition: Arc<Definition>) -> Self {
        let name = definition.name.as_str();
        Self {
            cluster: shared.cluster.clone(),
            pulse: Pulse::default(),
            shared,
            name: name.into(),
            definition: Arc::clone(&definition),
            part_of: applyset::id(name).into(),
            manager: applyset::manager(name).into(),
            removal: None,
            cache: Arc::default(),
            memory: Arc::default(),
        }
    }

    /// The same, in a task that has to make progress.
    pub fn with_pulse(self, pulse: Pulse) -> Self {
        Self { cluster: self.cluster.with_pulse(pulse.clone()), pulse, ..self }
    }

    /// Whether another run or installation has taken the Environment, as far as is known.
    pub fn is_taken(&self) -> bool {
        let known = self.shared.parents.get(&self.name);
        let claim = known.map(|known| marks::claim(&known, &self.shared.instance));
        matches!(claim, Some(Claim::OtherRun | Claim::Theirs(_)))
    }

    /// The same environment under a new definition: what is remembered of its objects stays true.
    pub fn redefined(&self, definition: Arc<Definition>) -> Self {
        self.memory().settled = None;
        Self { definition, ..self.clone() }
    }

    /// The same environment without a definition: everything it has goes. `doubts` are what speaks for asking a person first, a sentence each.
    pub fn removed(self, doubts: &[String]) -> Self {
        Self { removal: Some(doubts.into()), ..self }
    }

    /// Forgets what was verified, so that the next deployment applies everything. What is forgotten is given: until that deployment has passed its gates it
    /// is what drift is told from ([`Self::recall`]).
    pub fn forget(&self) -> Forgotten {
        let mut memory = self.memory();
        let Memory { target, held, same, left, jobs, baselines, lost, .. } = std::mem::take(&mut *memory);
        target.iter().for_each(|target| self.forget_images(target));
        let mut written = left.clone();
        written.extend(baselines.iter().map(|(key, baseline)| (key.clone(), baseline.digest)));
        // What has run has run.
        *memory = Memory { target, held, same, left: written, jobs, lost, ..Memory::default() };
        Forgotten { baselines, left }
    }

    /// The deployment did not come about: what was known of the objects is known again.
    pub fn recall(&self, forgotten: Forgotten) {
        let mut memory = self.memory();
        let Forgotten { baselines, left } = forgotten;
        for (key, baseline) in baselines {
            memory.baselines.entry(key).or_insert(baseline);
        }
        memory.left = left;
    }

    /// This environment under the definition that the target passed its gates with: what is put back, is put back as it was deployed. Whether anything is, the
    /// definition in force says.
    pub fn as_held(&self) -> Self {
        let held = self.memory().held.clone();
        let Some(held) = held.filter(|held| *held != self.definition) else { return self.clone() };
        let mut definition = Definition::clone(&held);
        let spec = &self.definition.spec;
        (definition.spec.self_heal, definition.spec.suspend) = (spec.self_heal, spec.suspend);
        Self { definition: Arc::new(definition), ..self.clone() }
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes as this environment.
    pub(super) fn writer(&self) -> Writer<'_> {
        Writer { caller: &self.cluster.caller, manager: &self.manager, by: As::environment(&self.definition.spec) }
    }
}
