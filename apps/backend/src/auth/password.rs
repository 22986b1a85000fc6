//! Passwords, hashed with argon2id.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use crate::error::ApiError;

/// A hash takes 19 MiB for a while: as many at once as the container's memory bears, the others wait.
const AT_ONCE: usize = 4;
/// Of the others no more than so many wait: somebody who only tries passwords must not let everybody's sign-in run out of time.
const WAITING: usize = 16;
/// When to try again that could not even wait.
const AGAIN: Duration = Duration::from_secs(1);

/// Hashes passwords, beside the tasks that answer requests.
#[derive(Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    /// One for each that has its turn or waits for it.
    places: Arc<Semaphore>,
    /// What an unknown user's password is compared with, so that the time does not tell who has an account.
    nobody: Arc<str>,
}

impl Passwords {
    /// Ready for use.
    pub fn new() -> Result<Self, argon2::password_hash::Error> {
        let nobody = Argon2::default().hash_password(b"nobody's password")?.to_string().into();
        let [turns, places] = [AT_ONCE, AT_ONCE + WAITING].map(|permits| Arc::new(Semaphore::new(permits)));
        Ok(Self { turns, places, nobody })
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
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| ApiError::Busy(AGAIN))?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(ApiError::internal)?;
        let work = move || {
            let _turn = (turn, place);
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_finds_too_many_waiting_is_told_so_at_once_and_the_others_have_their_turns() {
        let passwords = Passwords::new().unwrap();
        let held = Arc::clone(&passwords.turns).acquire_many_owned(AT_ONCE as u32).await.unwrap();
        let waiting: Vec<_> = (0..AT_ONCE + WAITING)
            .map(|_| {
                let passwords = passwords.clone();
                tokio::spawn(async move { passwords.verify("a password".into(), None).await })
            })
            .collect();
        while passwords.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(passwords.verify("a password".into(), None).await, Err(ApiError::Busy(_))));
        drop(held);
        for waited in waiting {
            assert!(!waited.await.unwrap().unwrap());
        }
        assert!(!passwords.verify("a password".into(), None).await.unwrap());
    }
}
