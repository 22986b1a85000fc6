//! The nouns of plumb, without any I/O: what a user writes, what git holds, what a cluster holds, how a deployment ends.
//!
//! Every other room speaks in these types, so a rule that a type can hold (a validated name, masked secret data, an object
//! that knows the file it came from) is held here, once.

pub mod applyset;
pub mod commit;
pub mod configuration;
pub mod environment;
pub mod field_path;
pub mod fields;
pub mod health;
pub mod images;
pub mod key;
pub mod kinds;
pub mod live;
pub mod manifest;
pub mod marks;
pub mod mask;
pub mod outcome;
pub mod path;
pub mod scrub;
pub mod secret;

pub use commit::{Commit, CommitId};
pub use configuration::Configuration;
pub use environment::{Environment, EnvironmentSpec};
pub use field_path::FieldPath;
pub use health::Health;
pub use key::{GroupKind, ObjectKey};
pub use kinds::Kinds;
pub use live::Live;
pub use manifest::{Desired, Digest, LeftAlone, Manifest, Origin, Reads};
pub use outcome::{Deployment, Failure, Outcome, Stage};
