//! `plumb status --watch`: the status, and then what changes in it, as it comes.

use std::collections::BTreeSet;

use kube::ResourceExt;
use tokio::signal::unix::{SignalKind, signal};

use super::status::{details, table};
use super::{Exit, print_to_reader};
use crate::cluster::Cluster;
use crate::cluster::parent::Parents;
use crate::config::Output;
use crate::model::Environment;
use crate::render::yaml;

/// Prints these environments, and then every change of them (of one alone, if it is named), until Ctrl-C or until nobody reads any more.
pub(super) async fn follow(
    cluster: &Cluster,
    name: Option<&str>,
    first: Vec<Environment>,
    output: Output,
) -> anyhow::Result<Exit> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let parents = Parents::default();
    let mut known = parents.subscribe();
    parents.watch(cluster.caller.clone());
    let mut names = names(&first);
    let mut shown = items(&first, name.is_some(), output)?;
    let mut text = shown.concat();
    loop {
        if !text.is_empty() && !print_to_reader(&text)? {
            return Ok(Exit::Done);
        }
        tokio::select! {
            changed = known.changed() => changed?,
            _ = interrupts.recv() => return Ok(Exit::Done),
        }
        let mut now: Vec<Environment> = {
            let known = known.borrow_and_update();
            if !known.listed {
                text.clear();
                continue;
            }
            known.environments.values().map(|environment| (**environment).clone()).collect()
        };
        now.retain(|environment| name.is_none_or(|name| environment.name_any() == name));
        now.sort_by_key(ResourceExt::name_any);
        let standing = self::names(&now);
        let gone = names.difference(&standing).filter(|_| output == Output::Text);
        text = gone.map(|name| format!("{name} is gone\n")).collect();
        let items = items(&now, name.is_some(), output)?;
        text.extend(news(&shown, &items));
        (names, shown) = (standing, items);
    }
}

fn names(environments: &[Environment]) -> BTreeSet<String> {
    environments.iter().map(ResourceExt::name_any).collect()
}

/// What is printed, in parts that change one by one: lines for people, documents for programs (JSON: one a line).
fn items(environments: &[Environment], one: bool, output: Output) -> anyhow::Result<Vec<String>> {
    let lines = |text: &str| text.lines().map(|line| format!("{line}\n")).collect();
    Ok(match output {
        Output::Json => environments
            .iter()
            .map(|environment| Ok(format!("{}\n", serde_json::to_string(environment)?)))
            .collect::<anyhow::Result<_>>()?,
        Output::Yaml => environments
            .iter()
            .map(|environment| Ok(format!("---\n{}", yaml::write(environment)?)))
            .collect::<anyhow::Result<_>>()?,
        Output::Text if one => lines(&environments.iter().map(details).collect::<Result<String, _>>()?),
        Output::Text => lines(&table(environments)),
    })
}

/// The items that were not there before. A column that became wider is no news.
fn news(before: &[String], now: &[String]) -> Vec<String> {
    let words = |item: &String| item.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let before: BTreeSet<_> = before.iter().map(words).collect();
    now.iter().filter(|item| !before.contains(&words(item))).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str, commit: &str) -> Environment {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "plumb.dev/v1alpha1",
            "kind": "Environment",
            "metadata": {"name": name},
            "spec": {"branch": name, "namespace": name, "path": "."},
            "status": {"shortCommit": commit},
        }))
        .unwrap()
    }

    #[test]
    fn only_what_changed_is_printed_again() {
        let before = [environment("dev", "aaaaaaa"), environment("prod", "bbbbbbb")];
        let after = [
            environment("a-much-longer-name", "eeeeeee"),
            environment("dev", "ccccccc"),
            environment("prod", "bbbbbbb"),
        ];
        for (output, expected) in [(Output::Text, "ccccccc"), (Output::Json, "\"ccccccc\""), (Output::Yaml, "ccccccc")]
        {
            let items = |environments: &[Environment]| items(environments, false, output).unwrap();
            let news = news(&items(&before), &items(&after));
            assert_eq!(news.len(), 2, "{news:?}");
            assert!(news[0].contains("a-much-longer-name") && news[1].contains(expected), "{news:?}");
            assert!(super::news(&items(&after), &items(&after)).is_empty());
        }
    }
}
