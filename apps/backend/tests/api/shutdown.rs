//! How it ends.

use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Backend, LONG};

#[tokio::test]
async fn a_request_that_is_under_way_is_answered_before_the_end() {
    let backend = Backend::start(&[]);
    let user = backend.sign_up("ada@example.org").await;
    let address = backend.process.line("listening")["address"].as_str().unwrap().to_owned();
    // Half a request: the server has read its head, and waits for the body.
    let body = json!({"title": "milk"}).to_string();
    let head = format!(
        "POST /api/tasks HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nexpect: 100-continue\r\n\r\n",
        user.token,
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut continued = [0; 25];
    stream.read_exact(&mut continued).await.unwrap();
    assert_eq!(&continued, b"HTTP/1.1 100 Continue\r\n\r\n");

    backend.process.terminate();
    backend.process.line("stopping: answers that are under way come to their end");
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(LONG, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 Created\r\n") && answer.contains("milk"), "{answer}");
    let (status, log) = backend.process.end();
    assert!(status.success() && log.contains("\"ended\""), "{log}");
}

#[tokio::test]
async fn a_request_that_never_ends_is_not_waited_for_beyond_the_grace() {
    let backend = Backend::start(&[("SHUTDOWN_SECONDS", "0")]);
    let address = backend.process.line("listening")["address"].as_str().unwrap().to_owned();
    let (status, _) = backend.get("/health?exclude=mcp").await;
    assert_eq!(status, StatusCode::OK);
    let user = backend.sign_up("ada@example.org").await;
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "{} /api/tasks HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: 9\r\nexpect: 100-continue\r\n\r\n",
        Method::POST,
        user.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut continued = [0; 25];
    stream.read_exact(&mut continued).await.unwrap();
    backend.process.terminate();
    let (status, log) = backend.process.end();
    assert!(status.success() && log.contains("ending with requests under way"), "{log}");
}
