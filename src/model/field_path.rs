//! Field paths as people write them: `spec.replicas`, `metadata.annotations[example.com/x]`, `spec.template.spec.containers[name=app].image`.
//!
//! It is the form in which [`FieldSet::paths`](crate::drift::fields::FieldSet::paths) prints what the API server records, so a path from a message of
//! plumb's can be copied into an `ignore` rule.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::applyset::PART_OF;

/// A path to a field, or to all elements of a keyed list that it matches, with everything below.
///
/// Deserialized, any text is one: an Environment in the cluster may be edited by hand, and must be readable to be put back. What is no path names
/// nothing; [`FieldPath::refusal`] says why.
#[derive(Clone, PartialEq, Eq)]
pub struct FieldPath {
    /// As it was written.
    text: Box<str>,
    /// Empty if the text is no path.
    steps: Vec<PathStep>,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathStep {
    /// A field, or a key of a map.
    Field(Box<str>),
    /// The elements of a list that have these values in these fields.
    Key(Vec<(Box<str>, Box<str>)>),
    /// The element of a set that is this value.
    Item(Box<str>),
}

/// Why a text is no field path that could be left to others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldPathError {
    /// It is not of the form.
    #[error("{0:?} is not a field path such as spec.replicas or spec.template.spec.containers[name=app].image")]
    Form(String),
    /// An element by its place.
    #[error("{0:?} names an element by its place, which changes; name it by its key, such as containers[name=app]")]
    Index(String),
    /// A wildcard.
    #[error(
        "{0:?} has a wildcard, which field paths don't know; name each element by its key, such as containers[name=app]"
    )]
    Wildcard(String),
    /// Without it, the object is not itself, or not plumb's.
    #[error("{0:?} can't be left to others: without it, it would not be this object, or not this environment's")]
    Required(String),
    /// The key of a list element.
    #[error(
        "{0:?} can't be left to others: it is the key of its list element; leave out the last part to leave the whole element to them"
    )]
    ElementKey(String),
}

/// What every object keeps.
const REQUIRED: [&[&str]; 5] =
    [&["apiVersion"], &["kind"], &["metadata", "name"], &["metadata", "namespace"], &["metadata", "labels", PART_OF]];

impl FieldPath {
    /// The steps; none if it is no path.
    pub fn steps(&self) -> &[PathStep] {
        &self.steps
    }

    /// Why the text that was deserialized is no path.
    pub fn refusal(&self) -> Option<FieldPathError> {
        self.text.parse::<Self>().err()
    }

    /// Takes the field out of an object, and with it what is left empty by that: an empty map that is applied would be lost to whoever adds to it.
    /// False if it is not there.
    pub fn remove_from(&self, object: &mut Value) -> bool {
        remove(&self.steps, object)
    }

    fn check(self) -> Result<Self, FieldPathError> {
        let covers = |required: &&[&str]| {
            let fields = self.steps.iter().zip(required.iter());
            self.steps.len() <= required.len()
                && fields.into_iter().all(|(step, name)| matches!(step, PathStep::Field(field) if **field == **name))
        };
        if REQUIRED.iter().any(covers) {
            return Err(FieldPathError::Required(self.text.into()));
        }
        match self.steps.as_slice() {
            [.., PathStep::Key(key), PathStep::Field(last)] if key.iter().any(|(name, _)| name == last) => {
                Err(FieldPathError::ElementKey(self.text.into()))
            }
            _ => Ok(self),
        }
    }
}

impl FromStr for FieldPath {
    type Err = FieldPathError;

    fn from_str(text: &str) -> Result<Self, FieldPathError> {
        let wrong = || FieldPathError::Form(text.to_owned());
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(inside) = rest.strip_prefix('[') {
                let (content, after) = inside.split_once(']').ok_or_else(wrong)?;
                steps.push(bracket(content, text)?);
                rest = after;
                continue;
            }
            let name = if steps.is_empty() { rest } else { rest.strip_prefix('.').ok_or_else(wrong)? };
            let (name, after) = name.split_at(name.find(['.', '[']).unwrap_or(name.len()));
            let plain = !name.is_empty() && !name.contains([']', ' ']);
            match name {
                "*" => return Err(FieldPathError::Wildcard(text.to_owned())),
                _ if !plain => return Err(wrong()),
                name => steps.push(PathStep::Field(name.into())),
            }
            rest = after;
        }
        if steps.is_empty() {
            return Err(wrong());
        }
        Self { text: text.into(), steps }.check()
    }
}

