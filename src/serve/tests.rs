use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::cluster::Cluster;
use crate::model::marks::Instance;
use crate::render::Tools;
use crate::telemetry::{Held, pulse};

/// The daemon's state, as the tests set it.
struct Scene {
    probes: Probes,
    source: channel::Sender<Arc<SourceState>>,
    shutdown: channel::Sender<bool>,
}

fn scene() -> Scene {
    let instance = Instance { name: "test".to_owned(), run: "1".to_owned() };
    let shared = Arc::new(Shared::new(Cluster::at("127.0.0.1:9".parse().unwrap()), instance, Tools::default()));
    let waiting = SourceState::Waiting { reason: "the repository was not looked at yet".to_owned() };
    let (source, states) = channel::channel(Arc::new(waiting));
    let (shutdown, stopped) = channel::channel(false);
    Scene { probes: Probes::new(shared, states, stopped), source, shutdown }
}

impl Scene {
    async fn livez(&self) -> (u16, String) {
        let (code, text) = livez(State(self.probes.clone())).await;
        (code.as_u16(), text)
    }

    async fn readyz(&self) -> (u16, String) {
        let (code, text) = readyz(State(self.probes.clone())).await;
        (code.as_u16(), text)
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_hangs_fails_liveness_and_is_named() {
    let scene = scene();
    let pulse = scene.probes.shared.telemetry.pulses.enter("environment dev", pulse::BOUND);
    let hung = tokio::spawn(async move {
        pulse.step("rendering 3f2a91c");
        std::future::pending::<()>().await;
    });
    tokio::time::sleep(pulse::BOUND).await;
    assert_eq!(scene.livez().await, (200, "live\nenvironment dev: rendering 3f2a91c for 5m\n".to_owned()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (code, text) = scene.livez().await;
    assert_eq!(code, 503);
    assert!(text.starts_with("not live\nenvironment dev hangs: rendering 3f2a91c for 5m 1s"), "{text}");
    hung.abort();
    let _ = hung.await;
    assert_eq!(scene.livez().await, (200, "live\n".to_owned()));
}

#[tokio::test]
async fn readiness_says_what_is_missing() {
    let scene = scene();
    let all = "not ready\nthe repository is not read: the repository was not looked at yet\n\
               the Environments are not listed yet\nthe definitions are not read yet\n";
    assert_eq!(scene.readyz().await, (503, all.to_owned()));
    scene.source.send_replace(Arc::new(SourceState::Failing { reason: "it hangs".to_owned(), last: None }));
    scene.probes.shared.telemetry.standing().defined([("dev", None)]);
    scene.probes.shared.telemetry.standing().set("dev", Held::Ours);
    scene.shutdown.send_replace(true);
    let some =
        "not ready\nplumb is stopping\nthe repository is not read: it hangs\nthe Environments are not listed yet\n";
    assert_eq!(scene.readyz().await, (503, some.to_owned()));
}

struct Server {
    address: SocketAddr,
    close: channel::Sender<bool>,
    task: JoinHandle<()>,
}

async fn serving() -> Server {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (close, closed) = channel::channel(false);
    let task = tokio::spawn(async move { serve(Some(listener), scene().probes, closed).await });
    Server { address, close, task }
}

impl Server {
    /// The whole answer to what is sent; it ends when the server closes the connection.
    async fn answer(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }
}

#[tokio::test]
async fn there_are_three_paths_to_read_and_nothing_else() {
    let server = serving().await;
    for (request, status) in [
        ("GET /livez", "200"),
        ("GET /livez?verbose", "200"),
        ("HEAD /livez", "200"),
        ("GET /readyz", "503"),
        ("GET /metrics", "200"),
        ("POST /livez", "405"),
        ("DELETE /metrics", "405"),
        ("GET /", "404"),
        ("GET /livez/", "404"),
        ("GET /debug/pprof", "404"),
        ("GET /metrics/../livez", "404"),
    ] {
        let answer = server.answer(&format!("{request} HTTP/1.1\r\nhost: plumb\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(body.is_empty(), !request.starts_with("GET") || status == "404", "{request}: {body}");
    }
    let metrics = server.answer("GET /metrics HTTP/1.1\r\nhost: plumb\r\n\r\n").await;
    assert!(metrics.contains("content-type: application/openmetrics-text; version=1.0.0"), "{metrics}");
    assert!(metrics.trim_end().ends_with("# EOF"), "{metrics}");
}

#[tokio::test]
async fn a_body_is_not_waited_for_and_nonsense_is_refused() {
    let server = serving().await;
    let answer = server.answer("POST /livez HTTP/1.1\r\nhost: plumb\r\ncontent-length: 1000000\r\n\r\nbegin").await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    let answer = server.answer("\x16\x03\x01 no HTTP\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let endless = format!("GET /livez HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(64 << 10));
    let answer = server.answer(&endless).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

/// More silent clients than may be connected: they are closed, and who asks is answered.
#[tokio::test(start_paused = true)]
async fn silent_clients_keep_nobody_out() {
    let server = serving().await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let answer = server.answer("GET /livez HTTP/1.1\r\nhost: plumb\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    for mut stream in silent {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await; // Ends: it is closed.
    }
}

#[tokio::test]
async fn it_ends_when_it_is_told_to_and_the_address_is_free_again() {
    let server = serving().await;
    let taken = bind(server.address).await.unwrap_err().to_string();
    assert!(taken.starts_with(&format!("can't listen on {}: Address already in use", server.address)), "{taken}");
    let _silent = TcpStream::connect(server.address).await.unwrap();
    server.close.send_replace(true);
    server.task.await.unwrap();
    assert!(bind(server.address).await.is_ok());
}
