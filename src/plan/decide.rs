//! The decision itself: one step for each object that git asks for, then what is to be deleted.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::guards::Wait;
use super::place::{self, Brought, Place};
use super::standing::{Standing, is_ours, left_by};
use super::{Action, Claim, Input, Note, Plan, Planned, Precondition, Reason, Refusal, Step, order};
use crate::drift::fields::FieldSet;
use crate::model::{Live, Manifest, ObjectKey};

/// Decides what has to be done so that the cluster equals git.
///
/// Every desired object gets exactly one step, unless it is refused; a refused plan has none. Carried out and planned again, all is
/// [`Action::Keep`]. Where the environment is removed, nothing is desired, and all that may be deleted is.
pub fn plan(input: &Input<'_>) -> Planned {
    let mut draft = Draft::default();
    draft.remark(input);
    draft.refuse_empty(input);
    draft.refuse_taken_home(input);
    draft.write(input);
    draft.delete(input);
    draft.finish(input)
}

/// Decides what puts the desired objects back, and nothing else: each object passes or fails for itself, and nothing is deleted. For a part of a commit's
/// objects.
pub fn restore(input: &Input<'_>) -> Plan {
    let mut draft = Draft::default();
    draft.write(input);
    order::sort(&mut draft.steps);
    Plan { steps: draft.steps, refused: draft.refused, waits: Vec::new(), notes: draft.notes, images: Vec::new() }
}

#[derive(Default)]
pub(super) struct Draft {
    pub(super) steps: Vec<Step>,
    pub(super) refused: Vec<Refusal>,
    pub(super) notes: Vec<Note>,
    pub(super) waits: BTreeSet<Wait>,
    /// What would be deleted, as far as it is known: decided, or waiting for another environment.
    pub(super) deletions: Vec<ObjectKey>,
    /// Nothing may be begun at all, not even object by object.
    pub(super) barred: bool,
}

/// What becomes of one desired object.
enum Decision {
    Step(Action, Reason),
    Refused { reason: String, hint: String },
}

impl Draft {
    /// What the render has to say of the definition.
    fn remark(&mut self, input: &Input<'_>) {
        let key = || ObjectKey::new(crate::model::environment::GROUP, "Environment", "", input.environment);
        self.notes.extend(input.desired.remarks.iter().map(|text| Note::new(key(), text.clone())));
    }

    /// A render without an object would delete everything: it must be meant.
    fn refuse_empty(&mut self, input: &Input<'_>) {
        if input.desired.objects.is_empty() && !input.spec.allow.empty && input.removal.is_none() {
            self.refused.push(Refusal {
                key: ObjectKey::new(crate::model::environment::GROUP, "Environment", "", input.environment),
                origin: None,
                reason: format!("commit {} renders no object at all", input.desired.commit.short()),
                hint: "check spec.path, or set spec.allow.empty: true if that is meant".to_owned(),
            });
        }
    }

    /// No commit of an environment is taken that another one takes the namespace from, as none of the other's is. What it has there is restored.
    fn refuse_taken_home(&mut self, input: &Input<'_>) {
        let key = ObjectKey::new("", "Namespace", "", &input.spec.namespace);
        let asked = || input.desired.objects.iter().any(|manifest| manifest.key == key);
        // Without an object there is nothing to begin: what is left of it goes, and stays gone.
        if input.removal.is_some() || input.desired.objects.is_empty() || asked() {
            return;
        }
        let lives = input.members.values().any(|live| is_ours(live, input));
        let other = match (lives, input.peers.claim(&key)) {
            (true, _) if input.keeps => return,
            (true, _) => input.peers.contends(&key),
            (false, Claim::Environment(other)) => Some(other),
            (false, _) => None,
        };
        let Some(other) = other else { return };
        self.barred = true;
        self.refused.push(Refusal {
            key,
            origin: None,
            reason: format!(
                "it is environment {}'s own namespace, and environment {other} asks for it",
                input.environment
            ),
            hint: format!(
                "remove it from {other}: plumb makes an environment's own namespace; or give {} another",
                input.environment
            ),
        });
    }

    fn write(&mut self, input: &Input<'_>) {
        let brought = Brought::by(input.desired);
        let mut first: HashMap<&ObjectKey, &Arc<Manifest>> = HashMap::new();
        let mut needs: Vec<(usize, Vec<ObjectKey>)> = Vec::new();
        for manifest in &input.desired.objects {
            if let Some(other) = first.get(&manifest.key) {
                let reason = format!("it is defined twice: here and at {}", other.origin);
                self.refuse(manifest, reason, "remove or rename one of the two".to_owned());
                continue;
            }
            first.insert(&manifest.key, manifest);
            match place::of(manifest, &brought, input) {
                Place::Refused(refusal) => self.refused.push(refusal),
                Place::Hold(reason, why) => {
                    self.notes.extend(why.map(|text| Note::new(manifest.key.clone(), text)));
                    self.steps.push(step(manifest, Action::Hold, reason, None, false));
                }
                Place::There => self.decide(manifest, true, input),
                Place::Made(by) => {
                    needs.push((self.steps.len(), by));
                    self.decide(manifest, false, input);
                }
            }
        }
        self.hold_what_lacks(&needs);
        self.redo_what_changes(&brought);
    }

