//! The git repository: which commits are at the heads of its branches, and what they hold.
//!
//! [`watch`] says what the heads are, for a repository on disk or a remote one (kept as a bare mirror on disk). [`Store`] and
//! [`Snapshot`] read commits and files from the object database; nothing is ever checked out. [`Draft`] writes commits.

pub mod context;
mod error;
mod heads;
mod layout;
mod look;
mod remote;
mod settings;
mod snapshot;
mod store;
mod url;
mod watch;
mod write;

#[cfg(test)]
pub(crate) mod tests;

pub use error::SourceError;
pub use heads::Heads;
pub use layout::Trust;
pub use look::look;
pub use remote::RemoteError;
pub use settings::{Credentials, SecretSource, SourceSettings};
pub use snapshot::{BLOB_LIMIT, Entry, EntryKind, Snapshot, is_lfs_pointer};
pub use store::Store;
pub use url::{RemoteUrl, RepositoryUrl, Scheme, UrlError};
pub use watch::{SourceState, watch};
pub use write::{Arrival, Draft, DraftCommit, Promotion, Reverted, WriteError};
