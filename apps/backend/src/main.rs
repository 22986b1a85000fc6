//! The Todo Chatbot's backend. Without an argument it serves; `migrate` brings the database's schema up to date; `health` asks a
//! server beside it.

mod auth;
mod chat;
mod config;
mod conversations;
mod database;
mod error;
mod extract;
mod health;
mod http;
mod listen;
mod probe;
mod server;
mod tasks;
mod text;

use std::process::ExitCode;

use anyhow::bail;
use config::Config;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

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

/// Lines of JSON on the standard output: those that `RUST_LOG` names, such as `info` or `warn,todo_backend=debug`.
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
        [] => server::run(Config::read(&read)?).await,
        ["migrate"] => {
            database::migrate(&config::database(&read)?).await?;
            tracing::info!("the schema is up to date");
            Ok(())
        }
        ["health"] => probe::ask(config::listen(&read)?.port()),
        _ => bail!("usage: {} [migrate|health]", env!("CARGO_PKG_NAME")),
    }
}
