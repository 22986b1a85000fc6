//! Images that a repository builds: what they are built from, the tag that follows from it, and where they are used.
//!
//! Pure: what is read from git comes from [`crate::source::Snapshot`], and builders are another room.

pub mod collect;
pub mod dockerfile;
pub mod ignore;
pub mod order;
pub mod reference;
pub mod rewrite;
pub mod tag;
