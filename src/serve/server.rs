//! The listener: one request a connection, a limit on everything.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch as channel;
use tokio::task::JoinSet;
use tracing::{debug, info};

use super::Probes;

/// A request's head has to be there within this time.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// A connection is closed after this time, whatever it does.
const CONNECTION_WITHIN: Duration = Duration::from_secs(10);
/// More connections than this wait to be accepted.
const CONNECTIONS: usize = 64;
/// The answers that are under way when plumb stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// What keeps plumb from listening.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken, not one of this machine's, or not allowed.
    #[error("can't listen on {address}: {source}; --listen (PLUMB_LISTEN) names another address")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Takes the address, so that plumb fails at once if it can't be had. Nothing is answered yet.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Bind { address, source })
}

/// Answers until `closed` turns true. Without a listener it only waits for that.
pub async fn serve(listener: Option<TcpListener>, probes: Probes, mut closed: channel::Receiver<bool>) {
    let mut connections = JoinSet::new();
    if let Some(listener) = listener {
        if let Ok(address) = listener.local_addr() {
            info!(%address, "answering /livez, /readyz and /metrics");
        }
        let accepting = accept(&listener, &probes, &mut connections);
        tokio::select! {
            () = accepting => {}
            _ = closed.wait_for(|closed| *closed) => {}
        }
    } else {
        let _ = closed.wait_for(|closed| *closed).await;
    }
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(FAREWELL, all).await;
}

async fn accept(listener: &TcpListener, probes: &Probes, connections: &mut JoinSet<()>) {
    let router = probes.clone().router();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => _ = connections.spawn(answer(stream, TowerToHyperService::new(router.clone()))),
                Err(error) => {
                    // The client is gone already, or there are too many open files.
                    debug!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(stream: TcpStream, service: TowerToHyperService<axum::Router>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .keep_alive(false)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_WITHIN, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a connection broke"),
        Err(_) => debug!("a connection took too long"),
    }
}
