//! Settings: environment variables, read and validated once. No error quotes a value: it may be a secret.

use std::net::SocketAddr;
use std::str::FromStr;

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
        Ok(Self { listen: listen(read)?, database: database.application_name(env!("CARGO_PKG_NAME")), jwt_secret })
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

    #[test]
    fn what_cannot_be_used_is_named_and_not_quoted() {
        let read = |url: &str, secret: &str, listen: &str| {
            let value = |name: &str| match name {
                "DATABASE_URL" => Some(url.to_owned()),
                "JWT_SECRET" => Some(secret.to_owned()),
                _ => Some(listen.to_owned()),
            };
            Config::read(&value).map(|config| config.listen.port()).map_err(|error| error.to_string())
        };
        let (url, secret) = ("postgresql://todo:pw@db/todo", "0123456789abcdef0123456789abcdef");
        assert_eq!(read(url, secret, ""), Ok(8001));
        assert_eq!(read("", secret, ""), Err("DATABASE_URL is not set".to_owned()));
        for (name, bad) in [
            ("DATABASE_URL", read("mysql://canary", secret, "")),
            ("JWT_SECRET", read(url, "canary", "")),
            ("LISTEN", read(url, secret, "canary")),
        ] {
            let told = bad.unwrap_err();
            assert!(told.starts_with(name) && !told.contains("canary"), "{told}");
        }
    }
}
