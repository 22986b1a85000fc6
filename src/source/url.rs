//! Where a repository is: a path or a URL, checked before anything is asked of it. A password in a URL is taken out at once.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::model::secret::Masked;

/// Where the repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepositoryUrl {
    /// A directory of this machine: a bare repository, or the top of a work tree.
    Local(PathBuf),
    /// A repository that is fetched.
    Remote(RemoteUrl),
}

impl fmt::Display for RepositoryUrl {
    /// Without any secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => path.display().fmt(f),
            Self::Remote(url) => url.fmt(f),
        }
    }
}

/// How a remote is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `https://`
    Https,
    /// `http://`: only with [`SourceSettings::insecure_http`](super::SourceSettings::insecure_http).
    Http,
    /// `ssh://`, or git's short form `user@host:path`.
    Ssh,
    /// `file://`
    File,
}

impl Scheme {
    /// The name as git's `protocol.<name>.allow` has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
            Self::Ssh => "ssh",
            Self::File => "file",
        }
    }
}

/// The URL of a remote, without any secret: it may be logged and stand on a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteUrl {
    pub(super) scheme: Scheme,
    text: String,
    /// Host and port to be asked; none for `file://`.
    pub(super) host: Option<(String, u16)>,
    /// The path of a `file://` URL.
    pub(super) path: Option<PathBuf>,
    /// The user that stood in an http(s) URL.
    pub(super) user: Option<String>,
    /// The password that stood in an http(s) URL.
    pub(super) password: Option<Masked>,
}

impl RemoteUrl {
    /// A directory of this machine, spoken to as if it were remote.
    pub(super) fn directory(path: &Path) -> Self {
        let (text, path) = (path.display().to_string(), Some(path.to_owned()));
        Self { scheme: Scheme::File, text, host: None, path, user: None, password: None }
    }

    /// Whether it names a host, and not a directory of this machine.
    pub fn is_of_a_host(&self) -> bool {
        self.host.is_some()
    }

    /// The URL as git gets it.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text names no repository. The text itself is not shown: it may hold a password.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UrlError {
    /// Nothing was given.
    #[error("the repository is empty: give a path, or a URL with https://, ssh:// or file://")]
    Empty,
    /// Not a URL at all.
    #[error("the repository's URL cannot be read: {0}")]
    Syntax(String),
    /// A scheme that is not fetched from.
    #[error("repositories are read from a path, https://, ssh:// or file://, not from {0:?}")]
    Scheme(String),
    /// No host, or one that git or ssh would take for an option.
    #[error("the repository's URL has no usable host name")]
    Host,
    /// A password where none is taken.
    #[error("the repository's URL has a password, which ssh does not take from there: use a key")]
    SshPassword,
    /// A `file://` URL with a host, or without an absolute path.
    #[error("a file:// URL has no host and an absolute path: file:///srv/repo.git")]
    File,
    /// The address range of cloud metadata services, which no repository is in.
    #[error("{0} is a link-local address, where no repository is served from")]
    LinkLocal(IpAddr),
}

impl FromStr for RepositoryUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(UrlError::Empty);
        }
        if text.contains("://") {
            return parse(text).map(Self::Remote);
        }
        // git's rule: a colon before the first slash makes it ssh's short form; "::" names a remote helper program.
        match text.split_once(':') {
            Some((helper, rest)) if !helper.contains('/') && rest.starts_with(':') => {
                Err(UrlError::Scheme(format!("{helper}::")))
            }
            Some((host, _)) if !host.contains('/') => short_ssh(text, host).map(Self::Remote),
            _ => Ok(Self::Local(PathBuf::from(text))),
        }
    }
}

fn short_ssh(text: &str, destination: &str) -> Result<RemoteUrl, UrlError> {
    let (user, host) = destination.rsplit_once('@').map_or((None, destination), |(user, host)| (Some(user), host));
    let bad = |part: &str| part.is_empty() || part.starts_with('-') || part.contains(char::is_whitespace);
    if bad(host) || user.is_some_and(bad) {
        return Err(UrlError::Host);
    }
    let host = Some((host.to_owned(), 22));
    Ok(RemoteUrl { scheme: Scheme::Ssh, text: text.to_owned(), host, path: None, user: None, password: None })
}

