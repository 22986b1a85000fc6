//! Reads of the audit log what the figures are about.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};

use crate::harness::{Audit, AuditEvent};

/// The member objects of the benchmark's environments are all of this kind.
pub const MEMBERS: &str = "configmaps";

/// The writes on member objects: from when to when, and how many.
#[derive(Debug, Clone, Copy)]
pub struct Writes {
    pub count: usize,
    pub first: DateTime<Utc>,
    pub last: DateTime<Utc>,
}

impl Writes {
    /// Panics unless there are `expected`, all of them successful.
    pub fn of(audit: &Audit, expected: usize) -> Self {
        let writes = audit.of(MEMBERS).writes();
        let bad = writes.only(|event| !(200..300).contains(&event.code()));
        assert!(bad.is_empty(), "refused: {:?}", bad.0.first());
        assert_eq!(writes.len(), expected, "writes on {MEMBERS}");
        let first = writes.0.iter().map(|event| event.request_received_timestamp).min().expect("there are writes");
        let last = writes.0.iter().map(|event| event.stage_timestamp).max().expect("there are writes");
        Self { count: expected, first, last }
    }

    /// Writes a second, from the first request's arrival to the last one's answer.
    #[allow(clippy::cast_precision_loss)]
    pub fn rate(&self) -> f64 {
        self.count as f64 / seconds(self.first, self.last)
    }
}

/// The seconds between two moments.
pub fn seconds(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    (to - from).to_std().expect("time goes forward").as_secs_f64()
}

/// What was requested beside the members: for people, and for the promise of at most one status patch and one Event a deployment.
#[derive(Debug)]
pub struct Beside {
    pub status_patches: usize,
    pub events: usize,
    pub parent_patches: usize,
    others: BTreeMap<String, usize>,
}

impl Beside {
    pub fn of(audit: &Audit) -> Self {
        let mut beside = Self { status_patches: 0, events: 0, parent_patches: 0, others: BTreeMap::new() };
        for event in &audit.0 {
            let object = &event.object_ref;
            match (&*object.resource, &*object.subresource) {
                (MEMBERS, "") if event.is_write() => {}
                ("environments", "status") => beside.status_patches += 1,
                ("environments", "") if event.is_write() => beside.parent_patches += 1,
                ("events", _) => beside.events += 1,
                _ => *beside.others.entry(words(event)).or_default() += 1,
            }
        }
        beside
    }
}

fn words(event: &AuditEvent) -> String {
    match &*event.object_ref.resource {
        "" => format!("{} {}", event.verb, event.request_uri.split('?').next().unwrap_or_default()),
        resource => format!("{} {resource}", event.verb),
    }
}

impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status_patches, events, parent_patches, others } = self;
        write!(f, "{status_patches} status patches, {events} Events, {parent_patches} parent patches")?;
        others.iter().try_for_each(|(what, count)| write!(f, ", {count} × {what}"))
    }
}
