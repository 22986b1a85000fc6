//! The one strict YAML reader: manifests, charts' output, `environment.yaml` and `plumb.yaml` all pass through it.
//!
//! Strict: duplicate keys, keys that are not text, tags, NUL bytes, text that is not UTF-8 and whatever exceeds a [`Budget`] are errors with
//! line and column. Scalars mean what they mean to kubectl (YAML 1.1, see `scalar`). The parser below is an event parser, because only
//! events tell a quoted `"yes"` from a plain one and say where a key stands.

mod budget;
mod compose;
mod error;
mod json;
mod scalar;
#[cfg(test)]
mod tests;

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use budget::{Budget, FILE_BYTES};
pub use error::{Position, Problem, YamlError};

use compose::Composer;

/// What a type says of a document, in characters.
const LONGEST_MESSAGE: usize = 400;

/// One document of a file that is not empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The line its content begins at, from 1.
    pub line: u32,
    /// Its number in the file, from 1; empty documents count.
    pub index: u32,
    /// What it says.
    pub value: Value,
}

/// The notation of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notation {
    /// YAML documents, parted by `---`.
    Yaml,
    /// JSON values, one after the other.
    Json,
}

/// All documents of a file, in order.
pub fn read(bytes: &[u8], notation: Notation, budget: &mut Budget) -> Result<Vec<Document>, YamlError> {
    budget.file(bytes.len())?;
    let text = text(bytes)?;
    match notation {
        Notation::Json => json::documents(text, budget),
        Notation::Yaml => {
            let mut documents = Vec::new();
            let mut composer = Composer::new(text, budget, false);
            while let Some(document) = composer.next_document()? {
                documents.push(document);
            }
            Ok(documents)
        }
    }
}

/// The only document of one of plumb's own files, as its type; an error names the field and where it stands.
///
/// An empty file is read as an empty mapping, so that the type says what is missing.
pub fn read_typed<T: DeserializeOwned>(bytes: &[u8]) -> Result<Typed<T>, YamlError> {
    let mut budget = Budget::default();
    budget.file(bytes.len())?;
    let mut composer = Composer::new(text(bytes)?, &mut budget, true);
    let value = composer.next_document()?.map_or_else(|| Value::Object(serde_json::Map::new()), |found| found.value);
    let positions = composer.take_positions();
    if let Some(second) = composer.next_document()? {
        let message = "a second document; this file has one".to_owned();
        let at = Position::new(usize::try_from(second.line).unwrap_or(1), 1);
        return Err(Problem::Type { path: String::new(), message }.at(at));
    }
    match serde_path_to_error::deserialize(value) {
        Ok(value) => Ok(Typed { value, positions }),
        Err(error) => {
            let path = Some(error.path().to_string()).filter(|path| path != ".").unwrap_or_default();
            let at = position_of(&path, &positions);
            // Both quote keys, and a key may be megabytes.
            let (path, mut message) = (error::short(&path), error.into_inner().to_string());
            message = message.chars().take(LONGEST_MESSAGE).collect();
            if message.starts_with("invalid type: boolean") && message.ends_with("expected a string") {
                message.push_str("; YAML takes y, n, on, off, yes and no for booleans: write text in quotes");
            }
            Err(Problem::Type { path, message }.at(at))
        }
    }
}

/// One of plumb's own documents, and where its fields stand.
#[derive(Debug)]
pub struct Typed<T> {
    /// The document.
    pub value: T,
    positions: compose::Positions,
}

impl<T> Typed<T> {
    /// Where a field (`spec.values[0]`) stands, or the nearest that holds it.
    pub fn at(&self, path: &str) -> Position {
        position_of(path, &self.positions)
    }
}

/// The line of the value at a path (`spec.ports[1].name`) in one document of a file, or of the nearest value that holds it.
pub fn line_of(bytes: &[u8], document: u32, path: &str) -> Option<u32> {
    let mut budget = Budget::default();
    let mut composer = Composer::new(text(bytes).ok()?, &mut budget, true);
    loop {
        let found = composer.next_document().ok()??;
        let positions = composer.take_positions();
        if found.index == document {
            return Some(position_of(path, &positions).line);
        }
    }
}

fn position_of(path: &str, positions: &compose::Positions) -> Position {
    let mut path = path;
    loop {
        if let Some(at) = positions.get(path) {
            return *at;
        }
        if path.is_empty() {
            return Position::START;
        }
        path = path.rfind(['.', '[']).and_then(|end| path.get(..end)).unwrap_or("");
    }
}

/// The text of a file without its byte order mark.
fn text(bytes: &[u8]) -> Result<&str, YamlError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Problem::NotUtf8.at(Position::of_byte(bytes, error.valid_up_to())))?;
    if let Some(nul) = bytes.iter().position(|byte| *byte == 0) {
        return Err(Problem::Nul.at(Position::of_byte(bytes, nul)));
    }
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Writes a value as YAML, for people.
pub fn write<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, serde_yaml::Error> {
    serde_yaml::to_string(value)
}
