//! `plumb history`: an environment's last deployments, as the cluster's status and git tell them together.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use comfy_table::{Table, presets};
use serde::Serialize;

use super::write::short;
use super::{Exit, open, print, words};
use crate::cluster::ClusterError;
use crate::cluster::parent::Parent;
use crate::config::{ClusterArgs, RepositoryArgs};
use crate::history::{Line, Logged, lines};
use crate::model::environment::HistoryEntry;
use crate::model::{CommitId, Environment, Stage};
use crate::render::{Contents, yaml};
use crate::source::{SourceError, Store, look};

/// The branch is searched this far back for the commits of the status.
const FAR: usize = 1000;

/// Show an environment's last deployments: which commit, whose, how it went and how long it took
///
/// The last ten are in the cluster, in the Environment's status; git adds authors, subjects and the commits that changed nothing. `(+2)` is a commit that came
/// with two others in one push; `Pending` one that plumb has not ended yet. Without the repository the status is shown alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plumb history dev                newest first
  plumb history dev -n 3 -o wide   the last three, with the time of each stage
  plumb history dev -o json | jq -r '.deployments[] | select(.outcome == \"Failed\") | .message'")]
pub(super) struct Args {
    /// The environment
    environment: String,
    /// Show so many, the newest
    #[arg(short = 'n', long, value_name = "COUNT")]
    limit: Option<usize>,
    /// How it is printed
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// How the history is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Default)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For people, with counts and the duration of each stage.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// The JSON of `plumb history`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct History {
    /// The environment.
    environment: String,
    /// Newest first.
    deployments: Vec<Line>,
    /// What is missing here, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

pub(super) async fn run(repository: RepositoryArgs, cluster: ClusterArgs, args: Args) -> anyhow::Result<Exit> {
    let environment = environment(&cluster, &args.environment).await?;
    let entries = environment.status.as_ref().map(|status| status.history.as_slice()).unwrap_or_default();
    let branch = &environment.spec.branch;
    let (mut deployments, note) = match look(&repository.settings()?).await {
        Ok((heads, store)) => {
            let head = heads.branches.get(branch).copied();
            let log = tokio::task::block_in_place(|| log(&store, head, &environment, entries));
            let (log, note) = log.map_or_else(|error| (Vec::new(), Some(words(&error))), |log| (log, None));
            let note = note.map(|note| format!("commits that changed nothing are missing: {note}"));
            (lines(entries, &log, |id| store.commit(id, branch).ok()), note)
        }
        Err(error) => {
            let error = anyhow::Error::new(error);
            let missing = "authors, subjects and commits that changed nothing are missing";
            (
                lines(entries, &[], |_| None),
                Some(format!("{missing}: {}; name the repository by --repo", words(&error))),
            )
        }
    };
    deployments.truncate(args.limit.unwrap_or(usize::MAX));
    let history = History { environment: args.environment, deployments, note };
    match args.output {
        Output::Json => print(&serde_json::to_string_pretty(&history)?),
        Output::Yaml => print(&yaml::write(&history)?),
        Output::Text | Output::Wide => print(&history.text(args.output == Output::Wide)),
    }
}

/// The Environment as the cluster has it.
pub(super) async fn environment(cluster: &ClusterArgs, name: &str) -> anyhow::Result<Environment> {
    let cluster = cluster.connect().await?;
    match (Parent { caller: &cluster.caller, name }).read().await {
        Err(error) if is_missing(&error) => {
            Err(anyhow::Error::new(error).context(format!("the cluster has no environment {name:?}")))
        }
        other => Ok(other?),
    }
}

/// The API server answered that there is no such thing.
pub(super) fn is_missing(error: &ClusterError) -> bool {
    error.code() == 404
}

/// The branch's line from its head to the oldest commit of the status, or the head alone.
fn log(
    store: &Store,
    head: Option<CommitId>,
    environment: &Environment,
    entries: &[HistoryEntry],
) -> anyhow::Result<Vec<Logged>> {
    let (name, branch) = (environment.metadata.name.as_deref().unwrap_or_default(), &environment.spec.branch);
    let head = head.with_context(|| format!("the repository has no branch {branch}"))?;
    if let Some(newer) = behind(store, head, entries)? {
        bail!("branch {branch} of the repository does not have {}, which plumb saw there", newer.short());
    }
    let tools = open::tools();
    let mut contents = Contents::new(store, name, &environment.spec, &tools);
    let line = store.line(head, FAR)?;
    let told = |id: &CommitId| entries.iter().any(|entry| entry.commit == id.to_string());
    let end = line.iter().rposition(told).unwrap_or(0);
    let mut log = Vec::new();
    for (place, id) in line.iter().enumerate().take(end + 1) {
        let parent = line.get(place + 1);
        let changes = told(id) || parent.is_none_or(|parent| !contents.same(*parent, *id));
        log.push(Logged { commit: store.commit(*id, branch)?, changes });
    }
    Ok(log)
}

/// The commit that plumb worked on last, if this repository's branch has not come so far: it is another one than plumb watches, or was not fetched.
pub(super) fn behind(store: &Store, head: CommitId, entries: &[HistoryEntry]) -> Result<Option<CommitId>, SourceError> {
    let Some(last) = entries.first().and_then(|entry| entry.commit.parse().ok()) else { return Ok(None) };
    match store.is_ancestor(head, last) {
        Ok(older) => Ok((older && head != last).then_some(last)),
        Err(SourceError::NoSuchCommit(_)) => Ok(Some(last)),
        Err(error) => Err(error),
    }
}

impl History {
    fn text(&self, wide: bool) -> String {
        let mut text = if self.deployments.is_empty() {
            format!("{} was never deployed.\n", self.environment)
        } else {
            table(&self.deployments, wide)
        };
        if let Some(note) = &self.note {
            let _ = writeln!(text, "note: {note}"); // A String takes everything.
        }
        text
    }
}

fn table(lines: &[Line], wide: bool) -> String {
    let mut table = Table::new();
    let more: &[&str] = if wide { &["APPLIED", "PRUNED", "STAGES"] } else { &[] };
    let header = ["WHEN", "COMMIT", "OUTCOME", "TOOK"].into_iter().chain(more.iter().copied());
    table.load_style(presets::NOTHING).set_header(header.chain(["AUTHOR", "SUBJECT"]));
    for line in lines {
        let mut row = vec![
            line.time.clone().unwrap_or_else(|| "-".to_owned()),
            short(&line.commit).to_owned(),
            line.outcome.clone(),
            if line.took_ms.is_empty() { "-".to_owned() } else { duration(line.took_ms.values().sum()) },
        ];
        if wide {
            row.extend([line.applied.to_string(), line.pruned.to_string(), stages(line)]);
        }
        let with = if line.with.is_empty() { String::new() } else { format!(" (+{})", line.with.len()) };
        let subject = line.subject.as_deref().unwrap_or("-");
        row.extend([line.author.clone().unwrap_or_else(|| "-".to_owned()), format!("{subject}{with}")]);
        table.add_row(row);
    }
    let mut text = String::new();
    // One line a row: no cell has a line break. What went wrong stands below its row.
    let mut rows = table.lines();
    let _ = writeln!(text, "{}", rows.next().unwrap_or_default().trim());
    for (row, line) in rows.zip(lines) {
        let _ = writeln!(text, "{}", row.trim());
        if let Some(message) = &line.message {
            let stage = line.stage.as_deref().map(|stage| format!("{stage}: ")).unwrap_or_default();
            let _ = writeln!(text, "   {stage}{message}");
        }
        if let Some(by) = &line.superseded_by {
            let _ = writeln!(text, "   by {}", short(by));
        }
    }
    text
}

/// How long each stage took, in their order.
fn stages(line: &Line) -> String {
    let place = |stage: &str| Stage::ALL.iter().position(|known| known.as_str() == stage).unwrap_or(Stage::ALL.len());
    let mut stages: Vec<(&String, &i64)> = line.took_ms.iter().collect();
    stages.sort_by_key(|(stage, _)| place(stage));
    stages.iter().map(|(stage, took)| format!("{stage}={}", duration(**took))).collect::<Vec<_>>().join(" ")
}

/// As the log has it: whole milliseconds, or seconds with one decimal from ten seconds on.
fn duration(milliseconds: i64) -> String {
    if milliseconds < 10_000 {
        format!("{milliseconds}ms")
    } else {
        format!("{}.{}s", milliseconds / 1000, milliseconds % 1000 / 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_of_a_line_stand_in_the_order_in_which_a_commit_goes_through_them() {
        assert_eq!(Stage::ALL.len(), Stage::Health as usize + 1, "a stage is missing");
        assert!(Stage::ALL.is_sorted());
        let told: Vec<&str> = Stage::ALL.iter().map(|stage| stage.as_str()).collect();
        let took_ms: serde_json::Map<String, serde_json::Value> = told
            .iter()
            .map(|stage| ((*stage).to_owned(), 1.into()))
            .chain([("unheard-of".to_owned(), 1.into())])
            .collect();
        let entry = serde_json::json!({"commit": "1", "outcome": "Deployed", "time": "t", "tookMs": took_ms});
        let entry: HistoryEntry = serde_json::from_value(entry).unwrap();
        let shown = lines(&[entry], &[], |_| None).iter().map(stages).collect::<String>();
        let shown: Vec<&str> =
            shown.split(' ').filter_map(|stage| stage.split_once('=')).map(|(stage, _)| stage).collect();
        assert_eq!(shown, told.into_iter().chain(["unheard-of"]).collect::<Vec<_>>());
    }
}
