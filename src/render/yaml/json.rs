//! Strict JSON: what serde_json reads, less duplicate keys.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::budget::{Budget, MAPPING};
use super::error::{Position, Problem, YamlError, short};
use super::{Document, scalar};

/// The JSON values of one text, one after the other, as kubectl takes a stream of them.
pub(super) fn documents(text: &str, budget: &mut Budget) -> Result<Vec<Document>, YamlError> {
    budget.value(weight(text)).map_err(|problem| problem.at(Position::START))?;
    let mut documents = Vec::new();
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Strict>();
    // Where the last value ended: no text is counted twice.
    let (mut offset, mut place) = (0, Position::START);
    while let Some(next) = stream.next() {
        let Strict(value) = next.map_err(|error| problem(&error))?;
        let read = text.get(offset..stream.byte_offset()).unwrap_or_default();
        let (before, own) = read.split_at(read.len() - read.trim_start().len());
        let start = place.after(before);
        budget.document().map_err(|problem| problem.at(start))?;
        (offset, place) = (stream.byte_offset(), start.after(own));
        let index = u32::try_from(documents.len() + 1).unwrap_or(u32::MAX);
        if !value.is_null() {
            documents.push(Document { line: start.line, index, value });
        }
    }
    Ok(documents)
}

/// At least what the values of this text weigh, told from its commas and braces before memory is taken for any.
fn weight(text: &str) -> usize {
    let (mut weight, mut in_text, mut escaped) = (1, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' if !in_text => weight += MAPPING,
            b',' if !in_text => weight += 1,
            _ => {}
        }
    }
    weight
}

fn problem(error: &serde_json::Error) -> YamlError {
    let text = error.to_string();
    // serde_json appends the place, which is told apart from the message here.
    let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    let at = Position::new(error.line().max(1), error.column().max(1));
    match message.strip_prefix(DUPLICATE) {
        Some(key) => Problem::DuplicateKey(key.to_owned()).at(at),
        None => Problem::Json(message.to_owned()).at(at),
    }
}

const DUPLICATE: &str = "duplicate key: ";

/// A JSON value without duplicate keys.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        scalar::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("{DUPLICATE}{}", short(&key))));
            }
            let Strict(value) = entries.next_value()?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
