//! What a branch says of its own environment, where that is not the definition in force.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::definition::parse;
use super::error::{source_failure, yaml_failure};
use super::{Definition, yaml};
use crate::model::{CommitId, Failure, Origin, Stage};
use crate::source::{EntryKind, SourceError, Store};

/// Refuses a commit that changes its environment's own definition: it is read from the configuration branch alone, so the change would be passed over in
/// silence. A version that the configuration branch has, or once had, is no change: merges bring it along.
pub fn check(
    store: &Store,
    commit: CommitId,
    definition: &Definition,
    branch: &str,
    configuration: CommitId,
) -> Result<(), Failure> {
    if definition.spec.branch == branch {
        return Ok(());
    }
    let failed = |error: SourceError| source_failure(Stage::Source, &error);
    let Some((id, bytes)) = changed(store, commit, definition, configuration).map_err(failed)? else { return Ok(()) };
    let file = &definition.file;
    let differing = differing(&bytes, definition);
    let same = differing.as_ref().is_ok_and(Vec::is_empty);
    // Nor is one that was not valid there either, and was corrected since.
    if same || store.once_held(file, id, configuration).map_err(failed)? {
        return Ok(());
    }
    let (fields, line) = match differing {
        Ok(fields) => {
            let line = fields.first().and_then(|field| yaml::line_of(&bytes, 1, field)).unwrap_or_default();
            (fields, line)
        }
        Err(error) => return Err(yaml_failure(Stage::Definition, file, &error).hint(hint(branch, file))),
    };
    let (own, is) = (&definition.spec.branch, if fields.len() == 1 { "is" } else { "are" });
    let reason = format!(
        "{} {is} changed on the branch {own}, and the definition of {} is read from {branch} alone",
        fields.join(", "),
        definition.name
    );
    Err(Failure::new(Stage::Definition, reason)
        .at(Origin { file: file.clone(), line, document: 0 })
        .hint(hint(branch, file)))
}

fn hint(branch: &str, file: &Arc<str>) -> String {
    format!("make the change on {branch}, or have the file here as it is there: git checkout {branch} -- {file}")
}

/// The definition at this commit, if it is another file than the one in force.
fn changed(
    store: &Store,
    commit: CommitId,
    definition: &Definition,
    configuration: CommitId,
) -> Result<Option<(CommitId, Vec<u8>)>, SourceError> {
    let own = store.at(commit)?;
    let Some(entry) = own.entry(&definition.file)? else { return Ok(None) };
    let in_force = store.at(configuration)?.entry(&definition.file)?;
    if !matches!(entry.kind, EntryKind::File | EntryKind::Executable) || in_force.is_some_and(|it| it.id == entry.id) {
        return Ok(None);
    }
    Ok(Some((entry.id, own.blob(&definition.file, &entry)?)))
}

/// The fields that have another value in these bytes than in the definition in force.
fn differing(bytes: &[u8], in_force: &Definition) -> Result<Vec<String>, yaml::YamlError> {
    let own = parse(bytes, &in_force.name, in_force.file.clone())?;
    let all = |definition: &Definition| {
        let Definition { labels, annotations, spec, .. } = definition;
        json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": spec})
    };
    let mut fields = Vec::new();
    compare("", &all(&own), &all(in_force), &mut fields);
    Ok(fields)
}

fn compare(path: &str, one: &Value, other: &Value, fields: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let value = |of: &serde_json::Map<String, Value>| of.get(name).cloned().unwrap_or_default();
                compare(&path, &value(one), &value(other), fields);
            }
        }
        _ if one != other => fields.push(path.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "apiVersion: plumb.dev/v1alpha1\nkind: Environment\nmetadata: {name: dev}\nspec:\n  branch: dev\n  namespace: todo-dev\n  path: app\n";

    fn fields(text: &str) -> Vec<String> {
        let in_force = parse(BASE.as_bytes(), "dev", "f".into()).unwrap();
        differing(text.as_bytes(), &in_force).unwrap()
    }

    #[test]
    fn fields_are_compared_not_text() {
        assert!(fields(BASE).is_empty());
        assert!(fields(&format!("# a comment\n{BASE}  suspend: false\n  prune: {{}}\n")).is_empty(), "defaults");
        assert_eq!(fields(&BASE.replace("todo-dev", "prod")), ["spec.namespace"]);
        assert_eq!(
            fields(&format!(
                "{}  serviceAccount: admin\n  values: [v]\n  allow: {{clusterScoped: [Namespace]}}\n",
                BASE.replace("{name: dev}", "{name: dev, labels: {a: b}}")
            )),
            ["metadata.labels.a", "spec.allow.clusterScoped", "spec.serviceAccount", "spec.values"]
        );
    }
}
