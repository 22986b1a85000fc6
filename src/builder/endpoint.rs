//! Where a builder listens, and the connection to it.

use std::error::Error;
use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tonic::transport::Channel;

use super::BuildError;

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// The address of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket of this machine.
    Unix(PathBuf),
    /// Host and port, in plain.
    Tcp(String),
}

/// Who is asked to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A buildkitd.
    Daemon(Endpoint),
    /// A dockerd, which builds into its own store.
    Docker(Endpoint),
    /// plumb's own builder, in a pod beside the daemon: host and port of its HTTP server.
    Pod(String),
}

impl FromStr for Address {
    type Err = BuildError;

    fn from_str(text: &str) -> Result<Self, BuildError> {
        if let Some(docker) = text.strip_prefix("docker+") {
            return docker.parse().map(Self::Docker);
        }
        match text.strip_prefix("http://") {
            Some(rest) => match authority(rest) {
                Some(authority) => Ok(Self::Pod(authority.to_owned())),
                None => Err(BuildError::BadEndpoint(text.to_owned())),
            },
            None => text.parse().map(Self::Daemon),
        }
    }
}

/// Host and port, if there is nothing else but a slash.
fn authority(text: &str) -> Option<&str> {
    let authority = text.strip_suffix('/').unwrap_or(text);
    let (host, port) = authority.rsplit_once(':')?;
    let sound = !host.is_empty() && !host.contains(['@', '/']) && port.parse::<u16>().is_ok_and(|port| port > 0);
    sound.then_some(authority)
}

impl FromStr for Endpoint {
    type Err = BuildError;

    fn from_str(text: &str) -> Result<Self, BuildError> {
        let bad = || BuildError::BadEndpoint(text.to_owned());
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(bad()) };
        }
        let authority = text.strip_prefix("tcp://").and_then(authority).ok_or_else(bad)?;
        Ok(Self::Tcp(authority.to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(authority) => write!(f, "tcp://{authority}"),
        }
    }
}

impl Endpoint {
    /// A connection for gRPC. It ends when the last clone is dropped, and with it what was asked over it.
    pub(super) async fn channel(&self) -> Result<Channel, BuildError> {
        let uri = match self {
            Self::Unix(path) => format!("unix://{}", path.display()),
            Self::Tcp(authority) => format!("http://{authority}"),
        };
        let endpoint = tonic::transport::Endpoint::from_shared(uri)
            .map_err(|_| BuildError::BadEndpoint(self.to_string()))?
            .connect_timeout(CONNECT)
            .tcp_keepalive(Some(Duration::from_secs(30)));
        endpoint.connect().await.map_err(|error| self.unreachable(&error))
    }

    /// Why no connection came about.
    pub(super) fn unreachable(&self, error: &(dyn Error + 'static)) -> BuildError {
        let io = causes(error).find_map(|cause| cause.downcast_ref::<std::io::Error>());
        let endpoint = self.to_string();
        let reason = match io.map(std::io::Error::kind) {
            Some(ErrorKind::PermissionDenied) => return BuildError::Denied { endpoint },
            Some(ErrorKind::NotFound) => "there is no such socket".to_owned(),
            Some(ErrorKind::ConnectionRefused) => "nobody listens there".to_owned(),
            Some(ErrorKind::TimedOut) => format!("no answer for {} s", CONNECT.as_secs()),
            _ => causes(error).last().map(ToString::to_string).unwrap_or_default(),
        };
        BuildError::Away { endpoint, reason }
    }
}

/// An error and what it comes from.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["unix:///run/buildkit/buildkitd.sock", "tcp://buildkitd:1234", "tcp://[::1]:1234"] {
            assert_eq!(good.parse::<Endpoint>().expect(good).to_string(), good);
        }
        for bad in [
            "",
            "unix://",
            "unix://relative",
            "tcp://host",
            "tcp://:1",
            "tcp://host:0",
            "tcp://a@b:1",
            "http://x:1",
            "/run/x",
        ] {
            assert!(matches!(bad.parse::<Endpoint>(), Err(BuildError::BadEndpoint(_))), "{bad}");
        }
    }

    #[test]
    fn addresses_of_the_builders_pod() {
        let pod = "http://plumb-builder.plumb-builder:8090";
        assert_eq!(pod.parse::<Address>().unwrap(), Address::Pod("plumb-builder.plumb-builder:8090".to_owned()));
        assert_eq!("tcp://a:1".parse::<Address>().unwrap(), Address::Daemon(Endpoint::Tcp("a:1".to_owned())));
        let docker = Address::Docker(Endpoint::Unix("/run/docker.sock".into()));
        assert_eq!("docker+unix:///run/docker.sock".parse::<Address>().unwrap(), docker);
        for bad in ["http://", "http://host", "http://a@b:1", "http://host:1/path", "https://host:1"] {
            assert!(matches!(bad.parse::<Address>(), Err(BuildError::BadEndpoint(_))), "{bad}");
        }
    }
}
