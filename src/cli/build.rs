//! `plumb build`: the images of an environment, without deploying them.

use comfy_table::{Table, presets};
use serde::Serialize;

use super::Exit;
use super::open::{self, Subject};
use crate::builder::queue::Needed;
use crate::config::{ClusterArgs, RepositoryArgs};
use crate::model::CommitId;
use crate::model::images::Image;
use crate::reconcile::images::Images;
use crate::render::declared_images;
use crate::source::Store;
use crate::source::context::Known;

/// How far back is looked for the commit that changed an image.
const FAR: usize = 200;

/// Build the images that a commit's plumb.yaml declares, and that are missing
///
/// A tag follows from what the image is built from: its context after .dockerignore, its Dockerfile, target and arguments, and the images of the same
/// repository that it is based on. What stands under its tag already is not built again. Nothing is deployed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    subject: Subject,
    /// Show tags, contexts, which commit changed them, and what would be built; build nothing
    #[arg(long)]
    dry_run: bool,
}

/// One image as it is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    image: String,
    context: String,
    dockerfile: String,
    /// The commit that gave it this tag, as far as it was looked for.
    changed_by: Option<String>,
    state: &'static str,
}

pub(super) async fn run(repository: RepositoryArgs, cluster: ClusterArgs, args: Args) -> anyhow::Result<Exit> {
    let opened = open::Opened::open(&repository).await?;
    let (definition, commit) = args.subject.of(&opened)?;
    let builder = cluster.builder.builder()?;
    let store = &opened.store;
    let declared = tokio::task::block_in_place(|| declared_images(&store.at(commit)?, &mut Known::default()))
        .map_err(|error| error.failure())?;
    if !args.dry_run {
        let Some(builder) = builder else {
            anyhow::bail!("no builder is named; give one by --builder, such as unix:///run/buildkit/buildkitd.sock")
        };
        let images = Images::new(builder).from_repository(repository.public_url());
        return build_all(&definition.name, store, commit, declared, images).await;
    }
    let stand = match builder {
        Some(builder) => Some(builder.present(&references(&declared)).await?),
        None => None,
    };
    let line = store.line(commit, FAR)?;
    let changed = tokio::task::block_in_place(|| changed_by(store, &line, &declared));
    let shown = declared.iter().enumerate().map(|(number, image)| Shown {
        image: image.reference(),
        context: image.source.context.clone(),
        dockerfile: image.source.dockerfile.clone(),
        changed_by: changed.get(number).copied().flatten().map(|commit| commit.to_string()),
        state: match stand.as_ref().and_then(|stand| stand.get(number)) {
            Some(true) => "present",
            Some(false) => "to be built",
            None => "unknown",
        },
    });
    open::show(args.subject.output, &shown.collect::<Vec<_>>(), |shown| table(shown))
}

fn references(images: &[Image]) -> Vec<String> {
    images.iter().map(Image::reference).collect()
}

async fn build_all(
    environment: &str,
    store: &Store,
    commit: CommitId,
    declared: Vec<Image>,
    images: Images,
) -> anyhow::Result<Exit> {
    tokio::select! {
        built = images.build(environment, store, commit, &declared, Needed::default()) => {
            built?;
            Ok(Exit::Done)
        }
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted: the builds are cancelled"),
    }
}

/// For each image the oldest commit, going back without a gap, at which it had this tag; `None` where that is farther back than was looked.
fn changed_by(store: &Store, line: &[CommitId], images: &[Image]) -> Vec<Option<CommitId>> {
    let mut changed: Vec<(Option<CommitId>, bool)> = vec![(None, true); images.len()];
    let mut known = Known::default();
    for commit in line {
        // A commit whose images can't be told ends the search, as does the first that has other ones.
        let then = store.at(*commit).ok().and_then(|snapshot| declared_images(&snapshot, &mut known).ok());
        let then = references(&then.unwrap_or_default());
        for (image, (since, open)) in images.iter().zip(&mut changed) {
            *open &= then.contains(&image.reference());
            if *open {
                *since = Some(*commit);
            }
        }
        if changed.iter().all(|(_, open)| !open) {
            break;
        }
    }
    let whole = line.len() < FAR;
    changed.into_iter().map(|(since, open)| since.filter(|_| !open || whole)).collect()
}

fn table(images: &[Shown]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["IMAGE", "CONTEXT", "CHANGED BY", "STATE"]);
    for image in images {
        let by = image.changed_by.as_deref().and_then(|commit| commit.get(..7)).unwrap_or("-");
        table.add_row([&*image.image, &*image.context, by, image.state]);
    }
    table.to_string()
}
