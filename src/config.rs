//! Flags and environment variables, as typed, and what they come to once validated.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

/// Which repository, and how it is read.
#[derive(Debug, Clone, Args)]
pub struct RepositoryArgs {
    /// The repository: a directory (bare, non-bare or a work tree), or an https://, ssh:// or file:// URL
    #[arg(long, env = "PLUMB_REPO", default_value = ".", value_name = "PATH|URL", global = true)]
    pub repo: String,
    /// The branch that environments/<name>/environment.yaml are read from [default: the repository's HEAD]
    #[arg(long, env = "PLUMB_CONFIG_BRANCH", value_name = "BRANCH", global = true)]
    pub config_branch: Option<String>,
    /// How often the refs are looked at, whether or not an event came [default: 3s for a directory, 15s for a URL]
    #[arg(long, env = "PLUMB_POLL", value_parser = humantime::parse_duration, value_name = "DURATION", global = true)]
    pub poll: Option<Duration>,
    /// Read repositories that belong to this user id, beside those of the user plumb runs as
    #[arg(long, env = "PLUMB_TRUST_OWNER", value_delimiter = ',', value_name = "UID", global = true)]
    pub trust_owner: Vec<u32>,
}

impl RepositoryArgs {
    /// The repository as it may be shown: a URL without credentials.
    pub fn shown(&self) -> String {
        match self.repo.split_once("://") {
            Some((scheme, rest)) => format!("{scheme}://{}", rest.split_once('@').map_or(rest, |(_, host)| host)),
            None => self.repo.clone(),
        }
    }
}

/// Which cluster.
#[derive(Debug, Clone, Args)]
pub struct ClusterArgs {
    /// The kubeconfig file [default: $KUBECONFIG, ~/.kube/config, or the pod's service account]
    #[arg(long, value_name = "FILE", global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig
    #[arg(long, value_name = "NAME", global = true)]
    pub context: Option<String>,
}

/// How what is logged looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How what a command prints looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}
