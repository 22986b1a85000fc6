//! How one object stands: the answer of [`crate::health`], and what is kept of it.

use std::fmt;

/// How an object stands, in the words of kstatus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Its controller has done all that its spec asks for.
    Current,
    /// Its controller is at work, or has not begun.
    InProgress,
    /// It will not get there without somebody changing something.
    Failed,
    /// It is being deleted.
    Terminating,
}

impl Status {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "Current",
            Self::InProgress => "InProgress",
            Self::Failed => "Failed",
            Self::Terminating => "Terminating",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How an object stands at one resourceVersion. It is judged once, as the object arrives: what the passing of time alone makes of it is in `turns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    status: Status,
    /// A CamelCase word.
    pub reason: Box<str>,
    /// A sentence for people, of one line; empty where there is nothing to say.
    pub message: Box<str>,
    turns: Option<Turn>,
}

/// What an object becomes if nothing about it changes until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Seconds since the epoch.
    pub at: i64,
    /// The status from then on.
    pub to: Status,
}

impl Health {
    /// Controllers write whole stack traces into a condition; a person reads less. In characters.
    const LONGEST: usize = 600;

    /// This status with its reason. The message becomes one line, and is cut where it is very long.
    pub fn new(status: Status, reason: &str, message: &str) -> Self {
        let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { status, reason: cut(reason, 100).into(), message: cut(&line, Self::LONGEST).into(), turns: None }
    }

    /// All is well, and there is nothing to say.
    pub fn current() -> Self {
        Self::new(Status::Current, "Current", "")
    }

    /// The same, which turns to `to` at this second if nothing changes. Without a second it never turns.
    pub fn turning(mut self, at: Option<i64>, to: Status) -> Self {
        self.turns = at.map(|at| Turn { at, to });
        self
    }

    /// The status at this second, if the object has not changed since.
    pub fn status(&self, now: i64) -> Status {
        self.turns.filter(|turn| turn.at <= now).map_or(self.status, |turn| turn.to)
    }

    /// When the status turns by the passing of time alone, if that is still to come.
    pub fn turns_at(&self, now: i64) -> Option<i64> {
        self.turns.map(|turn| turn.at).filter(|at| *at > now)
    }

    /// Whether it is, and stays, [`Status::Current`]: then nothing of it need be kept.
    pub fn is_settled(&self) -> bool {
        self.status == Status::Current && self.turns.is_none()
    }
}

fn cut(text: &str, characters: usize) -> &str {
    let end = text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_comes_at_its_second_and_not_before() {
        let health = Health::new(Status::InProgress, "Waiting", "").turning(Some(10), Status::Failed);
        assert_eq!((health.status(9), health.turns_at(9)), (Status::InProgress, Some(10)));
        assert_eq!((health.status(10), health.turns_at(10)), (Status::Failed, None));
    }

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        let health = Health::new(Status::Failed, "Error", "a\n\tb  c");
        assert_eq!(&*health.message, "a b c");
        let long = Health::new(Status::Failed, &"r".repeat(5000), &"é".repeat(5000));
        assert_eq!((long.reason.len(), long.message.chars().count()), (100, Health::LONGEST));
    }
}
