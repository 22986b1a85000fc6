//! The system's events on directories, boiled down to one thing: look again. What an event says is never believed beyond that.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, RemoveKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::survey::{Interest, Wanted};

/// Watches a set of directories, each by itself: a new directory is watched before it is listed, so nothing in it is missed.
/// (A recursive watch of a crate is added after the event of the new directory, when a ref may be in it already.)
pub(super) struct Events {
    watcher: RecommendedWatcher,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// What is watched.
    wanted: Mutex<Wanted>,
    /// A directory came, went or was replaced, or events were lost: the watches may be on directories that are no more.
    stale: AtomicBool,
    /// Keeps one permit, so any number of events before the next look are one.
    wake: Notify,
}

impl Events {
    /// Starts with nothing watched.
    pub fn start() -> notify::Result<Self> {
        let shared = Arc::new(Shared::default());
        let heard = shared.clone();
        let watcher = notify::recommended_watcher(move |event| heard.hear(event))?;
        Ok(Self { watcher, shared })
    }

    /// Watches exactly these directories. True if a watch was added: what happened before it was not heard, so look again.
    pub fn cover(&mut self, wanted: &Wanted) -> notify::Result<bool> {
        let stale = self.shared.stale.swap(false, Ordering::AcqRel);
        let before = std::mem::replace(&mut *self.shared.wanted(), wanted.clone());
        for gone in before.keys().filter(|directory| !wanted.contains_key(*directory)) {
            // Fails if the directory itself is gone, and its watch with it.
            let _ = self.watcher.unwatch(gone);
        }
        let mut added = false;
        for directory in wanted.keys().filter(|directory| stale || !before.contains_key(*directory)) {
            match self.watcher.watch(directory, RecursiveMode::NonRecursive) {
                Ok(()) => added = true,
                // Gone since it was seen; its parent is watched.
                Err(error) if is_not_found(&error) => {
                    self.shared.stale.store(true, Ordering::Release);
                }
                Err(error) => {
                    self.shared.stale.store(true, Ordering::Release);
                    return Err(error);
                }
            }
        }
        Ok(added)
    }

    /// Resolves after the next event that matters; at once if there was one since the last call.
    pub async fn next(&self) {
        self.shared.wake.notified().await;
    }
}

fn is_not_found(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound | notify::ErrorKind::WatchNotFound => true,
        notify::ErrorKind::Io(io) => io.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

impl Shared {
    fn wanted(&self) -> std::sync::MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, event: notify::Result<Event>) {
        let event = match event {
            Ok(event) if !event.need_rescan() => event,
            _ => {
                self.stale.store(true, Ordering::Release);
                return self.wake.notify_one();
            }
        };
        // Our own reading opens files.
        if matches!(event.kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write)) {
            return;
        }
        let wanted = self.wanted();
        let replaced = event.paths.iter().any(|path| wanted.contains_key(path));
        let directory =
            matches!(event.kind, EventKind::Create(CreateKind::Folder) | EventKind::Remove(RemoveKind::Folder));
        if !replaced && !event.paths.iter().any(|path| matters(&wanted, path)) {
            return;
        }
        if replaced || directory {
            self.stale.store(true, Ordering::Release);
        }
        self.wake.notify_one();
    }
}

fn matters(wanted: &Wanted, path: &Path) -> bool {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return false };
    match wanted.get(directory) {
        // A lock is not news; the rename that ends it is.
        Some(Interest::Everything) => path.extension().is_none_or(|extension| extension != "lock"),
        Some(Interest::Names(names)) => names.iter().any(|wanted| wanted == name),
        None => false,
    }
}
