//! Between commits: objects that changed in the cluster are looked at, told, and put back.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use tokio::sync::watch as channel;
use tracing::{debug, warn};

use super::healed::{Fate, Healed};
use super::{Task, jitter};
use crate::cluster::gates::Gated;
use crate::cluster::inventory::Changed;
use crate::drift::book::Book;
use crate::drift::describe::Drift;
use crate::drift::fingerprint::{Class, Found};
use crate::drift::pace::{Pace, Throttle};
use crate::model::live::ResourceVersion;
use crate::model::{Failure, ObjectKey};
use crate::reconcile::heal::{Examined, Restoring};
use crate::report::crowd::Crowd;
use crate::report::drift::{self as report, Action, Noticed, Standing};

/// The first pause after something could not be looked at; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A burst of changes is over when nothing came for so long,
const BURST_PAUSES: Duration = Duration::from_millis(5);
/// and is looked at after this time at the latest.
const BURST_LASTS: Duration = Duration::from_millis(100);

/// What a task knows of drift.
#[derive(Default)]
pub(super) struct Drifts {
    pub(super) book: Book,
    /// What others added inside of objects that are otherwise as they were applied.
    pub(super) additions: Book,
    /// How often the API server is asked about what the watch can't tell.
    pub(super) pace: Pace,
    /// The same of additions. Apart, so that whoever makes the one question again and again does not take the other's turn each time.
    additions_pace: Pace,
    /// Our entry has lost fields of these, whose values are git's again: what is done to them next it does not show.
    pub(super) unseen: HashSet<ObjectKey>,
    /// What is to be looked at again, and when.
    later: HashMap<ObjectKey, Instant>,
    /// What was written without a trace, at this resourceVersion, until it is known to be as it should be.
    touched: HashMap<ObjectKey, ResourceVersion>,
    /// How often in a row something could not be looked at.
    attempts: u32,
    /// What is told in one line, since it is too much to be told one by one.
    pub(super) crowd: Crowd<report::Kind>,
    /// The same of what turned out to be fought over.
    pub(super) contests: Crowd<()>,
    /// What the status says.
    pub(super) told: Standing,
    /// The status does not say it all yet, for its turn has not come or it could not be written: when to try again.
    pub(super) untold: Option<Instant>,
    /// How often the status is written.
    pub(super) telling: Throttle,
}

impl Drifts {
    /// All of the target was looked at: whatever the status says, be it in the words of an earlier life, is compared with what was found.
    pub(super) fn all_seen(&mut self) {
        self.untold.get_or_insert_with(Instant::now);
    }

    /// When there is something to do although nothing else is seen.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let later = self.later.values().copied().min();
        let books = [&self.book, &self.additions].into_iter().filter_map(|book| book.next_at()).min();
        [books, later, self.crowd.due_at(), self.contests.due_at(), self.untold].into_iter().flatten().min()
    }

    /// Whether the API server may be asked about an object; if not, it is looked at again in its turn.
    fn may_ask(&mut self, key: &ObjectKey, now: Instant) -> bool {
        let turn = self.pace.ask(key, now);
        self.in_its_turn(key, turn)
    }

    /// The same of what others added to it.
    pub(super) fn may_ask_of_additions(&mut self, key: &ObjectKey, now: Instant) -> bool {
        let turn = self.additions_pace.ask(key, now);
        self.in_its_turn(key, turn)
    }

    fn in_its_turn(&mut self, key: &ObjectKey, turn: Result<(), Instant>) -> bool {
        let Err(at) = turn else { return true };
        self.later.entry(key.clone()).and_modify(|known| *known = at.min(*known)).or_insert(at);
        false
    }

    /// Where a drift of this class is kept.
    pub(super) fn book_of(&mut self, class: Class) -> &mut Book {
        if class == Class::ForeignAddition { &mut self.additions } else { &mut self.book }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.wake_at().is_some_and(|at| at <= now)
    }
}

