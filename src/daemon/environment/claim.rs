//! One writer an environment: the claim on the Environment object, and its spec kept as git says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::Task;
use crate::cluster::ClusterError;
use crate::cluster::parent::{Hold, Parent};
use crate::model::marks::{self, Claim};
use crate::model::{Configuration, Environment};
use crate::render::Definition;
use crate::report;
use crate::telemetry::Held;

/// How long a deployment that is made once waits for the API server's first answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A spec that is changed again within this time is fought over.
const CONTESTED_WITHIN: Duration = Duration::from_millis(500);

impl Task {
    /// Makes sure that the Environment stands with git's spec and is claimed by this plumb. False: it is not, and something was waited for.
    pub(super) async fn hold_claim(&mut self) -> bool {
        let (listed, known) = {
            let parents = self.parents.borrow_and_update();
            (parents.listed, parents.environments.get(&*self.reconciler.name).cloned())
        };
        if !listed {
            self.wait_for_parents().await;
            return false;
        }
        match self.claimed(known).await {
            Ok(()) => {
                self.tell_held(Held::Ours);
                self.not_held = None;
                self.attempts = 0;
                true
            }
            Err(error) => {
                let theirs = matches!(error, ClusterError::HeldBy { .. } | ClusterError::TakenOver);
                // Somebody was faster; who, the watch says next.
                let held = theirs || error.code() == 409;
                if error.code() != 409 {
                    self.tell_not_held(&error);
                }
                let pause = Duration::from_secs(1 << self.attempts.min(6)).mul_f64(rand::random_range(0.8..1.2));
                self.attempts += 1;
                if theirs {
                    // How they end is for the other one to tell.
                    self.open.clear();
                    let head = self.wanted.borrow().head;
                    self.reconciler.shared.telemetry.metrics.at_rest(&self.reconciler.name, head);
                }
                let event = async {
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        _ = self.parents.changed(), if held => {}
                        _ = self.stop.changed() => {}
                    }
                };
                self.reconciler.pulse.idle("waiting to try the claim again", event).await;
                false
            }
        }
    }

    /// As [`Self::hold_claim`], for a deployment that is made once: what can't be had now is an error.
    pub(super) async fn hold_claim_once(&mut self) -> Result<bool, String> {
        let within =
            tokio::time::timeout(ANSWER_WITHIN, self.parents.wait_for(|known| known.listed || known.trouble.is_some()));
        let known = match within.await {
            Ok(Ok(known)) if known.no_crd => return Err(ClusterError::NoCrd.to_string()),
            Ok(Ok(known)) => match (known.listed, &known.trouble) {
                (false, Some(trouble)) => return Err(trouble.clone()),
                _ => known.environments.get(&*self.reconciler.name).cloned(),
            },
            _ => return Err("the API server does not answer".to_owned()),
        };
        self.claimed(known).await.map_err(|error| error.to_string())?;
        Ok(!self.stopping())
    }

    async fn wait_for_parents(&mut self) {
        let event = async {
            tokio::select! {
                _ = self.parents.changed() => {}
                _ = self.stop.changed() => {}
            }
        };
        self.reconciler.pulse.idle("waiting for the Environments to be listed", event).await;
    }

    async fn claimed(&mut self, known: Option<Arc<Environment>>) -> Result<(), ClusterError> {
        let name = Arc::clone(&self.reconciler.name);
        let caller = self.reconciler.cluster.caller.clone();
        let parent = Parent { caller: &caller, name: &name };
        if let Some(known) = &known {
            self.claim_of(known)?; // Before anything is written, or told.
        }
        let mut now = match known {
            Some(known) if stands(&known, &self.reconciler.definition, self.wanted.borrow().at.as_ref()) => known,
            known => {
                self.tell_drift(known.is_some())?;
                self.write_spec(parent).await?
            }
        };
        self.stood = Some(Arc::clone(&self.reconciler.definition));
        if self.claim_of(&now)? != Claim::Ours {
            now = self.mark(parent, &now).await?;
        }
        if !self.started {
            self.started = true;
            let target = now.status.as_ref().and_then(|status| status.target.as_ref()?.parse().ok());
            let under = now.status.as_ref().and_then(|status| status.target_definition.as_deref());
            self.course.inherit(target, under == Some(&*self.reconciler.definition.spec.digest()));
        }
        self.taken_up(parent, &now).await
    }

    /// Whose the Environment is; an error if it must be left alone.
    fn claim_of(&self, environment: &Environment) -> Result<Claim, ClusterError> {
        match marks::claim(environment, &self.reconciler.shared.instance) {
            Claim::Theirs(holder) if !self.settings.take_over => Err(ClusterError::HeldBy { holder }),
            // This one had it, and another took it over: it must not be fought.
            Claim::OtherRun | Claim::Theirs(_) if self.started => Err(ClusterError::TakenOver),
            claim => Ok(claim),
        }
    }

    /// Defined again after it was removed: the status must not say any longer that it is.
    async fn taken_up(&self, parent: Parent<'_>, now: &Environment) -> Result<(), ClusterError> {
        let Some(status) = now.status.as_ref().filter(|status| status.removed.is_some()) else { return Ok(()) };
        let status = report::removal::taken_up(status, now.metadata.generation, chrono::Utc::now());
        self.reconciler.shared.parents.wrote(parent.apply_status(&status).await?);
        info!(environment = %self.reconciler.name, "it is defined again");
        Ok(())
    }

    /// Claims the Environment, and gives it back what was lost if it was made anew: where its members are, and its status.
    async fn mark(&self, parent: Parent<'_>, now: &Environment) -> Result<Arc<Environment>, ClusterError> {
        let shared = &self.reconciler.shared;
        let reach = marks::reach(now).union(&self.reconciler.reach_of_members());
        let mut marked = parent.apply_marks(now, Hold::Claimed(&shared.instance), &reach).await?;
        if let Some(status) = self.status.as_ref().filter(|_| marked.status.is_none()) {
            marked = parent.apply_status(status).await?;
        }
        shared.parents.wrote(marked.clone());
        Ok(Arc::new(marked))
    }

    /// Somebody changed or deleted the Environment; a new definition is no drift. Who changes it again at once is not fought at once.
    fn tell_drift(&mut self, stands: bool) -> Result<(), ClusterError> {
        let (name, definition) = (&self.reconciler.name, &self.reconciler.definition);
        if self.stood.as_ref() != Some(definition) {
            return Ok(());
        }
        if self.reverted.replace(Instant::now()).is_some_and(|at| at.elapsed() < CONTESTED_WITHIN) {
            return Err(ClusterError::Contested);
        }
        let object = format!("Environment/{name}");
        match stands {
            true => warn!(environment = %name, %object, field = "spec", action = "reverted", "drift"),
            false => warn!(environment = %name, %object, class = "deleted", action = "created", "drift"),
        }
        Ok(())
    }

    async fn write_spec(&self, parent: Parent<'_>) -> Result<Arc<Environment>, ClusterError> {
        let at = self.wanted.borrow().at.clone();
        let written = parent.apply_definition(&self.reconciler.definition, at.as_ref()).await?;
        self.reconciler.shared.parents.wrote(written.clone());
        Ok(Arc::new(written))
    }

    fn tell_held(&self, held: Held) {
        self.reconciler.shared.telemetry.standing().set(&self.reconciler.name, held);
    }

    fn tell_not_held(&mut self, error: &ClusterError) {
        let text = error.to_string();
        self.tell_held(not_held(error));
        if self.not_held.as_ref() != Some(&text) {
            error!(environment = %self.reconciler.name, reason = text, "the environment is not claimed; nothing is written");
            self.not_held = Some(text);
        }
    }

    /// Whether this run has the claim, as far as is seen.
    pub(super) fn is_held(&self) -> bool {
        let shared = &self.reconciler.shared;
        let known = shared.parents.get(&self.reconciler.name).filter(|_| self.started);
        known.is_some_and(|known| marks::claim(&known, &shared.instance) == Claim::Ours)
    }

    /// Gives the claim up, so that another plumb can have the environment without `--take-over`.
    pub(super) async fn release_claim(&self) {
        if self.wanted.borrow().leaves {
            return;
        }
        let (shared, name) = (&self.reconciler.shared, &self.reconciler.name);
        let Some(known) = shared.parents.get(name).filter(|_| self.settings.release && self.started) else { return };
        if marks::claim(&known, &shared.instance) != Claim::Ours {
            return;
        }
        let parent = Parent { caller: &shared.cluster.caller, name };
        let released = match self.give_up(parent, &known).await {
            // Its own last status, say, that the watch has not shown yet.
            Err(error) if error.code() == 409 => match parent.read().await {
                Ok(now) if marks::claim(&now, &shared.instance) != Claim::Ours => return,
                Ok(now) => self.give_up(parent, &now).await,
                Err(error) => Err(error),
            },
            other => other,
        };
        match released {
            Ok(_) => info!(environment = %name, "released"),
            Err(error) => {
                warn!(environment = %name, %error, "the claim could not be released; it is taken over by the next run of this installation")
            }
        }
    }

    async fn give_up(&self, parent: Parent<'_>, now: &Environment) -> Result<Environment, ClusterError> {
        parent.apply_marks(now, Hold::Released(&self.reconciler.shared.instance), &marks::reach(now)).await
    }
}

