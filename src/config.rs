//! Flags and environment variables, as typed, and what they come to once validated.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::builder::containerd::Containerd;
use crate::builder::{
    Address, BuildError, BuildKit, Builder, Credentials as Logins, Docker, Endpoint, Registry, Remote,
};
use crate::daemon::Collection;
use crate::model::secret::Masked;
use crate::source::{Credentials, RepositoryUrl, SecretSource, SourceSettings, Trust, UrlError};

/// Which repository, and how it is read.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Repository")]
pub struct RepositoryArgs {
    /// The repository: a directory (bare, non-bare or a work tree), or an https://, ssh:// or file:// URL
    #[arg(
        long,
        env = "PLUMB_REPO",
        hide_env_values = true, // A URL may hold a password.
        default_value = ".",
        value_name = "PATH|URL",
        global = true
    )]
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
    #[command(flatten)]
    remote: RemoteArgs,
}

/// How a remote repository is reached.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Remote repositories")]
struct RemoteArgs {
    /// The user for https [default: the one in the URL, else git]
    #[arg(long, env = "PLUMB_GIT_USERNAME", hide_env_values = true, value_name = "NAME", global = true)]
    // Some servers take a token for a user.
    git_username: Option<String>,
    /// The file with the password or token for https; read anew for each fetch. PLUMB_GIT_PASSWORD holds one itself
    #[arg(long, env = "PLUMB_GIT_PASSWORD_FILE", value_name = "FILE", global = true)]
    git_password_file: Option<PathBuf>,
    /// The private key for ssh, without a passphrase [default: the user's own keys and agent]
    #[arg(long, env = "PLUMB_SSH_KEY", value_name = "FILE", global = true)]
    ssh_key: Option<PathBuf>,
    /// The known_hosts file that ssh hosts must be in [default: the user's and the system's]
    #[arg(long, env = "PLUMB_KNOWN_HOSTS", value_name = "FILE", global = true)]
    known_hosts: Option<PathBuf>,
    /// A PEM file with the authorities that https servers must be certified by [default: the system's]
    #[arg(long, env = "PLUMB_CA_FILE", value_name = "FILE", global = true)]
    ca_file: Option<PathBuf>,
    /// The directory for mirrors of remote repositories [default: plumb in the user's cache directory]
    #[arg(long, env = "PLUMB_MIRRORS", value_name = "DIRECTORY", global = true)]
    mirrors: Option<PathBuf>,
    /// Accept http://, which protects neither the commits nor the credentials on the way
    #[arg(long, env = "PLUMB_INSECURE_HTTP", global = true)]
    insecure_http: bool,
}

impl RepositoryArgs {
    /// The settings of the source. The error says what is wrong with `--repo`.
    pub fn settings(&self) -> Result<SourceSettings, UrlError> {
        let remote = &self.remote;
        let password = remote.git_password_file.clone().map(SecretSource::File);
        let from_environment =
            || std::env::var("PLUMB_GIT_PASSWORD").ok().map(|value| SecretSource::Value(Masked::new(value)));
        let defaults = SourceSettings::new(self.repo.parse()?);
        Ok(SourceSettings {
            interval: self.poll,
            trust: Trust::owners(self.trust_owner.iter().copied()),
            cache: remote.mirrors.clone().unwrap_or(defaults.cache),
            credentials: Credentials {
                username: remote.git_username.clone(),
                password: password.or_else(from_environment),
                ssh_key: remote.ssh_key.clone().map(SecretSource::File),
                known_hosts: remote.known_hosts.clone(),
                ca_file: remote.ca_file.clone(),
            },
            insecure_http: remote.insecure_http,
            ..defaults
        })
    }

    /// The URL by which others find the repository, without credentials; `None`: it is a directory of this machine.
    pub fn public_url(&self) -> Option<String> {
        match self.repo.parse().ok()? {
            RepositoryUrl::Remote(url) if url.is_of_a_host() => Some(url.to_string()),
            RepositoryUrl::Remote(_) | RepositoryUrl::Local(_) => None,
        }
    }

    /// The repository as it may be shown: without credentials. A text that names none is not shown: nobody knows what stands where in it.
    pub fn shown(&self) -> String {
        let parsed: Result<RepositoryUrl, UrlError> = self.repo.parse();
        parsed.map_or_else(|_| "a repository that cannot be read".to_owned(), |url| url.to_string())
    }
}

/// Which cluster.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterArgs {
    /// The kubeconfig file [default: $KUBECONFIG, ~/.kube/config, or the pod's service account]
    #[arg(long, value_name = "FILE", global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig
    #[arg(long, value_name = "NAME", global = true)]
    pub context: Option<String>,
    /// Who builds images for it.
    #[command(flatten)]
    pub builder: BuilderArgs,
}

