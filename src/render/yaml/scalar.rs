//! What a plain scalar means: the resolution of YAML 1.1 as kubectl and Helm have it.
//!
//! Both read YAML through sigs.k8s.io/yaml, which is go-yaml v2: `yes`, `no`, `on`, `off`, `y` and `n` are booleans, `0777` is octal
//! (511), `1_000` is a number, a date stays text. A manifest must mean the same here, so the table is go-yaml's (`resolve.go`), not
//! that of YAML 1.2.

use serde_json::{Number, Value};

/// A plain scalar that YAML has and JSON has not: an infinity or not-a-number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotInJson;

/// The value of a scalar without quotes and without tag.
pub(super) fn plain(text: &str) -> Result<Value, NotInJson> {
    let Some(first) = text.bytes().next() else { return Ok(Value::Null) };
    let value = match first {
        b'y' | b'Y' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'o' | b'O' | b'~' => word(text),
        b'.' if is_not_finite(text) => return Err(NotInJson),
        b'.' => float(text),
        b'+' | b'-' if is_not_finite(text.get(1..).unwrap_or_default()) => return Err(NotInJson),
        b'0'..=b'9' | b'+' | b'-' => number(text),
        _ => None,
    };
    Ok(value.unwrap_or_else(|| Value::String(text.to_owned())))
}

fn word(text: &str) -> Option<Value> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(Value::Bool(true)),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Some(Value::Bool(false))
        }
        "~" | "null" | "Null" | "NULL" => Some(Value::Null),
        _ => None,
    }
}

fn is_not_finite(text: &str) -> bool {
    matches!(text, ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF")
}

fn number(text: &str) -> Option<Value> {
    if text.contains('_') {
        let text = text.replace('_', "");
        return integer(&text).or_else(|| float(&text));
    }
    integer(text).or_else(|| float(text))
}

/// An integer in the notation of Go's `strconv.ParseInt` with base 0.
fn integer(text: &str) -> Option<Value> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (Some('-'), &text[1..]),
        b'+' => (Some('+'), &text[1..]),
        _ => (None, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // `from_str_radix` would take a second sign.
    if !digits.starts_with(|first: char| first.is_digit(radix)) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    match sign {
        None => Some(magnitude.into()),
        Some('-') => 0i64.checked_sub_unsigned(magnitude).map(Value::from),
        Some(_) => i64::try_from(magnitude).ok().map(Value::from),
    }
}

/// A float: `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`. One out of range stays text, as in go-yaml.
fn float(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mantissa_is_one =
        digits(whole) && digits(fraction) && !(whole.is_empty() && (fraction.is_empty() || !mantissa.contains('.')));
    if !mantissa_is_one || !exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent)) {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    from_f64(value).map(Value::Number)
}

/// A float as Go's JSON writes it: a whole number is written without a fraction, so that `1e3` fits an integer field.
pub(super) fn from_f64(value: f64) -> Option<Number> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53: below it every whole f64 is an i64 without loss
    if value.fract() == 0.0 && value.abs() <= EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole, and within ±2^53")]
        return Some(Number::from(value as i64));
    }
    Number::from_f64(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_mean_what_kubectl_takes_them_for() {
        for (text, value) in [
            ("", json!(null)),
            ("~", json!(null)),
            ("NULL", json!(null)),
            ("nULL", json!("nULL")),
            ("yes", json!(true)),
            ("on", json!(true)),
            ("y", json!(true)),
            ("Off", json!(false)),
            ("n", json!(false)),
            ("tRue", json!("tRue")),
            ("0777", json!(511)),
            ("0o17", json!(15)),
            ("0x1F", json!(31)),
            ("-0x10", json!(-16)),
            ("0b101", json!(5)),
            ("08", json!(8)),
            ("09.5", json!(9.5)),
            ("1_000", json!(1000)),
            ("+12", json!(12)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("18446744073709551615", json!(u64::MAX)),
            ("1e3", json!(1000)),
            ("1.50", json!(1.5)),
            (".5", json!(0.5)),
            ("5.", json!(5)),
            ("-0.0", json!(0)),
            ("1e999", json!("1e999")),
            ("1e", json!("1e")),
            (".", json!(".")),
            ("-", json!("-")),
            ("--1", json!("--1")),
            ("0x", json!("0x")),
            ("0x+1", json!("0x+1")),
            ("1.2.3", json!("1.2.3")),
            ("1:30", json!("1:30")),
            ("2026-01-31", json!("2026-01-31")),
            ("100m", json!("100m")),
            ("é", json!("é")),
        ] {
            assert_eq!(plain(text), Ok(value), "{text:?}");
        }
        for text in [".nan", ".inf", "-.inf", "+.Inf"] {
            assert_eq!(plain(text), Err(NotInJson), "{text:?}");
        }
    }
}
