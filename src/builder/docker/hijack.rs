//! The way to the BuildKit inside of a dockerd: a connection that begins as HTTP/1.1 and goes on as gRPC.

use std::io;

use http::{Method, Request, StatusCode, header};
use hyper::rt::{Read, Write};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::Channel;

use crate::builder::{BuildError, Endpoint};

/// A connection for gRPC.
pub(super) async fn channel(endpoint: &Endpoint) -> Result<Channel, BuildError> {
    let connect = tower::service_fn({
        let endpoint = endpoint.clone();
        move |_| {
            let endpoint = endpoint.clone();
            async move { hijack(&endpoint).await }
        }
    });
    // The connection is made by the connector, whatever stands here.
    let channel = tonic::transport::Endpoint::from_static("http://docker").connect_with_connector(connect).await;
    channel.map_err(|error| endpoint.unreachable(&error))
}

async fn hijack(endpoint: &Endpoint) -> io::Result<Upgraded> {
    match endpoint {
        Endpoint::Unix(path) => upgrade(TokioIo::new(UnixStream::connect(path).await?)).await,
        Endpoint::Tcp(authority) => upgrade(TokioIo::new(TcpStream::connect(authority).await?)).await,
    }
}

async fn upgrade(io: impl Read + Write + Unpin + Send + 'static) -> io::Result<Upgraded> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(io::Error::other)?;
    // It ends with the connection.
    tokio::spawn(connection.with_upgrades());
    let request = Request::builder()
        .method(Method::POST)
        .uri("/grpc")
        .header(header::HOST, "docker")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "h2c")
        .body(String::new())
        .map_err(io::Error::other)?;
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(io::Error::other(format!("it has no BuildKit: {}", answer.status())));
    }
    hyper::upgrade::on(answer).await.map_err(io::Error::other)
}
