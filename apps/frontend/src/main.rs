//! Starts the server, and ends it in order. `todo-frontend health` asks the one that runs.

use std::time::Duration;

use anyhow::Context as _;
use todo_frontend::{App, backend::Backend, config::Config, listen, probe, web};
use tokio::{net::TcpListener, signal::unix, sync::watch};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How long answers that still flow at the end of [`Config::drain`] have to say that they were interrupted.
const FAREWELL: Duration = Duration::from_secs(3);

fn main() -> anyhow::Result<()> {
    let variable = |name: &str| std::env::var(name).ok();
    match std::env::args().nth(1).as_deref() {
        None => serve(Config::read(variable)?),
        Some("health") => probe::ask(todo_frontend::config::listen(variable)?.port()),
        Some(other) => anyhow::bail!("unknown argument {other:?}; there is only `health`"),
    }
}

/// Lines of JSON on the standard output: those that `RUST_LOG` names, such as `info` or `warn,todo_frontend=debug`.
fn log() {
    let named: Option<Targets> = std::env::var("RUST_LOG").ok().and_then(|names| names.parse().ok());
    let filter = named.unwrap_or_else(|| Targets::new().with_default(Level::INFO));
    tracing_subscriber::registry()
        .with(filter)
        .with(tracing_subscriber::fmt::layer().json().flatten_event(true))
        .init();
}

#[tokio::main]
async fn serve(config: Config) -> anyhow::Result<()> {
    log();
    let (close, closing) = watch::channel(false);
    let app = App { backend: Backend::new(config.backend.clone())?, cookie: config.cookie.into(), closing };
    let mut terminate = unix::signal(unix::SignalKind::terminate()).context("SIGTERM can't be listened for")?;
    let mut interrupt = unix::signal(unix::SignalKind::interrupt()).context("SIGINT can't be listened for")?;
    let listener =
        TcpListener::bind(config.listen).await.with_context(|| format!("can't listen on {}", config.listen))?;
    tracing::info!(listen = %listener.local_addr()?, backend = %config.backend.origin().ascii_serialization(), "serving");

    let (stop, mut stopping) = watch::channel(false);
    let served = listen::serve(listener, web::router(app), async move { _ = stopping.wait_for(|stop| *stop).await });
    let mut served = tokio::spawn(served);
    tokio::select! {
        ended = &mut served => return ended.context("the server ended"),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending: no new connections");
    stop.send_replace(true);
    if tokio::time::timeout(config.drain, &mut served).await.is_err() {
        tracing::warn!("answers that still flow are interrupted");
        close.send_replace(true);
        _ = tokio::time::timeout(FAREWELL, &mut served).await;
    }
    tracing::info!("ended");
    Ok(())
}
