//! Settings: environment variables, read and validated once. No error quotes a value: it may be a secret.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;

/// As the backend asks for it.
const JWT_SECRET_LENGTH: usize = 32;

/// What the server needs to run.
pub struct Config {
    /// Where it listens (`LISTEN`).
    pub listen: SocketAddr,
    /// Where the database is (`DATABASE_URL`).
    pub database: PgConnectOptions,
    /// What the backend signs its users' tokens with (`JWT_SECRET`).
    pub jwt_secret: SecretString,
    /// How long answers that are under way may take after SIGTERM (`SHUTDOWN_SECONDS`).
    pub drain: Duration,
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
        let given = |name| read(name).filter(|value| !value.is_empty());
        let required = |name| given(name).ok_or(ConfigError::Missing(name));
        let invalid = |name, must_be| ConfigError::Invalid { name, must_be };

        let url = required("DATABASE_URL")?;
        let not_postgres = || invalid("DATABASE_URL", "of the form postgresql://user:password@host:5432/database");
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(not_postgres());
        }
        let database = PgConnectOptions::from_str(&url).map_err(|_| not_postgres())?;
        let jwt_secret = SecretString::from(required("JWT_SECRET")?);
        if jwt_secret.expose_secret().len() < JWT_SECRET_LENGTH {
            return Err(invalid("JWT_SECRET", "at least 32 bytes long"));
        }
        let drain = given("SHUTDOWN_SECONDS").as_deref().unwrap_or("20").parse::<u32>();
        let drain = drain.map_err(|_| invalid("SHUTDOWN_SECONDS", "a whole number of seconds"))?;
        Ok(Self {
            listen: listen(read)?,
            database: database.application_name(env!("CARGO_PKG_NAME")),
            jwt_secret,
            drain: Duration::from_secs(drain.into()),
        })
    }
}

/// `LISTEN` alone.
pub fn listen(read: &impl Fn(&str) -> Option<String>) -> Result<SocketAddr, ConfigError> {
    let given = read("LISTEN").filter(|value| !value.is_empty()).unwrap_or_else(|| "0.0.0.0:8001".to_owned());
    given.parse().map_err(|_| ConfigError::Invalid { name: "LISTEN", must_be: "an address with a port" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let needed =
            [("DATABASE_URL", "postgresql://todo:pw@db/todo"), ("JWT_SECRET", "0123456789abcdef0123456789abcdef")];
        let all = [&needed, variables].concat();
        let value = |name: &str| all.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Config::read(&value)
    }

    #[test]
    fn what_is_not_given_has_a_default() {
        let config = read(&[("LISTEN", ""), ("SHUTDOWN_SECONDS", "")]).unwrap();
        assert_eq!((config.listen.port(), config.drain), (8001, Duration::from_secs(20)));
        assert_eq!(read(&[("SHUTDOWN_SECONDS", "80")]).unwrap().drain, Duration::from_secs(80));
    }

    #[test]
    fn what_cannot_be_used_is_named_and_not_quoted() {
        let told = |name, value| read(&[(name, value)]).err().unwrap().to_string();
        assert_eq!(told("DATABASE_URL", ""), "DATABASE_URL is not set");
        for (name, value) in [
            ("DATABASE_URL", "mysql://canary"),
            ("JWT_SECRET", "canary"),
            ("LISTEN", "canary"),
            ("SHUTDOWN_SECONDS", "canary"),
            ("SHUTDOWN_SECONDS", "-1"),
        ] {
            let told = told(name, value);
            assert!(told.starts_with(name) && !told.contains("canary"), "{told}");
        }
    }
}
