//! A remote repository, kept as a bare mirror on disk that is read like a local one.
//!
//! The `git` program does the transport, libgit2 the reading. libgit2's own transport was left out for reasons: its time limits and
//! its CA file are process-wide settings behind `unsafe`, a call that hangs cannot be ended, and a fetch moves refs one by one.
//! A child process is killed at its time limit, has its own settings, and `git fetch --atomic` moves all refs or none.

mod backoff;
mod child;
mod connection;
mod error;
mod mirror;
pub(super) mod push;

use super::watch::Publisher;
use super::{Heads, RemoteUrl, SourceError, SourceSettings, Store};
use crate::telemetry::Pulse;
use backoff::Backoff;
pub use error::RemoteError;
use mirror::Mirror;

/// Fetches once.
pub(super) async fn look(url: &RemoteUrl, settings: &SourceSettings) -> Result<(Heads, Store), SourceError> {
    let mut mirror = Mirror::new(url.clone(), settings.clone(), Pulse::default());
    let synced = mirror.sync().await;
    let (heads, store, fetched) =
        synced.map_err(|source| SourceError::Remote { url: url.to_string(), source: Box::new(source) })?;
    if fetched {
        mirror.tidy().await;
    }
    Ok((heads, store))
}

/// Fetches until dropped, which also ends a fetch that runs.
pub(super) async fn run(url: RemoteUrl, settings: &SourceSettings, publisher: &Publisher) {
    let mut backoff = Backoff::new(settings.interval, settings.longest_delay);
    let mut mirror = Mirror::new(url.clone(), settings.clone(), publisher.pulse.clone());
    loop {
        match mirror.sync().await {
            Ok((heads, store, fetched)) => {
                publisher.ready(heads, store);
                backoff.succeeded();
                if fetched {
                    mirror.tidy().await;
                }
            }
            Err(source) => {
                backoff.failed();
                let known = publisher.last().or_else(|| mirror.known());
                publisher.failing(&SourceError::Remote { url: url.to_string(), source: Box::new(source) }, known);
            }
        }
        publisher.pulse.idle("waiting to ask the remote again", tokio::time::sleep(backoff.delay())).await;
    }
}
