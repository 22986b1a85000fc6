//! Starts the server, and ends it in order. `todo-frontend health` asks the one that runs.

use std::time::Duration;

use anyhow::Context as _;
use todo_frontend::{App, backend::Backend, config::Config, listen, probe, web};
use tokio::{net::TcpListener, signal::unix, sync::watch};
use tracing_subscriber::EnvFilter;

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

#[tokio::main]
async fn serve(config: Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).init();
    let (close, closing) = watch::channel(false);
    let app = App { backend: Backend::new(config.backend.clone())?, closing };
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
