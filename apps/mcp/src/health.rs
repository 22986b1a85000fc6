//! `/health`: what a kubelet asks. `?exclude=database` leaves that check out, as a liveness probe does: no restart cures it.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;

/// Less than a probe waits, so that the answer says which check it was.
const PATIENCE: Duration = Duration::from_secs(1);

/// The answer.
#[derive(Serialize)]
pub struct Health {
    status: &'static str,
    service: &'static str,
    timestamp: DateTime<Utc>,
    checks: BTreeMap<&'static str, &'static str>,
}

/// 200, or 503 with the failing check named.
pub async fn health(State(database): State<PgPool>, RawQuery(query): RawQuery) -> (StatusCode, Json<Health>) {
    let query = query.unwrap_or_default();
    let left_out = form_urlencoded::parse(query.as_bytes()).any(|(key, value)| key == "exclude" && value == "database");
    let mut checks = BTreeMap::new();
    let mut answer = (StatusCode::OK, "ok");
    if !left_out {
        match reachable(&database).await {
            Ok(()) => checks.insert("database", "ok"),
            Err(reason) => {
                tracing::warn!(check = "database", reason, "a health check failed");
                answer = (StatusCode::SERVICE_UNAVAILABLE, "failing");
                checks.insert("database", "failing")
            }
        };
    }
    let (code, status) = answer;
    (code, Json(Health { status, service: env!("CARGO_PKG_NAME"), timestamp: Utc::now(), checks }))
}

/// It answers, and the backend has migrated it.
async fn reachable(database: &PgPool) -> Result<(), String> {
    let migrated = sqlx::query_scalar("SELECT to_regclass('tasks') IS NOT NULL");
    match tokio::time::timeout(PATIENCE, migrated.fetch_one(database)).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err("it has no tasks: the backend has not migrated it yet".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}
