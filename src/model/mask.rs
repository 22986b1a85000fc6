//! What of an object's values people may see: the rest is masked, however deep it stands.
//!
//! An object that is no Secret may hold secrets all the same: an environment variable, an argument, a URL, a file in a ConfigMap. They are known by the name that
//! they are given to ([`sounds_secret`]) or by their form. It rather masks a harmless word than lets a password through.

use serde_json::{Map, Value};

use super::scrub;
use super::secret::{MASK, has_secret, sounds_secret};

/// Fields of a list's element that name it.
const NAMES: [&str; 2] = ["name", "key"];

/// A value without what is not to be shown.
pub fn masked(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(masked_text(text)),
        Value::Array(items) => Value::Array(
            items
                .iter()
                .enumerate()
                .map(|(at, item)| if is_for_flag(items, at) { mask() } else { masked(item) })
                .collect(),
        ),
        Value::Object(fields) => {
            let secret = is_named_secret(fields);
            let shown = |(name, value): (&String, &Value)| match () {
                () if sounds_secret(name) || secret && !NAMES.contains(&&**name) => (name.clone(), mask()),
                () => (name.clone(), masked(value)),
            };
            Value::Object(fields.iter().map(shown).collect())
        }
        plain => plain.clone(),
    }
}

/// A text without what is not to be shown. From what a name that sounds secret is given on, nothing is.
pub fn masked_text(text: &str) -> String {
    if has_secret(text) {
        return MASK.to_owned();
    }
    if let Some(value) = as_json(text) {
        return masked(&value).to_string();
    }
    let shown = match given(text).and_then(|start| text.get(..start)) {
        Some(before) => format!("{before}{MASK}"),
        None => text.to_owned(),
    };
    scrub::unnamed(&shown)
}

/// The secrets in a value that texts about it may quote. Fewer than are masked where it is shown: names of Secrets, which say what to mend, are none.
pub fn secrets_in(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(value, &mut found);
    found
}

fn mask() -> Value {
    Value::String(MASK.to_owned())
}

/// Whether the name of a list's element sounds secret: all else of it may be.
fn is_named_secret(fields: &Map<String, Value>) -> bool {
    NAMES.iter().filter_map(|name| fields.get(*name)?.as_str()).any(sounds_secret)
}

/// Whether an argument is the value of the one before, as in `[--password, x]`.
fn is_for_flag(items: &[Value], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|before| items.get(before)?.as_str());
    before.is_some_and(|flag| flag.starts_with('-') && !flag.contains(['=', ' ']) && sounds_secret(flag))
}

fn as_json(text: &str) -> Option<Value> {
    text.trim_start().starts_with(['{', '[']).then(|| serde_json::from_str(text).ok()).flatten()
}

/// Where in a text stands what a name that sounds secret is given: `--password=x`, `--token x`, `PASSWORD=x`, `apiKey: x`, and `value: x` somewhere after such a name.
fn given(text: &str) -> Option<usize> {
    let (mut at, mut secret) = (0, false);
    loop {
        let rest = text.get(at..)?;
        let start = at + rest.find(is_of_word)?;
        let word = text.get(start..)?;
        let word = word.get(..word.find(|c| !is_of_word(c)).unwrap_or(word.len()))?;
        at = start + word.len();
        secret |= sounds_secret(word);
        let tells = sounds_secret(word) || secret && word.trim_start_matches('-').eq_ignore_ascii_case("value");
        if let Some(value) = tells.then(|| value_after(text, start, at)).flatten() {
            return Some(value);
        }
    }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Where the value begins that the word at this place is given, if it is given one.
fn value_after(text: &str, start: usize, end: usize) -> Option<usize> {
    const AROUND: [char; 7] = ['"', '\'', '\\', ' ', '\t', '\r', '\n'];
    let (word, rest) = (text.get(start..end)?, text.get(end..)?);
    let after = rest.trim_start_matches(['"', '\'', '\\', ' ', '\t']);
    let value = match after.strip_prefix(':') {
        // The tag of an image and the port of a host are no secrets.
        Some(value) if after.len() == rest.len() && !value.starts_with(AROUND) && text.get(..start)?.ends_with('/') => {
            return None;
        }
        Some(value) => value,
        None => match after.strip_prefix('=') {
            Some(value) => value,
            None if word.starts_with('-') => rest.strip_prefix(AROUND)?,
            None => return None,
        },
    };
    let value = value.trim_start_matches(AROUND).trim_start_matches(['=', '>', '|', ',']).trim_start_matches(AROUND);
    (!value.is_empty()).then(|| text.len() - value.len())
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => collect_of_text(text, found),
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                if is_for_flag(items, at) { take(item, found) } else { collect(item, found) }
            }
        }
        Value::Object(fields) => {
            let secret = is_named_secret(fields);
            for (name, value) in fields {
                match () {
                    () if secret && name == "value" || sounds_secret(name) && !is_reference(name) => take(value, found),
                    () => collect(value, found),
                }
            }
        }
        _ => {}
    }
}

/// Whether a field names a Secret, or a place in one.
fn is_reference(name: &str) -> bool {
    let name = name.to_lowercase();
    ["name", "ref", "path", "secrets"].iter().any(|end| name.ends_with(end))
}

fn take(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => take_text(text, found),
        Value::Number(number) => found.push(number.to_string()),
        compound => collect(compound, found),
    }
}

fn take_text(text: &str, found: &mut Vec<String>) {
    // Messages quote a value as Go does, or show one line of it.
    found.push(Value::from(text).to_string().trim_matches('"').to_owned());
    found.extend(text.lines().map(str::to_owned));
    found.push(text.to_owned());
}

fn collect_of_text(text: &str, found: &mut Vec<String>) {
    match as_json(text) {
        _ if has_secret(text) => take_text(text, found),
        Some(value) => collect(&value, found),
        None => {
            let Some(value) = given(text).and_then(|start| text.get(start..)) else { return };
            take_text(value, found);
            found.extend(value.split(|c: char| c.is_whitespace() || c == '"').next().map(str::to_owned));
        }
    }
}

#[cfg(test)]
mod tests;