/// What stands between brackets: a key, a value of a set, or the name of a field that has dots.
fn bracket(content: &str, text: &str) -> Result<PathStep, FieldPathError> {
    let wrong = || FieldPathError::Form(text.to_owned());
    if let Some(item) = content.strip_prefix('=') {
        return if item.is_empty() { Err(wrong()) } else { Ok(PathStep::Item(item.into())) };
    }
    if content == "*" {
        return Err(FieldPathError::Wildcard(text.to_owned()));
    }
    if content.is_empty() || content.contains('[') {
        return Err(wrong());
    }
    if content.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(FieldPathError::Index(text.to_owned()));
    }
    if !content.contains('=') {
        return Ok(PathStep::Field(content.into()));
    }
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.into(), value.into())),
        _ => Err(wrong()),
    };
    content.split(',').map(pair).collect::<Result<_, _>>().map(PathStep::Key)
}

impl PathStep {
    /// Whether a list element is meant.
    fn is_element(&self, element: &Value) -> bool {
        match self {
            Self::Field(_) => false,
            Self::Key(key) => {
                key.iter().all(|(name, value)| element.get(&**name).is_some_and(|found| *bare(found) == **value))
            }
            Self::Item(value) => *bare(element) == **value,
        }
    }
}

/// A value as a path has it: text without quotes.
pub fn bare(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => text.into(),
        other => other.to_string().into(),
    }
}

fn remove(steps: &[PathStep], value: &mut Value) -> bool {
    let Some((first, rest)) = steps.split_first() else { return false };
    // What becomes of a child: whether it was changed, and whether it goes.
    let visit = |child: &mut Value| match rest {
        [] => (true, true),
        rest => {
            let changed = remove(rest, child);
            (changed, changed && is_empty(child))
        }
    };
    match (first, value) {
        (PathStep::Field(name), Value::Object(map)) => {
            let Some((changed, goes)) = map.get_mut(&**name).map(visit) else { return false };
            if goes {
                map.remove(&**name);
            }
            changed
        }
        (step, Value::Array(elements)) => {
            let mut any = false;
            elements.retain_mut(|element| {
                if !step.is_element(element) {
                    return true;
                }
                let (changed, goes) = visit(element);
                any |= changed;
                !goes
            });
            any
        }
        _ => false,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        _ => false,
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for FieldPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for FieldPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Ok(text.parse().unwrap_or_else(|_| Self { text: text.into(), steps: Vec::new() }))
    }
}

