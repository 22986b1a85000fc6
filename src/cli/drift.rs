//! `plumb drift`: what in the cluster is not as the deployed commit says, and who changed it.

use comfy_table::{Table, presets};
use serde_json::json;

use super::Exit;
use super::open::{self, Subject};
use crate::config::{ClusterArgs, RepositoryArgs};
use crate::drift::describe::Drift;
use crate::model::CommitId;
use crate::reconcile::Reconciler;
use crate::reconcile::survey::Survey;

/// Show what in the cluster is not as git says, and who changed it; change nothing
///
/// Every object of the deployed commit is dry-run by the API server. Of what differs the fields are shown, with the wanted and the live value and the field
/// manager that wrote it: a tool's name, never a person's. `plumb run` puts such things back by itself, unless the definition says selfHeal: false or
/// suspend: true.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  plumb drift dev\n  plumb drift dev -o json | jq -r '.drift[].object'\n  plumb drift dev --exit-code || echo 'not as git says'"
)]
pub(super) struct Args {
    #[command(flatten)]
    subject: Subject,
    /// End with 3 if anything differs
    #[arg(long)]
    exit_code: bool,
}

pub(super) async fn run(repository: RepositoryArgs, cluster: ClusterArgs, args: Args) -> anyhow::Result<Exit> {
    let opened = open::Opened::open(&repository).await?;
    let (definition, head) = args.subject.of(&opened)?;
    let reconciler = open::reconciler(&cluster, &repository, &opened, definition).await?;
    let commit = if args.subject.at.is_some() { head } else { deployed(&reconciler).unwrap_or(head) };
    let Survey { drifts, refused } = reconciler.survey(&opened.store, commit).await?;
    let now = chrono::Utc::now().timestamp();
    let data = json!({
        "environment": definition.name, "commit": commit.to_string(), "drift": drifts.iter().map(shown).collect::<Vec<_>>(),
    });
    let text = |_: &_| match drifts.is_empty() {
        true => format!("{} is as {} says", definition.name, commit.short()),
        false => table(&drifts, now),
    };
    open::show(args.subject.output, &data, text)?;
    for failure in &refused {
        tracing::warn!(reason = %failure, "this object could not be looked at");
    }
    Ok(match (drifts.is_empty(), args.exit_code, refused.is_empty()) {
        (_, _, false) => Exit::Failed,
        (false, true, true) => Exit::Differences,
        _ => Exit::Done,
    })
}

/// The commit that last passed the gates, as the status has it.
fn deployed(reconciler: &Reconciler) -> Option<CommitId> {
    reconciler.shared.parents.get(&reconciler.name)?.status.as_ref()?.target.as_ref()?.parse().ok()
}

fn shown(drift: &Drift) -> serde_json::Value {
    let fields = drift.fields.iter().map(|field| json!({"path": field.path, "want": field.want, "live": field.live}));
    json!({
        "object": drift.key.to_string(), "group": &*drift.key.kind.group, "class": drift.class.as_str(),
        "fields": fields.collect::<Vec<_>>(), "manager": drift.manager, "since": drift.since,
    })
}

fn table(drifts: &[Drift], now: i64) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["OBJECT", "CLASS", "FIELD", "WANT", "LIVE", "MANAGER", "AGE"]);
    for drift in drifts {
        let object = drift.key.to_string();
        let manager = drift.manager.as_deref().unwrap_or("unknown");
        let age = drift.since.and_then(|since| u64::try_from(now - since).ok()).map(std::time::Duration::from_secs);
        let age = age.map_or_else(|| "-".to_owned(), |age| humantime::format_duration(age).to_string());
        if drift.fields.is_empty() {
            table.add_row([object.as_str(), drift.class.as_str(), "-", "-", "-", manager, &age]);
        }
        for field in &drift.fields {
            table.add_row([
                object.as_str(),
                drift.class.as_str(),
                &field.path,
                &field.want,
                &field.live,
                manager,
                &age,
            ]);
        }
    }
    table.trim_fmt()
}
