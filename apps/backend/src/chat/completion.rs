//! What a model answers, put together from the pieces that it streams. Pure: bytes come from [`super::model`].

use std::collections::BTreeMap;

use serde::Deserialize;

/// More calls at once than any sensible answer has.
const MOST_CALLS: usize = 16;
/// An answer that is longer has gone wrong.
const MOST_TEXT: usize = 64 * 1024;

/// A whole answer: words, or tools to call, or both.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// What it says.
    pub text: String,
    /// What it wants called, in its order.
    pub calls: Vec<ToolCall>,
}

/// A tool that is to be called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// What its result is to be sent back under.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// A JSON object, as text, if the model has made no mistake.
    pub arguments: String,
}

/// Why pieces make no answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Malformed {
    /// Not what the protocol says.
    #[error("a chunk can't be read")]
    Unreadable,
    /// The endpoint reports an error in the middle of its answer.
    #[error("the endpoint broke off with an error")]
    Reported,
    /// The stream ended before the answer did.
    #[error("the stream ended too early")]
    Incomplete,
    /// There is too much of it.
    #[error("the answer is too long")]
    TooLong,
    /// The endpoint's filter has stopped it.
    #[error("the endpoint's content filter stopped the answer")]
    Filtered,
    /// Neither words nor calls.
    #[error("the answer is empty")]
    Empty,
}

/// An answer that is still coming.
#[derive(Debug, Default)]
pub struct Assembly {
    text: String,
    calls: BTreeMap<usize, ToolCall>,
    finished: Option<String>,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
    // A model that declines says so here, in words for people.
    refusal: Option<String>,
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Deserialize)]
struct CallDelta {
    index: Option<usize>,
    id: Option<String>,
    function: Option<FunctionDelta>,
}

#[derive(Deserialize)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<String>,
}

