//! What the backend speaks of.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The name of a task or conversation, opaque.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Id(String);

impl Id {
    /// As it stands in a URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Not the name of anything.
#[derive(Debug, thiserror::Error)]
#[error("not an id")]
pub struct NoId;

impl TryFrom<String> for Id {
    type Error = NoId;

    /// Nothing gets through that could mean more than a name in a path.
    fn try_from(text: String) -> Result<Self, NoId> {
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if plain && (1..=64).contains(&text.len()) { Ok(Self(text)) } else { Err(NoId) }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}

/// The backend's proof of who somebody is. It is never shown.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Token(String);

impl Token {
    /// The token itself, for the cookie and the backend.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

/// Not a token.
#[derive(Debug, thiserror::Error)]
#[error("not a token")]
pub struct NoToken;

impl TryFrom<String> for Token {
    type Error = NoToken;

    /// The characters of a JWT, which fit a cookie and a header as they are. A browser keeps no cookie above 4 KiB.
    fn try_from(text: String) -> Result<Self, NoToken> {
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if plain && (1..=3800).contains(&text.len()) { Ok(Self(text)) } else { Err(NoToken) }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("Token(…)")
    }
}

/// Somebody has signed in.
#[derive(Debug, Deserialize)]
pub struct Session {
    /// What proves it from now on.
    pub token: Token,
    /// Until then.
    pub expires_at: DateTime<Utc>,
}

/// Somebody with an account.
#[derive(Debug, Deserialize)]
pub struct User {
    /// The address they sign in with.
    pub email: String,
    /// What they are called, if they said.
    #[serde(default)]
    pub name: Option<String>,
}

impl User {
    /// What to call them.
    #[must_use]
    pub fn called(&self) -> &str {
        self.name.as_deref().map(str::trim).filter(|name| !name.is_empty()).unwrap_or(&self.email)
    }
}

/// Something to do.
#[derive(Debug, Deserialize)]
pub struct Task {
    /// Its name for the backend.
    pub id: Id,
    /// What is to be done.
    pub title: String,
    /// More about it.
    #[serde(default)]
    pub description: Option<String>,
    /// Whether it is done.
    pub completed: bool,
}

/// Which tasks are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Show {
    /// Whatever their state.
    #[default]
    All,
    /// Those still to be done.
    Open,
    /// Those that are done.
    Done,
}

impl Show {
    /// The backend's word for it.
    #[must_use]
    pub fn status(self) -> Option<&'static str> {
        match self {
            Self::All => None,
            Self::Open => Some("open"),
            Self::Done => Some("done"),
        }
    }
}

/// A chat.
#[derive(Debug, Deserialize)]
pub struct Conversation {
    /// Its name for the backend.
    pub id: Id,
    /// What it is about, as far as the backend knows.
    #[serde(default)]
    pub title: Option<String>,
    /// When something was last said.
    pub updated_at: DateTime<Utc>,
}

/// Something said in a chat.
#[derive(Debug, Deserialize)]
pub struct Message {
    /// `user`, `assistant`, or one that is not for people.
    pub role: String,
    /// What was said.
    pub content: String,
}

#[derive(Deserialize)]
pub(super) struct Tasks {
    pub tasks: Vec<Task>,
}

#[derive(Deserialize)]
pub(super) struct Conversations {
    pub conversations: Vec<Conversation>,
}

#[derive(Deserialize)]
pub(super) struct Messages {
    pub messages: Vec<Message>,
}

/// The body of an error.
#[derive(Default, Deserialize)]
pub(super) struct Refusal {
    pub error: Reason,
}

/// Also what a chat's `error` event says.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Reason {
    pub code: String,
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_can_mean_nothing_else_in_a_path() {
        for good in ["7", "0b9d3c0e-8f1f-4a53-9d2f-1f1a3c9b7e55"] {
            assert_eq!(Id::try_from(good.to_owned()).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "a?b", "a%2fb", "a b", "ä", &"a".repeat(65)] {
            assert!(Id::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_token_fits_a_cookie_and_is_never_shown() {
        let token = Token::try_from("aa.bb-c_d.ee".to_owned()).unwrap();
        assert_eq!(format!("{token:?}"), "Token(…)");
        for bad in ["", "a;b", "a b", "a\r\nb", "a\"b", "a,b", &"a".repeat(4096)] {
            assert!(Token::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn whoever_gave_no_name_is_called_by_their_address() {
        for (name, called) in [(None, "ada@example.org"), (Some("  "), "ada@example.org"), (Some("Ada "), "Ada")] {
            let user = User { email: "ada@example.org".into(), name: name.map(Into::into) };
            assert_eq!(user.called(), called);
        }
    }
}
