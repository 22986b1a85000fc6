//! An API server whose answers to single requests are written down by a test: for what somebody else does between two requests, which no real one can be made
//! to do at will.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::Cluster;
use crate::model::{Digest, GroupKind, Manifest, ObjectKey, Origin};

/// An answer, with its HTTP status.
pub(super) type Answer = (u16, Value);

/// The API server; it answers 500 to what it has no answer for.
pub(super) struct Scripted {
    answers: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<(String, Value)>>,
}

impl Scripted {
    /// Gives these answers in their order.
    pub(super) async fn serve(answers: impl IntoIterator<Item = Answer>) -> (Arc<Self>, Cluster) {
        let scripted = Arc::new(Self { answers: Mutex::new(answers.into_iter().collect()), asked: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cluster = Cluster::at(listener.local_addr().unwrap());
        let serving = Arc::clone(&scripted);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                serving.answer(connection).await;
            }
        });
        (scripted, cluster)
    }

    /// What was asked so far: `read`, `metadata`, or `apply as MANAGER`, with its body.
    pub(super) fn asked(&self) -> MutexGuard<'_, Vec<(String, Value)>> {
        self.asked.lock().unwrap()
    }

    /// The same without bodies.
    pub(super) fn words(&self) -> Vec<String> {
        self.asked().iter().map(|(words, _)| words.clone()).collect()
    }

    /// One request a connection.
    async fn answer(&self, mut connection: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(connection.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        connection.read_exact(&mut body).await.unwrap();
        self.asked().push((words(&head), serde_json::from_slice(&body).unwrap_or_default()));
        let (code, body) = self.answers.lock().unwrap().pop_front().unwrap_or_else(|| refusal(500));
        let head = format!("HTTP/1.1 {code} X\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n");
        connection.write_all((head + &body.to_string()).as_bytes()).await.unwrap();
    }
}

fn words(head: &str) -> String {
    let target = head.split_whitespace().nth(1).unwrap();
    let has = |wanted: &str| target.split(['?', '&']).any(|pair| pair == wanted);
    let manager = target.split(['?', '&']).find_map(|pair| pair.strip_prefix("fieldManager="));
    match manager {
        Some(manager) if has("force=true") => format!("apply as {manager} by force"),
        Some(manager) => format!("apply as {manager}"),
        None if head.contains("PartialObjectMetadata") => "metadata".to_owned(),
        None => "read".to_owned(),
    }
}

/// The answer that something is not so.
pub(super) fn refusal(code: u16) -> Answer {
    (code, json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": code}))
}

/// The manifest of an object.
pub(super) fn manifest(object: &Value) -> Manifest {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap();
    let (group, version) = text("/apiVersion").rsplit_once('/').unwrap_or(("", text("/apiVersion")));
    let kind = GroupKind::new(group, text("/kind"));
    Manifest {
        key: ObjectKey::new(&kind.group, &kind.kind, text("/metadata/namespace"), text("/metadata/name")),
        version: version.into(),
        origin: Origin { file: "app.yaml".into(), line: 1, document: 1 },
        json: serde_json::value::to_raw_value(object).unwrap(),
        digest: Digest::of(object.to_string().as_bytes()),
        replace_immutable: false,
        made_anew: false,
        left_alone: None,
    }
}
