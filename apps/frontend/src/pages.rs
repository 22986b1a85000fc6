//! The pages: what a browser sends in, HTML out.

use askama::Template;
use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};

use crate::{backend::Error, session, words};

pub(crate) mod account;
pub(crate) mod assets;
pub(crate) mod chat;
mod extract;
pub(crate) mod home;
pub(crate) mod tasks;
mod view;

/// Why there is no page: somebody has to sign in, or is told what is wrong.
pub(crate) enum Failure {
    /// The backend does not accept the session.
    Expired,
    /// A page with these words.
    Told(StatusCode, String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if error.expired() {
            return Self::Expired;
        }
        log(&error);
        Self::Told(status(&error), words::of(&error))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Expired => (session::end(), Redirect::to("/signin?notice=expired")).into_response(),
            Self::Told(status, words) => problem(status, &words),
        }
    }
}

/// The status that goes with an error of the backend's.
fn status(error: &Error) -> StatusCode {
    match error {
        Error::Away(_) | Error::Stalled => StatusCode::SERVICE_UNAVAILABLE,
        Error::Refused { status, .. } if (400..500).contains(status) || *status == 503 => {
            StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY)
        }
        _ => StatusCode::BAD_GATEWAY,
    }
}

/// Deleted: also if it was gone already, since that is what was asked for.
fn deleted(answer: Result<(), Error>, next: Redirect) -> Result<Redirect, Failure> {
    match answer {
        Err(error) if !error.not_found() => Err(error.into()),
        _ => Ok(next),
    }
}

/// Writes down what a person is not told. What somebody typed wrong is nobody's trouble.
fn log(error: &Error) {
    if status(error).is_server_error() {
        tracing::warn!(error = error as &dyn std::error::Error, "the backend did not do what it was asked");
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct Problem<'a> {
    title: &'a str,
    words: &'a str,
}

/// A page that says what is wrong.
pub(crate) fn problem(status: StatusCode, words: &str) -> Response {
    let title = match status {
        StatusCode::NOT_FOUND => "Not found",
        status if status.is_server_error() => "Not available",
        _ => "That did not work",
    };
    page(status, &Problem { title, words })
}

const NOTHING: &str = "There is nothing at this address.";

/// The answer at any other address.
pub(crate) async fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, NOTHING)
}

/// A template as an answer.
fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response(),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "a page could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
