//! Which fields of a kustomization name files. The table follows `api/types/kustomization.go` of kustomize 5.

use serde_json::Value;

use super::spelling::{Unclear, check, check_breaks};

/// What an entry may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// A file.
    File,
    /// A file, or a directory with a kustomization.
    FileOrDirectory,
    /// A file that configures a generator or transformer, and may name files itself.
    Plugin,
}

/// An entry that names a file or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// The field, such as `configMapGenerator.files`.
    pub field: String,
    /// The entry.
    pub entry: String,
    /// What it may name.
    pub want: Want,
}

/// Lists of paths. Where an entry may be YAML itself, one with a line break is.
const LISTS: &[(&str, Want)] = &[
    ("resources", Want::FileOrDirectory),
    ("bases", Want::FileOrDirectory),
    ("components", Want::FileOrDirectory),
    ("crds", Want::File),
    ("configurations", Want::File),
    ("patchesStrategicMerge", Want::File),
    ("generators", Want::Plugin),
    ("transformers", Want::Plugin),
    ("validators", Want::Plugin),
];

/// Lists of mappings with a path in a field.
const PATHS: &[&str] = &["patches", "patchesJson6902", "replacements"];

/// Generators, with the fields that name files.
const GENERATORS: &[&str] = &["configMapGenerator", "secretGenerator"];

/// A generator's fields. Literals are no files, but may be secrets.
const SOURCES: &[&str] = &["files", "envs", "env", "literals"];

/// The fields of built-in generators and transformers that name files, beside those of the generators.
const PLUGIN: &[&str] = &["path", "paths", "targetFilePath"];

/// Fields that start other programs.
const FORBIDDEN: &[&str] = &["helmCharts", "helmChartInflationGenerator", "helmGlobals"];

/// The first field that would start another program.
pub(super) fn forbidden(kustomization: &Value) -> Option<&'static str> {
    FORBIDDEN.iter().copied().find(|field| kustomization.get(field).is_some_and(|value| !value.is_null()))
}

/// All entries of a kustomization that name files or directories.
pub(super) fn references(kustomization: &Value) -> Result<Vec<Reference>, Unclear> {
    let lists = LISTS.iter().map(|(field, _)| field);
    let fields: Vec<_> = lists.chain(PATHS).chain(GENERATORS).chain(FORBIDDEN).chain(&["openapi"]).copied().collect();
    check(kustomization, &fields)?;
    let mut found = Vec::new();
    for (field, want) in LISTS {
        for entry in texts(kustomization.get(field)) {
            if !entry.contains('\n') {
                found.push(Reference { field: (*field).to_owned(), entry: entry.to_owned(), want: *want });
            } else if *want == Want::Plugin {
                found.extend(inline_plugin(entry)?);
            }
        }
    }
    for field in PATHS {
        paths(&mut found, field, kustomization)?;
    }
    for field in GENERATORS {
        for item in items(kustomization.get(field)) {
            generator(&mut found, field, item)?;
        }
    }
    add(&mut found, "openapi.path", kustomization.get("openapi").and_then(|openapi| openapi.get("path")));
    Ok(found)
}

/// The entries of a generator's or transformer's configuration: kustomize's built-in ones name files in these fields only.
pub(super) fn plugin_references(configuration: &Value) -> Result<Vec<Reference>, Unclear> {
    let fields: Vec<_> = SOURCES.iter().chain(PLUGIN).chain(&["replacements"]).copied().collect();
    check(configuration, &fields)?;
    let mut found = Vec::new();
    generator(&mut found, "generator", configuration)?;
    for field in PLUGIN {
        add(&mut found, field, configuration.get(field));
    }
    paths(&mut found, "replacements", configuration)?;
    // kustomize takes a list for its items.
    for item in items(configuration.get("items")) {
        found.extend(plugin_references(item)?);
    }
    Ok(found)
}

fn inline_plugin(text: &str) -> Result<Vec<Reference>, Unclear> {
    use crate::render::yaml::{Budget, Notation, read};
    check_breaks(text)?;
    // Not kustomize's to refuse: its reader is laxer, and takes a tag for nothing.
    let documents = read(text.as_bytes(), Notation::Yaml, &mut Budget::default()).map_err(Unclear::Inline)?;
    let found = documents.iter().map(|document| plugin_references(&document.value));
    Ok(found.collect::<Result<Vec<_>, _>>()?.concat())
}

fn paths(found: &mut Vec<Reference>, field: &str, holder: &Value) -> Result<(), Unclear> {
    for item in items(holder.get(field)) {
        check(item, &["path"])?;
        add(found, &format!("{field}.path"), item.get("path"));
    }
    Ok(())
}

