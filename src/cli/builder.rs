//! `plumb builder`: the pod that builds for the reconciler.

use std::net::SocketAddr;

use tokio::sync::watch as channel;
use tracing::info;

use super::{Exit, run};
use crate::builder::Address;
use crate::builder::remote::{Gate, serve};
use crate::config::ClusterArgs;
use crate::serve::bind;

/// Build images for a plumb in another pod
///
/// It alone needs the sockets of the node's buildkitd and containerd, and no rights in the cluster but to have tokens reviewed. It lets in one service
/// account, with a token made for its audience.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Answer here, such as 0.0.0.0:8090
    #[arg(long, env = "PLUMB_LISTEN", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Who is let in
    #[arg(long, env = "PLUMB_CLIENT", value_name = "USER", default_value = "system:serviceaccount:plumb:plumb")]
    client: String,
    /// The audience that tokens must be for
    #[arg(long, env = "PLUMB_AUDIENCE", value_name = "AUDIENCE", default_value = "plumb-builder")]
    audience: String,
}

pub(super) async fn run(cluster: ClusterArgs, args: Args) -> anyhow::Result<Exit> {
    let builder = match (&cluster.builder.builder, cluster.builder.builder()?) {
        (Some(Address::Daemon(_) | Address::Docker(_)), Some(builder)) => builder,
        _ => anyhow::bail!("give the daemon that builds by --builder, such as unix:///run/buildkit/buildkitd.sock"),
    };
    let gate = Gate::new(cluster.connect().await?, args.client.clone(), args.audience);
    let listener = bind(args.listen).await?;
    let (stop, closed) = channel::channel(false);
    run::stop_by_signal(stop)?;
    info!(version = %env!("CARGO_PKG_VERSION"), client = %args.client, "plumb builder starts");
    serve(listener, builder, gate, closed).await;
    info!("stopped");
    Ok(Exit::Done)
}
