//! The corpus: tables of cases, one file an area.

mod charts;
mod cluster;
mod definitions;
mod git;
mod images;
mod limits;
mod manifests;

use super::case::Case;

/// All cases, each name once.
pub fn all() -> Vec<Case> {
    [
        definitions::cases(),
        git::cases(),
        manifests::cases(),
        images::cases(),
        limits::cases(),
        cluster::cases(),
        charts::cases(),
    ]
    .concat()
}
