//! Settings, from environment variables.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use reqwest::Url;

/// What the program needs to know before it starts.
#[derive(Debug)]
pub struct Config {
    /// `BACKEND_URL`: where the backend answers, such as `http://todo-backend:8000`.
    pub backend: Url,
    /// `LISTEN`: address and port to serve on; all addresses, port 3000, unless it is given.
    pub listen: SocketAddr,
    /// `SHUTDOWN_SECONDS`: how long answers that still flow may go on after SIGTERM; 20 unless it is given.
    pub drain: Duration,
    /// `SESSION_COOKIE`: the name of the cookie; `session` unless it is given. Cookies ignore ports, so that two installations on one
    /// host need two names.
    pub cookie: String,
}

/// A setting that is missing or can't be understood.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has no default.
    #[error("{0} is not set; set it to the backend's address, such as http://todo-backend:8000")]
    Missing(&'static str),
    /// No http or https URL.
    #[error("BACKEND_URL is no http or https URL: {0:?}")]
    Backend(String),
    /// No address and port.
    #[error("LISTEN is no address and port, such as 0.0.0.0:3000: {0:?}")]
    Listen(String),
    /// No number.
    #[error("SHUTDOWN_SECONDS is no whole number of seconds: {0:?}")]
    Shutdown(String),
    /// No name that a cookie may have.
    #[error("SESSION_COOKIE is no name of a cookie, such as session-dev: {0:?}")]
    Cookie(String),
}

impl Config {
    /// Reads the settings; `variable` gives the value of an environment variable.
    ///
    /// # Errors
    ///
    /// The first setting that is missing or makes no sense.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let backend = variable("BACKEND_URL").ok_or(Error::Missing("BACKEND_URL"))?;
        let backend = Url::parse(&backend)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or(Error::Backend(backend))?;
        let drain = match variable("SHUTDOWN_SECONDS") {
            Some(seconds) => seconds.parse::<u32>().map_err(|_| Error::Shutdown(seconds))?,
            None => 20,
        };
        let cookie = variable("SESSION_COOKIE").unwrap_or_else(|| "session".to_owned());
        if !is_token(&cookie) {
            return Err(Error::Cookie(cookie));
        }
        Ok(Self { backend, listen: listen(variable)?, drain: Duration::from_secs(drain.into()), cookie })
    }
}

/// What RFC 6265 allows for a name: a token of HTTP (RFC 9110, 5.6.2).
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Where to serve.
///
/// # Errors
///
/// `LISTEN` is no address and port.
pub fn listen(variable: impl Fn(&str) -> Option<String>) -> Result<SocketAddr, Error> {
    match variable("LISTEN") {
        Some(listen) => listen.parse().map_err(|_| Error::Listen(listen)),
        None => Ok((Ipv4Addr::UNSPECIFIED, 3000).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, Error> {
        Config::read(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_backend_alone_is_needed() {
        let config = read(&[("BACKEND_URL", "http://todo-backend:8000")]).unwrap();
        assert_eq!(config.backend.as_str(), "http://todo-backend:8000/");
        assert_eq!(config.listen.to_string(), "0.0.0.0:3000");
        assert_eq!((config.drain, &*config.cookie), (Duration::from_secs(20), "session"));
        let given = [("BACKEND_URL", "http://b"), ("SHUTDOWN_SECONDS", "80"), ("SESSION_COOKIE", "session-todo-dev")];
        let config = read(&given).unwrap();
        assert_eq!((config.drain, &*config.cookie), (Duration::from_secs(80), "session-todo-dev"));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (variables, said) in [
            (&[][..], "BACKEND_URL is not set"),
            (&[("BACKEND_URL", "")], "no http or https URL: \"\""),
            (&[("BACKEND_URL", "todo-backend:8000")], "no http or https URL"),
            (&[("BACKEND_URL", "ftp://b")], "no http or https URL"),
            (&[("BACKEND_URL", "http://b"), ("LISTEN", "3000")], "LISTEN is no address and port"),
            (&[("BACKEND_URL", "http://b"), ("SHUTDOWN_SECONDS", "-1")], "SHUTDOWN_SECONDS is no whole number"),
            (&[("BACKEND_URL", "http://b"), ("SESSION_COOKIE", "")], "SESSION_COOKIE is no name of a cookie"),
            (&[("BACKEND_URL", "http://b"), ("SESSION_COOKIE", "a; b")], "SESSION_COOKIE is no name of a cookie"),
            (&[("BACKEND_URL", "http://b"), ("SESSION_COOKIE", "sitzung=ä")], "SESSION_COOKIE is no name of a cookie"),
        ] {
            let error = read(variables).unwrap_err().to_string();
            assert!(error.contains(said), "{variables:?}: {error}");
        }
    }
}
