//! What a Dockerfile says about other images: its FROM lines, `COPY --from` and `RUN --mount=from`, and its stages.
//!
//! Read as BuildKit does: parser directives, continued lines with comments between them, here-documents, ARG before the first FROM.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::reference::{Reference, canonical};

mod flags;
mod lines;
mod words;

use flags::From;
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
    /// Where the images stand in the text, in its order.
    places: Vec<(Range<usize>, String)>,
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
        let (directives, instructions) = lines::read(text(bytes)?)?;
        // What follows the image is for the frontend.
        let syntax = directives.syntax.as_deref().and_then(|text| text.split_whitespace().next()).map(str::to_owned);
        let mut file = Self { syntax, ..Self::default() };
        let mut variables = Variables::new(directives.escape, args);
        for instruction in &instructions {
            let Instruction { line, name, rest, .. } = instruction;
            let bad = |problem: String| DockerfileError::Line { line: *line, problem };
            match &**name {
                "FROM" => file.from(instruction, &variables).map_err(bad)?,
                "ARG" if file.count == 0 => variables.declare(&words::split(rest, directives.escape)).map_err(bad)?,
                _ if file.count == 0 => return Err(bad(format!("{name} stands before the first FROM"))),
                "COPY" | "ADD" | "RUN" => file.uses(instruction, directives.escape),
                _ => {}
            }
        }
        if file.count == 0 { Err(DockerfileError::NoFrom) } else { Ok(file) }
    }

    /// The same Dockerfile with other names for some of its images, and no other difference.
    pub fn renamed(
        bytes: &[u8],
        args: &BTreeMap<String, String>,
        names: &BTreeMap<String, String>,
    ) -> Result<String, DockerfileError> {
        let (text, file) = (text(bytes)?, Self::read(bytes, args)?);
        let (mut renamed, mut end) = (String::with_capacity(text.len()), 0);
        for (place, image) in file.places {
            if let Some(name) = names.get(&image) {
                renamed.push_str(text.get(end..place.start).unwrap_or_default());
                renamed.push_str(name);
                end = place.end;
            }
        }
        renamed.push_str(text.get(end..).unwrap_or_default());
        Ok(renamed)
    }

    /// Whether it has a stage that is called so, or has this number.
    pub fn has_stage(&self, name: &str) -> bool {
        self.stages.contains(&name.to_lowercase()) || name.parse().is_ok_and(|number: usize| number < self.count)
    }

    /// Whether it has a stage that is called as this image is, however that is written.
    pub fn has_stage_called(&self, image: &str) -> bool {
        let image = Reference::of(image);
        image.is_open() && self.stages.iter().any(|stage| canonical(stage) == canonical(image.repository))
    }

    /// The images that a later build may find changed, though nothing in git did: those without a digest.
    pub fn floating(&self) -> impl Iterator<Item = &str> {
        self.images.iter().map(String::as_str).filter(|image| is_floating(image))
    }

    /// The frontend, if a later build may find it changed.
    pub fn floating_syntax(&self) -> Option<&str> {
        self.syntax.as_deref().filter(|image| is_floating(image))
    }

    fn from(&mut self, instruction: &Instruction, variables: &Variables<'_>) -> Result<(), String> {
        let places = words::places(&instruction.rest, variables.escape).into_iter();
        let words = places.filter_map(|place| Some((instruction.rest.get(place.clone())?, place)));
        let words: Vec<(&str, Range<usize>)> = words.skip_while(|(word, _)| word.starts_with("--")).collect();
        let (image, place, stage) = match words.as_slice() {
            [(image, place)] => (*image, place, None),
            [(image, place), (r#as, _), (stage, _)] if r#as.eq_ignore_ascii_case("as") => (*image, place, Some(stage)),
            _ => return Err("FROM is not 'FROM image' or 'FROM image AS stage'".to_owned()),
        };
        match variables.expand(image) {
            Ok(image) if image.is_empty() => return Err(format!("{image:?} names no image: an ARG has no value")),
            Ok(image) => self.image(image, instruction.place(place.clone())),
            Err(Unknown::Builder) => self.open.push(image.to_owned()),
            Err(Unknown::Syntax(problem)) => return Err(problem),
        }
        // Only now: a stage is not based on itself.
        self.stages.extend(stage.map(|stage| stage.to_lowercase()));
        self.count += 1;
        Ok(())
    }

    /// `--from=` of COPY, and `from=` of a mount.
    fn uses(&mut self, instruction: &Instruction, escape: char) {
        for From { name, place } in flags::froms(&instruction.rest, escape) {
            if name.bytes().all(|byte| byte.is_ascii_digit()) || self.is_none(&name) {
                continue;
            }
            match place {
                Some(place) if !name.contains('$') => self.image(name, instruction.place(place)),
                // What stands there in pieces could get no other name.
                _ => self.open.push(name),
            }
        }
    }

    fn image(&mut self, image: String, place: Range<usize>) {
        if self.is_none(&image) {
            return;
        }
        if !self.images.contains(&image) {
            self.images.push(image.clone());
        }
        self.places.push((place, image));
    }

    /// Whether it is a stage so far, or nothing at all.
    fn is_none(&self, image: &str) -> bool {
        self.stages.contains(&image.to_lowercase()) || image == "scratch"
    }
}

/// Without the mark that some editors begin a text with.
fn text(bytes: &[u8]) -> Result<&str, DockerfileError> {
    let text = std::str::from_utf8(bytes).map_err(|_| DockerfileError::NotText)?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn is_floating(image: &str) -> bool {
    Reference::of(image).digest.is_none()
}

#[cfg(test)]
#[path = "dockerfile/tests.rs"]
mod tests;