/// Who builds the images that `plumb.yaml` declares.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Images")]
pub struct BuilderArgs {
    /// Who builds images: a buildkitd as unix:///PATH or tcp://HOST:PORT, a dockerd as docker+unix:///PATH, or a `plumb builder` as
    /// http://HOST:PORT [default: none]
    #[arg(long, env = "PLUMB_BUILDER", value_name = "ADDRESS", global = true)]
    pub builder: Option<Address>,
    /// The file with the token for a `plumb builder`; read anew for each request
    #[arg(
        long,
        env = "PLUMB_BUILDER_TOKEN_FILE",
        value_name = "FILE",
        default_value = "/var/run/secrets/plumb-builder/token",
        global = true
    )]
    pub builder_token_file: PathBuf,
    /// The containerd whose images the node's pods run
    #[arg(
        long,
        env = "PLUMB_CONTAINERD",
        value_name = "ADDRESS",
        default_value = "unix:///run/containerd/containerd.sock",
        global = true
    )]
    pub containerd: Endpoint,
    /// Have the buildkitd push images to the registry that their names begin with, instead of leaving them on the node;
    /// with a `plumb builder`, both need it
    #[arg(long, env = "PLUMB_PUSH", global = true)]
    pub push: bool,
    /// A Docker config.json with the logins of registries, for --push; read anew for each request
    #[arg(long, env = "PLUMB_REGISTRY_LOGINS", value_name = "FILE", global = true)]
    pub registry_logins: Option<PathBuf>,
    /// Push over plain HTTP, or to a registry whose certificate is not known
    #[arg(long, env = "PLUMB_REGISTRY_INSECURE", global = true)]
    pub registry_insecure: bool,
    /// The longest that one build may take
    #[arg(long, env = "PLUMB_BUILD_TIMEOUT", value_parser = humantime::parse_duration, value_name = "DURATION", default_value = "30m", global = true)]
    pub build_timeout: Duration,
}

impl BuilderArgs {
    /// The builder, if there is one; nothing is sent yet. The error says what is wrong with the logins.
    pub fn builder(&self) -> Result<Option<Arc<dyn Builder>>, BuildError> {
        let Some(address) = self.builder.clone() else { return Ok(None) };
        Ok(Some(match address {
            Address::Daemon(endpoint) if self.push => {
                self.registry_logins.as_deref().map(Logins::read).transpose()?;
                let registry = Registry::new(endpoint, self.registry_logins.clone()).time_limit(self.build_timeout);
                Arc::new(if self.registry_insecure { registry.insecure() } else { registry })
            }
            Address::Docker(_) if self.push => return Err(BuildError::DockerPushesNot),
            Address::Docker(endpoint) => Arc::new(Docker::new(endpoint).time_limit(self.build_timeout)),
            Address::Daemon(endpoint) => {
                let buildkit = BuildKit::new(endpoint, Containerd::new(self.containerd.clone()));
                Arc::new(buildkit.time_limit(self.build_timeout))
            }
            Address::Pod(authority) => {
                let remote = Remote::new(authority, self.builder_token_file.clone()).time_limit(self.build_timeout);
                Arc::new(if self.push { remote.pushes() } else { remote })
            }
        }))
    }
}

/// What becomes of images that nobody needs any more.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Old images")]
pub struct CollectionArgs {
    /// Never remove an image. Otherwise those go that plumb built and that no workload of the cluster and no recent commit of an environment uses
    #[arg(long, env = "PLUMB_KEEP_ALL_IMAGES")]
    pub keep_all_images: bool,
    /// Keep so many images of each name, the newest, whether or not they are used
    #[arg(long, env = "PLUMB_KEEP_IMAGES", value_name = "NUMBER", default_value_t = 5)]
    pub keep_images: usize,
    /// Keep an image for so long after it was built, whether or not it is used
    #[arg(long, env = "PLUMB_KEEP_IMAGES_FOR", value_parser = humantime::parse_duration, value_name = "DURATION", default_value = "24h")]
    pub keep_images_for: Duration,
    /// How often old images are looked for
    #[arg(long, env = "PLUMB_COLLECT_IMAGES", value_parser = pause, value_name = "DURATION", default_value = "1h")]
    pub collect_images: Duration,
}

impl CollectionArgs {
    /// How images are collected, if they are.
    pub fn collection(&self) -> Option<Collection> {
        let all = Collection { newest: self.keep_images, age: self.keep_images_for, every: self.collect_images };
        (!self.keep_all_images).then_some(all)
    }
}

/// A duration between rounds: not so short that one follows the other at once, nor so long that time can't be reckoned with it.
fn pause(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    let pause = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_secs(1)..=LONGEST).contains(&pause) {
        Ok(pause)
    } else {
        Err("it is between 1s and 365d".to_owned())
    }
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        repository: RepositoryArgs,
        #[command(flatten)]
        builder: BuilderArgs,
    }

    #[test]
    fn a_dockerd_is_not_taken_for_one_that_pushes() {
        let of = |builder: &str, more: &[&str]| {
            let line = Line::parse_from([&["plumb", "--repo", "/srv/x.git", "--builder", builder], more].concat());
            line.builder.builder().map(|builder| builder.is_some())
        };
        assert!(matches!(of("docker+unix:///run/docker.sock", &["--push"]), Err(BuildError::DockerPushesNot)));
        assert!(matches!(of("docker+unix:///run/docker.sock", &[]), Ok(true)));
        assert!(matches!(of("unix:///run/buildkit.sock", &["--push"]), Ok(true)));
    }

    #[test]
    fn a_repository_is_shown_without_credentials() {
        for (repo, shown) in [
            ("https://ci:canary@git.example/x.git", "https://git.example/x.git"),
            ("https://ci:can@ary@git.example/x.git", "https://git.example/x.git"),
            ("https://canary@git.example/x.git", "https://git.example/x.git"),
            ("gopher://ci:canary@git.example/x.git", "a repository that cannot be read"),
            ("ssh://ci:canary@git.example/x.git", "a repository that cannot be read"),
            ("ssh://git@git.example/x.git", "ssh://git@git.example/x.git"),
            ("git@git.example:x.git", "git@git.example:x.git"),
            ("file:///srv/x.git", "file:///srv/x.git"),
            ("/srv/x.git", "/srv/x.git"),
        ] {
            assert_eq!(Line::parse_from(["plumb", "--repo", repo]).repository.shown(), shown);
        }
    }
}
