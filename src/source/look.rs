//! One look at a repository, for whoever does not watch it.

use std::time::Duration;

use super::{Heads, RepositoryUrl, SourceError, SourceSettings, Store, remote};

/// A file system that does not answer within this is said to hang.
const WITHIN: Duration = Duration::from_secs(60);

/// The heads of all branches, now. A remote repository is fetched first.
pub async fn look(settings: &SourceSettings) -> Result<(Heads, Store), SourceError> {
    match &settings.repository {
        RepositoryUrl::Remote(url) => remote::look(url, settings).await,
        RepositoryUrl::Local(path) => {
            let (at, trust) = (path.clone(), settings.trust.clone());
            let look = tokio::task::spawn_blocking(move || {
                let store = Store::open(&at, &trust)?;
                Ok((store.heads()?, store))
            });
            let hangs = || SourceError::Hangs { path: path.clone(), seconds: WITHIN.as_secs() };
            match tokio::time::timeout(WITHIN, look).await {
                Ok(Ok(looked)) => looked,
                Ok(Err(_)) | Err(_) => Err(hangs()),
            }
        }
    }
}
