//! What a task says of drift: lines, Events, and how the environment stands.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::debug;

use super::Task;
use super::drift::Drifts;
use super::tell::TELL_AGAIN;
use crate::cluster::events::{self, Event};
use crate::drift::describe::Drift;
use crate::drift::fingerprint::{Class, Found};
use crate::model::{Manifest, ObjectKey};
use crate::report::drift::{self as report, Action, Noticed, Standing};

/// So many of a burst of drifts are read.
const SAMPLE: usize = 3;

impl Task {
    /// Reads drifted objects as they are, unless they are too many at once.
    pub(super) async fn describe(
        &mut self,
        found: Vec<Found>,
        manifest: impl Fn(&ObjectKey) -> Option<Arc<Manifest>>,
    ) -> Vec<Drift> {
        match self.drifts.crowd.admits(found.len(), Instant::now()) {
            true => self.reconciler.describe(&found, manifest).await,
            false => {
                // Of some it is read who wrote them, for all.
                let stand = |found: &&Found| found.class != Class::Deleted;
                let (now, pace) = (Instant::now(), &mut self.drifts.pace);
                let sample = found.iter().filter(stand).filter(|found| pace.ask(&found.key, now).is_ok());
                let sample: Vec<Found> = sample.take(SAMPLE).cloned().collect();
                let read = self.reconciler.describe(&sample, manifest).await;
                let one = |found: &Found| match read.iter().find(|drift| drift.key == found.key) {
                    Some(drift) => Drift { one_of_many: true, ..drift.clone() },
                    None => Drift::one_of_many(found),
                };
                found.iter().map(one).collect()
            }
        }
    }

    /// Tells the rest of a burst of drifts, once it is over or if there is no time left.
    pub(super) fn tell_crowd(&mut self, at_once: bool) {
        let crowd = &mut self.drifts.crowd;
        let told = if at_once { crowd.take() } else { crowd.take_due(Instant::now()) };
        told.iter().for_each(|told| report::crowd(&self.reconciler.name, told));
        let Drifts { contests, book, additions, .. } = &mut self.drifts;
        let told = if at_once { contests.take() } else { contests.take_due(Instant::now()) };
        if !told.is_empty() {
            let opponents = book.fights().chain(additions.fights()).filter_map(|fight| fight.opponent).collect();
            told.iter().for_each(|(_, alike, _)| report::fights(&self.reconciler.name, alike, &opponents));
        }
    }

    /// Tells what is fought over from now on: in the log and by an Event, or with the crowd that it is one of.
    pub(super) async fn tell_fights(&mut self, contested: Vec<ObjectKey>) {
        let (now, Drifts { contests, book, additions, .. }) = (Instant::now(), &mut self.drifts);
        if !contests.admits(contested.len(), now) {
            return contested.iter().for_each(|key| contests.join(key, (), now));
        }
        let contested: HashSet<ObjectKey> = contested.into_iter().collect();
        let mut events = Vec::new();
        for fight in book.fights().chain(additions.fights()).filter(|fight| contested.contains(fight.key)) {
            report::fight(&self.reconciler.name, &fight);
            events.push((fight.key.clone(), report::fight_event(&fight)));
        }
        self.post(events).await;
    }

    /// Posts Events on objects. One that can't be posted is not tried again: the log has said it.
    async fn post(&self, events: Vec<(ObjectKey, Event)>) {
        let shared = &self.reconciler.shared;
        for (key, event) in events {
            let about = self.reconciler.regarding(&key);
            if let Err(error) =
                events::post(&self.reconciler.cluster.caller, &about, &event, &shared.instance.name).await
            {
                debug!(environment = %self.reconciler.name, %error, "the Event could not be posted");
            }
        }
    }

    /// Tells drifts, and what was done about each: in the log and by an Event, or with the crowd that it is one of.
    pub(super) async fn tell_drifts(&mut self, drifts: Vec<(Drift, Action)>, noticed: Noticed, took: Duration) {
        let (now, metrics) = (Instant::now(), &self.reconciler.shared.telemetry.metrics);
        let told = drifts.into_iter().filter(|(drift, _)| !drift.values_stand);
        let (many, singly): (Vec<_>, Vec<_>) = told.partition(|(drift, _)| drift.one_of_many);
        for (drift, action) in many.iter().chain(&singly) {
            metrics.drift(&self.reconciler.name, drift.class.as_str(), action.word());
        }
        for (drift, _) in &singly {
            self.drifts.book_of(drift.class).told(&drift.key);
        }
        for (drift, action) in many {
            self.drifts.crowd.join(&drift.key, (drift.class, action, noticed), now);
        }
        report::told(&self.reconciler.name, &singly, noticed, took, chrono::Utc::now().timestamp());
        let events = singly.iter().map(|(drift, action)| (drift.key.clone(), report::event(drift, *action))).collect();
        self.post(events).await;
    }

    /// How the environment stands, as the book has it.
    pub(super) fn drift_standing(&self) -> Standing {
        let observed =
            self.observes().map(|action| if action == Action::Suspended { "Suspended" } else { "SelfHealOff" });
        let observed = observed.filter(|_| self.drifts.book.open().next().is_some());
        Standing::of([&self.drifts.book, &self.drifts.additions], observed)
    }

    /// The status says so now.
    pub(super) fn drift_told(&mut self, standing: Standing) {
        self.drifts.told = standing;
    }

    /// Brings the status up to date with the book, at no request when it says so already, and not more often than once a second.
    pub(super) async fn tell_drift_status(&mut self) {
        let standing = self.drift_standing();
        // What is left as it is may be put right by somebody else, which our ownership does not show.
        let open = self.drifts.book.open().map(|found| &found.key).chain(&self.drifts.unseen);
        let open = open.filter(|_| self.observes().is_some()).cloned();
        self.reconciler.cluster.inventory.follow_closely(&self.reconciler.part_of, open.collect());
        let now = Instant::now();
        let due = self.drifts.untold.take_if(|at| *at <= now).is_some();
        if standing == self.drifts.told && !due {
            return;
        }
        let (shared, name) = (&self.reconciler.shared, &self.reconciler.name);
        let Some(environment) = shared.parents.get(name) else {
            self.drifts.untold = Some(now + TELL_AGAIN);
            return;
        };
        let last = environment.status.clone().unwrap_or_default();
        let status =
            crate::report::status::drifted(&last, &standing, environment.metadata.generation, chrono::Utc::now());
        if status == last {
            self.drifts.told = standing;
            return;
        }
        if let Err(at) = self.drifts.telling.pass(now) {
            self.drifts.untold = Some(at);
            return;
        }
        match self.write_status(&status).await {
            Ok(()) => (self.drifts.told, self.drifts.untold) = (standing, None),
            Err(error) => {
                debug!(environment = %self.reconciler.name, %error, "the status could not be written; trying again");
                self.drifts.untold = Some(Instant::now() + TELL_AGAIN);
            }
        }
    }
}
