//! Fields that others add inside the environment's objects: told once, and taken out if the definition says so.

use std::collections::HashSet;
use std::time::Instant;

use super::Task;
use super::drift::{Healed, Write};
use crate::drift::fingerprint::Found;
use crate::model::ObjectKey;
use crate::model::environment::ForeignAdditions;
use crate::reconcile::additions::Additions;
use crate::report::drift::{self as report, Action, Noticed};

impl Task {
    /// Why additions stay, if they do.
    fn leaves_additions(&self) -> Option<Action> {
        let kept = self.reconciler.definition.spec.foreign_additions == ForeignAdditions::Report;
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
        self.tell_drifts(ended, Noticed::Watch, healed.took).await;
        self.tell_fights(contested).await;
        self.tell_failures(healed.failures);
    }
}
