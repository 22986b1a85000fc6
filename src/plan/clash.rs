//! What two environments claim at once, as far as their renders alone show it: for people who look before they push, and for whoever has it already.

use std::collections::BTreeMap;

use crate::model::{Desired, EnvironmentSpec, ObjectKey};

/// Something that two environments claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// One of them, which renders the object.
    pub one: String,
    /// The other.
    pub other: String,
    /// The object.
    pub object: ObjectKey,
    /// The other does not render it: it is its own namespace.
    pub home: bool,
}

impl Clash {
    /// What is to be told of it to one of the two, but for the object.
    pub fn words(&self, to: &str) -> String {
        let Self { one, other, .. } = self;
        let peer = if to == one { other } else { one };
        match (self.home, to == one) {
            (false, _) => format!("environment {peer} asks for it too; remove it from one of the two"),
            (true, true) => format!("it is environment {peer}'s own namespace; remove it here"),
            (true, false) => format!("it is {to}'s own namespace, and environment {peer} asks for it"),
        }
    }
}

/// All that two of these environments claim at once.
pub fn clashes(environments: &BTreeMap<String, (&EnvironmentSpec, &Desired)>) -> Vec<Clash> {
    let mut first: BTreeMap<&ObjectKey, &String> = BTreeMap::new();
    let mut clashes = Vec::new();
    for (name, (_, desired)) in environments {
        for object in desired.objects.iter().map(|manifest| &manifest.key) {
            if let Some(other) = first.get(object) {
                let (one, other) = ((*other).clone(), name.clone());
                clashes.push(Clash { one, other, object: object.clone(), home: false });
                continue;
            }
            first.insert(object, name);
        }
    }
    for (object, one) in first.iter().filter(|(object, _)| object.kind.is("", "Namespace")) {
        let others = environments.iter().filter(|(name, (spec, _))| name != one && *spec.namespace == *object.name);
        let clash =
            |other: &String| Clash { one: (*one).clone(), other: other.clone(), object: (*object).clone(), home: true };
        clashes.extend(others.map(|(other, _)| clash(other)));
    }
    clashes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::world::{COMMIT, config_map, manifest};

    fn spec(namespace: &str) -> EnvironmentSpec {
        serde_json::from_value(serde_json::json!({"branch": "b", "namespace": namespace, "path": "."})).unwrap()
    }

    fn asks(objects: &[ObjectKey]) -> Desired {
        let objects = objects.iter().map(|key| manifest(key, 1)).collect();
        Desired::only(COMMIT, objects)
    }

    #[test]
    fn an_object_and_a_namespace_are_told_to_both() {
        let namespace = ObjectKey::new("", "Namespace", "", "home");
        let (shared, home) = (spec("todo"), spec("home"));
        let (dev, qa) = (asks(&[config_map("a"), config_map("b")]), asks(&[config_map("b"), namespace]));
        let nothing = asks(&[]);
        let all: BTreeMap<String, (&EnvironmentSpec, &Desired)> = [
            ("dev".to_owned(), (&shared, &dev)),
            ("qa".to_owned(), (&shared, &qa)),
            ("prod".to_owned(), (&home, &nothing)),
        ]
        .into();
        let clashes = clashes(&all);
        let told: Vec<[String; 2]> = clashes
            .iter()
            .map(|clash| [&clash.one, &clash.other].map(|to| format!("{}: {}", clash.object, clash.words(to))))
            .collect();
        assert_eq!(
            told,
            [
                [
                    "ConfigMap/todo/b: environment qa asks for it too; remove it from one of the two",
                    "ConfigMap/todo/b: environment dev asks for it too; remove it from one of the two"
                ],
                [
                    "Namespace/home: it is environment prod's own namespace; remove it here",
                    "Namespace/home: it is prod's own namespace, and environment qa asks for it"
                ],
            ]
        );
    }

    #[test]
    fn one_namespace_for_two_is_no_clash_as_long_as_their_objects_differ() {
        let (spec, one, two) = (spec("todo"), asks(&[config_map("a")]), asks(&[config_map("b")]));
        let all = [("one".to_owned(), (&spec, &one)), ("two".to_owned(), (&spec, &two))].into();
        assert!(clashes(&all).is_empty());
    }
}
