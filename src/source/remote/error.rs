//! What can go wrong with a remote, told so that a person knows what to do.

use std::path::PathBuf;

use crate::source::SourceError;
use crate::source::url::UrlError;

/// Why a remote could not be asked, or fetched from. No variant holds a secret: what git printed was redacted.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The git program did not start.
    #[error("cannot start git: is it installed, and in PATH?")]
    Start(#[source] std::io::Error),
    /// The time limit was reached and git was killed.
    #[error("{action} took longer than {seconds} s and was stopped")]
    TimedOut {
        /// What was being done.
        action: &'static str,
        /// The limit.
        seconds: u64,
    },
    /// More output than a list of branches can be.
    #[error("{action} printed more than {limit} bytes")]
    TooMuchOutput {
        /// What was being done.
        action: &'static str,
        /// The limit.
        limit: u64,
    },
    /// git said no, for a reason that isn't one of the following.
    #[error("{action} failed: {reason}")]
    Failed {
        /// What was being done.
        action: &'static str,
        /// The last lines that git printed.
        reason: String,
    },
    /// The ssh host's key is not in known_hosts, or is another one there.
    #[error(
        "the host's key is not the one in {known_hosts}: {reason}. The host shows {fingerprint}; if that is what its owner \
         publishes, add it there, for example with ssh-keyscan"
    )]
    HostKey {
        /// The file or files that were looked at.
        known_hosts: String,
        /// ssh's last words.
        reason: String,
        /// Kind and SHA256 fingerprint of the key that the host shows.
        fingerprint: String,
    },
    /// The server wants to know who we are, or doesn't accept the answer.
    #[error("the server does not accept the credentials, or wants some: {reason}. {hint}")]
    Credentials {
        /// git's last words.
        reason: String,
        /// What to set.
        hint: &'static str,
    },
    /// The server's certificate is not trusted.
    #[error("the server's certificate is not trusted: {0}. A private authority is given as a CA file")]
    Certificate(String),
    /// Redirects are not followed: credentials would go where nobody meant them to.
    #[error("the server redirects to another address, which is not followed: {0}. Give the final URL")]
    Redirect(String),
    /// `http://` without the setting.
    #[error("http:// protects neither commits nor credentials: use https://, or allow it with --insecure-http")]
    InsecureHttp,
    /// The address is refused.
    #[error("the host's address is refused")]
    Address(#[from] UrlError),
    /// A file with a credential could not be read.
    #[error("cannot read the credential in {}", .path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The mirror's directory could not be written.
    #[error("cannot write the mirror at {}", .path.display())]
    Mirror {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// Another process fetches into the same mirror and doesn't end.
    #[error("another process holds {}", .0.display())]
    Busy(PathBuf),
    /// git printed a list of branches that is none.
    #[error("the server's list of branches cannot be read: {0:?}")]
    Advertisement(String),
    /// A `file://` repository, or the mirror, cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// How lines begin that ssh prints besides its `debug1:` ones, and git after any failure over ssh. They say nothing, and the server's reason stands
/// before them.
const NOISE: [&str; 6] = [
    "OpenSSH_",
    "Authenticated to ",
    "Transferred: sent ",
    "Bytes per second: sent ",
    "Please make sure you have the correct access rights",
    "and the repository exists.",
];

impl RemoteError {
    /// Adds the path to an I/O error; for `map_err`.
    pub(super) fn mirror(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Mirror { path: path.into(), source }
    }

    /// Sorts git's failure by what it printed. `known_hosts` is what ssh was told to look at.
    pub(super) fn of_git(action: &'static str, printed: &str, known_hosts: &str) -> Self {
        let (debug, lines): (Vec<&str>, Vec<&str>) = printed
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !NOISE.iter().any(|noise| line.starts_with(noise)))
            .partition(|line| line.starts_with("debug1:"));
        let has = |text: &str| lines.iter().any(|line| line.contains(text));
        let reason = || lines.iter().rev().take(4).rev().copied().collect::<Vec<_>>().join("; ");
        if has("Host key verification failed") {
            let shown = debug.iter().find_map(|line| line.strip_prefix("debug1: Server host key: "));
            let fingerprint = shown.unwrap_or("a key that ssh did not name").to_owned();
            return Self::HostKey { known_hosts: known_hosts.to_owned(), reason: reason(), fingerprint };
        }
        if has("Permission denied (") {
            return Self::Credentials { reason: reason(), hint: "Give an ssh key that the server knows" };
        }
        if has("terminal prompts disabled") || has("Authentication failed") || has("returned error: 403") {
            return Self::Credentials {
                reason: reason(),
                hint: if action == super::push::PUSHING {
                    "Give a user and a password or token that may push to it"
                } else {
                    "Give a user and a password or token that may read it"
                },
            };
        }
        if has("certificate verif") || has("SSL certificate problem") || has("certificate subject name") {
            return Self::Certificate(reason());
        }
        if ["301", "302", "303", "307", "308"].iter().any(|code| has(&format!("returned error: {code}"))) {
            return Self::Redirect(reason());
        }
        Self::Failed { action, reason: if lines.is_empty() { "git printed no reason".to_owned() } else { reason() } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_reason_is_kept_over_ssh() {
        let printed = "OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL 3.0.19 27 Jan 2026\n\
            debug1: Connecting to git.example [192.0.2.1] port 22.\n\
            Authenticated to git.example ([192.0.2.1]:22) using \"publickey\".\n\
            debug1: Sending command: git-upload-pack 'team/gone.git'\n\
            ERROR: Repository not found.\n\
            debug1: channel 0: free: client-session, nchannels 1\n\
            Transferred: sent 3356, received 2900 bytes, in 0.2 seconds\n\
            Bytes per second: sent 16780.1, received 14500.0\n\
            debug1: Exit status 1\n\
            fatal: Could not read from remote repository.\n\n\
            Please make sure you have the correct access rights\nand the repository exists.\n";
        let error = RemoteError::of_git("fetching", printed, "known_hosts").to_string();
        let expected = "fetching failed: ERROR: Repository not found.; fatal: Could not read from remote repository.";
        assert_eq!(error, expected);
    }
}
