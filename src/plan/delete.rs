//! The other half of the decision: what becomes of the live objects that git does not ask for, and whether a person must be asked first.

use std::collections::HashSet;

use super::decide::{Draft, precondition};
use super::guards::{self, Candidate, Scene, Spare, Verdict, Wait, ask_kinds, budget, still_needed};
use super::standing::is_ours;
use super::{Action, Ask, Input, Note, Planned, Reason, Step, order};
use crate::drift::fields::FieldSet;
use crate::model::environment::CONFIRM_PRUNE;
use crate::model::images::Image;
use crate::model::{Live, ObjectKey};
use crate::plan::Plan;

/// One candidate, and what its rules say.
type Judged<'a> = (&'a ObjectKey, &'a Live, Verdict);

impl Draft {
    pub(super) fn delete(&mut self, input: &Input<'_>) {
        let desired: HashSet<&ObjectKey> = input.desired.objects.iter().map(|manifest| &manifest.key).collect();
        let live = |key: &&ObjectKey| input.members.get(*key).or_else(|| input.strangers.get(*key));
        let desired_uids: HashSet<&str> = desired.iter().filter_map(live).map(|live| &*live.uid).collect();
        let held = self.steps.iter().find(|step| step.action == Action::Hold).map(|step| step.key.clone());
        let not_applied = held.or_else(|| self.refused.first().map(|refusal| refusal.key.clone()));
        let scene = Scene { input, desired: &desired, desired_uids: &desired_uids, not_applied: not_applied.as_ref() };
        let mut members: Vec<_> = input.members.iter().filter(|(key, _)| !desired.contains(key)).collect();
        members.sort_by_key(|(key, _)| *key);
        let judged =
            members.into_iter().map(|(key, live)| (key, live, guards::judge(&Candidate { key, live }, &scene)));
        let mut judged: Vec<Judged<'_>> = judged.collect();
        spare_what_holds(&mut judged, input);
        for (key, live, verdict) in judged {
            match verdict {
                Verdict::Pass => {
                    self.deletions.push(key.clone());
                    self.steps.push(deletion(key, Action::Prune, Reason::LeftGit, live));
                }
                Verdict::HandOver(to) => {
                    self.steps.push(deletion(key, Action::HandOver { to }, Reason::Moved, live));
                }
                Verdict::Wait(wait) => {
                    self.deletions.push(key.clone());
                    self.waits.insert(wait);
                }
                Verdict::Spare(spare) => {
                    self.notes.extend(spare.note().map(|text| Note::new(key.clone(), text)));
                }
            }
        }
        if input.removal.is_some() {
            self.postpone();
        }
    }

    /// An environment that goes may be renamed: as long as somebody may still ask for one of its objects, all of them stay.
    fn postpone(&mut self) {
        if self.waits.iter().any(|wait| matches!(wait, Wait::PeerNotRendered(_))) {
            self.steps.retain(|step| step.action != Action::Prune);
            self.deletions.clear();
        }
    }

    /// Why a person must be asked first; empty when not.
    fn questions(&self, input: &Input<'_>) -> Vec<String> {
        if input.confirmed_prune == Some(input.desired.commit) || !input.inventory_complete {
            return Vec::new();
        }
        // What is going already is no part of what the commit would delete, nor of what there is.
        let stays = |live: &&Live| is_ours(live, input) && !live.terminating;
        let total = input.members.values().filter(stays).count();
        let over_budget = budget::ask(self.deletions.len(), total, input.spec.prune.budget);
        let doubts = input.removal.filter(|_| !self.deletions.is_empty()).unwrap_or_default();
        over_budget.into_iter().chain(ask_kinds::ask(&self.deletions)).chain(doubts.iter().cloned()).collect()
    }

    pub(super) fn finish(mut self, input: &Input<'_>) -> Planned {
        if !self.refused.is_empty() && (self.barred || !input.object_by_object) {
            return Planned::Refused(self.refused);
        }
        let reasons = self.questions(input);
        if !reasons.is_empty() && input.object_by_object {
            self.steps.retain(|step| step.action != Action::Prune);
            self.waits.insert(Wait::Unconfirmed(reasons.join("; ")));
        }
        order::sort(&mut self.steps);
        let waits = self.waits.into_iter().collect();
        let images = input.desired.images.iter().map(Image::reference).collect();
        let plan = Plan { steps: self.steps, refused: self.refused, waits, notes: self.notes, images };
        if reasons.is_empty() || input.object_by_object {
            return Planned::Ready(plan);
        }
        let commit = input.desired.commit;
        let hint = format!(
            "if that is meant: plumb approve {0}, or kubectl annotate environment {0} --overwrite {CONFIRM_PRUNE}={commit}",
            input.environment
        );
        Planned::AskFirst(Ask { reasons, hint, proposed: plan })
    }
}

/// Deleting a namespace or a CRD would take along what is to stay.
fn spare_what_holds(judged: &mut [Judged<'_>], input: &Input<'_>) {
    let stays =
        |(_, live, verdict): &&Judged<'_>| *verdict != Verdict::Pass && is_ours(live, input) && !live.terminating;
    let staying: Vec<&ObjectKey> = judged.iter().filter(stays).map(|(key, ..)| *key).collect();
    for (key, _, verdict) in judged.iter_mut().filter(|(.., verdict)| *verdict == Verdict::Pass) {
        if let Some(object) = staying.iter().find(|object| still_needed::needs(object, key, input.kinds)) {
            *verdict = Verdict::Spare(Spare::StillNeeded((*object).clone()));
        }
    }
}

fn deletion(key: &ObjectKey, action: Action, reason: Reason, live: &Live) -> Step {
    let precondition = Some(precondition(live));
    Step {
        key: key.clone(),
        action,
        reason,
        manifest: None,
        precondition,
        checkable: true,
        redefined: false,
        migrate: false,
        let_go: Vec::new(),
        leaves: FieldSet::default(),
        takes: Vec::new(),
    }
}
