//! What somebody changes in the cluster between commits: found by the watch, told, put back.

mod changes;
mod gone;
mod stand;
mod verb;
