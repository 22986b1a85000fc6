//! Tests against real repositories, written by the real `git`.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod remote;
mod servers;
mod store;
pub(crate) mod support;
mod watch;
mod write;
