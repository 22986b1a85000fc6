//! Parts of a field set: what paths cover, what an object has, with its values.

use serde_json::{Map, Value};

use super::{Canonical, Element, FieldSet, Node};
use crate::model::FieldPath;
use crate::model::field_path::PathStep;

/// Fields in which controllers leave marks in objects of others.
const MARKS: [&str; 3] = ["annotations", "ownerReferences", "caBundle"];
/// Another, unless git has a list of its own there.
const FINALIZERS: &str = "finalizers";

impl FieldSet {
    /// The paths that one of these field paths names, or that are below one.
    pub fn inside(&self, paths: &[FieldPath]) -> Self {
        self.inside_of(&steps_of(paths))
    }

    fn inside_of(&self, paths: &[&[PathStep]]) -> Self {
        self.select(|element, node| match below(element, paths) {
            None => node.clone(),
            Some(paths) => Node { member: false, below: node.below.inside_of(&paths) },
        })
    }

    /// The paths that are not [`inside`](Self::inside).
    pub fn outside(&self, paths: &[FieldPath]) -> Self {
        self.outside_of(&steps_of(paths))
    }

    fn outside_of(&self, paths: &[&[PathStep]]) -> Self {
        self.select(|element, node| match below(element, paths) {
            None => Node::default(),
            Some(paths) => Node { member: node.member, below: node.below.outside_of(&paths) },
        })
    }

    /// The paths that this object has. A list element that lacks a part of its key is the one with the default: git leaves defaults out.
    pub fn present_in(&self, object: &Value) -> Self {
        self.select(|element, node| match element.find(object) {
            None => Node::default(),
            Some(found) => Node { member: node.member, below: node.below.present_in(found) },
        })
    }

    /// The paths that are additions to what `ours` has: outside of it, but not in a part of the object in which it has nothing; no `status`, and no marks ([`MARKS`], [`FINALIZERS`]).
    pub fn added_to(&self, ours: &Self) -> Self {
        self.select(|part, node| match ours.children.get(part) {
            Some(ours) if !matches!(part, Element::Field(name) if **name == *"status") => {
                Node { member: false, below: node.below.beyond(&ours.below) }
            }
            _ => Node::default(),
        })
    }

    fn beyond(&self, ours: &Self) -> Self {
        self.select(|element, node| match (element, ours.children.get(element)) {
            (Element::Field(name), _) if MARKS.contains(&&**name) => Node::default(),
            (Element::Field(name), None) if **name == *FINALIZERS => Node::default(),
            // What holds something of ours is no addition.
            (_, Some(ours)) => Node { member: false, below: node.below.beyond(&ours.below) },
            (_, None) => Node { member: node.member, below: node.below.beyond(&Self::default()) },
        })
    }

    /// The paths but for those of finalizers: whoever holds an object has its reason.
    pub fn without_finalizers(&self) -> Self {
        let field = |element: &Element, is: &str| matches!(element, Element::Field(name) if **name == *is);
        self.select(|element, node| match field(element, "metadata") {
            true => {
                let kept = |element: &Element, node: &Node| match field(element, FINALIZERS) {
                    true => Node::default(),
                    false => node.clone(),
                };
                Node { member: node.member, below: node.below.select(kept) }
            }
            false => node.clone(),
        })
    }

    /// The paths at which this object has an empty object or list.
    pub fn empty_in(&self, object: &Value) -> Self {
        self.select(|element, node| match element.find(object) {
            None => Node::default(),
            Some(found) => Node { member: node.member && is_empty(found), below: node.below.empty_in(found) },
        })
    }

    /// The paths that are below one of those.
    pub fn under(&self, paths: &Self) -> Self {
        self.select(|element, node| match paths.children.get(element) {
            None => Node::default(),
            Some(above) if above.member => Node { member: false, below: node.below.clone() },
            Some(above) => Node { member: false, below: node.below.under(&above.below) },
        })
    }

    /// The object cut down to these paths: what an apply of exactly these fields sends. List elements keep their keys.
    pub fn pick(&self, object: &Value) -> Value {
        let children: Vec<_> = self
            .children
            .iter()
            .filter_map(|(element, node)| Some((element, node, element.find(object)?)))
            .map(|(element, node, found)| {
                (element, if node.below.is_empty() { found.clone() } else { node.below.pick(found) })
            })
            .collect();
        if !object.is_array() {
            let field = |(element, value): (&Element, Value)| match element {
                Element::Field(name) => Some((name.to_string(), value)),
                _ => None,
            };
            return Value::Object(children.into_iter().filter_map(field).collect());
        }
        let with_key = |(element, mut value): (&Element, Value)| {
            if let (Element::Key(key), Value::Object(map)) = (element, &mut value) {
                for (name, of_key) in key {
                    map.entry(name).or_insert_with(|| of_key.value());
                }
            }
            value
        };
        Value::Array(children.into_iter().map(with_key).collect())
    }
}

/// Whether there is nothing in it.
pub fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

fn steps_of(paths: &[FieldPath]) -> Vec<&[PathStep]> {
    paths.iter().map(FieldPath::steps).collect()
}

/// What is left of the paths below this element; `None` if one of them ends here and so covers all that is below.
fn below<'p>(element: &Element, paths: &[&'p [PathStep]]) -> Option<Vec<&'p [PathStep]>> {
    let mut rests = Vec::new();
    for (first, rest) in paths.iter().filter_map(|path| path.split_first()) {
        match element.is(first) {
            true if rest.is_empty() => return None,
            true => rests.push(rest),
            false => {}
        }
    }
    Some(rests)
}

