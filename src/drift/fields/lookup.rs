//! The values that an object has at the paths of a set.

use serde_json::Value;

use super::{Canonical, Element, FieldSet};

/// One path, and what two objects have there.
#[derive(Debug, Clone, PartialEq)]
pub struct Found<'a> {
    /// The path for people.
    pub path: String,
    /// What the one has.
    pub one: Option<&'a Value>,
    /// What the other has.
    pub other: Option<&'a Value>,
}

impl FieldSet {
    /// What two objects have at each path of the set. Of a path and those below it only the first is told, unless both objects have something there.
    pub fn lookup<'a>(&self, one: &'a Value, other: &'a Value) -> Vec<Found<'a>> {
        let mut found = Vec::new();
        self.walk("", Some(one), Some(other), &mut found);
        found
    }

    fn walk<'a>(&self, parent: &str, one: Option<&'a Value>, other: Option<&'a Value>, found: &mut Vec<Found<'a>>) {
        for (element, node) in &self.children {
            let path = element.after(parent);
            let (one, other) = (one.and_then(|one| element.find(one)), other.and_then(|other| element.find(other)));
            let goes_on = !node.below.is_empty() && (!node.member || (one.is_some() && other.is_some()));
            if goes_on {
                node.below.walk(&path, one, other, found);
            } else {
                found.push(Found { path, one, other });
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
                let is = |item: &Value, strict: bool| {
                    fields.iter().all(|(name, wanted)| match item.get(name) {
                        Some(value) => Canonical::of(value) == *wanted,
                        None => !strict,
                    })
                };
                let nearly = |item: &&Value| is(item, false) && fields.keys().any(|name| item.get(name).is_some());
                items.iter().find(|item| is(item, true)).or_else(|| items.iter().find(nearly))
            }
            Self::Item(wanted) => value.as_array()?.iter().find(|item| Canonical::of(item) == *wanted),
            Self::Index(index) => value.as_array()?.get(usize::try_from(*index).ok()?),
        }
    }
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
}
