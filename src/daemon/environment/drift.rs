//! Between commits: objects that changed in the cluster are looked at, told, and put back.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use tokio::sync::watch as channel;
use tracing::{debug, warn};

use super::{Task, jitter};
use crate::cluster::events;
use crate::cluster::execute::Done;
use crate::cluster::inventory::Changed;
use crate::cluster::parent::{self, Claim, Parent};
use crate::drift::book::{Advice, Book};
use crate::drift::describe::Drift;
use crate::drift::fields::FieldSet;
use crate::drift::fingerprint::{Class, Found};
use crate::model::{CommitId, Failure, ObjectKey, Outcome};
use crate::reconcile::heal::{DESCRIBED, Restoring};
use crate::reconcile::{Mode, Prepared, Verdict};
use crate::report::drift::{self as report, Action, Noticed, Standing};
use crate::report::health::failed_at_health;

/// The first pause after a heal that failed in a way that may pass; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What a task knows of drift.
#[derive(Default)]
pub(super) struct Drifts {
    book: Book,
    /// What is to be looked at again, and when.
    put_off: Option<(Changed, Instant)>,
    attempts: u32,
    /// What the status says.
    told: Standing,
    /// The status could not be written; when to try again.
    untold: Option<Instant>,
}

impl Drifts {
    /// When there is something to do although nothing else is seen.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let put_off = self.put_off.as_ref().map(|(_, at)| *at);
        [self.book.next_at(), put_off, self.untold].into_iter().flatten().min()
    }

    fn is_due(&self, now: Instant) -> bool {
        self.wake_at().is_some_and(|at| at <= now)
    }
}

/// How a heal went.
struct Healed {
    done: Done,
    took: Duration,
}

impl Task {
    /// Whether a change waits to be looked at.
    pub(super) fn drift_is_seen(&self) -> bool {
        let inventory = &self.reconciler.cluster.inventory;
        inventory.has_changed(&self.reconciler.part_of) || self.drifts.is_due(Instant::now())
    }

    /// Why nothing is put back, if that is so.
    fn observes(&self) -> Option<Action> {
        let spec = &self.reconciler.definition.spec;
        match (spec.suspend, spec.self_heal) {
            (true, _) => Some(Action::Suspended),
            (false, false) => Some(Action::Reported),
            (false, true) => None,
        }
    }

    fn take_changes(&mut self) -> Changed {
        let now = Instant::now();
        let mut changed = self.reconciler.cluster.inventory.take_changed(&self.reconciler.part_of);
        for (key, traceless) in self.drifts.put_off.take_if(|(_, at)| *at <= now).into_iter().flat_map(|(keys, _)| keys)
        {
            *changed.entry(key).or_default() |= traceless;
        }
        self.drifts.book.take_due(now).into_iter().for_each(|key| _ = changed.entry(key).or_default());
        changed
    }

