//! What can go wrong between plumb and an API server.

use std::time::Duration;

use kube::core::Status;

/// How the API server begins to say that it can't merge what is applied (apimachinery `util/managedfields/internal`: `structuredmerge.go` and
/// `skipnonapplied.go`; structured-merge-diff `merge/update.go`). What a conversion webhook has to do with begins so too.
const UNMERGEABLE: [&str; 8] = [
    "failed to create typed ",
    "failed to create manager for existing fields",
    "failed to convert ",
    "failed to update ManagedFields",
    "failed to merge config",
    "failed to get field set",
    "failed to prune fields",
    "failed to compare objects",
];

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
    /// An object was deleted to be replaced, and somebody else has taken its name.
    #[error("{object} was deleted to be made anew, and somebody else has made one of that name meanwhile")]
    MadeAgain {
        /// The object.
        object: String,
    },
    /// The custom resource definition is not installed.
    #[error(
        "the API server has no environments.plumb.dev; install the definition with `plumb init --crd | kubectl apply --server-side -f -`"
    )]
    NoCrd,
    /// The installed custom resource definition is another version's, without a field that this plumb writes.
    #[error(
        "the definition of environments.plumb.dev in the cluster is that of another version of plumb ({said}); install this one's with `plumb init --crd | kubectl apply --server-side -f -`"
    )]
    OtherCrd {
        /// The server's answer.
        said: String,
    },
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

    /// Whether the server answers so, with 500, because it can't merge the object: for ever, until somebody changes it.
    pub fn is_unmergeable(&self) -> bool {
        let Some(status) = self.status().filter(|status| status.code == 500) else { return false };
        let merging = UNMERGEABLE.iter().any(|beginning| status.message.starts_with(beginning));
        merging && !status.message.contains("webhook")
    }

    /// Whether trying again later may help without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            // Any other 500 is a trouble of the server or of what it asks: etcd, a webhook, the quota. Nobody can list those.
            Self::Refused { status, .. } if status.code == 500 => !self.is_unmergeable(),
            Self::Refused { status, .. } => matches!(status.code, 401 | 403 | 404 | 409 | 429 | 502 | 503 | 504),
            Self::TimedOut { .. }
            | Self::Unreachable { .. }
            | Self::Incomplete { .. }
            | Self::NoCrd
            | Self::OtherCrd { .. } => true,
            Self::HeldBy { .. }
            | Self::TakenOver
            | Self::Contested
            | Self::MadeAgain { .. }
            | Self::Unreadable { .. }
            | Self::NotServed { .. } => true,
            Self::NoConfig(_) | Self::Ownership(_) | Self::Unbuildable { .. } | Self::BlankImpersonation { .. } => {
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(message: &str) -> ClusterError {
        let status = Box::new(Status { code: 500, message: message.to_owned(), ..Status::default() });
        ClusterError::Refused { what: "apply ConfigMap/n/a".to_owned(), status }
    }

    #[test]
    fn of_what_is_answered_with_500_only_what_cannot_be_merged_lasts() {
        for message in [
            // A key given twice, in git and in the cluster; a value of another type; an entry of a version that is gone.
            r#"failed to create typed patch object (n/web; apps/v1, Kind=Deployment): errors:\n  .spec.template.spec.containers[name="web"].env: duplicate entries for key [name="A"]"#,
            "failed to create typed patch object (n/a; /v1, Kind=ConfigMap): .data.a: expected string, got &value.valueUnstructured{Value:1}",
            r#"failed to create manager for existing fields: failed to convert new object (n/a; /v1, Kind=Service) to smd typed: .spec.ports: duplicate entries for key [port=80,protocol="TCP"]"#,
            "failed to prune fields: failed add back owned items: failed to convert pruned object at version example.org/v1alpha1: request to convert CR to an invalid group/version: example.org/v1alpha1",
        ] {
            assert!(!answer(message).is_transient(), "{message}");
        }
        for message in [
            r#"Internal error occurred: failed calling webhook "v.example.org": failed to call webhook: Post "https://v": dial tcp: refused"#,
            "etcdserver: leader changed",
            "rpc error: code = Unavailable desc = transport is closing",
            "rpc error: code = Unavailable desc = error reading from server: EOF",
            "context deadline exceeded",
            "conversion webhook for example.org/v1, Kind=Widget failed: Post \"https://c\": context deadline exceeded",
            "failed to convert live object (n/w; example.org/v1, Kind=Widget) to proper version: conversion webhook for example.org/v1, Kind=Widget failed: EOF",
            "Internal error occurred: resource quota evaluation timed out",
            "",
        ] {
            assert!(answer(message).is_transient(), "{message}");
        }
    }
}
