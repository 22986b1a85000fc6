//! What a client is told when it does not get what it asked for: a status, a code for programs, a sentence for people.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::StatusCode;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// A request that is not answered with what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No token, or one that is not valid (any longer).
    #[error("Sign in first.")]
    Unauthorized,
    /// Deliberately silent about which of the two is wrong.
    #[error("The e-mail address or the password is wrong.")]
    WrongCredentials,
    /// So long is to be waited before the next try.
    #[error("There were too many tries for this account. Wait a moment, then try again.")]
    TooManyAttempts(Duration),
    /// So long is to be waited before the next try.
    #[error("Too many people have signed up of late. Wait a moment, then try again.")]
    TooManySignUps(Duration),
    /// So long is to be waited before the next try.
    #[error("Too many people are signing in just now. Wait a moment, then try again.")]
    Busy(Duration),
    /// As many answers as may be are being made for this user.
    #[error("Two of your messages are still being answered. Wait for one of the answers, then try again.")]
    TooManyChats,
    /// There is an account of that address.
    #[error("There is an account with this e-mail address already.")]
    EmailTaken,
    /// It is not there, or somebody else's.
    #[error("There is no such {0}.")]
    NotFound(&'static str),
    /// The request can be read, but not what it says.
    #[error("{0}")]
    Invalid(String),
    /// The request can't be read.
    #[error("{1}")]
    Unreadable(StatusCode, String),
    /// The chat has no model.
    #[error("The chat is not configured: this installation has no key for a model. Everything else works.")]
    ChatNotConfigured,
    /// The database has failed.
    #[error("The database can't be reached right now. Try again in a moment.")]
    Unavailable(#[source] sqlx::Error),
    /// Our own mistake.
    #[error("Something went wrong here. Try again in a moment.")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl ApiError {
    /// Anything that is a mistake of ours, with its source for the log.
    pub fn internal(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(error.into())
    }

    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::WrongCredentials => (StatusCode::UNAUTHORIZED, "wrong_credentials"),
            Self::TooManyAttempts(_) => (StatusCode::TOO_MANY_REQUESTS, "too_many_attempts"),
            Self::TooManySignUps(_) => (StatusCode::TOO_MANY_REQUESTS, "too_many_signups"),
            Self::Busy(_) => (StatusCode::TOO_MANY_REQUESTS, "busy"),
            Self::TooManyChats => (StatusCode::TOO_MANY_REQUESTS, "too_many_chats"),
            Self::EmailTaken => (StatusCode::CONFLICT, "email_taken"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            Self::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            Self::Unreadable(status, _) => (*status, "unreadable"),
            Self::ChatNotConfigured => (StatusCode::SERVICE_UNAVAILABLE, "chat_not_configured"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "database_unavailable"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match &self {
            Self::Unavailable(error) => tracing::warn!(%error, "the database failed"),
            Self::Internal(error) => tracing::error!(%error, "a request failed"),
            _ => {}
        }
        let (status, code) = self.kind();
        let mut response =
            (status, Json(json!({"error": {"code": code, "message": self.to_string()}}))).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, axum::http::HeaderValue::from_static("Bearer"));
        }
        if let Self::TooManyAttempts(wait) | Self::TooManySignUps(wait) | Self::Busy(wait) = self {
            response.headers_mut().insert(RETRY_AFTER, wait.as_secs().saturating_add(1).into());
        }
        response
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => {
                Self::Unavailable(error)
            }
            // A token outlived its user: the database is another one than when it was made.
            sqlx::Error::Database(database)
                if database.constraint().is_some_and(|name| name.ends_with("user_id_fkey")) =>
            {
                Self::Unauthorized
            }
            // operator_intervention: it is stopping or starting; 53: it has no resources left.
            sqlx::Error::Database(database)
                if database
                    .code()
                    .is_some_and(|code| ["57P", "53", "08"].iter().any(|class| code.starts_with(class))) =>
            {
                Self::Unavailable(error)
            }
            _ => Self::internal(error),
        }
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        match rejection {
            JsonRejection::JsonDataError(error) => Self::Invalid(error.body_text()),
            other => Self::Unreadable(other.status(), other.body_text()),
        }
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::Invalid(rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(_: PathRejection) -> Self {
        Self::NotFound("object")
    }
}
