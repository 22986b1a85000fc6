//! What a Dockerfile says about other images: its FROM lines, `COPY --from` and `RUN --mount=from`, and its stages.
//!
//! Read as BuildKit does: parser directives, continued lines with comments between them, here-documents, ARG before the first FROM.

use std::collections::{BTreeMap, BTreeSet};

use super::reference::Reference;

mod lines;
mod words;

use lines::Instruction;
use words::{Unknown, Variables};

/// The images that a Dockerfile names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dockerfile {
    /// The images, each once, in the order of the file; without stages and `scratch`.
    pub images: Vec<String>,
    /// References that depend on what only the builder knows, such as `base-${TARGETARCH}`.
    pub open: Vec<String>,
    /// The names of its stages, in lower case.
    pub stages: BTreeSet<String>,
    /// How many stages it has.
    pub count: usize,
    /// The image of the frontend that `# syntax=` names: it reads the rest.
    pub syntax: Option<String>,
}

/// Why a Dockerfile can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DockerfileError {
    /// The file is no text.
    #[error("it is not UTF-8")]
    NotText,
    /// There is nothing to build.
    #[error("it has no FROM")]
    NoFrom,
    /// A line can't be read.
    #[error("line {line}: {problem}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

impl Dockerfile {
    /// Reads a Dockerfile; `args` are the build arguments that are given.
    pub fn read(bytes: &[u8], args: &BTreeMap<String, String>) -> Result<Self, DockerfileError> {
        let text = std::str::from_utf8(bytes).map_err(|_| DockerfileError::NotText)?;
        let (directives, instructions) = lines::read(text.strip_prefix('\u{feff}').unwrap_or(text))?;
        // What follows the image is for the frontend.
        let syntax = directives.syntax.as_deref().and_then(|text| text.split_whitespace().next()).map(str::to_owned);
        let mut file = Self { syntax, ..Self::default() };
        let mut variables = Variables { escape: directives.escape, args, known: BTreeMap::new() };
        for Instruction { line, name, rest } in &instructions {
            let bad = |problem: String| DockerfileError::Line { line: *line, problem };
            let words = words::split(rest, directives.escape);
            match &**name {
                "FROM" => file.from(&words, &variables).map_err(bad)?,
                "ARG" if file.count == 0 => variables.declare(&words).map_err(bad)?,
                _ if file.count == 0 => return Err(bad(format!("{name} stands before the first FROM"))),
                "COPY" | "ADD" | "RUN" => file.uses(&words),
                _ => {}
            }
        }
        if file.count == 0 { Err(DockerfileError::NoFrom) } else { Ok(file) }
    }

    /// Whether it has a stage that is called so, or has this number.
    pub fn has_stage(&self, name: &str) -> bool {
        self.stages.contains(&name.to_lowercase()) || name.parse().is_ok_and(|number: usize| number < self.count)
    }

    /// The images that a later build may find changed, though nothing in git did: those without a digest.
    pub fn floating(&self) -> impl Iterator<Item = &str> {
        self.images.iter().map(String::as_str).filter(|image| is_floating(image))
    }

    /// The frontend, if a later build may find it changed.
    pub fn floating_syntax(&self) -> Option<&str> {
        self.syntax.as_deref().filter(|image| is_floating(image))
    }

    fn from(&mut self, words: &[String], variables: &Variables<'_>) -> Result<(), String> {
        let words: Vec<&String> = words.iter().skip_while(|word| word.starts_with("--")).collect();
        let (image, stage) = match words.as_slice() {
            [image] => (image, None),
            [image, r#as, stage] if r#as.eq_ignore_ascii_case("as") => (image, Some(stage)),
            _ => return Err("FROM is not 'FROM image' or 'FROM image AS stage'".to_owned()),
        };
        match variables.expand(image) {
            Ok(image) if image.is_empty() => return Err(format!("{image:?} names no image: an ARG has no value")),
            Ok(image) => self.image(image),
            Err(Unknown::Builder) => self.open.push((*image).clone()),
            Err(Unknown::Syntax(text)) => return Err(format!("{text:?} is a substitution that is not understood")),
        }
        // Only now: a stage is not based on itself.
        self.stages.extend(stage.map(|stage| stage.to_lowercase()));
        self.count += 1;
        Ok(())
    }

    /// `--from=` of COPY, and `from=` of a mount.
    fn uses(&mut self, words: &[String]) {
        for flag in words.iter().take_while(|word| word.starts_with("--")) {
            let from = match flag.split_once('=') {
                Some(("--from", from)) => Some(from),
                Some(("--mount", mount)) => mount.split(',').find_map(|part| part.strip_prefix("from=")),
                _ => None,
            };
            match from {
                Some(from) if from.contains('$') => self.open.push(from.to_owned()),
                Some(from) if from.bytes().all(|byte| byte.is_ascii_digit()) => {}
                Some(from) => self.image(from.to_owned()),
                None => {}
            }
        }
    }

    fn image(&mut self, image: String) {
        let is_stage = self.stages.contains(&image.to_lowercase());
        if !is_stage && image != "scratch" && !self.images.contains(&image) {
            self.images.push(image);
        }
    }
}

fn is_floating(image: &str) -> bool {
    Reference::of(image).digest.is_none()
}

#[cfg(test)]
#[path = "dockerfile/tests.rs"]
mod tests;
