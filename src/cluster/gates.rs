//! The last gate before the first write of a new commit: the API server's dry-run of all that changed.
//!
//! One refusal and nothing is applied. An immutable field may turn an update into a replacement, if the policy allows; a field that leaves git while somebody
//! else co-owns it is found here, since the answer to the dry-run names the owners.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use tracing::warn;

use super::apply::{Metadata, Writer};
use super::error::ClusterError;
use super::heal::causes;
use super::inventory::Inventory;
use super::{failure, limiter};
use crate::drift::fields::FieldSet;
use crate::drift::fingerprint::{Baseline, Class, Effect, Found, effect};
use crate::drift::ownership::{self, Share};
use crate::model::applyset::HANDOVER;
use crate::model::environment::ReplacePolicy;
use crate::model::kinds::{KindInfo, Kinds, Lookup};
use crate::model::live::ResourceVersion;
use crate::model::{Failure, GroupKind, Live, Manifest, ObjectKey, Stage};
use crate::plan::immutable::{self, Escalation};
use crate::plan::{Action, Plan, Reason, Step};

/// What the gate needs to know.
#[derive(Clone, Copy)]
pub struct Gate<'a> {
    /// Writes, here without effect.
    pub writer: Writer<'a>,
    /// Which kinds are served.
    pub kinds: &'a Kinds,
    /// What is ours, for the fields we owned so far.
    pub inventory: &'a Inventory,
    /// The environment's part-of label.
    pub part_of: &'a str,
    /// The fields that our last apply of an object left us, in this life of plumb.
    pub applied: &'a (dyn Fn(&ObjectKey) -> Option<Arc<str>> + Sync),
    /// What an earlier life applied, as long as this one has not applied anything.
    pub former: &'a Former,
    /// The environment's replace policy.
    pub replace: ReplacePolicy,
    /// Each object passes or fails alone, and what does not stand yet is not asked for: there is nothing to protect.
    pub object_by_object: bool,
}

/// A plan that the API server would take.
#[derive(Debug, Default)]
pub struct Gated {
    /// The plan, with updates of immutable fields turned into replacements.
    pub plan: Plan,
    /// The objects with fields that leave git and that others hold too, with all fields that leave.
    pub pinned: Pinned,
    /// Objects that nothing was remembered of and that turned out to be as they should be: what to remember.
    pub verified: Vec<(ObjectKey, Baseline)>,
    /// Objects that nothing was remembered of and that are not as they should be: what happened to them.
    pub differing: Vec<Found>,
    /// Objects that the API server refuses, each alone; the plan no longer has them.
    pub refused: Vec<Failure>,
    /// The newest version of each kind in which an object was met that the inventory has in an older one: its change is on the way.
    pub ahead: BTreeMap<GroupKind, ResourceVersion>,
}

impl Gated {
    /// The objects of which the API server could not say whether it would take them: nobody knows how they stand, and it may say so later.
    pub fn unanswered(&self) -> Vec<ObjectKey> {
        let passing = self.refused.iter().filter(|failure| failure.transient);
        passing.filter_map(|failure| failure.object.clone()).collect()
    }
}

/// Objects as an earlier commit has them.
pub type Former = HashMap<ObjectKey, Arc<Manifest>>;

/// Objects with the fields that leave git.
pub type Pinned = HashMap<ObjectKey, FieldSet>;

/// Of more objects than this it is not read which of their values differ: as many as are told one by one.
const NAMED: usize = 16;

/// The answer to the step at this place in the plan.
type Answered = (usize, Result<Answer, Failure>);

/// What the API server said of one step.
enum Answer {
    /// It would take it.
    Accepted,
    /// It would take it, and change these fields of ours; none are named where that is not known.
    Differs(FieldSet),
    /// It would take it, and change values of fields that are ours before and after: which, only the content can tell.
    Hidden(Baseline),
    /// It would take it, and nothing would change.
    Same(Baseline),
    /// It would take it; whether anything would change only the content can tell.
    Unclear(Baseline),
    /// It would take it, and others hold some of these fields that leave git: whose share is taken.
    Pinned(FieldSet, Vec<Share>),
    /// It would take it as a replacement.
    Replace(Box<Step>),
}