fn parse(text: &str) -> Result<RemoteUrl, UrlError> {
    let scheme = match text.split_once("://").map(|(scheme, _)| scheme) {
        Some("https") => Scheme::Https,
        Some("http") => Scheme::Http,
        Some("ssh") => Scheme::Ssh,
        Some("file") => return file(text),
        other => return Err(UrlError::Scheme(format!("{}://", other.unwrap_or_default()))),
    };
    let uri: http::Uri = text.parse().map_err(|error: http::uri::InvalidUri| UrlError::Syntax(error.to_string()))?;
    let authority = uri.authority().ok_or(UrlError::Host)?;
    let (login, _) = authority.as_str().rsplit_once('@').unwrap_or_default();
    let (user, password) = login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
    let bad = |part: &str| part.starts_with('-');
    if authority.host().is_empty() || bad(authority.host()) || bad(user) {
        return Err(UrlError::Host);
    }
    if let Ok(address) = authority.host().trim_matches(['[', ']']).parse() {
        refuse_link_local(address)?;
    }
    if scheme == Scheme::Ssh && password.is_some() {
        return Err(UrlError::SshPassword);
    }
    // ssh needs its user in the URL; http gets it with the password.
    let shown_user = if scheme == Scheme::Ssh && !user.is_empty() { format!("{user}@") } else { String::new() };
    let port = authority.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let default = match scheme {
        Scheme::Http => 80,
        Scheme::Ssh => 22,
        Scheme::Https | Scheme::File => 443,
    };
    Ok(RemoteUrl {
        scheme,
        text: format!("{}://{shown_user}{}{port}{path}", scheme.name(), authority.host()),
        host: Some((authority.host().to_owned(), authority.port_u16().unwrap_or(default))),
        path: None,
        user: Some(decoded(user)).filter(|user| !user.is_empty() && scheme != Scheme::Ssh),
        password: password.map(|password| Masked::new(decoded(password))),
    })
}

fn file(text: &str) -> Result<RemoteUrl, UrlError> {
    let path = text.strip_prefix("file://").filter(|path| path.starts_with('/')).ok_or(UrlError::File)?;
    let path = Some(PathBuf::from(decoded(path)));
    Ok(RemoteUrl { scheme: Scheme::File, text: text.to_owned(), host: None, path, user: None, password: None })
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Refuses 169.254.0.0/16 and fe80::/10, also as an IPv4-mapped address: a cloud's metadata service answers there, and hands out rights.
pub(super) fn refuse_link_local(address: IpAddr) -> Result<(), UrlError> {
    let link_local = match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    if link_local { Err(UrlError::LinkLocal(address)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(text: &str) -> RemoteUrl {
        match text.parse() {
            Ok(RepositoryUrl::Remote(url)) => url,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn paths_and_urls_are_told_apart() {
        for path in ["/srv/repo.git", ".", "./a:b", "repo"] {
            assert_eq!(path.parse(), Ok(RepositoryUrl::Local(path.into())), "{path}");
        }
        assert_eq!(remote("https://example.com/a.git").host, Some(("example.com".to_owned(), 443)));
        assert_eq!(remote("ssh://git@example.com:2222/a.git").host, Some(("example.com".to_owned(), 2222)));
        assert_eq!(remote("git@example.com:a.git").scheme, Scheme::Ssh);
        assert_eq!(remote("file:///srv/a.git").path, Some("/srv/a.git".into()));
    }

    #[test]
    fn a_password_leaves_the_url_at_once() {
        let url = remote("https://ada:hunter%32@example.com/a.git");
        assert_eq!(url.to_string(), "https://example.com/a.git");
        assert!(url.is_of_a_host() && !remote("file:///srv/a.git").is_of_a_host());
        assert_eq!((url.user.as_deref(), url.password.as_ref().map(Masked::reveal)), (Some("ada"), Some("hunter2")));
        assert!(!format!("{url:?}").contains("hunter"));
        for text in ["ssh://git:hunter2@example.com/a", "https://ada:hunter2@", "gopher://ada:hunter2@x/"] {
            let error = text.parse::<RepositoryUrl>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
        }
    }

    #[test]
    fn what_could_run_a_program_or_reach_a_metadata_service_is_refused() {
        for text in [
            "",
            "ext::sh -c id",
            "git://example.com/a",
            "ftp://example.com/a",
            "ssh://-oProxyCommand=id/a",
            "ssh://-l@example.com/a",
            "-oProxyCommand=id:a",
            "a b:c",
            "http://169.254.169.254/latest",
            "https://[fe80::1]/a",
            "https://[::ffff:169.254.169.254]/a",
            "https:///a",
            "file://host/srv/a",
        ] {
            let parsed = text.parse::<RepositoryUrl>();
            assert!(parsed.is_err(), "{text}: {parsed:?}");
        }
    }
}
