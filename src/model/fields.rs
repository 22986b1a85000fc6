//! Field types of plumb's own documents that carry their own rule: a prune budget, a duration.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How many deletions one commit may make unasked: a number of objects or a percentage of those the environment has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// A number of objects.
    Objects(u32),
    /// A percentage, 0 to 100.
    Percent(u8),
}

impl Default for Budget {
    fn default() -> Self {
        Self::Percent(50)
    }
}

impl Budget {
    /// The most objects that may be deleted unasked when the environment has `total`. Percentages round down.
    pub fn of(self, total: usize) -> usize {
        match self {
            Self::Objects(count) => usize::try_from(count).unwrap_or(usize::MAX),
            Self::Percent(percent) => total.saturating_mul(usize::from(percent)) / 100,
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Objects(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Serialize for Budget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Objects(count) => serializer.serialize_u32(*count),
            Self::Percent(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Budget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Budget;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of objects or a percentage such as 50%")
            }
            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Budget, E> {
                u32::try_from(count).map(Budget::Objects).map_err(|_| E::custom("a prune budget is at most 4294967295"))
            }
            fn visit_i64<E: de::Error>(self, count: i64) -> Result<Budget, E> {
                u64::try_from(count)
                    .map_err(|_| E::custom("a prune budget is not negative"))
                    .and_then(|c| self.visit_u64(c))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Budget, E> {
                let percent = text.strip_suffix('%').and_then(|digits| digits.parse().ok()).filter(|p| *p <= 100);
                percent.map(Budget::Percent).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Budget {
    fn schema_name() -> Cow<'static, str> {
        "Budget".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": "^(100|[0-9]{1,2})%$",
            "minimum": 0
        })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// Whoever means never has another word for it; and a moment this far ahead can be reckoned with.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A duration in the words of `humantime`: `90s`, `5m`, `1h 30m`; from a second to a year.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HumanDuration(Duration);

impl HumanDuration {
    /// This duration.
    pub const fn new(duration: Duration) -> Self {
        Self(duration)
    }

    /// Five minutes.
    pub const fn five_minutes() -> Self {
        Self(Duration::from_secs(300))
    }

    /// Ten minutes.
    pub const fn ten_minutes() -> Self {
        Self(Duration::from_secs(600))
    }

    /// The duration.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&humantime::format_duration(self.0), f)
    }
}

impl fmt::Debug for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let duration = humantime::parse_duration(&text).map_err(|error| {
            de::Error::custom(format!("{text:?} is not a duration such as 90s, 5m or 1h 30m: {error}"))
        })?;
        if duration < Duration::from_secs(1) {
            return Err(de::Error::custom(format!("{text:?} is shorter than one second")));
        }
        if duration > LONGEST {
            return Err(de::Error::custom(format!("{text:?} is longer than a year")));
        }
        Ok(Self(duration))
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> Cow<'static, str> {
        "HumanDuration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 2,
            "maxLength": 64,
            "pattern": "^([0-9]+ *(s|sec|secs|seconds?|m|min|mins|minutes?|h|hr|hrs|hours?|d|days?|ms|msec) *)+$"
        })
    }

    fn inline_schema() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_read_as_written() {
        let read = |text: &str| serde_json::from_str::<Budget>(text);
        assert_eq!(read("7").unwrap().of(1000), 7);
        assert_eq!(read("\"50%\"").unwrap().of(9), 4);
        assert_eq!(read("\"0%\"").unwrap().of(9), 0);
        for bad in ["-1", "\"101%\"", "\"50\"", "\"%\"", "true", "1.5"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_read_and_written_in_words() {
        let read = |text: &str| serde_json::from_str::<HumanDuration>(text);
        assert_eq!(serde_json::to_string(&read("\"1h 30m\"").unwrap()).unwrap(), "\"1h 30m\"");
        assert!(read("\"365d\"").is_ok());
        for bad in ["\"\"", "\"5\"", "5", "\"0s\"", "\"-5m\"", "\"soon\"", "\"366d\"", "\"18446744073709551615s\""] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