impl Assembly {
    /// Takes in the data of one event. The words that are new.
    pub fn push(&mut self, data: &str) -> Result<String, Malformed> {
        let chunk: Chunk = serde_json::from_str(data).map_err(|_| Malformed::Unreadable)?;
        if chunk.error.is_some_and(|error| !error.is_null()) {
            return Err(Malformed::Reported);
        }
        // One answer was asked for. A chunk without a choice tells of usage.
        let Some(choice) = chunk.choices.into_iter().next() else { return Ok(String::new()) };
        for call in choice.delta.tool_calls.unwrap_or_default() {
            self.call(call)?;
        }
        if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
            self.finished = Some(reason);
        }
        let mut words = choice.delta.content.unwrap_or_default() + &choice.delta.refusal.unwrap_or_default();
        // PostgreSQL stores no NUL.
        words.retain(|character| character != '\0');
        self.text.push_str(&words);
        if self.text.len() > MOST_TEXT {
            return Err(Malformed::TooLong);
        }
        Ok(words)
    }

    /// The name and the id come once, with the call's first piece; its arguments come in pieces. Some servers leave out the
    /// index: then an id begins a new call, and what has none belongs to the last.
    fn call(&mut self, piece: CallDelta) -> Result<(), Malformed> {
        let last = self.calls.last_key_value().map(|(index, _)| *index);
        let new = piece.id.as_deref().is_some_and(|id| !id.is_empty());
        let index = match (piece.index, last) {
            (Some(index), _) => index,
            (None, Some(last)) if new => last.saturating_add(1),
            (None, last) => last.unwrap_or_default(),
        };
        let call = self.calls.entry(index).or_default();
        if let Some(id) = piece.id.filter(|_| call.id.is_empty()) {
            call.id = id;
        }
        if let Some(function) = piece.function {
            if let Some(name) = function.name.filter(|_| call.name.is_empty()) {
                call.name = name;
            }
            call.arguments.push_str(&function.arguments.unwrap_or_default());
        }
        match call.arguments.len() > MOST_TEXT || self.calls.len() > MOST_CALLS {
            true => Err(Malformed::TooLong),
            false => Ok(()),
        }
    }

    /// The stream is over: the answer, if it is whole.
    pub fn finish(self) -> Result<Completion, Malformed> {
        match self.finished.as_deref() {
            None => return Err(Malformed::Incomplete),
            Some("content_filter") => return Err(Malformed::Filtered),
            // Cut in the middle of a call's arguments.
            Some("length") if !self.calls.is_empty() => return Err(Malformed::TooLong),
            Some(_) => {}
        }
        if self.text.trim().is_empty() && self.calls.is_empty() {
            return Err(Malformed::Empty);
        }
        let named = |(index, mut call): (usize, ToolCall)| {
            if call.id.is_empty() {
                call.id = format!("call_{index}");
            }
            call
        };
        Ok(Completion { text: self.text, calls: self.calls.into_iter().map(named).collect() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn assemble(chunks: &[Value]) -> Result<Completion, Malformed> {
        let mut assembly = Assembly::default();
        for chunk in chunks {
            assembly.push(&chunk.to_string())?;
        }
        assembly.finish()
    }

    fn delta(delta: Value) -> Value {
        json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
    }

    fn finish(reason: &str) -> Value {
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    }

    fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
        ToolCall { id: id.to_owned(), name: name.to_owned(), arguments: arguments.to_owned() }
    }

    #[test]
    fn words_are_joined_and_told_as_they_come() {
        let mut assembly = Assembly::default();
        let told: Vec<String> = ["Hel", "lo\0", ""]
            .iter()
            .map(|words| assembly.push(&delta(json!({"content": words})).to_string()).unwrap())
            .collect();
        assert_eq!(told, ["Hel", "lo", ""]);
        assembly.push(&finish("stop").to_string()).unwrap();
        assembly.push(&json!({"choices": [], "usage": {"total_tokens": 3}}).to_string()).unwrap();
        assert_eq!(assembly.finish().unwrap().text, "Hello");
    }

    #[test]
    fn calls_are_joined_by_their_index() {
        let pieces = [
            json!({"index": 0, "id": "a", "type": "function", "function": {"name": "add_task", "arguments": ""}}),
            json!({"index": 0, "function": {"arguments": "{\"tit"}}),
            json!({"index": 1, "id": "b", "function": {"name": "list_tasks", "arguments": "{}"}}),
            json!({"index": 0, "id": "", "function": {"arguments": "le\":\"milk\"}"}}),
        ];
        let mut chunks: Vec<Value> = pieces.iter().map(|piece| delta(json!({"tool_calls": [piece]}))).collect();
        chunks.push(finish("tool_calls"));
        let calls = assemble(&chunks).unwrap().calls;
        assert_eq!(calls, [call("a", "add_task", "{\"title\":\"milk\"}"), call("b", "list_tasks", "{}")]);
    }

    #[test]
    fn calls_without_index_or_id_are_understood() {
        let pieces = [
            json!({"id": "a", "function": {"name": "add_task", "arguments": "{"}}),
            json!({"function": {"arguments": "}"}}),
            json!({"id": "b", "function": {"name": "list_tasks", "arguments": "{}"}}),
        ];
        let mut chunks: Vec<Value> = pieces.iter().map(|piece| delta(json!({"tool_calls": [piece]}))).collect();
        chunks.push(finish("tool_calls"));
        assert_eq!(assemble(&chunks).unwrap().calls, [call("a", "add_task", "{}"), call("b", "list_tasks", "{}")]);
        let nameless = delta(json!({"tool_calls": [{"index": 3, "function": {"name": "list_tasks"}}]}));
        assert_eq!(assemble(&[nameless, finish("stop")]).unwrap().calls, [call("call_3", "list_tasks", "")]);
    }

    #[test]
    fn what_is_not_a_whole_answer_is_none() {
        let words = delta(json!({"content": "half an"}));
        assert_eq!(assemble(std::slice::from_ref(&words)), Err(Malformed::Incomplete));
        assert_eq!(assemble(&[words.clone(), finish("content_filter")]), Err(Malformed::Filtered));
        assert_eq!(assemble(&[finish("stop")]), Err(Malformed::Empty));
        assert_eq!(assemble(&[words.clone(), json!({"error": {"message": "no"}})]), Err(Malformed::Reported));
        assert_eq!(assemble(&[json!("text")]), Err(Malformed::Unreadable));
        let cut = delta(json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "x", "arguments": "{"}}]}));
        assert_eq!(assemble(&[cut, finish("length")]), Err(Malformed::TooLong));
        // Words that were cut for their length are still words.
        assert!(assemble(&[words, finish("length")]).is_ok());
    }

    #[test]
    fn nothing_grows_without_bound() {
        let long = delta(json!({"content": "x".repeat(MOST_TEXT + 1)}));
        assert_eq!(assemble(&[long]), Err(Malformed::TooLong));
        let piece = json!({"index": 0, "function": {"arguments": "x".repeat(MOST_TEXT + 1)}});
        assert_eq!(assemble(&[delta(json!({"tool_calls": [piece]}))]), Err(Malformed::TooLong));
        let many: Vec<Value> = (0..=MOST_CALLS).map(|index| json!({"index": index})).collect();
        assert_eq!(assemble(&[delta(json!({"tool_calls": many}))]), Err(Malformed::TooLong));
    }
}
