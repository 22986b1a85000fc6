//! What the API server's ownership record (`metadata.managedFields`) says, without any I/O: whether an object is as it was applied
//! ([`fingerprint`]), what was changed and by whom ([`describe`]), when it is put back ([`book`]), and how often it is asked about ([`pace`]).

pub mod book;
pub mod contested;
pub mod describe;
pub mod fields;
pub mod fingerprint;
pub mod interner;
pub mod ownership;
pub mod pace;
