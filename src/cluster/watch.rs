//! One kind's watch: list, then follow, for ever. A dropped connection resumes where it was, an expired resourceVersion lists anew, and a stream that is silent
//! for longer than bookmarks allow is taken for dead.
//!
//! An etcd that was restored from a backup is behind what was seen of it, and the API server keeps a watch from the future open without a word. So whatever
//! interrupted a watch, and silence too, makes it ask first how far the server is: one small request, and none where all is well.

use std::time::Duration;

use futures::TryStreamExt;
use http::Request;
use kube::core::params::{ListParams, WatchParams};
use kube::core::{ObjectList, PartialObjectMeta, Request as Paths, WatchEvent, request};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::api::{As, Caller, answer_of};
use super::error::ClusterError;
use crate::model::live::ResourceVersion;
use crate::telemetry::pulse;

/// Bookmarks come about once a minute.
const SILENCE: Duration = Duration::from_secs(90);
const PAGE: u32 = 500;
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// What is watched, and who takes it in.
pub(super) trait Sink: Send + 'static {
    /// An object as the watch brings it: whole, or its metadata.
    type Object: DeserializeOwned + Clone + Send;

    /// The kind in words.
    fn kind(&self) -> String;
    /// The path of the collection.
    fn path(&self) -> &str;
    /// The label selector, if not all objects are meant.
    fn selector(&self) -> Option<&str>;
    /// Whether metadata is enough.
    fn metadata_only(&self) -> bool;
    /// A list begins: until it has ended, what is known is not complete.
    fn relisting(&mut self);
    /// An object that a list or an event shows.
    fn observe(&mut self, object: Self::Object);
    /// An object that is gone, or that the selector no longer matches.
    fn gone(&mut self, object: Self::Object);
    /// A list ended at this resourceVersion.
    fn listed(&mut self, at: ResourceVersion);
    /// An event or a bookmark delivered this resourceVersion.
    fn delivered(&mut self, version: ResourceVersion);
    /// The list that has begun is of an older state than what is known: versions can't be compared with those that are known, and the list holds.
    fn rewound(&mut self);
    /// The kind is not served at this path any more.
    fn unserved(&mut self, caller: &Caller) -> impl Future<Output = Result<Unserved, ClusterError>> + Send;
    /// It can't go on at the moment; it will try again.
    fn stuck(&mut self, trouble: &ClusterError);
    /// The object's `metadata.resourceVersion`.
    fn version_of(object: &Self::Object) -> Option<&str>;
}

/// What becomes of a watch whose path is not served any more.
pub(super) enum Unserved {
    /// It ends.
    Ended,
    /// It waits until it is served.
    Awaited,
    /// It goes on at another path.
    Moved,
}

/// How a watch ended.
enum End {
    /// It can be taken up again from here.
    Resume(String),
    /// The server no longer has the history from there on (410), or does not have it yet.
    Expired,
}

