//! Sets of field paths, as `fieldsV1` of `metadata.managedFields` writes them.
//!
//! The format is structured-merge-diff's (`fieldpath/serialize.go`, `serialize-pe.go`): a JSON object is a tree whose keys are path
//! elements, `f:<name>` a field or map key, `k:{…}` the list item with these key fields, `v:<value>` the set item with this value,
//! `i:<index>` the list item at this place. An empty object, or the key `.` in one, says that the path itself is in the set.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::model::mask;
use crate::model::secret::{MASK, sounds_secret};

mod place;
mod select;

pub use place::Place;
pub use select::is_empty;

/// A set of field paths. Two sets are equal when they have the same paths, however they were written.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    children: BTreeMap<Element, Node>,
}

/// Invariant: it is a member, or has children; else it would not be there.
#[derive(Clone, Default, PartialEq, Eq)]
struct Node {
    member: bool,
    below: FieldSet,
}

/// One step of a path. The order is structured-merge-diff's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Element {
    Field(Box<str>),
    Key(BTreeMap<String, Canonical>),
    Item(Canonical),
    Index(u64),
}

/// A JSON value as text in one form only: compact, keys sorted, whole numbers without a fraction.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Canonical(Box<str>);

/// The text is not a field set.
#[derive(Debug, thiserror::Error)]
pub enum FieldsError {
    /// It is not JSON.
    #[error("managed fields are not JSON")]
    Json(#[source] serde_json::Error),
    /// A node is not an object.
    #[error("managed fields: the value of {0:?} is not an object")]
    NotAnObject(String),
    /// A key is none of the four kinds of path elements.
    #[error("managed fields: {0:?} is not a path element")]
    Element(String),
}

impl FieldSet {
    /// Reads the JSON text of a `fieldsV1`.
    pub fn parse(text: &str) -> Result<Self, FieldsError> {
        Self::from_value(&serde_json::from_str(text).map_err(FieldsError::Json)?)
    }

    /// Reads a `fieldsV1`.
    pub fn from_value(value: &Value) -> Result<Self, FieldsError> {
        Ok(Node::read("fieldsV1", value)?.below)
    }

    /// Whether it has no path.
    pub fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    /// How many paths it has.
    pub fn len(&self) -> usize {
        self.children.values().map(|node| usize::from(node.member) + node.below.len()).sum()
    }

    /// The paths that are in either.
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.extend(other);
        all
    }

    fn extend(&mut self, other: &Self) {
        for (element, node) in &other.children {
            match self.children.get_mut(element) {
                Some(mine) => {
                    mine.member |= node.member;
                    mine.below.extend(&node.below);
                }
                None => _ = self.children.insert(element.clone(), node.clone()),
            }
        }
    }

    /// The paths of this set that are not in the other. A path whose parent is in the other stays: paths are compared, not subtrees.
    pub fn difference(&self, other: &Self) -> Self {
        self.select(|element, node| match other.children.get(element) {
            None => node.clone(),
            Some(theirs) => Node { member: node.member && !theirs.member, below: node.below.difference(&theirs.below) },
        })
    }

    /// The paths that are in both.
    pub fn intersection(&self, other: &Self) -> Self {
        self.select(|element, node| match other.children.get(element) {
            None => Node::default(),
            Some(theirs) => {
                Node { member: node.member && theirs.member, below: node.below.intersection(&theirs.below) }
            }
        })
    }

    /// The set of what becomes of each node; nodes without any path vanish.
    fn select(&self, becomes: impl Fn(&Element, &Node) -> Node) -> Self {
        let nodes = self.children.iter().map(|(element, node)| (element.clone(), becomes(element, node)));
        Self { children: nodes.filter(|(_, node)| node.member || !node.below.is_empty()).collect() }
    }

    /// The `fieldsV1` that says it.
    pub fn to_value(&self) -> Value {
        let entry = |(element, node): (&Element, &Node)| {
            let mut value = node.below.to_value();
            if let (true, Value::Object(map)) = (node.member && !node.below.is_empty(), &mut value) {
                map.insert(".".to_owned(), Value::Object(Map::new()));
            }
            (element.to_string(), value)
        };
        Value::Object(self.children.iter().map(entry).collect())
    }

    /// Whether both name a path, or a path and one below it.
    pub fn touches(&self, other: &Self) -> bool {
        self.children.iter().any(|(element, mine)| {
            other.children.get(element).is_some_and(|theirs| {
                (mine.member && theirs.any()) || (theirs.member && mine.any()) || mine.below.touches(&theirs.below)
            })
        })
    }

    /// Whether this path of plain field names is in the set.
    pub fn contains_field(&self, path: &[&str]) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        let node = self.children.get(&Element::Field((*first).into()));
        node.is_some_and(|node| if rest.is_empty() { node.member } else { node.below.contains_field(rest) })
    }

    /// All paths for people, sorted, such as `spec.template.spec.containers[name=app].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, parent: &str, paths: &mut Vec<String>) {
        for (element, node) in &self.children {
            let path = element.after(parent);
            node.below.collect(&path, paths);
            if node.member {
                paths.push(path);
            }
        }
        if parent.is_empty() {
            paths.sort();
        }
    }
}

