//! `plumb render`: the manifests of one environment at one commit.

use std::fmt::Write as _;
use std::sync::atomic::AtomicBool;

use super::open::{self, Subject};
use super::{Exit, print};
use crate::config::{ClusterArgs, Output, RepositoryArgs};
use crate::model::applyset;
use crate::render::{Cache, Request, render, yaml};

/// Print an environment's manifests as they would be applied
///
/// As text it is YAML with a comment that names each object's origin. Values of Secrets are masked. With a cluster at hand its kinds and version are used, as `plumb run` does; without one, those of a current Kubernetes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    subject: Subject,
    /// Ask no cluster
    #[arg(long)]
    offline: bool,
}

pub(super) async fn run(repository: RepositoryArgs, cluster: ClusterArgs, args: Args) -> anyhow::Result<Exit> {
    let opened = open::Opened::open(&repository).await?;
    let (definition, commit) = args.subject.of(&opened)?;
    let kinds = open::kinds(&cluster, args.offline).await;
    let snapshot = opened.store.at(commit)?;
    let tools = cluster.tools()?;
    let request = Request {
        snapshot: &snapshot,
        environment: &definition.name,
        spec: &definition.spec,
        part_of: &applyset::id(&definition.name),
        kinds: &kinds,
        kinds_generation: 0,
        tools: &tools,
        cancel: &AtomicBool::new(false),
    };
    let desired = tokio::task::block_in_place(|| render(&request, &mut Cache::default()))
        .map_err(|error| error.failure())?
        .into_desired();
    let mut text = String::new();
    if args.subject.output == Output::Text {
        for image in &desired.images {
            writeln!(text, "# image {} from {}", image.reference(), image.source.context)?;
        }
    }
    match args.subject.output {
        Output::Json => {
            let shown: Vec<_> = desired.objects.iter().map(|manifest| manifest.shown()).collect();
            text = serde_json::to_string_pretty(&shown)?;
        }
        Output::Yaml | Output::Text => {
            for manifest in &desired.objects {
                let origin = if args.subject.output == Output::Text {
                    format!("# {}\n", manifest.origin)
                } else {
                    String::new()
                };
                write!(text, "---\n{origin}{}", yaml::write(&manifest.shown())?)?;
            }
        }
    }
    print(&text)
}
