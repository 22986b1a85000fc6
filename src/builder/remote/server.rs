//! The routes, before a builder.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::lines::Lines;
use super::listen::Admitted;
use super::{Frame, Gate, WHOLE};
use crate::build::reference::is_built;
use crate::builder::{BuildError, BuildOrder, Builder, Context, reference};

/// Lines that may be ahead of who reads them.
const LOG: usize = 64;

/// An order has to be there within this time.
const ORDER_WITHIN: Duration = Duration::from_secs(30);

const JSON: &str = "application/json";
const JSON_LINES: &str = "application/x-ndjson";

type Behind = State<Arc<dyn Builder>>;

/// What plumb's service account may ask, and what a kubelet does.
pub(super) fn router(builder: Arc<dyn Builder>, gate: Arc<Gate>) -> Router {
    let guarded = requests(builder).route_layer(middleware::from_fn_with_state(gate, admit));
    guarded.route("/livez", get(alive)).route("/readyz", get(alive))
}

/// The requests themselves, which everybody may make.
pub(super) fn requests(builder: Arc<dyn Builder>) -> Router {
    Router::new()
        .route("/v1/present", post(present))
        .route("/v1/digests", post(digests))
        .route("/v1/build", post(build))
        .route("/v1/images", get(images))
        .route("/v1/images/{reference}", delete(remove))
        .with_state(builder)
}

/// Whether the daemon behind it answers is told to who asks it for something, in its own words: a pod that is not ready would answer nothing.
async fn alive() -> &'static str {
    "ok\n"
}

async fn admit(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    if let Err(refusal) = gate.admit(request.headers()).await {
        return (refusal.code(), refusal.to_string()).into_response();
    }
    if let Some(admitted) = request.extensions().get::<Admitted>() {
        admitted.set();
    }
    next.run(request).await
}

async fn present(State(builder): Behind, body: Body) -> Response {
    of_each(body, async |references| builder.present(&references).await).await
}

async fn digests(State(builder): Behind, body: Body) -> Response {
    of_each(body, async |references| builder.digests(&references).await).await
}

/// Answers a question about a list of references.
async fn of_each<T: Serialize>(body: Body, ask: impl AsyncFnOnce(Vec<String>) -> Result<T, BuildError>) -> Response {
    let Ok(body) = to_bytes(body, WHOLE).await else { return StatusCode::PAYLOAD_TOO_LARGE.into_response() };
    match serde_json::from_slice(&body) {
        Ok(references) => answer(ask(references).await),
        Err(error) => bad(&error),
    }
}

async fn images(State(builder): Behind) -> Response {
    answer(builder.images().await)
}

/// Removes what plumb built under this very name and nothing else, whatever is asked for.
async fn remove(State(builder): Behind, Path(wanted): Path<String>) -> Response {
    let full = reference::full(&wanted);
    let removed = async {
        let stored = builder.images().await?;
        let ours = stored.iter().any(|image| reference::full(&image.reference) == full && image.standing().is_own());
        if ours { builder.remove(&wanted).await } else { Ok(()) }
    };
    match removed.await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => answer::<()>(Err(error)),
    }
}

/// Builds under a name of plumb's own and no other, whatever is asked for: nobody's image is replaced.
async fn build(State(builder): Behind, body: Body) -> Response {
    let mut lines = Lines::new(body.into_data_stream());
    let order = match tokio::time::timeout(ORDER_WITHIN, lines.next()).await {
        Ok(Ok(Some(line))) => serde_json::from_slice::<BuildOrder>(&line),
        Ok(Ok(None)) => return bad(&"there is no order"),
        Ok(Err(error)) => return bad(&error),
        Err(_) => return (StatusCode::REQUEST_TIMEOUT, "no order came").into_response(),
    };
    let order = match order {
        Ok(order) => order,
        Err(error) => return bad(&error),
    };
    if !is_built(&order.reference) {
        return bad(&format_args!("{:?} is not one repository with a tag of plumb's", order.reference));
    }
    let context = Box::pin(lines.rest().map(|piece| piece.map_err(io::Error::other)));
    let frames = frames(builder, order, context).map(|frame| Ok::<_, Infallible>(line(&frame)));
    (StatusCode::OK, [(CONTENT_TYPE, JSON_LINES)], Body::from_stream(frames)).into_response()
}

/// Builds, and tells how it goes. The build is cancelled when this is dropped. It goes on by itself when nobody reads for a while: its time limit counts.
fn frames(builder: Arc<dyn Builder>, order: BuildOrder, context: Context) -> impl Stream<Item = Frame> + Send {
    let (log, told) = mpsc::channel(LOG);
    let mut building = JoinSet::new();
    building.spawn(async move {
        let mut told = Told { reference: order.reference.clone(), began: Instant::now(), outcome: "cancelled" };
        info!(image = %order.reference, "building");
        let outcome = builder.build(&order, context, log).await;
        told.outcome = if outcome.is_ok() { "built" } else { "failed" };
        outcome
    });
    let progress = stream::unfold(told, async |mut told| told.recv().await.map(|line| (Frame::Progress(line), told)));
    let outcome = stream::once(async move {
        match building.join_next().await {
            Some(Ok(Ok(built))) => Frame::Built(built),
            Some(Ok(Err(error))) => Frame::Failed(error),
            Some(Err(_)) | None => Frame::Failed(BuildError::Builder {
                endpoint: "plumb builder".to_owned(),
                reason: "the task that built it died".to_owned(),
            }),
        }
    });
    progress.chain(outcome)
}

/// Tells how a build ended, even if nobody waits for it any more.
struct Told {
    reference: String,
    began: Instant,
    outcome: &'static str,
}

impl Drop for Told {
    fn drop(&mut self) {
        let took = humantime::format_duration(Duration::from_millis(self.began.elapsed().as_millis() as u64));
        info!(image = %self.reference, outcome = self.outcome, %took, "ended");
    }
}

fn line(frame: &Frame) -> Bytes {
    match serde_json::to_vec(frame) {
        Ok(mut line) => {
            line.push(b'\n');
            line.into()
        }
        Err(error) => {
            // A line that is missing is told at the other side as an answer without an end.
            warn!(%error, "what happens can't be told");
            Bytes::new()
        }
    }
}

fn answer<T: Serialize>(outcome: Result<T, BuildError>) -> Response {
    let (code, json) = match &outcome {
        Ok(value) => (StatusCode::OK, serde_json::to_vec(value)),
        Err(error) => (StatusCode::BAD_GATEWAY, serde_json::to_vec(error)),
    };
    match json {
        Ok(json) => (code, [(CONTENT_TYPE, JSON)], json).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn bad(reason: &dyn std::fmt::Display) -> Response {
    (StatusCode::BAD_REQUEST, reason.to_string()).into_response()
}
