//! Both sides over a real connection, before a builder that stands in for a daemon. Who may ask is tested against a real API server, in
//! `tests/integration`.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::mpsc::{self, Sender};
use tokio::sync::{Notify, watch as channel};

use super::listen::serve_router;
use super::server::requests;
use super::*;
use crate::builder::{BuildOrder, Builder, Context, LABEL, PullPolicy, Stored};

/// What stands in for a daemon: it answers what a test set, and keeps a record.
#[derive(Default)]
struct StandIn {
    /// The answer to everything, if there is one; else it builds.
    refuses: Mutex<Option<BuildError>>,
    /// Builds end when their context does, or never.
    hangs: bool,
    orders: Mutex<Vec<BuildOrder>>,
    context: Mutex<Vec<u8>>,
    removed: Mutex<Vec<String>>,
    begun: Notify,
    /// A build was dropped unfinished.
    cancelled: Arc<Notify>,
}

struct Running(Arc<Notify>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl StandIn {
    fn outcome<T>(&self, value: T) -> Result<T, BuildError> {
        self.refuses.lock().unwrap().take().map_or(Ok(value), Err)
    }
}

/// A tag as plumb gives it.
const TAG: &str = "0123456789abcdef0123456789abcdef01234567";

fn stored(name: &str, labels: &[(&str, &str)]) -> Stored {
    let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), format!("{value}:{TAG}"))).collect();
    let reference = format!("{name}:{TAG}");
    Stored { reference, created: 1_700_000_000, labels, size: 4096 }
}

#[async_trait]
impl Builder for StandIn {
    async fn present(&self, references: &[String]) -> Result<Vec<bool>, BuildError> {
        self.outcome(references.iter().map(|reference| reference.ends_with(":stands")).collect())
    }

    async fn digests(&self, references: &[String]) -> Result<Vec<Option<String>>, BuildError> {
        let digest = |reference: &String| reference.ends_with(":stands").then(|| format!("sha256:of-{reference}"));
        self.outcome(references.iter().map(digest).collect())
    }

    async fn build(
        &self,
        order: &BuildOrder,
        mut context: Context,
        log: Sender<Progress>,
    ) -> Result<Built, BuildError> {
        let running = Running(self.cancelled.clone());
        self.orders.lock().unwrap().push(order.clone());
        let _ = log.send(Progress::Step("[1/2] RUN \"a\nb\"".to_owned())).await;
        self.begun.notify_one();
        while let Some(piece) = context.next().await {
            self.context.lock().unwrap().extend(piece.map_err(BuildError::Context)?);
        }
        let _ = log.send(Progress::Cached("[2/2] COPY".to_owned())).await;
        let _ = log.send(Progress::Line { step: String::new(), text: "ä line".to_owned() }).await;
        if self.hangs {
            std::future::pending::<()>().await;
        }
        std::mem::forget(running);
        self.outcome(Built { digest: Some("sha256:0".to_owned()) })
    }

    async fn images(&self) -> Result<Vec<Stored>, BuildError> {
        self.outcome(vec![
            stored("docker.io/library/ours", &[(LABEL, "ours")]),
            // As dockerd names it.
            stored("alike", &[(LABEL, "alike"), ("other", "x")]),
            stored("docker.io/library/theirs", &[("other", "theirs")]),
            // Built upon ours, or named so by hand: the label came along.
            stored("docker.io/library/based-on-ours", &[(LABEL, "ours")]),
            stored("docker.io/team/ours", &[(LABEL, "ours")]),
            Stored { reference: "docker.io/library/ours:release".to_owned(), ..stored("x", &[(LABEL, "ours")]) },
        ])
    }

    async fn remove(&self, reference: &str) -> Result<(), BuildError> {
        self.removed.lock().unwrap().push(reference.to_owned());
        Ok(())
    }

    fn pull_policy(&self) -> PullPolicy {
        PullPolicy::Never
    }
}

/// A pod and who asks it.
struct Pod {
    behind: Arc<StandIn>,
    remote: Remote,
    address: SocketAddr,
    close: channel::Sender<bool>,
    _token: tempfile::NamedTempFile,
}

async fn pod(behind: StandIn) -> Pod {
    let behind = Arc::new(behind);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (close, closed) = channel::channel(false);
    tokio::spawn(serve_router(listener, requests(behind.clone()), closed));
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "a-token\n").unwrap();
    let remote = Remote::new(address.to_string(), token.path().to_owned());
    Pod { behind, remote, address, close, _token: token }
}

