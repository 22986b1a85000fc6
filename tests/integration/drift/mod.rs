//! What somebody changes in the cluster between commits: found by the watch, told, put back.

mod additions;
mod away;
mod changes;
mod expired;
mod fights;
mod gone;
mod hidden;
mod observed;
mod partly;
mod quiet;
mod refused;
mod stand;
mod unseen;
mod verb;
