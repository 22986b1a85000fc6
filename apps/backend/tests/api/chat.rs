//! The chat: a scripted model, the real MCP server, and the program between them.

use futures::StreamExt;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use sse_stream::SseStream;

use crate::harness::{Backend, User, migrate};
use crate::mcp::Mcp;
use crate::postgres;
use crate::scripted_model::ScriptedModel;

const KEY: &str = "canary-model-key";

/// Everything that a chat needs.
struct Scene {
    model: ScriptedModel,
    backend: Backend,
    _mcp: Mcp,
}

impl Scene {
    async fn start(variables: &[(&str, &str)]) -> Self {
        let model = ScriptedModel::start("127.0.0.1:0".parse().unwrap(), KEY).await.unwrap();
        let database = postgres::database();
        assert!(migrate(&database).0.success());
        let mcp = Mcp::start(&database);
        let base = model.base_url();
        let mine = [("OPENAI_API_KEY", KEY), ("OPENAI_BASE_URL", &base), ("MCP_URL", &mcp.url)];
        let backend = Backend::on(database, &[&mine, variables].concat());
        Self { model, backend, _mcp: mcp }
    }
}

async fn open(user: &User<'_>, conversation: Option<&str>, message: &str) -> Response {
    let body = json!({"conversation_id": conversation, "message": message});
    let response = user.request(Method::POST, "/api/chat").json(&body).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    response
}

/// The events of a stream, as they come. A comment that keeps it alive is none.
fn events(response: Response) -> impl futures::Stream<Item = (String, Value)> + Unpin {
    let events = SseStream::from_bytes_stream(response.bytes_stream()).filter_map(async |event| {
        let event = event.unwrap();
        Some((event.event?, serde_json::from_str(&event.data?).unwrap()))
    });
    Box::pin(events)
}

/// A whole exchange: all events, and the words of the answer.
async fn say(user: &User<'_>, conversation: Option<&str>, message: &str) -> (Vec<(String, Value)>, String) {
    let events: Vec<(String, Value)> = events(open(user, conversation, message).await).collect().await;
    let deltas = events.iter().filter(|(name, _)| name == "delta");
    let words = deltas.map(|(_, data)| data["text"].as_str().unwrap()).collect();
    (events, words)
}

/// Who said what, as it is stored.
async fn stored(user: &User<'_>, conversation: &str) -> Vec<(String, String)> {
    let (status, body) = user.get(&format!("/api/conversations/{conversation}/messages")).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let said = |message: &Value| (text(&message["role"]), text(&message["content"]));
    body["messages"].as_array().unwrap().iter().map(said).collect()
}

fn conversation(events: &[(String, Value)]) -> &str {
    assert_eq!(events[0].0, "conversation", "{events:?}");
    events[0].1["id"].as_str().unwrap()
}

fn tools(events: &[(String, Value)]) -> Vec<&Value> {
    events.iter().filter(|(name, _)| name == "tool").map(|(_, data)| data).collect()
}

/// Two lines of a conversation.
fn exchange(said: &str, answer: &str) -> [(String, String); 2] {
    [("user".to_owned(), said.to_owned()), ("assistant".to_owned(), answer.to_owned())]
}

