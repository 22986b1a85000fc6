//! The chat: the backend's answer as it is made, for a browser with JavaScript; as a whole, for one without.

use std::convert::Infallible;

use axum::{
    extract::{Query, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{
        IntoResponse as _, Redirect, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{Stream, StreamExt as _, stream};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;

use super::{
    Failure, deleted,
    extract::{Form, Path},
    home::{self, Mishap},
    log, status,
    view::{Talk, View},
};
use crate::{
    App,
    backend::{Error, Id, Piece, Token},
    session::SignedIn,
    words,
};

/// What was typed.
#[derive(Deserialize)]
pub(crate) struct Typed {
    #[serde(default)]
    message: String,
    /// Empty in a new conversation.
    #[serde(default)]
    conversation_id: String,
}

pub(crate) async fn say(
    State(app): State<App>,
    SignedIn(token): SignedIn,
    Query(view): Query<View>,
    headers: HeaderMap,
    Form(typed): Form<Typed>,
) -> Result<Response, Failure> {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("text/event-stream") {
        return Ok(flowing(&app, &token, &typed).await.unwrap_or_else(|error| refused(&error)));
    }
    let mut conversation = Id::try_from(typed.conversation_id.clone()).ok();
    let Err(error) = whole(&app, &token, &mut conversation, &typed.message).await else {
        return Ok(view.talking(talk(conversation)).page("chat-input").into_response());
    };
    if error.expired() {
        return Err(Failure::Expired);
    }
    log(&error);
    let mishap = Mishap { chat_error: words::of(&error), message: typed.message, ..Mishap::default() };
    home::render(&app, &token, view.talking(talk(conversation)), status(&error), mishap).await
}

pub(crate) async fn delete(
    State(app): State<App>,
    SignedIn(token): SignedIn,
    Path(id): Path<Id>,
    Query(view): Query<View>,
) -> Result<Redirect, Failure> {
    deleted(app.backend.delete_conversation(&token, &id).await, view.talking(Talk::Last).page(""))
}

fn talk(conversation: Option<Id>) -> Talk {
    conversation.map_or(Talk::New, Talk::This)
}

/// Waits for the answer; the backend keeps it. `conversation` is then the one it is in, also after an error.
async fn whole(app: &App, token: &Token, conversation: &mut Option<Id>, message: &str) -> Result<(), Error> {
    let pieces = app.backend.chat(token, conversation.as_ref(), message.trim()).await?;
    let mut pieces = std::pin::pin!(pieces);
    while let Some(piece) = pieces.next().await {
        if let Piece::Conversation(id) = piece? {
            *conversation = Some(id);
        }
    }
    Ok(())
}

/// The answer as events: `conversation` {id}, `delta` {text}, `tool` {words, ok}; at the end `done`, or `error` {words}.
async fn flowing(app: &App, token: &Token, typed: &Typed) -> Result<Response, Error> {
    let conversation = Id::try_from(typed.conversation_id.clone()).ok();
    let pieces = app.backend.chat(token, conversation.as_ref(), typed.message.trim()).await?;
    let events = events(pieces, app.closing.clone()).map(Ok::<_, Infallible>);
    // nginx would keep events back to fill its buffers.
    let unbuffered = [(HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((unbuffered, Sse::new(events).keep_alive(KeepAlive::default())).into_response())
}

/// Words alone: a script asked. Who has to sign in is told by the status.
fn refused(error: &Error) -> Response {
    log(error);
    let status = if error.expired() { StatusCode::UNAUTHORIZED } else { status(error) };
    (status, words::of(error)).into_response()
}

fn events<S>(pieces: S, closing: watch::Receiver<bool>) -> impl Stream<Item = Event> + Send + use<S>
where
    S: Stream<Item = Result<Piece, Error>> + Send,
{
    stream::unfold(Some((Box::pin(pieces), closing)), |flow| async {
        let (mut pieces, mut closing) = flow?;
        let piece = tokio::select! {
            biased;
            Ok(_) = closing.wait_for(|closing| *closing) => return Some((event("error", &json!({ "words": words::CLOSING })), None)),
            piece = pieces.next() => piece?,
        };
        Some((written(&piece), Some((pieces, closing))))
    })
}

fn written(piece: &Result<Piece, Error>) -> Event {
    match piece {
        Ok(Piece::Conversation(id)) => event("conversation", &json!({ "id": id })),
        Ok(Piece::Text(text)) => event("delta", &json!({ "text": text })),
        Ok(Piece::Tool { name, ok }) => event("tool", &json!({ "words": deed(name, *ok), "ok": ok })),
        Ok(Piece::Done) => event("done", &json!({})),
        Err(error) => {
            log(error);
            event("error", &json!({ "words": words::of(error) }))
        }
    }
}

fn event(name: &str, data: &serde_json::Value) -> Event {
    Event::default().event(name).data(data.to_string())
}

/// What the assistant has done, in words.
fn deed(tool: &str, ok: bool) -> String {
    let (done, to_do) = match tool {
        "add_task" => ("Added a task", "add a task"),
        "list_tasks" => ("Looked at your tasks", "look at your tasks"),
        "complete_task" => ("Marked a task as done", "mark a task as done"),
        "update_task" => ("Changed a task", "change a task"),
        "delete_task" => ("Deleted a task", "delete a task"),
        _ => ("Used a tool", "use a tool"),
    };
    if ok { done.to_owned() } else { format!("Could not {to_do}") }
}
