//! The program as it is deployed, over HTTP, with a real PostgreSQL.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

#[path = "../../../support/postgres.rs"]
mod postgres;

mod accounts;
mod chat;
mod database;
mod harness;
mod health;
mod mcp;
mod scripted_model;
mod shutdown;
mod tasks;
mod tls;
