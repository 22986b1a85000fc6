//! The reconciler's side: a builder that is another pod.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::{Method, Request, Response, StatusCode, header};
use hyper::client::conn::http2;
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;

use super::lines::Lines;
use super::{Frame, SILENCE, WHOLE};
use crate::builder::{
    BuildError, BuildOrder, Builder, Built, Context, Progress, PullPolicy, Stored, TIME_LIMIT, reference,
};
use crate::model::scrub::scrub;

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How long to wait for an answer that is no build.
const ANSWER: Duration = Duration::from_secs(60);

/// The builder keeps the time limit of builds. This much later it is given up.
const GRACE: Duration = Duration::from_secs(60);

/// A refusal is told up to here.
const REASON: usize = 500;

/// A builder in a pod beside the node's daemon.
#[derive(Debug, Clone)]
pub struct Remote {
    authority: String,
    token_file: PathBuf,
    limit: Duration,
    policy: PullPolicy,
}

impl Remote {
    /// The builder at this host and port. The file holds plumb's token for it, and is read for each request: the kubelet renews it.
    pub fn new(authority: String, token_file: PathBuf) -> Self {
        Self { authority, token_file, limit: TIME_LIMIT, policy: PullPolicy::Never }
    }

    /// The longest that a build may take.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// For a pod that pushes to a registry: there is where nodes find its images. Without this it builds into the node's own store.
    pub fn pushes(mut self) -> Self {
        self.policy = PullPolicy::IfNotPresent;
        self
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.authority)
    }

    fn away(&self, reason: impl Into<String>) -> BuildError {
        BuildError::Away { endpoint: self.endpoint(), reason: reason.into() }
    }

    fn lost(&self, error: &(dyn std::error::Error + 'static)) -> BuildError {
        let innermost = std::iter::successors(Some(error), |error| (*error).source()).last();
        self.away(innermost.map(ToString::to_string).unwrap_or_default())
    }

    async fn authorization(&self) -> Result<header::HeaderValue, BuildError> {
        let unusable = |reason: &str| BuildError::Unauthorized {
            endpoint: self.endpoint(),
            reason: format!("the token in {}: {reason}", self.token_file.display()),
        };
        let read = tokio::fs::read_to_string(&self.token_file).await;
        let token = read.map_err(|error| unusable(&error.to_string()))?;
        let mut value = header::HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| unusable("it is no token"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Sends a request. The connection is its own, and ends with the answer, whether that was read or dropped.
    async fn send(&self, method: Method, path: &str, body: Body) -> Result<Answer, BuildError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.endpoint()))
            .header(header::AUTHORIZATION, self.authorization().await?)
            .body(body)
            .map_err(|_| BuildError::BadEndpoint(self.endpoint()))?;
        let connected = tokio::time::timeout(CONNECT, TcpStream::connect(&self.authority)).await;
        let stream = connected.map_err(|_| self.away(format!("no answer for {} s", CONNECT.as_secs())))?;
        let stream = stream.map_err(|error| self.away(error.to_string()))?;
        let connection = Connection::default();
        let mut client = http2::Builder::new(connection.clone());
        client.timer(TokioTimer::new()).keep_alive_interval(SILENCE).keep_alive_timeout(SILENCE);
        let held = Held(connection.clone());
        let shaken = tokio::time::timeout(CONNECT, client.handshake(TokioIo::new(stream))).await;
        let shaken = shaken.map_err(|_| self.away("it does not speak HTTP/2"))?;
        let (mut sender, driver) = shaken.map_err(|error| self.lost(&error))?;
        connection.execute(async { _ = driver.await });
        let response = sender.send_request(request).await.map_err(|error| self.lost(&error))?;
        Ok(Answer { response: response.map(Body::new), _held: held })
    }

    /// Asks for a value.
    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Body) -> Result<T, BuildError> {
        let asked = async {
            let answer = self.send(method, path, body).await?;
            let (parts, body) = self.accepted(answer.response).await?.into_parts();
            let body = to_bytes(body, WHOLE).await.map_err(|error| self.lost(&error))?;
            // An answer without a body is JSON's null.
            let json = if parts.status == StatusCode::NO_CONTENT { b"null".as_slice() } else { &body };
            serde_json::from_slice(json).map_err(|error| self.unreadable(&error))
        };
        let patience = |_| self.away(format!("no answer for {} s", ANSWER.as_secs()));
        tokio::time::timeout(ANSWER, asked).await.map_err(patience)?
    }

    /// The answer, if it is none that refuses.
    async fn accepted(&self, response: Response<Body>) -> Result<Response<Body>, BuildError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = to_bytes(response.into_body(), WHOLE).await.unwrap_or_default();
        if status == StatusCode::BAD_GATEWAY
            && let Ok(error) = serde_json::from_slice::<BuildError>(&body)
        {
            return Err(error);
        }
        let said: String = String::from_utf8_lossy(&body).trim().chars().take(REASON).collect();
        let (endpoint, reason) = (self.endpoint(), scrub(&said));
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => BuildError::Unauthorized { endpoint, reason },
            StatusCode::SERVICE_UNAVAILABLE => BuildError::Away { endpoint, reason },
            _ => BuildError::Builder { endpoint, reason: format!("{status}: {reason}") },
        })
    }

    fn unreadable(&self, error: &dyn std::error::Error) -> BuildError {
        let reason = format!("an answer that can't be read ({error}); is it of another version of plumb?");
        BuildError::Builder { endpoint: self.endpoint(), reason }
    }

    /// Asks for a value of each reference.
    async fn of_each<T: DeserializeOwned>(&self, path: &str, references: &[String]) -> Result<Vec<T>, BuildError> {
        let question = serde_json::to_vec(references).map_err(|error| self.unreadable(&error))?;
        let values: Vec<T> = self.ask(Method::POST, path, question.into()).await?;
        if values.len() == references.len() {
            return Ok(values);
        }
        Err(self.unreadable(&io::Error::other("it is of another length than the question")))
    }

    async fn run(&self, order: &BuildOrder, context: Context, log: &Sender<Progress>) -> Result<Built, BuildError> {
        let mut first = serde_json::to_vec(order).map_err(|error| self.unreadable(&error))?;
        first.push(b'\n');
        let broken = Broken::default();
        let body = Body::from_stream(stream::iter([Ok(Bytes::from(first))]).chain(watched(context, broken.clone())));
        let followed = self.follow(body, log).await;
        // A context that breaks off breaks the request, and why is known here alone.
        match broken.take() {
            Some(error) if followed.is_err() => Err(BuildError::Context(error)),
            _ => followed,
        }
    }

    async fn follow(&self, body: Body, log: &Sender<Progress>) -> Result<Built, BuildError> {
        let answer = self.send(Method::POST, "/v1/build", body).await?;
        let response = self.accepted(answer.response).await?;
        let mut lines = Lines::new(response.into_body().into_data_stream());
        loop {
            let line = lines.next().await.map_err(|error| self.lost(&error))?;
            let line = line.ok_or_else(|| self.away("it went away in the middle of the build"))?;
            match serde_json::from_slice(&line).map_err(|error| self.unreadable(&error))? {
                // Whoever does not listen any more misses it.
                Frame::Progress(progress) => _ = log.send(progress).await,
                Frame::Built(built) => return Ok(built),
                Frame::Failed(error) => return Err(error),
            }
        }
    }
}

