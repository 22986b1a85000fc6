//! The places that an API server's refusal names, and what a field set has there.

use serde_json::Value;

use super::{Element, FieldSet, Node};

/// A field as `details.causes[].field` of a `metav1.Status` names it: `spec.template.spec.containers[0].env[0].valueFrom`. List elements are told by
/// their index in an object that we don't have, so a place means any element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(Box<str>),
    AnyElement,
}

impl Place {
    /// Reads a field's path. Any text is one; most name nothing.
    pub fn parse(field: &str) -> Self {
        let mut steps = Vec::new();
        let mut rest = field;
        while !rest.is_empty() {
            let (step, after) = match rest.strip_prefix('[') {
                Some(inside) => inside.split_once(']').unwrap_or((inside, "")),
                None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
            };
            let is_index = rest.starts_with('[') && step.bytes().all(|byte| byte.is_ascii_digit());
            steps.push(if is_index { Step::AnyElement } else { Step::Field(step.into()) });
            rest = after.strip_prefix('.').unwrap_or(after);
        }
        Self(steps)
    }
}

impl Step {
    fn is(&self, element: &Element) -> bool {
        match (self, element) {
            (Self::Field(name), Element::Field(field)) => name == field,
            (Self::AnyElement, Element::Key(_) | Element::Item(_) | Element::Index(_)) => true,
            _ => false,
        }
    }
}

impl FieldSet {
    /// The paths at a place or beside it, inside of what `object` has. Beside a field of `spec` there is all of `spec`, which is too much: nothing.
    pub fn beside(&self, place: &Place, object: &Value) -> Self {
        match place.0.as_slice() {
            [parent @ .., _] if parent.len() > 1 => self.below(parent, object),
            _ => Self::default(),
        }
    }

    fn below(&self, steps: &[Step], object: &Value) -> Self {
        let Some((first, rest)) = steps.split_first() else { return self.clone() };
        self.select(|element, node| match element.find(object) {
            Some(found) if first.is(element) => Node { member: false, below: node.below.below(rest, found) },
            _ => Node::default(),
        })
    }

    /// What a live object has at a place and git has not, owned or not. This set, of what has owners, tells list elements by their keys.
    pub fn standing_at(&self, place: &Place, live: &Value, git: &Value) -> Self {
        self.at(&place.0, live, git)
    }

    fn at(&self, steps: &[Step], live: &Value, git: &Value) -> Self {
        match steps.split_first() {
            None => Self::default(),
            Some((Step::Field(name), rest)) => {
                let Some(found) = live.get(&**name) else { return Self::default() };
                let element = Element::Field(name.clone());
                let below = match (git.get(&**name), rest) {
                    (None, []) => return Self::of(element, whole(found)),
                    (None, _) | (Some(_), []) => return Self::default(),
                    (Some(git), rest) => match self.children.get(&element) {
                        Some(node) => node.below.at(rest, found, git),
                        None => Self::default().at(rest, found, git),
                    },
                };
                Self::of(element, Node { member: false, below })
            }
            Some((Step::AnyElement, rest)) => {
                let mut all = Self::default();
                for (element, node) in self.children.iter().filter(|(element, _)| Step::AnyElement.is(element)) {
                    if let (Some(live), Some(git)) = (element.find(live), element.find(git)) {
                        all.extend(&Self::of(
                            element.clone(),
                            Node { member: false, below: node.below.at(rest, live, git) },
                        ));
                    }
                }
                all
            }
        }
    }

    /// The set of one child, or of none if it has no path.
    fn of(element: Element, node: Node) -> Self {
        let has_path = node.member || !node.below.is_empty();
        Self { children: has_path.then_some((element, node)).into_iter().collect() }
    }
}

/// A value with all fields below. A list is one field: its keys are not known.
fn whole(value: &Value) -> Node {
    let mut below = FieldSet::default();
    for (name, value) in value.as_object().into_iter().flatten() {
        below.children.insert(Element::Field(name.as_str().into()), whole(value));
    }
    Node { member: true, below }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_the_api_server_writes_them() {
        let field = |name: &str| Step::Field(name.into());
        assert_eq!(
            Place::parse("spec.containers[0].env[12].valueFrom").0,
            [field("spec"), field("containers"), Step::AnyElement, field("env"), Step::AnyElement, field("valueFrom")]
        );
        assert_eq!(
            Place::parse("metadata.annotations[a.b/c]").0,
            [field("metadata"), field("annotations"), field("a.b/c")]
        );
        assert_eq!(Place::parse("data[x]").0, [field("data"), field("x")]);
        assert!(Place::parse("").0.is_empty());
        assert_eq!(Place::parse("a[").0, [field("a"), Step::AnyElement], "no more than odd");
    }
}
