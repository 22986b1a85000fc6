//! One line an event, the field's terms, stable field names.

use tracing::{debug, error, info, warn};

use crate::builder::{BuildError, Progress};
use crate::model::{CommitId, Deployment, Outcome};
use crate::reconcile::collection::{Doubt, Round};

/// Of many images at most this many are named.
const TOLD: usize = 5;

/// The line of a commit that ended.
pub fn deployment(environment: &str, deployment: &Deployment) {
    let Deployment { objects, applied, unchanged, pruned, .. } = deployment;
    let commit = deployment.commit.short();
    let took = took(deployment.took);
    match &deployment.outcome {
        Outcome::Deployed => {
            info!(%environment, %commit, objects, applied, unchanged, pruned, %took, "deployed");
        }
        Outcome::Unchanged => info!(%environment, %commit, "unchanged"),
        Outcome::SupersededBy(by) => info!(%environment, %commit, by = %by.short(), applied, %took, "superseded"),
        Outcome::Suspended => info!(%environment, %commit, "suspended: nothing is changed"),
        Outcome::Failed(failure) => {
            let object = failure.object.as_ref().map(tracing::field::display);
            let file = failure.origin.as_ref().map(tracing::field::display);
            let (stage, reason, hint, retry) = (failure.stage, &failure.reason, &failure.hint, failure.transient);
            error!(%environment, %commit, %stage, object, file, %reason, hint, applied, retry, %took, "failed");
        }
    }
    for (stage, took) in &deployment.stages {
        debug!(%environment, %commit, %stage, took = %self::took(*took), "stage");
    }
}

/// Commits wait for a builder, or a registry, that has not answered since plumb started. Said once.
pub fn waiting_for_builder(error: &BuildError) {
    info!(reason = %error, hint = error.hint(), "waiting: commits with images go on as soon as it answers");
}

/// It answers, after it was waited for.
pub fn builder_answers() {
    info!("the image builder answers");
}

/// Images of a commit are missing and are built now.
pub fn building(environment: &str, commit: CommitId, images: usize) {
    info!(%environment, commit = %commit.short(), images, "building");
}

/// What a build does.
pub fn build_progress(environment: &str, image: &str, progress: &Progress) {
    match progress {
        Progress::Step(step) => info!(%environment, %image, %step, "building"),
        Progress::Cached(step) => debug!(%environment, %image, %step, "cached"),
        Progress::Line { text, .. } => debug!(%environment, %image, "{text}"),
    }
}

/// An image stands.
pub fn image(environment: &str, commit: CommitId, image: &str, built: bool, took: std::time::Duration) {
    let (commit, took) = (commit.short(), self::took(took));
    if built {
        info!(%environment, %commit, %image, %took, "built");
    } else {
        info!(%environment, %commit, %image, "present");
    }
}

/// Nobody waits for what was being built.
pub fn builds_cancelled(environment: &str) {
    info!(%environment, "the build is cancelled");
}

/// A round of the collection of images ended. A doubt is said once, until it is another one or none; `told` has what was said.
pub fn collected(round: &Result<Round, Doubt>, told: &mut Option<String>) {
    let round = match round {
        Ok(round) => round,
        Err(doubt) => {
            let reason = doubt.to_string();
            if told.as_ref() != Some(&reason) {
                warn!(%reason, "no image is removed until it is known which ones are needed");
            }
            *told = Some(reason);
            return;
        }
    };
    if told.take().is_some() {
        info!("images are collected again");
    }
    let removed = round.removed.len();
    if removed > 0 {
        info!(removed, bytes = round.bytes, images = %some_of(&round.removed), "images removed that nobody needs any more");
    }
    if let Some((image, error)) = round.failed.first() {
        warn!(images = round.failed.len(), %image, reason = %error, "images could not be removed; tried again at the next round");
    }
}

/// The first few of many, and how many more there are.
fn some_of(names: &[String]) -> String {
    let shown = names.get(..names.len().min(TOLD)).unwrap_or_default().join(", ");
    let more = names.len().saturating_sub(TOLD);
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// The branch was moved to a commit that does not contain the one it was at.
pub fn rewind(environment: &str, branch: &str, from: CommitId, to: CommitId) {
    warn!(%environment, %branch, from = %from.short(), to = %to.short(), "rewind: the branch was moved by force; its head is deployed");
}

/// A duration as in `took=14ms`: whole milliseconds, or seconds with one decimal from ten seconds on.
pub(super) fn took(duration: std::time::Duration) -> String {
    if duration.as_secs() < 10 {
        format!("{}ms", duration.as_millis())
    } else {
        format!("{:.1}s", duration.as_secs_f64())
    }
}
