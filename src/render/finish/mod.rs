//! From an object as it was read to one that can be sent: checked, in its namespace, with the environment's label. Pure.
//!
//! Helm's install and upgrade hooks are kept as ordinary objects, that may be made anew as Helm would; hooks for tests, deletions and rollbacks are left out
//! ([`expand`]).

mod containers;
mod content;
mod error;
mod expand;
mod leave;
mod lists;
mod names;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

pub use containers::{Containers, rewrite};
pub use content::Nulls;
pub use error::{ObjectError, Problem};
pub use expand::{Defined, Draft, defines, expand, is_definition, is_other_hook, remark_on_hooks};
pub use leave::leave;

use crate::model::applyset::PART_OF;
use crate::model::kinds::Lookup;
use crate::model::{Digest, EnvironmentSpec, GroupKind, Kinds, Manifest, ObjectKey, Origin};
use content::wrong_type;

/// The annotation that allows an object to be deleted and made again.
const REPLACE: &str = "plumb.dev/replace";
/// What etcd takes in one request by default: 1.5 MiB.
const OBJECT_BYTES: usize = 3 << 19;

/// Finishes the objects of one environment.
pub struct Finisher<'a> {
    /// What the environment may write.
    pub spec: &'a EnvironmentSpec,
    /// The value of the ApplySet label.
    pub part_of: &'a str,
    /// The kinds that the API server serves.
    pub kinds: &'a Kinds,
    /// The kinds that the same render defines.
    pub defined: &'a Defined,
    /// What becomes of nulls.
    pub nulls: Nulls,
    /// Groups, kinds, versions and namespaces: many objects share few of them.
    pub words: Words,
}

/// Shared copies of words.
#[derive(Debug, Default)]
pub struct Words(HashSet<Arc<str>>);

impl Words {
    fn get(&mut self, word: &str) -> Arc<str> {
        if let Some(known) = self.0.get(word) {
            return known.clone();
        }
        let word: Arc<str> = word.into();
        self.0.insert(word.clone());
        word
    }
}

