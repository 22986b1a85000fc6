//! Lists whose elements have a key: two elements with one key make server-side apply answer 500, so they are refused here.
//!
//! The table holds the `x-kubernetes-list-map-keys` of the API server's OpenAPI document for what people write by hand. Lists of custom
//! resources are the API server's to check.

use std::collections::BTreeSet;

use serde_json::Value;

use super::error::Problem;
use crate::model::GroupKind;

/// A keyed list: where it is, relative to what holds it, its keys with their defaults, and keyed lists inside its elements.
struct Keyed {
    path: &'static str,
    keys: &'static [(&'static str, Option<&'static str>)],
    inside: &'static [Keyed],
}

const fn keyed(path: &'static str, keys: &'static [(&'static str, Option<&'static str>)]) -> Keyed {
    Keyed { path, keys, inside: &[] }
}

const NAME: &[(&str, Option<&str>)] = &[("name", None)];

const CONTAINER: &[Keyed] = &[
    keyed("env", NAME),
    keyed("ports", &[("containerPort", None), ("protocol", Some("TCP"))]),
    keyed("volumeMounts", &[("mountPath", None)]),
    keyed("volumeDevices", &[("devicePath", None)]),
    keyed("resources.claims", NAME),
];

const POD: &[Keyed] = &[
    Keyed { path: "containers", keys: NAME, inside: CONTAINER },
    Keyed { path: "initContainers", keys: NAME, inside: CONTAINER },
    Keyed { path: "ephemeralContainers", keys: NAME, inside: CONTAINER },
    keyed("volumes", NAME),
    keyed("imagePullSecrets", NAME),
    keyed("hostAliases", &[("ip", None)]),
    keyed("topologySpreadConstraints", &[("topologyKey", None), ("whenUnsatisfiable", None)]),
    keyed("schedulingGates", NAME),
    keyed("resourceClaims", NAME),
];

const METADATA: &[Keyed] = &[keyed("metadata.ownerReferences", &[("uid", None)])];
const SERVICE: &[Keyed] = &[keyed("spec.ports", &[("port", None), ("protocol", Some("TCP"))])];
const SERVICE_ACCOUNT: &[Keyed] = &[keyed("secrets", NAME)];
const WEBHOOKS: &[Keyed] = &[Keyed { path: "webhooks", keys: NAME, inside: &[keyed("matchConditions", NAME)] }];
const ADMISSION_POLICY: &[Keyed] = &[keyed("spec.matchConditions", NAME), keyed("spec.variables", NAME)];

/// Refuses two elements with one key in any keyed list of the object.
pub(super) fn check(kind: &GroupKind, object: &Value) -> Result<(), Problem> {
    check_all(METADATA, object, "")?;
    if let Some(path) = pod_spec(kind) {
        if let Some(spec) = at(object, path) {
            check_all(POD, spec, path)?;
        }
        return Ok(());
    }
    let lists = match (&*kind.group, &*kind.kind) {
        ("", "Service") => SERVICE,
        ("", "ServiceAccount") => SERVICE_ACCOUNT,
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy") => ADMISSION_POLICY,
        ("admissionregistration.k8s.io", _) => WEBHOOKS,
        _ => return Ok(()),
    };
    check_all(lists, object, "")
}

/// Where a kind has its pod spec.
fn pod_spec(kind: &GroupKind) -> Option<&'static str> {
    match (&*kind.group, &*kind.kind) {
        ("", "Pod") => Some("spec"),
        ("", "PodTemplate") => Some("template.spec"),
        ("batch", "CronJob") => Some("spec.jobTemplate.spec.template.spec"),
        ("", "ReplicationController")
        | ("batch", "Job")
        | ("apps", "Deployment" | "ReplicaSet" | "DaemonSet" | "StatefulSet") => Some("spec.template.spec"),
        _ => None,
    }
}

fn check_all(lists: &[Keyed], holder: &Value, prefix: &str) -> Result<(), Problem> {
    for list in lists {
        let Some(Value::Array(elements)) = at(holder, list.path) else { continue };
        let path = if prefix.is_empty() { list.path.to_owned() } else { format!("{prefix}.{}", list.path) };
        let mut seen = BTreeSet::new();
        for (index, element) in elements.iter().enumerate() {
            // An element without its key is the API server's to refuse: it names the field.
            if let Some(key) = key_of(list, element)
                && !seen.insert(key.clone())
            {
                return Err(Problem::DuplicateElement { list: path, key });
            }
            check_all(list.inside, element, &format!("{path}[{index}]"))?;
        }
    }
    Ok(())
}

fn key_of(list: &Keyed, element: &Value) -> Option<String> {
    let mut parts = Vec::with_capacity(list.keys.len());
    for (key, default) in list.keys {
        match (element.get(key), default) {
            (Some(Value::String(text)), _) => parts.push(format!("{key}={text}")),
            (Some(number @ Value::Number(_)), _) => parts.push(format!("{key}={number}")),
            (None, Some(default)) => parts.push(format!("{key}={default}")),
            _ => return None,
        }
    }
    Some(parts.join(","))
}

fn at<'value>(value: &'value Value, path: &str) -> Option<&'value Value> {
    path.split('.').try_fold(value, |value, field| value.get(field))
}
