//! Takes connections, and gives nobody longer than [`HEAD`] to say what it wants: whoever is slow on purpose would hold
//! connections that others need. (`axum::serve` has no such limit.)

use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;

/// From the connection, or the end of the answer before, to the end of a request's head. Also ends connections that nobody uses.
pub const HEAD: Duration = Duration::from_secs(30);

/// Serves until `stop`, then takes no more connections, and waits until the answers that are under way have ended. `head` is
/// [`HEAD`], but in tests.
pub async fn serve(mut listener: impl Listener, router: Router, head: Duration, stop: impl Future<Output = ()>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head);
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let (stream, _) = tokio::select! {
            connected = listener.accept() => connected,
            () = &mut stop => break,
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = &error as &dyn std::error::Error, "a connection did not end well");
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::oneshot;

    use super::*;

    async fn answer(head: &str, patience: Duration) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", axum::routing::get(|| async { "hello" }));
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(serve(listener, router, patience, async move { _ = stopped.await }));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        drop(stop);
        served.await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_head_that_does_not_end_is_not_waited_for() {
        let answer = answer("GET / HTTP/1.1\r\nhost: x\r\n", Duration::from_millis(10)).await;
        assert!(!answer.contains("200 OK"), "{answer}");
    }

    #[tokio::test]
    async fn whoever_asks_is_answered() {
        let answer = answer("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", HEAD).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello"), "{answer}");
    }
}
