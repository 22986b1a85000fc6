//! HTTP as a client that keeps its connections speaks it.

use std::time::Duration;

use anyhow::Context as _;
use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The longest answer that is read.
const ANSWER: usize = 16 << 20;

/// A connection.
pub struct Connection(SendRequest<Body>);

/// Why a request got no answer, or not the whole of one.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// The server had closed the connection before.
    #[error("it was never sent: the connection was closed")]
    Unsent,
    /// The server may have read it.
    #[error("the connection ended before an answer began")]
    Unanswered(#[source] hyper::Error),
    /// The server did not finish what it had begun.
    #[error("the answer broke off")]
    BrokeOff(#[source] axum::Error),
}

impl Connection {
    /// To an address with a port.
    pub async fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("no connection to {address}"))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Whether the server has not closed it yet.
    pub async fn is_open(&mut self) -> bool {
        self.0.ready().await.is_ok()
    }

    /// One request.
    pub async fn send(&mut self, request: Request<Body>) -> Result<(StatusCode, String), NoAnswer> {
        let response = self.0.try_send_request(request).await.map_err(|mut error| match error.take_message() {
            Some(_) => NoAnswer::Unsent,
            None => NoAnswer::Unanswered(error.into_error()),
        })?;
        let status = response.status();
        let body = to_bytes(Body::new(response.into_body()), ANSWER).await.map_err(NoAnswer::BrokeOff)?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

/// One request on a connection of its own.
pub async fn ask(address: &str, request: Request<Body>) -> anyhow::Result<(StatusCode, String)> {
    let asked = async { Ok(Connection::open(address).await?.send(request).await?) };
    tokio::time::timeout(Duration::from_secs(60), asked).await.with_context(|| format!("no answer from {address}"))?
}

/// A request with a JSON body, or without one.
pub fn request(
    method: &str,
    address: &str,
    path: &str,
    token: &str,
    body: Option<&serde_json::Value>,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).header("host", address);
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let body = body.map(ToString::to_string);
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    request.body(body.map_or_else(Body::empty, Body::from)).expect("a request")
}