/// What readiness is told: that the claim is another's or refused, or that it is not known because the API server is in trouble.
fn not_held(error: &ClusterError) -> Held {
    let trouble = matches!(error, ClusterError::TimedOut { .. } | ClusterError::Unreachable { .. })
        || matches!(error.code(), 429 | 500..);
    if trouble { Held::Unsure(error.to_string()) } else { Held::Not(error.to_string()) }
}

/// Whether the object is as git defines it: the spec, the labels and annotations that git gives it, and the branch that has the definition.
fn stands(known: &Environment, definition: &Definition, now: Option<&Configuration>) -> bool {
    let has = |there: &Option<BTreeMap<String, String>>, wanted: &BTreeMap<String, String>| {
        wanted.iter().all(|(name, value)| there.as_ref().and_then(|there| there.get(name)) == Some(value))
    };
    known.spec == definition.spec
        && marks::defined_at(known).is_some_and(|at| now.is_none_or(|now| now.branch == at.branch))
        && has(&known.metadata.labels, &definition.labels)
        && has(&known.metadata.annotations, &definition.annotations)
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn a_claim_that_the_api_server_could_not_answer_is_waited_for() {
        let refused = |code| {
            let status = Box::new(Status { code, ..Status::default() });
            ClusterError::Refused { what: "apply Environment/dev".to_owned(), status }
        };
        let holder = "another".to_owned();
        for error in [ClusterError::HeldBy { holder }, ClusterError::TakenOver, refused(403), refused(422)] {
            assert!(matches!(not_held(&error), Held::Not(_)), "{error}");
        }
        let late = ClusterError::TimedOut { what: "apply Environment/dev".to_owned(), after: Duration::from_secs(30) };
        for error in [late, refused(429), refused(500), refused(503)] {
            assert!(matches!(not_held(&error), Held::Unsure(_)), "{error}");
        }
    }
}