/// What a heal writes.
pub(super) enum Write<'a> {
    /// Objects as git has them.
    Back(&'a Restoring),
    /// These objects without what others added.
    Out(&'a HashSet<ObjectKey>),
}

/// The objects that could not be put back.
pub(super) fn failed_of(ended: &[(Drift, Action)]) -> HashSet<ObjectKey> {
    let failed = ended.iter().filter(|(_, action)| *action == Action::Failed);
    failed.map(|(drift, _)| drift.key.clone()).collect()
}

impl Task {
    /// Whether a change waits to be looked at.
    pub(super) fn drift_is_seen(&self) -> bool {
        let inventory = &self.reconciler.cluster.inventory;
        inventory.has_changed(&self.reconciler.part_of) || self.drifts.is_due(Instant::now())
    }

    /// Why nothing is put back, if that is so.
    pub(super) fn observes(&self) -> Option<Action> {
        let spec = &self.reconciler.definition.spec;
        match (spec.suspend, spec.self_heal) {
            (true, _) => Some(Action::Suspended),
            (false, false) => Some(Action::Reported),
            (false, true) => None,
        }
    }

    pub(super) fn take_changes(&mut self) -> Changed {
        let now = Instant::now();
        let mut changed = self.reconciler.cluster.inventory.take_changed(&self.reconciler.part_of);
        let due = self.drifts.later.extract_if(|_, at| *at <= now).map(|(key, _)| key);
        let due = due.chain(self.drifts.book.take_due(now)).chain(self.drifts.additions.take_due(now));
        let due: Vec<ObjectKey> = due.collect();
        due.into_iter().for_each(|key| _ = changed.entry(key).or_default());
        for (key, touched) in &mut changed {
            *touched = self.drifts.touched.get(key).copied().max(*touched);
            self.drifts.touched.extend(touched.map(|version| (key.clone(), version)));
        }
        changed
    }

    /// The changes to look at. Of a burst as many as come: each round of healing asks what stands beside them.
    async fn gather_changes(&mut self) -> Changed {
        let (mut changed, until) = (self.take_changes(), Instant::now() + BURST_LASTS);
        while changed.len() > 1 && Instant::now() < until {
            match tokio::time::timeout(BURST_PAUSES, self.changes.changed()).await {
                Ok(Ok(())) => {}
                _ => break,
            }
            changed.extend(self.take_changes()); // Each with the newest that was ever taken.
        }
        changed
    }

    /// Has objects looked at again after a pause that grows with each time; those in a book have pauses of their own.
    pub(super) fn put_off(&mut self, keys: impl IntoIterator<Item = ObjectKey>) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.drifts.attempts.min(10)).min(LONGEST_PAUSE).mul_f64(jitter());
        self.drifts.attempts += 1;
        let at = Instant::now() + pause;
        self.drifts.later.extend(keys.into_iter().map(|key| (key, at)));
    }

    /// Where nothing is written, what the API server could not answer about is nobody's work: it is looked at again. False: it could, about all.
    pub(super) fn put_off_unanswered(&mut self, gated: &Gated) -> bool {
        let unanswered = gated.unanswered();
        if unanswered.is_empty() {
            self.drifts.attempts = 0;
            return false;
        }
        self.put_off(unanswered);
        true
    }

    /// Has everything looked at again that differed when it was looked at last: the definition or the target changed since.
    pub(super) fn look_again(&mut self) {
        let reconciler = &self.reconciler;
        for book in [&mut self.drifts.book, &mut self.drifts.additions] {
            book.retain(|key| reconciler.target_manifest(key).is_some());
            book.try_anew();
            let open: Vec<_> = book.open().map(|found| (found.key.clone(), None)).collect();
            reconciler.cluster.inventory.change_again(&reconciler.part_of, open);
        }
        self.drifts.unseen.retain(|key| reconciler.target_manifest(key).is_some());
        let unseen: Vec<_> = self.drifts.unseen.iter().map(|key| (key.clone(), None)).collect();
        reconciler.cluster.inventory.change_again(&reconciler.part_of, unseen);
        reconciler.look_at_additions_again(None);
    }

    /// Looks at what changed; tells what drifted, and puts it back unless the definition says otherwise.
    pub(super) async fn heal(&mut self) {
        let changed = self.gather_changes().await;
        let mut examined = self.reconciler.examine(&changed, self.observes().is_some());
        debug!(environment = %self.reconciler.name, ?changed, ?examined, "looking at what changed");
        examined.stand.iter().chain(&examined.added).for_each(|key| self.stands(key));
        examined.stand.iter().for_each(|key| self.nothing_added(key));
        self.wait_turns(&mut examined);
        if !examined.freed.is_empty() {
            self.course.retry_now(Instant::now());
        }
        if !(examined.found.is_empty() && examined.verify.is_empty()) {
            match self.reconciler.restoring(&examined).await {
                Ok(restoring) => self.put_back(restoring).await,
                Err(failure) => {
                    debug!(environment = %self.reconciler.name, reason = %failure, "what changed can't be looked at now; trying again");
                    let found = examined.found.into_iter().map(|found| found.key);
                    self.put_off(found.chain(examined.verify));
                }
            }
        }
        self.look_at_additions(examined.added).await;
        let going = examined.terminating.into_iter().map(|key| Found::whole(key, Class::Deleted));
        let going: Vec<Found> = going.collect();
        self.tell_waiting(&going).await;
        self.drifts.book.calm(Instant::now());
        self.drifts.additions.calm(Instant::now());
        self.tell_crowd(false);
        self.tell_drift_status().await;
    }

    /// Leaves out what is fought over until its next heal, and what was asked about just now.
    fn wait_turns(&mut self, examined: &mut Examined) {
        let (now, drifts) = (Instant::now(), &mut self.drifts);
        examined.found.retain(|found| !drifts.book.waits(&found.key, now));
        examined.verify.retain(|key| drifts.may_ask(key, now));
        // Whoever writes all the time to what can't be applied must not have the whole target tried again each time.
        let asked = &examined.verify;
        examined.freed.retain(|key| asked.contains(key) || drifts.may_ask(key, now));
    }

    /// An object is as it was applied, whatever others may have added.
    pub(super) fn stands(&mut self, key: &ObjectKey) {
        if self.drifts.book.stands(key) {
            report::over(&self.reconciler.name, key);
        }
        self.drifts.touched.remove(key);
        self.drifts.unseen.remove(key);
    }

    async fn tell_waiting(&mut self, going: &[Found]) {
        let now = Instant::now();
        let news = going.iter().filter(|found| self.drifts.book.found(found, now).news).cloned().collect();
        let waiting = self.describe(news, |_| None).await;
        let waiting = waiting.into_iter().map(|drift| (drift, Action::Waiting)).collect();
        self.tell_drifts(waiting, Noticed::Watch, Duration::ZERO).await;
    }

    async fn put_back(&mut self, mut restoring: Restoring) {
        let (now, observed) = (Instant::now(), self.observes());
        self.reconciler.remember_verified(&restoring.gated);
        restoring.gated.verified.iter().for_each(|(key, _)| self.stands(key));
        // What others have added meanwhile, or taken back, is looked at now that the rest stands.
        let verified = restoring.gated.verified.iter().map(|(key, _)| (key.clone(), None));
        self.reconciler.cluster.inventory.change_again(&self.reconciler.part_of, verified);
        let (mut heals, mut news, mut told) = (HashSet::new(), HashSet::new(), Vec::new());
        for found in &restoring.found {
            let advice = self.drifts.book.found(found, now);
            let heal = advice.heal && observed.is_none();
            heals.extend(heal.then(|| found.key.clone()));
            news.extend(advice.news.then(|| found.key.clone()));
            // What is only told may be as it should be again.
            let read = heal || (observed.is_some() && (advice.news || self.drifts.may_ask(&found.key, now)));
            told.extend(read.then(|| found.clone()));
        }
        let drifts = self.describe(told, |key| restoring.manifest(key)).await;
        drifts.iter().for_each(|drift| self.drifts.book.by(&drift.key, drift.manager.as_deref()));
        restoring.only(&heals);
        let healed = match observed {
            None if !restoring.is_settled() => self.write_back(Write::Back(&restoring)).await,
            _ => Healed::default(),
        };
        if observed.is_some() {
            self.put_off_unanswered(&restoring.gated);
            self.values_stand(&drifts).await;
        }
        let (mut ended, mut contested) = (Vec::new(), Vec::new());
        for drift in drifts {
            let action = match observed {
                Some(_) if drift.values_stand => None,
                Some(action) => Some(action).filter(|_| news.contains(&drift.key)),
                None if heals.contains(&drift.key) => self.ended(&drift, &healed, &mut contested),
                None => None, // A fight's pauses are told with the fight.
            };
            ended.extend(action.map(|action| (drift, action)));
        }
        self.look_at_additions_of(&healed.written);
        let failed = failed_of(&ended);
        self.tell_drifts(ended, Noticed::Watch, healed.took).await;
        self.tell_fights(contested).await;
        self.tell_failures(healed.failures, &failed);
    }

    /// What became of one drift; `None`: there is nothing to tell.
    pub(super) fn ended(&mut self, drift: &Drift, healed: &Healed, contested: &mut Vec<ObjectKey>) -> Option<Action> {
        let key = &drift.key;
        match healed.fate(key) {
            Fate::Written => {}
            Fate::Failed { passes } => {
                let news = self.drifts.book_of(drift.class).failed(key, healed.ended, passes, healed.spread);
                return news.then_some(Action::Failed);
            }
            Fate::NotReached => {
                self.drifts.book_of(drift.class).not_reached(key);
                self.reconciler.cluster.inventory.change_again(&self.reconciler.part_of, [(key.clone(), None)]);
                return None;
            }
            Fate::Nothing => {
                self.drifts.book_of(drift.class).found_nothing(key, healed.ended, healed.spread);
                return None;
            }
        }
        self.drifts.attempts = 0;
        self.drifts.touched.remove(key);
        contested.extend(self.drifts.book_of(drift.class).healed(key, Instant::now()).then(|| key.clone()));
        Some(if drift.class == Class::Deleted { Action::Created } else { Action::Reverted })
    }

    /// Writes until all is back; a new head, a lost claim and the end of plumb stop it after the write that is under way.
    pub(super) async fn write_back(&mut self, write: Write<'_>) -> Healed {
        let began = Instant::now();
        let reconciler = self.reconciler.clone();
        let (halt, halted) = channel::channel(false);
        let (mut newest, mut parents, mut stop) = (self.wanted.clone(), self.parents.clone(), self.stop.clone());
        let mut writing = std::pin::pin!(async {
            match write {
                Write::Back(restoring) => reconciler.put_back(restoring, &halted).await,
                Write::Out(keys) => reconciler.take_out(keys, &halted).await,
            }
        });
        let done = loop {
            tokio::select! {
                done = &mut writing => break done,
                Ok(()) = newest.changed(), if !*halt.borrow() => {
                    halt.send_replace(true);
                }
                Ok(()) = parents.changed() => if reconciler.is_taken() {
                    halt.send_replace(true);
                },
                _ = stop.wait_for(|stop| *stop), if !*halt.borrow() => {
                    halt.send_replace(true);
                }
            }
        };
        Healed::of(done, began)
    }

    /// Tells why drifts can't be put back, each once, of those whose failure is told now; has what is in no book looked at again.
    pub(super) fn tell_failures(&mut self, failures: Vec<Failure>, told: &HashSet<ObjectKey>) {
        let drifts = &self.drifts;
        let open: HashSet<&ObjectKey> =
            drifts.book.open().chain(drifts.additions.open()).map(|found| &found.key).collect();
        let known = |failure: &Failure| failure.object.as_ref().is_some_and(|key| open.contains(key));
        let is_told = |failure: &Failure| failure.object.as_ref().is_some_and(|key| told.contains(key));
        let (passing, mut lasting): (Vec<_>, Vec<_>) = failures.into_iter().partition(|failure| failure.transient);
        lasting.retain(|failure| is_told(failure) || !known(failure));
        let unknown = passing.iter().filter(|failure| !known(failure)).filter_map(|failure| failure.object.clone());
        let unknown: Vec<ObjectKey> = unknown.collect();
        if let Some(failure) = Failure::first_of(lasting) {
            warn!(environment = %self.reconciler.name, reason = %failure, "drift can't be put back; the next resync tries again");
        }
        if let Some(failure) = Failure::first_of(passing) {
            debug!(environment = %self.reconciler.name, reason = %failure, "drift is put back later");
        }
        if !unknown.is_empty() {
            self.put_off(unknown);
        }
    }
}
