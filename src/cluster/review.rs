//! Whose is a token? The API server is asked by a TokenReview.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::core::Request;
use serde::Deserialize;

use super::api::{As, Caller};
use super::error::ClusterError;
use crate::model::secret::Masked;

/// What the API server says of a valid token.
#[derive(Debug)]
pub struct Reviewed {
    /// The user, such as `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
    /// Those of the audiences asked for that the token is for.
    pub audiences: Vec<String>,
}

/// The answer without its spec, which repeats the token.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    status: TokenReviewStatus,
}

/// Asks about a token that should be for this audience. `None` if it is not valid; whoever asks checks the audiences too.
pub async fn review(caller: &Caller, token: &Masked, audience: &str) -> Result<Option<Reviewed>, ClusterError> {
    let what = || "review a token".to_owned();
    let spec = TokenReviewSpec { token: token.reveal().to_owned(), audiences: Some(vec![audience.to_owned()]) };
    let body = serde_json::to_vec(&TokenReview { spec, ..TokenReview::default() })
        .map_err(|source| ClusterError::Unreadable { what: what(), source })?;
    let request = Request::new("/apis/authentication.k8s.io/v1/tokenreviews").create(&PostParams::default(), body);
    let Answer { status } = caller.call(&what, As::Plumb, request).await?;
    let user = status.user.and_then(|user| user.username).unwrap_or_default();
    let valid = status.authenticated == Some(true) && !user.is_empty();
    Ok(valid.then(|| Reviewed { user, audiences: status.audiences.unwrap_or_default() }))
}
