//! A buildkitd that pushes what it builds to a registry, for nodes whose own store nobody may write to.
//!
//! buildkitd alone talks to the registry, for `present` as well: one way to certificates, proxies and mirrors. A registry without TLS must be in
//! its configuration (`[registry."host:port"] http = true`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use serde::Deserialize;
use tokio::sync::mpsc::Sender;

use super::buildkit::{self, How, Log, Output, Run};
use super::{BuildError, BuildOrder, Builder, Built, Context, Endpoint, Progress, PullPolicy, Stored, TIME_LIMIT};
use crate::model::secret::Masked;

/// How long a registry may take to say whether it has an image.
const ANSWER: Duration = Duration::from_secs(60);

/// User and password by registry.
#[derive(Debug, Clone, Default)]
pub struct Credentials(BTreeMap<String, (String, Masked)>);

#[derive(Deserialize)]
struct Config {
    auths: BTreeMap<String, Login>,
}

#[derive(Deserialize)]
struct Login {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Credentials {
    /// Those in this file.
    pub fn read(file: &Path) -> Result<Self, BuildError> {
        let unreadable =
            |error: std::io::Error| BuildError::NoCredentials { file: file.to_owned(), reason: error.to_string() };
        Self::from_docker_config(&std::fs::read(file).map_err(unreadable)?)
    }

    /// Of a Docker `config.json`, which is what a Secret of type `kubernetes.io/dockerconfigjson` holds.
    pub fn from_docker_config(text: &[u8]) -> Result<Self, BuildError> {
        let config: Config = serde_json::from_slice(text).map_err(|_| BuildError::BadCredentials)?;
        let logins = config.auths.into_iter().map(|(host, login)| {
            let (user, password) = login.read().ok_or(BuildError::BadCredentials)?;
            Ok((registry_host(&host).to_owned(), (user, Masked::new(password))))
        });
        Ok(Self(logins.collect::<Result<_, BuildError>>()?))
    }

    /// User and password at a registry.
    pub(super) fn of(&self, host: &str) -> Option<(String, String)> {
        let (user, password) = self.0.get(registry_host(host))?;
        Some((user.clone(), password.reveal().to_owned()))
    }
}

impl Login {
    fn read(self) -> Option<(String, String)> {
        if let (Some(user), Some(password)) = (self.username, self.password) {
            return Some((user, password));
        }
        let auth = base64::engine::general_purpose::STANDARD.decode(self.auth?).ok()?;
        let (user, password) = String::from_utf8(auth)
            .ok()?
            .split_once(':')
            .map(|(user, password)| (user.to_owned(), password.to_owned()))?;
        Some((user, password))
    }
}

/// `https://index.docker.io/v1/` and `registry-1.docker.io` are `docker.io`, and any other is what stands before the first slash.
fn registry_host(key: &str) -> &str {
    let host = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or(host);
    if ["index.docker.io", "registry-1.docker.io"].contains(&host) { "docker.io" } else { host }
}

/// A buildkitd that pushes.
#[derive(Debug, Clone)]
pub struct Registry {
    endpoint: Endpoint,
    logins: Option<PathBuf>,
    insecure: bool,
    limit: Duration,
}

impl Registry {
    /// The buildkitd at this address, and the file that says who it is at registries. It is read for each request: passwords are renewed.
    pub fn new(endpoint: Endpoint, logins: Option<PathBuf>) -> Self {
        Self { endpoint, logins, insecure: false, limit: TIME_LIMIT }
    }

    /// Lets it push over plain HTTP, or to a certificate that nobody knows.
    pub fn insecure(mut self) -> Self {
        self.insecure = true;
        self
    }

    /// The longest that a build may take.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    fn credentials(&self) -> Result<Credentials, BuildError> {
        self.logins.as_deref().map(Credentials::read).transpose().map(Option::unwrap_or_default)
    }
}

