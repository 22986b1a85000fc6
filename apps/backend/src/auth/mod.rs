//! Users and their sessions.

mod attempts;
mod hmac;
mod password;
mod routes;
mod signups;
mod token;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use uuid::Uuid;

use crate::error::ApiError;
use crate::server::App;

pub use attempts::Attempts;
pub use password::Passwords;
pub use routes::routes;
pub use signups::SignUps;
pub use token::Tokens;

/// The user whose valid token a request bears.
#[derive(Debug, Clone)]
pub struct CurrentUser {
    /// Who it is.
    pub id: Uuid,
    /// The token itself: the MCP server is asked in the user's name.
    pub token: String,
}

impl FromRequestParts<App> for CurrentUser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token =
            header.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let (_, token) = token.ok_or(ApiError::Unauthorized)?;
        let id = app.tokens.verify(token).ok_or(ApiError::Unauthorized)?;
        Ok(Self { id, token: token.to_owned() })
    }
}