fn order() -> BuildOrder {
    let map = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    BuildOrder {
        reference: format!("registry:5000/a/b:{TAG}"),
        dockerfile: "docker/Dockerfile\nodd".to_owned(),
        ignored_dockerfile: Some("FROM scratch\nLABEL \"ü\"=\u{0}\r\n".to_owned()),
        target: Some("release".to_owned()),
        args: map("A", "\u{0}\n\"ü"),
        platform: Some("linux/arm64".to_owned()),
        labels: map("l", "1"),
        bases: map("base", "base:1"),
    }
}

fn pieces(number: u8) -> Context {
    Box::pin(stream::iter((0..number).map(|piece| Ok(Bytes::from(vec![piece; 100_000])))))
}

async fn build(remote: &Remote, context: Context) -> (Result<Built, BuildError>, Vec<Progress>) {
    let (log, told) = mpsc::channel(1);
    let told = stream::unfold(told, async |mut told| told.recv().await.map(|line| (line, told)));
    let order = order();
    tokio::join!(remote.build(&order, context, log), told.collect())
}

#[tokio::test]
async fn an_order_and_its_context_arrive_as_they_are_and_so_does_what_is_told() {
    let pod = pod(StandIn::default()).await;
    let (built, told) = build(&pod.remote, pieces(50)).await;
    assert_eq!(built.unwrap(), Built { digest: Some("sha256:0".to_owned()) });
    let expected = [
        Progress::Step("[1/2] RUN \"a\nb\"".to_owned()),
        Progress::Cached("[2/2] COPY".to_owned()),
        Progress::Line { step: String::new(), text: "ä line".to_owned() },
    ];
    assert_eq!(told, expected);
    assert_eq!(*pod.behind.orders.lock().unwrap(), [order()]);
    let whole: Vec<Bytes> = pieces(50).try_collect().await.unwrap();
    assert!(*pod.behind.context.lock().unwrap() == whole.concat());
}

#[tokio::test]
async fn the_log_comes_down_while_the_context_goes_up() {
    let pod = pod(StandIn::default()).await;
    let (log, mut told) = mpsc::channel(1);
    let (pieces, context) = mpsc::channel::<io::Result<Bytes>>(1);
    let context = stream::unfold(context, async |mut context| context.recv().await.map(|piece| (piece, context)));
    let order = order();
    let building = pod.remote.build(&order, Box::pin(context), log);
    let (built, ()) = tokio::join!(building, async {
        pieces.send(Ok(Bytes::from_static(b"first"))).await.unwrap();
        assert!(matches!(told.recv().await, Some(Progress::Step(_))), "the build runs, its context is not at its end");
        pieces.send(Ok(Bytes::from_static(b"last"))).await.unwrap();
        drop(pieces);
        while told.recv().await.is_some() {}
    });
    built.unwrap();
    assert_eq!(*pod.behind.context.lock().unwrap(), b"firstlast");
}

/// One of each.
fn failures() -> Vec<BuildError> {
    let (endpoint, reason, file) = ("unix:///x".to_owned(), "because".to_owned(), "Dockerfile".to_owned());
    let (line, log) = (Some(3), vec!["one".to_owned(), "two".to_owned()]);
    vec![
        BuildError::Away { endpoint: endpoint.clone(), reason: reason.clone() },
        BuildError::BadEndpoint("x".to_owned()),
        BuildError::Denied { endpoint: endpoint.clone() },
        BuildError::Unauthorized { endpoint: endpoint.clone(), reason: reason.clone() },
        BuildError::Context(io::Error::other("a blob is missing")),
        BuildError::BasesInACircle,
        BuildError::InUse("a:1".to_owned()),
        BuildError::NoDockerfile(file.clone()),
        BuildError::Dockerfile { file: file.clone(), line, reason: reason.clone() },
        BuildError::UnknownTarget { file: file.clone(), target: "t".to_owned() },
        unknown_base(true),
        unknown_base(false),
        BuildError::Step { file, line: None, step: "RUN x".to_owned(), reason: reason.clone(), log: log.clone() },
        BuildError::TimeLimit { limit: Duration::from_millis(1500), step: Some("RUN x".to_owned()), log },
        BuildError::DiskFull { endpoint: endpoint.clone(), reason: reason.clone() },
        BuildError::Registry { registry: "r:5000".to_owned(), status: Some(401), reason: reason.clone() },
        BuildError::Registry { registry: "r:5000".to_owned(), status: None, reason: reason.clone() },
        BuildError::KeptByRegistry("r:5000/a:1".to_owned()),
        BuildError::BadCredentials,
        BuildError::NoCredentials { file: "/logins".into(), reason: reason.clone() },
        BuildError::Builder { endpoint, reason },
    ]
}