#[async_trait]
impl Builder for Remote {
    async fn present(&self, references: &[String]) -> Result<Vec<bool>, BuildError> {
        self.of_each("/v1/present", references).await
    }

    async fn digests(&self, references: &[String]) -> Result<Vec<Option<String>>, BuildError> {
        match self.policy {
            PullPolicy::IfNotPresent => self.of_each("/v1/digests", references).await,
            PullPolicy::Never => Ok(vec![None; references.len()]),
        }
    }

    async fn build(&self, order: &BuildOrder, context: Context, log: Sender<Progress>) -> Result<Built, BuildError> {
        let limit = self.limit.saturating_add(GRACE);
        match tokio::time::timeout(limit, self.run(order, context, &log)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(BuildError::TimeLimit { limit, step: None, log: Vec::new() }),
        }
    }

    async fn images(&self) -> Result<Vec<Stored>, BuildError> {
        self.ask(Method::GET, "/v1/images", Body::empty()).await
    }

    async fn remove(&self, name: &str) -> Result<(), BuildError> {
        let name = reference::full(name);
        let path = format!("/v1/images/{}", utf8_percent_encode(&name, NON_ALPHANUMERIC));
        self.ask(Method::DELETE, &path, Body::empty()).await
    }

    fn pull_policy(&self) -> PullPolicy {
        self.policy
    }
}

/// The tasks that a connection consists of.
#[derive(Clone, Default)]
struct Connection(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Connection {
    fn execute(&self, task: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spawn(task);
    }
}

/// Whoever holds the answer holds the connection: without this, a request whose answer was dropped would go on sending its body.
struct Held(Connection);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

/// An answer over a connection of its own.
struct Answer {
    response: Response<Body>,
    _held: Held,
}

/// Why the context broke off.
#[derive(Clone, Default)]
struct Broken(Arc<Mutex<Option<io::Error>>>);

impl Broken {
    fn set(&self, error: io::Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The context, and why it broke off, if it does.
fn watched(context: Context, broken: Broken) -> impl Stream<Item = io::Result<Bytes>> + Send {
    context.map(move |piece| {
        piece.map_err(|error| {
            let kind = error.kind();
            broken.set(error);
            kind.into()
        })
    })
}
