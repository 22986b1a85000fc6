//! `.dockerignore`: which files of a context an image is built from.
//!
//! The rules are those of BuildKit's own walk over a context (`fsutil`, over moby's `patternmatcher` and its
//! `MatchesUsingParentResults`), its odd corners included: the last pattern that matches decides, `!` takes back, a pattern that matches
//! a directory matches all beneath it, and an exception counts for what is beneath the directory it matches only if it was looked at there. A
//! random test compares the two. `.gitignore` has other rules.
//!
//! What has no defined meaning there is refused here: a class with `*`, `?` or `[` in it, a backslash before a letter or digit, and a
//! malformed class that moby refuses only once it comes to look at it; a repetition such as `{2}`, which it makes by accident.

use regex::{Regex, RegexBuilder};

/// The largest ignore file, in bytes (moby's reader gives up on a line of that), and the most patterns: each file of the context is compared with all of them, and each may be a compiled expression.
const FILE: usize = 64 * 1024;
const PATTERNS: usize = 10_000;
const EXPRESSIONS: usize = 1000;
/// What one expression may remember while it is compared, in bytes. Beyond that it is slower, not wrong.
const EXPRESSION: usize = 64 * 1024;

/// The patterns of an ignore file.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

/// Why an ignore file can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// The file is no text.
    #[error("it is not UTF-8")]
    NotText,
    /// The file is absurdly large.
    #[error("it is larger than 64 KiB")]
    TooLarge,
    /// It has more patterns than a walk over a context should have to compare with.
    #[error("line {0}: it has more than 10000 patterns, or 1000 with wildcards; leave out directories as a whole")]
    TooMany(usize),
    /// A pattern is none.
    #[error("line {line}: {pattern:?} is not a pattern: {reason}")]
    Pattern {
        /// The line, from 1.
        line: usize,
        /// What stands there.
        pattern: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Which patterns matched a directory: what is beneath it inherits them.
#[derive(Debug, Clone)]
pub struct Matched(Vec<bool>);

/// What becomes of one entry of a context.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Whether it is left out. Of a directory: nothing is said of what is beneath it.
    pub ignored: bool,
    /// For the entries beneath it, if it is a directory.
    pub matched: Matched,
}

#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    /// Whether it takes back what others matched.
    exception: bool,
    rule: Rule,
}

#[derive(Debug, Clone)]
enum Rule {
    Exact,
    /// `text` without its trailing `**`.
    Prefix,
    /// `text` without its leading `**`.
    Suffix,
    Regex(Regex),
}

