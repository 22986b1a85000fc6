//! A plan for people, and the same as data for programs.

use std::fmt;

use serde::Serialize;

use super::{Action, Ask, Plan, Planned, Refusal, Step};
use crate::drift::ownership::Share;
use crate::model::ObjectKey;

/// A plan as data: the JSON of `plumb plan -o json`. Holds no content of any object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanView {
    /// `ready`, `refused` or `ask-first`.
    pub state: &'static str,
    /// How many steps of each sort.
    pub summary: Summary,
    /// The steps, in the order of execution.
    pub steps: Vec<StepView>,
    /// What may not be done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusalView>,
    /// Why a person is asked first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub asks: Vec<String>,
    /// What to do to confirm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What deletions wait for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<String>,
    /// The images that the repository builds, with their tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// Remarks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<NoteView>,
}

/// How many steps of each sort a plan has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// To create.
    pub create: usize,
    /// To update.
    pub update: usize,
    /// To delete and make again.
    pub replace: usize,
    /// To adopt.
    pub adopt: usize,
    /// To take over from another environment.
    pub take_over: usize,
    /// Left to another environment.
    pub hand_over: usize,
    /// To delete.
    pub prune: usize,
    /// Held back.
    pub hold: usize,
    /// As they should be.
    pub unchanged: usize,
}

/// What identifies an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectView {
    /// The API group; empty for core.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The namespace, unless cluster-scoped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    /// `create`, `update`, `replace`, `adopt`, `take-over`, `hand-over`, `prune`, `keep`, `hold`.
    pub action: &'static str,
    /// The object.
    #[serde(flatten)]
    pub object: ObjectView,
    /// Why.
    pub reason: String,
    /// The other environment of a take-over or hand-over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The file and line in git.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Whether the API server can check it before the first write.
    pub checkable: bool,
    /// Whether the fields of a client-side apply are migrated with it.
    pub migrate: bool,
    /// Fields of it that are left to others from now on, with the values they have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leaves: Vec<String>,
    /// Fields of it that leave git and are taken from others who own them too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub takes: Vec<TakenView>,
}

/// What is taken from one field manager: paths, without their values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TakenView {
    /// The field manager.
    pub manager: String,
    /// The fields.
    pub fields: Vec<String>,
}

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusalView {
    /// The object.
    #[serde(flatten)]
    pub object: ObjectView,
    /// The file and line in git.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Why.
    pub reason: String,
    /// What to do.
    pub hint: String,
}

/// One remark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NoteView {
    /// The object.
    #[serde(flatten)]
    pub object: ObjectView,
    /// The remark.
    pub text: String,
}

impl From<&Planned> for PlanView {
    fn from(planned: &Planned) -> Self {
        match planned {
            Planned::Ready(plan) => Self::of("ready", plan),
            Planned::Refused(refused) => Self {
                refused: refused.iter().map(RefusalView::from).collect(),
                ..Self::of("refused", &Plan::default())
            },
            Planned::AskFirst(Ask { reasons, hint, proposed }) => {
                Self { asks: reasons.clone(), hint: Some(hint.clone()), ..Self::of("ask-first", proposed) }
            }
        }
    }
}

impl PlanView {
    fn of(state: &'static str, plan: &Plan) -> Self {
        Self {
            state,
            summary: Summary::of(plan),
            steps: plan.steps.iter().map(StepView::from).collect(),
            refused: plan.refused.iter().map(RefusalView::from).collect(),
            asks: Vec::new(),
            hint: None,
            waits: plan.waits.iter().map(ToString::to_string).collect(),
            images: plan.images.clone(),
            notes: plan
                .notes
                .iter()
                .map(|note| NoteView { object: (&note.key).into(), text: note.text.clone() })
                .collect(),
        }
    }
}

impl Summary {
    /// Counts a plan's steps.
    pub fn of(plan: &Plan) -> Self {
        let mut summary = Self::default();
        for step in &plan.steps {
            *match step.action {
                Action::Create => &mut summary.create,
                Action::Update => &mut summary.update,
                Action::Replace => &mut summary.replace,
                Action::Adopt => &mut summary.adopt,
                Action::TakeOver { .. } => &mut summary.take_over,
                Action::HandOver { .. } => &mut summary.hand_over,
                Action::Prune => &mut summary.prune,
                Action::Hold => &mut summary.hold,
                Action::Keep => &mut summary.unchanged,
            } += 1;
        }
        summary
    }
}

