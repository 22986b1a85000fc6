//! The builders: from an image's sources to an image where the node finds it.
//!
//! [`Builder`] is what the rest of plumb sees. [`BuildKit`] builds in a buildkitd, for a containerd node; [`Docker`] in a dockerd; [`Registry`] pushes;
//! [`Remote`] has a pod do it that holds the daemon's socket. [`queue`] builds what is missing of a commit's images. Contexts are streamed and never held whole.

pub mod buildkit;
pub mod containerd;
pub mod docker;
pub mod endpoint;
pub mod error;
pub mod queue;
pub mod reference;
pub mod registry;
pub mod remote;
pub mod rename;

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::Sender;

pub use buildkit::BuildKit;
pub use docker::Docker;
pub use endpoint::{Address, Endpoint};
pub use error::BuildError;
pub use registry::{Credentials, Registry};
pub use remote::Remote;

use crate::build::collect::Standing;

/// The label that every image of plumb bears; its value is the image's name with its tag. Garbage collection looks at nothing without it.
pub const LABEL: &str = "dev.plumb.image";

/// The longest that one build may take, if nothing else is set.
pub const TIME_LIMIT: Duration = Duration::from_secs(30 * 60);

/// The context of a build: a tar, chunk by chunk. It is read once.
pub type Context = Pin<Box<dyn Stream<Item = Result<Bytes, std::io::Error>> + Send>>;

/// What a builder needs to know of one image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BuildOrder {
    /// Name and tag, such as `todo-backend:3f2a…` or `registry:5000/x:…`.
    pub reference: String,
    /// The Dockerfile's path within the context.
    pub dockerfile: String,
    /// Its text, if the context is without it: what `.dockerignore` leaves out is in no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignored_dockerfile: Option<String>,
    /// The stage to build; the last one if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Build arguments. They stay in the image's history: never secrets.
    #[serde(default)]
    pub args: BTreeMap<String, String>,
    /// Such as `linux/amd64`; the builder's own if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Labels of the image, besides [`LABEL`].
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Names of images of this repository that `FROM` and `COPY --from` use, and what they are built as. They must stand already.
    #[serde(default)]
    pub bases: BTreeMap<String, String>,
}

/// What is told of a build while it runs. Text is cleaned of what looks like a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Progress {
    /// A step began, such as `[build 2/3] RUN make`.
    Step(String),
    /// A step's result was there already, and it did not run.
    Cached(String),
    /// A line that a step printed.
    Line {
        /// The step's name; empty if the builder does not say.
        step: String,
        /// The line, without its end.
        text: String,
    },
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(name) => f.write_str(name),
            Self::Cached(name) => write!(f, "{name} (cached)"),
            Self::Line { text, .. } => f.write_str(text),
        }
    }
}

/// An image that was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Built {
    /// The digest of its manifest, if the builder tells it. A pushed image is pinned by it.
    pub digest: Option<String>,
}

/// An image of plumb's that stands at the builder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// Its full name, as the store has it.
    pub reference: String,
    /// When it came there; seconds since 1970.
    pub created: i64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How many bytes it is made of, as the builder counts them. Other images may share some.
    #[serde(default)]
    pub size: u64,
}

impl Stored {
    /// What decides whether it may go.
    pub fn standing(&self) -> Standing {
        let built_as = self.labels.get(LABEL).cloned();
        Standing { reference: self.reference.clone(), built_as, created: self.created }
    }
}

/// What `imagePullPolicy` containers need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// The image stands in the node's own store and nowhere else.
    Never,
    /// The image stands in a registry, under a tag that never moves.
    IfNotPresent,
}

impl PullPolicy {
    /// The word that a container's `imagePullPolicy` takes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Never => "Never",
            Self::IfNotPresent => "IfNotPresent",
        }
    }
}

/// Builds images, and knows which ones stand where workloads find them.
#[async_trait]
pub trait Builder: Send + Sync {
    /// Which of these references stand where the workloads' node finds them, in the order of the question. An image with a part missing does not stand.
    async fn present(&self, references: &[String]) -> Result<Vec<bool>, BuildError>;

    /// The digests by which workloads are to ask for these images, where they are pulled from a registry: a tag there may be moved by others. `None` is
    /// an image that does not stand. A builder whose images nodes have already has none to give.
    async fn digests(&self, references: &[String]) -> Result<Vec<Option<String>>, BuildError> {
        Ok(vec![None; references.len()])
    }

    /// Builds one image. Progress goes to `log` as it comes: whoever holds the other end must read it, or drop it. Dropping the future cancels the
    /// build at the builder.
    async fn build(&self, order: &BuildOrder, context: Context, log: Sender<Progress>) -> Result<Built, BuildError>;

    /// Every image that bears [`LABEL`], under each of its names.
    async fn images(&self) -> Result<Vec<Stored>, BuildError>;

    /// Removes one name of an image; its content goes when no other name has it. A name that is not there is no error; one that a container
    /// has may be refused ([`BuildError::InUse`]).
    async fn remove(&self, reference: &str) -> Result<(), BuildError>;

    /// What containers with these images need.
    fn pull_policy(&self) -> PullPolicy;
}