#[async_trait]
impl Builder for Registry {
    async fn present(&self, references: &[String]) -> Result<Vec<bool>, BuildError> {
        Ok(self.digests(references).await?.iter().map(Option::is_some).collect())
    }

    async fn digests(&self, references: &[String]) -> Result<Vec<Option<String>>, BuildError> {
        let mut digests = Vec::with_capacity(references.len());
        for reference in references {
            // A connection each: it is the end of the question, too.
            let asked = async {
                let channel = self.endpoint.channel().await?;
                buildkit::resolve(&self.endpoint, channel, self.credentials()?, reference).await
            };
            let answer = tokio::time::timeout(ANSWER, asked).await;
            digests.push(answer.unwrap_or_else(|_| {
                let registry = super::reference::split(reference).0.to_owned();
                Err(BuildError::Registry { registry, status: None, reason: "it does not answer".to_owned() })
            })?);
        }
        Ok(digests)
    }

    async fn build(&self, order: &BuildOrder, context: Context, log: Sender<Progress>) -> Result<Built, BuildError> {
        let mut collected = Log::default();
        let built = async {
            let channel = self.endpoint.channel().await?;
            let how = How { output: Output::Registry { insecure: self.insecure }, cache: true, named_contexts: true };
            let credentials = self.credentials()?;
            let run = Run { endpoint: &self.endpoint, order, how, log: &mut collected, credentials, progress: &log };
            run.over(channel, context).await
        };
        match tokio::time::timeout(self.limit, built).await {
            Ok(outcome) => outcome,
            Err(_) => Err(collected.time_limit(self.limit)),
        }
    }

    /// None: what is in a registry is the registry's to collect.
    async fn images(&self) -> Result<Vec<Stored>, BuildError> {
        Ok(Vec::new())
    }

    async fn remove(&self, reference: &str) -> Result<(), BuildError> {
        Err(BuildError::KeptByRegistry(reference.to_owned()))
    }

    fn pull_policy(&self) -> PullPolicy {
        PullPolicy::IfNotPresent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_a_docker_config() {
        let text = br#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "bWU6cGFzczp3b3Jk"},
            "registry:5000": {"username": "you", "password": "geheim"}
        }}"#;
        let credentials = Credentials::from_docker_config(text).expect("a Docker configuration");
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(credentials.of("registry-1.docker.io"), pair("me", "pass:word"));
        assert_eq!(credentials.of("registry:5000"), pair("you", "geheim"));
        assert_eq!(credentials.of("registry:5001"), None);
        assert!(!format!("{credentials:?}").contains("geheim"));
    }

    #[test]
    fn logins_are_those_of_the_file_at_the_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let registry = Registry::new("tcp://127.0.0.1:9".parse().unwrap(), Some(file.path().to_owned()));
        let password = || registry.credentials().map(|credentials| credentials.of("registry:5000").unwrap().1);
        let write = |text: &str| std::fs::write(file.path(), text).unwrap();
        let login =
            |password| format!(r#"{{"auths": {{"registry:5000": {{"username": "me", "password": "{password}"}}}}}}"#);
        for now in ["old", "new"] {
            write(&login(now));
            assert_eq!(password().unwrap(), now);
        }
        // Whoever writes it may be in the middle of that, or put another in its place.
        write(login("newer").split_at(30).0);
        assert!(password().unwrap_err().is_transient());
        std::fs::remove_file(file.path()).unwrap();
        assert!(password().unwrap_err().is_transient());
        assert!(Registry::new("tcp://127.0.0.1:9".parse().unwrap(), None).credentials().is_ok());
    }

    #[test]
    fn what_is_none_is_refused_without_being_told() {
        for text in ["", "[]", r#"{"auths": {"a": {}}}"#, r#"{"auths": {"a": {"auth": "geheim"}}}"#] {
            let error = Credentials::from_docker_config(text.as_bytes()).expect_err(text);
            assert!(!format!("{error:?} {error}").contains("geheim"));
        }
    }
}
