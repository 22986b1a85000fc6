//! The lines of a Dockerfile, put together to instructions.

use std::ops::Range;

use super::{DockerfileError, words};

/// What stands in comments at the top.
pub(super) struct Directives {
    /// `# syntax=`.
    pub syntax: Option<String>,
    /// `# escape=`.
    pub escape: char,
}

/// One instruction.
#[derive(Debug)]
pub(super) struct Instruction {
    /// Its first line, from 1.
    pub line: usize,
    /// Its name, in capitals.
    pub name: String,
    /// What follows, without here-documents.
    pub rest: String,
    /// Where its lines begin: as they are put together, and in the text.
    lines: Vec<(usize, usize)>,
    /// Where `rest` begins in them.
    before: usize,
}

impl Instruction {
    /// Where a part of `rest` stands in the text. What goes over the end of a line has that in it.
    pub fn place(&self, part: Range<usize>) -> Range<usize> {
        let place = |at: usize| {
            let at = self.before + at;
            let line = self.lines.iter().rev().find(|(begins, _)| *begins <= at);
            line.map_or(at, |(begins, stands)| stands + (at - begins))
        };
        let last = part.end.saturating_sub(1);
        place(part.start)..place(last) + (part.end - last)
    }
}

pub(super) fn read(text: &str) -> Result<(Directives, Vec<Instruction>), DockerfileError> {
    let mut directives = Directives { syntax: None, escape: '\\' };
    let mut lines = lines_of(text).enumerate().map(|(index, (at, line))| (index + 1, at, line)).peekable();
    while let Some((line, key, value)) =
        lines.peek().and_then(|(line, _, text)| Some((*line, directive(text)?.0, directive(text)?.1)))
    {
        match (&*key, value) {
            ("syntax", value) => directives.syntax = Some(value.to_owned()),
            ("escape", "`") => directives.escape = '`',
            ("escape", "\\") => directives.escape = '\\',
            ("escape", other) => {
                let problem = format!("the escape character can't be {other:?}: it is a backslash or a backtick");
                return Err(DockerfileError::Line { line, problem });
            }
            ("check", _) => {}
            _ => break,
        }
        lines.next();
    }
    let mut instructions = Vec::new();
    while let Some((line, at, first)) = lines.next() {
        if is_blank(first) {
            continue;
        }
        let bare = first.trim_start();
        let (mut whole, mut is_open) = continued(bare, directives.escape);
        let mut begins = vec![(0, at + first.len() - bare.len())];
        while is_open {
            let Some((_, at, next)) = lines.next() else { break };
            if is_blank(next) {
                continue;
            }
            let (part, more) = continued(next, directives.escape);
            begins.push((whole.len(), at));
            whole.push_str(&part);
            is_open = more;
        }
        let (name, rest) = whole.split_once(char::is_whitespace).unwrap_or((&whole, ""));
        let before = whole.len() - rest.trim_start().len();
        let (name, rest) = (name.to_uppercase(), rest.trim().to_owned());
        for (end, tabs) in here_documents(&name, &rest, directives.escape) {
            let is_end =
                |(_, _, text): (usize, usize, &str)| (if tabs { text.trim_start_matches('\t') } else { text }) == end;
            if !lines.any(is_end) {
                let problem = format!("the here-document has no end: no line is {end:?}");
                return Err(DockerfileError::Line { line, problem });
            }
        }
        instructions.push(Instruction { line, name, rest, lines: begins, before });
    }
    Ok((directives, instructions))
}

/// The lines as [`str::lines`] has them, with where they begin.
fn lines_of(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_inclusive('\n').scan(0, |end, line| {
        let begins = *end;
        *end += line.len();
        let bare = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
        Some((begins, bare))
    })
}

/// `# key=value`.
fn directive(line: &str) -> Option<(String, &str)> {
    let (key, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let is_key =
        key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (is_key && !value.is_empty()).then(|| (key.to_ascii_lowercase(), value))
}

/// Blank lines and comments count for nothing, between continued lines either.
fn is_blank(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// A line without the escape character at its end, and whether there is one.
fn continued(line: &str, escape: char) -> (String, bool) {
    let bare = line.trim_end_matches([' ', '\t']);
    match bare.strip_suffix(escape) {
        // Two of them are one that stands for itself.
        Some(rest) if !rest.ends_with(escape) => (rest.to_owned(), true),
        _ => (line.to_owned(), false),
    }
}

/// The last lines of the here-documents that an instruction begins, and whether tabs before them are stripped.
fn here_documents(name: &str, rest: &str, escape: char) -> Vec<(String, bool)> {
    let rest = match name {
        "RUN" | "COPY" | "ADD" => rest,
        "ONBUILD" => match rest.split_once(char::is_whitespace) {
            Some((name, rest)) if matches!(&*name.to_uppercase(), "RUN" | "COPY" | "ADD") => rest,
            _ => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    let here = |word: String| {
        let word = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        let (tabs, end) = word.strip_prefix('-').map_or((false, word), |end| (true, end));
        let end = words::unquoted(end);
        (!end.is_empty() && !end.contains('<')).then_some((end, tabs))
    };
    words::split(rest, escape).into_iter().filter_map(here).collect()
}
