//! What can go wrong between this server and the backend.

/// Why the backend did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, no answer in time, or one that broke off.
    #[error("the backend gave no answer")]
    Away(#[source] reqwest::Error),
    /// It said no.
    #[error("the backend refused with {status} {code}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The backend's name for it; empty if something else answered in its place.
        code: String,
        /// The backend's words.
        message: String,
    },
    /// It answered something else than agreed.
    #[error("the backend's answer was not understood")]
    Understood(#[source] serde_json::Error),
    /// A chat's answer is no event stream.
    #[error("the chat's events were not understood")]
    Events(#[source] sse_stream::Error),
    /// A chat said that it failed.
    #[error("the chat failed with {code}: {message}")]
    Chat {
        /// The backend's name for it.
        code: String,
        /// The backend's words.
        message: String,
    },
    /// A chat's answer did not go on.
    #[error("the chat fell silent")]
    Stalled,
    /// A chat's answer ended before it was done.
    #[error("the chat broke off")]
    BrokeOff,
    /// TLS could not be set up.
    #[error("TLS can't be set up")]
    Tls(#[source] rustls::Error),
    /// The HTTP client could not be set up.
    #[error("the HTTP client can't be set up")]
    Client(#[source] reqwest::Error),
}

impl Error {
    /// Whether the token is no longer good (or never was).
    #[must_use]
    pub fn expired(&self) -> bool {
        matches!(self, Self::Refused { status: 401, .. })
    }

    /// Whether what was asked for does not exist.
    #[must_use]
    pub fn not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}
