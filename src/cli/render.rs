//! `plumb render`: the manifests of one environment at one commit.

use std::fmt::Write as _;
use std::sync::atomic::AtomicBool;

use super::{Exit, open, print};
use crate::config::{ClusterArgs, Output, RepositoryArgs};
use crate::model::applyset;
use crate::render::{Cache, Request, render, yaml};

/// Print an environment's manifests as they would be applied
///
/// Values of Secrets are masked. With a cluster at hand its kinds and version are used, as `plumb run` does; without one, those of a current Kubernetes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The environment
    environment: String,
    /// The commit to render: a commit, a branch, or HEAD~1 and the like counted from the environment's branch [default: its head]
    #[arg(long, value_name = "REVISION")]
    at: Option<String>,
    /// Ask no cluster
    #[arg(long)]
    offline: bool,
    /// How the manifests are printed: text is YAML with a comment that names each object's origin
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(repository: RepositoryArgs, cluster: ClusterArgs, args: Args) -> anyhow::Result<Exit> {
    let opened = open::Opened::open(&repository).await?;
    let definition = opened.definition(&args.environment)?;
    let commit = opened.commit(definition, args.at.as_deref())?;
    let kinds = open::kinds(&cluster, args.offline).await;
    let snapshot = opened.store.at(commit)?;
    let tools = open::tools();
    let request = Request {
        snapshot: &snapshot,
        environment: &args.environment,
        spec: &definition.spec,
        part_of: &applyset::id(&args.environment),
        kinds: &kinds,
        kinds_generation: 0,
        tools: &tools,
        cancel: &AtomicBool::new(false),
    };
    let desired = tokio::task::block_in_place(|| render(&request, &mut Cache::default()))
        .map_err(|error| error.failure())?
        .into_desired();
    let mut text = String::new();
    match args.output {
        Output::Json => {
            let shown: Vec<_> = desired.objects.iter().map(|manifest| manifest.shown()).collect();
            text = serde_json::to_string_pretty(&shown)?;
        }
        Output::Yaml | Output::Text => {
            for manifest in &desired.objects {
                let origin =
                    if args.output == Output::Text { format!("# {}\n", manifest.origin) } else { String::new() };
                write!(text, "---\n{origin}{}", yaml::write(&manifest.shown())?)?;
            }
        }
    }
    print(&text)
}
