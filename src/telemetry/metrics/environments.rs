//! What is counted for each environment: plain data, which goes as a whole when the environment goes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::model::{CommitId, Outcome, Stage};

/// The environments. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Environments {
    seen: Arc<Mutex<BTreeMap<String, Seen>>>,
}

/// One environment.
#[derive(Debug, Default)]
pub(super) struct Seen {
    head: Option<CommitId>,
    /// Since when a head waits. A newer head does not wait less long: the environment is behind since then.
    pub(super) waits: Option<Instant>,
    ended: BTreeMap<&'static str, u64>,
    failed: BTreeMap<&'static str, u64>,
    synced: Option<bool>,
    pub(super) healthy: Option<bool>,
    /// By class and action.
    drift: BTreeMap<(&'static str, &'static str), u64>,
    /// How many stand.
    pub(super) objects: u32,
}

impl Seen {
    fn head(&mut self, head: Option<CommitId>, now: Instant) {
        if self.head != head {
            self.head = head;
            self.waits = head.map(|_| self.waits.unwrap_or(now));
        }
    }

    pub(super) fn waits_anew(&mut self, now: Instant) {
        self.waits = self.head.map(|_| self.waits.unwrap_or(now));
    }

    pub(super) fn at_rest(&mut self, head: Option<CommitId>) {
        if self.head == head {
            self.waits = None;
        }
    }

    pub(super) fn ended(&mut self, outcome: &Outcome) {
        *self.ended.entry(outcome.as_str()).or_default() += 1;
        match outcome {
            Outcome::Deployed | Outcome::Unchanged => self.synced = Some(true),
            Outcome::Failed(failure) => {
                self.synced = Some(false);
                *self.failed.entry(failure.stage.as_str()).or_default() += 1;
            }
            Outcome::SupersededBy(_) | Outcome::Suspended => {}
        }
    }

    /// It has failed at that stage, though the commit was deployed.
    pub(super) fn rollout_failed(&mut self) {
        *self.failed.entry(Stage::Health.as_str()).or_default() += 1;
    }

    pub(super) fn drift(&mut self, class: &'static str, action: &'static str) {
        *self.drift.entry((class, action)).or_default() += 1;
    }
}

impl Environments {
    fn seen(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An environment is there: it has series from now on.
    pub(super) fn head(&self, environment: &str, head: Option<CommitId>, now: Instant) {
        let mut seen = self.seen();
        if !seen.contains_key(environment) {
            // A counter that is there before it counts shows its first step as one.
            let ended = ["Deployed", "Failed"].map(|outcome| (outcome, 0)).into();
            seen.insert(environment.to_owned(), Seen { ended, ..Seen::default() });
        }
        if let Some(seen) = seen.get_mut(environment) {
            seen.head(head, now);
        }
    }

    /// Changes what is counted for an environment, if it is still there.
    pub(super) fn with(&self, environment: &str, change: impl FnOnce(&mut Seen)) {
        if let Some(seen) = self.seen().get_mut(environment) {
            change(seen);
        }
    }

    pub(super) fn forget(&self, environment: &str) {
        self.seen().remove(environment);
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.seen().keys().cloned().collect()
    }
}

impl Collector for Environments {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (seen, now) = (self.seen(), Instant::now());
        let mut sheet = Sheet { encoder: &mut encoder, seen: &seen };
        sheet.counters("plumb_deployments", "Commits that ended, by environment and outcome", |seen| {
            seen.ended.iter().map(|(outcome, count)| (vec![("outcome", *outcome)], *count)).collect()
        })?;
        let help = "Commits that could not be deployed, by environment and the stage that they failed at";
        sheet.counters("plumb_deployment_failures", help, |seen| {
            seen.failed.iter().map(|(stage, count)| (vec![("stage", *stage)], *count)).collect()
        })?;
        let help = "Objects that were not as git says, by environment, class and what was done";
        sheet.counters("plumb_drift", help, |seen| {
            let labels = |(class, action): (&'static str, &'static str)| vec![("class", class), ("action", action)];
            seen.drift.iter().map(|(drift, count)| (labels(*drift), *count)).collect()
        })?;
        let help = "1: the commit that ended last is deployed; 0: it failed";
        sheet.gauges("plumb_environment_synced", help, |seen| seen.synced.map(f64::from))?;
        let help = "1: all objects are ready; 0: some are not";
        sheet.gauges("plumb_environment_healthy", help, |seen| seen.healthy.map(f64::from))?;
        let help = "How long the oldest head of the environment without an end has waited; 0: there is nothing to do";
        let age = |since: Instant| now.saturating_duration_since(since).as_secs_f64();
        sheet.gauges("plumb_queue_age_seconds", help, |seen| Some(seen.waits.map_or(0.0, age)))?;
        let help = "Objects of the environment that stand in the cluster";
        sheet.gauges("plumb_inventory_objects", help, |seen| Some(f64::from(seen.objects)))
    }
}

/// Labels beside the environment's, and a value.
type Series = (Vec<(&'static str, &'static str)>, u64);

/// Writes one family of series after the other.
struct Sheet<'a, 'e> {
    encoder: &'a mut DescriptorEncoder<'e>,
    seen: &'a BTreeMap<String, Seen>,
}

impl Sheet<'_, '_> {
    fn counters(&mut self, name: &str, help: &str, series: impl Fn(&Seen) -> Vec<Series>) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (environment, seen) in self.seen {
            for (more, count) in series(seen) {
                let mut labels = vec![("environment", environment.as_str())];
                labels.extend(more);
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&count, None)?;
            }
        }
        Ok(())
    }

    fn gauges(&mut self, name: &str, help: &str, value: impl Fn(&Seen) -> Option<f64>) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (environment, seen) in self.seen {
            if let Some(value) = value(seen) {
                family.encode_family(&[("environment", environment.as_str())])?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}