    fn put_off(&mut self, keys: impl IntoIterator<Item = ObjectKey>) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.drifts.attempts.min(10)).min(LONGEST_PAUSE).mul_f64(jitter());
        self.drifts.attempts += 1;
        let (put_off, _) = self.drifts.put_off.get_or_insert_with(|| (Changed::new(), Instant::now() + pause));
        keys.into_iter().for_each(|key| _ = put_off.entry(key).or_default());
    }

    /// Has everything looked at again that differed when it was looked at last: the definition or the target changed since.
    pub(super) fn look_again(&mut self) {
        let open: Vec<_> = self.drifts.book.open().map(|found| (found.key.clone(), false)).collect();
        self.reconciler.cluster.inventory.change_again(&self.reconciler.part_of, open);
    }

    /// Looks at what changed; tells what drifted, and puts it back unless the definition says otherwise.
    pub(super) async fn heal(&mut self) {
        let changed = self.take_changes();
        let examined = self.reconciler.examine(&changed, self.observes().is_some());
        debug!(environment = %self.reconciler.name, ?changed, ?examined, "looking at what changed");
        examined.stand.iter().for_each(|key| self.stands(key));
        let going = |key: &ObjectKey| Found { key: key.clone(), class: Class::Deleted, paths: FieldSet::default() };
        let going: Vec<Found> = examined.terminating.iter().map(going).collect();
        if !(examined.found.is_empty() && examined.verify.is_empty()) {
            match self.reconciler.restoring(&examined).await {
                Ok(restoring) => self.put_back(restoring, examined.verify).await,
                Err(failure) => {
                    debug!(environment = %self.reconciler.name, reason = %failure, "what changed can't be looked at now; trying again");
                    let found = examined.found.into_iter().map(|found| found.key);
                    self.put_off(found.chain(examined.verify));
                }
            }
        }
        self.tell_waiting(&going).await;
        self.drifts.book.calm(Instant::now());
        self.tell_drift_status().await;
    }

    fn stands(&mut self, key: &ObjectKey) {
        if self.drifts.book.open().any(|found| found.key == *key) {
            report::over(&self.reconciler.name, key);
        }
        self.drifts.book.stands(key);
    }

    async fn tell_waiting(&mut self, going: &[Found]) {
        let now = Instant::now();
        let news: Vec<&Found> = going.iter().filter(|found| self.drifts.book.found(found, now).news).collect();
        let waiting = news.into_iter().map(|found| (Drift::undescribed(found), Action::Waiting)).collect();
        self.tell_drifts(waiting, Noticed::Watch, Duration::ZERO).await;
    }

    async fn put_back(&mut self, mut restoring: Restoring, verify: Vec<ObjectKey>) {
        let (now, observes) = (Instant::now(), self.observes());
        let mut advice: HashMap<ObjectKey, Advice> = HashMap::new();
        for found in &restoring.found {
            advice.insert(found.key.clone(), self.drifts.book.found(found, now));
        }
        // What a dry-run has shown to be as it should be.
        self.reconciler.remember_verified(&restoring.gated);
        let unknown = verify.iter().filter(|key| !advice.contains_key(key));
        let unknown: Vec<Found> = unknown
            .map(|key| Found { key: key.clone(), class: Class::ValueChanged, paths: FieldSet::default() })
            .collect();
        let heals = |key: &ObjectKey| observes.is_none() && advice.get(key).is_none_or(|advice| advice.heal);
        let told = restoring.found.iter().chain(&unknown);
        let told = told.filter(|found| heals(&found.key) || advice.get(&found.key).is_some_and(|advice| advice.news));
        let told: Vec<Found> = told.cloned().collect();
        let drifts = self.reconciler.describe(&told, |key| restoring.manifest(key)).await;
        for drift in &drifts {
            self.drifts.book.by(&drift.key, drift.manager.as_deref());
        }
        let keys: HashSet<&ObjectKey> = told.iter().map(|found| &found.key).filter(|key| heals(key)).collect();
        restoring.only(&keys);
        let healed = self.write_back(&restoring).await;
        let mut ended = Vec::new();
        for drift in drifts {
            if let Some(action) =
                self.ended(&drift, &restoring, &healed, keys.contains(&drift.key), !advice.contains_key(&drift.key))
            {
                ended.push((drift, action));
            }
        }
        self.tell_drifts(ended, Noticed::Watch, healed.took).await;
        self.tell_failures(healed.done.failures);
    }

    /// What became of one drift; `None`: there is nothing to tell.
    fn ended(
        &mut self,
        drift: &Drift,
        restoring: &Restoring,
        healed: &Healed,
        tried: bool,
        unsure: bool,
    ) -> Option<Action> {
        let key = &drift.key;
        if !tried {
            // A fight's pauses are told with the fight.
            return self.observes();
        }
        if healed.done.failures.iter().any(|failure| failure.object.as_ref() == Some(key)) {
            return Some(Action::Failed).filter(|_| self.drifts.attempts == 0);
        }
        if !healed.done.baselines.iter().any(|(written, _)| written == key) {
            // Stopped before its turn, or found to be as it should be by a dry-run.
            self.reconciler.cluster.inventory.change_again(&self.reconciler.part_of, [(key.clone(), false)]);
            return None;
        }
        if unsure && !self.reconciler.was_changed(restoring, key) {
            self.drifts.book.stands(key);
            return None;
        }
        if unsure {
            let paths = FieldSet::default();
            self.drifts.book.found(&Found { key: key.clone(), class: drift.class, paths }, Instant::now());
        }
        self.drifts.attempts = 0;
        if self.drifts.book.healed(key, Instant::now()) {
            let fight = self.drifts.book.fights().find(|fight| fight.key == key);
            fight.iter().for_each(|fight| report::fight(&self.reconciler.name, fight));
        }
        Some(if drift.class == Class::Deleted { Action::Created } else { Action::Reverted })
    }

    /// Writes until all is back; a new head, a lost claim and the end of plumb stop it after the write that is under way.
    async fn write_back(&mut self, restoring: &Restoring) -> Healed {
        let began = Instant::now();
        let reconciler = self.reconciler.clone();
        let (halt, halted) = channel::channel(false);
        let (mut newest, mut parents, mut stop) = (self.wanted.clone(), self.parents.clone(), self.stop.clone());
        newest.mark_unchanged();
        let mut writing = std::pin::pin!(reconciler.put_back(restoring, &halted));
        let done = loop {
            tokio::select! {
                done = &mut writing => break done,
                Ok(()) = newest.changed(), if !*halt.borrow() => {
                    halt.send_replace(true);
                }
                Ok(()) = parents.changed() => {
                    let known = reconciler.shared.parents.get(&reconciler.name);
                    if known.is_some_and(|known| matches!(parent::claim(&known, &reconciler.shared.instance), Claim::OtherRun | Claim::Theirs(_))) {
                        halt.send_replace(true);
                    }
                }
                _ = stop.wait_for(|stop| *stop), if !*halt.borrow() => {
                    halt.send_replace(true);
                }
            }
        };
        Healed { done, took: began.elapsed() }
    }

    fn tell_failures(&mut self, failures: Vec<Failure>) {
        let (passing, lasting): (Vec<_>, Vec<_>) = failures.into_iter().partition(|failure| failure.transient);
        if let Some(failure) = Failure::first_of(lasting) {
            warn!(environment = %self.reconciler.name, reason = %failure, "drift can't be put back; the next resync tries again");
        }
        let keys: Vec<ObjectKey> = passing.iter().filter_map(|failure| failure.object.clone()).collect();
        let nameless = passing.iter().any(|failure| failure.object.is_none());
        if let Some(failure) = Failure::first_of(passing) {
            debug!(environment = %self.reconciler.name, reason = %failure, "drift is put back later");
            let open = self.drifts.book.open().filter(|_| nameless).map(|found| found.key.clone());
            let keys: Vec<ObjectKey> = keys.into_iter().chain(open).collect();
            self.put_off(keys);
        }
    }

    async fn tell_drifts(&self, drifts: Vec<(Drift, Action)>, noticed: Noticed, took: Duration) {
        report::told(&self.reconciler.name, &drifts, noticed, took, DESCRIBED, chrono::Utc::now().timestamp());
        for (drift, action) in &drifts {
            self.reconciler.shared.telemetry.metrics.drift(&self.reconciler.name, drift.class.as_str(), action.word());
        }
        if drifts.len() > DESCRIBED {
            return; // The log has the sum; an Event for each would be a storm.
        }
        let shared = &self.reconciler.shared;
        for (drift, action) in &drifts {
            let about = self.reconciler.regarding(&drift.key);
            let event = report::event(drift, *action);
            if let Err(error) =
                events::post(&self.reconciler.cluster.caller, &about, &event, &shared.instance.name).await
            {
                debug!(environment = %self.reconciler.name, %error, "the Event could not be posted");
            }
        }
    }

    /// Brings the status up to date with the book, at no request when it says so already.
    async fn tell_drift_status(&mut self) {
        let observed =
            self.observes().map(|action| if action == Action::Suspended { "Suspended" } else { "SelfHealOff" });
        let standing = Standing::of(&self.drifts.book, observed.filter(|_| self.drifts.book.open().next().is_some()));
        let due = self.drifts.untold.take_if(|at| *at <= Instant::now()).is_some();
        if standing == self.drifts.told && !due {
            return;
        }
        let (shared, name) = (&self.reconciler.shared, &self.reconciler.name);
        let Some(environment) = shared.parents.get(name) else { return };
        let last = environment.status.clone().unwrap_or_default();
        let status =
            crate::report::status::drifted(&last, &standing, environment.metadata.generation, chrono::Utc::now());
        if status == last {
            self.drifts.told = standing;
            return;
        }
        match (Parent { caller: &self.reconciler.cluster.caller, name }).apply_status(&status).await {
            Ok(written) => {
                shared.parents.wrote(written);
                (self.status, self.drifts.told) = (Some(status), standing);
            }
            Err(error) => {
                debug!(environment = %name, %error, "the status could not be written; trying again");
                self.drifts.untold = Some(Instant::now() + super::tell::TELL_AGAIN);
            }
        }
    }

    /// Before a new commit: what drifted meanwhile is told, since the commit is about to overwrite it.
    pub(super) async fn tell_before(&mut self) {
        let changed = self.take_changes();
        if changed.is_empty() {
            return;
        }
        let examined = self.reconciler.examine(&changed, self.observes().is_some());
        let now = Instant::now();
        let news: Vec<Found> =
            examined.found.iter().filter(|found| self.drifts.book.found(found, now).news).cloned().collect();
        let target = |key: &ObjectKey| self.reconciler.target_manifest(key);
        let drifts = self.reconciler.describe(&news, target).await;
        let drifts = drifts.into_iter().map(|drift| (drift, Action::LeftToCommit)).collect();
        self.tell_drifts(drifts, Noticed::Watch, Duration::ZERO).await;
        // Looked at again when the commit has ended.
        self.reconciler.cluster.inventory.change_again(&self.reconciler.part_of, changed);
    }

    /// What a start or a resync found to have drifted of a commit that was deployed before: told, and put back by the deployment of what was prepared.
    /// `None`: only told, since the definition says so.
    pub(super) async fn restore(&mut self, prepared: Box<Prepared>, noticed: Noticed, quiet: bool) {
        let (commit, found, now) = (prepared.desired.commit, prepared.drifted(), Instant::now());
        let news: Vec<Found> = found.iter().filter(|found| self.drifts.book.found(found, now).news).cloned().collect();
        let drifts = self.reconciler.describe(&news, |key| prepared.manifest(key)).await;
        if let Some(action) = self.observes() {
            self.reconciler.settle_for(&prepared);
            self.tell_drifts(drifts.into_iter().map(|drift| (drift, action)).collect(), noticed, Duration::ZERO).await;
            if !quiet {
                self.unchanged(commit).await;
            }
            return self.tell_drift_status().await;
        }
        let began = Instant::now();
        self.deploy(prepared, quiet).await;
        let stands = |key: &ObjectKey| self.reconciler.stands(key);
        let ended = |drift: Drift| {
            let back = if drift.class == Class::Deleted { Action::Created } else { Action::Reverted };
            let action = if stands(&drift.key) { back } else { Action::Failed };
            (drift, action)
        };
        let drifts: Vec<(Drift, Action)> = drifts.into_iter().map(ended).collect();
        for (drift, action) in &drifts {
            if *action != Action::Failed {
                self.drifts.book.healed(&drift.key, Instant::now());
            }
        }
        self.tell_drifts(drifts, noticed, began.elapsed()).await;
        self.tell_drift_status().await;
    }

    /// Looks at the target without a write: the environment is suspended, and nothing is known of its objects in this life.
    pub(super) async fn look_at_target(&mut self) {
        let Some(target) = self.course.target().filter(|_| !self.reconciler.has_target()) else { return };
        match self.prepare(target, Mode::Restore).await {
            Some(Ok(Verdict::Passed(prepared))) if self.was_deployed(target) => {
                self.restore(prepared, Noticed::Start, true).await;
            }
            Some(Ok(_)) | None => {}
            Some(Err(failure)) => {
                debug!(environment = %self.reconciler.name, reason = %failure, "suspended; its objects can't be looked at");
            }
        }
    }

    /// Whether all of this commit stood at the end of its deployment, in this life or an earlier one: what does not stand now drifted.
    pub(super) fn was_deployed(&self, commit: CommitId) -> bool {
        match &self.told {
            Some((told, Outcome::Deployed | Outcome::Unchanged)) if *told == commit => return true,
            _ => {}
        }
        let environment = self.reconciler.shared.parents.get(&self.reconciler.name);
        let status = environment.as_ref().and_then(|environment| environment.status.as_ref());
        let commit = commit.to_string();
        status.is_some_and(|status| {
            let last = status.history.iter().find(|entry| entry.outcome != "Suspended");
            last.is_some_and(|entry| {
                let all_written = matches!(entry.outcome.as_str(), "Deployed" | "Unchanged") || failed_at_health(entry);
                entry.commit == commit && all_written
            })
        })
    }
}
