//! The watch against an API server whose answers are written down here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::cluster::inventory::Inventory;
use crate::cluster::limiter::Limiter;
use crate::model::applyset::PART_OF;
use crate::model::{GroupKind, Kinds};

/// Longer than any of this takes.
const SOON: Duration = Duration::from_secs(30);

/// An answer of one request, with its HTTP status.
type Answer = (u16, String);

/// Gives these answers in their order, and then none any more. What was asked is noted: `list`, or `watch` and from where.
struct Scripted {
    asked: Mutex<Vec<String>>,
    answers: Mutex<VecDeque<Answer>>,
}

impl Scripted {
    async fn serve(answers: impl IntoIterator<Item = Answer>) -> (Arc<Self>, Caller) {
        let answers = Mutex::new(answers.into_iter().collect());
        let scripted = Arc::new(Self { asked: Mutex::default(), answers });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let client = kube::Client::try_from(kube::Config::new(url)).unwrap();
        let serving = Arc::clone(&scripted);
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                kept.extend(serving.answer(connection).await); // A watch that brings nothing more.
            }
        });
        (scripted, Caller::new(client, Limiter::default()))
    }

    /// One request a connection. It is given back if there is no answer.
    async fn answer(&self, mut connection: TcpStream) -> Option<TcpStream> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(connection.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        let query: Vec<&str> = head.split_whitespace().nth(1).unwrap().split(['?', '&']).skip(1).collect();
        let from = query.iter().find_map(|pair| pair.strip_prefix("resourceVersion="));
        let asked = if query.contains(&"watch=true") { format!("watch {}", from.unwrap()) } else { "list".to_owned() };
        self.asked.lock().unwrap().push(asked);
        let Some((code, body)) = self.answers.lock().unwrap().pop_front() else { return Some(connection) };
        let head = format!("HTTP/1.1 {code} X\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n");
        connection.write_all((head + &body).as_bytes()).await.unwrap();
        None
    }
}

fn object(name: &str, version: &str) -> Value {
    let metadata = json!({
        "name": name, "namespace": "n", "uid": name, "resourceVersion": version, "labels": {PART_OF: "dev"},
    });
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata})
}

fn listed(version: &str, items: &[Value]) -> Answer {
    let list = json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
        "metadata": {"resourceVersion": version}, "items": items,
    });
    (200, list.to_string())
}

fn events(events: &[(&str, Value)]) -> Answer {
    let line = |(type_, object): &(&str, Value)| json!({"type": type_, "object": object}).to_string() + "\n";
    (200, events.iter().map(line).collect())
}

fn expired() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": 410, "reason": "Expired",
        "message": "too old resource version",
    })
}

#[tokio::test]
async fn nothing_is_missed_over_dropped_connections_bookmarks_and_histories_that_are_gone() {
    let (scripted, caller) = Scripted::serve([
        listed("10", &[object("a", "1"), object("b", "2")]),
        // The connection ends after a bookmark: it is taken up again from there.
        events(&[("MODIFIED", object("b", "11")), ("BOOKMARK", object("", "20"))]),
        // Gone in the middle of a stream. Until the list `a` was deleted and `c` made.
        events(&[("ERROR", expired())]),
        listed("30", &[object("b", "11"), object("c", "25")]),
        events(&[("DELETED", object("c", "31"))]),
        // Gone as the answer itself. Until the list `b` was changed and `d` made.
        (410, expired().to_string()),
        listed("40", &[object("b", "35"), object("d", "36")]),
    ])
    .await;
    let (kind, part_of) = (GroupKind::new("", "ConfigMap"), Arc::from("dev"));
    let inventory = Inventory::new(caller);
    let _follower = inventory.follow(&part_of);
    inventory.ensure([(&kind, Kinds::builtin().preferred(&kind).unwrap())]);
    inventory.complete(&[(kind.clone(), 40)], SOON).await.unwrap();

    inventory.with_members("dev", |members| {
        let mut standing: Vec<_> = members.iter().map(|(key, live)| (&*key.name, live.resource_version)).collect();
        standing.sort_unstable();
        assert_eq!(standing, [("b", 35), ("d", 36)]);
    });
    let mut changed: Vec<String> = inventory.take_changed("dev").into_keys().map(|key| key.name.to_string()).collect();
    changed.sort_unstable();
    assert_eq!(changed, ["a", "b", "c", "d"], "who came, changed and went");
    let last_watch = tokio::time::timeout(SOON, async {
        while scripted.asked.lock().unwrap().len() < 8 {
            sleep(Duration::from_millis(10)).await;
        }
    });
    last_watch.await.unwrap();
    let asked = ["list", "watch 10", "watch 20", "list", "watch 30", "watch 31", "list", "watch 40"];
    assert_eq!(*scripted.asked.lock().unwrap(), asked);
    inventory.stop();
}
