//! What of the values files must not be shown, should Helm complain.

use serde_json::Value;

use crate::model::secret::{Redactor, sounds_secret};

/// Words in a key that make everything below it secret, beside those that do so anywhere. Too many rather than too few: only error texts are masked.
const MORE: [&str; 7] = ["cert", "conn", "database", "key", "salt", "url", "webhook"];

/// A redactor for the texts under keys that sound secret.
pub(super) fn redactor<'v>(values: impl IntoIterator<Item = &'v Value>) -> Redactor {
    let mut found = Vec::new();
    for value in values {
        collect(value, false, &mut found);
    }
    Redactor::new(found)
}

fn collect(value: &Value, secret: bool, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                collect(value, secret || may_be_secret(key), found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, secret, found)),
        Value::String(text) if secret => {
            // Messages quote single lines of long texts.
            found.extend(text.lines().filter(|line| line.len() >= 8).map(str::to_owned));
            found.push(text.clone());
        }
        Value::Number(number) if secret => found.push(number.to_string()),
        _ => {}
    }
}

fn may_be_secret(key: &str) -> bool {
    let lower = key.to_lowercase();
    sounds_secret(key) || MORE.iter().any(|word| lower.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_under_secret_keys_are_masked() {
        let values = json!({
            "image": {"tag": "v1.2.3"},
            "existing": {"databaseUrl": "postgres://u:p@h/d"},
            "secrets": {"list": ["hunter22", {"x": "line-one-of-it\nline-two-of-it"}]},
            "jwt-SECRET": 12_345_678,
        });
        let shown = redactor([&values]).redact("v1.2.3 postgres://u:p@h/d hunter22 line-two-of-it 12345678");
        assert_eq!(shown, "v1.2.3 •••••• •••••• •••••• ••••••");
    }
}
