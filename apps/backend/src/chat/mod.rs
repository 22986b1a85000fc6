//! `POST /api/chat`: a message in, an answer out as it comes (`text/event-stream`).

mod agent;
mod completion;
mod error;
mod model;
mod tools;
mod turns;

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response, sse};
use axum::routing::post;
use futures::StreamExt;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::auth::CurrentUser;
use crate::conversations;
use crate::error::ApiError;
use crate::extract::Json;
use crate::server::App;
use crate::text;

pub use agent::{Agent, Said};
pub use model::Model;
pub use turns::Turns;

use agent::{Event, tell};
use error::ChatError;

const MESSAGE: usize = 4000;
/// Everything together: rounds, tools, words.
const LONGEST: Duration = Duration::from_secs(300);
/// Proxies and browsers give up on a stream that says nothing.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// A reader that is this many events behind slows the model down.
const BEHIND: usize = 64;

/// Below `/api/chat`.
pub fn routes() -> Router<App> {
    Router::new().route("/", post(chat))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    conversation_id: Option<Uuid>,
    message: String,
}

async fn chat(State(app): State<App>, user: CurrentUser, Json(request): Json<Request>) -> Result<Response, ApiError> {
    let agent = app.agent.clone().ok_or(ApiError::ChatNotConfigured)?;
    let message = text::required("message", &request.message, MESSAGE)?;
    let turn = app.turns.take(user.id).ok_or(ApiError::TooManyChats)?;
    let conversation = conversations::hear(&app.database, user.id, request.conversation_id, &message).await?;
    let said = conversations::recent(&app.database, conversation).await?;

    let (sink, events) = mpsc::channel(BEHIND);
    let cut = app.cut.clone();
    tokio::spawn(async move {
        tell(&sink, Event::Conversation { id: conversation }).await;
        let work = work(&app, &agent, &user.token, conversation, &said, &sink, &cut);
        let result = tokio::select! {
            // Nobody listens any more: the request to the model is dropped, and nothing is stored.
            () = sink.closed() => None,
            result = work => Some(result),
        };
        // Before anybody can know that it is over, and ask again.
        drop(turn);
        let Some(result) = result else {
            tracing::info!(%conversation, "the chat was cancelled by its client");
            return;
        };
        let last = match result {
            Ok(message_id) => Event::Done { message_id },
            Err(error) => {
                tracing::warn!(%conversation, code = error.code(), reason = error.reason(), "a chat has no answer");
                Event::Error { code: error.code(), message: error.to_string() }
            }
        };
        tell(&sink, last).await;
    });
    Ok(stream(events))
}

/// The answer, stored. Its identifier.
async fn work(
    app: &App,
    agent: &Agent,
    token: &str,
    conversation: Uuid,
    said: &[Said],
    sink: &mpsc::Sender<Event>,
    cut: &CancellationToken,
) -> Result<Uuid, ChatError> {
    let answer = tokio::select! {
        () = cut.cancelled() => return Err(ChatError::Stopping),
        answer = timeout(LONGEST, agent.answer(said, token, sink)) => answer.map_err(|_| ChatError::TimedOut)??,
    };
    conversations::answered(&app.database, conversation, &answer).await?.ok_or(ChatError::Gone)
}

fn stream(events: mpsc::Receiver<Event>) -> Response {
    let events = ReceiverStream::new(events).map(|event| {
        let data = sse::Event::default().event(event.name()).json_data(&event);
        // No event of ours can't be written as JSON; if it could not, an empty one says no more.
        Ok::<_, Infallible>(data.unwrap_or_default())
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // nginx would wait for more before it passes anything on.
    let unbuffered = (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response.headers_mut().insert(unbuffered.0, unbuffered.1);
    response
}
