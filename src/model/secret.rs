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
/// A value counts as it is, and in base64 as a Secret's `data` holds it. Values shorter than four characters are not looked for: they would
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
    fn values_inside_each_other_leave_no_rest() {
        let redactor = Redactor::new(["pass".to_owned(), "password1".to_owned(), "a".to_owned()]);
        assert_eq!(redactor.redact("a password1 and a pass"), format!("a {MASK} and a {MASK}"));
    }
}
