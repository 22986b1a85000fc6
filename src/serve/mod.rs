//! What a kubelet and a Prometheus ask: `/livez`, `/readyz`, `/metrics`, and nothing else.
//!
//! Nothing is decided here: [`crate::telemetry`] knows. There is no authentication, as neither client has any to show, so nothing that is answered is
//! secret, nothing is read but the request's head, and nothing that is asked changes anything or makes plumb ask the API server.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::routing::get;
use tokio::sync::watch as channel;

use crate::model::applyset;
use crate::reconcile::Shared;
use crate::source::SourceState;
use crate::telemetry::standing::{Around, Readiness};

mod server;

pub use server::{ServeError, bind, serve};

/// What the answers are made from.
#[derive(Clone)]
pub struct Probes {
    shared: Arc<Shared>,
    source: channel::Receiver<Arc<SourceState>>,
    shutdown: channel::Receiver<bool>,
}

impl Probes {
    /// Over the daemon's own state.
    pub fn new(
        shared: Arc<Shared>,
        source: channel::Receiver<Arc<SourceState>>,
        shutdown: channel::Receiver<bool>,
    ) -> Self {
        Self { shared, source, shutdown }
    }

    /// The routes.
    pub fn router(self) -> Router {
        let router = Router::new().route("/livez", get(livez)).route("/readyz", get(readyz));
        router.route("/metrics", get(metrics)).with_state(self)
    }

    fn readiness(&self) -> Readiness {
        let known = self.shared.parents.subscribe();
        let (listed, cluster) = {
            let known = known.borrow();
            (known.listed, known.trouble.clone())
        };
        let source = self.source.borrow().trouble().map(str::to_owned);
        let around = Around { stopping: *self.shutdown.borrow(), source, listed, cluster };
        self.shared.telemetry.standing().readiness(&around)
    }
}

/// 200 while every task makes progress. A line a task: what it does, since when.
async fn livez(State(probes): State<Probes>) -> (StatusCode, String) {
    let reports = probes.shared.telemetry.pulses.reports();
    let hangs: Vec<String> =
        reports.iter().filter(|report| !report.is_alive()).map(|report| report.to_string()).collect();
    if hangs.is_empty() {
        return (StatusCode::OK, text("live", reports.iter().map(ToString::to_string)));
    }
    // A kubelet says only that the probe failed, and then plumb is restarted: the reason must be in the log.
    tracing::error!(reason = hangs.join("; "), "the liveness probe fails");
    (StatusCode::SERVICE_UNAVAILABLE, text("not live", hangs))
}

/// 200 once everything is there that plumb needs for its work; else a line for each thing that is missing.
async fn readyz(State(probes): State<Probes>) -> (StatusCode, String) {
    let Readiness { ready, lines } = probes.readiness();
    match ready {
        true => (StatusCode::OK, text("ready", lines)),
        false => (StatusCode::SERVICE_UNAVAILABLE, text("not ready", lines)),
    }
}

async fn metrics(State(probes): State<Probes>) -> (StatusCode, [(HeaderName, &'static str); 1], String) {
    let Shared { cluster, telemetry, .. } = &*probes.shared;
    for environment in telemetry.metrics.environments() {
        let count = cluster.inventory.with_members(&applyset::id(&environment), |members| members.len());
        telemetry.metrics.objects(&environment, count);
    }
    match telemetry.metrics.text() {
        Ok(text) => {
            (StatusCode::OK, [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
        }
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, "text/plain; charset=utf-8")], error.to_string())
        }
    }
}

fn text(verdict: &str, lines: impl IntoIterator<Item = String>) -> String {
    std::iter::once(verdict.to_owned()).chain(lines).map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests;
