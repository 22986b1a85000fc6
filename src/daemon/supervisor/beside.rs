//! Environments that are defined and that another plumb keeps (`plumb run NAME`): what they ask for is learned, so that what moves to one is never pruned.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::Supervisor;
use crate::daemon::Defined;
use crate::daemon::environment::jitter;
use crate::model::CommitId;
use crate::reconcile::Reconciler;
use crate::render::Definition;
use crate::source::{Heads, Store};

/// The first pause after a failure that may pass by itself; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// An environment of another plumb, as it was looked at last.
pub(super) struct LookedOn {
    definition: Arc<Definition>,
    /// `None`: there is no such branch yet.
    head: Option<CommitId>,
    /// Learns what that asks for; dropped, it ends.
    _learning: JoinSet<()>,
}

impl Supervisor {
    /// Learns what an environment asks for that this plumb does not keep. The others have been told that it is not known.
    pub(super) fn look_on(&mut self, definition: &Arc<Definition>, heads: &Heads, store: &Store) {
        let head = heads.branches.get(&definition.spec.branch).copied();
        let known = self.looked_on.get(&definition.name);
        if known.is_some_and(|known| head.is_none() || known.definition == *definition && known.head == head) {
            return;
        }
        let mut learning = JoinSet::new();
        if let Some(head) = head {
            let reconciler = Reconciler::new(Arc::clone(&self.shared), Arc::clone(definition));
            learning.spawn(learn(reconciler, store.clone(), head));
        }
        let looked_on = LookedOn { definition: Arc::clone(definition), head, _learning: learning };
        self.looked_on.insert(definition.name.clone(), looked_on);
    }

    /// Those whose definition left git ask for nothing any more, and the others may take over what they have.
    pub(super) fn look_away(&mut self, definitions: &Defined) {
        let left = self.looked_on.extract_if(.., |name, _| !definitions.contains_key(name));
        left.for_each(|(name, left)| self.shared.peers.removed(&name, &left.definition.spec));
    }
}

/// Until it is known, the environments of this plumb delete nothing that the other might ask for.
async fn learn(reconciler: Reconciler, store: Store, head: CommitId) {
    let (mut pause, mut told) = (FIRST_PAUSE, false);
    while let Err(failure) = reconciler.claim_only(&store, head).await {
        let (environment, reason) = (&reconciler.name, &failure);
        if std::mem::replace(&mut told, true) {
            debug!(%environment, %reason, "this environment still can't be rendered");
        } else {
            warn!(%environment, %reason, "this environment can't be rendered; what it asks for is not known");
        }
        if !failure.transient {
            return;
        }
        tokio::time::sleep(pause.mul_f64(jitter())).await;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}