fn unknown_base(transient: bool) -> BuildError {
    let (file, image, reason) = ("Dockerfile".to_owned(), "rsut:1".to_owned(), "denied".to_owned());
    BuildError::UnknownBase { file, line: Some(1), image, reason, transient }
}

#[tokio::test]
async fn a_failure_is_the_same_on_the_other_side_and_so_is_what_to_do_about_it() {
    let pod = pod(StandIn::default()).await;
    for (here, there) in failures().into_iter().zip(failures()) {
        *pod.behind.refuses.lock().unwrap() = Some(there);
        let there = build(&pod.remote, pieces(1)).await.0.unwrap_err();
        assert_eq!(there.to_string(), here.to_string());
        assert_eq!(std::mem::discriminant(&there), std::mem::discriminant(&here));
        assert_eq!((there.is_transient(), there.hint()), (here.is_transient(), here.hint()), "{here}");
    }
    for call in 0..3 {
        *pod.behind.refuses.lock().unwrap() = Some(unknown_base(true));
        let error = match call {
            0 => pod.remote.present(&["a:1".to_owned()]).await.unwrap_err(),
            1 => pod.remote.images().await.unwrap_err(),
            _ => pod.remote.remove("a:1").await.unwrap_err(),
        };
        assert!(error.is_transient() && error.to_string() == unknown_base(true).to_string(), "{error}");
    }
}

#[tokio::test]
async fn what_stands_and_what_may_be_removed() {
    let pod = pod(StandIn::default()).await;
    let asked = ["a/b:stands", "a:does-not"].map(str::to_owned);
    assert_eq!(pod.remote.present(&asked).await.unwrap(), [true, false]);
    assert_eq!(pod.remote.pull_policy(), PullPolicy::Never);
    assert_eq!(pod.remote.clone().pushes().pull_policy(), PullPolicy::IfNotPresent);
    let asked = ["a:stands".to_owned(), "b:missing".to_owned()];
    assert_eq!(pod.remote.digests(&asked).await.unwrap(), [None, None], "the node has them, or not");
    let digests = pod.remote.clone().pushes().digests(&asked).await.unwrap();
    assert_eq!(digests, [Some("sha256:of-a:stands".to_owned()), None]);
    assert_eq!(pod.remote.present(&[]).await.unwrap(), [true; 0]);
    assert_eq!(pod.remote.images().await.unwrap(), pod.behind.images().await.unwrap());
    let tagged = |name: &str| format!("{name}:{TAG}");
    for name in ["ours", "alike", "theirs", "based-on-ours", "team/ours", "nobodys"].map(tagged) {
        pod.remote.remove(&name).await.unwrap();
    }
    for name in ["ours:release", "ours", "../../livez"] {
        pod.remote.remove(name).await.unwrap();
    }
    let removed = ["docker.io/library/ours", "docker.io/library/alike"].map(tagged);
    assert_eq!(*pod.behind.removed.lock().unwrap(), removed, "and never what is another's");
}

#[tokio::test]
async fn a_build_is_cancelled_when_the_client_goes_whether_its_context_is_up_or_not() {
    for whole in [true, false] {
        let pod = pod(StandIn { hangs: true, ..StandIn::default() }).await;
        let context: Context =
            if whole { pieces(3) } else { Box::pin(pieces(3).chain(stream::once(std::future::pending()))) };
        let (log, _told) = mpsc::channel(8);
        let remote = pod.remote.clone();
        let asking = tokio::spawn(async move { remote.build(&order(), context, log).await });
        pod.behind.begun.notified().await;
        asking.abort();
        tokio::time::timeout(Duration::from_secs(30), pod.behind.cancelled.notified()).await.expect("it is cancelled");
    }
}

