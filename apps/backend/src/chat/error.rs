//! Why a chat has no answer: a code for programs, words for people. What is behind it goes to the log.

use super::completion::Malformed;

/// An answer that did not come about. It is told at the end of the stream and never stored as an answer.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// 401 or 403.
    #[error("The model refuses this installation's key. Whoever runs it has to look at it.")]
    Refused,
    /// 429.
    #[error("The model has too much to do, or this installation's quota is used up. Try again in a minute.")]
    Busy,
    /// Another status than 200. 404 is mostly a model's name that does not exist.
    #[error("The model can't answer right now. Try again in a moment.")]
    Status(u16),
    /// It can't be reached, or the connection broke.
    #[error("The model can't be reached right now. Try again in a moment.")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It was silent for too long.
    #[error("The model took too long to answer. Try again in a moment.")]
    TimedOut,
    /// What came is no answer.
    #[error("The model's answer could not be understood. Try again in a moment.")]
    Malformed(#[from] Malformed),
    /// It calls tools over and over.
    #[error("The model did not come to an end. What it has changed is in the list of tasks.")]
    TooManyRounds,
    /// The MCP server can't be asked.
    #[error("The tasks can't be reached right now. Try again in a moment.")]
    Tools(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer can't be stored.
    #[error("The answer could not be stored. Try again in a moment.")]
    Database(#[from] sqlx::Error),
    /// The conversation was deleted meanwhile.
    #[error("This conversation is gone.")]
    Gone,
    /// The process is ending.
    #[error("The service is being restarted. Try again in a moment.")]
    Stopping,
}

impl ChatError {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused => "model_refused",
            Self::Busy => "model_busy",
            Self::Status(_) | Self::Unreachable(_) => "model_unavailable",
            Self::TimedOut => "model_timeout",
            Self::Malformed(_) | Self::TooManyRounds => "model_confused",
            Self::Tools(_) => "tools_unavailable",
            Self::Database(_) => "database_unavailable",
            Self::Gone => "not_found",
            Self::Stopping => "stopping",
        }
    }

    /// What the log says beside the code. Never what the endpoint wrote: some quote the key.
    pub fn reason(&self) -> String {
        match self {
            Self::Status(status) => format!("status {status}"),
            other => {
                let source = std::error::Error::source(other);
                source.map(ToString::to_string).unwrap_or_default()
            }
        }
    }
}
