//! Whose token it is: the backend's JSON Web Tokens, verified with the secret that it signs them with.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::sync::Arc;
use uuid::Uuid;

use crate::hmac;

/// Who makes the tokens.
const ISSUER: &str = "todo-backend";

/// The user in whose name a request is made; an extension of it.
#[derive(Debug, Clone, Copy)]
pub struct User(pub Uuid);

/// Reads tokens.
pub struct Tokens {
    key: DecodingKey,
    validation: Validation,
}

#[derive(Deserialize)]
struct Claims {
    sub: Uuid,
}

impl Tokens {
    /// With the secret that signs them.
    pub fn new(secret: &SecretString) -> Self {
        hmac::install();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        validation.leeway = 5;
        Self { key: DecodingKey::from_secret(secret.expose_secret().as_bytes()), validation }
    }

    /// Whose token it is, if it is valid.
    fn verify(&self, token: &str) -> Option<User> {
        let token = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation).ok()?;
        Some(User(token.claims.sub))
    }
}

/// Lets requests with a valid token pass, as their user's.
pub async fn authenticate(State(tokens): State<Arc<Tokens>>, mut request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.split_once(' '));
    let user = match token {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => tokens.verify(token),
        _ => None,
    };
    let Some(user) = user else {
        return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], "a valid token is needed\n").into_response();
    };
    request.extensions_mut().insert(user);
    next.run(request).await
}
