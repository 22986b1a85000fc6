//! From the events of the parser to values: where keys are checked, aliases are copied within a budget, and depth is bounded.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};
use serde_json::{Map, Value};

use super::budget::{Budget, DEPTH, MAPPING};
use super::error::{Position, Problem, YamlError, short};
use super::{Document, scalar};

/// Where the values of a document stand, by their path (`spec.values[0]`).
pub(super) type Positions = HashMap<String, Position>;

/// Longer paths are not kept, for every value below a key of a megabyte would hold it: the place is then that of the value above.
const LONGEST_PATH: usize = 500;

/// The documents of one YAML text, one after the other.
pub(super) struct Composer<'text, 'budget> {
    parser: Parser<'text, StrInput<'text>>,
    budget: &'budget mut Budget,
    anchors: HashMap<usize, Value>,
    document: u32,
    /// Kept for plumb's own documents only: the path of the current value, and where each path stands.
    path: Option<(String, Positions)>,
    done: bool,
}

type Next<'text> = (Event<'text>, Position);

impl<'text, 'budget> Composer<'text, 'budget> {
    pub(super) fn new(text: &'text str, budget: &'budget mut Budget, positions: bool) -> Self {
        // One more than ours, so that the limit that is met first is the one with the better message.
        let limit = DEPTH + 1;
        let mut options = granit_parser::options! { flow_nesting_limit: limit, block_nesting_limit: limit };
        options.set_emit_comments(false);
        let parser = Parser::new_from_str_with_options(text, options);
        let path = positions.then(Default::default);
        Self { parser, budget, anchors: HashMap::new(), document: 0, path, done: false }
    }

    /// Where the values of the last document stand.
    pub(super) fn take_positions(&mut self) -> Positions {
        self.path.as_mut().map(|(_, positions)| std::mem::take(positions)).unwrap_or_default()
    }

    /// The next document that is not empty; comments alone are no document.
    pub(super) fn next_document(&mut self) -> Result<Option<Document>, YamlError> {
        while !self.done {
            let (event, _) = self.next()?;
            match event {
                Event::StreamEnd => self.done = true,
                Event::DocumentStart(..) => {
                    self.anchors.clear();
                    self.document = self.document.saturating_add(1);
                    let (event, start) = self.next()?;
                    self.budget.document().map_err(|problem| problem.at(start))?;
                    let value = self.node(event, start, 0)?;
                    if !value.is_null() {
                        // The line of the content, not of the marker: that is where a person looks.
                        return Ok(Some(Document { line: start.line, index: self.document, value }));
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }

    fn next(&mut self) -> Result<Next<'text>, YamlError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, position(&span))),
            Some(Err(error)) => Err(syntax(&error)),
            None => Ok((Event::StreamEnd, Position::START)),
        }
    }

    fn node(&mut self, event: Event<'text>, at: Position, depth: usize) -> Result<Value, YamlError> {
        let weight = if matches!(event, Event::MappingStart(..)) { MAPPING } else { 1 };
        self.budget.value(weight).map_err(|problem| problem.at(at))?;
        if let Some((path, positions)) = &mut self.path
            && path.len() <= LONGEST_PATH
        {
            positions.insert(path.clone(), at);
        }
        if depth > DEPTH {
            return Err(too_deep().at(at));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (scalar_value(text, style, tag.as_deref()).map_err(|problem| problem.at(at))?, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_tag(tag.as_deref(), "seq").map_err(|problem| problem.at(at))?;
                (self.sequence(depth)?, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_tag(tag.as_deref(), "map").map_err(|problem| problem.at(at))?;
                (self.mapping(depth)?, anchor)
            }
            Event::Alias(id) => return self.alias(id, at),
            _ => return Err(Problem::Syntax("a value is missing".to_owned()).at(at)),
        };
        if anchor != 0 {
            self.copied(&value, at)?;
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, YamlError> {
        let mut items = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Value::Array(items));
            }
            let parent = self.enter(|path| path.push_str(&format!("[{}]", items.len())));
            items.push(self.node(event, at, depth + 1)?);
            self.leave(parent);
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, YamlError> {
        let mut map = Map::new();
        let mut merged = None;
        loop {
            let (event, at) = self.next()?;
            let key = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, ScalarStyle::Plain, 0, None) if text == "<<" => {
                    let (event, value_at) = self.next()?;
                    let value = self.node(event, value_at, depth + 1)?;
                    if merged.replace((value, value_at)).is_some() {
                        return Err(Problem::DuplicateKey("<<".to_owned()).at(at));
                    }
                    continue;
                }
                event => self.key(event, at)?,
            };
            let parent = self.enter(|path| {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&key);
            });
            if map.contains_key(&key) {
                return Err(Problem::DuplicateKey(short(&key)).at(at));
            }
            let (event, value_at) = self.next()?;
            // A value's place is that of its key: a missing value has none of its own.
            let value = self.node(event, if self.path.is_some() { at } else { value_at }, depth + 1)?;
            map.insert(key, value);
            self.leave(parent);
        }
        if let Some((value, at)) = merged {
            merge(&mut map, value).map_err(|problem| problem.at(at))?;
        }
        Ok(Value::Object(map))
    }

    fn key(&mut self, event: Event<'text>, at: Position) -> Result<String, YamlError> {
        let (value, text) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let shown = short(&text);
                let value = scalar_value(text, style, tag.as_deref()).map_err(|problem| problem.at(at))?;
                if anchor != 0 {
                    self.copied(&value, at)?;
                    self.anchors.insert(anchor, value.clone());
                }
                (value, shown)
            }
            Event::Alias(id) => (self.alias(id, at)?, "*alias".to_owned()),
            _ => return Err(Problem::KeyNotScalar.at(at)),
        };
        let kind = match value {
            Value::String(key) => return Ok(key),
            Value::Null => "empty (null)",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Array(_) | Value::Object(_) => return Err(Problem::KeyNotScalar.at(at)),
        };
        Err(Problem::KeyNotText(text, kind).at(at))
    }

    fn alias(&mut self, id: usize, at: Position) -> Result<Value, YamlError> {
        // An anchor is known once its value is whole; the parser has refused unknown names already.
        let value = self.anchors.remove(&id).ok_or_else(|| Problem::AliasCycle.at(at))?;
        self.copied(&value, at)?;
        self.anchors.insert(id, value.clone());
        Ok(value)
    }

    fn copied(&mut self, value: &Value, at: Position) -> Result<(), YamlError> {
        let (nodes, bytes) = weigh(value);
        self.budget.copy(nodes, bytes).map_err(|problem| problem.at(at))
    }

    fn enter(&mut self, extend: impl FnOnce(&mut String)) -> usize {
        let Some((path, _)) = &mut self.path else { return 0 };
        let parent = path.len();
        extend(path);
        parent
    }

    fn leave(&mut self, parent: usize) {
        if let Some((path, _)) = &mut self.path {
            path.truncate(parent);
        }
    }
}

