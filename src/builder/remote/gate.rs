//! Who may ask: the API server says whose a token is, and one service account is let in.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode, header};
use sha2::{Digest as _, Sha256};
use tracing::warn;

use crate::cluster::review::{Reviewed, review};
use crate::cluster::{Cluster, ClusterError};
use crate::model::secret::Masked;

/// For so long a token that was let in is not asked about again: a build is a handful of requests within a moment.
const REMEMBERED: Duration = Duration::from_secs(10);

/// Lets in whom the API server knows as this client.
pub struct Gate {
    cluster: Cluster,
    client: String,
    audience: String,
    /// Hashes of tokens that were let in, and when that was.
    known: Mutex<HashMap<[u8; 32], Instant>>,
}

/// Why a request is not let in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("there is no bearer token")]
    NoToken,
    /// Expired, revoked, not signed by this cluster, or for another audience: the API server does not say more.
    #[error("the token is not valid here: it has expired, or is not of this cluster, or not for the audience {0:?}")]
    Invalid(String),
    #[error("the token is not for the audience {0:?}")]
    OtherAudience(String),
    #[error("the token is that of {0}, who is not let in")]
    OtherClient(String),
    #[error("the token can't be checked: {0}")]
    Unchecked(#[from] ClusterError),
}

impl Refusal {
    pub fn code(&self) -> StatusCode {
        match self {
            Self::NoToken | Self::Invalid(_) => StatusCode::UNAUTHORIZED,
            Self::OtherAudience(_) | Self::OtherClient(_) => StatusCode::FORBIDDEN,
            Self::Unchecked(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl Gate {
    /// Lets in `client`, such as `system:serviceaccount:plumb:plumb`, with tokens for this audience. The cluster's API server is asked.
    pub fn new(cluster: Cluster, client: String, audience: String) -> Self {
        Self { cluster, client, audience, known: Mutex::default() }
    }

    pub(super) async fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let token = bearer(headers).ok_or(Refusal::NoToken)?;
        let hash: [u8; 32] = Sha256::digest(token.reveal()).into();
        if self.remembers(&hash) {
            return Ok(());
        }
        let asked = review(&self.cluster.caller, &token, &self.audience).await;
        let admitted = asked.map_err(Refusal::from).and_then(|reviewed| self.judge(reviewed));
        match &admitted {
            Ok(()) => self.remember(hash),
            // The others can be anybody's, as often as they like.
            Err(refusal @ (Refusal::OtherClient(_) | Refusal::Unchecked(_))) => warn!(reason = %refusal, "refused"),
            Err(_) => {}
        }
        admitted
    }

    fn judge(&self, reviewed: Option<Reviewed>) -> Result<(), Refusal> {
        let Some(Reviewed { user, audiences }) = reviewed else { return Err(Refusal::Invalid(self.audience.clone())) };
        // An API server that knows nothing of audiences takes any token of its own.
        if !audiences.contains(&self.audience) {
            return Err(Refusal::OtherAudience(self.audience.clone()));
        }
        if user == self.client { Ok(()) } else { Err(Refusal::OtherClient(user)) }
    }

    fn remembers(&self, hash: &[u8; 32]) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(hash).is_some_and(|since| since.elapsed() < REMEMBERED)
    }

    fn remember(&self, hash: [u8; 32]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, since| since.elapsed() < REMEMBERED);
        known.insert(hash, Instant::now());
    }
}

/// The token of a request.
fn bearer(headers: &HeaderMap) -> Option<Masked> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| Masked::new(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        let nobody = Cluster::at("127.0.0.1:9".parse().unwrap());
        Gate::new(nobody, "system:serviceaccount:plumb:plumb".to_owned(), "plumb-builder".to_owned())
    }

    fn code(user: &str, audiences: &[&str]) -> u16 {
        let audiences = audiences.iter().map(|audience| (*audience).to_owned()).collect();
        let judged = gate().judge(Some(Reviewed { user: user.to_owned(), audiences }));
        judged.map_or_else(|refusal| refusal.code().as_u16(), |()| 200)
    }

    #[tokio::test] // kube's client is made in a runtime
    async fn one_account_with_one_audience_is_let_in() {
        let plumb = "system:serviceaccount:plumb:plumb";
        assert_eq!(code(plumb, &["plumb-builder"]), 200);
        assert_eq!(code(plumb, &["other", "plumb-builder"]), 200);
        assert_eq!(code(plumb, &["https://kubernetes.default.svc"]), 403);
        assert_eq!(code(plumb, &[]), 403);
        for other in ["system:serviceaccount:plumb:default", "system:serviceaccount:other:plumb", "admin", ""] {
            assert_eq!(code(other, &["plumb-builder"]), 403, "{other}");
        }
        assert_eq!(gate().judge(None).unwrap_err().code(), 401);
    }

    #[test]
    fn only_a_bearer_token_is_one() {
        let token = |value: &str| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
            bearer(&headers).map(|token| token.reveal().to_owned())
        };
        assert_eq!(token("Bearer abc"), Some("abc".to_owned()));
        assert_eq!(token("bearer  abc"), Some("abc".to_owned()));
        for none in ["", "abc", "Bearer", "Bearer ", "Basic abc"] {
            assert_eq!(token(none), None, "{none:?}");
        }
        assert!(bearer(&HeaderMap::new()).is_none());
    }

    #[tokio::test]
    async fn without_an_api_server_nobody_is_let_in_but_whom_it_has_just_let_in() {
        let gate = gate();
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, "Bearer secret-token".parse().unwrap())]);
        let refusal = gate.admit(&headers).await.unwrap_err();
        assert_eq!(refusal.code(), 503);
        assert!(!format!("{refusal} {refusal:?}").contains("secret-token"));
        gate.remember(Sha256::digest("secret-token").into());
        gate.admit(&headers).await.unwrap();
        assert_eq!(gate.admit(&HeaderMap::new()).await.unwrap_err().code(), 401);
    }
}
