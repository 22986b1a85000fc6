//! The git repository: which commits are at the heads of its branches, and what they hold.
//!
//! [`watch`] says what the heads are, for a repository on disk or a remote one (kept as a bare mirror on disk). [`Store`] and
//! [`Snapshot`] read commits and files from the object database; nothing is ever checked out.

mod error;
mod heads;
mod layout;
mod settings;
mod snapshot;
mod store;
mod watch;

#[cfg(test)]
mod tests;

pub use error::SourceError;
pub use heads::Heads;
pub use layout::Trust;
pub use settings::{RepositoryUrl, SourceSettings};
pub use snapshot::{BLOB_LIMIT, Entry, EntryKind, Snapshot};
pub use store::Store;
pub use watch::{SourceState, watch};
