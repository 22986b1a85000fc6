//! What a person looks at: which tasks, which conversation. It travels in the address.

use std::fmt;

use axum::response::Redirect;
use serde::{Deserialize, Deserializer};

use crate::backend::{Id, NoId, Show};

/// As much of it as can be understood; the rest is as at the start.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct View {
    #[serde(deserialize_with = "lenient")]
    pub show: Show,
    #[serde(deserialize_with = "lenient")]
    pub conversation: Talk,
}

/// Which conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Talk {
    /// The one that changed last.
    #[default]
    Last,
    /// One that has not begun.
    New,
    This(Id),
}

impl TryFrom<String> for Talk {
    type Error = NoId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text == "new" { Ok(Self::New) } else { Id::try_from(text).map(Self::This) }
    }
}

impl<'de> Deserialize<'de> for Talk {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::try_from(String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

/// An address that was typed or is old is no reason to refuse a page.
fn lenient<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    let text = serde::de::value::StringDeserializer::<D::Error>::new(String::deserialize(from)?);
    Ok(T::deserialize(text).unwrap_or_default())
}

impl View {
    /// The same with other tasks.
    pub fn showing(&self, show: Show) -> Self {
        Self { show, ..self.clone() }
    }

    /// The same with another conversation.
    pub fn talking(&self, conversation: Talk) -> Self {
        Self { conversation, ..self.clone() }
    }

    /// The page itself; `at` is the id of the element to go to.
    pub fn page(&self, at: &str) -> Redirect {
        let at = if at.is_empty() { String::new() } else { format!("#{at}") };
        Redirect::to(&format!("/{self}{at}"))
    }
}

/// The query: `?show=open&conversation=…`, or nothing.
impl fmt::Display for View {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = '?';
        if let Some(status) = self.show.status() {
            write!(to, "{before}show={status}")?;
            before = '&';
        }
        match &self.conversation {
            Talk::Last => Ok(()),
            Talk::New => write!(to, "{before}conversation=new"),
            Talk::This(id) => write!(to, "{before}conversation={id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{extract::Query, http::Uri};

    use super::*;

    fn read(query: &str) -> View {
        let Query(view) = Query::try_from_uri(&format!("/{query}").parse::<Uri>().unwrap()).unwrap();
        view
    }

    #[test]
    fn a_view_survives_its_address() {
        for query in ["", "?show=open", "?show=done&conversation=new", "?conversation=0b9d3c0e-8f1f"] {
            assert_eq!(read(query).to_string(), query);
        }
    }

    #[test]
    fn what_makes_no_sense_is_the_start() {
        assert_eq!(read("?show=everything&conversation=../x&other=1"), View::default());
        assert_eq!(read("?show=&conversation="), View::default());
    }
}
