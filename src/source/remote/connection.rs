//! How git is called for one remote: which settings, which credentials, and nothing else from this process's environment.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use tempfile::NamedTempFile;
use tokio::process::Command;

use super::RemoteError;
use super::child::{self, Ended};
use crate::model::secret::{Masked, Redactor};
use crate::source::layout::Layout;
use crate::source::settings::SecretSource;
use crate::source::url::{Scheme, refuse_link_local};
use crate::source::{RemoteUrl, SourceSettings};

/// What of this process's environment git and ssh get: where programs are, whose they are, and how to leave the network.
const INHERITED: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// A prepared way to call git for one remote. Lives for one attempt: credentials are read for each.
pub(super) struct Connection {
    environment: Vec<(OsString, OsString)>,
    redactor: Redactor,
    known_hosts: String,
    /// Files that git or ssh reads; removed with this.
    _files: Vec<NamedTempFile>,
}

impl Connection {
    /// Reads the credentials and checks the address. Sends nothing yet.
    pub async fn prepare(url: &RemoteUrl, settings: &SourceSettings) -> Result<Self, RemoteError> {
        if url.scheme == Scheme::Http && !settings.insecure_http {
            return Err(RemoteError::InsecureHttp);
        }
        check_address(url).await?;
        let mut config = vec![
            ("protocol.allow".to_owned(), "never".to_owned()),
            (format!("protocol.{}.allow", url.scheme.name()), "always".to_owned()),
            ("http.followRedirects".to_owned(), "false".to_owned()),
            // Larger files go to the disk as they come. git would hold them whole, and plumb's pod has less memory than somebody may push.
            ("core.bigFileThreshold".to_owned(), "16m".to_owned()),
            ("gc.autoDetach".to_owned(), "false".to_owned()),
            // A commit that was pushed away may still be the one that is deployed.
            ("gc.pruneExpire".to_owned(), "90.days.ago".to_owned()),
        ];
        let mut connection = Self {
            environment: Vec::new(),
            redactor: Redactor::default(),
            known_hosts: String::new(),
            _files: Vec::new(),
        };
        match url.scheme {
            Scheme::Https | Scheme::Http => connection.http(url, settings, &mut config)?,
            Scheme::Ssh => connection.ssh(settings)?,
            Scheme::File => connection.file(url, settings)?,
        }
        connection.set("GIT_CONFIG_COUNT", config.len().to_string());
        for (number, (key, value)) in config.into_iter().enumerate() {
            connection.set(&format!("GIT_CONFIG_KEY_{number}"), key);
            connection.set(&format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        Ok(connection)
    }

    /// Runs git in a bare repository (or nowhere) and gives what it printed, or the reason of its failure without any secret.
    pub async fn git<I, S>(
        &self,
        directory: Option<&Path>,
        arguments: I,
        action: &'static str,
        limit: Duration,
    ) -> Result<Vec<u8>, RemoteError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let ended = self.run(directory, arguments, action, limit).await?;
        if ended.status.success() { Ok(ended.output) } else { Err(self.failure(action, &ended.errors)) }
    }

    /// Runs git, and gives how it ended: what it printed as errors has no secret any more.
    pub async fn run<I, S>(
        &self,
        directory: Option<&Path>,
        arguments: I,
        action: &'static str,
        limit: Duration,
    ) -> Result<Ended, RemoteError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = Command::new("git");
        command.env_clear().current_dir("/").args(arguments);
        let inherited = INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        command.envs(inherited);
        // No configuration but ours: another's could name programs to run, other hosts, or other credentials.
        command.envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_TERMINAL_PROMPT", "0")]);
        command.envs([("LC_ALL", "C"), ("GIT_PROTOCOL_FROM_USER", "0"), ("GIT_SSH_VARIANT", "ssh")]);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = directory {
            command.env("GIT_DIR", directory);
        }
        let ended = child::run(command, action, limit).await?;
        Ok(Ended { errors: self.redactor.redact(&ended.errors), ..ended })
    }

    /// Why git failed, from what [`Self::run`] gave.
    pub fn failure(&self, action: &'static str, errors: &str) -> RemoteError {
        RemoteError::of_git(action, errors, &self.known_hosts)
    }

    fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.environment.push((name.into(), value.into()));
    }

    fn http(
        &mut self,
        url: &RemoteUrl,
        settings: &SourceSettings,
        config: &mut Vec<(String, String)>,
    ) -> Result<(), RemoteError> {
        let credentials = &settings.credentials;
        if let Some(file) = &credentials.ca_file {
            self.set("GIT_SSL_CAINFO", file);
        }
        // A server that sends less than this for so long has gone away.
        config.push(("http.lowSpeedLimit".to_owned(), "1".to_owned()));
        config.push(("http.lowSpeedTime".to_owned(), "60".to_owned()));
        let password = match &credentials.password {
            Some(source) => Some(read(source)?),
            None => url.password.clone(),
        };
        let Some(password) = password else { return Ok(()) };
        let user = credentials.username.as_deref().or(url.user.as_deref()).unwrap_or("git");
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{}", password.reveal()));
        self.redactor = Redactor::new([password.reveal().to_owned(), pair.clone()]);
        // In the environment of the child alone: a command line is there for everyone to see. For this URL only.
        config.push((format!("http.{url}.extraHeader"), format!("Authorization: Basic {pair}")));
        Ok(())
    }

    fn ssh(&mut self, settings: &SourceSettings) -> Result<(), RemoteError> {
        let credentials = &settings.credentials;
        // DEBUG1 for the fingerprint of a host that is not known: without it, ssh names only the kind of the key.
        let mut command = "ssh -oBatchMode=yes -oStrictHostKeyChecking=yes -oLogLevel=DEBUG1 -oConnectTimeout=15 \
                           -oServerAliveInterval=15 -oServerAliveCountMax=2 -oUpdateHostKeys=no -oControlMaster=no \
                           -oControlPath=none -oClearAllForwardings=yes -oPermitLocalCommand=no"
            .to_owned();
        self.known_hosts = "known_hosts".to_owned();
        if let Some(file) = &credentials.known_hosts {
            self.known_hosts = file.display().to_string();
            let option = format!("UserKnownHostsFile=\"{}\"", file.display());
            command = format!("{command} -oGlobalKnownHostsFile=/dev/null -o {}", quoted(&option));
        }
        if let Some(source) = &credentials.ssh_key {
            // ssh refuses a key that its group may read, as a mounted Secret often is: it gets a private copy.
            let key = read(source)?;
            let file = self.private_file(&settings.cache, &format!("{}\n", key.reveal().trim_end()))?;
            command = format!("{command} -oIdentitiesOnly=yes -oIdentityAgent=none -i {}", quoted(&file));
            self.redactor = Redactor::new(key.reveal().lines().map(str::to_owned));
        }
        self.set("GIT_SSH_COMMAND", command);
        Ok(())
    }

    fn file(&mut self, url: &RemoteUrl, settings: &SourceSettings) -> Result<(), RemoteError> {
        let Some(path) = &url.path else { return Ok(()) };
        // The owner is checked here, as for a local repository; git, whose own check knows nothing of `trust`, is told to skip it.
        Layout::find(path, &settings.trust)?;
        let file = self.private_file(&settings.cache, "[safe]\n\tdirectory = *\n")?;
        self.set("GIT_CONFIG_GLOBAL", file);
        Ok(())
    }

    /// A file that only this user may read, removed with the connection.
    fn private_file(&mut self, directory: &Path, text: &str) -> Result<String, RemoteError> {
        let mut file = NamedTempFile::new_in(directory).map_err(RemoteError::mirror(directory))?;
        file.write_all(text.as_bytes()).map_err(RemoteError::mirror(file.path()))?;
        let path = file.path().display().to_string();
        self._files.push(file);
        Ok(path)
    }
}

/// Looks the host up and refuses a name for a link-local address. A name that cannot be looked up here is left to git (and its proxy).
async fn check_address(url: &RemoteUrl) -> Result<(), RemoteError> {
    let Some((host, port)) = &url.host else { return Ok(()) };
    let lookup = tokio::net::lookup_host((host.trim_matches(['[', ']']), *port));
    if let Ok(Ok(addresses)) = tokio::time::timeout(Duration::from_secs(5), lookup).await {
        for address in addresses {
            refuse_link_local(address.ip())?;
        }
    }
    Ok(())
}

fn read(source: &SecretSource) -> Result<Masked, RemoteError> {
    match source {
        SecretSource::Value(value) => Ok(value.clone()),
        SecretSource::File(path) => {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|source| RemoteError::Secret { path: path.clone(), source })?;
            Ok(Masked::new(text.strip_suffix('\n').unwrap_or(&text)))
        }
    }
}

/// Quoted for the shell that git hands GIT_SSH_COMMAND to.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
