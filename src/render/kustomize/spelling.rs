//! What kustomize may read otherwise than plumb. It decodes with Go's JSON, which overlooks the case of a field's name and takes `ſ` for an
//! `s` and the Kelvin sign for a `k`. Whoever looks for `resources` alone would not see what `Resources` fetches.

use serde_json::Value;

use crate::render::yaml::YamlError;

/// Why it is not clear what kustomize would read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unclear {
    /// A key that may be another one.
    Misspelt {
        /// As it is written.
        key: String,
        /// The field that is meant, if there is one.
        meant: Option<&'static str>,
    },
    /// Text in a kustomization that should be YAML itself.
    Inline(YamlError),
    /// A character that ends a line in YAML 1.1, and a comment with it, and does not in 1.2.
    LineBreak,
}

/// Refuses text whose lines are not the same to all readers of YAML.
pub(super) fn check_breaks(text: &str) -> Result<(), Unclear> {
    if text.contains(['\u{85}', '\u{2028}', '\u{2029}']) { Err(Unclear::LineBreak) } else { Ok(()) }
}

/// Refuses keys of a mapping that are one of these fields in other letters, that are not ASCII, or that some readers of YAML take for a
/// merge: a plain `<<` is none of the mapping's keys any more.
pub(super) fn check(mapping: &Value, fields: &[&'static str]) -> Result<(), Unclear> {
    let keys = mapping.as_object().into_iter().flat_map(|mapping| mapping.keys());
    for key in keys.filter(|key| !fields.contains(&&***key)) {
        let plain = key.replace('\u{17f}', "s").replace('\u{212a}', "k");
        let meant = fields.iter().find(|field| field.eq_ignore_ascii_case(&plain)).copied();
        if meant.is_some() || !key.is_ascii() || key == "<<" {
            return Err(Unclear::Misspelt { key: key.clone(), meant });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_has_one_spelling() {
        let fields = ["files", "tokens"];
        for (key, meant) in [
            ("Files", Some("files")),
            ("FILES", Some("files")),
            ("file\u{17f}", Some("files")),
            ("to\u{212a}ens", Some("tokens")),
            ("größe", None),
            ("<<", None),
        ] {
            let found = check(&json!({"files": [], key: []}), &fields);
            assert_eq!(found, Err(Unclear::Misspelt { key: key.to_owned(), meant }), "{key}");
        }
        for fine in [json!({"files": [], "other": {"Files": 1}}), json!([{"Files": 1}]), json!(null)] {
            assert_eq!(check(&fine, &fields), Ok(()), "{fine}");
        }
    }
}