impl Ignore {
    /// Reads an ignore file: comments, blank lines, a byte order mark and white space around patterns don't count.
    pub fn parse(bytes: &[u8]) -> Result<Self, IgnoreError> {
        if bytes.len() >= FILE {
            return Err(IgnoreError::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| IgnoreError::NotText)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (mut patterns, mut expressions) = (Vec::new(), 0);
        for (index, line) in text.split('\n').enumerate() {
            let Some(pattern) = from_line(line) else { continue };
            let bad = |reason| IgnoreError::Pattern { line: index + 1, pattern: line.trim().to_owned(), reason };
            let read = Pattern::new(&pattern).map_err(bad)?;
            expressions += usize::from(matches!(read.rule, Rule::Regex(_)));
            if patterns.len() == PATTERNS || expressions > EXPRESSIONS {
                return Err(IgnoreError::TooMany(index + 1));
            }
            patterns.push(read);
        }
        Ok(Self { patterns })
    }

    /// Decides about `path`, relative to the context. `parent` is what was matched of its directory; `None` at the context's top.
    pub fn verdict(&self, path: &str, parent: Option<&Matched>) -> Verdict {
        let mut ignored = false;
        let mut matched = vec![false; self.patterns.len()];
        for (index, (pattern, out)) in self.patterns.iter().zip(&mut matched).enumerate() {
            let inherited = parent.is_some_and(|parent| parent.0.get(index).copied().unwrap_or_default());
            // One that would change nothing is not looked at, and so not inherited either.
            *out = inherited || (pattern.exception == ignored && pattern.matches(path));
            if *out {
                ignored = !pattern.exception;
            }
        }
        Verdict { ignored, matched: Matched(matched) }
    }

    /// Whether a walk over the context would leave this file out.
    pub fn leaves_out(&self, path: &str) -> bool {
        let mut matched = None;
        for (at, _) in path.match_indices('/') {
            let directory = path.get(..at).unwrap_or_default();
            let verdict = self.verdict(directory, matched.as_ref());
            if verdict.ignored && !self.may_keep_beneath(directory) {
                return true;
            }
            matched = Some(verdict.matched);
        }
        self.verdict(path, matched.as_ref()).ignored
    }

    /// Whether anything beneath an ignored directory may be wanted: if not, nobody needs to look.
    pub fn may_keep_beneath(&self, directory: &str) -> bool {
        let exceptions = || self.patterns.iter().filter(|pattern| pattern.exception);
        let stem = |pattern: &Pattern| {
            let text = pattern.text.strip_suffix("/**").unwrap_or(&pattern.text);
            text.strip_suffix("/*").unwrap_or(text).to_owned()
        };
        if exceptions().any(|pattern| stem(pattern).contains(['*', '[', ']', '?', '^', '\\'])) {
            return true;
        }
        let directory = format!("{directory}/");
        exceptions().any(|pattern| format!("{}/", stem(pattern)).starts_with(&directory))
    }
}

impl Pattern {
    fn new(pattern: &str) -> Result<Self, &'static str> {
        let clean = clean(pattern);
        let (text, exception) = match clean.strip_prefix('!') {
            Some("") => return Err("an exception needs something after the '!'"),
            Some(text) => (text.to_owned(), true),
            None => (clean, false),
        };
        let rule = rule(&text)?;
        Ok(Self { text, exception, rule })
    }

    fn matches(&self, path: &str) -> bool {
        let text = &self.text;
        match &self.rule {
            Rule::Exact => path == text,
            Rule::Prefix => path.starts_with(text.strip_suffix("**").unwrap_or(text)),
            Rule::Suffix => {
                let suffix = text.strip_prefix("**").unwrap_or(text);
                path.ends_with(suffix) || suffix.strip_prefix('/') == Some(path)
            }
            Rule::Regex(regex) => regex.is_match(path),
        }
    }
}

/// The pattern of one line, made relative to the context.
fn from_line(line: &str) -> Option<String> {
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.starts_with('#') {
        return None;
    }
    let line = line.trim();
    if line.is_empty() {
        return None;
    }
    let (sign, pattern) = match line.strip_prefix('!') {
        Some(pattern) => ("!", pattern.trim()),
        None => ("", line),
    };
    let mut pattern = if pattern.is_empty() { String::new() } else { clean(pattern) };
    if pattern.len() > 1 && pattern.starts_with('/') {
        pattern.remove(0);
    }
    Some(format!("{sign}{pattern}"))
}

/// The shortest path of the same meaning, as Go's `filepath.Clean` makes it.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => _ = parts.pop(),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.join("/")) {
        (true, path) => format!("/{path}"),
        (false, path) if path.is_empty() => ".".to_owned(),
        (false, path) => path,
    }
}

