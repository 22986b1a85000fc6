//! What can go wrong between plumb and an API server.

use std::time::Duration;

use kube::core::Status;

/// A request that did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No way to the cluster could be found.
    #[error("no cluster to talk to: {0}; give --kubeconfig, set KUBECONFIG, or run plumb in a pod")]
    NoConfig(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The API server answered with an error.
    #[error("{what}: {}", said(.status))]
    Refused {
        /// What was asked, such as `apply Deployment/todo-dev/todo-backend`.
        what: String,
        /// The server's answer.
        status: Box<Status>,
    },
    /// No answer in time.
    #[error("{what}: no answer from the API server within {}", humantime::format_duration(*.after))]
    TimedOut {
        /// What was asked.
        what: String,
        /// The time limit.
        after: Duration,
    },
    /// The API server could not be reached, or the connection broke.
    #[error("{what}: the API server can't be reached: {}", innermost(.source))]
    Unreachable {
        /// What was asked.
        what: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// The answer was not what the API promises.
    #[error("{what}: the answer could not be read: {source}")]
    Unreadable {
        /// What was asked.
        what: String,
        /// Why; without the answer's text, which may hold secret data.
        #[source]
        source: serde_json::Error,
    },
    /// A request could not be built: a name that is no path segment, an option pair the API rules out.
    #[error("{what}: {source}")]
    Unbuildable {
        /// What was asked.
        what: String,
        /// Why.
        #[source]
        source: kube::core::request::Error,
    },
    /// A service account without a name would be plumb's own rights (kube sends an empty Impersonate-User): no request was sent.
    #[error("{what}: the service account to act as is blank; no request was sent")]
    BlankImpersonation {
        /// What was asked.
        what: String,
    },
    /// Another plumb has the environment.
    #[error(
        "the environment is held by another plumb, {holder:?}; stop that one, or run this one with --take-over (or --instance {holder:?} if it is the same installation)"
    )]
    HeldBy {
        /// The instance named in `plumb.dev/instance`.
        holder: String,
    },
    /// Another run of this installation has the environment now.
    #[error("another plumb has taken the environment over; this one stops writing to it")]
    TakenOver,
    /// The Environment's spec is changed as soon as it is put back.
    #[error("the Environment's spec is changed again as soon as it is put back; a webhook or another writer is at it")]
    Contested,
    /// The custom resource definition is not installed.
    #[error(
        "the API server has no environments.plumb.dev; install the definition with `plumb init --crd | kubectl apply --server-side -f -`"
    )]
    NoCrd,
    /// The kind of an object is not served (any more).
    #[error("the API server does not serve {kind} in version {version}")]
    NotServed {
        /// The kind.
        kind: String,
        /// The version.
        version: String,
    },
    /// A `fieldsV1` that is not of its form.
    #[error("the recorded field ownership can't be read: {0}")]
    Ownership(#[from] crate::drift::fields::FieldsError),
    /// A watch did not deliver what was waited for.
    #[error("the inventory of {what} is not complete within {}", humantime::format_duration(*.after))]
    Incomplete {
        /// The kinds.
        what: String,
        /// The time limit.
        after: Duration,
    },
}

fn said(status: &Status) -> String {
    let reason = if status.reason.is_empty() { status.code.to_string() } else { status.reason.clone() };
    if status.message.is_empty() { reason } else { format!("{} ({reason})", status.message) }
}

/// The last error of a chain: hyper's and rustls's outer layers say little ("client error (Connect)").
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

impl ClusterError {
    /// The server's answer, if it gave one.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Refused { status, .. } => Some(status),
            _ => None,
        }
    }

    /// The HTTP status code of the server's answer, 0 without one.
    pub fn code(&self) -> u16 {
        self.status().map_or(0, |status| status.code)
    }

    /// Whether trying again later may help without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            // A server-side apply that it can't merge answers 500 for ever; a webhook or etcd that is away does not.
            Self::Refused { status, .. } if status.code == 500 => {
                status.message.contains("failed calling webhook") || status.message.contains("etcdserver:")
            }
            Self::Refused { status, .. } => matches!(status.code, 401 | 403 | 404 | 409 | 429 | 502 | 503 | 504),
            Self::TimedOut { .. } | Self::Unreachable { .. } | Self::Incomplete { .. } | Self::NoCrd => true,
            Self::HeldBy { .. }
            | Self::TakenOver
            | Self::Contested
            | Self::Unreadable { .. }
            | Self::NotServed { .. } => true,
            Self::NoConfig(_) | Self::Ownership(_) | Self::Unbuildable { .. } | Self::BlankImpersonation { .. } => {
                false
            }
        }
    }
}
