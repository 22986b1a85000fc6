//! plumb keeps a cluster plumb with git. The rooms, in the order of the data:
//!
//! refs → [`source`] → commit → [`render`] → manifests → [`plan`] → steps → [`cluster`] → applied objects → [`report`].
//!
//! [`model`], [`plan`], [`drift`], [`health`], [`build`] and [`history`] decide and have no I/O; `ARCHITECTURE.md` has the map and the invariants.

pub mod build;
#[allow(clippy::disallowed_types, clippy::disallowed_methods)]
pub mod builder;
#[allow(clippy::disallowed_types, clippy::disallowed_methods)]
pub mod cli;
#[allow(clippy::disallowed_types, clippy::disallowed_methods)]
pub mod cluster;
#[allow(clippy::disallowed_methods)]
pub mod config;
#[allow(clippy::disallowed_types, clippy::disallowed_methods)]
pub mod daemon;
pub mod drift;
pub mod health;
pub mod history;
pub mod model;
pub mod plan;
#[allow(clippy::disallowed_types, clippy::disallowed_methods)]
pub mod reconcile;
#[allow(clippy::disallowed_types, clippy::disallowed_methods)]
pub mod render;
pub mod report;
#[allow(clippy::disallowed_types, clippy::disallowed_methods)]
pub mod serve;
#[allow(clippy::disallowed_types, clippy::disallowed_methods)]
pub mod source;
#[allow(clippy::disallowed_types, clippy::disallowed_methods)]
pub mod telemetry;
