//! The git repository: which commits are at the heads of its branches, and what they hold.
//!
//! [`watch`] says what the heads are, for a repository on disk or a remote one (kept as a bare mirror on disk). [`Store`] and
//! [`Snapshot`] read commits and files from the object database; nothing is ever checked out.

mod error;
mod heads;
mod layout;
mod remote;
mod settings;
mod snapshot;
mod store;
mod url;
mod watch;

#[cfg(test)]
mod tests;

pub use error::SourceError;
pub use heads::Heads;
pub use layout::Trust;
pub use remote::RemoteError;
pub use settings::{Credentials, SecretSource, SourceSettings};
pub use snapshot::{BLOB_LIMIT, Entry, EntryKind, Snapshot};
pub use store::Store;
pub use url::{RemoteUrl, RepositoryUrl, Scheme, UrlError};
pub use watch::{SourceState, watch};
