//! What the verbs that write commits have in common: show them and the plan, or bring them to their branch, and say what comes next.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::bail;
use serde::Serialize;

use super::open::{self, Opened};
use super::{Exit, words};
use crate::config::{ClusterArgs, Output, RepositoryArgs};
use crate::plan::Planned;
use crate::plan::show::PlanView;
use crate::render::Definition;
use crate::source::{Draft, WriteError};

/// Whether anything is written, and how it is told.
#[derive(Debug, clap::Args)]
pub(super) struct How {
    /// Write nothing: show the commits that would be written, and the plan of deploying them
    #[arg(long)]
    pub(super) dry_run: bool,
    /// How it is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub(super) output: Output,
}

/// Commits for an environment's branch: the JSON of `plumb rollback` and `plumb promote`, beside what each has of its own.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    /// The environment.
    pub(super) environment: String,
    /// Its branch.
    branch: String,
    /// Where the branch was.
    before: Option<String>,
    /// Where it is, or would be.
    after: Option<String>,
    /// The new commits, oldest first.
    commits: Vec<CommitView>,
    /// Whether the branch was moved.
    written: bool,
    /// What deploying it would do; with `--dry-run`.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<PlanView>,
    /// Why it can't be planned, or not be written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
    #[serde(skip)]
    suspended: bool,
    /// The repository is a clone of this remote.
    #[serde(skip)]
    remote: Option<String>,
}

/// A new commit.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CommitView {
    commit: String,
    subject: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reverts: Vec<String>,
}

/// Ctrl-C ends the verb with its temporary files and child processes.
pub(super) async fn unless_interrupted(verb: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    tokio::select! {
        exit = verb => exit,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            bail!("interrupted; a branch moves at once or not at all, and git log says which")
        }
    }
}

/// A draft for an environment's branch, and what is needed to publish or to plan it.
pub(super) struct Writing<'a> {
    pub(super) repository: &'a RepositoryArgs,
    pub(super) cluster: &'a ClusterArgs,
    pub(super) opened: &'a Opened,
    pub(super) definition: &'a Definition,
    pub(super) draft: &'a Draft,
}

impl Writing<'_> {
    /// Brings the draft to its branch, or shows what that would do. `by_hand` says how to do the same in a work tree.
    pub(super) async fn done(&self, dry_run: bool, by_hand: impl Fn(&Path) -> String) -> anyhow::Result<(View, Exit)> {
        let Self { draft, .. } = self;
        let mut view = View::of(self.definition, draft);
        if draft.is_empty() {
            return Ok((view, Exit::Done));
        }
        if let Some(work_tree) = draft.checked_out()? {
            let by_hand = by_hand(&work_tree);
            let error = WriteError::CheckedOut { branch: draft.branch().to_owned(), work_tree };
            let problem = format!("{error}. To do it there:\n{by_hand}");
            anyhow::ensure!(dry_run, problem);
            view.problems.push(problem);
        }
        if !dry_run {
            draft.publish(&self.repository.settings()?).await?;
            view.written = true;
            view.remote = draft.remote()?;
            return Ok((view, Exit::Done));
        }
        let exit = match self.plan().await {
            Ok(planned) => {
                view.plan = Some(PlanView::from(&planned));
                if matches!(planned, Planned::Ready(_)) { Exit::Done } else { Exit::Failed }
            }
            Err(error) => {
                view.problems.push(format!("no plan: {}", words(&error)));
                Exit::Failed
            }
        };
        Ok((view, exit))
    }

    /// What deploying the draft would do, under the definition that it leaves.
    async fn plan(&self) -> anyhow::Result<Planned> {
        let (name, after) = (&self.definition.name, self.opened.with(self.draft)?);
        let commit = after.commit(after.definition(name)?, None)?;
        open::plan(self.cluster, self.repository, &after, name, commit).await
    }
}

impl View {
    fn of(definition: &Definition, draft: &Draft) -> Self {
        let commits = draft.commits().iter().map(|made| CommitView {
            commit: made.id.to_string(),
            subject: made.subject.clone(),
            reverts: made.reverts.iter().map(|reverted| reverted.id.to_string()).collect(),
        });
        Self {
            environment: definition.name.clone(),
            branch: draft.branch().to_owned(),
            before: draft.base().map(|base| base.to_string()),
            after: draft.head().map(|head| head.to_string()),
            commits: commits.collect(),
            written: false,
            plan: None,
            problems: Vec::new(),
            suspended: definition.spec.suspend,
            remote: None,
        }
    }

    /// The commits, the plan, and what comes next.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for made in &self.commits {
            let _ = writeln!(text, "+ {} {}", short(&made.commit), made.subject); // A String takes everything.
        }
        if let Some(plan) = &self.plan {
            let _ = write!(text, "{plan}");
        }
        for problem in &self.problems {
            let _ = writeln!(text, "! {problem}");
        }
        text.push_str(&match (self.written, self.before == self.after) {
            (_, true) => "Nothing to do.\n".to_owned(),
            (false, false) => "Nothing was written (--dry-run).\n".to_owned(),
            (true, false) => self.next(),
        });
        text
    }

    fn next(&self) -> String {
        let (name, branch) = (&self.environment, &self.branch);
        let mut text = format!("Branch {branch} is at {}", self.after.as_deref().map(short).unwrap_or_default());
        text.push_str(&match self.suspended {
            true => format!(". {name} is suspended: nothing is deployed until its definition says otherwise.\n"),
            false => {
                format!("; plumb deploys it like any push. `plumb status {name} --watch` shows how it ends.\n")
            }
        });
        if let Some(remote) = &self.remote {
            let _ = writeln!(text, "This is a clone; if plumb watches {remote}: git push {remote} {branch}");
        }
        text
    }
}

/// The first seven digits of a commit.
pub(super) fn short(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}

/// `git` in a work tree, as it can be pasted into a shell.
pub(super) fn git_in(work_tree: &Path, arguments: &str) -> String {
    let path = work_tree.display().to_string();
    let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let path = if plain { path } else { format!("'{}'", path.replace('\'', r"'\''")) };
    format!("  git -C {path} {arguments}")
}
