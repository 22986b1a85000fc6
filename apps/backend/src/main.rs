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
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(reason = format!("{error:#}"), "failed");
            ExitCode::FAILURE
        }
    }
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
