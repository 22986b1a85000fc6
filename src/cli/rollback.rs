//! `plumb rollback`: an environment's branch goes back, by ordinary commits.

pub(super) mod others;

use std::path::Path;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::open::{self, Opened};
use super::write::{How, View, Writing, git_in, short};
use super::{Exit, history, words};
use crate::config::{ClusterArgs, RepositoryArgs};
use crate::history::{Previous, previous};
use crate::model::CommitId;
use crate::render::{Contents, Definition};
use crate::source::{Draft, Reverted};

/// The branch is searched this far back for commits that were deployed.
const FAR: usize = 5000;

/// Go back to an earlier commit, by reverting everything after it
///
/// Writes what `git revert` would onto the environment's branch, newest first, merges by their first parent, and pushes it: one commit for each that is
/// reverted, or one for all with --squash. Nothing is deployed here; plumb deploys the commits like any push. A branch that moved meanwhile is left alone.
/// Where another environment is deployed from the same branch, or defined there, and would be changed as well, nothing is written.
///
/// Without --to it goes to the last commit that was deployed before what stands, as the status in the cluster says (or to a later one that asks for the
/// same); where no cluster answers, to the commit before the head. Said again, it goes one deployment further back.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plumb rollback dev --dry-run            what would be written, and what that would do
  plumb rollback dev                      back to what was deployed before
  plumb rollback dev --to 3f2a91c         back to this commit of the branch
  plumb rollback dev --to HEAD~3 --squash three commits back, in one commit
  plumb history dev                       which commits there are, and how they went")]
pub(super) struct Args {
    /// The environment
    environment: String,
    /// The commit to go back to: an id, or HEAD~1 and the like counted from the environment's branch [default: the last that was deployed before]
    #[arg(long, value_name = "REVISION")]
    to: Option<String>,
    /// Write one commit instead of one for each that is reverted
    #[arg(long)]
    squash: bool,
    #[command(flatten)]
    how: How,
}

/// The JSON of `plumb rollback`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rollback {
    /// The commit that it goes back to.
    target: String,
    /// The first line of its message.
    target_subject: String,
    /// Why to that one.
    because: String,
    #[serde(flatten)]
    view: View,
}

pub(super) async fn run(repository: RepositoryArgs, cluster: ClusterArgs, args: Args) -> anyhow::Result<Exit> {
    let opened = Opened::open(&repository).await?;
    let definition = opened.definition(&args.environment)?;
    let (name, branch) = (&definition.name, &definition.spec.branch);
    let head = opened.commit(definition, None)?;
    let (target, because) = match &args.to {
        Some(_) => (opened.commit(definition, args.to.as_deref())?, "as --to says".to_owned()),
        None => default_target(&cluster, &opened, definition, head).await?,
    };
    let mut draft = Draft::begin(&opened.store, branch, Some(head))?;
    draft.roll_back(name, target, args.squash)?;
    tokio::task::block_in_place(|| others::spare(&opened, definition, &draft, target))?;
    let by_hand = |work_tree: &Path| by_hand(&draft, target, args.squash, work_tree);
    let writing = Writing { repository: &repository, cluster: &cluster, opened: &opened, definition, draft: &draft };
    let (view, exit) = writing.done(args.how.dry_run, by_hand).await?;
    let target_subject = opened.store.commit(target, branch)?.summary;
    let rollback = Rollback { target: target.to_string(), target_subject, because, view };
    open::show(args.how.output, &rollback, |rollback| rollback.text(head, draft.is_empty()))?;
    Ok(exit)
}

impl Rollback {
    fn text(&self, head: CommitId, is_empty: bool) -> String {
        let Self { target, target_subject, because, view } = self;
        let (name, head, target) = (&view.environment, head.short(), short(target));
        let what = match is_empty {
            true => format!("{name}: {head} has the files of {target} already"),
            false => format!("{name}: from {head} back to {target}"),
        };
        format!("{what} ({target_subject}), {because}.\n{}", view.text())
    }
}

/// Where it goes if nobody says, and why there.
async fn default_target(
    cluster: &ClusterArgs,
    opened: &Opened,
    definition: &Definition,
    head: CommitId,
) -> anyhow::Result<(CommitId, String)> {
    let name = &definition.name;
    let line = opened.store.line(head, FAR)?;
    let status = match history::environment(cluster, name).await {
        Ok(environment) => environment.status.unwrap_or_default(),
        Err(error) if error.downcast_ref().is_some_and(history::is_missing) => {
            bail!("{}: nothing was deployed there that could be gone back to; name a commit by --to", words(&error))
        }
        Err(error) => {
            let error = words(&error);
            let before = line.get(1).copied();
            let before = before.with_context(|| format!("{} is the first commit of its branch", head.short()))?;
            return Ok((before, format!("the commit before the head: what was deployed is not known ({error})")));
        }
    };
    if let Some(newer) = history::behind(&opened.store, head, &status.history)? {
        bail!(
            "branch {} of this repository does not have {}, which plumb saw there: fetch it, name the repository that plumb watches by --repo, or a commit by --to",
            definition.spec.branch,
            newer.short()
        );
    }
    let tools = open::tools();
    let mut contents = Contents::new(&opened.store, name, &definition.spec, &tools);
    let found = tokio::task::block_in_place(|| previous(&line, &status.history, |a, b| contents.same(a, b)));
    match found {
        Previous::To { target, deployed } => {
            let entry = status.history.iter().find(|entry| entry.commit == deployed.to_string());
            let time = entry.map(|entry| format!(" ({})", entry.time)).unwrap_or_default();
            Ok((
                target,
                match target == deployed {
                    true => format!("the last that was deployed before{time}"),
                    false => format!(
                        "which asks for the same as {}, the last that was deployed before{time}",
                        deployed.short()
                    ),
                },
            ))
        }
        Previous::UnderWay(target) => bail!(
            "{} goes back to {} already, and is not deployed yet; wait for it, or name a commit by --to",
            head.short(),
            target.short()
        ),
        Previous::Unknown => bail!(
            "the status of {name} has no deployed commit of branch {} before {}; name one by --to (plumb history {name}, git log {})",
            definition.spec.branch,
            head.short(),
            definition.spec.branch
        ),
    }
}

/// The same with git, in a work tree that has the branch.
fn by_hand(draft: &Draft, target: CommitId, squash: bool, work_tree: &Path) -> String {
    if squash {
        let subject = draft.commits().first().map(|made| made.subject.as_str()).unwrap_or_default();
        let read = git_in(work_tree, &format!("read-tree -m -u HEAD {}", target.short()));
        return format!("{read}\n{}", git_in(work_tree, &format!("commit -m '{subject}'")));
    }
    let reverted: Vec<_> = draft.commits().iter().flat_map(|made| &made.reverts).collect();
    reverts(&reverted).iter().map(|revert| git_in(work_tree, revert)).collect::<Vec<_>>().join("\n")
}

/// The arguments of git that revert these, in their order: of merges in a command of its own, which names the parent.
fn reverts(reverted: &[&Reverted]) -> Vec<String> {
    let command = |run: &[&Reverted]| {
        let merges = run.iter().any(|reverted| reverted.merged_into.is_some());
        let ids: Vec<String> = run.iter().map(|reverted| reverted.id.short()).collect();
        format!("revert --no-edit {}{}", if merges { "-m 1 " } else { "" }, ids.join(" "))
    };
    reverted.chunk_by(|a, b| a.merged_into.is_some() == b.merged_into.is_some()).map(command).collect()
}
