//! Why an image could not be built, or not be asked for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::source::SourceError;
use crate::source::context::ContextError;

/// A failure says what went wrong, where, and by its `hint` what to do. Text of others in it has been cleaned of what looks like a credential.
/// It goes from the builder's pod to the reconciler as it is.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BuildError {
    /// Nobody answers at the builder's address.
    #[error("the image builder at {endpoint} is away: {reason}")]
    Away {
        /// The address.
        endpoint: String,
        /// What the system said.
        reason: String,
    },
    /// The address is none.
    #[error(
        "{0:?} is no address of an image builder: it is unix:///path/to/socket, tcp://host:port, or http://host:port of plumb's own builder"
    )]
    BadEndpoint(String),
    /// A dockerd is to push.
    #[error(
        "a dockerd pushes no images for plumb: let --builder be a buildkitd (unix:// or tcp://), or leave --push out"
    )]
    DockerPushesNot,
    /// The socket may not be opened.
    #[error("plumb may not open {endpoint}")]
    Denied {
        /// The address.
        endpoint: String,
    },
    /// The builder's pod does not take our token, or there is none to show.
    #[error("the image builder at {endpoint} does not take plumb's requests: {reason}")]
    Unauthorized {
        /// The address.
        endpoint: String,
        /// What it said, or what is wrong with the token's file.
        reason: String,
    },
    /// The context could not be read to its end.
    #[error("the build context could not be read: {0}")]
    Context(
        #[source]
        #[serde(with = "as_text")]
        std::io::Error,
    ),
    /// Images that are each other's base.
    #[error("it is built from another image of the commit, which is built from it")]
    BasesInACircle,
    /// The context has no such Dockerfile.
    #[error("there is no {0} in the build context")]
    NoDockerfile(String),
    /// The Dockerfile cannot be read.
    #[error("{file}{}: {reason}", in_line(*.line))]
    Dockerfile {
        /// Its path within the context.
        file: String,
        /// The line, from 1.
        line: Option<u32>,
        /// What is wrong there.
        reason: String,
    },
    /// The Dockerfile has no such stage.
    #[error("{file} has no stage {target:?}")]
    UnknownTarget {
        /// The Dockerfile.
        file: String,
        /// The stage that was asked for.
        target: String,
    },
    /// An image that the Dockerfile starts from is nowhere to be had.
    #[error("{file}{}: the base image {image} cannot be had: {reason}", in_line(*.line))]
    UnknownBase {
        /// The Dockerfile.
        file: String,
        /// The line of its FROM.
        line: Option<u32>,
        /// The image, in full.
        image: String,
        /// What the builder or the registry said.
        reason: String,
        /// Whether the registry could not be asked; otherwise it has no such image, or none for us.
        transient: bool,
    },
    /// A step of the Dockerfile failed.
    #[error("{file}{}: the step {step:?} failed: {reason}{}", in_line(*.line), tail(.log))]
    Step {
        /// The Dockerfile.
        file: String,
        /// The step's line; BuildKit loses it behind a base of this repository.
        line: Option<u32>,
        /// The step, such as `[build 2/3] RUN make`.
        step: String,
        /// Such as "exit code 2".
        reason: String,
        /// The last lines that it printed.
        log: Vec<String>,
    },
    /// It took too long, and was cancelled.
    #[error("the build was cancelled after {}{}{}", humantime::format_duration(*.limit), at(.step.as_ref()), tail(.log))]
    TimeLimit {
        /// The limit.
        limit: Duration,
        /// The step that ran.
        step: Option<String>,
        /// The last lines that it printed.
        log: Vec<String>,
    },
    /// The builder has no room.
    #[error("no space is left where {endpoint} builds: {reason}")]
    DiskFull {
        /// The builder's address.
        endpoint: String,
        /// What it said.
        reason: String,
    },
    /// The registry refused, or failed.
    #[error("the registry {registry} {}: {reason}", code(*.status))]
    Registry {
        /// Host and port.
        registry: String,
        /// The HTTP status, if there was an answer.
        status: Option<u16>,
        /// What was said.
        reason: String,
    },
    /// Removal of what a container was made from.
    #[error("{0} is in use: a container was made from it")]
    InUse(String),
    /// Removal from a registry.
    #[error("plumb removes nothing from a registry: {0} is for the registry to collect")]
    KeptByRegistry(String),
    /// The text is no Docker configuration with credentials.
    #[error("the registry credentials are no Docker configuration (config.json with auths)")]
    BadCredentials,
    /// The file with the logins can't be read.
    #[error("the logins of registries, {}, can't be read: {reason}", file.display())]
    NoCredentials {
        /// The file.
        file: std::path::PathBuf,
        /// Why not.
        reason: String,
    },
    /// Anything else that the builder says.
    #[error("the image builder at {endpoint} says: {reason}")]
    Builder {
        /// Its address.
        endpoint: String,
        /// Its words.
        reason: String,
    },
}

