//! BuildKit: the order is solved by the Dockerfile frontend that is built into buildkitd.
//!
//! One connection a build. Over it go the order ([`solve`]), the log that comes back ([`log`]), and a session: a connection in the other
//! direction, by which the daemon asks us for the context, a Dockerfile that is not in it, and credentials ([`session`]). When the connection ends, the daemon cancels.

mod dockerfile;
mod failure;
mod log;
mod session;
mod solve;

use std::convert::Infallible;
use std::time::Duration;

use async_trait::async_trait;
use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_client::LlbBridgeClient;
use bollard_buildkit_proto::moby::buildkit::v1::{ListWorkersRequest, SolveRequest, SolveResponse, StatusRequest};
use tokio::sync::mpsc::Sender;
use tonic::Status;
use tonic::transport::Channel;

pub(super) use self::failure::parse_error;
pub(super) use self::log::Log;
pub(super) use self::session::Failed as BrokenContext;
use self::session::Session;
pub(super) use self::solve::{How, Output, labels};
use super::containerd::{Containerd, State};
use super::{
    BuildError, BuildOrder, Builder, Built, Context, Credentials, Endpoint, Progress, PullPolicy, Stored, TIME_LIMIT,
};

/// The largest message that buildkitd sends.
const MESSAGE: usize = 16 << 20;

/// How long to wait for the end of the log when the build has ended.
const DRAIN: Duration = Duration::from_secs(2);

/// The key of the answer that holds the manifest's digest.
const DIGEST: &str = "containerimage.digest";

/// A buildkitd that builds into the containerd store of the node it shares.
#[derive(Debug, Clone)]
pub struct BuildKit {
    endpoint: Endpoint,
    store: Containerd,
    limit: Duration,
}

impl BuildKit {
    /// A buildkitd with the containerd worker, and the containerd behind it.
    pub fn new(endpoint: Endpoint, store: Containerd) -> Self {
        Self { endpoint, store, limit: TIME_LIMIT }
    }

    /// The longest that a build may take.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

/// One order, on its way.
pub(super) struct Run<'a> {
    /// Where the daemon listens, to be named in a failure.
    pub endpoint: &'a Endpoint,
    /// What to build.
    pub order: &'a BuildOrder,
    /// And how.
    pub how: How,
    /// What has been told of it.
    pub log: &'a mut Log,
    /// Who we are at registries.
    pub credentials: Credentials,
    /// Who is told.
    pub progress: &'a Sender<Progress>,
}

impl Run<'_> {
    /// Solves it over a connection of its own.
    pub async fn over(self, channel: Channel, context: Context) -> Result<Built, BuildError> {
        let mut control = ControlClient::new(channel).max_decoding_message_size(MESSAGE);
        let session = Session::new(context, self.credentials).with(dockerfile::Beside::of(self.order));
        let request = solve::request(self.order, &session.id, &session.context_url(), &self.how);
        let failed = session.failed();
        let tunnel = session.open(&mut control).await.map_err(|status| failure::of_call(&status, self.endpoint))?;
        let answer = tokio::select! {
            answer = solve(control, request, self.log, self.progress) => answer,
            never = endless(tunnel) => match never {},
        };
        match answer {
            Ok(answer) => Ok(Built { digest: answer.exporter_response.get(DIGEST).cloned() }),
            Err(status) => match failed.take() {
                Some(error) => Err(BuildError::Context(error)),
                None => Err(failure::of_solve(&status, self.order, self.log, self.endpoint)),
            },
        }
    }
}

/// Whether a BuildKit answers at the other end.
pub(super) async fn answers(channel: Channel) -> bool {
    ControlClient::new(channel).list_workers(ListWorkersRequest::default()).await.is_ok()
}

