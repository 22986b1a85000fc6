//! Text that nobody has vouched for, such as a container's log: what looks like a credential is masked.
//!
//! Values that are known are taken out by a [`super::secret::Redactor`]; this is for those that are not. It rather masks a harmless word than lets a password through.

use super::secret::MASK;

/// Names whose value is not for everybody's eyes, wherever they stand in a longer name.
const NAMES: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "private_key",
    "credential",
    "authorization",
];

/// The text with what looks like a credential masked: the user's part of a URL, the value after a telling name, keys and tokens by their form.
pub fn scrub(text: &str) -> String {
    keys(&named(&urls(text)))
}

/// The same without regard to names: the user's part of a URL, keys and tokens by their form.
pub(super) fn unnamed(text: &str) -> String {
    keys(&urls(text))
}

fn keys(text: &str) -> String {
    let words = text.split_inclusive(char::is_whitespace).map(|word| {
        let bare = word.trim_end();
        let core = bare.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        if is_key(core) { word.replacen(core, MASK, 1) } else { word.to_owned() }
    });
    words.collect()
}

/// `scheme://user:password@host` without what stands before the `@`.
fn urls(text: &str) -> String {
    let mut parts = text.split("://");
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        clean.push_str("://");
        let end = part.find(|c: char| c.is_whitespace() || "/?#\"'<>".contains(c)).unwrap_or(part.len());
        let (authority, rest) = part.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => clean.extend([MASK, "@", host]),
            None => clean.push_str(authority),
        }
        clean.push_str(rest);
    }
    clean
}

/// `password=x`, `"token": "x"`, `Authorization: Bearer x` without x.
fn named(text: &str) -> String {
    let lower = text.to_ascii_lowercase(); // The same length, byte by byte.
    let (mut clean, mut at) = (String::with_capacity(text.len()), 0);
    while let Some(value) = next_value(&lower, at) {
        clean.push_str(text.get(at..value.start).unwrap_or_default());
        clean.push_str(MASK);
        at = value.end;
    }
    clean.push_str(text.get(at..).unwrap_or_default());
    clean
}

/// Where the value of the next telling name stands.
fn next_value(lower: &str, from: usize) -> Option<std::ops::Range<usize>> {
    let mut at = from;
    loop {
        let rest = lower.get(at..)?;
        let (begin, name) = NAMES.iter().filter_map(|name| Some((rest.find(name)?, name))).min()?;
        at += begin + name.len();
        let after = lower.get(at..)?;
        let after = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "_-".contains(c));
        let after = after.trim_start_matches(['"', '\'', ' ', '\\']);
        let Some(after) = after.strip_prefix([':', '=']) else { continue };
        let after = after.trim_start_matches(['"', '\'', ' ', '\\', '=']);
        let scheme = ["bearer ", "basic "].iter().find(|scheme| after.starts_with(**scheme));
        let value = scheme.map_or(after, |scheme| after.get(scheme.len()..).unwrap_or_default());
        let length = value.find(|c: char| c.is_whitespace() || "\"',;&}".contains(c)).unwrap_or(value.len());
        if length > 0 {
            let start = lower.len() - value.len();
            return Some(start..start + length);
        }
    }
}

/// A JSON web token, or a long word of capitals, small letters and digits: a digest has no capitals, a name no digits.
fn is_key(word: &str) -> bool {
    let of_key = |c: char| c.is_ascii_alphanumeric() || "+/=_-.".contains(c);
    let has = |is: fn(&char) -> bool| word.chars().any(|c| is(&c));
    let mixed = has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase) && has(char::is_ascii_digit);
    word.chars().all(of_key) && mixed && (word.len() >= 32 || word.starts_with("eyJ") && word.len() >= 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_looks_like_a_credential_is_masked() {
        for (text, clean) in [
            ("dial postgres://app:hunter2@db:5432/todo failed", "dial postgres://••••••@db:5432/todo failed"),
            ("GET https://example.org/a@b 500", "GET https://example.org/a@b 500"),
            ("DB_PASSWORD=hunter2 DB_HOST=db", "DB_PASSWORD=•••••• DB_HOST=db"),
            (
                r#"{"level":"error","dbPassword":"hunter2","host":"db"}"#,
                r#"{"level":"error","dbPassword":"••••••","host":"db"}"#,
            ),
            ("Authorization: Bearer abc.def", "Authorization: Bearer ••••••"),
            ("?access_token=abc&x=1", "?access_token=••••••&x=1"),
            ("no token was given", "no token was given"),
            ("Password:", "Password:"),
            ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", "got ••••••"),
            ("key (wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY)", "key (••••••)"),
            (
                "image sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "image sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            ),
            ("panic: index out of range [3] with length 3", "panic: index out of range [3] with length 3"),
            ("Ünïcode pässword=ß token=ß", "Ünïcode pässword=ß token=••••••"),
        ] {
            assert_eq!(scrub(text), clean);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_and_a_named_value_never_survives(before in ".*", value in "[a-z0-9]{6,20}", after in ".*") {
            scrub(&before);
            let line = format!("{before} password={value} {after}");
            prop_assume!(!before.contains(&value) && !after.contains(&value));
            prop_assert!(!scrub(&line).contains(&value), "{}", scrub(&line));
        }
    }
}
