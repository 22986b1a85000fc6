//! `plumb validate`: everything that can be wrong in git, without a cluster.

use std::fmt::Write as _;
use std::sync::atomic::AtomicBool;

use super::{Exit, open, print};
use crate::config::RepositoryArgs;
use crate::model::{Kinds, applyset};
use crate::render::{Cache, Request, render};

/// Check every definition and render every environment, without a cluster
///
/// For a person before a push, or for CI: ends with 1 if anything is wrong, and says for each environment what, in which file and line.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Check only these environments
    #[arg(value_name = "ENVIRONMENT")]
    environments: Vec<String>,
    /// Check this revision of each environment instead of its branch's head: a commit, a branch, or HEAD~1 and the like
    #[arg(long, value_name = "REVISION")]
    at: Option<String>,
}

pub(super) async fn run(repository: RepositoryArgs, args: Args) -> anyhow::Result<Exit> {
    let opened = open::Opened::open(&repository).await?;
    for name in &args.environments {
        opened.definition(name)?;
    }
    let chosen =
        opened.definitions.keys().filter(|name| args.environments.is_empty() || args.environments.contains(name));
    let (mut text, mut failed) = (String::new(), 0);
    for name in chosen {
        match check(&opened, name, args.at.as_deref()) {
            Ok(objects) => writeln!(text, "{name}: {objects} objects")?,
            Err(error) => {
                failed += 1;
                writeln!(text, "{name}: {error:#}")?;
            }
        }
    }
    if opened.definitions.is_empty() {
        anyhow::bail!(
            "there is no environments/<name>/environment.yaml in {}; `plumb init` writes a first one",
            opened.configuration.short()
        );
    }
    print(&text)?;
    Ok(if failed == 0 { Exit::Done } else { Exit::Failed })
}

fn check(opened: &open::Opened, name: &str, at: Option<&str>) -> anyhow::Result<usize> {
    let definition = opened.definition(name)?;
    let snapshot = opened.store.at(opened.commit(definition, at)?)?;
    let request = Request {
        snapshot: &snapshot,
        environment: name,
        spec: &definition.spec,
        part_of: &applyset::id(name),
        kinds: &Kinds::builtin(),
        kinds_generation: 0,
        tools: &open::tools(),
        cancel: &AtomicBool::new(false),
    };
    let rendered =
        tokio::task::block_in_place(|| render(&request, &mut Cache::default())).map_err(|error| error.failure())?;
    Ok(rendered.into_desired().objects.len())
}
