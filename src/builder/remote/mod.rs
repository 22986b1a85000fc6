//! The builder as a pod of its own: it alone holds the daemon's socket, and takes requests from plumb's service account.
//!
//! [`Remote`] is the reconciler's side, a [`Builder`](super::Builder) like any other; [`serve`] is the pod's, before a real one. Between them is HTTP/2,
//! since a build's context goes up while its log comes down, and either side can take a request back:
//!
//! | request | body | answer |
//! |---|---|---|
//! | `POST /v1/present` | references, as a JSON list | which stand, as a JSON list |
//! | `POST /v1/digests` | references, as a JSON list | their digests, as a JSON list; null for what does not stand |
//! | `POST /v1/build` | the order as one line of JSON, then the context as a tar | a [`Frame`] a line; the last is the outcome |
//! | `GET /v1/images` | | a JSON list of [`Stored`](super::Stored) |
//! | `DELETE /v1/images/{reference}` | | 204 |
//!
//! What the builder behind it refuses is answered with 502 and the [`BuildError`](super::BuildError) as JSON, so that the reconciler tells people the
//! same as if it had asked the daemon itself. Neither side holds a context: it goes through piece by piece.

mod client;
mod gate;
mod lines;
mod listen;
mod server;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{BuildError, Built, Progress};

pub use client::Remote;
pub use gate::Gate;
pub use listen::serve;

/// The longest line: an order, or a failure with the end of a log.
const LINE: usize = 1 << 20;

/// The largest body that is read whole.
const WHOLE: usize = 8 << 20;

/// A peer that is silent for this long is asked whether it is there, and given up after as long again.
const SILENCE: Duration = Duration::from_secs(15);

/// What is answered to a build, in this order: any number of [`Frame::Progress`], and one of the others.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Frame {
    /// What happens.
    Progress(Progress),
    /// It is built.
    Built(Built),
    /// It is not.
    Failed(BuildError),
}

#[cfg(test)]
mod tests;
