//! An Environment as the cluster has it. While plumb is upgraded, or on another machine, the custom resource definition may be a newer version's: then it
//! gives the spec fields, with their defaults, that this version does not know, and that must not keep it from reading the rest.
//!
//! A definition in git is read strictly; there a field that is not known is a mistake.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray};
use kube::CustomResourceExt as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::model::Environment;

/// Reads an Environment without the fields of its spec that this version of the definition does not have.
pub(super) struct AnyVersion(pub(super) Environment);

impl<'de> Deserialize<'de> for AnyVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        if let (Some(schema), Some(spec)) = (&*SPEC, value.get_mut("spec")) {
            prune(spec, schema);
        }
        Environment::deserialize(value).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Of the spec, as this version has it.
static SPEC: LazyLock<Option<JSONSchemaProps>> = LazyLock::new(|| {
    let version = Environment::crd().spec.versions.into_iter().next()?;
    version.schema?.open_api_v3_schema?.properties?.remove("spec")
});

/// Takes out what the schema does not have, as the API server does for a structural schema.
fn prune(value: &mut Value, schema: &JSONSchemaProps) {
    match value {
        Value::Object(fields) => {
            let Some(known) = &schema.properties else { return };
            fields.retain(|name, field| known.get(name).map(|schema| prune(field, schema)).is_some());
        }
        Value::Array(items) => {
            let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items else { return };
            items.iter_mut().for_each(|item| prune(item, schema));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_newer_version_added_is_left_out_and_the_rest_is_read() {
        let known = json!({
            "apiVersion": "plumb.dev/v1alpha1", "kind": "Environment", "metadata": {"name": "dev"},
            "spec": {
                "branch": "dev", "namespace": "n", "path": ".", "prune": {"budget": 3},
                "ignore": [{"kind": "Deployment", "name": "a", "fields": ["spec.replicas"]}],
            },
        });
        let mut newer = known.clone();
        newer["spec"]["new"] = json!({"a": [1]});
        newer["spec"]["prune"]["new"] = json!(true);
        newer["spec"]["ignore"][0]["new"] = json!("x");
        assert!(serde_json::from_value::<Environment>(newer.clone()).is_err());
        let AnyVersion(read) = serde_json::from_value(newer).unwrap();
        assert_eq!(read, serde_json::from_value(known).unwrap());
    }
}
