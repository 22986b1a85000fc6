//! The HTTP server: what requests share, the routes, and how it stops.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::serve::ListenerExt;
use reqwest::Url;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tower_http::timeout::TimeoutLayer;

use crate::auth::{Attempts, Passwords, SignUps, Tokens};
use crate::chat::{Agent, Model, Turns};
use crate::config::Config;
use crate::error::ApiError;
use crate::{auth, chat, conversations, database, health, http, listen, tasks};

/// What an answer that no stream carries may take.
const REQUEST: Duration = Duration::from_secs(15);
/// From telling the streams to end until the process does so whatever they do.
const FAREWELL: Duration = Duration::from_secs(2);

/// What requests share. Clones are cheap.
#[derive(Clone)]
pub struct App {
    /// Connections to the database.
    pub database: PgPool,
    /// Sessions.
    pub tokens: Arc<Tokens>,
    /// Passwords.
    pub passwords: Passwords,
    /// Passwords that were wrong.
    pub attempts: Arc<Attempts>,
    /// Accounts that were made of late.
    pub sign_ups: Arc<SignUps>,
    /// The client for everything that is asked over HTTP.
    pub http: reqwest::Client,
    /// The MCP server.
    pub mcp: Url,
    /// Who answers in chats, if a model is configured.
    pub agent: Option<Agent>,
    /// Answers that are being made.
    pub turns: Turns,
    /// Cancelled when streams have to end.
    pub cut: CancellationToken,
}

fn router(app: App) -> Router {
    let api = Router::new()
        .nest("/api/auth", auth::routes())
        .nest("/api/tasks", tasks::routes())
        .nest("/api/conversations", conversations::routes())
        .merge(health::routes())
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, REQUEST));
    let nothing = || async { ApiError::NotFound("path") };
    // Its answers are streams, which have time-outs of their own.
    let chat = Router::new().nest("/api/chat", chat::routes());
    api.merge(chat)
        .fallback(nothing)
        .layer(DefaultBodyLimit::max(64 * 1024))
        .layer(middleware::from_fn(log))
        .with_state(app)
}

/// One line a request. Never its query or its headers.
async fn log(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let started = Instant::now();
    let response = next.run(request).await;
    let (status, ms) = (response.status().as_u16(), started.elapsed().as_millis());
    match path == "/health" {
        true => tracing::debug!(%method, path, status, ms, "answered"),
        false => tracing::info!(%method, path, status, ms, "answered"),
    }
    response
}

/// Serves until SIGTERM or Ctrl-C, then lets answers that are under way come to their end, for [`Config::drain`] at most.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let stopping = CancellationToken::new();
    let cut = CancellationToken::new();
    let http = http::client()?;
    let model = config.model.map(|config| Model::new(config, http.clone())).transpose()?;
    let agent = model.map(|model| Agent { model, mcp: config.mcp.clone(), http: http.clone() });
    let app = App {
        database: database::pool(config.database),
        tokens: Arc::new(Tokens::new(&config.jwt_secret)),
        passwords: Passwords::new().context("passwords can't be hashed")?,
        attempts: Arc::default(),
        sign_ups: Arc::default(),
        http,
        mcp: config.mcp,
        agent,
        turns: Turns::default(),
        cut: cut.clone(),
    };
    let pool = app.database.clone();
    tokio::spawn(stop_on_signal(stopping.clone())?);

    let listener =
        TcpListener::bind(config.listen).await.with_context(|| format!("can't listen on {}", config.listen))?;
    let address = listener.local_addr().context("the listener has no address")?;
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "listening");
    // Small events must not wait for more.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let server = listen::serve(listener, router(app), listen::HEAD, stopping.clone().cancelled_owned());
    let deadline = async {
        stopping.cancelled().await;
        tokio::time::sleep(config.drain).await;
        cut.cancel();
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        () = server => {}
        () = deadline => tracing::warn!("ending with requests under way: they took too long"),
    }
    // Idle connections end orderly; one that is stuck is not waited for.
    let _ = tokio::time::timeout(FAREWELL, pool.close()).await;
    tracing::info!("ended");
    Ok(())
}

/// The handlers are in place when this returns.
fn stop_on_signal(stopping: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("can't wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't wait for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: answers that are under way come to their end");
        stopping.cancel();
    })
}
