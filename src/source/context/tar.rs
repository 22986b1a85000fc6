//! A context as a tar: the same bytes for the same content, made while they are read.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use tokio::sync::mpsc;

use super::{Context, ContextError, join};
use crate::build::tag::{Entry, Mode};
use crate::model::CommitId;
use crate::source::{Snapshot, Store};

/// The size of the pieces, and how many wait for a reader at most.
pub const CHUNK: usize = 64 * 1024;
const WAITING: usize = 8;
/// Files above so many bytes are held by one context at a time, of all that are streamed at once.
const LARGE: u64 = 4 << 20;
static HOLDS_LARGE: Mutex<()> = Mutex::new(());
/// 1980, the first year that zip knows: some programs refuse files that are older.
const TIME: u64 = 315_532_800;

/// The files of a context as a tar: sorted, owned by root, modes 0644 and 0755, one constant time.
///
/// They are what was listed and no more: a Dockerfile that `.dockerignore` leaves out is not in it ([`Context::ignored_dockerfile`]). A blocking thread reads one file at a time, at most `limit`
/// bytes, and waits while nobody reads or another context holds a large file; it ends when the stream is dropped. Everything is looked at before the first
/// byte ([`Context::check`]), so what is refused is refused at once. To be called within a runtime.
pub fn stream(
    store: Store,
    commit: CommitId,
    context: Context,
    limit: u64,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let mut out = Chunks { sender: sender.clone(), chunk: BytesMut::new() };
        let written = write(&store, commit, &context, limit, &mut out).and_then(|()| out.flush());
        if let Err(error) = written {
            let _ = sender.blocking_send(Err(error)); // Nobody reads any more: nobody is told.
        }
    });
    futures::stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|piece| (piece, receiver)) })
}

/// What cannot be built, in the words of the context's own error.
fn refused(error: impl Into<ContextError>) -> io::Error {
    io::Error::other(error.into())
}

fn write(store: &Store, commit: CommitId, context: &Context, limit: u64, out: &mut Chunks) -> io::Result<()> {
    let snapshot = store.at(commit).map_err(refused)?;
    let entries = context.entries(&snapshot).map_err(refused)?;
    context.check(&snapshot, &entries, limit).map_err(refused)?;
    let mut sorted: BTreeMap<&str, Option<&Entry>> = BTreeMap::new();
    for entry in &entries {
        let parents = entry.path.match_indices('/').filter_map(|(at, _)| entry.path.get(..at));
        sorted.extend(parents.map(|parent| (parent, None)));
        sorted.insert(&entry.path, Some(entry));
    }
    if sorted.is_empty() {
        // Zeros alone are an archive to nobody: BuildKit would take them for the Dockerfile.
        sorted.insert(".", None);
    }
    let mut tar = tar::Builder::new(out);
    for (path, entry) in sorted {
        append(&mut tar, &snapshot, context, path, entry)?;
    }
    tar.finish()
}

fn append(
    tar: &mut tar::Builder<&mut Chunks>,
    snapshot: &Snapshot,
    context: &Context,
    path: &str,
    entry: Option<&Entry>,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mtime(TIME);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    let Some(entry) = entry else {
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        return tar.append_data(&mut header, format!("{path}/"), io::empty());
    };
    let file = join(&context.path, path);
    let is_large = snapshot.size(&file, entry.id).map_err(refused)? > LARGE;
    let _alone = is_large.then(|| HOLDS_LARGE.lock().unwrap_or_else(PoisonError::into_inner));
    let blob = snapshot.whole(&file, entry.id).map_err(refused)?;
    if entry.mode == Mode::Symlink {
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        let target = std::str::from_utf8(blob.content()).map_err(io::Error::other)?;
        return tar.append_link(&mut header, path, target);
    }
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(if entry.mode == Mode::Executable { 0o755 } else { 0o644 });
    header.set_size(blob.content().len() as u64);
    tar.append_data(&mut header, path, blob.content())
}

/// Sends what is written in pieces; waits while nobody takes them.
struct Chunks {
    sender: mpsc::Sender<io::Result<Bytes>>,
    chunk: BytesMut,
}

impl Chunks {
    fn send(&mut self) -> io::Result<()> {
        let chunk = self.chunk.split().freeze();
        self.sender.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(bytes.get(..count).unwrap_or_default());
        if self.chunk.len() >= CHUNK {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() { Ok(()) } else { self.send() }
    }
}
