//! Parts of a request. What can't be read is answered with a page, not with a line of plain text.

use axum::{
    extract::{
        FromRequest, FromRequestParts,
        rejection::{FormRejection, PathRejection},
    },
    http::StatusCode,
};

use super::Failure;

/// A form that was sent.
#[derive(FromRequest)]
#[from_request(via(axum::Form), rejection(Failure))]
pub(crate) struct Form<T>(pub T);

/// What an address names.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Failure))]
pub(crate) struct Path<T>(pub T);

impl From<FormRejection> for Failure {
    fn from(rejection: FormRejection) -> Self {
        let words = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "That is too long.",
            _ => "What was sent could not be read. Please go back to the start and try again.",
        };
        Self::Told(rejection.status(), words.to_owned())
    }
}

impl From<PathRejection> for Failure {
    fn from(_: PathRejection) -> Self {
        Self::Told(StatusCode::NOT_FOUND, super::NOTHING.to_owned())
    }
}
