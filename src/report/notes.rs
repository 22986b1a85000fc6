//! What people are told of a commit that passes its gates although something about it is odd: the notes of its plan.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use tracing::warn;

use super::{health, status};
use crate::model::CommitId;
use crate::model::environment::{Condition, EnvironmentStatus, GROUP};
use crate::plan::{Action, Clash, Note, Plan};

/// So many are told in a line each; the others are counted.
const SINGLY: usize = 20;
/// Between what a condition says of the commit and what it says of other environments.
const BESIDE: &str = "; but ";

/// The notes of the commit that passed its gates last, and who else claims what it has.
#[derive(Debug, Default)]
pub struct Notes {
    told: Vec<Note>,
    /// `None`: that is not known yet.
    clashes: Option<Vec<Note>>,
}

impl Notes {
    /// A commit passed its gates with this plan. What is to be told of it now: what the one before it did not have. What is held back is told as a failure.
    pub fn passed(&mut self, plan: &Plan) -> Vec<Note> {
        let held = |note: &Note| plan.steps.iter().any(|step| step.action == Action::Hold && step.key == note.key);
        let notes: Vec<Note> = plan.notes.iter().filter(|note| !held(note)).cloned().collect();
        let news = notes.iter().filter(|note| !self.told.contains(note)).cloned().collect();
        self.told = notes;
        news
    }

    /// What is claimed by others too, of what this environment has. What is to be told of it now: what was not so before.
    pub fn claimed(&mut self, environment: &str, clashes: Vec<Clash>) -> Vec<Note> {
        let clashes = clashes.into_iter().map(|clash| Note { text: clash.words(environment), key: clash.object });
        let (clashes, told) = (clashes.collect::<Vec<Note>>(), self.clashes.take().unwrap_or_default());
        let news = clashes.iter().filter(|note| !told.contains(note)).cloned().collect();
        self.clashes = Some(clashes);
        news
    }

    /// The status, if its condition `Synced` is to name other environments that claim what this one has than it does. Without any the condition is as it was
    /// before.
    pub fn beside(&self, last: &EnvironmentStatus, now: DateTime<Utc>) -> Option<EnvironmentStatus> {
        let is_synced = |condition: &&Condition| condition.type_ == "Synced" && condition.status == "True";
        let (synced, clashes) = (last.conditions.iter().find(is_synced)?, self.clashes.as_ref()?);
        let mut message = synced.message.split(BESIDE).next().unwrap_or_default().to_owned();
        for (index, note) in clashes.iter().take(SINGLY).enumerate() {
            let _ = write!(message, "{}{}: {}", if index == 0 { BESIDE } else { "; " }, note.key, note.text); // A String takes everything.
        }
        if let Some(more) = clashes.len().checked_sub(SINGLY).filter(|more| *more > 0) {
            let _ = write!(message, "; and {more} more");
        }
        let message = status::cut(&message);
        if message == synced.message {
            return None;
        }
        let (reason, generation) = (synced.reason.clone(), synced.observed_generation);
        let mut status = last.clone();
        status::set(&mut status.conditions, "Synced", "True", &reason, &message, generation, now);
        health::set_ready(&mut status.conditions, generation, now);
        Some(status)
    }
}

/// Tells notes of a commit, in a line each.
pub fn log(environment: &str, commit: CommitId, notes: &[Note]) {
    let commit = commit.short();
    for note in notes.iter().take(SINGLY) {
        let mut text = String::new();
        if &*note.key.kind.group != GROUP {
            let _ = write!(text, "{}: ", note.key); // A String takes everything.
        }
        warn!(%environment, %commit, "note: {text}{}", note.text);
    }
    if let Some(more) = notes.len().checked_sub(SINGLY).filter(|more| *more > 0) {
        warn!(%environment, %commit, more, "more notes: plumb plan shows them");
    }
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::{at, ended};
    use super::*;
    use crate::model::Outcome;
    use crate::plan::tests::world::config_map;

    fn note(name: &str) -> Note {
        Note::new(config_map(name), "is odd".to_owned())
    }

    fn told(notes: &mut Notes, plan: &Plan) -> Vec<String> {
        notes.passed(plan).iter().map(|note| note.key.name.to_string()).collect()
    }

    #[test]
    fn a_note_is_told_once_as_long_as_it_holds() {
        let plan = |names: &[&str]| Plan { notes: names.iter().map(|name| note(name)).collect(), ..Plan::default() };
        let mut notes = Notes::default();
        assert_eq!(told(&mut notes, &plan(&["a", "b"])), ["a", "b"]);
        assert!(told(&mut notes, &plan(&["a", "b"])).is_empty(), "a resync, a retry");
        assert_eq!(told(&mut notes, &plan(&["a", "c"])), ["c"]);
        assert!(told(&mut notes, &plan(&["a"])).is_empty());
        assert_eq!(told(&mut notes, &plan(&["a", "b"])), ["b"], "it came again");
    }

    #[test]
    fn synced_names_who_else_claims_something_as_long_as_somebody_does() {
        let (one, other) = ("dev".to_owned(), "qa".to_owned());
        let disputed = vec![Clash { one, other, object: config_map("a"), home: false }];
        let deployed =
            status::next(&EnvironmentStatus::default(), &ended(1, Outcome::Deployed), None, None, Some(1), at(1));
        let mut notes = Notes::default();
        assert_eq!(notes.beside(&deployed, at(2)), None, "nothing is known yet");
        assert_eq!(notes.claimed("dev", disputed.clone()).len(), 1);
        assert!(notes.claimed("dev", disputed).is_empty(), "it is told once");
        let names = notes.beside(&deployed, at(2)).unwrap();
        for condition in &names.conditions {
            assert_eq!((&*condition.status, &*condition.reason), ("True", "Deployed"));
            assert!(condition.message.contains("ConfigMap/todo/a: environment qa asks for it too"), "{condition:?}");
            assert_eq!(condition.last_transition_time, status::stamp(at(1)));
        }
        assert_eq!(notes.beside(&names, at(3)), None, "the same costs no request");
        assert!(notes.claimed("dev", Vec::new()).is_empty());
        assert_eq!(notes.beside(&names, at(4)), Some(deployed), "nobody else does any more");
        let suspended = status::next(&names, &ended(1, Outcome::Suspended), None, None, Some(1), at(5));
        assert_eq!(notes.beside(&suspended, at(6)), None);
    }
}