/// What `<<` adds: keys that the mapping does not have itself; of several mappings the earlier wins.
fn merge(map: &mut Map<String, Value>, merged: Value) -> Result<(), Problem> {
    let sources = match merged {
        Value::Array(items) => items,
        single => vec![single],
    };
    for source in sources {
        let Value::Object(source) = source else { return Err(Problem::BadMerge) };
        for (key, value) in source {
            map.entry(key).or_insert(value);
        }
    }
    Ok(())
}

fn scalar_value(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, Problem> {
    let resolve = |text: &str| scalar::plain(text).map_err(|_| Problem::NotInJson);
    let Some(tag) = tag else {
        return if style == ScalarStyle::Plain { resolve(&text) } else { Ok(Value::String(text.into_owned())) };
    };
    let name = short(&tag.original());
    let kind = tag.core_suffix().map(str::to_owned);
    if kind.as_deref() == Some("str") || name == "!" {
        return Ok(Value::String(text.into_owned()));
    }
    let value = resolve(&text)?;
    let fits = match kind.as_deref() {
        Some("int") => value.is_i64() || value.is_u64(),
        Some("float") => value.is_number(),
        Some("bool") => value.is_boolean(),
        Some("null") => value.is_null(),
        _ => return Err(Problem::Tag(name)),
    };
    if fits { Ok(value) } else { Err(Problem::NotOfTag(name)) }
}

fn refuse_tag(tag: Option<&Tag>, expected: &str) -> Result<(), Problem> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema_tag(expected) => Err(Problem::Tag(short(&tag.original()))),
        _ => Ok(()),
    }
}

fn weigh(value: &Value) -> (usize, usize) {
    let sum = |(nodes, bytes): (usize, usize), (n, b): (usize, usize)| (nodes + n, bytes + b);
    match value {
        Value::String(text) => (1, text.len()),
        Value::Array(items) => items.iter().map(weigh).fold((1, 0), sum),
        Value::Object(map) => map.iter().map(|(key, value)| sum(weigh(value), (0, key.len()))).fold((1, 0), sum),
        _ => (1, 0),
    }
}

fn too_deep() -> Problem {
    let hint = "no Kubernetes object is that deep";
    Problem::Limit { what: "the nesting of lists and mappings", limit: DEPTH, hint }
}

fn position(span: &Span) -> Position {
    Position::new(span.start.line(), span.start.col() + 1)
}

fn syntax(error: &ScanError) -> YamlError {
    let mark = error.marker();
    let problem = match error.kind() {
        ErrorKind::RecursionLimitExceeded => too_deep(),
        kind => Problem::Syntax(kind.to_string()),
    };
    problem.at(Position::new(mark.line(), mark.col() + 1))
}
