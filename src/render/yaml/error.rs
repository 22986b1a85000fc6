//! What is wrong with a YAML or JSON file, and where.

use std::fmt;

/// A place in a file; both from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl Position {
    /// The first character of a file.
    pub const START: Self = Self { line: 1, column: 1 };

    /// The place of a byte in a text.
    pub(super) fn of_byte(bytes: &[u8], offset: usize) -> Self {
        let before = bytes.get(..offset).unwrap_or(bytes);
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let lines = before.iter().filter(|byte| **byte == b'\n').count();
        let column = String::from_utf8_lossy(before.get(line_start..).unwrap_or_default()).chars().count();
        Self::new(lines + 1, column + 1)
    }

    /// The place after this text, which begins here.
    pub(super) fn after(self, text: &str) -> Self {
        let narrow = |number| u32::try_from(number).unwrap_or(u32::MAX);
        let lines = narrow(text.bytes().filter(|byte| *byte == b'\n').count());
        let last = text.rsplit('\n').next().unwrap_or_default();
        let start = if lines > 0 { Self::START.column } else { self.column };
        Self { line: self.line.saturating_add(lines), column: start.saturating_add(narrow(last.chars().count())) }
    }

    pub(super) fn new(line: usize, column: usize) -> Self {
        let narrow = |number| u32::try_from(number).unwrap_or(u32::MAX);
        Self { line: narrow(line), column: narrow(column) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why a file could not be read. It never quotes values: they may be secret. Keys are quoted, shortened.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{problem}")]
pub struct YamlError {
    /// Where.
    pub at: Position,
    /// What.
    pub problem: Problem,
}

/// What is wrong at a place of a file.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Problem {
    /// The bytes are no text.
    #[error("not UTF-8: the file must be saved as UTF-8 text")]
    NotUtf8,
    /// A NUL byte.
    #[error("a NUL byte: this is not a text file")]
    Nul,
    /// Not YAML.
    #[error("not valid YAML: {0}")]
    Syntax(String),
    /// Not JSON.
    #[error("not valid JSON: {0}")]
    Json(String),
    /// A key stands twice in one mapping.
    #[error("the key {0:?} stands twice in one mapping; one of the two would be lost")]
    DuplicateKey(String),
    /// A key that YAML does not take for text.
    #[error("the key {0:?} is not text in YAML but {1}; write it in quotes")]
    KeyNotText(String, &'static str),
    /// A key that is itself a list or a mapping.
    #[error("a list or a mapping is used as a key; keys are text")]
    KeyNotScalar,
    /// `<<` with something else than mappings.
    #[error("a merge key '<<' takes a mapping or a list of mappings")]
    BadMerge,
    /// An alias whose anchor holds it.
    #[error("an alias refers to the very value it stands in")]
    AliasCycle,
    /// A tag.
    #[error("the tag {0:?} is not known here; manifests are plain data")]
    Tag(String),
    /// A tag and a value that don't go together.
    #[error("the value is not of the type its tag {0:?} says")]
    NotOfTag(String),
    /// `.nan` or `.inf`.
    #[error("infinities and not-a-number have no form in JSON, which the API server speaks")]
    NotInJson,
    /// A document of plumb's own does not fit its type.
    #[error("{field}{message}", field = if .path.is_empty() { String::new() } else { format!("{}: ", .path) })]
    Type {
        /// The field, such as `spec.prune.budget`.
        path: String,
        /// What it should be.
        message: String,
    },
    /// A limit.
    #[error("{what} exceeds the limit of {limit}; {hint}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        limit: usize,
        /// What to do.
        hint: &'static str,
    },
}

impl Problem {
    pub(super) fn at(self, at: Position) -> YamlError {
        YamlError { at, problem: self }
    }
}

/// A key or tag for an error, shortened.
pub(super) fn short(text: &str) -> String {
    const LONGEST: usize = 80;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST).chain(std::iter::once('…')).collect()
}
