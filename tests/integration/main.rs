//! The integration tests: one binary, against a real API server. [`harness`] gives each test its own corner of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a test may fail loudly, and the rules of the rooms are not about it"
)]

mod bad_input;
mod harness;
mod harness_itself;
mod scene;

mod adoption;
mod builder;
mod claims;
mod collection;
mod definition;
mod deploy;
mod drift;
mod environments;
mod handover;
mod heals;
mod health;
mod held;
mod history;
mod images;
mod jobs;
mod killed;
mod leave_alone;
mod node;
mod overtaken;
mod pod;
mod prune;
mod removal;
mod replace;
mod rights;
mod rollback;
mod sequences;
mod serve;
mod sync;
mod todo;
mod versions;
