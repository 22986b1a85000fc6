//! Images are built by real daemons: a buildkitd and a containerd in namespaces of their own. That needs root; whom [`pod`] lets in does not.
//!
//! There is no registry to pull from. What runs in a build is the machine's own shell, in an image that [`daemons::shell`] builds.

mod buildkit;
mod daemons;
mod docker;
mod failures;
mod memory;
pub mod pod;
mod registry;
mod trouble;