fn generator(found: &mut Vec<Reference>, field: &str, item: &Value) -> Result<(), Unclear> {
    check(item, SOURCES)?;
    for entry in texts(item.get("files")) {
        // `key=path`, or a path alone.
        let entry = entry.split_once('=').map_or(entry, |(_, path)| path);
        found.push(Reference { field: format!("{field}.files"), entry: entry.to_owned(), want: Want::File });
    }
    for source in ["envs", "env"] {
        add(found, &format!("{field}.{source}"), item.get(source));
    }
    Ok(())
}

/// Adds a text, or all texts of a list.
fn add(found: &mut Vec<Reference>, field: &str, value: Option<&Value>) {
    for entry in texts(value) {
        found.push(Reference { field: field.to_owned(), entry: entry.to_owned(), want: Want::File });
    }
}

fn texts(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::String(text)) if !text.is_empty() => vec![text],
        other => items(other).iter().filter_map(Value::as_str).filter(|text| !text.is_empty()).collect(),
    }
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_field_that_names_files_is_followed() {
        let kustomization = json!({
            "resources": ["a", "b"], "bases": ["c"], "components": ["d"], "crds": ["e"], "configurations": ["f"],
            "patchesStrategicMerge": ["g", "kind: X\nmetadata: {}\n"],
            "patches": [{"path": "h"}, {"patch": "- op: x"}], "patchesJson6902": [{"path": "i"}],
            "replacements": [{"path": "j"}, {"source": {}}],
            "generators": ["k"], "transformers": ["l", "kind: PatchTransformer\npath: m\n", "kind: XList\nitems: [{kind: List, items: [{targetFilePath: u}]}]\n"], "validators": ["n"],
            "configMapGenerator": [{"files": ["o", "key=p"], "envs": ["q"], "env": "r", "literals": ["x=y"]}],
            "secretGenerator": [{"files": ["s"]}],
            "openapi": {"path": "t"},
        });
        let mut entries: Vec<_> =
            references(&kustomization).unwrap().into_iter().map(|reference| reference.entry).collect();
        entries.sort();
        let all: Vec<_> = ('a'..='u').map(String::from).collect();
        assert_eq!(entries, all);
    }

    #[test]
    fn every_field_that_names_files_has_one_spelling() {
        for (kustomization, key) in [
            (json!({"Resources": ["a"]}), "Resources"),
            (json!({"BASES": ["a"]}), "BASES"),
            (json!({"re\u{17f}ources": ["a"]}), "re\u{17f}ources"),
            (json!({"patchesstrategicmerge": ["a"]}), "patchesstrategicmerge"),
            (json!({"helmcharts": [{}]}), "helmcharts"),
            (json!({"OpenAPI": {"path": "a"}}), "OpenAPI"),
            (json!({"SecretGenerator": [{"literals": ["a=b"]}]}), "SecretGenerator"),
            (json!({"secretGenerator": [{"Literals": ["a=b"]}]}), "Literals"),
            (json!({"configMapGenerator": [{"Files": ["a"]}]}), "Files"),
            (json!({"configMapGenerator": [{"ENV": "a"}]}), "ENV"),
            (json!({"patchesJson6902": [{"Path": "a"}]}), "Path"),
            (json!({"replacements": [{"path": "a"}, {"Path": "a"}]}), "Path"),
            (json!({"validators": ["kind: V\nPaths: [a]\n"]}), "Paths"),
            (json!({"generators": ["kind: G\nfile\u{17f}: [a]\n"]}), "file\u{17f}"),
            (json!({"transformers": ["kind: T\nreplacements: [{Path: a}]\n"]}), "Path"),
            (json!({"transformers": ["kind: T\n&a <<: {path: a}\n"]}), "<<"),
        ] {
            let Err(Unclear::Misspelt { key: found, .. }) = references(&kustomization) else {
                panic!("{kustomization}")
            };
            assert_eq!(found, key, "{kustomization}");
        }
        let others = json!({"namePrefix": "a", "configMapGenerator": [{"name": "Files", "literals": ["Files=b"]}]});
        assert_eq!(references(&others), Ok(Vec::new()));
    }

    #[test]
    fn inline_configurations_are_read_by_all_alike() {
        let found = |text: &str| references(&json!({"transformers": [text]}));
        assert!(matches!(found("kind: T\npath: !x http://127.0.0.1/x\n"), Err(Unclear::Inline(_))));
        assert_eq!(found("kind: T\n# \u{2028}path: http://127.0.0.1/x\n"), Err(Unclear::LineBreak));
        assert_eq!(found("kind: T\n# \rpath: a\n").unwrap().len(), 1, "a line ends here in all versions");
    }

    #[test]
    fn fields_that_start_programs_are_found() {
        assert_eq!(forbidden(&json!({"helmCharts": []})), Some("helmCharts"));
        assert_eq!(forbidden(&json!({"resources": []})), None);
    }
}