/// Keeps the sink up to date until the task is aborted.
pub(super) async fn run<S: Sink>(caller: Caller, mut sink: S) {
    let pulse = caller.telemetry().pulses.enter(format!("watch of {}", sink.kind()), pulse::BOUND);
    let (caller, metrics) = (caller.clone().with_pulse(pulse.clone()), caller.telemetry().metrics.clone());
    let mut from: Option<String> = None;
    let (mut seen, mut interrupted) = (0, false);
    let mut pause = SHORTEST_PAUSE;
    loop {
        let began = Instant::now();
        if let Some(version) = &from {
            seen = number(version);
        }
        let step = match &mut from {
            None => {
                pulse.step("listing");
                metrics.listing();
                list(&caller, &mut sink, seen).await
            }
            Some(version) => {
                pulse.step("following");
                follow_on(&caller, &mut sink, version, interrupted).await
            }
        };
        interrupted = step.is_err();
        match step {
            Ok(End::Resume(version)) => {
                if from.is_some() && began.elapsed() < Duration::from_secs(1) {
                    // A server that closes every stream at once must not be asked in a tight loop.
                    sleep(SHORTEST_PAUSE).await;
                }
                from = Some(version);
                pause = SHORTEST_PAUSE;
            }
            Ok(End::Expired) => {
                debug!(kind = sink.kind(), "watch expired, listing anew");
                sink.relisting();
                from = None;
                sleep(SHORTEST_PAUSE).await;
            }
            Err(mut error) => {
                if error.code() == 404 {
                    match sink.unserved(&caller).await {
                        Ok(Unserved::Ended) => return,
                        Ok(Unserved::Awaited) => {}
                        Ok(Unserved::Moved) => {
                            from = None;
                            sleep(SHORTEST_PAUSE).await;
                            continue;
                        }
                        Err(unknown) => error = unknown,
                    }
                }
                metrics.watch_failed();
                if pause >= Duration::from_secs(1) {
                    warn!(kind = sink.kind(), %error, "watch interrupted; trying again");
                }
                sink.stuck(&error);
                sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Follows from here, which it moves on; after an interruption only if the server has come as far.
async fn follow_on<S: Sink>(
    caller: &Caller,
    sink: &mut S,
    at: &mut String,
    interrupted: bool,
) -> Result<End, ClusterError> {
    if interrupted && is_behind(newest(caller, sink).await?, number(at)) {
        return Ok(End::Expired);
    }
    follow(caller, sink, at).await
}

/// The resourceVersion that the server is at; 0 if it does not say.
async fn newest<S: Sink>(caller: &Caller, sink: &S) -> Result<ResourceVersion, ClusterError> {
    let params =
        ListParams { limit: Some(1), label_selector: sink.selector().map(str::to_owned), ..ListParams::default() };
    let (request, kind) = (Paths::new(sink.path()).list_metadata(&params), sink.kind());
    let what = || format!("ask how far {kind} is");
    let list: ObjectList<PartialObjectMeta> = caller.call(&what, As::Plumb, request).await?;
    Ok(number(&list.metadata.resource_version.unwrap_or_default()))
}

/// Whether a server is behind what it has shown before; one that has no versions says nothing.
fn is_behind(now: ResourceVersion, seen: ResourceVersion) -> bool {
    (1..seen).contains(&now)
}

async fn list<S: Sink>(caller: &Caller, sink: &mut S, seen: ResourceVersion) -> Result<End, ClusterError> {
    sink.relisting();
    let mut params =
        ListParams { limit: Some(PAGE), label_selector: sink.selector().map(str::to_owned), ..ListParams::default() };
    loop {
        let paths = Paths::new(sink.path());
        let request = if sink.metadata_only() { paths.list_metadata(&params) } else { paths.list(&params) };
        let kind = sink.kind();
        let page: Result<ObjectList<S::Object>, _> = caller.call(&|| format!("list {kind}"), As::Plumb, request).await;
        let page = match page {
            Err(error) if error.code() == 410 => return Ok(End::Expired),
            other => other?,
        };
        let version = page.metadata.resource_version.unwrap_or_default();
        if params.continue_token.is_none() && is_behind(number(&version), seen) {
            warn!(
                kind,
                now = version,
                seen,
                "the API server is behind what it has shown before, as after a restored backup"
            );
            sink.rewound();
        }
        page.items.into_iter().for_each(|object| sink.observe(object));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => {
                sink.listed(number(&version));
                return Ok(End::Resume(version));
            }
        }
    }
}

fn watch_request<S: Sink>(sink: &S, from: &str) -> Result<Request<Vec<u8>>, request::Error> {
    // Spread out, so that the renewals of all kinds don't come at once.
    let seconds = rand::random_range(240..290);
    let params =
        WatchParams { label_selector: sink.selector().map(str::to_owned), ..WatchParams::default() }.timeout(seconds);
    let paths = Paths::new(sink.path());
    if sink.metadata_only() { paths.watch_metadata(&params, from) } else { paths.watch(&params, from) }
}

async fn follow<S: Sink>(caller: &Caller, sink: &mut S, at: &mut String) -> Result<End, ClusterError> {
    let kind = sink.kind();
    let what = || format!("watch {kind}");
    let request = watch_request(sink, at).map_err(|source| ClusterError::Unbuildable { what: what(), source })?;
    let silent = |_| ClusterError::TimedOut { what: what(), after: SILENCE };
    let opening = caller.client().request_events::<S::Object>(request);
    let opened = timeout(SILENCE, opening).await;
    caller.telemetry().metrics.watch(answer_of(&opened, |_| 200));
    let stream = match opened.map_err(silent)? {
        Ok(stream) => stream,
        Err(kube::Error::Api(status)) if status.code == 410 => return Ok(End::Expired),
        Err(kube::Error::Api(status)) => return Err(ClusterError::Refused { what: what(), status }),
        Err(source) => return Err(ClusterError::Unreachable { what: what(), source }),
    };
    let mut stream = std::pin::pin!(stream);
    loop {
        let event = match timeout(SILENCE, stream.try_next()).await.map_err(silent)? {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(End::Resume(at.clone())),
            Err(error) => {
                debug!(kind, %error, "watch stream broke, resuming");
                return Ok(End::Resume(at.clone()));
            }
        };
        let version = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let version = S::version_of(&object).unwrap_or_default().to_owned();
                sink.observe(object);
                version
            }
            WatchEvent::Deleted(object) => {
                let version = S::version_of(&object).unwrap_or_default().to_owned();
                sink.gone(object);
                version
            }
            WatchEvent::Bookmark(bookmark) => bookmark.metadata.resource_version,
            WatchEvent::Error(status) if status.code == 410 => return Ok(End::Expired),
            WatchEvent::Error(status) => return Err(ClusterError::Refused { what: what(), status }),
        };
        caller.pulse().beat();
        sink.delivered(number(&version));
        *at = version;
    }
}

fn number(version: &str) -> ResourceVersion {
    version.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests;