impl JsonSchema for FieldPath {
    fn schema_name() -> Cow<'static, str> {
        "FieldPath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string"})
    }

    fn inline_schema() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn path(text: &str) -> FieldPath {
        text.parse().unwrap()
    }

    #[test]
    fn a_path_is_read_as_it_is_printed() {
        let field = |name: &str| PathStep::Field(name.into());
        for (text, expected) in [
            ("spec.replicas", vec![field("spec"), field("replicas")]),
            (
                "metadata.annotations[example.com/x]",
                vec![field("metadata"), field("annotations"), field("example.com/x")],
            ),
            ("data[a.b].c", vec![field("data"), field("a.b"), field("c")]),
            (
                "ports[containerPort=80,protocol=TCP].name",
                vec![
                    field("ports"),
                    PathStep::Key(vec![("containerPort".into(), "80".into()), ("protocol".into(), "TCP".into())]),
                    field("name"),
                ],
            ),
            (
                "metadata.finalizers[=x.dev/a]",
                vec![field("metadata"), field("finalizers"), PathStep::Item("x.dev/a".into())],
            ),
        ] {
            assert_eq!(path(text).steps(), expected, "{text}");
            assert_eq!(path(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_path_says_why() {
        for (text, words) in [
            ("", "is not a field path"),
            (".spec", "is not a field path"),
            ("spec.", "is not a field path"),
            ("spec..x", "is not a field path"),
            ("/spec/replicas[", "is not a field path"),
            ("spec]x", "is not a field path"),
            ("a[b]c", "is not a field path"),
            ("a[]", "is not a field path"),
            ("a[=]", "is not a field path"),
            ("a[name=]", "is not a field path"),
            ("a[name=x,y]", "is not a field path"),
            ("spec.ports[0]", "by its place"),
            ("spec.containers[*].image", "wildcard"),
            ("spec.*", "wildcard"),
            ("metadata", "can't be left to others: without it"),
            ("metadata.name", "can't be left to others: without it"),
            ("metadata.labels", "can't be left to others: without it"),
            ("metadata.labels[applyset.kubernetes.io/part-of]", "can't be left to others: without it"),
            ("apiVersion", "can't be left to others: without it"),
            ("kind", "can't be left to others: without it"),
            ("spec.containers[name=app].name", "the key of its list element"),
        ] {
            let error = text.parse::<FieldPath>().unwrap_err().to_string();
            assert!(error.contains(words) && error.contains(&format!("{text:?}")), "{text}: {error}");
        }
        for fine in ["metadata.labels.app", "metadata.annotations", "spec", "data", "metadata.finalizers"] {
            path(fine);
        }
    }

    #[test]
    fn what_is_no_path_can_be_read_and_written_and_names_nothing() {
        let odd: FieldPath = serde_json::from_value(json!("spec.ports[0]")).unwrap();
        assert!(odd.steps().is_empty() && matches!(odd.refusal(), Some(FieldPathError::Index(_))));
        assert_eq!(serde_json::to_value(&odd).unwrap(), "spec.ports[0]");
        assert!(!odd.remove_from(&mut json!({"spec": {"ports": [1]}})));
        assert_eq!(path("spec.replicas").refusal(), None);
        assert!(serde_json::from_value::<FieldPath>(json!(3)).is_err());
    }

    #[test]
    fn a_field_goes_with_what_it_leaves_empty() {
        let pod = || {
            json!({"metadata": {"name": "a", "annotations": {"example.com/x": "1"}}, "spec": {"replicas": 3, "containers": [
                {"name": "app", "image": "a", "resources": {"limits": {"cpu": "1"}}, "ports": [{"containerPort": 80}]},
                {"name": "side", "image": "b"},
            ]}})
        };
        let without = |text: &str, at: &str| {
            let mut object = pod();
            assert!(path(text).remove_from(&mut object), "{text}");
            object.pointer(at).cloned()
        };
        assert_eq!(without("spec.replicas", "/spec/replicas"), None);
        assert_eq!(without("metadata.annotations[example.com/x]", "/metadata"), Some(json!({"name": "a"})));
        let app = json!({"name": "app", "image": "a", "ports": [{"containerPort": 80}]});
        assert_eq!(without("spec.containers[name=app].resources.limits.cpu", "/spec/containers/0"), Some(app));
        assert_eq!(without("spec.containers[name=app].ports[containerPort=80]", "/spec/containers/0/ports"), None);
        assert_eq!(without("spec.containers[name=side]", "/spec/containers/1"), None);
        for absent in ["spec.x", "spec.replicas.x", "spec.containers.image", "spec.containers[name=x]", "metadata[=a]"]
        {
            let mut object = pod();
            assert!(!path(absent).remove_from(&mut object), "{absent}");
            assert_eq!(object, pod());
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_path_or_an_error(text in "[a-c\\[\\]=,.*0-1/ é]{0,12}") {
            if let Ok(path) = text.parse::<FieldPath>() {
                prop_assert_eq!(path.to_string(), text);
                prop_assert!(!path.steps().is_empty());
            }
        }
    }
}