#[tokio::test]
async fn a_task_is_added_by_chat() {
    let scene = Scene::start(&[]).await;
    let user = scene.backend.sign_up("ada@example.org").await;
    let (events, words) = say(&user, None, "add a task: buy milk").await;
    let id = conversation(&events);
    assert_eq!(tools(&events), [&json!({"name": "add_task", "ok": true})]);
    assert_eq!(words, "I have added \u{201c}buy milk\u{201d}.");
    let (last, done) = events.last().unwrap();
    assert_eq!(last, "done");

    let (_, tasks) = user.get("/api/tasks").await;
    assert_eq!((tasks["tasks"].as_array().unwrap().len(), &tasks["tasks"][0]["title"]), (1, &json!("buy milk")));
    assert_eq!(stored(&user, id).await, exchange("add a task: buy milk", &words));
    let (_, messages) = user.get(&format!("/api/conversations/{id}/messages")).await;
    assert_eq!(messages["messages"][1]["id"], done["message_id"]);
    let (_, list) = user.get("/api/conversations").await;
    assert_eq!(
        (&list["conversations"][0]["id"], &list["conversations"][0]["title"]),
        (&json!(id), &json!("add a task: buy milk"))
    );

    // The model was offered what the MCP server has, and nothing was asked of it but what it was told.
    let offered = scene.model.requests().remove(0)["tools"].clone();
    let names: Vec<&str> =
        offered.as_array().unwrap().iter().map(|tool| tool["function"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["add_task", "complete_task", "delete_task", "list_tasks", "update_task"]);
}

#[tokio::test]
async fn tasks_are_looked_up_completed_renamed_and_deleted_in_several_rounds() {
    let scene = Scene::start(&[]).await;
    let user = scene.backend.sign_up("ada@example.org").await;
    for title in ["milk", "bread", "tea"] {
        user.add(title).await;
    }
    for (message, tool) in [
        ("complete: milk", "complete_task"),
        ("delete: bread", "delete_task"),
        ("rename: tea to coffee", "update_task"),
    ] {
        let (events, words) = say(&user, None, message).await;
        let expected = [json!({"name": "list_tasks", "ok": true}), json!({"name": tool, "ok": true})];
        assert_eq!((tools(&events), words.as_str()), (expected.iter().collect(), "That is done."), "{message}");
    }
    let (_, body) = user.get("/api/tasks").await;
    let task = |task: &Value| (task["title"].as_str().unwrap().to_owned(), task["completed"].as_bool().unwrap());
    let tasks: Vec<(String, bool)> = body["tasks"].as_array().unwrap().iter().map(task).collect();
    assert_eq!(tasks, [("coffee".to_owned(), false), ("milk".to_owned(), true)]);
    assert_eq!(say(&user, None, "list my tasks").await.1, "There are 2: coffee, milk.");
    assert_eq!(say(&user, None, "call twice").await.1, "Both are there.");
    assert_eq!(say(&user, None, "list my tasks").await.1, "There are 4: second, first, coffee, milk.");
}

#[tokio::test]
async fn the_model_is_told_what_was_said_before_and_no_more_than_it_bears() {
    let scene = Scene::start(&[]).await;
    let user = scene.backend.sign_up("ada@example.org").await;
    let (events, _) = say(&user, None, "message 0").await;
    let id = conversation(&events).to_owned();
    for number in 1..25 {
        say(&user, Some(&id), &format!("message {number}")).await;
    }
    let last = scene.model.requests().pop().unwrap();
    let messages = last["messages"].as_array().unwrap();
    assert_eq!((messages.len(), &messages[0]["role"]), (41, &json!("system")));
    assert_eq!(messages[39]["content"], "You said: message 23");
    assert_eq!(messages[40]["content"], "message 24");
    assert_eq!(stored(&user, &id).await.len(), 50);
}

#[tokio::test]
async fn another_users_conversation_is_as_good_as_absent() {
    let scene = Scene::start(&[]).await;
    let (ada, eve) = (scene.backend.sign_up("ada@example.org").await, scene.backend.sign_up("eve@example.org").await);
    ada.add("secret").await;
    let (events, _) = say(&ada, None, "hello").await;
    let id = conversation(&events);
    let body = json!({"conversation_id": id, "message": "hello"});
    assert_eq!(eve.ask(Method::POST, "/api/chat", body).await.0, StatusCode::NOT_FOUND);
    assert_eq!(eve.get(&format!("/api/conversations/{id}/messages")).await.0, StatusCode::NOT_FOUND);
    let delete = eve.request(Method::DELETE, &format!("/api/conversations/{id}")).send().await.unwrap();
    assert_eq!(delete.status(), StatusCode::NOT_FOUND);
    // The tools act for whoever asks.
    assert_eq!(say(&eve, None, "list my tasks").await.1, "There are 0: .");
    assert_eq!(say(&eve, None, "delete: secret").await.1, "There is no \u{201c}secret\u{201d}.");
    assert_eq!(stored(&ada, id).await.len(), 2);
    let delete = ada.request(Method::DELETE, &format!("/api/conversations/{id}")).send().await.unwrap();
    assert_eq!(delete.status(), StatusCode::NO_CONTENT);
    assert_eq!(ada.get(&format!("/api/conversations/{id}/messages")).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_no_answer_is_told_as_an_error_and_not_stored() {
    let scene = Scene::start(&[("OPENAI_TIMEOUT_SECONDS", "4")]).await;
    let user = scene.backend.sign_up("ada@example.org").await;
    for (message, code) in [
        ("status 401", "model_refused"),
        ("status 403", "model_refused"),
        ("status 404", "model_unavailable"),
        ("status 429", "model_busy"),
        ("status 500", "model_unavailable"),
        ("status 307", "model_unavailable"),
        ("hang", "model_timeout"),
        ("hang in the middle", "model_timeout"),
        ("break off", "model_unavailable"),
        ("stop early", "model_confused"),
        ("error in the stream", "model_confused"),
        ("nonsense", "model_confused"),
        ("filtered", "model_confused"),
        ("call forever", "model_confused"),
    ] {
        let asked_before = scene.model.requests().len();
        let (events, _) = say(&user, None, message).await;
        // Each is one request and calls nothing, but the one that goes on: the last of its nine requests allows no call, and gets none.
        let (requests, calls) = if message == "call forever" { (9, 8) } else { (1, 0) };
        let asked = scene.model.requests().split_off(asked_before);
        assert_eq!((asked.len(), tools(&events).len()), (requests, calls), "{message}");
        let may_call = |asked: &Value| asked["tool_choice"] != "none";
        assert_eq!(asked.iter().filter(|asked| may_call(asked)).count(), requests.min(8), "{message}");
        assert_eq!(may_call(asked.last().unwrap()), message != "call forever");
        let id = conversation(&events);
        let (name, error) = events.last().unwrap();
        assert_eq!((name.as_str(), error["code"].as_str()), ("error", Some(code)), "{message}");
        assert!(error["message"].as_str().unwrap().contains(' '), "{error}");
        // The question stays, and can be followed by another.
        assert_eq!(stored(&user, id).await, [("user".to_owned(), message.to_owned())], "{message}");
        assert_eq!(say(&user, Some(id), "and now").await.1, "You said: and now", "{message}");
    }
}

#[tokio::test]
async fn a_call_that_the_model_got_wrong_is_told_to_the_model() {
    let scene = Scene::start(&[]).await;
    let user = scene.backend.sign_up("ada@example.org").await;
    let (events, words) = say(&user, None, "bad call").await;
    assert_eq!(tools(&events), [&json!({"name": "add_task", "ok": false})]);
    assert_eq!(words, "It said: The arguments are not a JSON object.");
    let (events, words) = say(&user, None, "unknown tool").await;
    assert_eq!(tools(&events), [&json!({"name": "launch_rocket", "ok": false})]);
    assert!(words.contains("tool not found"), "{words}");
}

#[tokio::test]
async fn without_a_key_the_chat_says_so_before_any_stream_and_all_else_works() {
    let backend = Backend::start(&[("OPENAI_API_KEY", "")]);
    let user = backend.sign_up("ada@example.org").await;
    let (status, answer) = user.ask(Method::POST, "/api/chat", json!({"message": "hello"})).await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("chat_not_configured")));
    user.add("milk").await;
    assert_eq!(user.get("/api/conversations").await, (StatusCode::OK, json!({"conversations": []})));
    assert_eq!(backend.post("/api/chat", json!({"message": "hello"})).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_mcp_server_that_is_away_ends_the_chat_with_words() {
    let model = ScriptedModel::start("127.0.0.1:0".parse().unwrap(), KEY).await.unwrap();
    let base = model.base_url();
    let variables = [("OPENAI_API_KEY", KEY), ("OPENAI_BASE_URL", &base), ("MCP_URL", "http://127.0.0.1:1/mcp")];
    let backend = Backend::start(&variables);
    let user = backend.sign_up("ada@example.org").await;
    let (events, _) = say(&user, None, "list my tasks").await;
    assert_eq!(events.last().unwrap().1["code"], "tools_unavailable");
    assert_eq!(model.requests(), [Value::Null; 0]);
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_the_request_to_the_model() {
    let scene = Scene::start(&[]).await;
    let user = scene.backend.sign_up("ada@example.org").await;
    let mut events = events(open(&user, None, "hang in the middle").await);
    let (_, conversation) = events.next().await.unwrap();
    assert_eq!(events.next().await.unwrap().0, "delta");
    scene.model.answering(1).await;
    drop(events);
    scene.model.answering(0).await;
    scene.backend.process.line("the chat was cancelled by its client");
    assert_eq!(stored(&user, conversation["id"].as_str().unwrap()).await.len(), 1);
}

#[tokio::test]
async fn nobody_has_more_than_two_answers_made_at_a_time() {
    let scene = Scene::start(&[]).await;
    let (ada, eve) = (scene.backend.sign_up("ada@example.org").await, scene.backend.sign_up("eve@example.org").await);
    let (first, _second) = (open(&ada, None, "hang").await, open(&ada, None, "hang").await);
    scene.model.answering(2).await;
    let (status, answer) = ada.ask(Method::POST, "/api/chat", json!({"message": "a third"})).await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::TOO_MANY_REQUESTS, &json!("too_many_chats")));
    // What was refused was not said.
    let (_, list) = ada.get("/api/conversations").await;
    assert_eq!(list["conversations"].as_array().unwrap().len(), 2);
    assert_eq!(say(&eve, None, "hello").await.1, "You said: hello");

    drop(first);
    scene.model.answering(1).await;
    scene.backend.process.line("the chat was cancelled by its client");
    // One that has ended, well or not, makes room at once.
    for message in ["one", "status 500", "two", "status 401", "three"] {
        say(&ada, None, message).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_under_way_ends_before_the_program_does() {
    let scene = Scene::start(&[]).await;
    let user = scene.backend.sign_up("ada@example.org").await;
    let mut events = events(open(&user, None, "count to 20").await);
    while events.next().await.unwrap().0 != "delta" {}
    scene.backend.process.terminate();
    scene.backend.process.line("stopping: answers that are under way come to their end");
    let rest: Vec<(String, Value)> = events.collect().await;
    assert_eq!(rest.last().unwrap().0, "done");
    let (status, log) = scene.backend.process.end();
    assert!(status.success(), "{log}");
}

#[tokio::test]
async fn an_answer_that_does_not_end_in_time_is_ended_with_words() {
    let scene = Scene::start(&[("SHUTDOWN_SECONDS", "0")]).await;
    let user = scene.backend.sign_up("ada@example.org").await;
    let mut events = events(open(&user, None, "hang in the middle").await);
    while events.next().await.unwrap().0 != "delta" {}
    scene.backend.process.terminate();
    let rest: Vec<(String, Value)> = events.collect().await;
    assert_eq!((rest.len(), rest[0].0.as_str(), &rest[0].1["code"]), (1, "error", &json!("stopping")));
    assert!(scene.backend.process.end().0.success());
}

#[tokio::test]
async fn the_key_and_the_words_are_never_logged() {
    let scene = Scene::start(&[]).await;
    let user = scene.backend.sign_up("ada@example.org").await;
    // The error bodies of these quote the key.
    for message in ["add a task: canary-words", "status 401", "status 500", "break off", "unknown tool"] {
        say(&user, None, message).await;
    }
    let token = user.token;
    scene.backend.process.terminate();
    let (_, log) = scene.backend.process.end();
    assert!(log.contains("DEBUG") && log.contains("called a tool") && log.contains("status 500"), "{log}");
    for canary in [KEY, "canary-words", &token, "Half an"] {
        assert!(!log.contains(canary), "{canary} is in the log:\n{log}");
    }
}
