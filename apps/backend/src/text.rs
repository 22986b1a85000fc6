//! What people type: trimmed, bounded, and without what PostgreSQL can't store.

use crate::error::ApiError;

/// A text of at most `most` characters that is not empty.
pub fn required(name: &str, value: &str, most: usize) -> Result<String, ApiError> {
    let value = optional(name, value, most)?;
    if value.is_empty() {
        return Err(ApiError::Invalid(format!("The {name} must not be empty.")));
    }
    Ok(value)
}

/// A text of at most `most` characters.
pub fn optional(name: &str, value: &str, most: usize) -> Result<String, ApiError> {
    let value = value.trim();
    if value.contains('\0') {
        return Err(ApiError::Invalid(format!("The {name} must not contain a NUL character.")));
    }
    if value.chars().count() > most {
        return Err(ApiError::Invalid(format!("The {name} must not have more than {most} characters.")));
    }
    Ok(value.to_owned())
}

/// An e-mail address as accounts are found by: one `@` with something on both sides, in lower case. Whether it exists,
/// only a message to it could tell.
pub fn email(value: &str) -> Result<String, ApiError> {
    let value = required("e-mail address", value, 254)?.to_lowercase();
    let plain = !value.contains(|character: char| character.is_whitespace() || character.is_control());
    match value.split_once('@') {
        Some((local, domain)) if plain && !local.is_empty() && !domain.is_empty() && !domain.contains('@') => Ok(value),
        _ => Err(ApiError::Invalid("This is not an e-mail address.".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_trimmed_and_bounded_in_characters() {
        assert_eq!(required("title", "  milk ", 4).unwrap(), "milk");
        assert_eq!(required("title", "müüü", 4).unwrap(), "müüü");
        for bad in ["", " \n", "milks", "a\0b"] {
            assert!(required("title", bad, 4).is_err(), "{bad:?}");
        }
        assert_eq!(optional("description", " ", 4).unwrap(), "");
    }

    #[test]
    fn an_address_has_one_at_sign_and_no_space() {
        assert_eq!(email(" Ada@Example.org ").unwrap(), "ada@example.org");
        for bad in ["", "ada", "@b", "a@", "a@b@c", "a b@c", "a@b\u{7f}", "a@b\0"] {
            assert!(email(bad).is_err(), "{bad:?}");
        }
    }
}