    fn decide(&mut self, manifest: &Arc<Manifest>, checkable: bool, input: &Input<'_>) {
        let standing = Standing::of(&manifest.key, input);
        let claim = input.peers.claim(&manifest.key);
        let let_go = standing.live().map(|live| left_by(live, &claim, input)).unwrap_or_default();
        match decision(manifest, &standing, claim, &let_go, input, &mut self.notes) {
            Decision::Step(action, reason) => {
                let mut step = step(manifest, action, reason, standing.live(), checkable);
                step.let_go = if step.action.writes() { let_go } else { Vec::new() };
                step.leaves = standing.live().map(|live| leaves(&step, live, input)).unwrap_or_default();
                self.steps.push(step);
            }
            Decision::Refused { reason, hint } => self.refuse(manifest, reason, hint),
        }
    }

    fn refuse(&mut self, manifest: &Manifest, reason: String, hint: String) {
        let origin = Some(manifest.origin.clone());
        self.refused.push(Refusal { key: manifest.key.clone(), origin, reason, hint });
    }

    /// Where an object of the commit that others need is refused, they are held back.
    fn hold_what_lacks(&mut self, needs: &[(usize, Vec<ObjectKey>)]) {
        for (index, by) in needs {
            let lacks = by.iter().any(|needed| self.refused.iter().any(|refusal| refusal.key == *needed));
            if let Some(step) = self.steps.get_mut(*index)
                && lacks
                && step.action.writes()
            {
                (step.action, step.reason) = (Action::Hold, Reason::KindNotServed);
            }
        }
    }

    /// An object whose definition changes in the same commit can't be checked against the definition that stands, and is applied anew under the one that
    /// comes: a list may have become one of single elements, of which its entry does not know.
    fn redo_what_changes(&mut self, brought: &Brought) {
        let changing = |step: &&Step| place::is_crd(&step.key.kind) && step.action.writes();
        let changing: HashSet<ObjectKey> = self.steps.iter().filter(changing).map(|step| step.key.clone()).collect();
        for step in &mut self.steps {
            if brought.crd_of(&step.key.kind).is_some_and(|crd| changing.contains(crd)) {
                (step.checkable, step.redefined) = (false, true);
                // What somebody changed and `selfHeal: false` leaves is not taken back by the way.
                if step.action == Action::Keep && step.reason != Reason::Drifted {
                    (step.action, step.reason) = (Action::Update, Reason::Redefined);
                }
            }
        }
    }
}

fn step(manifest: &Arc<Manifest>, action: Action, reason: Reason, live: Option<&Live>, checkable: bool) -> Step {
    let migrate = action.writes() && live.is_some_and(|live| live.client_side_applied);
    let precondition = live.filter(|_| action != Action::Hold).map(precondition);
    let (key, manifest) = (manifest.key.clone(), Some(Arc::clone(manifest)));
    let (redefined, let_go, leaves, takes) = (false, Vec::new(), FieldSet::default(), Vec::new());
    Step { key, action, reason, manifest, precondition, checkable, redefined, migrate, let_go, leaves, takes }
}

/// The fields left to others that a write would drop: ours, and those of the environments that let the object go.
fn leaves(step: &Step, live: &Live, input: &Input<'_>) -> FieldSet {
    let paths = step.manifest.as_ref().map_or(&[][..], |manifest| manifest.left_alone());
    if paths.is_empty() || !step.action.writes() {
        return FieldSet::default();
    }
    let dropping = |manager: &str| {
        manager == input.manager
            || input.peers.environment_of_manager(manager).is_some_and(|environment| step.let_go.contains(&environment))
    };
    let entries = live.applied.iter().filter(|entry| dropping(&entry.manager));
    let sets = entries.filter_map(|entry| FieldSet::parse(&entry.fields).ok());
    sets.fold(FieldSet::default(), |all, set| all.union(&set.inside(paths)))
}

pub(super) fn precondition(live: &Live) -> Precondition {
    Precondition { uid: live.uid.clone(), resource_version: live.resource_version }
}