impl Gate<'_> {
    /// Dry-runs the plan's changes. The plan comes back with its replacements and what is taken from others, or else the refusals, in the order of the plan.
    pub async fn pass(&self, mut plan: Plan) -> Result<Gated, Vec<Failure>> {
        let asked = plan.steps.iter().enumerate().filter(|(_, step)| self.asks(step));
        let (mut asked, mut asking, mut answers) = (asked, FuturesUnordered::new(), Vec::new());
        let mut ahead: BTreeMap<GroupKind, ResourceVersion> = BTreeMap::new();
        loop {
            while asking.len() < limiter::MOST
                && let Some((index, step)) = asked.next()
            {
                asking.push(self.ask(index, step));
            }
            match asking.next().await {
                Some((index, answer, version)) => {
                    answers.push((index, answer));
                    if let (Some(version), Some(step)) = (version, plan.steps.get(index)) {
                        ahead
                            .entry(step.key.kind.clone())
                            .and_modify(|known| *known = version.max(*known))
                            .or_insert(version);
                    }
                }
                None => break,
            }
        }
        drop((asked, asking));
        let answers = self.named(&plan, answers).await;
        let (mut refused, mut pinned, mut verified) = (Vec::new(), Pinned::new(), Vec::new());
        let mut differing = Vec::new();
        for (index, answer) in answers {
            let Some(step) = plan.steps.get_mut(index) else { continue };
            match answer {
                Ok(Answer::Accepted | Answer::Unclear(_) | Answer::Hidden(_)) => {}
                Ok(Answer::Differs(paths)) => {
                    step.reason = Reason::Differs;
                    differing.push(Found::differing(step.key.clone(), paths));
                }
                Ok(Answer::Same(baseline)) => {
                    (step.action, step.reason) = (Action::Keep, Reason::Unchanged);
                    verified.push((step.key.clone(), baseline));
                }
                Ok(Answer::Pinned(lost, taken)) => {
                    // What plumb keeps on others' behalf is nobody's.
                    step.takes = taken.into_iter().filter(|share| share.manager != HANDOVER).collect();
                    if step.reason == Reason::NotVerified {
                        step.reason = Reason::Differs;
                        differing.push(Found {
                            key: step.key.clone(),
                            class: Class::ValueChanged,
                            paths: lost.clone(),
                        });
                    }
                    pinned.insert(step.key.clone(), lost);
                }
                Ok(Answer::Replace(replacement)) => *step = *replacement,
                Err(failure) => refused.push((index, failure)),
            }
        }
        refused.sort_by_key(|(index, _)| *index);
        if self.object_by_object {
            // From the end, so that the indices of the others stay true.
            refused.iter().rev().for_each(|(index, _)| _ = plan.steps.remove(*index));
        }
        let refused: Vec<Failure> = refused.into_iter().map(|(_, failure)| failure).collect();
        match self.object_by_object || refused.is_empty() {
            true => Ok(Gated { plan, pinned, verified, differing, refused, ahead }),
            false => Err(refused),
        }
    }

    fn asks(&self, step: &Step) -> bool {
        // Of what drifted no field leaves git, and its content was accepted before.
        let restores = step.action == Action::Update && step.reason != Reason::Drifted;
        step.checkable && step.action.writes() && (restores || !self.object_by_object)
    }

    async fn ask(&self, index: usize, step: &Step) -> (usize, Result<Answer, Failure>, Option<ResourceVersion>) {
        let mut ahead = None;
        (index, self.answer(step, &mut ahead).await, ahead)
    }

    async fn answer(&self, step: &Step, ahead: &mut Option<ResourceVersion>) -> Result<Answer, Failure> {
        let Some(manifest) = &step.manifest else { return Ok(Answer::Accepted) };
        let Lookup::Served(info) = self.kinds.lookup(&manifest.key.kind, &manifest.version) else {
            return Ok(Answer::Accepted); // Held back by the plan, or made by this very commit.
        };
        let uid = step.precondition.as_ref().map(|precondition| &*precondition.uid);
        // What is made is made whole. What gives fields away still has them: without them it might not be valid, and that is not what will be sent.
        let whole = uid.is_none() || !step.leaves.is_empty();
        let sent = if whole { manifest.as_made() } else { Cow::Borrowed(&**manifest) };
        match self.writer.dry_run(&sent, info, uid).await {
            Ok(answer) => {
                let known = self.inventory.with_members(self.part_of, |members| members.get(&step.key).cloned());
                let Some(known) = known else { return Ok(Answer::Accepted) };
                let live = self.inventory.reduce(&answer);
                // A dry-run changes no version.
                *ahead = Some(live.resource_version).filter(|version| *version > known.resource_version);
                match self.compare(step, manifest, &answer, &known, &live) {
                    Answer::Unclear(baseline) => Ok(self.compare_content(manifest, info, baseline).await),
                    clear => Ok(clear),
                }
            }
            Err(error) if cannot_dry_run(&error) => {
                warn!(object = %manifest.key, "a webhook does not support dry-run; the object could not be checked beforehand");
                Ok(Answer::Accepted)
            }
            Err(error) => self.refusal(step, manifest, &error).await,
        }
    }

    /// Whether nothing would change, and whether fields that we give up are held by others too: those would stay in the cluster although they left git.
    fn compare(&self, step: &Step, manifest: &Manifest, answer: &Metadata, known: &Live, live: &Live) -> Answer {
        let owners = answer.metadata.managed_fields.as_deref().unwrap_or_default();
        let owned = |live: &Live| live.entry(self.writer.manager).and_then(|entry| FieldSet::parse(&entry.fields).ok());
        let (Some(stood), Some(after)) = (owned(known), owned(live)) else { return Answer::Accepted };
        let mut before = stood.clone();
        // What was changed by hand since, and changed back, is in our entry no more.
        if let Some(applied) = (self.applied)(&step.key).and_then(|fields| FieldSet::parse(&fields).ok()) {
            before = before.union(&applied);
        }
        if let Some(former) = self.former.get(&step.key) {
            before = before.union(&co_owned(owners, self.writer.manager, former));
        }
        let lost = ownership::would_lose(&before, &after).outside(manifest.left_alone());
        // An entry that can't be read pins nothing that we could release.
        let Ok(released) = ownership::release_pins(owners, self.writer.manager, &lost) else { return Answer::Accepted };
        if released.entries.is_some() {
            return Answer::Pinned(lost, released.taken);
        }
        if step.reason == Reason::NotVerified && step.leaves.is_empty() {
            let Some(baseline) = Baseline::of(manifest.digest, live, self.writer.manager) else {
                return Answer::Accepted;
            };
            return match effect(known, live, self.writer.manager, chrono::Utc::now().timestamp()) {
                Effect::Nothing => Answer::Same(baseline),
                Effect::Changes => match after.difference(&stood).union(&stood.difference(&after)) {
                    paths if paths.is_empty() => Answer::Hidden(baseline),
                    paths => Answer::Differs(paths),
                },
                Effect::Unclear => Answer::Unclear(baseline),
            };
        }
        for kept in released.kept {
            let fields = kept.fields.paths().join(", ");
            warn!(object = %step.key, manager = kept.manager, fields, "fields that left git stay: another applier owns them too");
        }
        Answer::Accepted
    }

    /// Compares an object, as far as it is ours, with what it would become. One that can't be read is accepted: an apply that changes nothing does no harm.
    async fn compare_content(&self, manifest: &Manifest, info: &KindInfo, baseline: Baseline) -> Answer {
        let Ok(Some(live)) = self.writer.read(&manifest.key, info).await else { return Answer::Accepted };
        let Ok(after) = self.writer.would_become(manifest, info, &baseline.uid).await else { return Answer::Accepted };
        let Ok(owned) = FieldSet::parse(&baseline.fields) else { return Answer::Accepted };
        let differing = owned.differing(&live, &after);
        if differing.is_empty() { Answer::Same(baseline) } else { Answer::Differs(differing) }
    }

    /// Names the fields whose values alone differ, by the content: of a few objects, and where they are not what a new commit brings.
    async fn named(&self, plan: &Plan, answers: Vec<Answered>) -> Vec<Answered> {
        let hidden = answers.iter().filter(|(_, answer)| matches!(answer, Ok(Answer::Hidden(_)))).count();
        let one = async |(index, answer): Answered| {
            let Ok(Answer::Hidden(baseline)) = answer else { return (index, answer) };
            let manifest = plan.steps.get(index).and_then(|step| step.manifest.as_deref());
            let paths = match manifest.filter(|manifest| hidden <= NAMED && self.stood_so(manifest)) {
                Some(manifest) => self.hidden(manifest, baseline).await,
                None => FieldSet::default(),
            };
            (index, Ok(Answer::Differs(paths)))
        };
        futures::stream::iter(answers).map(one).buffer_unordered(limiter::MOST).collect().await
    }

    /// Whether git had the object in this form before.
    fn stood_so(&self, manifest: &Manifest) -> bool {
        self.object_by_object || self.former.get(&manifest.key).is_some_and(|former| former.digest == manifest.digest)
    }

    async fn hidden(&self, manifest: &Manifest, baseline: Baseline) -> FieldSet {
        let Lookup::Served(info) = self.kinds.lookup(&manifest.key.kind, &manifest.version) else {
            return FieldSet::default();
        };
        match self.compare_content(manifest, info, baseline).await {
            Answer::Differs(paths) => paths,
            _ => FieldSet::default(), // Not readable, or right again by now: an apply that changes nothing does no harm.
        }
    }

    /// A refusal of an immutable field may become a replacement, if that passes its own dry-run.
    async fn refusal(&self, step: &Step, manifest: &Manifest, error: &ClusterError) -> Result<Answer, Failure> {
        let refused = |error: &ClusterError| failure::of_object(Stage::DryRun, manifest, error);
        match immutable::escalate(step, self.replace, &causes(error)) {
            Escalation::NotImmutable if self.is_curable(manifest, error).await => match step.reason {
                Reason::NotVerified => Ok(Answer::Differs(FieldSet::default())),
                _ => Ok(Answer::Accepted),
            },
            Escalation::NotImmutable => Err(refused(error)),
            Escalation::Refused(refusal) => Err(Failure { stage: Stage::DryRun, ..refusal.into() }),
            Escalation::Replace(replacement) => {
                let Lookup::Served(info) = self.kinds.lookup(&manifest.key.kind, &manifest.version) else {
                    return Err(refused(error));
                };
                self.writer.could_create(&manifest.as_made(), info).await.map_err(|error| refused(&error))?;
                Ok(Answer::Replace(replacement))
            }
        }
    }

    /// Whether a refusal is only about what stands beside the fields of git, or about who owns it: plumb can put that right, and git's object by itself is
    /// one that the API server would take.
    async fn is_curable(&self, manifest: &Manifest, error: &ClusterError) -> bool {
        let Lookup::Served(info) = self.kinds.lookup(&manifest.key.kind, &manifest.version) else { return false };
        let remedy = self.writer.remedy(manifest, info, self.kinds, error).await;
        matches!(remedy, Ok(Some(_))) && self.writer.could_create(&manifest.as_made(), info).await.is_ok()
    }
}

/// The fields that others own and that an earlier commit had: ours, until somebody changed them and changed them back.
fn co_owned(owners: &[ManagedFieldsEntry], manager: &str, former: &Manifest) -> FieldSet {
    let (Ok(others), Ok(former)) = (ownership::others(owners, manager), serde_json::from_str(former.json.get())) else {
        return FieldSet::default();
    };
    others.present_in(&former)
}

/// An admission webhook with side effects refuses dry-runs: `admission webhook "…" does not support dry run`.
fn cannot_dry_run(error: &ClusterError) -> bool {
    error.status().is_some_and(|status| status.code == 400 && status.message.contains("does not support dry run"))
}
