//! The words of an instruction, and the variables in them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;

/// Substitutions inside each other: each is a call more.
const DEPTH: usize = 100;
/// How long all that is substituted in one Dockerfile may become, in bytes: a few lines of `ARG b=$a$a$a$a` are a gigabyte.
pub(super) const LENGTH: usize = 64 << 10;
/// So much of a text is told.
const TOLD: usize = 60;

/// What only the builder knows.
const OF_BUILDER: &[&str] = &["TARGET", "BUILD"];
const PLATFORM: &[&str] = &["PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT"];

/// The words of a line. Quotes hold one together and stay.
pub(super) fn split(line: &str, escape: char) -> Vec<String> {
    places(line, escape).into_iter().filter_map(|place| line.get(place)).map(str::to_owned).collect()
}

/// Where the words of a line stand.
pub(super) fn places(line: &str, escape: char) -> Vec<Range<usize>> {
    let (mut places, mut begun, mut quote) = (Vec::new(), None, None);
    let mut rest = line.char_indices();
    while let Some((at, c)) = rest.next() {
        match (c, quote) {
            (c, None) if c.is_whitespace() => {
                places.extend(begun.take().map(|begun| begun..at));
                continue;
            }
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (c, quote) if c == escape && quote != Some('\'') => _ = rest.next(),
            _ => {}
        }
        begun = begun.or(Some(at));
    }
    places.extend(begun.map(|begun| begun..line.len()));
    places
}

/// A word without its quotes.
pub(super) fn unquoted(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '"' | '\'')).collect()
}

/// Why a word has no value here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// It depends on the platform, which the builder knows.
    Builder,
    /// It is written in a way that is not understood; why, in a sentence.
    Syntax(String),
}

/// What is not understood, by its beginning: it may be long.
fn not_understood(text: &str) -> Unknown {
    let (end, more) = text.char_indices().nth(TOLD).map_or((text.len(), ""), |(end, _)| (end, "…"));
    let text = format!("{}{more}", text.get(..end).unwrap_or(text));
    Unknown::Syntax(format!("{text:?} is a substitution that is not understood"))
}

/// The arguments that FROM lines may use.
pub(super) struct Variables<'a> {
    pub escape: char,
    /// Those that are given.
    pub args: &'a BTreeMap<String, String>,
    /// Those that are declared, with their values.
    pub known: BTreeMap<String, Result<String, ()>>,
    /// How many bytes may still be substituted.
    left: Cell<usize>,
}

impl<'a> Variables<'a> {
    /// None is declared yet.
    pub fn new(escape: char, args: &'a BTreeMap<String, String>) -> Self {
        Self { escape, args, known: BTreeMap::new(), left: Cell::new(LENGTH) }
    }

    /// `ARG name[=default] …` before the first FROM.
    pub fn declare(&mut self, words: &[String]) -> Result<(), String> {
        for word in words {
            let (name, default) = match word.split_once('=') {
                Some((name, default)) => (name, Some(default)),
                None => (&**word, None),
            };
            let value = match (self.args.get(name), default) {
                (Some(given), _) => Ok(given.clone()),
                (None, Some(default)) => match self.expand(default) {
                    Ok(value) => Ok(value),
                    Err(Unknown::Builder) => Err(()),
                    Err(Unknown::Syntax(problem)) => return Err(problem),
                },
                (None, None) if is_of_builder(name) => Err(()),
                (None, None) => Ok(String::new()),
            };
            self.known.insert(name.to_owned(), value);
        }
        Ok(())
    }

    fn value(&self, name: &str) -> Result<Option<&str>, Unknown> {
        match self.known.get(name) {
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(())) => Err(Unknown::Builder),
            None if is_of_builder(name) => Err(Unknown::Builder),
            None => Ok(None),
        }
    }

    /// A word with its variables replaced and its quotes removed.
    pub fn expand(&self, word: &str) -> Result<String, Unknown> {
        self.expanded(word, 0)
    }

    fn expanded(&self, word: &str, depth: usize) -> Result<String, Unknown> {
        if depth > DEPTH {
            return Err(Unknown::Syntax(format!("there are more than {DEPTH} substitutions inside each other")));
        }
        let (mut out, mut rest, mut single) = (String::new(), word, false);
        while let Some(c) = rest.chars().next() {
            let after = rest.get(c.len_utf8()..).unwrap_or_default();
            rest = after;
            match c {
                '\'' => single = !single,
                '"' if !single => {}
                c if c == self.escape && !single => {
                    let next = after.chars().next();
                    out.extend(next);
                    rest = after.get(next.map_or(0, char::len_utf8)..).unwrap_or_default();
                }
                '$' if !single => {
                    let (value, left) = self.variable(after, depth)?;
                    self.spend(value.len())?;
                    out.push_str(&value);
                    rest = left;
                }
                c => out.push(c),
            }
        }
        Ok(out)
    }

    /// Takes so many bytes from what is left.
    fn spend(&self, bytes: usize) -> Result<(), Unknown> {
        let too_long =
            || Unknown::Syntax(format!("its variables come to more than {} KiB, with those before", LENGTH >> 10));
        self.left.set(self.left.get().checked_sub(bytes).ok_or_else(too_long)?);
        Ok(())
    }

    /// The value of what follows a `$`, and what follows that.
    fn variable<'t>(&self, text: &'t str, depth: usize) -> Result<(String, &'t str), Unknown> {
        let syntax = || not_understood(&format!("${text}"));
        let name_of = |text: &'t str| {
            let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
            text.split_at(end)
        };
        let Some(inside) = text.strip_prefix('{') else {
            let (name, rest) = name_of(text);
            let value = if name.is_empty() { "$" } else { self.value(name)?.unwrap_or_default() };
            return Ok((value.to_owned(), rest));
        };
        let (inside, rest) = inside.split_at(closing(inside).ok_or_else(syntax)?);
        let rest = rest.strip_prefix('}').unwrap_or(rest);
        let (name, modifier) = name_of(inside);
        if name.is_empty() {
            return Err(syntax());
        }
        let (with_colon, modifier) = modifier.strip_prefix(':').map_or((false, modifier), |modifier| (true, modifier));
        let value = self.value(name)?;
        let is_set = value.is_some_and(|value| !with_colon || !value.is_empty());
        let value = match (modifier.chars().next(), modifier.get(1..).unwrap_or_default()) {
            (None, _) if !with_colon => value.unwrap_or_default().to_owned(),
            (Some('-'), word) if !is_set => self.expanded(word, depth + 1)?,
            (Some('-' | '?'), _) if is_set => value.unwrap_or_default().to_owned(),
            (Some('+'), word) if is_set => self.expanded(word, depth + 1)?,
            (Some('+'), _) => String::new(),
            _ => return Err(syntax()),
        };
        Ok((value, rest))
    }
}

/// Where the brace ends that was opened before.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn is_of_builder(name: &str) -> bool {
    OF_BUILDER.iter().any(|side| name.strip_prefix(side).is_some_and(|rest| PLATFORM.contains(&rest)))
}
