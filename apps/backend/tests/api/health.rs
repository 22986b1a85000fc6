//! What a kubelet asks.

use reqwest::StatusCode;
use serde_json::json;

use crate::harness::{Backend, Process, SECRET};

#[tokio::test]
async fn the_failing_check_is_named_and_any_can_be_left_out() {
    // Nobody listens on port 1.
    let backend = Backend::start(&[("MCP_URL", "http://127.0.0.1:1/mcp")]);
    let (status, health) = backend.get("/health").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((&health["status"], &health["service"]), (&json!("failing"), &json!("todo-backend")));
    assert_eq!(health["checks"], json!({"database": "ok", "mcp": "failing"}));
    assert!(health["timestamp"].is_string());
    let (status, health) = backend.get("/health?exclude=mcp").await;
    assert_eq!((status, &health["checks"]), (StatusCode::OK, &json!({"database": "ok"})));
    let (status, health) = backend.get("/health?exclude=mcp&exclude=database").await;
    assert_eq!((status, &health["checks"]), (StatusCode::OK, &json!({})));
}

#[test]
fn a_setting_that_cannot_be_used_is_named_and_not_quoted() {
    let database = ("DATABASE_URL", "postgresql://todo:canary@db/todo");
    for (variables, name) in [
        (vec![database], "JWT_SECRET"),
        (vec![("JWT_SECRET", SECRET)], "DATABASE_URL"),
        (vec![database, ("JWT_SECRET", "canary")], "JWT_SECRET"),
    ] {
        let (status, log) = Process::start(&[], &variables).end();
        assert_eq!(status.code(), Some(1));
        assert!(log.contains(name) && !log.contains("canary"), "{log}");
    }
    let (status, log) = Process::start(&["migrat"], &[database]).end();
    assert!(status.code() == Some(1) && log.contains("usage"), "{log}");
}
