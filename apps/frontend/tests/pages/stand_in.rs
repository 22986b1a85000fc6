//! A stand-in of the backend: the same addresses and answers, everything in memory. Its assistant is a script: what it is
//! told says what it does.

#![allow(clippy::result_large_err, reason = "an answer is an answer, good or bad")]

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response, Sse, sse::Event},
    routing::{get, patch, post},
};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore};

/// What the stand-in knows. Users: address, password, name, token.
#[derive(Default)]
pub struct World {
    pub users: Vec<[String; 4]>,
    pub tasks: Vec<(String, Value)>,
    pub talks: Vec<(String, Value, Vec<Value>)>,
    pub next: u32,
    /// Every request is answered with 500 and this message.
    pub broken: Option<String>,
    /// The chat is answered with this code.
    pub no_chat: Option<(u16, &'static str)>,
}

#[derive(Clone)]
pub struct StandIn {
    world: Arc<Mutex<World>>,
    /// A word of an answer that is said slowly costs a permit.
    pub words: Arc<Semaphore>,
    pub url: String,
}

type Answer = Result<Response, Response>;

fn refusal(status: u16, code: &str, message: &str) -> Response {
    let body = json!({ "error": { "code": code, "message": message } });
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

impl StandIn {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stand_in = Self { world: Arc::default(), words: Arc::new(Semaphore::new(0)), url };
        let routes = Router::new()
            .route("/api/auth/signup", post(sign_up))
            .route("/api/auth/signin", post(sign_in))
            .route("/api/auth/me", get(me))
            .route("/api/tasks", get(tasks).post(add_task))
            .route("/api/tasks/{id}", patch(change_task).get(task).delete(delete_task))
            .route("/api/conversations", get(talks))
            .route("/api/conversations/{id}", axum::routing::delete(delete_talk))
            .route("/api/conversations/{id}/messages", get(messages))
            .route("/api/chat", post(chat))
            .with_state(stand_in.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        stand_in
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn user(&self, headers: &HeaderMap) -> Result<String, Response> {
        let world = self.world();
        if let Some(message) = &world.broken {
            return Err(refusal(500, "internal", message));
        }
        let token = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let user = world.users.iter().find(|[.., known]| Some(known.as_str()) == token);
        user.map(|[email, ..]| email.clone()).ok_or_else(|| refusal(401, "unauthorized", "Sign in first."))
    }

    pub fn add(&self, user: &str, title: &str) -> Value {
        let mut world = self.world();
        world.next += 1;
        let task = json!({ "id": format!("t-{}", world.next), "title": title, "description": null, "completed": false,
                           "created_at": "2026-11-21T18:00:00Z", "updated_at": "2026-11-21T18:00:00.123456Z" });
        world.tasks.push((user.to_owned(), task.clone()));
        task
    }
}

fn session(user: &[String; 4]) -> Value {
    let expires_at = chrono::Utc::now() + chrono::TimeDelta::hours(12);
    json!({ "token": user[3], "expires_at": expires_at, "user": { "id": "u", "email": user[0], "name": user[2] } })
}

async fn sign_up(State(at): State<StandIn>, Json(body): Json<Value>) -> Answer {
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let mut world = at.world();
    if let Some(message) = &world.broken {
        return Err(refusal(500, "internal", message));
    }
    if world.users.iter().any(|[email, ..]| *email == text("email")) {
        return Err(refusal(409, "email_taken", "taken"));
    }
    if text("password").len() < 8 {
        return Err(refusal(422, "invalid", "the password is too short"));
    }
    let token = format!("head.canary{}.sign", world.users.len());
    let user = [text("email"), text("password"), text("name"), token];
    let answer = (StatusCode::CREATED, Json(session(&user))).into_response();
    world.users.push(user);
    Ok(answer)
}

async fn sign_in(State(at): State<StandIn>, Json(body): Json<Value>) -> Answer {
    let world = at.world();
    let user =
        world.users.iter().find(|[email, password, ..]| body["email"] == **email && body["password"] == **password);
    let user = user.ok_or_else(|| refusal(401, "wrong_credentials", "wrong"))?;
    Ok(Json(session(user)).into_response())
}

async fn me(State(at): State<StandIn>, headers: HeaderMap) -> Answer {
    let email = at.user(&headers)?;
    let world = at.world();
    let user = world.users.iter().find(|[known, ..]| *known == email).unwrap();
    Ok(Json(json!({ "id": "u", "email": email, "name": user[2] })).into_response())
}

async fn tasks(State(at): State<StandIn>, headers: HeaderMap, Query(query): Query<Value>) -> Answer {
    let user = at.user(&headers)?;
    let wanted = |task: &Value| match query["status"].as_str() {
        None => true,
        Some(status) => task["completed"] == (status == "done"),
    };
    let world = at.world();
    let tasks: Vec<_> =
        world.tasks.iter().filter(|(of, task)| *of == user && wanted(task)).map(|(_, task)| task).collect();
    Ok(Json(json!({ "tasks": tasks })).into_response())
}

async fn add_task(State(at): State<StandIn>, headers: HeaderMap, Json(body): Json<Value>) -> Answer {
    let user = at.user(&headers)?;
    match body["title"].as_str().unwrap_or_default() {
        "" => Err(refusal(422, "invalid", "The title must not be empty.")),
        title => Ok((StatusCode::CREATED, Json(at.add(&user, title))).into_response()),
    }
}

async fn task(State(at): State<StandIn>, headers: HeaderMap, Path(id): Path<String>) -> Answer {
    change_task(State(at), headers, Path(id), Json(json!({}))).await
}

async fn change_task(
    State(at): State<StandIn>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Json(change): Json<Value>,
) -> Answer {
    let user = at.user(&headers)?;
    if change["title"] == "" {
        return Err(refusal(422, "invalid", "The title must not be empty."));
    }
    let mut world = at.world();
    let task = world.tasks.iter_mut().find(|(of, task)| *of == user && task["id"] == id);
    let (_, task) = task.ok_or_else(|| refusal(404, "not_found", "There is no such task."))?;
    for (name, value) in change.as_object().unwrap() {
        task[name] = value.clone();
    }
    Ok(Json(task.clone()).into_response())
}

async fn delete_task(State(at): State<StandIn>, headers: HeaderMap, Path(id): Path<String>) -> Answer {
    let user = at.user(&headers)?;
    let mut world = at.world();
    let before = world.tasks.len();
    world.tasks.retain(|(of, task)| *of != user || task["id"] != id);
    if world.tasks.len() == before {
        return Err(refusal(404, "not_found", "There is no such task."));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn talks(State(at): State<StandIn>, headers: HeaderMap) -> Answer {
    let user = at.user(&headers)?;
    let world = at.world();
    let talks: Vec<_> = world.talks.iter().filter(|(of, ..)| *of == user).map(|(_, talk, _)| talk).collect();
    Ok(Json(json!({ "conversations": talks })).into_response())
}

async fn delete_talk(State(at): State<StandIn>, headers: HeaderMap, Path(id): Path<String>) -> Answer {
    let user = at.user(&headers)?;
    at.world().talks.retain(|(of, talk, _)| *of != user || talk["id"] != id);
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn messages(State(at): State<StandIn>, headers: HeaderMap, Path(id): Path<String>) -> Answer {
    let user = at.user(&headers)?;
    let world = at.world();
    let talk = world.talks.iter().find(|(of, talk, _)| *of == user && talk["id"] == id);
    let (.., messages) = talk.ok_or_else(|| refusal(404, "not_found", "There is no such conversation."))?;
    Ok(Json(json!({ "messages": messages })).into_response())
}

/// `add …` adds a task; `slowly …` says each word when the test lets it; `break off`, `fail` do so; the rest is repeated.
async fn chat(State(at): State<StandIn>, headers: HeaderMap, Json(body): Json<Value>) -> Answer {
    let user = at.user(&headers)?;
    if let Some((status, code)) = at.world().no_chat {
        return Err(refusal(status, code, "no chat: sk-canary"));
    }
    let message = body["message"].as_str().unwrap_or_default().to_owned();
    let id = begun(&at, &user, &body["conversation_id"], &message)?;
    let mut events = vec![("conversation", json!({ "id": id }))];
    let mut answer = format!("You said: {message}");
    if let Some(title) = message.strip_prefix("add ") {
        at.add(&user, title);
        events.push(("tool", json!({ "name": "add_task", "ok": true })));
        answer = format!("I have added “{title}”.");
    }
    events.extend(answer.split_inclusive(' ').map(|word| ("delta", json!({ "text": word }))));
    match message.as_str() {
        "break off" => {}
        "fail" => events.push(("error", json!({ "code": "model_busy", "message": "429: sk-canary" }))),
        _ => {
            events.push(("done", json!({ "message_id": "m" })));
            keep(&at, &id, "assistant", &answer);
        }
    }
    let slowly = message.starts_with("slowly ");
    let events = stream::iter(events).then(move |(event, data)| {
        let words = at.words.clone();
        async move {
            if slowly && event == "delta" {
                words.acquire().await.unwrap().forget();
            }
            Ok::<_, Infallible>(Event::default().event(event).data(data.to_string()))
        }
    });
    let alive = axum::response::sse::KeepAlive::new().interval(Duration::from_secs(10));
    Ok(Sse::new(events).keep_alive(alive).into_response())
}

fn begun(at: &StandIn, user: &str, id: &Value, message: &str) -> Result<String, Response> {
    let id = match id.as_str() {
        Some(id) if at.world().talks.iter().any(|(of, talk, _)| of == user && talk["id"] == id) => id.to_owned(),
        Some(_) => return Err(refusal(404, "not_found", "There is no such conversation.")),
        None => {
            let mut world = at.world();
            world.next += 1;
            let (id, time) = (format!("c-{}", world.next), format!("2026-11-21T18:00:{:02}Z", world.next));
            let talk = json!({ "id": id, "title": message, "created_at": time, "updated_at": time });
            world.talks.push((user.to_owned(), talk, vec![]));
            id
        }
    };
    keep(at, &id, "user", message);
    Ok(id)
}

fn keep(at: &StandIn, id: &str, role: &str, content: &str) {
    let mut world = at.world();
    let (.., messages) = world.talks.iter_mut().find(|(_, talk, _)| talk["id"] == id).unwrap();
    messages.push(json!({ "id": "m", "role": role, "content": content, "created_at": "2026-11-21T18:00:00Z" }));
}
