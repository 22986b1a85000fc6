//! The pages over HTTP and in a browser, before a stand-in of the backend.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod account;
mod browser;
mod chat;
mod guard;
mod program;
mod scene;
mod stand_in;
mod tasks;
mod trouble;
