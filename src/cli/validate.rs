//! `plumb validate`: everything that can be wrong in git, without a cluster.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;

use super::{Exit, open, print};
use crate::config::RepositoryArgs;
use crate::model::images::ImageSource;
use crate::model::{Desired, Kinds, applyset};
use crate::plan::clashes;
use crate::render::{Cache, Request, check_own_definition, render};
use crate::source::Snapshot;
use crate::source::context::{self, ContextError};

/// Check every definition and render every environment, without a cluster
///
/// For a person before a push, or for CI: ends with 1 if anything is wrong, and says for each environment what, in which file and line. What two of the
/// environments that are checked ask for at once is an error of both.
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
    let (mut rendered, mut wrong) = (BTreeMap::new(), BTreeMap::<&String, Vec<String>>::new());
    for name in chosen.clone() {
        match check(&opened, name, args.at.as_deref()) {
            Ok(desired) => _ = rendered.insert(name, desired),
            Err(error) => _ = wrong.insert(name, vec![format!("{error:#}")]),
        }
    }
    let spec = |name: &String| opened.definition(name).ok().map(|definition| &definition.spec);
    let asking = rendered.iter().filter_map(|(name, desired)| Some(((*name).clone(), (spec(name)?, desired))));
    let clashes = clashes(&asking.collect());
    for (clash, name) in clashes.iter().flat_map(|clash| [(clash, &clash.one), (clash, &clash.other)]) {
        wrong.entry(name).or_default().push(format!("{}: {}", clash.object, clash.words(name)));
    }
    let mut text = String::new();
    for name in chosen {
        match (wrong.get(name), rendered.get(name)) {
            (Some(wrong), _) => wrong.iter().try_for_each(|wrong| writeln!(text, "{name}: {wrong}"))?,
            (None, desired) => writeln!(text, "{name}: {} objects", desired.map_or(0, |it| it.objects.len()))?,
        }
    }
    if opened.definitions.is_empty() {
        anyhow::bail!(
            "there is no environments/<name>/environment.yaml in {}; `plumb init` writes a first one",
            opened.configuration.short()
        );
    }
    print(&text)?;
    Ok(if wrong.is_empty() { Exit::Done } else { Exit::Failed })
}

fn check(opened: &open::Opened, name: &str, at: Option<&str>) -> anyhow::Result<Desired> {
    let definition = opened.definition(name)?;
    let commit = opened.commit(definition, at)?;
    check_own_definition(&opened.store, commit, definition, &opened.config_branch, opened.configuration)?;
    let snapshot = opened.store.at(commit)?;
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
    tokio::task::block_in_place(|| {
        let rendered = render(&request, &mut Cache::default()).map_err(|error| error.failure())?;
        let desired = rendered.into_desired();
        for image in &desired.images {
            check_context(&snapshot, &image.source).with_context(|| format!("the image {:?}", image.source.name))?;
        }
        Ok(desired)
    })
}

/// What a build would refuse: the render reads no content of a context's files.
fn check_context(snapshot: &Snapshot, image: &ImageSource) -> Result<(), ContextError> {
    let context = context::find(snapshot, image)?;
    let entries = context.entries(snapshot)?;
    context.check(snapshot, &entries, context::FILE_LIMIT)
}
