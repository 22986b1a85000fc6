//! Why a workload is not ready, in a person's words: from its pods, their last log lines and the Warning events.
//!
//! Which of them are asked for is decided here; [`crate::cluster::diagnose`] asks.

use std::cmp::Reverse;

use k8s_openapi::api::core::v1::Event;
use serde_json::Value;

use super::object::{Field, Object};
use super::pod;
use crate::model::health::Status;
use crate::model::scrub::scrub;
use crate::model::{GroupKind, Health};

/// Lines of a log that are shown, and characters of each.
const LINES: usize = 8;
const LINE: usize = 300;
/// Events that are shown, and characters of each.
const EVENTS: usize = 2;
const EVENT: usize = 300;

/// The kinds whose pods are looked at.
pub fn has_pods(kind: &GroupKind) -> bool {
    ["DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"].iter().any(|name| kind.is("apps", name))
        || kind.is("batch", "Job")
}

/// The label selector of a workload's pods, as a list request takes it. `None`: it has none, and would select everybody's.
pub fn selector(workload: &Object) -> Option<String> {
    let selector = workload.spec("/selector");
    let mut terms: Vec<String> =
        selector.at("/matchLabels").entries().map(|(name, value)| format!("{name}={}", value.text())).collect();
    for expression in selector.at("/matchExpressions").list() {
        let (name, values) = (expression.at("/key").text(), expression.at("/values").list().map(Field::text));
        let values = values.collect::<Vec<_>>().join(",");
        terms.push(match expression.at("/operator").text() {
            "In" => format!("{name} in ({values})"),
            "NotIn" => format!("{name} notin ({values})"),
            "Exists" => name.to_owned(),
            "DoesNotExist" => format!("!{name}"),
            _ => return None,
        });
    }
    (!terms.is_empty()).then(|| terms.join(","))
}

/// The newest of a Deployment's ReplicaSets.
pub fn newest<'a>(deployment: &Object, sets: &'a [Object]) -> Option<&'a Object> {
    let revision =
        |set: &Object| set.annotation("deployment.kubernetes.io/revision").and_then(|text| text.parse().ok());
    let owned = sets.iter().filter(|set| is_controlled_by(set, deployment));
    owned.max_by_key(|set| (revision(set).unwrap_or(0_i64), set.created()))
}

fn is_controlled_by(object: &Object, owner: &Object) -> bool {
    let uid = owner.metadata.uid.as_deref();
    let mut owners = object.metadata.owner_references.iter().flatten();
    owners.any(|reference| reference.controller == Some(true) && uid == Some(reference.uid.as_str()))
}

/// The pod that says most about why its workload is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Culprit {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// What is wrong with it.
    pub health: Health,
    /// The container whose log may say why.
    pub log: Option<Log>,
}

/// One container's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The container.
    pub container: String,
    /// That of the run before, which ended.
    pub previous: bool,
}

/// Picks the pod of this workload, or of its newest ReplicaSet, that says most: one that has failed, then the one restarted most often.
pub fn culprit(owner: &Object, pods: &[Object], now: i64) -> Option<Culprit> {
    let ill =
        pods.iter().filter(|pod| is_controlled_by(pod, owner)).filter_map(|pod| Some((restarts(pod), ill(pod, now)?)));
    let first = ill.min_by_key(|(restarts, culprit)| {
        (culprit.health.status(now) != Status::Failed, Reverse(*restarts), culprit.name.clone())
    });
    first.map(|(_, culprit)| culprit)
}

/// What is wrong with a pod, unless it is well or being deleted.
pub fn ill(pod: &Object, now: i64) -> Option<Culprit> {
    let health = super::assess(&GroupKind::new("", "Pod"), pod);
    if matches!(health.status(now), Status::Current | Status::Terminating) {
        return None;
    }
    let [name, uid] = [&pod.metadata.name, &pod.metadata.uid].map(|text| text.clone().unwrap_or_default());
    Some(Culprit { name, uid, health, log: log(pod) })
}

