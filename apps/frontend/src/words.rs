//! What a person is told when something went wrong.

use crate::backend::Error;

/// Whoever was signed in no longer is.
pub(crate) const EXPIRED: &str = "Your session has ended. Please sign in again.";
/// The answer ends because this server does.
pub(crate) const CLOSING: &str = "The answer was interrupted, because the service is being updated. Please ask again.";

/// The error in a person's words: what is wrong, and what to do.
pub(crate) fn of(error: &Error) -> String {
    match error {
        Error::Away(_) => AWAY.to_owned(),
        Error::Refused { status, code, message } => refused(*status, code, message),
        Error::Chat { code, .. } => by_code(code).unwrap_or(NO_ANSWER).to_owned(),
        Error::Stalled => "The assistant has stopped answering. Please ask again.".to_owned(),
        Error::BrokeOff => "The answer broke off. Please ask again.".to_owned(),
        Error::Understood(_) | Error::Events(_) | Error::Tls(_) | Error::Client(_) => TROUBLE.to_owned(),
    }
}

const AWAY: &str =
    "The to-do service can't be reached at the moment. Your tasks are safe. Please try again in a minute.";
const TROUBLE: &str =
    "The to-do service has a problem at the moment. Your tasks are safe. Please try again in a minute.";
const GONE: &str = "That is no longer there. It may have been deleted meanwhile.";
const NO_ANSWER: &str = "The assistant could not answer. Please ask again in a minute; your tasks work meanwhile.";

fn refused(status: u16, code: &str, message: &str) -> String {
    match (by_code(code), status) {
        (Some(words), _) => words.to_owned(),
        (None, 401) => EXPIRED.to_owned(),
        (None, 404) => GONE.to_owned(),
        (None, 413) => "That is too long.".to_owned(),
        (None, 429) => "That was too much at once. Please wait a minute.".to_owned(),
        // What was typed is at fault, and the backend knows best why.
        (None, 400 | 422) if !message.is_empty() => sentence(message),
        (None, 400..=499) => "That did not work. Please check what you have typed.".to_owned(),
        (None, _) => TROUBLE.to_owned(),
    }
}

/// Words for what the backend has a name for.
fn by_code(code: &str) -> Option<&'static str> {
    Some(match code {
        "email_taken" => "There is an account with this e-mail address already. Is it yours? Then sign in.",
        "chat_not_configured" => {
            "The chat is not set up on this server: it has no key for a language model. Your tasks work without it."
        }
        "too_many_attempts" => "That was wrong too often. Please wait a minute, then try again.",
        "busy" => "Too many people are signing in at the moment. Please wait a moment, then try again.",
        "too_many_signups" => "Too many people are signing up at the moment. Please wait a minute, then try again.",
        "too_many_chats" => {
            "Two of your messages are still being answered. Please wait for one of the answers, then ask again."
        }
        "stopping" => CLOSING,
        "not_found" => GONE,
        "model_busy" => "The assistant is busy. Please ask again in a minute.",
        "model_refused" => {
            "The assistant can't be used: the language model refuses this server's key. Your tasks work without it."
        }
        "model_unavailable" | "model_timeout" => {
            "The assistant can't be reached at the moment. Please ask again in a minute; your tasks work meanwhile."
        }
        "model_confused" => "The assistant got muddled. Please say it in other words.",
        "tools_unavailable" => "The assistant can't get at your tasks at the moment. Please ask again in a minute.",
        "database_unavailable" => TROUBLE,
        _ => return None,
    })
}

/// The message with a capital and a full stop.
fn sentence(message: &str) -> String {
    let mut letters = message.trim().chars();
    let mut text: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    text.push_str(letters.as_str());
    if !text.ends_with(['.', '!', '?']) {
        text.push('.');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(status: u16, code: &str, message: &str) -> String {
        of(&Error::Refused { status, code: code.into(), message: message.into() })
    }

    #[test]
    fn what_was_typed_wrong_is_told_in_the_backends_words() {
        assert_eq!(words(422, "invalid", "the title is empty"), "The title is empty.");
        assert_eq!(words(422, "invalid", ""), "That did not work. Please check what you have typed.");
    }

    #[test]
    fn the_backends_own_troubles_are_not_told() {
        let told = words(500, "internal", "pool timed out while connecting to postgres://app:hunter2@db/todo");
        assert_eq!(told, TROUBLE);
        let told = of(&Error::Chat { code: "model_error".into(), message: "401 from api.openai.com: sk-123".into() });
        assert_eq!(told, NO_ANSWER);
    }

    #[test]
    fn whatever_the_backend_ends_a_chat_with_has_words() {
        let source = include_str!("../../backend/src/chat/error.rs");
        let codes = source
            .lines()
            .filter_map(|line| line.trim().strip_suffix("\",")?.split_once(" => \""))
            .map(|(_, code)| code);
        let (known, unknown): (Vec<_>, Vec<_>) = codes.partition(|code| by_code(code).is_some());
        assert!(known.contains(&"stopping") && unknown.is_empty(), "{known:?}, but not {unknown:?}");
        let cut = Error::Chat { code: "stopping".into(), message: "The service is being restarted.".into() };
        assert_eq!(of(&cut), CLOSING);
    }

    #[test]
    fn whoever_wants_too_much_at_once_is_told_what_it_was() {
        assert!(words(429, "too_many_chats", "no").starts_with("Two of your messages are still being answered."));
        assert!(words(429, "too_many_signups", "no").starts_with("Too many people are signing up"));
        assert!(words(429, "", "").starts_with("That was too much at once."));
    }

    #[test]
    fn a_chat_without_a_key_is_told_whatever_the_way() {
        let refused = words(503, "chat_not_configured", "no key");
        assert!(refused.contains("not set up"), "{refused}");
        assert_eq!(refused, of(&Error::Chat { code: "chat_not_configured".into(), message: String::new() }));
    }
}
