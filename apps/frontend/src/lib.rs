//! The Todo Chatbot's pages: HTML that works without JavaScript, in front of the backend's JSON.
//!
//! It keeps nothing. Who somebody is, is the backend's token in a cookie; everything else is asked of the backend anew.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

use std::sync::Arc;

use tokio::sync::watch;

pub mod backend;
pub mod config;
mod guard;
pub mod listen;
mod pages;
pub mod probe;
mod session;
pub mod web;
mod words;

/// What every request needs.
#[derive(Clone)]
pub struct App {
    /// Where tasks, conversations and users are.
    pub backend: backend::Backend,
    /// The name of the cookie that has the session ([`config::Config::cookie`]).
    pub cookie: Arc<str>,
    /// Turns true when this server ends soon: answers that still flow are then ended in words, not cut.
    pub closing: watch::Receiver<bool>,
}
