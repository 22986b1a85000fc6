//! The listener: who is not known within moments is out, and so is who does not answer any more.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch as channel;
use tokio::task::JoinSet;
use tracing::{debug, info};

use super::server::router;
use super::{Gate, SILENCE};
use crate::builder::Builder;

/// A request's head has to be there within this time.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// A connection that no request was let in on is closed after this time; it is longer than the API server may take to know a token.
const UNKNOWN_WITHIN: Duration = Duration::from_secs(45);
/// More connections than this wait to be accepted.
const CONNECTIONS: usize = 256;
/// One address has no more than so many, or a pod that only holds them open would keep plumb and the kubelet out.
const OF_ONE_PEER: usize = 16;
/// Requests at once on one of them.
const REQUESTS: u32 = 16;
/// The answers that are under way when plumb stops. A build is not waited for: it is asked for again, and goes on from the daemon's cache.
const FAREWELL: Duration = Duration::from_secs(1);

/// Whether a request of a connection was let in.
#[derive(Clone, Default)]
pub(super) struct Admitted(Arc<AtomicBool>);

impl Admitted {
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Answers for the builder until `closed` turns true; builds that are under way then are cancelled.
pub async fn serve(listener: TcpListener, builder: Arc<dyn Builder>, gate: Gate, closed: channel::Receiver<bool>) {
    serve_router(listener, router(builder, Arc::new(gate)), closed).await;
}

pub(super) async fn serve_router(listener: TcpListener, router: Router, mut closed: channel::Receiver<bool>) {
    if let Ok(address) = listener.local_addr() {
        info!(%address, "answering the reconciler");
    }
    let mut connections = JoinSet::new();
    let accepting = accept(&listener, &router, &mut connections);
    tokio::select! {
        () = accepting => {}
        _ = closed.wait_for(|closed| *closed) => {}
    }
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(FAREWELL, all).await;
}

/// How many connections each address has.
type Peers = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// A connection's place among those of its address, until it ends.
struct Place {
    peers: Peers,
    peer: IpAddr,
}

impl Place {
    fn take(peers: &Peers, peer: IpAddr) -> Option<Self> {
        let mut all = peers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(peer).or_default();
        (*count < OF_ONE_PEER).then(|| {
            *count += 1;
            Self { peers: Arc::clone(peers), peer }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = all.entry(self.peer) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

async fn accept(listener: &TcpListener, router: &Router, connections: &mut JoinSet<()>) {
    let peers = Peers::default();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, address)) => match Place::take(&peers, address.ip()) {
                    Some(place) => _ = connections.spawn(answer(stream, router.clone(), place)),
                    None => debug!(%address, "it has too many connections; this one is closed"),
                },
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

async fn answer(stream: TcpStream, router: Router, _place: Place) {
    let admitted = Admitted::default();
    let service = TowerToHyperService::new(router.layer(Extension(admitted.clone())));
    let mut server = auto::Builder::new(TokioExecutor::new());
    // The kubelet's probes, and whoever looks around with curl.
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).keep_alive(false).max_buf_size(16 << 10);
    server.http2().timer(TokioTimer::new()).max_concurrent_streams(REQUESTS);
    server.http2().keep_alive_interval(SILENCE).keep_alive_timeout(SILENCE);
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    let ended = match tokio::time::timeout(UNKNOWN_WITHIN, connection.as_mut()).await {
        Ok(ended) => ended,
        Err(_) if admitted.get() => connection.await,
        Err(_) => return debug!("a connection without a request that may be made was closed"),
    };
    if let Err(error) = ended {
        debug!(%error, "a connection broke");
    }
}
