//! The values that an object has at the paths of a set.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Canonical, Element, FieldSet, Node};

/// One path, and what two objects have there.
#[derive(Debug, Clone, PartialEq)]
pub struct Found<'a> {
    /// The path for people.
    pub path: String,
    /// What the one has.
    pub one: Option<&'a Value>,
    /// What the other has.
    pub other: Option<&'a Value>,
    /// How often the other has it: a list may name an item twice, which then is nobody's.
    pub times: usize,
}

impl FieldSet {
    /// What two objects have at each path of the set. Of a path and those below it only the first is told, unless both objects have something there.
    pub fn lookup<'a>(&self, one: &'a Value, other: &'a Value) -> Vec<Found<'a>> {
        let mut found = Vec::new();
        self.walk("", Some(one), Some(other), &mut found);
        found
    }

    /// The paths of the set at which two objects have different values. Of a path and those below it only the first is named, unless both objects have
    /// something there.
    pub fn differing(&self, one: &Value, other: &Value) -> Self {
        let mut differing = Self::default();
        for (element, node) in &self.children {
            let alike = element.times(one) == element.times(other);
            let (one, other) = (element.find(one), element.find(other));
            let node = match (one, other) {
                _ if !alike => Node { member: true, below: Self::default() },
                (Some(one), Some(other)) if !node.below.is_empty() => {
                    Node { member: false, below: node.below.differing(one, other) }
                }
                (one, other) => Node { member: one != other, below: Self::default() },
            };
            if node.any() {
                differing.children.insert(element.clone(), node);
            }
        }
        differing
    }

    fn walk<'a>(&self, parent: &str, one: Option<&'a Value>, other: Option<&'a Value>, found: &mut Vec<Found<'a>>) {
        for (element, node) in &self.children {
            let path = element.after(parent);
            let times = other.map_or(0, |other| element.times(other));
            let (one, other) = (one.and_then(|one| element.find(one)), other.and_then(|other| element.find(other)));
            let goes_on = !node.below.is_empty() && (!node.member || (one.is_some() && other.is_some()));
            if goes_on && times < 2 {
                node.below.walk(&path, one, other, found);
            } else {
                found.push(Found { path, one, other, times });
            }
        }
    }
}

impl Element {
    /// What a value has at this element. A list item is found by its key fields; one that the API server defaults may be missing in a manifest.
    pub(super) fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        match self {
            Self::Field(name) => value.get(&**name),
            Self::Key(fields) => {
                let items = value.as_array()?;
                let nearly =
                    |item: &&Value| has(item, fields, false) && fields.keys().any(|name| item.get(name).is_some());
                items.iter().find(|item| has(item, fields, true)).or_else(|| items.iter().find(nearly))
            }
            Self::Item(wanted) => value.as_array()?.iter().find(|item| Canonical::of(item) == *wanted),
            Self::Index(index) => value.as_array()?.get(usize::try_from(*index).ok()?),
        }
    }

    /// How often a value has something at this element.
    fn times(&self, value: &Value) -> usize {
        match (self, value) {
            (Self::Key(fields), Value::Array(items)) => {
                let exact = items.iter().filter(|item| has(item, fields, true)).count();
                exact.max(usize::from(self.find(value).is_some()))
            }
            _ => usize::from(self.find(value).is_some()),
        }
    }
}

/// Whether a list item has these key fields; not strictly, if it has no other.
fn has(item: &Value, fields: &BTreeMap<String, Canonical>, strictly: bool) -> bool {
    fields.iter().all(|(name, wanted)| match item.get(name) {
        Some(value) => Canonical::of(value) == *wanted,
        None => !strictly,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(set: Value, one: &Value, other: &Value) -> Vec<String> {
        let text = |value: Option<&Value>| value.map_or("-".to_owned(), Value::to_string);
        let found = FieldSet::from_value(&set).unwrap();
        found.lookup(one, other).iter().map(|f| format!("{} {} {}", f.path, text(f.one), text(f.other))).collect()
    }

    #[test]
    fn values_are_found_by_field_key_item_and_index() {
        let one = json!({"spec": {"replicas": 2, "ports": [{"port": 80}], "list": ["a", "b"]}});
        let other =
            json!({"spec": {"replicas": 5, "ports": [{"port": 80, "protocol": "TCP", "name": "x"}], "list": ["b"]}});
        let set = json!({"f:spec": {
            "f:replicas": {},
            "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {"f:name": {}}},
            "f:list": {"v:\"a\"": {}, "i:0": {}},
        }});
        assert_eq!(
            told(set, &one, &other),
            [
                "spec.list[=a] \"a\" -",
                "spec.list[0] \"a\" \"b\"",
                "spec.ports[port=80,protocol=TCP].name - \"x\"",
                "spec.replicas 2 5"
            ]
        );
    }

    #[test]
    fn an_item_that_is_gone_is_told_once() {
        let one = json!({"env": [{"name": "A", "value": "1"}]});
        let set = json!({"f:env": {"k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}}});
        assert_eq!(told(set, &one, &json!({"env": []})), ["env[name=A] {\"name\":\"A\",\"value\":\"1\"} -"]);
    }

    #[test]
    fn values_that_differ_are_named_by_their_paths() {
        let set = FieldSet::from_value(&json!({"f:data": {"f:a": {}, "f:b": {}, "f:c": {}}, "f:env": {
            "k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}},
            "k:{\"name\":\"B\"}": {".": {}, "f:name": {}, "f:value": {}},
        }}))
        .unwrap();
        let one = json!({"data": {"a": "1", "b": "2", "z": "1"}, "env": [{"name": "A", "value": "1"}, {"name": "B"}]});
        let other = json!({"data": {"a": "1", "b": "3", "c": "4"}, "env": [{"name": "A", "value": "2", "more": 1}]});
        assert_eq!(set.differing(&one, &other).paths(), ["data.b", "data.c", "env[name=A].value", "env[name=B]"]);
        assert!(set.differing(&one, &one).is_empty());
    }

    #[test]
    fn an_item_that_is_there_twice_is_told_as_a_whole() {
        let set = json!({"f:env": {"k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}}});
        let set = FieldSet::from_value(&set).unwrap();
        let one = json!({"env": [{"name": "A", "value": "1"}]});
        let twice = json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]});
        let found = set.lookup(&one, &twice);
        assert_eq!((found.len(), &*found[0].path, found[0].times), (1, "env[name=A]", 2));
        assert_eq!(set.differing(&one, &twice).paths(), ["env[name=A]"]);
        assert!(set.differing(&twice, &twice).is_empty());
    }
}