impl fmt::Display for Summary {
    /// `2 to create, 1 to update, 0 to prune, 9 unchanged`; the rarer sorts only where there are some.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to create, {} to update", self.create, self.update)?;
        let rarer = [
            (self.replace, "to replace"),
            (self.adopt, "to adopt"),
            (self.take_over, "to take over"),
            (self.hand_over, "to hand over"),
        ];
        for (count, what) in rarer.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        write!(f, ", {} to prune, {} unchanged", self.prune, self.unchanged)?;
        if self.hold > 0 { write!(f, ", {} held back", self.hold) } else { Ok(()) }
    }
}

impl From<&ObjectKey> for ObjectView {
    fn from(key: &ObjectKey) -> Self {
        Self {
            group: key.kind.group.to_string(),
            kind: key.kind.kind.to_string(),
            namespace: key.namespace.as_ref().map(ToString::to_string),
            name: key.name.to_string(),
        }
    }
}

impl fmt::Display for ObjectView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}/{}", self.kind, self.name),
            None => write!(f, "{}/{}", self.kind, self.name),
        }
    }
}

impl From<&Step> for StepView {
    fn from(step: &Step) -> Self {
        let environment = match &step.action {
            Action::TakeOver { from: other } | Action::HandOver { to: other } => Some(other.to_string()),
            _ => None,
        };
        Self {
            action: step.action.as_str(),
            object: (&step.key).into(),
            reason: step.reason.words(),
            environment,
            origin: step.manifest.as_ref().map(|manifest| manifest.origin.to_string()),
            checkable: step.checkable,
            migrate: step.migrate,
            leaves: step.leaves.paths(),
            takes: step.takes.iter().map(TakenView::from).collect(),
        }
    }
}

impl From<&Share> for TakenView {
    fn from(share: &Share) -> Self {
        Self { manager: share.manager.clone(), fields: share.fields.paths() }
    }
}

impl From<&Refusal> for RefusalView {
    fn from(refusal: &Refusal) -> Self {
        Self {
            object: (&refusal.key).into(),
            origin: refusal.origin.as_ref().map(ToString::to_string),
            reason: refusal.reason.clone(),
            hint: refusal.hint.clone(),
        }
    }
}

impl StepView {
    const fn sign(&self) -> char {
        match self.action.as_bytes() {
            b"create" => '+',
            b"prune" => '-',
            b"keep" | b"hand-over" => '=',
            b"hold" => '!',
            _ => '~',
        }
    }

    fn line(&self) -> String {
        let mut line = format!("{} {:<9} {}  {}", self.sign(), self.action, self.object, self.reason);
        if let Some(environment) = &self.environment {
            let way = if self.action == "take-over" { "from" } else { "to" };
            line.push_str(&format!(", {way} environment {environment}"));
        }
        if self.migrate {
            line.push_str(", with the fields of its client-side apply");
        }
        if !self.leaves.is_empty() {
            line.push_str(&format!(", leaves {} to others", self.leaves.join(", ")));
        }
        for TakenView { manager, fields } in &self.takes {
            line.push_str(&format!(", takes {} from {manager}", fields.join(", ")));
        }
        if !self.checkable && self.sign() != '!' {
            line.push_str(", not checked");
        }
        match &self.origin {
            Some(origin) => format!("{line}  ({origin})"),
            None => line,
        }
    }
}

impl fmt::Display for PlanView {
    /// One line a step, unchanged objects left out; `{:#}` has them too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = f.alternate();
        for step in self.steps.iter().filter(|step| all || step.action != "keep") {
            writeln!(f, "{}", step.line())?;
        }
        for refusal in &self.refused {
            let origin = refusal.origin.as_ref().map(|origin| format!("{origin}: ")).unwrap_or_default();
            writeln!(f, "! refused   {}  {origin}{}; {}", refusal.object, refusal.reason, refusal.hint)?;
        }
        for image in &self.images {
            writeln!(f, "  image     {image}")?;
        }
        for note in &self.notes {
            writeln!(f, "  note      {}  {}", note.object, note.text)?;
        }
        for wait in &self.waits {
            writeln!(f, "  note      {wait}")?;
        }
        match self.state {
            "refused" => writeln!(f, "Plan: refused, nothing is done."),
            _ => writeln!(f, "Plan: {}.", self.summary),
        }?;
        for ask in &self.asks {
            writeln!(f, "Not done unasked: {ask}.")?;
        }
        self.hint.iter().try_for_each(|hint| writeln!(f, "{hint}"))
    }
}

#[cfg(test)]
mod tests;