#[tokio::test]
async fn a_context_that_breaks_off_is_told_as_such_and_cancels() {
    let pod = pod(StandIn::default()).await;
    let broken = stream::once(async { Err(io::Error::other("the blob 0123abc is missing")) });
    let (built, _) = build(&pod.remote, Box::pin(pieces(3).chain(broken))).await;
    let error = built.unwrap_err();
    assert!(matches!(error, BuildError::Context(_)), "{error:?}");
    assert_eq!(error.to_string(), "the build context could not be read: the blob 0123abc is missing");
    tokio::time::timeout(Duration::from_secs(30), pod.behind.cancelled.notified()).await.expect("it is cancelled");
}

#[tokio::test]
async fn a_pod_that_stops_in_the_middle_is_away_for_now() {
    let pod = pod(StandIn { hangs: true, ..StandIn::default() }).await;
    let (built, ()) = tokio::join!(async { build(&pod.remote, pieces(1)).await.0 }, async {
        pod.behind.begun.notified().await;
        pod.close.send_replace(true);
    });
    let error = built.unwrap_err();
    assert!(matches!(error, BuildError::Away { .. }) && error.is_transient(), "{error:?}");
    let error = pod.remote.present(&["a:1".to_owned()]).await.unwrap_err();
    assert!(matches!(error, BuildError::Away { .. }), "{error:?}");
}

#[tokio::test]
async fn a_token_is_read_anew_for_each_request_and_without_one_nothing_is_sent() {
    let pod = pod(StandIn::default()).await;
    std::fs::remove_file(pod._token.path()).unwrap();
    let error = pod.remote.present(&["a:1".to_owned()]).await.unwrap_err();
    assert!(matches!(error, BuildError::Unauthorized { .. }), "{error:?}");
    std::fs::write(pod._token.path(), "bad\ntoken").unwrap();
    let error = pod.remote.present(&["a:1".to_owned()]).await.unwrap_err();
    assert!(matches!(error, BuildError::Unauthorized { .. }) && !format!("{error:?}").contains("bad"), "{error:?}");
    std::fs::write(pod._token.path(), "good").unwrap();
    pod.remote.present(&["a:1".to_owned()]).await.unwrap();
}

/// The answer to what is typed by hand, in HTTP/1.1.
async fn typed(address: SocketAddr, request: &str, body: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!("{request} HTTP/1.1\r\nhost: plumb\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

#[tokio::test]
async fn bad_requests_are_refused_and_reach_no_daemon() {
    let pod = pod(StandIn::default()).await;
    let endless = "x".repeat(LINE + (1 << 20));
    let two_names = format!("{{\"reference\": \"docker.io/library/plumb:0.1.0,web:{TAG}\", \"dockerfile\": \"D\"}}\n");
    for (request, body, code) in [
        ("POST /v1/present", "{", 400),
        ("POST /v1/present", "[1]", 400),
        ("POST /v1/build", "", 400),
        ("POST /v1/build", "{\"reference\": \"a:1\"", 400),
        ("POST /v1/build", "{\"reference\": \"a:1\", \"dockerfile\": \"D\", \"privileged\": true}\n", 400),
        ("POST /v1/build", &endless, 400),
        ("POST /v1/build", "{\"reference\": \"a:1\", \"dockerfile\": \"D\"}\n", 400),
        ("POST /v1/build", &two_names, 400),
        ("POST /v1/build", "{\"reference\": \"a:0123456789abcdef\", \"dockerfile\": \"D\"}\n", 400),
        ("GET /v1/build", "", 405),
        ("DELETE /v1/images", "", 405),
        ("GET /v1/", "", 404),
        ("GET /", "", 404),
    ] {
        let answer = typed(pod.address, request, body).await;
        // Of a body that is too long the answer may be lost: it is not read to its end.
        let lost = answer.is_empty() && body.len() > LINE;
        assert!(lost || answer.starts_with(&format!("HTTP/1.1 {code} ")), "{request}: {answer}");
    }
    assert!(pod.behind.orders.lock().unwrap().is_empty());
}

#[tokio::test]
async fn who_only_holds_connections_open_keeps_nobody_else_out() {
    let pod = pod(StandIn::default()).await;
    let mut held = Vec::new();
    for _ in 0..300 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        held.push(socket.connect(pod.address).await.unwrap());
    }
    pod.remote.present(&["a:1".to_owned()]).await.unwrap();
}
