//! Settings: environment variables, read and validated once, before anything starts.
//!
//! No error here quotes a value: any of them may be a secret.

use std::fs::File;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;

/// Shorter secrets can be guessed offline from one token.
const JWT_SECRET_LENGTH: usize = 32;

/// What the server needs to run.
pub struct Config {
    /// Where it listens (`LISTEN`).
    pub listen: SocketAddr,
    /// Where the database is (`DATABASE_URL`).
    pub database: PgConnectOptions,
    /// What sessions are signed with (`JWT_SECRET`).
    pub jwt_secret: SecretString,
    /// The MCP server (`MCP_URL`).
    pub mcp: Url,
    /// The model's endpoint; without a key there is no chat.
    pub model: Option<ModelConfig>,
    /// How long answers that are under way may take after SIGTERM (`SHUTDOWN_SECONDS`).
    pub drain: Duration,
}

/// An OpenAI-compatible endpoint.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// Chat completions, below `OPENAI_BASE_URL`.
    pub url: Url,
    /// Its name for the model (`OPENAI_AGENT_MODEL`).
    pub model: String,
    /// The bearer token (`OPENAI_API_KEY`).
    pub key: SecretString,
    /// How long it may be silent (`OPENAI_TIMEOUT_SECONDS`).
    pub patience: Duration,
}

/// A setting that can't be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// It has no default.
    #[error("{0} is not set")]
    Missing(&'static str),
    /// It is something else than it must be.
    #[error("{name} is not {must_be}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// What it should be.
        must_be: &'static str,
    },
}

impl Config {
    /// From variables: `read` answers with a variable's value.
    pub fn read(read: &impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let jwt_secret = SecretString::from(required(read, "JWT_SECRET")?);
        if jwt_secret.expose_secret().len() < JWT_SECRET_LENGTH {
            return Err(ConfigError::Invalid { name: "JWT_SECRET", must_be: "at least 32 bytes long" });
        }
        Ok(Self {
            listen: listen(read)?,
            database: database(read)?,
            jwt_secret,
            mcp: parsed(read, "MCP_URL", "http://127.0.0.1:8001/mcp", "a URL")?,
            model: model(read)?,
            drain: seconds(read, "SHUTDOWN_SECONDS", "20")?,
        })
    }
}

/// `DATABASE_URL` alone: all that a migration needs.
pub fn database(read: &impl Fn(&str) -> Option<String>) -> Result<PgConnectOptions, ConfigError> {
    let url = required(read, "DATABASE_URL")?;
    let invalid = || ConfigError::Invalid {
        name: "DATABASE_URL",
        must_be: "of the form postgresql://user:password@host:5432/database",
    };
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(invalid());
    }
    let options = PgConnectOptions::from_str(&url).map_err(|_| invalid())?;
    // Once it is asked for, nothing tells such a file from a database that is away.
    let query = url.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let root = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "sslrootcert");
    if root.is_some_and(|(_, path)| File::open(&*path).is_err()) {
        return Err(ConfigError::Invalid { name: "DATABASE_URL", must_be: "one whose sslrootcert can be read" });
    }
    Ok(options.application_name(env!("CARGO_PKG_NAME")))
}

/// `LISTEN` alone.
pub fn listen(read: &impl Fn(&str) -> Option<String>) -> Result<SocketAddr, ConfigError> {
    parsed(read, "LISTEN", "0.0.0.0:8000", "an address with a port")
}

fn model(read: &impl Fn(&str) -> Option<String>) -> Result<Option<ModelConfig>, ConfigError> {
    let Some(key) = read("OPENAI_API_KEY").map(|key| key.trim().to_owned()).filter(|key| !key.is_empty()) else {
        return Ok(None);
    };
    let mut url: Url = parsed(read, "OPENAI_BASE_URL", "https://api.openai.com/v1", "a URL")?;
    let not_http = ConfigError::Invalid { name: "OPENAI_BASE_URL", must_be: "an http or https URL" };
    if !matches!(url.scheme(), "http" | "https") {
        return Err(not_http);
    }
    url.path_segments_mut().map_err(|()| not_http)?.pop_if_empty().extend(["chat", "completions"]);
    let model = given(read, "OPENAI_AGENT_MODEL").unwrap_or_else(|| "gpt-4o-mini".to_owned());
    let patience = seconds(read, "OPENAI_TIMEOUT_SECONDS", "60")?;
    Ok(Some(ModelConfig { url, model, key: key.into(), patience }))
}

/// A variable that is set to nothing is as good as one that is not set.
fn given(read: &impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    read(name).filter(|value| !value.is_empty())
}

fn required(read: &impl Fn(&str) -> Option<String>, name: &'static str) -> Result<String, ConfigError> {
    given(read, name).ok_or(ConfigError::Missing(name))
}

fn parsed<T: FromStr>(
    read: &impl Fn(&str) -> Option<String>,
    name: &'static str,
    default: &str,
    must_be: &'static str,
) -> Result<T, ConfigError> {
    given(read, name).as_deref().unwrap_or(default).parse().map_err(|_| ConfigError::Invalid { name, must_be })
}

fn seconds(read: &impl Fn(&str) -> Option<String>, name: &'static str, default: &str) -> Result<Duration, ConfigError> {
    Ok(Duration::from_secs(parsed::<u32>(read, name, default, "a whole number of seconds")?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let all = [&[("DATABASE_URL", "postgresql://todo:pw@db/todo"), ("JWT_SECRET", SECRET)], variables].concat();
        let value = |name: &str| all.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Config::read(&value)
    }

    #[test]
    fn what_is_not_given_has_a_default_and_no_key_means_no_chat() {
        let config = read(&[("OPENAI_API_KEY", " ")]).unwrap();
        assert_eq!(config.listen.port(), 8000);
        assert_eq!(config.mcp.as_str(), "http://127.0.0.1:8001/mcp");
        assert!(config.model.is_none());
    }

    #[test]
    fn the_endpoint_is_below_the_base_url_with_or_without_a_slash() {
        for base in ["http://model:8080/v1", "http://model:8080/v1/"] {
            let config = read(&[("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", base)]).unwrap();
            assert_eq!(config.model.unwrap().url.as_str(), "http://model:8080/v1/chat/completions");
        }
    }

    #[test]
    fn what_cannot_be_used_is_named_and_not_quoted() {
        let told = |variables: &[(&str, &str)]| read(variables).err().unwrap().to_string();
        assert_eq!(told(&[("DATABASE_URL", "")]), "DATABASE_URL is not set");
        assert_eq!(told(&[("JWT_SECRET", "short")]), "JWT_SECRET is not at least 32 bytes long");
        for (name, value) in [
            ("DATABASE_URL", "mysql://canary"),
            ("DATABASE_URL", "postgresql://u:canary@db/x?sslmode=canary"),
            ("DATABASE_URL", "postgresql://u:pw@db/x?sslmode=verify-full&sslrootcert=%2Fno%2Fcanary.pem"),
            ("LISTEN", "canary"),
            ("MCP_URL", "canary"),
            ("SHUTDOWN_SECONDS", "-1"),
        ] {
            let told = told(&[(name, value)]);
            assert!(told.starts_with(name) && !told.contains("canary"), "{told}");
        }
        assert!(told(&[("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", "mailto:a@b")]).starts_with("OPENAI_BASE_URL"));
    }
}