impl fmt::Debug for FieldSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.paths()).finish()
    }
}

impl Node {
    fn any(&self) -> bool {
        self.member || !self.below.is_empty()
    }

    fn read(name: &str, value: &Value) -> Result<Self, FieldsError> {
        let Value::Object(map) = value else { return Err(FieldsError::NotAnObject(name.to_owned())) };
        let mut node = Self { member: map.is_empty(), below: FieldSet::default() };
        for (key, value) in map {
            if key == "." {
                node.member = true;
                continue;
            }
            let child = Self::read(key, value)?;
            // One element may stand twice in different writings: both count.
            let known = node.below.children.entry(Element::read(key)?).or_default();
            known.member |= child.member;
            known.below.extend(&child.below);
        }
        Ok(node)
    }
}

impl Element {
    fn read(key: &str) -> Result<Self, FieldsError> {
        let refuse = || FieldsError::Element(key.to_owned());
        let (kind, rest) = key.split_once(':').ok_or_else(refuse)?;
        let json = || serde_json::from_str::<Value>(rest).map_err(|_| refuse());
        match kind {
            "f" => Ok(Self::Field(rest.into())),
            "k" => match json()? {
                Value::Object(fields) => {
                    Ok(Self::Key(fields.into_iter().map(|(name, value)| (name, Canonical::of(&value))).collect()))
                }
                _ => Err(refuse()),
            },
            "v" => Ok(Self::Item(Canonical::of(&json()?))),
            "i" => rest.parse().map(Self::Index).map_err(|_| refuse()),
            _ => Err(refuse()),
        }
    }

    /// The path of this element below a parent, for people: where a value is a part of it, without what is not to be shown.
    fn after(&self, parent: &str) -> String {
        match self {
            Self::Field(name) => below(parent, name),
            Self::Key(fields) => {
                let shown = |name: &str, value: &Canonical| match sounds_secret(name) {
                    true => MASK.to_owned(),
                    false => mask::masked_text(&value.bare()),
                };
                let fields: Vec<_> =
                    fields.iter().map(|(name, value)| format!("{name}={}", shown(name, value))).collect();
                format!("{parent}[{}]", fields.join(","))
            }
            Self::Item(value) => format!("{parent}[={}]", mask::masked_text(&value.bare())),
            Self::Index(index) => format!("{parent}[{index}]"),
        }
    }
}

/// The path of a field below a parent, for people.
pub fn below(parent: &str, field: &str) -> String {
    match field {
        _ if field.contains(['.', '/', '[']) => format!("{parent}[{field}]"),
        _ if parent.is_empty() => field.to_owned(),
        _ => format!("{parent}.{field}"),
    }
}

impl fmt::Display for Element {
    /// The key of `fieldsV1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, "f:{name}"),
            Self::Key(fields) => {
                f.write_str("k:{")?;
                for (index, (name, value)) in fields.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{}:{}", Value::from(name.as_str()), value.0)?;
                }
                f.write_str("}")
            }
            Self::Item(value) => write!(f, "v:{}", value.0),
            Self::Index(index) => write!(f, "i:{index}"),
        }
    }
}

impl Canonical {
    fn of(value: &Value) -> Self {
        let text = match value {
            Value::Number(number) => whole(number).map_or_else(|| number.to_string(), |whole| whole.to_string()),
            Value::Array(items) => {
                let items: Vec<_> = items.iter().map(|item| Self::of(item).0.into_string()).collect();
                format!("[{}]", items.join(","))
            }
            Value::Object(fields) => {
                let sorted: BTreeMap<_, _> = fields.iter().collect();
                let field =
                    |(name, value): (&String, &Value)| format!("{}:{}", Value::from(name.as_str()), Self::of(value).0);
                format!("{{{}}}", sorted.into_iter().map(field).collect::<Vec<_>>().join(","))
            }
            plain => plain.to_string(),
        };
        Self(text.into())
    }

    /// The value for people: text without quotes.
    fn bare(&self) -> String {
        serde_json::from_str::<String>(&self.0).unwrap_or_else(|_| self.0.to_string())
    }
}

/// A number as an integer, if it is written as a float and is whole: structured-merge-diff compares `80` and `80.0` as equal.
fn whole(number: &serde_json::Number) -> Option<i64> {
    /// Beyond 2^53 a float no longer tells integers apart.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let float = number.as_f64().filter(|_| number.is_f64())?;
    #[allow(clippy::cast_possible_truncation, reason = "whole and within the exact range")]
    (float.fract() == 0.0 && float.abs() < EXACT).then_some(float as i64)
}

pub mod lookup;
#[cfg(test)]
mod tests;
