//! The scripted model of the tests by itself: what OPENAI_BASE_URL can name where there is no model. It says where it listens, and
//! serves until it is killed.
//!
//!     usage: scripted_model [ADDRESS:PORT [KEY]]        127.0.0.1:8002 scripted-key, unless they are given
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "for tests"
)]

#[path = "../tests/api/scripted_model.rs"]
#[allow(dead_code, reason = "the tests look into it")]
mod scripted_model;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let listen = arguments.first().map_or("127.0.0.1:8002", String::as_str).parse().expect("an address with a port");
    let key = arguments.get(1).map_or("scripted-key", String::as_str);
    let model = scripted_model::ScriptedModel::start(listen, key).await.expect("it can listen there");
    println!("{}", model.base_url());
    std::future::pending::<()>().await;
}
