//! What is watched, and how.

use std::path::PathBuf;
use std::time::Duration;

use super::{RepositoryUrl, Trust};
use crate::model::secret::Masked;

/// How the repository is watched and read.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// The repository.
    pub repository: RepositoryUrl,
    /// How often the refs are looked at even when nothing was heard of them. Default: 3 s for a local repository, 15 s for a remote one.
    pub interval: Option<Duration>,
    /// Whose local repositories are read beside one's own (`file://` included).
    pub trust: Trust,
    /// The directory for the mirrors of remote repositories. Made if absent, readable to this user alone.
    /// Default: `plumb` in the user's cache directory.
    pub cache: PathBuf,
    /// How plumb shows who it is, and how a remote must.
    pub credentials: Credentials,
    /// How long asking a remote for its branches may take. Default: 30 s.
    pub ask_timeout: Duration,
    /// How long a fetch or a push may take. Default: 10 min.
    pub fetch_timeout: Duration,
    /// The longest time between two attempts at a remote that fails. Default: 5 min.
    pub longest_delay: Duration,
    /// Accept `http://`: neither the commits nor the credentials are protected on the way. Default: no.
    pub insecure_http: bool,
}

impl SourceSettings {
    /// The defaults for this repository.
    pub fn new(repository: RepositoryUrl) -> Self {
        Self {
            repository,
            interval: None,
            trust: Trust::default(),
            cache: default_cache(),
            credentials: Credentials::default(),
            ask_timeout: Duration::from_secs(30),
            fetch_timeout: Duration::from_secs(600),
            longest_delay: Duration::from_secs(300),
            insecure_http: false,
        }
    }
}

/// `$XDG_CACHE_HOME/plumb`, `~/.cache/plumb`, or, for a user without a home, a directory of this user's in the temporary one.
fn default_cache() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let own = rustix::process::geteuid().as_raw();
    cache.map_or_else(|| std::env::temp_dir().join(format!("plumb-{own}")), |cache| cache.join("plumb"))
}

/// A secret, or the file that has it. A file is read anew for each attempt, so a rotated one is picked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The value itself, as it came from the environment.
    Value(Masked),
    /// A file; one line feed at its end doesn't count.
    File(PathBuf),
}

/// Credentials for a remote, and what its own are checked against.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The user for https. Default: the one in the URL, else `git` (hosts that take a token ignore the name).
    pub username: Option<String>,
    /// The password or token for https. Default: the one in the URL. Sent to the URL's own host only.
    pub password: Option<SecretSource>,
    /// The private key for ssh, in OpenSSH's format without a passphrase. Default: the user's own keys and agent.
    pub ssh_key: Option<SecretSource>,
    /// The known_hosts file that ssh hosts must be in. Default: the user's and the system's.
    pub known_hosts: Option<PathBuf>,
    /// A PEM file with the authorities that https servers must be certified by. Default: the system's.
    pub ca_file: Option<PathBuf>,
}
