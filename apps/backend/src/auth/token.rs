//! Session tokens: JSON Web Tokens, HS256, for [`LIFETIME`]. The MCP server verifies them with the same secret.

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::hmac;
use crate::error::ApiError;

/// How long a session lasts.
const LIFETIME: TimeDelta = TimeDelta::hours(12);
/// Who makes the tokens, and for whom. The MCP server asks for the same.
const ISSUER: &str = "todo-backend";

/// Makes tokens and reads them.
pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: Uuid,
    iat: i64,
    exp: i64,
}

/// A token and when it ends.
#[derive(Debug, Serialize)]
pub struct Session {
    /// What a client sends as `Authorization: Bearer`.
    pub token: String,
    /// When it ceases to be valid.
    pub expires_at: DateTime<Utc>,
}

impl Tokens {
    /// With the secret that signs them.
    pub fn new(secret: &SecretString) -> Self {
        hmac::install();
        let secret = secret.expose_secret().as_bytes();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        validation.leeway = 5;
        Self { encoding: EncodingKey::from_secret(secret), decoding: DecodingKey::from_secret(secret), validation }
    }

    /// A session that begins now.
    pub fn issue(&self, user: Uuid, now: DateTime<Utc>) -> Result<Session, ApiError> {
        let expires_at = now + LIFETIME;
        let claims = Claims { iss: ISSUER.to_owned(), sub: user, iat: now.timestamp(), exp: expires_at.timestamp() };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding);
        Ok(Session { token: token.map_err(ApiError::internal)?, expires_at })
    }

    /// Whose token it is, if it is valid.
    pub fn verify(&self, token: &str) -> Option<Uuid> {
        let token = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).ok()?;
        Some(token.claims.sub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(secret: &str) -> Tokens {
        Tokens::new(&secret.to_owned().into())
    }

    #[test]
    fn a_token_is_its_users_until_it_ends() {
        let (tokens, user) = (tokens("a secret"), Uuid::from_u128(7));
        let now = Utc::now();
        assert_eq!(tokens.verify(&tokens.issue(user, now).unwrap().token), Some(user));
        let old = tokens.issue(user, now - LIFETIME - TimeDelta::minutes(1)).unwrap();
        assert_eq!(tokens.verify(&old.token), None);
    }

    #[test]
    fn what_was_not_signed_with_the_secret_is_nobodys() {
        let (ours, user) = (tokens("a secret"), Uuid::from_u128(7));
        let theirs = tokens("another secret").issue(user, Utc::now()).unwrap().token;
        assert_eq!(ours.verify(&theirs), None);
        let token = ours.issue(user, Utc::now()).unwrap().token;
        let (head, rest) = token.split_once('.').unwrap();
        let (claims, signature) = rest.split_once('.').unwrap();
        // {"alg":"none"} and {"alg":"HS384"}, with the right signature and without one.
        for bad in [
            format!("eyJhbGciOiJub25lIn0.{claims}."),
            format!("eyJhbGciOiJub25lIn0.{claims}.{signature}"),
            format!("eyJhbGciOiJIUzM4NCJ9.{claims}.{signature}"),
            format!("{head}.{claims}."),
            format!("{head}.{claims}"),
            String::new(),
        ] {
            assert_eq!(ours.verify(&bad), None, "{bad}");
        }
    }
}
