//! The only room that tells people: log lines, the Environment's status, Events.
//!
//! What is said is decided here from plain values; [`status`] is pure. Failures are redacted where they are made, so nothing here has a secret to leak.

pub mod crowd;
pub mod drift;
pub mod health;
pub mod log;
pub mod notes;
pub mod removal;
pub mod status;

use crate::cluster::events::Event;
use crate::model::{Deployment, Outcome};

/// The Event of an ended deployment; `Unchanged` and superseded commits have none.
pub fn event(deployment: &Deployment) -> Option<Event> {
    let commit = deployment.commit.short();
    match &deployment.outcome {
        Outcome::Deployed => Some(Event {
            warning: false,
            reason: "Deployed",
            message: format!("deployed {commit}: {}", counts(deployment)),
        }),
        Outcome::Failed(failure) => Some(Event {
            warning: true,
            reason: "DeploymentFailed",
            message: format!("{commit} failed at {}: {failure}", failure.stage),
        }),
        Outcome::Unchanged | Outcome::SupersededBy(_) | Outcome::Suspended => None,
    }
}

fn counts(deployment: &Deployment) -> String {
    let Deployment { objects, applied, unchanged, pruned, .. } = deployment;
    format!("{objects} objects, {applied} applied, {unchanged} unchanged, {pruned} pruned")
}