impl Finisher<'_> {
    /// The object as it will be sent.
    pub fn finish(&mut self, draft: Draft) -> Result<Manifest, Box<ObjectError>> {
        let Draft { origin, value } = draft;
        let mut object = None;
        self.build(value, &origin, &mut object).map_err(|problem| Box::new(ObjectError { origin, object, problem }))
    }

    fn build(&mut self, value: Value, origin: &Origin, known: &mut Option<ObjectKey>) -> Result<Manifest, Problem> {
        let mut object = match value {
            Value::Object(object) => object,
            other => return Err(Problem::NotAnObject(content::type_name(&other))),
        };
        let (kind, version) = self.kind(&object)?;
        let name = text(&object, "metadata", "name")?.ok_or(Problem::Missing("metadata.name"));
        let namespace = text(&object, "metadata", "namespace")?.filter(|namespace| !namespace.is_empty());
        let key = ObjectKey {
            namespace: namespace.as_deref().map(|namespace| self.words.get(namespace)),
            name: name.as_deref().unwrap_or("?").into(),
            kind,
        };
        let key = known.insert(key);
        content::server_managed(&mut object)?;
        names::name(&key.kind, &name?)?;
        key.namespace = self.namespace(&key.kind, &version, namespace)?;

        let mut value = Value::Object(object);
        content::check_text(&key.kind, &value)?;
        content::nulls(self.nulls, &mut value)?;
        lists::check(&key.kind, &value)?;
        if let Value::Object(object) = &mut value {
            content::by_kind(&key.kind, object)?;
            self.label(object, key.namespace.as_deref())?;
        }
        let replace_immutable = value.pointer("/metadata/annotations/plumb.dev~1replace").and_then(Value::as_str);
        let replace_immutable = match replace_immutable {
            None => false,
            Some("immutable") => true,
            Some(_) => {
                let (field, expected) = (format!("the annotation {REPLACE}"), "'immutable'");
                return Err(Problem::Type { field, found: "another word", expected });
            }
        };
        let made_anew = expand::is_made_anew(&value);
        let json = serialise(&value)?;
        let digest = Digest::of(json.get().as_bytes());
        let (key, origin) = (key.clone(), origin.clone());
        Ok(Manifest { key, version, origin, json, digest, replace_immutable, made_anew, left_alone: None })
    }

    fn kind(&mut self, object: &Map<String, Value>) -> Result<(GroupKind, Arc<str>), Problem> {
        let field = |field: &'static str| match object.get(field) {
            Some(Value::String(text)) => Ok(text.as_str()),
            None | Some(Value::Null) => Err(Problem::Missing(field)),
            Some(other) => Err(wrong_type(field.to_owned(), other, "text")),
        };
        let (group, version) = names::api_version(field("apiVersion")?)?;
        let kind = field("kind")?;
        names::kind(kind)?;
        let group_kind = GroupKind { group: self.words.get(group), kind: self.words.get(kind) };
        Ok((group_kind, self.words.get(version)))
    }

    /// The namespace the object goes to; `None` for a cluster-scoped one. A kind nobody knows is taken for a namespaced one: the plan
    /// holds it back until its definition is there, and the render is made anew then.
    fn namespace(
        &mut self,
        kind: &GroupKind,
        version: &str,
        said: Option<String>,
    ) -> Result<Option<Arc<str>>, Problem> {
        if self.is_namespaced(kind, version) {
            let namespace = said.as_deref().unwrap_or(&self.spec.namespace);
            names::namespace(namespace)?;
            if !self.spec.allows_namespace(namespace) {
                let own = self.spec.namespace.clone();
                return Err(Problem::ForeignNamespace { namespace: namespace.to_owned(), own });
            }
            return Ok(Some(self.words.get(namespace)));
        }
        if said.is_some() {
            return Err(Problem::NamespaceOnClusterScoped);
        }
        if !self.spec.allows_cluster_scoped(kind) {
            let group = if kind.group.is_empty() { String::new() } else { format!("{}/", kind.group) };
            return Err(Problem::ClusterScoped(format!("{group}{}", kind.kind)));
        }
        Ok(None)
    }

    fn is_namespaced(&self, kind: &GroupKind, version: &str) -> bool {
        match self.kinds.lookup(kind, version) {
            Lookup::Served(info) => info.namespaced,
            _ => match self.kinds.preferred(kind) {
                Some(info) => info.namespaced,
                None => self.defined.get(kind).copied().unwrap_or(true),
            },
        }
    }

    /// Adds the label, and writes the namespace into the object.
    fn label(&self, object: &mut Map<String, Value>, namespace: Option<&str>) -> Result<(), Problem> {
        let Some(Value::Object(metadata)) = object.get_mut("metadata") else {
            return Err(Problem::Missing("metadata"));
        };
        match namespace {
            Some(namespace) => metadata.insert("namespace".to_owned(), namespace.into()),
            None => metadata.remove("namespace"),
        };
        let labels = metadata.entry("labels").or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(labels) = labels else {
            return Err(wrong_type("metadata.labels".to_owned(), labels, "a mapping"));
        };
        match labels.insert(PART_OF.to_owned(), self.part_of.into()) {
            Some(other) if other != self.part_of => Err(Problem::OwnLabel(PART_OF)),
            _ => Ok(()),
        }
    }
}

/// A text inside a mapping of the object, if it is there.
fn text(object: &Map<String, Value>, outer: &'static str, field: &str) -> Result<Option<String>, Problem> {
    let inner = match object.get(outer) {
        Some(Value::Object(inner)) => inner,
        None | Some(Value::Null) => return Err(Problem::Missing(outer)),
        Some(other) => return Err(wrong_type(outer.to_owned(), other, "a mapping")),
    };
    match inner.get(field) {
        Some(Value::String(text)) => Ok(Some(text.clone())),
        None | Some(Value::Null) => Ok(None),
        Some(other) => Err(wrong_type(format!("{outer}.{field}"), other, "text")),
    }
}

fn serialise(value: &Value) -> Result<Box<RawValue>, Problem> {
    let json = serde_json::to_string(value).map_err(|_| Problem::Json)?;
    if json.len() > OBJECT_BYTES {
        return Err(Problem::TooLarge { size: json.len(), limit: OBJECT_BYTES });
    }
    RawValue::from_string(json).map_err(|_| Problem::Json)
}

/// Whether an object of this kind may have this name.
pub fn is_valid_name(kind: &GroupKind, name: &str) -> bool {
    names::name(kind, name).is_ok()
}

/// Whether a namespace may have this name.
pub fn is_valid_namespace(name: &str) -> bool {
    names::namespace(name).is_ok()
}
