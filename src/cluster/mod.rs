//! The only room that talks to an API server: discovery, apply, delete, watch, status.
//!
//! Every request goes through [`api::Caller`], which bounds how many are under way, how long one may take, and what is done with a 429.

pub mod aggregated;
pub mod api;
pub mod apply;
pub mod connect;
pub mod definitions;
pub mod diagnose;
pub mod discovery;
pub mod error;
pub mod events;
pub mod execute;
pub mod failure;
pub mod gates;
mod handover;
mod heal;
pub mod images;
pub mod inventory;
pub mod limiter;
pub mod parent;
pub mod review;
#[cfg(test)]
mod scripted;
pub mod standing;
mod watch;

pub use connect::Cluster;
pub use error::ClusterError;
