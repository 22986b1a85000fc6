//! The git repository: which commits are at the heads of its branches, and what they hold.