/// The digest of an image in its registry, as buildkitd sees it; `None` if it has none of this name. Nothing is pulled but its configuration.
///
/// Who asks stands in for a frontend, whose build ends with the connection.
pub(super) async fn resolve(
    endpoint: &Endpoint,
    channel: Channel,
    credentials: Credentials,
    reference: &str,
) -> Result<Option<String>, BuildError> {
    let mut control = ControlClient::new(channel.clone());
    let session = Session::new(Box::pin(futures::stream::empty()), credentials);
    let build = SolveRequest { r#ref: session::random_id(), session: session.id.clone(), ..SolveRequest::default() };
    let question = solve::question(reference, &build.r#ref).map_err(|status| failure::of_call(&status, endpoint))?;
    let tunnel = session.open(&mut control).await.map_err(|status| failure::of_call(&status, endpoint))?;
    let mut frontend = LlbBridgeClient::new(channel).max_decoding_message_size(MESSAGE);
    let answer = tokio::select! {
        answer = frontend.resolve_image_config(question) => answer.map(|answer| answer.into_inner().digest),
        ended = control.solve(build) => Err(ended.err().unwrap_or_else(|| Status::unavailable("it ended the question"))),
        never = endless(tunnel) => match never {},
    };
    match answer {
        Ok(digest) => Ok(Some(digest)),
        Err(status) if status.message().ends_with(": not found") => Ok(None),
        Err(status) => Err(failure::of_registry(&status, reference, endpoint)),
    }
}

/// Keeps a session going. That it has ended says nothing: what became of the build, its own call tells, which goes on to be waited for.
async fn endless(tunnel: impl Future<Output = ()>) -> Infallible {
    tunnel.await;
    std::future::pending().await
}

/// Solves, and follows the log to its end beside it.
async fn solve(
    mut control: ControlClient<Channel>,
    request: SolveRequest,
    log: &mut Log,
    progress: &Sender<Progress>,
) -> Result<SolveResponse, tonic::Status> {
    let ended = tokio::sync::Notify::new();
    let followed = follow(control.clone(), request.r#ref.clone(), log, progress);
    let solved = async {
        let answer = control.solve(request).await;
        ended.notify_one();
        answer
    };
    let followed = async {
        tokio::select! {
            () = followed => {}
            () = async { ended.notified().await; tokio::time::sleep(DRAIN).await } => {}
        }
    };
    let (answer, ()) = tokio::join!(solved, followed);
    answer.map(tonic::Response::into_inner)
}

/// Tells what the daemon says of the build. A log that can't be had fails nothing.
async fn follow(mut control: ControlClient<Channel>, build: String, log: &mut Log, progress: &Sender<Progress>) {
    let mut updates = match control.status(StatusRequest { r#ref: build }).await {
        Ok(updates) => updates.into_inner(),
        Err(status) => return tracing::debug!(%status, "no log of the build"),
    };
    while let Ok(Some(update)) = updates.message().await {
        for told in log.take(update) {
            // Whoever does not listen any more misses it.
            let _ = progress.send(told).await;
        }
    }
}

#[async_trait]
impl Builder for BuildKit {
    async fn present(&self, references: &[String]) -> Result<Vec<bool>, BuildError> {
        let states = self.store.states(references).await?;
        Ok(states.into_iter().map(|state| state == State::Whole).collect())
    }

    async fn build(&self, order: &BuildOrder, context: Context, log: Sender<Progress>) -> Result<Built, BuildError> {
        let mut collected = Log::default();
        let built = async {
            // What the daemon remembers having built it would not build again.
            let broken = self.store.states(std::slice::from_ref(&order.reference)).await? == [State::Broken];
            let channel = self.endpoint.channel().await?;
            let how = How { output: Output::Store, cache: !broken, named_contexts: true };
            let run = Run {
                endpoint: &self.endpoint,
                order,
                how,
                log: &mut collected,
                credentials: Credentials::default(),
                progress: &log,
            };
            run.over(channel, context).await
        };
        match tokio::time::timeout(self.limit, built).await {
            Ok(outcome) => outcome,
            Err(_) => Err(collected.time_limit(self.limit)),
        }
    }

    async fn images(&self) -> Result<Vec<Stored>, BuildError> {
        self.store.images().await
    }

    async fn remove(&self, reference: &str) -> Result<(), BuildError> {
        self.store.remove(reference).await
    }

    fn pull_policy(&self) -> PullPolicy {
        PullPolicy::Never
    }
}
