//! `plumb status`: what the cluster says of the environments.

use std::fmt::Write as _;

use comfy_table::{Table, presets};
use kube::ResourceExt as _;

use super::{Exit, print, watch};
use crate::cluster::parent;
use crate::config::{ClusterArgs, Output};
use crate::model::Environment;
use crate::render::yaml;

/// Show the environments of the cluster, or one with its conditions and last deployments
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The environment [default: all]
    environment: Option<String>,
    /// Go on, and print what changes as it comes, until Ctrl-C
    #[arg(long, short)]
    watch: bool,
    /// How it is printed
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(cluster: ClusterArgs, args: Args) -> anyhow::Result<Exit> {
    let cluster = cluster.connect().await?;
    let mut environments = parent::list(&cluster.caller).await?;
    environments.iter_mut().for_each(|environment| environment.metadata.managed_fields = None);
    if let Some(name) = &args.environment {
        environments.retain(|environment| environment.name_any() == *name);
        if environments.is_empty() {
            anyhow::bail!("the cluster has no environment {name:?}");
        }
    }
    if args.watch {
        return watch::follow(&cluster, args.environment.as_deref(), environments, args.output).await;
    }
    match (args.output, &args.environment, environments.first()) {
        (Output::Json, _, _) => print(&serde_json::to_string_pretty(&environments)?),
        (Output::Yaml, _, _) => print(&yaml::write(&environments)?),
        (Output::Text, Some(_), Some(environment)) => print(&details(environment)?),
        (Output::Text, ..) => print(&table(&environments)),
    }
}

fn condition<'a>(environment: &'a Environment, type_: &str) -> Option<&'a crate::model::environment::Condition> {
    environment.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == type_)
}

fn commit(environment: &Environment) -> &str {
    environment.status.as_ref().and_then(|status| status.short_commit.as_deref()).unwrap_or("-")
}

pub(super) fn table(environments: &[Environment]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["NAME", "BRANCH", "COMMIT", "SYNCED", "HEALTHY", "DRIFT", "OBJECTS", "MESSAGE"]);
    for environment in environments {
        let status = environment.status.as_ref();
        let [drift, objects] = [status.and_then(|status| status.drift), status.and_then(|status| status.objects)]
            .map(|count| count.map_or_else(|| "-".to_owned(), |count| count.to_string()));
        let [synced, healthy] = ["Synced", "Healthy"]
            .map(|type_| condition(environment, type_).map_or("-", |condition| condition.status.as_str()));
        let message = condition(environment, "Ready").map_or("", |condition| condition.message.as_str());
        table.add_row([
            environment.name_any().as_str(),
            environment.spec.branch.as_str(),
            commit(environment),
            synced,
            healthy,
            &drift,
            &objects,
            message,
        ]);
    }
    table.trim_fmt()
}

pub(super) fn details(environment: &Environment) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let spec = &environment.spec;
    writeln!(
        text,
        "{}: branch {} → namespace {}, at {}",
        environment.name_any(),
        spec.branch,
        spec.namespace,
        commit(environment)
    )?;
    if let Some(status) = &environment.status {
        for condition in &status.conditions {
            writeln!(
                text,
                "  {} {} ({}, since {}): {}",
                condition.type_, condition.status, condition.reason, condition.last_transition_time, condition.message
            )?;
        }
        writeln!(text, "last deployments:")?;
        for entry in &status.history {
            let short: String = entry.commit.chars().take(7).collect();
            let total: i64 = entry.took_ms.values().sum();
            write!(
                text,
                "  {} {short} {} applied={} pruned={} took={total}ms",
                entry.time, entry.outcome, entry.applied, entry.pruned
            )?;
            match &entry.message {
                Some(message) => writeln!(text, " {message}")?,
                None => writeln!(text)?,
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_says_how_many_objects_drifted() {
        let environment = |status: serde_json::Value| -> Environment {
            let spec = json!({"branch": "dev", "namespace": "n", "path": "."});
            let text = json!({"apiVersion": "plumb.dev/v1alpha1", "kind": "Environment", "metadata": {"name": "dev"}, "spec": spec, "status": status});
            serde_json::from_value(text).unwrap()
        };
        let row = |environment: Environment| {
            let table = table(&[environment]);
            let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<String>>();
            let [header, row] = [0, 1].map(|line| words(table.lines().nth(line).unwrap()));
            header.into_iter().zip(row).filter(|(name, _)| name == "DRIFT" || name == "OBJECTS").collect::<Vec<_>>()
        };
        let cells = |drift: &str, objects: &str| {
            [("DRIFT", drift), ("OBJECTS", objects)].map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        assert_eq!(row(environment(json!({"drift": 2, "objects": 7}))), cells("2", "7"));
        assert_eq!(row(environment(json!(null))), cells("-", "-"));
    }
}