/// How a pattern is matched: moby's translation, token by token.
fn rule(pattern: &str) -> Result<Rule, &'static str> {
    #[derive(PartialEq, Clone, Copy)]
    enum Kind {
        Exact,
        Prefix,
        Suffix,
        Regex,
    }
    let (mut kind, mut regex) = (Kind::Exact, String::from("^"));
    let mut rest = pattern.chars().peekable();
    let (mut first, mut repeated) = (true, false);
    while let Some(c) = rest.next() {
        match c {
            '*' if rest.next_if_eq(&'*').is_some() => {
                rest.next_if_eq(&'/');
                if rest.peek().is_some() {
                    regex.push_str("(.*/)?");
                    kind = Kind::Regex;
                } else if kind == Kind::Exact {
                    kind = Kind::Prefix;
                } else {
                    regex.push_str(".*");
                    kind = Kind::Regex;
                }
                if first {
                    kind = Kind::Suffix;
                }
            }
            '*' => {
                regex.push_str("[^/]*");
                kind = Kind::Regex;
            }
            '?' => {
                regex.push_str("[^/]");
                kind = Kind::Regex;
            }
            '[' => {
                class(&mut rest, &mut regex)?;
                kind = Kind::Regex;
            }
            ']' => {
                regex.push_str(r"\]");
                kind = Kind::Regex;
            }
            '\\' => {
                literal(escaped(&mut rest)?, &mut regex);
                kind = Kind::Regex;
            }
            // moby's translation leaves these alone: a start that is none, and a choice.
            '^' | '|' => regex.push(c),
            '{' => {
                repeated |= is_repetition(rest.clone());
                literal(c, &mut regex);
            }
            c => literal(c, &mut regex),
        }
        first = false;
    }
    if repeated && kind == Kind::Regex {
        return Err("'{1}' has no defined meaning beside '*', '?' and classes");
    }
    Ok(match kind {
        Kind::Exact => Rule::Exact,
        Kind::Prefix => Rule::Prefix,
        Kind::Suffix => Rule::Suffix,
        Kind::Regex => {
            let built = RegexBuilder::new(&(regex + "$")).dfa_size_limit(EXPRESSION).build();
            Rule::Regex(built.map_err(|_| "it can't be compiled")?)
        }
    })
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Whether what follows a `{` makes it a repetition: `1}`, `1,}`, `1,2}`.
fn is_repetition(rest: Chars<'_>) -> bool {
    let inside: String = rest.take_while(|c| *c != '}').collect();
    inside.starts_with(|c: char| c.is_ascii_digit()) && inside.chars().all(|c| c.is_ascii_digit() || c == ',')
}

/// A class, from behind its `[` to its `]`.
fn class(rest: &mut Chars<'_>, regex: &mut String) -> Result<(), &'static str> {
    regex.push('[');
    if rest.next_if_eq(&'^').is_some() {
        regex.push('^');
    }
    let mut empty = true;
    loop {
        if !empty && rest.next_if_eq(&']').is_some() {
            regex.push(']');
            return Ok(());
        }
        let low = member(rest)?;
        literal(low, regex);
        if rest.next_if_eq(&'-').is_some() {
            let high = member(rest)?;
            if high < low {
                return Err("a class has a range that ends before it begins");
            }
            regex.push('-');
            literal(high, regex);
        }
        empty = false;
    }
}

fn member(rest: &mut Chars<'_>) -> Result<char, &'static str> {
    match rest.next() {
        None => Err("a class has no end"),
        Some('-' | ']') => Err("a class has a '-' or ']' where a character should be; put a backslash before it"),
        Some('*' | '?' | '[') => Err("'*', '?' and '[' have no defined meaning in a class"),
        Some('\\') => escaped(rest),
        Some(c) => Ok(c),
    }
}

fn escaped(rest: &mut Chars<'_>) -> Result<char, &'static str> {
    match rest.next() {
        None => Err("a backslash stands at its end"),
        Some(c) if c.is_alphanumeric() || !c.is_ascii() => {
            Err("a backslash before a letter or digit has no defined meaning")
        }
        Some(c) => Ok(c),
    }
}

/// A character that stands for itself, in a class or outside.
fn literal(c: char, regex: &mut String) {
    if c.is_alphanumeric() || c == '/' || c == '_' {
        regex.push(c);
    } else {
        regex.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
    }
}

#[cfg(test)]
#[path = "ignore_tests.rs"]
mod tests;
