//! Passwords, hashed with argon2id.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use crate::error::ApiError;

/// A hash takes 19 MiB for a while: as many at once as the container's memory bears, the others wait.
const AT_ONCE: usize = 4;

/// Hashes passwords, beside the tasks that answer requests.
#[derive(Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    /// What an unknown user's password is compared with, so that the time does not tell who has an account.
    nobody: Arc<str>,
}

impl Passwords {
    /// Ready for use.
    pub fn new() -> Result<Self, argon2::password_hash::Error> {
        let nobody = Argon2::default().hash_password(b"nobody's password")?.to_string().into();
        Ok(Self { turns: Arc::new(Semaphore::new(AT_ONCE)), nobody })
    }

    /// The hash to keep.
    pub async fn hash(&self, password: SecretString) -> Result<String, ApiError> {
        let hash =
            move || Argon2::default().hash_password(password.expose_secret().as_bytes()).map(|hash| hash.to_string());
        self.aside(hash).await?.map_err(ApiError::internal)
    }

    /// Whether it is the password of `hash`; without one (no such user) it takes as long and is not.
    pub async fn verify(&self, password: SecretString, hash: Option<String>) -> Result<bool, ApiError> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.to_string());
        let verify = move || {
            let hash = PasswordHash::new(&hash)?;
            Ok(Argon2::default().verify_password(password.expose_secret().as_bytes(), &hash).is_ok())
        };
        let same =
            self.aside(verify).await?.map_err(|error: argon2::password_hash::phc::Error| ApiError::internal(error))?;
        Ok(same && known)
    }

    async fn aside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(ApiError::internal)?;
        let work = move || {
            let _turn = turn;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)
    }
}