impl Element {
    /// Whether a step of a field path means this element.
    fn is(&self, step: &PathStep) -> bool {
        match (self, step) {
            (Self::Field(name), PathStep::Field(field)) => name == field,
            (Self::Key(key), PathStep::Key(pairs)) => {
                pairs.iter().all(|(name, value)| key.get(&**name).is_some_and(|of_key| *of_key.bare() == **value))
            }
            (Self::Item(item), PathStep::Item(value)) => *item.bare() == **value,
            _ => false,
        }
    }
}

impl Canonical {
    fn value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::drift::fields::tests::set;
    use crate::model::field_path::FieldPathError;

    const APP: &str = r#"k:{"name":"app"}"#;

    fn deployment() -> FieldSet {
        let port = |protocol: &str| format!("k:{}", json!({"containerPort": 80, "protocol": protocol}));
        FieldSet::from_value(&json!({
            "f:metadata": {"f:annotations": {"f:example.com/x": {}}, "f:finalizers": {"v:\"a\"": {}}},
            "f:spec": {"f:replicas": {}, "f:containers": {APP: {
                ".": {}, "f:name": {}, "f:image": {}, "f:args": {},
                "f:ports": {port("TCP"): {".": {}, "f:containerPort": {}}, port("UDP"): {".": {}, "f:name": {}}},
            }}},
        }))
        .unwrap()
    }

    fn paths(texts: &[&str]) -> Vec<FieldPath> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_path_covers_itself_and_what_is_below() {
        let inside = |text: &str| deployment().inside(&paths(&[text])).paths();
        assert_eq!(inside("spec.replicas"), ["spec.replicas"]);
        assert_eq!(inside("metadata.annotations[example.com/x]"), ["metadata.annotations[example.com/x]"]);
        assert_eq!(inside("metadata.finalizers[=a]"), ["metadata.finalizers[=a]"]);
        assert_eq!(inside("spec.containers[name=app].ports[containerPort=80]").len(), 4);
        assert_eq!(inside("spec.containers[name=app].ports[protocol=UDP]").len(), 2);
        assert_eq!(inside("spec").len(), 9);
        assert!(inside("spec.containers[name=other]").is_empty() && inside("spec.replicas.x").is_empty());
    }

    #[test]
    fn a_path_printed_is_a_path_read() {
        for printed in deployment().paths() {
            match printed.parse::<FieldPath>() {
                Ok(path) => assert!(deployment().inside(&[path]).paths().contains(&printed), "{printed}"),
                Err(error) => assert_eq!(error, FieldPathError::ElementKey(printed)),
            }
        }
    }

    #[test]
    fn an_object_cut_down_is_what_an_apply_of_these_fields_sends() {
        let live = json!({
            "metadata": {"name": "web", "annotations": {"example.com/x": "1", "other": "2"}, "finalizers": ["b", "a"]},
            "spec": {"replicas": 3, "paused": false, "containers": [
                {"name": "side", "image": "s"},
                {"name": "app", "image": "i", "args": ["x", "y"], "stdin": true, "ports": [
                    {"containerPort": 80, "protocol": "UDP", "name": "dns"}, {"containerPort": 80, "protocol": "TCP", "name": "web"},
                ]},
            ]},
        });
        let all = deployment();
        assert_eq!(
            all.pick(&live),
            json!({
                "metadata": {"annotations": {"example.com/x": "1"}, "finalizers": ["a"]},
                "spec": {"replicas": 3, "containers": [{"name": "app", "image": "i", "args": ["x", "y"], "ports": [
                    {"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "UDP", "name": "dns"},
                ]}]},
            })
        );
        let image = all.inside(&paths(&["spec.containers[name=app].image"]));
        assert_eq!(image.pick(&live), json!({"spec": {"containers": [{"name": "app", "image": "i"}]}}));
        assert_eq!(all.pick(&json!({"spec": {"containers": []}})), json!({"spec": {"containers": []}}));
        assert_eq!(all.pick(&json!("odd")), json!({}));
    }

    #[test]
    fn what_is_present_is_found_by_its_key_with_defaults_left_out() {
        let git = json!({"spec": {"containers": [{"name": "app", "ports": [{"containerPort": 80, "protocol": "UDP"}, {"containerPort": 80}]}]}});
        let present = deployment().present_in(&git);
        assert_eq!(
            present.paths(),
            [
                "spec.containers[name=app]",
                "spec.containers[name=app].name",
                "spec.containers[name=app].ports[containerPort=80,protocol=TCP]",
                "spec.containers[name=app].ports[containerPort=80,protocol=TCP].containerPort",
                "spec.containers[name=app].ports[containerPort=80,protocol=UDP]",
            ]
        );
        assert!(deployment().present_in(&json!({})).is_empty());
    }

    proptest! {
        #[test]
        fn inside_and_outside_make_the_whole(set in set(), which in any::<prop::sample::Index>()) {
            let printed = set.paths();
            if printed.is_empty() {
                return Ok(());
            }
            // Keys of this generator's fields may hold what a path can't say.
            let Ok(path) = printed[which.index(printed.len())].parse::<FieldPath>() else { return Ok(()) };
            let (inside, outside) = (set.inside(std::slice::from_ref(&path)), set.outside(&[path]));
            prop_assert_eq!(&inside.union(&outside), &set);
            prop_assert!(inside.intersection(&outside).is_empty());
        }
    }
}
