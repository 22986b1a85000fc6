//! How an environment stands: what its objects say, taken together.

use super::traffic::is_ingress_without_address;
use crate::model::health::Status;
use crate::model::{Live, ObjectKey};

/// How many objects are named; the others are counted.
const NAMED: usize = 3;

/// An object that git asks for and that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unready {
    /// The object.
    pub key: ObjectKey,
    /// It has failed; otherwise somebody is at work on it.
    pub failed: bool,
    /// A CamelCase word.
    pub reason: Box<str>,
    /// A sentence.
    pub message: Box<str>,
}

/// The objects of an environment at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many git asks for.
    pub objects: usize,
    /// How many of them are not as they should be.
    pub unready: usize,
    /// The first of those: what has failed, and then what is in progress, in the order of the files.
    pub named: Vec<Unready>,
    /// When the passing of time alone may change this, in seconds since the epoch.
    pub turns_at: Option<i64>,
}

impl Summary {
    /// Takes the objects that git asks for, in the order of the files, with what stands of them. An Ingress needs an address only where that is waited for.
    pub fn of<'a>(
        objects: impl IntoIterator<Item = (&'a ObjectKey, Option<&'a Live>)>,
        wait_for_ingress: bool,
        now: i64,
    ) -> Self {
        let (mut summary, mut failed, mut waiting) = (Self::default(), Vec::new(), Vec::new());
        for (key, live) in objects {
            summary.objects += 1;
            let turns_at = live.and_then(|live| live.health.as_ref()?.turns_at(now));
            summary.turns_at = summary.turns_at.into_iter().chain(turns_at).min();
            let Some(unready) = unready(key, live, wait_for_ingress, now) else { continue };
            summary.unready += 1;
            let of_its_kind = if unready.failed { &mut failed } else { &mut waiting };
            if of_its_kind.len() < NAMED {
                of_its_kind.push(unready);
            }
        }
        failed.extend(waiting);
        failed.truncate(NAMED);
        summary.named = failed;
        summary
    }

    /// The same with what the objects say cleaned: a controller may repeat a credential, a pod its container's last words.
    pub fn cleaned(mut self, clean: impl Fn(&str) -> String) -> Self {
        self.named.iter_mut().for_each(|unready| unready.message = clean(&unready.message).into());
        self
    }

    /// All is as it should be.
    pub fn is_current(&self) -> bool {
        self.unready == 0
    }

    /// Something will not get better by itself.
    pub fn has_failed(&self) -> bool {
        self.named.iter().any(|unready| unready.failed)
    }

    /// In words: how many are ready, what those say that are not, and what was found out about them.
    pub fn words(&self, findings: &[Finding]) -> String {
        let ready = self.objects - self.unready;
        if self.is_current() {
            return format!("all {ready} objects are ready");
        }
        let mut text = format!("{ready} of {} objects are ready", self.objects);
        for Unready { key, message, .. } in &self.named {
            text.push_str(&format!("; {key}: {message}"));
            for (_, found) in findings.iter().filter(|(of, _)| of == key) {
                text.push_str(&format!(": {found}"));
            }
        }
        match self.unready - self.named.len() {
            0 => {}
            more => text.push_str(&format!("; and {more} more")),
        }
        text
    }
}

/// What was found out about an object, in words.
pub type Finding = (ObjectKey, String);

/// How an environment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All objects are as they should be.
    Healthy,
    /// Some are not yet, and a commit is being rolled out.
    RollingOut,
    /// Some are not, after they all were.
    Progressing,
    /// Some have failed.
    Failed,
    /// Some have not got there in time.
    TimedOut,
}

/// How an environment stands, as people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// In one word.
    pub verdict: Verdict,
    /// Which objects, and why.
    pub message: String,
}

fn unready(key: &ObjectKey, live: Option<&Live>, wait_for_ingress: bool, now: i64) -> Option<Unready> {
    let says = |failed, reason: &str, message: &str| {
        Some(Unready { key: key.clone(), failed, reason: reason.into(), message: message.into() })
    };
    let Some(live) = live else { return says(false, "Missing", "it does not stand") };
    // Of most kinds nothing else is seen.
    if live.terminating {
        return says(false, "Terminating", "it is being deleted");
    }
    let health = live.health.as_ref()?;
    match health.status(now) {
        Status::Current => None,
        _ if !wait_for_ingress && is_ingress_without_address(&key.kind, health) => None,
        Status::Failed => says(true, &health.reason, &health.message),
        Status::InProgress | Status::Terminating => says(false, &health.reason, &health.message),
    }
}
