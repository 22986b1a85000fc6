//! A scripted server in a model's place: it speaks the OpenAI protocol of chat completions (streaming, tool calls, errors), and
//! what it answers follows from what the user said, by a few rules. There is no model in it.
//!
//! | the user's last message | the answer |
//! |---|---|
//! | `add a task: TITLE` | calls `add_task`, then says what was added |
//! | `list my tasks` | calls `list_tasks`, then says what there is |
//! | `complete: TITLE`, `delete: TITLE`, `rename: TITLE to NEW` | looks the task up, then calls the tool with its id |
//! | `count to N` | N words, 50 ms apart |
//! | `status N` | that HTTP status, with an error as its body |
//! | `hang`, `hang in the middle` | never answers; never ends |
//! | `break off`, `stop early`, `error in the stream`, `nonsense`, `filtered` | an answer that is none |
//! | `call forever` | calls tools, and does not stop when it is told to |
//! | `call twice`, `bad call`, `unknown tool` | two calls at once; arguments that are no JSON; a tool that there is not |
//! | anything else | `You said: …` |
//!
//! It is as strict as the real one: a wrong key, a request that is not streamed, or a tool's result without its call is an error.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Json, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Router, body::Body};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;

/// The server. It ends with the runtime that it was started on.
pub struct ScriptedModel {
    /// Where it listens.
    pub address: SocketAddr,
    state: Shared,
}

#[derive(Clone)]
struct Shared {
    key: Arc<str>,
    requests: Arc<Mutex<Vec<Value>>>,
    open: watch::Sender<usize>,
}

/// A request that is being answered.
struct Open(watch::Sender<usize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

impl ScriptedModel {
    /// Listens there; whoever asks must have the key.
    pub async fn start(listen: SocketAddr, key: &str) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let state = Shared { key: key.into(), requests: Arc::default(), open: watch::channel(0).0 };
        let router = Router::new().route("/v1/chat/completions", post(complete)).with_state(state.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        Ok(Self { address, state })
    }

    /// For `OPENAI_BASE_URL`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// What it was asked, in order.
    pub fn requests(&self) -> Vec<Value> {
        self.state.requests.lock().unwrap().clone()
    }

    /// Waits until it is answering as many requests.
    pub async fn answering(&self, count: usize) {
        self.state.open.subscribe().wait_for(|open| *open == count).await.unwrap();
    }
}

async fn complete(State(state): State<Shared>, headers: HeaderMap, Json(request): Json<Value>) -> Response {
    state.open.send_modify(|open| *open += 1);
    let open = Open(state.open.clone());
    state.requests.lock().unwrap().push(request.clone());
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if authorization != format!("Bearer {}", state.key) {
        // The real one quotes (a part of) the key as well.
        return failure(StatusCode::UNAUTHORIZED, &format!("Incorrect API key provided: {authorization}"));
    }
    if let Err(reason) = check(&request) {
        return failure(StatusCode::BAD_REQUEST, &reason);
    }
    let messages = request["messages"].as_array().unwrap();
    let asked = messages.iter().rposition(|message| message["role"] == "user").unwrap();
    let text = messages[asked]["content"].as_str().unwrap_or_default();
    if let Some(status) = text.strip_prefix("status ").and_then(|status| status.parse().ok()) {
        return failure(status, &format!("scripted; the request had {authorization}"));
    }
    if text == "hang" {
        std::future::pending::<()>().await;
    }
    answer(text, &messages[asked + 1..], open)
}

/// What the protocol demands of a request.
fn check(request: &Value) -> Result<(), String> {
    if !request["model"].is_string() || request["stream"] != true {
        return Err("model and stream are needed".to_owned());
    }
    let messages = request["messages"].as_array().ok_or("messages are needed")?;
    let mut called: Vec<&Value> = Vec::new();
    for message in messages {
        match message["role"].as_str() {
            Some("assistant") => {
                let calls = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
                called.extend(calls.iter().map(|call| &call["id"]));
            }
            Some("tool") => {
                let id = called.iter().position(|id| **id == message["tool_call_id"]);
                called.remove(id.ok_or("a tool's result must follow its call")?);
            }
            Some("user" | "system") if called.is_empty() => {}
            _ => return Err(format!("a message is out of place: {message}")),
        }
    }
    if !called.is_empty() || !messages.iter().any(|message| message["role"] == "user") {
        return Err("a call has no result, or nobody has asked anything".to_owned());
    }
    Ok(())
}

fn failure(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": {"message": message, "type": "scripted", "code": null}}))).into_response()
}

/// A stream of chunks that is being written.
struct Chunks(mpsc::UnboundedSender<Value>);

impl Chunks {
    fn delta(&self, delta: Value) {
        self.chunk(json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]}));
    }

    fn finish(&self, reason: &str) {
        self.chunk(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}));
        self.chunk(json!({"choices": [], "usage": {"total_tokens": 1}}));
    }

    fn chunk(&self, mut chunk: Value) {
        chunk["object"] = json!("chat.completion.chunk");
        let _ = self.0.send(chunk);
    }

    fn say(&self, text: &str) {
        self.delta(json!({"role": "assistant", "content": ""}));
        for word in text.split_inclusive(' ') {
            self.delta(json!({"content": word}));
        }
        self.finish("stop");
    }

    /// As the real one does: the name first, then the arguments in pieces.
    fn call(&self, calls: &[(&str, String)]) {
        for (index, (name, arguments)) in calls.iter().enumerate() {
            let id = format!("call_{name}_{index}");
            let begin =
                json!({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}});
            self.delta(json!({"role": "assistant", "content": null, "tool_calls": [begin]}));
            let arguments: Vec<char> = arguments.chars().collect();
            for piece in arguments.chunks(5) {
                let piece: String = piece.iter().collect();
                self.delta(json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}));
            }
        }
        self.finish("tool_calls");
    }
}

