//! `plumb promote`: what one environment has comes to another one's branch.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::bail;
use serde::Serialize;

use super::open::{self, Opened};
use super::rollback::others::spare_at_promotion;
use super::write::{How, View, Writing, git_in, short};
use super::{Exit, history};
use crate::config::{ClusterArgs, RepositoryArgs};
use crate::model::CommitId;
use crate::source::{Arrival, Draft, Promotion};

/// Bring one environment's commit to another environment's branch
///
/// The branch of TO moves to the head of FROM's branch: by a fast-forward if it has no commits of its own, else by a merge commit. Where both changed the
/// same lines nothing is written. Nothing is deployed here; plumb deploys the branch like any push.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plumb promote dev staging --dry-run     what would come, and what that would do
  plumb promote dev staging               staging gets what dev has
  plumb promote dev staging --at HEAD~1   all but the last commit of dev")]
pub(super) struct Args {
    /// The environment that has it
    from: String,
    /// The environment that gets it
    to: String,
    /// The commit: an id, or HEAD~1 and the like counted from FROM's branch [default: its head]
    #[arg(long, value_name = "REVISION")]
    at: Option<String>,
    #[command(flatten)]
    how: How,
}

/// The JSON of `plumb promote`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Promoted {
    /// The environment that has it.
    from: String,
    /// The commit that is promoted.
    commit: String,
    /// `already`, `fast-forward` or `merge`.
    arrival: &'static str,
    /// The commits that come with it, newest first; at most 50.
    brings: Vec<Brought>,
    /// How many come.
    count: usize,
    /// What one should know before.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
    #[serde(flatten)]
    view: View,
}

#[derive(Debug, Serialize)]
struct Brought {
    commit: String,
    subject: String,
}

pub(super) async fn run(repository: RepositoryArgs, cluster: ClusterArgs, args: Args) -> anyhow::Result<Exit> {
    let opened = Opened::open(&repository).await?;
    let (from, to) = (opened.definition(&args.from)?, opened.definition(&args.to)?);
    if from.spec.branch == to.spec.branch {
        let branch = &to.spec.branch;
        bail!("{} and {} have the same branch, {branch}: whatever one has, the other gets with it", args.from, args.to);
    }
    let head = opened.commit(from, None)?;
    let commit = opened.commit(from, args.at.as_deref())?;
    if !opened.store.is_ancestor(commit, head)? {
        bail!("{} is not in the history of branch {}, so {} never had it", commit.short(), from.spec.branch, args.from);
    }
    if opened.heads.unreadable.contains(&to.spec.branch) {
        bail!("the branch {:?} can't be read", to.spec.branch);
    }
    let base = opened.heads.branches.get(&to.spec.branch).copied();
    let mut draft = Draft::begin(&opened.store, &to.spec.branch, base)?;
    let Promotion { arrival, brings, count } = draft.promote(&from.name, &to.name, commit)?;
    tokio::task::block_in_place(|| spare_at_promotion(&opened, to, &draft, commit))?;
    let warning = if arrival == Arrival::Already { None } else { failed(&cluster, &from.name, commit).await };
    let by_hand = |work_tree: &Path| match draft.commits().first() {
        None => git_in(work_tree, &format!("merge --ff-only {}", commit.short())),
        Some(merge) => git_in(work_tree, &format!("merge --no-ff -m '{}' {}", merge.subject, commit.short())),
    };
    let writing =
        Writing { repository: &repository, cluster: &cluster, opened: &opened, definition: to, draft: &draft };
    let (view, exit) = writing.done(args.how.dry_run, by_hand).await?;
    let arrival = match arrival {
        Arrival::Already => "already",
        Arrival::FastForward => "fast-forward",
        Arrival::Merge => "merge",
    };
    let brings = brings.into_iter().map(|(id, subject)| Brought { commit: id.to_string(), subject }).collect();
    let commit = commit.to_string();
    let promoted = Promoted { from: from.name.clone(), commit, arrival, brings, count, warning, view };
    open::show(args.how.output, &promoted, Promoted::text)?;
    Ok(exit)
}

impl Promoted {
    fn text(&self) -> String {
        let (from, to, commit) = (&self.from, &self.view.environment, short(&self.commit));
        if self.arrival == "already" {
            return format!("{to} has {commit} of {from} already.\n{}", self.view.text());
        }
        let mut text = format!("{from} → {to}: {commit}, by a {}; {} new to it:\n", self.arrival, commits(self.count));
        for Brought { commit, subject } in &self.brings {
            let _ = writeln!(text, "  {} {subject}", short(commit)); // A String takes everything.
        }
        if self.count > self.brings.len() {
            let _ = writeln!(text, "  and {} more", self.count - self.brings.len());
        }
        if let Some(warning) = &self.warning {
            let _ = writeln!(text, "! {warning}");
        }
        text + &self.view.text()
    }
}

fn commits(count: usize) -> String {
    if count == 1 { "1 commit is".to_owned() } else { format!("{count} commits are") }
}

/// That the commit failed where it comes from, if the cluster says so. Promoting it all the same may be meant: the environments differ.
async fn failed(cluster: &ClusterArgs, from: &str, commit: CommitId) -> Option<String> {
    let status = history::environment(cluster, from).await.ok()?.status?;
    let entry = status.history.into_iter().find(|entry| entry.commit == commit.to_string())?;
    let message = entry.message.unwrap_or_default();
    (entry.outcome == "Failed").then(|| format!("{} failed in {from}: {message}", commit.short()))
}
