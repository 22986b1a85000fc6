//! Keys that kustomize takes for others. It decodes with Go's JSON, which overlooks the case of a field's name and takes `ſ` for an `s` and
//! the Kelvin sign for a `k`. Whoever looks for `resources` alone would not see what `Resources` fetches.

use serde_json::Value;

/// A key that may be another one to kustomize.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misspelt {
    /// As it is written.
    pub key: String,
    /// The field that is meant, if there is one.
    pub meant: Option<&'static str>,
}

/// Refuses keys of a mapping that are one of these fields in other letters, that are not ASCII, or that some readers of YAML take for a
/// merge: a plain `<<` is none of the mapping's keys any more.
pub(super) fn check(mapping: &Value, fields: &[&'static str]) -> Result<(), Misspelt> {
    let keys = mapping.as_object().into_iter().flat_map(|mapping| mapping.keys());
    for key in keys.filter(|key| !fields.contains(&&***key)) {
        let plain = key.replace('\u{17f}', "s").replace('\u{212a}', "k");
        let meant = fields.iter().find(|field| field.eq_ignore_ascii_case(&plain)).copied();
        if meant.is_some() || !key.is_ascii() || key == "<<" {
            return Err(Misspelt { key: key.clone(), meant });
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
            assert_eq!(found, Err(Misspelt { key: key.to_owned(), meant }), "{key}");
        }
        for fine in [json!({"files": [], "other": {"Files": 1}}), json!([{"Files": 1}]), json!(null)] {
            assert_eq!(check(&fine, &fields), Ok(()), "{fine}");
        }
    }
}
