//! The plan against a model of a cluster: single cases, and properties over random ones.

mod cases;
mod claims;
mod properties;
mod removal;
pub(crate) mod world;
