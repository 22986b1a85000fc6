//! `/health`: what a kubelet asks. `?exclude=NAME` leaves a check out, as in kube-apiserver's `/livez`: a liveness probe leaves
//! out all that a restart does not cure.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::{Json, Router, routing::get};
use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::server::App;

/// Less than a probe waits, so that the answer says which check it was.
const PATIENCE: Duration = Duration::from_secs(1);

/// `/health`.
pub fn routes() -> Router<App> {
    Router::new().route("/health", get(health))
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    service: &'static str,
    timestamp: DateTime<Utc>,
    checks: BTreeMap<&'static str, &'static str>,
}

async fn health(State(app): State<App>, RawQuery(query): RawQuery) -> (StatusCode, Json<Health>) {
    let query = query.unwrap_or_default();
    let asked =
        |name: &str| !form_urlencoded::parse(query.as_bytes()).any(|(key, value)| key == "exclude" && value == name);
    let (database, mcp) =
        tokio::join!(async { if asked("database") { Some(database(&app).await) } else { None } }, async {
            if asked("mcp") { Some(mcp(&app).await) } else { None }
        },);
    let mut checks = BTreeMap::new();
    for (name, result) in [("database", database), ("mcp", mcp)] {
        let Some(result) = result else { continue };
        // The reason is for the log: whoever may ask here need not know addresses and names.
        if let Err(reason) = &result {
            tracing::warn!(check = name, reason, "a health check failed");
        }
        checks.insert(name, if result.is_ok() { "ok" } else { "failing" });
    }
    let healthy = checks.values().all(|check| *check == "ok");
    let (code, status) = if healthy { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "failing") };
    (code, Json(Health { status, service: env!("CARGO_PKG_NAME"), timestamp: Utc::now(), checks }))
}

async fn database(app: &App) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, sqlx::query("SELECT 1").execute(&app.database)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

async fn mcp(app: &App) -> Result<(), String> {
    let url = app.mcp.join("/health").map_err(|error| error.to_string())?;
    let answer = app.http.get(url).timeout(PATIENCE).send().await.and_then(reqwest::Response::error_for_status);
    answer.map(drop).map_err(|error| error.to_string())
}
