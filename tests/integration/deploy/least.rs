//! The rights of `deploy/`, one by one, and which of them were used: RBAC tells only of those that were missing.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::harness::{Audit, AuditEvent};

/// A verb on a resource of a group, or on a subresource of it: `pods/log`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    group: String,
    resource: String,
    pub verb: String,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, resource, verb } = self;
        write!(f, "{verb} {resource}{}{group}", if group.is_empty() { "" } else { "." })
    }
}

/// The cluster roles of `deploy/` with these names, right by right.
pub fn granted(roles: &[&str]) -> BTreeSet<Right> {
    let found: Vec<ClusterRole> = all("ClusterRole");
    let rules = |name: &&str| {
        let role = found.iter().find(|role| role.metadata.name.as_deref() == Some(*name)).expect("a role of deploy/");
        assert!(role.aggregation_rule.is_none(), "{name} takes in other roles");
        role.rules.clone().unwrap_or_default()
    };
    roles.iter().flat_map(rules).flat_map(|rule| rights(&rule)).collect()
}

fn rights(rule: &PolicyRule) -> Vec<Right> {
    assert!(rule.non_resource_urls.is_none() && rule.resource_names.is_none(), "not of the form group, kind: {rule:?}");
    let (groups, resources) = (rule.api_groups.as_deref(), rule.resources.as_deref());
    let mut all = Vec::new();
    for group in groups.unwrap_or_default() {
        for resource in resources.unwrap_or_default() {
            all.extend(rule.verbs.iter().map(|verb| right(group, resource, verb)));
        }
    }
    all
}

/// Who has which role by `deploy/`: `plumb-deployer: plumb/plumb`.
pub fn bindings() -> BTreeSet<String> {
    for kind in ["Role", "RoleBinding"] {
        assert!(all::<Value>(kind).is_empty(), "a {kind} is a right that is looked at nowhere");
    }
    let named = |binding: ClusterRoleBinding| {
        let subjects = binding.subjects.unwrap_or_default().into_iter();
        let role = binding.role_ref.name;
        subjects.map(move |subject| format!("{role}: {}/{}", subject.namespace.unwrap_or_default(), subject.name))
    };
    all("ClusterRoleBinding").into_iter().flat_map(named).collect()
}

/// What requests needed. An apply that makes its object needs the right to create beside that to patch: the API server asks for both.
pub fn used(audit: &Audit) -> BTreeSet<Right> {
    audit.only(|event| event.code() != 403).0.iter().flat_map(needed).collect()
}

fn needed(event: &AuditEvent) -> Vec<Right> {
    let object = &event.object_ref;
    let resource = match object.subresource.as_str() {
        "" => object.resource.clone(),
        subresource => format!("{}/{subresource}", object.resource),
    };
    let created = (event.verb == "patch" && event.code() == 201).then_some("create");
    [Some(event.verb.as_str()), created]
        .into_iter()
        .flatten()
        .map(|verb| right(&object.api_group, &resource, verb))
        .collect()
}

/// For a message.
pub fn listed<'a>(rights: impl Iterator<Item = &'a Right>) -> String {
    rights.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// For a literal.
pub fn right(group: &str, resource: &str, verb: &str) -> Right {
    Right { group: group.to_owned(), resource: resource.to_owned(), verb: verb.to_owned() }
}

/// The objects of a kind in all files of `deploy/`.
fn all<T: DeserializeOwned>(kind: &str) -> Vec<T> {
    let mut found = Vec::new();
    for part in ["deploy", "deploy/docker", "deploy/push"] {
        for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(part)).expect("deploy/") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a file of deploy/");
            let documents = serde_yaml::Deserializer::from_str(&text);
            let objects = documents.map(|document| Value::deserialize(document).expect("YAML"));
            let wanted = objects.filter(|object| object["kind"] == kind);
            found.extend(wanted.map(|object| serde_json::from_value(object).expect("an object of its kind")));
        }
    }
    found
}