fn decision(
    manifest: &Manifest,
    standing: &Standing<'_>,
    claim: Claim,
    let_go: &[Arc<str>],
    input: &Input<'_>,
    notes: &mut Vec<Note>,
) -> Decision {
    let kept = keeps(manifest, standing, input);
    let claim = match standing {
        _ if kept => Claim::Nobody,
        Standing::Ours(_) => input.peers.contends(&manifest.key).map_or(Claim::Nobody, Claim::Environment),
        _ => claim,
    };
    let decided = kept || matches!(standing, Standing::Terminating(_)) || matches!(claim, Claim::Environment(_));
    if let (Some(other), false) = (home_of(manifest, input), decided) {
        return Decision::Refused {
            reason: format!(
                "environments {} and {other} both claim this namespace: it is {other}'s own",
                input.environment
            ),
            hint: format!("remove it here: plumb makes {other}'s namespace, or {other}'s manifests have it"),
        };
    }
    match (standing, claim) {
        (Standing::Terminating(_), _) if (input.has_run)(manifest) => Decision::Step(Action::Keep, Reason::Ran),
        (Standing::Terminating(_), _) => Decision::Step(Action::Hold, Reason::Terminating),
        (Standing::Ours(live), Claim::Unknown(_) | Claim::Nobody) => match let_go.first() {
            // A take-over that was cut short.
            Some(from) => Decision::Step(Action::TakeOver { from: Arc::clone(from) }, Reason::Moved),
            None => ours(manifest, live, input),
        },
        (Standing::Ours(_), Claim::Environment(other)) => Decision::Refused {
            reason: format!("it is in environment {}, and {other}'s head asks for it too", input.environment),
            hint: "remove it from one of the two; what was deployed of it before is still put back".to_owned(),
        },
        (Standing::Peer(_, owner), Claim::Environment(other)) if *owner == other => Decision::Refused {
            reason: format!("it belongs to environment {owner}, whose head asks for it too"),
            hint: format!(
                "remove it from {owner} or from {}: the other then has it without interruption",
                input.environment
            ),
        },
        (_, Claim::Environment(other)) => Decision::Refused {
            reason: format!("the heads of environments {} and {other} both ask for it", input.environment),
            hint: "remove it from one of the two".to_owned(),
        },
        (Standing::Peer(_, owner), _) if !input.peers.has_rendered(owner) => {
            Decision::Step(Action::Hold, Reason::OwnerNotRendered(Arc::clone(owner)))
        }
        (Standing::Peer(_, owner), _) => Decision::Step(Action::TakeOver { from: Arc::clone(owner) }, Reason::Moved),
        (Standing::Absent | Standing::Lost(_) | Standing::Free(_), _) if left_alone(manifest, input) => {
            Decision::Step(Action::Keep, Reason::Drifted)
        }
        (Standing::Absent, _) if (input.has_run)(manifest) => Decision::Step(Action::Keep, Reason::Ran),
        (Standing::Absent, _) => Decision::Step(Action::Create, Reason::Absent),
        (Standing::Lost(_), _) => Decision::Step(Action::Update, Reason::Drifted),
        (Standing::Free(_), _) => Decision::Step(Action::Adopt, Reason::NotOurs),
        (Standing::Foreign(_, owner), _) if input.spec.adopt => {
            let text = format!("is taken over from {owner}, since this environment's definition says adopt: true");
            notes.push(Note::new(manifest.key.clone(), text));
            Decision::Step(Action::Adopt, Reason::NotOurs)
        }
        (Standing::Foreign(_, owner), _) => Decision::Refused {
            reason: format!("it stands already and belongs to {owner}"),
            hint: format!(
                "remove it there or here, or set adopt: true in the definition of {} to take it over",
                input.environment
            ),
        },
    }
}

/// The other environment whose own namespace this is.
fn home_of(manifest: &Manifest, input: &Input<'_>) -> Option<Arc<str>> {
    let key = &manifest.key;
    if key.kind.is("", "Namespace") { input.peers.home_of(&key.name) } else { None }
}

/// Whether this is the environment's own whoever else asks for it: it has it, or had it until somebody took it away.
fn keeps(manifest: &Manifest, standing: &Standing<'_>, input: &Input<'_>) -> bool {
    let changed = || (input.baseline)(&manifest.key).is_some_and(|baseline| baseline.digest != manifest.digest);
    // A commit that passed its gates may say something else under another definition.
    if !input.keeps || !input.object_by_object && changed() {
        return false;
    }
    match standing {
        Standing::Ours(_) => true,
        Standing::Absent | Standing::Lost(_) => input.peers.own_head_asks(&manifest.key) && (input.had)(manifest),
        _ => false,
    }
}

/// An object of ours costs a request only if what we sent or what became of it is no longer what it was.
fn ours(manifest: &Manifest, live: &Live, input: &Input<'_>) -> Decision {
    let (action, reason) = match ((input.baseline)(&manifest.key), live.entry(input.manager)) {
        (None, _) if left_alone(manifest, input) => (Action::Keep, Reason::Drifted),
        (None, _) => (Action::Update, Reason::NotVerified),
        (Some(baseline), _) if baseline.digest != manifest.digest => (Action::Update, Reason::Changed),
        (Some(baseline), Some(entry)) if baseline.uid == live.uid && baseline.matches(entry) => {
            (Action::Keep, Reason::Unchanged)
        }
        _ if left_alone(manifest, input) => (Action::Keep, Reason::Drifted),
        _ => (Action::Update, Reason::Drifted),
    };
    Decision::Step(action, reason)
}

/// Whether the object stays as it is although it drifted: git has not changed it, and the definition says `selfHeal: false`.
fn left_alone(manifest: &Manifest, input: &Input<'_>) -> bool {
    let deployed = (input.baseline)(&manifest.key).map(|baseline| &baseline.digest);
    !input.spec.self_heal && deployed.or_else(|| input.left?.get(&manifest.key)) == Some(&manifest.digest)
}
