//! A repository on this machine: look, publish, and sleep until an event or the poll.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Publisher;
use super::events::Events;
use super::filesystem::must_be_polled;
use super::survey::{Survey, Wanted, survey};
use crate::source::error::one_line;
use crate::source::{Heads, SourceError, SourceSettings, Trust};

const INTERVAL: Duration = Duration::from_secs(3);
/// A look takes milliseconds. After this long the file system (NFS, mostly) is said to hang; the look goes on.
const SLOW: Duration = Duration::from_secs(30);
/// Each round finds directories that were made since the one before. More rounds than this in a row, and the poll sees to the rest.
const ROUNDS: usize = 16;

/// Never returns; ended by being dropped.
pub(super) async fn run(path: PathBuf, settings: &SourceSettings, publisher: &Publisher) {
    let path = std::path::absolute(&path).unwrap_or(path);
    let interval = settings.interval.unwrap_or(INTERVAL);
    let mut listener = Listener::default();
    loop {
        for _ in 0..ROUNDS {
            let previous = publisher.last().map(|(heads, _)| heads);
            let Some(look) = look(&path, &settings.trust, previous, publisher).await else { break };
            match look.outcome {
                Ok((heads, store)) => publisher.ready(heads, store),
                Err(error) => publisher.error(&error),
            }
            if !listener.cover(&path, &look.wanted) {
                break;
            }
        }
        // A time-out is the poll.
        let _ = publisher.pulse.idle("waiting for a push", tokio::time::timeout(interval, listener.next())).await;
    }
}

/// One look, off the runtime's threads. Nothing if it died.
async fn look(path: &Path, trust: &Trust, previous: Option<Arc<Heads>>, publisher: &Publisher) -> Option<Survey> {
    publisher.pulse.step("looking at the branches");
    let (at, trust) = (path.to_owned(), trust.clone());
    let mut look = tokio::task::spawn_blocking(move || survey(&at, &trust, previous.as_deref()));
    let done = match tokio::time::timeout(SLOW, &mut look).await {
        Ok(done) => done,
        Err(_) => {
            publisher.error(&SourceError::Hangs { path: path.to_owned(), seconds: SLOW.as_secs() });
            // The file system's fault, and told: a restart of plumb would not make it answer.
            publisher.pulse.idle("waiting for a file system that hangs", look).await
        }
    };
    done.inspect_err(|error| tracing::error!(repository = %path.display(), %error, "a look at the repository died"))
        .ok()
}

/// The events of the system, where there are any.
#[derive(Default)]
struct Listener {
    events: Option<Events>,
    /// Why there are no events, as it was logged.
    polled: Option<String>,
}

impl Listener {
    /// Listens to these directories. True if something new is listened to: look again.
    fn cover(&mut self, path: &Path, wanted: &Wanted) -> bool {
        let polled = wanted.keys().find_map(|directory| must_be_polled(directory));
        if let Some(name) = polled {
            self.poll_alone(path, format!("{name} tells nothing of what other machines write"));
            return false;
        }
        match self.try_cover(wanted) {
            Ok(added) => {
                if self.polled.take().is_some() {
                    tracing::info!(repository = %path.display(), "the file system's events are heard");
                }
                added
            }
            Err(error) => {
                self.poll_alone(path, one_line(&error));
                false
            }
        }
    }

    fn try_cover(&mut self, wanted: &Wanted) -> notify::Result<bool> {
        match &mut self.events {
            Some(events) => events.cover(wanted),
            none => none.insert(Events::start()?).cover(wanted),
        }
    }

    fn poll_alone(&mut self, path: &Path, reason: String) {
        self.events = None;
        if self.polled.as_ref() != Some(&reason) {
            tracing::info!(repository = %path.display(), reason, "polling alone, without the file system's events");
            self.polled = Some(reason);
        }
    }

    async fn next(&self) {
        match &self.events {
            Some(events) => events.next().await,
            None => std::future::pending().await,
        }
    }
}
