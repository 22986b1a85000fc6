//! What the API server's ownership record (`metadata.managedFields`) says, without any I/O.

pub mod fields;
pub mod ownership;
