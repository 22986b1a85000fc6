//! Fields that others add inside the environment's objects: told once, and taken out if the definition says so.

use std::collections::HashSet;
use std::time::Instant;

use super::Task;
use super::drift::{Write, failed_of};
use super::healed::Healed;
use crate::drift::describe::Drift;
use crate::drift::fingerprint::{Class, Found};
use crate::model::ObjectKey;
use crate::model::environment::ForeignAdditions;
use crate::reconcile::additions::Additions;
use crate::report::drift::{self as report, Action, Noticed};

impl Task {
    /// Why additions stay, if they do.
    fn leaves_additions(&self) -> Option<Action> {
        let kept = self.reconciler.as_held().definition.spec.foreign_additions == ForeignAdditions::Report;
        self.observes().or(kept.then_some(Action::Kept))
    }

    /// There is nothing of others in an object, or nothing any more.
    pub(super) fn nothing_added(&mut self, key: &ObjectKey) {
        if self.drifts.additions.stands(key) {
            report::over(&self.reconciler.name, key);
        }
    }

    /// Looks at objects that stand as they were applied, with fields of others in them.
    pub(super) async fn look_at_additions(&mut self, mut keys: Vec<ObjectKey>) {
        let (now, reconciler) = (Instant::now(), &self.reconciler);
        keys.retain(|key| !self.drifts.additions.waits(key, now));
        // Whoever adds one thing after the other is asked about after pauses that grow; until then the book has what was told last.
        keys.retain(|key| !reconciler.asks_of_additions(key) || self.drifts.may_ask_of_additions(key, now));
        if keys.is_empty() {
            return;
        }
        let Additions { found, none, unknown } = self.reconciler.additions(keys).await;
        if !unknown.is_empty() {
            self.put_off(unknown);
        }
        none.iter().for_each(|key| self.nothing_added(key));
        self.take_additions(found).await;
    }

    /// Of what is only told: whose values are git's again, whoever owns them, is as it was applied; what others put into what git has empty is an addition.
    pub(super) async fn values_stand(&mut self, drifts: &[Drift]) {
        let (mut added, mut looked_at) = (Vec::new(), Vec::new());
        for drift in drifts.iter().filter(|drift| drift.values_stand) {
            self.stands(&drift.key);
            self.drifts.unseen.insert(drift.key.clone());
            match drift.added.is_empty() {
                true => looked_at.push(drift.key.clone()),
                false => added.push(Found {
                    key: drift.key.clone(),
                    class: Class::ForeignAddition,
                    paths: drift.added.clone(),
                }),
            }
        }
        self.look_at_additions(looked_at).await;
        self.take_additions(added).await;
    }

    /// Has the additions of these objects looked at again, which were written: those that they have now, and those that they were known to have.
    pub(super) fn look_at_additions_of(&self, written: &HashSet<ObjectKey>) {
        self.reconciler.look_at_additions_again(Some(written));
        let known = self.drifts.additions.open().filter(|found| written.contains(&found.key));
        let known = known.map(|found| (found.key.clone(), None));
        self.reconciler.cluster.inventory.change_again(&self.reconciler.part_of, known);
    }

    /// Tells additions, and takes them out if the definition says so.
    async fn take_additions(&mut self, found: Vec<Found>) {
        let (now, kept) = (Instant::now(), self.leaves_additions());
        let (mut heals, mut told) = (HashSet::new(), Vec::<Found>::new());
        for found in found {
            let known =
                self.drifts.additions.open().find(|known| known.key == found.key).map(|known| known.paths.clone());
            let heal = self.drifts.additions.found(&found, now).heal && kept.is_none();
            heals.extend(heal.then(|| found.key.clone()));
            // What stays is told when it comes.
            let paths = match kept {
                Some(_) => found.paths.difference(&known.unwrap_or_default()),
                None => found.paths.clone(),
            };
            told.extend(((heal || kept.is_some()) && !paths.is_empty()).then_some(Found { paths, ..found }));
        }
        let reconciler = self.reconciler.clone();
        let drifts = self.describe(told, |key| reconciler.target_manifest(key)).await;
        drifts.iter().for_each(|drift| self.drifts.additions.by(&drift.key, drift.manager.as_deref()));
        let healed = match heals.is_empty() {
            true => Healed::default(),
            false => self.write_back(Write::Out(&heals)).await,
        };
        let (mut ended, mut contested) = (Vec::new(), Vec::new());
        for drift in drifts {
            let action = kept.or_else(|| self.ended(&drift, &healed, &mut contested));
            ended.extend(action.map(|action| (drift, action)));
        }
        let failed = failed_of(&ended);
        self.tell_drifts(ended, Noticed::Watch, healed.took).await;
        self.tell_fights(contested).await;
        self.tell_failures(healed.failures, &failed);
    }
}