/// `since`: what has followed the user's message: calls and their results.
fn answer(text: &str, since: &[Value], open: Open) -> Response {
    let (sender, receiver) = mpsc::unbounded_channel();
    let chunks = Chunks(sender);
    let mut done = true;
    match text {
        "hang in the middle" => {
            chunks.delta(json!({"content": "Wait "}));
            // The sender stays: the stream does not end.
            let keep = chunks.0.clone();
            return sse(
                UnboundedReceiverStream::new(receiver).map(move |chunk| (chunk, keep.is_closed()).0),
                false,
                open,
            );
        }
        "break off" => {
            chunks.delta(json!({"content": "Half an "}));
            drop(chunks);
            let chunks = UnboundedReceiverStream::new(receiver).map(|chunk: Value| Ok(format!("data: {chunk}\n\n")));
            let broken = futures::stream::once(async { Err(std::io::Error::other("scripted")) });
            let body = Body::from_stream(chunks.chain(broken).inspect(move |_| {
                let _ = &open;
            }));
            return ([("content-type", "text/event-stream")], body).into_response();
        }
        "stop early" => {
            chunks.delta(json!({"content": "Half an answer"}));
            done = false;
        }
        "error in the stream" => {
            chunks.delta(json!({"content": "Half an "}));
            chunks.chunk(json!({"error": {"message": "overloaded"}}));
        }
        "nonsense" => chunks.chunk(json!({"choices": "none"})),
        "filtered" => {
            chunks.delta(json!({"content": "Half an "}));
            chunks.finish("content_filter");
        }
        _ => match text.strip_prefix("count to ").and_then(|number| number.parse().ok()) {
            Some(number) => drop(tokio::spawn(count(number, chunks))),
            None => reply(text, since, &chunks),
        },
    }
    sse(UnboundedReceiverStream::new(receiver), done, open)
}

async fn count(number: u32, chunks: Chunks) {
    for number in 1..=number {
        chunks.delta(json!({"content": format!("{number} ")}));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    chunks.finish("stop");
}

fn sse(chunks: impl futures::Stream<Item = Value> + Send + 'static, done: bool, open: Open) -> Response {
    let chunks = chunks.map(|chunk| chunk.to_string());
    let end = futures::stream::iter(done.then(|| "[DONE]".to_owned()));
    let events = chunks.chain(end).map(move |data| {
        let _ = &open;
        Ok::<_, Infallible>(Event::default().data(data))
    });
    Sse::new(events).into_response()
}

/// What the rules say, by words or by calls.
fn reply(text: &str, since: &[Value], chunks: &Chunks) {
    let last = since.last().map(|message| message["content"].as_str().unwrap_or_default());
    let result: Option<Value> = last.map(|text| serde_json::from_str(text).unwrap_or_else(|_| json!(text)));
    let (verb, rest) = text.split_once(": ").unwrap_or((text, ""));
    match (verb, result) {
        ("add a task", None) => chunks.call(&[("add_task", json!({"title": rest}).to_string())]),
        ("add a task", Some(task)) => chunks.say(&format!("I have added \u{201c}{}\u{201d}.", word(&task["title"]))),
        ("list my tasks" | "complete" | "delete" | "rename", None) | ("call forever", _) => {
            chunks.call(&[("list_tasks", "{}".to_owned())]);
        }
        ("list my tasks", Some(tasks)) => {
            let tasks = tasks["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
            let titles: Vec<&str> = tasks.iter().map(|task| word(&task["title"])).collect();
            chunks.say(&format!("There are {}: {}.", titles.len(), titles.join(", ")));
        }
        ("complete" | "delete" | "rename", Some(result)) if result["tasks"].is_array() => {
            look_up(verb, rest, &result, chunks)
        }
        ("complete" | "delete" | "rename", Some(_)) => chunks.say("That is done."),
        ("call twice", None) => {
            let add = |title: &str| ("add_task", json!({"title": title}).to_string());
            chunks.call(&[add("first"), add("second")]);
        }
        ("call twice", Some(_)) => chunks.say("Both are there."),
        ("bad call", None) => chunks.call(&[("add_task", "{\"title".to_owned())]),
        ("unknown tool", None) => chunks.call(&[("launch_rocket", "{}".to_owned())]),
        ("bad call" | "unknown tool", Some(result)) => chunks.say(&format!("It said: {}", word(&result))),
        _ => chunks.say(&format!("You said: {text}")),
    }
}

fn look_up(verb: &str, rest: &str, result: &Value, chunks: &Chunks) {
    let (title, new) = rest.split_once(" to ").unwrap_or((rest, ""));
    let tasks = result["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(task) = tasks.iter().find(|task| task["title"] == title) else {
        return chunks.say(&format!("There is no \u{201c}{title}\u{201d}."));
    };
    let id = &task["id"];
    match verb {
        "complete" => chunks.call(&[("complete_task", json!({"id": id}).to_string())]),
        "delete" => chunks.call(&[("delete_task", json!({"id": id}).to_string())]),
        _ => chunks.call(&[("update_task", json!({"id": id, "title": new}).to_string())]),
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}
