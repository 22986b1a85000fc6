//! What people are told of a commit that passes its gates although something about it is odd: the notes of its plan.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use tracing::warn;

use super::{health, status};
use crate::model::CommitId;
use crate::model::environment::{EnvironmentStatus, GROUP};
use crate::plan::{Action, Note, Plan};

/// So many are told in a line each; the others are counted.
const SINGLY: usize = 20;
/// Between what a condition says of the commit and what it says of other environments.
const BESIDE: &str = "; but ";

/// The notes of the commit that passed its gates last.
#[derive(Debug, Default)]
pub struct Notes {
    told: Vec<Note>,
    /// `None`: none has passed yet.
    clashes: Option<Vec<String>>,
}

impl Notes {
    /// A commit passed its gates with this plan. What is to be told of it now: what the one before it did not have. What is held back is told as a failure.
    pub fn passed(&mut self, plan: &Plan) -> Vec<Note> {
        let held = |note: &Note| plan.steps.iter().any(|step| step.action == Action::Hold && step.key == note.key);
        let notes: Vec<Note> = plan.notes.iter().filter(|note| !held(note)).cloned().collect();
        let news = notes.iter().filter(|note| !self.told.contains(note)).cloned().collect();
        let clashes = notes.iter().filter(|note| note.clash);
        self.clashes = Some(clashes.map(|note| format!("{}: {}", note.key, note.text)).collect());
        self.told = notes;
        news
    }

    /// The status, whose condition `Synced` names the other environments that claim what this one has. Without any the condition is as it was before.
    pub fn beside(&self, last: &EnvironmentStatus, now: DateTime<Utc>) -> EnvironmentStatus {
        let mut status = last.clone();
        let synced =
            status.conditions.iter().find(|condition| condition.type_ == "Synced" && condition.status == "True");
        let (Some(synced), Some(clashes)) = (synced.cloned(), &self.clashes) else { return status };
        let commit = synced.message.split(BESIDE).next().unwrap_or_default();
        let beside = if clashes.is_empty() { String::new() } else { format!("{BESIDE}{}", clashes.join("; ")) };
        let message = status::cut(&format!("{commit}{beside}"));
        if message != synced.message {
            let generation = synced.observed_generation;
            status::set(&mut status.conditions, "Synced", "True", &synced.reason, &message, generation, now);
            health::set_ready(&mut status.conditions, generation, now);
        }
        status
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
    use crate::plan::tests::world::{World, config_map, manifest, owned_by};

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
        let a = config_map("a");
        let alone = World::new([manifest(&a, 1)]).with(&a, owned_by("dev", "1"));
        let disputed = World::new([manifest(&a, 1)]).with(&a, owned_by("dev", "1"));
        let disputed = disputed.with_peer("qa", Some(std::slice::from_ref(&a)));
        let deployed =
            status::next(&EnvironmentStatus::default(), &ended(1, Outcome::Deployed), None, None, Some(1), at(1));
        let mut notes = Notes::default();
        assert_eq!(notes.beside(&deployed, at(2)), deployed, "nothing is known yet");
        assert_eq!(notes.passed(&disputed.ready()).len(), 1);
        let names = notes.beside(&deployed, at(2));
        for condition in &names.conditions {
            assert_eq!((&*condition.status, &*condition.reason), ("True", "Deployed"));
            assert!(condition.message.contains("ConfigMap/todo/a: environment qa asks for it too"), "{condition:?}");
            assert_eq!(condition.last_transition_time, status::stamp(at(1)));
        }
        assert_eq!(notes.beside(&names, at(3)), names, "the same costs no request");
        assert!(notes.passed(&alone.ready()).is_empty());
        assert_eq!(notes.beside(&names, at(4)), deployed, "nobody else does any more");
        let suspended = status::next(&names, &ended(1, Outcome::Suspended), None, None, Some(1), at(5));
        assert_eq!(notes.beside(&suspended, at(6)), suspended);
    }
}
