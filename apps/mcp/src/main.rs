//! The Todo Chatbot's MCP server: tools for the tasks of the user whose token a request bears, and of nobody else. `health` asks a server
//! beside it.

mod config;
mod health;
mod hmac;
mod listen;
mod probe;
mod tasks;
mod token;
mod tools;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::routing::get;
use axum::serve::ListenerExt;
use axum::{Router, middleware};
use config::Config;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use token::Tokens;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tools::Tools;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

const CONNECTIONS: u32 = 5;
const ACQUIRE: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> ExitCode {
    log();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(reason = format!("{error:#}"), "failed");
            ExitCode::FAILURE
        }
    }
}

/// Lines of JSON on the standard output: those that `RUST_LOG` names, such as `info` or `warn,todo_mcp=debug`.
fn log() {
    let named: Option<Targets> = std::env::var("RUST_LOG").ok().and_then(|names| names.parse().ok());
    let filter = named.unwrap_or_else(|| Targets::new().with_default(Level::INFO));
    tracing_subscriber::registry()
        .with(filter)
        .with(tracing_subscriber::fmt::layer().json().flatten_event(true))
        .init();
}

async fn run() -> anyhow::Result<()> {
    let read = |name: &str| std::env::var(name).ok();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => serve(Config::read(&read)?).await,
        ["health"] => probe::ask(config::listen(&read)?.port()),
        _ => bail!("usage: {} [health]", env!("CARGO_PKG_NAME")),
    }
}

/// Serves until SIGTERM or Ctrl-C.
async fn serve(config: Config) -> anyhow::Result<()> {
    let stopping = CancellationToken::new();
    tokio::spawn(stop_on_signal(stopping.clone())?);

    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(ACQUIRE);
    let router = router(pool.connect_lazy_with(config.database), Tokens::new(&config.jwt_secret));
    let listener =
        TcpListener::bind(config.listen).await.with_context(|| format!("can't listen on {}", config.listen))?;
    let address = listener.local_addr().context("the listener has no address")?;
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "listening");
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let server = listen::serve(listener, router, listen::HEAD, stopping.clone().cancelled_owned());
    let deadline = async {
        stopping.cancelled().await;
        tokio::time::sleep(config.drain).await;
    };
    tokio::select! {
        () = server => {}
        () = deadline => tracing::warn!("ending with requests under way: they took too long"),
    }
    tracing::info!("ended");
    Ok(())
}

fn router(database: PgPool, tokens: Tokens) -> Router {
    // No session, so that any pod can answer any request. Which `Host` is asked for does not matter: a page that has a browser
    // ask here has no token to show.
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(64 * 1024)
        .disable_allowed_hosts();
    let tools = Tools::new(database.clone());
    let service =
        StreamableHttpService::new(move || Ok(tools.clone()), Arc::new(NeverSessionManager::default()), config);
    let mcp = Router::new().nest_service("/mcp", service);
    mcp.layer(middleware::from_fn_with_state(Arc::new(tokens), token::authenticate))
        .merge(Router::new().route("/health", get(health::health)).with_state(database))
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
