//! What is done with the objects of an environment whose definition left git.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::watch as channel;

use super::look::planning;
use super::{How, Mode, Reconciler};
use crate::cluster::aggregated;
use crate::cluster::discovery::Known;
use crate::cluster::execute::Done;
use crate::cluster::standing::Strangers;
use crate::model::{CommitId, Desired, Failure, GroupKind, Stage};
use crate::plan::{Action, Plan, Planned};

/// What speaks for asking a person first, shared by the clones of a reconciler.
pub(super) type Doubts = Arc<[String]>;

/// What a commit asks for that has no place for the environment.
fn nothing(commit: CommitId) -> Desired {
    Desired::only(commit, Vec::new())
}

impl Reconciler {
    /// Has every kind seen that the environment ever had, so that nothing of it is overlooked.
    pub async fn look_for_members(&self, commit: CommitId) -> Result<(), Failure> {
        let mut known = self.discover().await?;
        let reach = self.shared.parents.reach(&self.name);
        let unserved = |known: &Known| -> Vec<GroupKind> {
            reach.kinds.iter().filter(|kind| known.kinds.preferred(kind).is_none()).cloned().collect()
        };
        if !unserved(&known).is_empty() {
            let cluster = &self.cluster;
            known = cluster.discovered.refresh(&cluster.caller, known.generation).await.map_err(planning)?;
        }
        self.watch_kinds(&nothing(commit), &known).await?;
        let unserved = unserved(&known);
        if unserved.is_empty() {
            return Ok(());
        }
        // A custom resource definition that went took its objects along; an API server extension that is away did not.
        let extensions = aggregated::groups(&self.cluster.caller).await.map_err(planning)?;
        match unserved.iter().find(|kind| extensions.contains(&*kind.group)) {
            Some(kind) => {
                let why = format!("{kind} is not served at the moment, and the environment may have objects of it");
                Err(Failure::new(Stage::Plan, why).transient())
            }
            None => Ok(()),
        }
    }

    /// How many objects stand that are provably the environment's, and how many of them are neither being deleted nor `going`.
    pub fn members_left(&self, going: &HashSet<Box<str>>) -> (usize, usize) {
        self.cluster.inventory.with_members(&self.part_of, |members| {
            let ours = || members.values().filter(|live| live.entry(&self.manager).is_some());
            (ours().count(), ours().filter(|live| !live.terminating && !going.contains(&live.uid)).count())
        })
    }

    /// Decides what goes. Nobody is asked again where this commit, which no longer defines the environment, is `confirmed`.
    pub async fn plan_removal(&self, commit: CommitId, confirmed: Option<CommitId>) -> Result<Planned, Failure> {
        self.look_for_members(commit).await?;
        let known = self.discover().await?;
        let how = How { mode: Mode::Commit, confirmed, taken: false };
        Ok(self.plan(&nothing(commit), &known, &Strangers::default(), how))
    }

    /// Deletes, in the order of the plan; then the Environment names just what is left. What is `going` already, by its uid, is not deleted twice.
    pub async fn remove(
        &self,
        mut plan: Plan,
        commit: CommitId,
        going: &mut HashSet<Box<str>>,
        stop: &channel::Receiver<bool>,
    ) -> Result<Done, Failure> {
        let uid = |step: &crate::plan::Step| step.precondition.as_ref().map(|precondition| precondition.uid.clone());
        plan.steps.retain(|step| step.action == Action::Prune && uid(step).is_some_and(|uid| !going.contains(&uid)));
        let mut done = Done::default();
        if plan.steps.is_empty() {
            return Ok(done);
        }
        self.pulse.step(format!("deleting what {} had", self.name));
        self.executor(stop).prune(&plan, &mut done).await;
        going.extend(plan.steps.iter().filter(|step| done.pruned.contains(&step.key)).filter_map(uid));
        self.shrink_reach(&nothing(commit), &done).await?;
        Ok(done)
    }
}