fn restarts(pod: &Object) -> i64 {
    pod::containers(pod).map(|container| container.at("/restartCount").count()).sum()
}

/// The first container that has run and is not well. Before its first run it has no log.
fn log(pod: &Object) -> Option<Log> {
    pod::containers(pod).find_map(|container| {
        let state = container.at("/state");
        let ended = state.at("/terminated").exists();
        let previous = !ended && container.at("/lastState/terminated").exists();
        let failed = ended && state.at("/terminated/exitCode").count() != 0;
        let runs = state.at("/running").exists() && !container.at("/ready").is_true();
        let container = container.at("/name").text().to_owned();
        (failed || previous || runs).then_some(Log { container, previous })
    })
}

/// What was found out about one object.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// The pod.
    pub culprit: Option<Culprit>,
    /// The end of its log.
    pub log: String,
    /// Warning events of the pod, or of the object if it has no pods.
    pub events: Vec<Event>,
    /// What plumb has no right to read, in words.
    pub denied: Option<String>,
}

impl Evidence {
    /// In one line; `None` if nothing was found. Credentials are masked as far as they look like it; `redact` takes out those that are known.
    pub fn words(&self, redact: impl Fn(&str) -> String) -> Option<String> {
        let mut parts = Vec::new();
        if let Some(Culprit { name, health, .. }) = &self.culprit {
            parts.push(format!("Pod {name}: {}: {}", health.reason, health.message));
        }
        let lines = last_lines(&self.log);
        if !lines.is_empty() {
            parts.push(format!("its log ends: {}", lines.join(" | ")));
        }
        let known = parts.join(" ");
        parts.extend(newest_events(&self.events).filter(|text| !known.contains(text.as_str())));
        parts.extend(self.denied.clone());
        let text = parts.join("; ");
        (!text.is_empty()).then(|| scrub(&redact(&text)))
    }
}

fn last_lines(log: &str) -> Vec<String> {
    let lines: Vec<String> = log.lines().map(plain).filter(|line| !line.is_empty()).collect();
    let skipped = lines.len().saturating_sub(LINES);
    lines.into_iter().skip(skipped).map(|line| line.chars().take(LINE).collect()).collect()
}

/// Without colours and other control characters.
fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' && characters.next_if_eq(&'[').is_some() {
            while characters.next_if(|c| !c.is_ascii_alphabetic()).is_some() {}
            characters.next();
        } else if !character.is_control() {
            text.push(character);
        } else {
            text.push(' ');
        }
    }
    text.trim().to_owned()
}

/// The newest Warning event of each reason.
fn newest_events(events: &[Event]) -> impl Iterator<Item = String> {
    // BackOff repeats what the state of the container says.
    let tells =
        |event: &&Event| event.type_.as_deref() == Some("Warning") && event.reason.as_deref() != Some("BackOff");
    let mut warnings: Vec<&Event> = events.iter().filter(tells).collect();
    let last = |event: &&Event| {
        let series = event.series.as_ref().and_then(|series| Some(series.last_observed_time.as_ref()?.0));
        let single = event.event_time.as_ref().map(|time| time.0);
        let counted = event.last_timestamp.as_ref().map(|time| time.0);
        Reverse(series.or(counted).or(single))
    };
    warnings.sort_by_key(last);
    let mut told: Vec<&str> = Vec::new();
    warnings.retain(|event| {
        let reason = event.reason.as_deref().unwrap_or_default();
        let first = !told.contains(&reason);
        told.push(reason);
        first
    });
    warnings.into_iter().take(EVENTS).map(|event| {
        let (reason, message) =
            (event.reason.as_deref().unwrap_or_default(), event.message.as_deref().unwrap_or_default());
        let message: String = message.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(EVENT).collect();
        format!("{reason}: {message}")
    })
}

impl<'a> Field<'a> {
    fn entries(self) -> impl Iterator<Item = (&'a str, Field<'a>)> {
        let fields = self.value().and_then(Value::as_object).into_iter().flatten();
        fields.map(|(name, value)| (name.as_str(), Field::of(value)))
    }
}