impl BuildError {
    /// Whether nobody answers where the builder, or the registry, should be: it may only not have come up yet.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::Registry { status: None, .. })
    }

    /// Whether it may pass by itself, so that trying again makes sense. What the commit is at fault for waits for the next one.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Away { .. } | Self::Denied { .. } | Self::Unauthorized { .. } => true,
            Self::DiskFull { .. } | Self::Builder { .. } => true,
            Self::UnknownBase { transient, .. } => *transient,
            // Logins are read anew for each request.
            Self::BadCredentials | Self::NoCredentials { .. } => true,
            Self::Registry { status, .. } => {
                status.is_none_or(|status| matches!(status, 401 | 403 | 429) || status >= 500)
            }
            Self::Context(error) => of_source(error).is_some_and(SourceError::may_pass),
            Self::TimeLimit { step, .. } => step.as_deref().is_none_or(is_preparation),
            Self::BadEndpoint(_) | Self::DockerPushesNot | Self::NoDockerfile(_) | Self::Dockerfile { .. } => false,
            Self::InUse(_) | Self::KeptByRegistry(_) => false,
            Self::BasesInACircle | Self::UnknownTarget { .. } | Self::Step { .. } => false,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Away { .. } => {
                "start buildkitd or dockerd there, or correct the address; plumb tries again by itself"
            }
            Self::Denied { .. } => "run plumb as a user or group that may open it; plumb tries again by itself",
            Self::Unauthorized { .. } => {
                "let the builder's --client and --audience be plumb's service account and its token's audience; plumb tries again by itself"
            }
            Self::NoDockerfile(_) => "add it, or correct dockerfile in plumb.yaml; .dockerignore may also leave it out",
            Self::UnknownTarget { .. } => "correct target in plumb.yaml",
            Self::UnknownBase { .. } => "correct the name, or give the builder access to it",
            Self::TimeLimit { .. } => "find out what hangs, or raise the time limit of builds",
            Self::DiskFull { .. } => {
                "make room on the node: old images and the builder's cache; plumb tries again by itself"
            }
            Self::Registry { status: Some(401 | 403), .. } | Self::BadCredentials | Self::NoCredentials { .. } => {
                "correct the registry's credentials; plumb reads them anew and tries again by itself"
            }
            Self::BadEndpoint(_) | Self::DockerPushesNot => return None,
            Self::Context(_) | Self::Dockerfile { .. } | Self::Step { .. } => return None,
            Self::Registry { .. } | Self::Builder { .. } | Self::BasesInACircle => return None,
            Self::InUse(_) | Self::KeptByRegistry(_) => return None,
        })
    }
}

/// What git said, if it was git that a context could not be read from.
fn of_source(error: &std::io::Error) -> Option<&SourceError> {
    match error.get_ref()?.downcast_ref()? {
        ContextError::Source(error) => Some(error),
        _ => None,
    }
}

/// Whether a step is BuildKit's own: it asks a registry for a base, fetches it, or takes the context. The commit is not at fault when it hangs.
fn is_preparation(step: &str) -> bool {
    step.starts_with("[internal]") || step.contains("] FROM ")
}

/// What is kept of an I/O error on its way is what it says.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(error: &std::io::Error, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(error)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<std::io::Error, D::Error> {
        String::deserialize(deserializer).map(std::io::Error::other)
    }
}

fn in_line(line: Option<u32>) -> String {
    line.map(|line| format!(":{line}")).unwrap_or_default()
}

fn at(step: Option<&String>) -> String {
    step.map(|step| format!(", at the step {step:?}")).unwrap_or_default()
}

fn code(status: Option<u16>) -> String {
    status.map_or_else(|| "cannot be used".to_owned(), |status| format!("answers {status}"))
}

fn tail(log: &[String]) -> String {
    if log.is_empty() { String::new() } else { format!("; it printed last:\n  {}", log.join("\n  ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CommitId;

    #[test]
    fn what_the_commit_is_not_at_fault_for_is_tried_again() {
        let context = |error: ContextError| BuildError::Context(std::io::Error::other(error));
        let limit = Duration::from_secs(1800);
        let step = |step: &str| BuildError::TimeLimit { limit, step: Some(step.to_owned()), log: Vec::new() };
        let away = SourceError::NoSuchCommit(CommitId::new([7; 20]));
        for (error, transient) in [
            (context(away.into()), true),
            (context(SourceError::BadPath("..".to_owned()).into()), false),
            (context(ContextError::Submodule("lib".to_owned())), false),
            (BuildError::TimeLimit { limit, step: None, log: Vec::new() }, true),
            (step("[internal] load metadata for docker.io/library/debian:12"), true),
            (step("[build 1/3] FROM docker.io/library/debian:12"), true),
            (step("[build 2/3] RUN make"), false),
            (step("[2/2] RUN echo '] FRO'"), false),
        ] {
            assert_eq!(error.is_transient(), transient, "{error}");
        }
    }
}
