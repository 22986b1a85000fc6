//! Secret values: masked whenever they are shown, with one way out.

use std::fmt;

/// What stands in the place of a secret value.
pub const MASK: &str = "••••••";

/// Text whose `Debug` and `Display` are [`MASK`]. [`Masked::reveal`] is the only way to the value.
#[derive(Clone, PartialEq, Eq)]
pub struct Masked(String);

impl Masked {
    /// Takes the value in.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for a request's body or a credential. Never for anything a person or a log reads.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// A set of secret values to take out of text that came from elsewhere: a child's stderr, an API server's error.
///
/// A value counts as it is, and in base64: alone, as a Secret's `data` holds it, and as a part of a longer text. Values shorter than four characters are not looked for: they would
/// blot out ordinary words, and the objects they come from are masked by type.
#[derive(Clone, Default)]
pub struct Redactor {
    values: Vec<Masked>,
}

impl Redactor {
    const SHORTEST: usize = 4;

    /// A redactor for these values, longest first, so that a value inside another never leaves a rest.
    pub fn new(values: impl IntoIterator<Item = String>) -> Self {
        let mut values: Vec<String> = values.into_iter().filter(|value| value.len() >= Self::SHORTEST).collect();
        let encoded: Vec<String> = values.iter().flat_map(|value| encoded(value)).collect();
        values.extend(encoded);
        values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        values.dedup();
        Self { values: values.into_iter().map(Masked).collect() }
    }

    /// The text with every known value masked.
    pub fn redact(&self, text: &str) -> String {
        self.values.iter().fold(text.to_owned(), |text, value| {
            if text.contains(value.reveal()) { text.replace(value.reveal(), MASK) } else { text }
        })
    }
}

/// The forms of a value in base64: whole, and what is the same wherever it begins in a longer text. Base64 makes four characters of three bytes, so
/// that there are three beginnings, and the characters at both ends hold bits of the neighbours.
fn encoded(value: &str) -> Vec<String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    const LONG_ENOUGH: usize = 8;
    let mut forms = vec![STANDARD.encode(value)];
    if value.len() >= LONG_ENOUGH {
        for before in 0..3 {
            let text = STANDARD.encode([&[0; 3][..before], value.as_bytes()].concat());
            let own = (before * 8).div_ceil(6)..(before + value.len()) * 8 / 6;
            forms.extend(text.get(own).map(str::to_owned));
        }
    }
    forms
}

/// Words in the name of a field or variable that make its value secret.
const SECRET_NAMES: [&str; 12] = [
    "auth",
    "credential",
    "dsn",
    "pass",
    "private",
    "pwd",
    "secret",
    "token",
    "accesskey",
    "apikey",
    "encryptionkey",
    "signingkey",
];

/// Whether a field or variable of this name, or path of names, holds something that is not to be shown. For values that are told to people: more is
/// masked where whole files are.
pub fn sounds_secret(name: &str) -> bool {
    let name: String = name.to_lowercase().chars().filter(|letter| !matches!(letter, '-' | '_')).collect();
    SECRET_NAMES.iter().any(|word| name.contains(word))
}

/// Whether a text holds a secret by its form: a password in a URL, a key in PEM.
pub fn has_secret(text: &str) -> bool {
    let userinfo = |rest: &str| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
    };
    text.contains("-----BEGIN") || text.split("://").skip(1).any(userinfo)
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} values)", self.values.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows_a_masked_value() {
        let secret = Masked::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), format!("{MASK} {MASK}"));
    }

    #[test]
    fn secrets_are_known_by_name_and_by_form() {
        for name in ["DB_PASSWORD", "spec.env[name=OPENAI_API_KEY].value", "data.jwt-secret", "authToken"] {
            assert!(sounds_secret(name), "{name}");
        }
        assert!(
            !sounds_secret("spec.replicas")
                && !sounds_secret("data.BACKEND_URL")
                && !sounds_secret("configMapKeyRef.key")
        );
        assert!(has_secret("postgres://u:p@h/d") && has_secret("x -----BEGIN RSA PRIVATE KEY-----"));
        assert!(!has_secret("http://todo-backend:8000/a@b:c") && !has_secret("nginx@sha256:0"));
    }

    #[test]
    fn values_inside_each_other_leave_no_rest() {
        let redactor = Redactor::new(["pass".to_owned(), "password1".to_owned(), "a".to_owned()]);
        assert_eq!(redactor.redact("a password1 and a pass"), format!("a {MASK} and a {MASK}"));
    }

    #[test]
    fn a_value_is_found_in_base64_wherever_it_stands() {
        use base64::Engine as _;
        let redactor = Redactor::new(["correct horse battery".to_owned()]);
        for (before, after) in [("", ""), ("a", ""), ("ab", "c"), ("user:", ":x"), ("abcd", "\0")] {
            let text =
                base64::engine::general_purpose::STANDARD.encode(format!("{before}correct horse battery{after}"));
            let redacted = redactor.redact(&text);
            assert!(redacted.contains(MASK) && redacted.chars().count() < MASK.chars().count() + 14, "{redacted}");
        }
    }
}
