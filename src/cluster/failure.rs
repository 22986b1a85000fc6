//! From an API server's refusal to a failure that a person can act on.

use kube::core::Status;

use super::error::ClusterError;
use crate::model::secret::Redactor;
use crate::model::{Desired, Failure, Manifest, Stage, mask};

/// The failure of one object's write. Secret values of the object are taken out of the server's words, which quote what they refuse.
pub fn of_object(stage: Stage, manifest: &Manifest, error: &ClusterError) -> Failure {
    let reason = match error {
        ClusterError::Refused { status, .. } => said(status),
        other => other.to_string(),
    };
    let mut failure = Failure::new(stage, redactor(manifest).redact(&reason));
    failure.transient = error.is_transient();
    failure.hint = hint(error);
    failure.on(manifest.key.clone()).at(manifest.origin.clone())
}

/// The failure of something that is not one object's.
pub fn of_stage(stage: Stage, error: &ClusterError) -> Failure {
    let mut failure = Failure::new(stage, error.to_string());
    failure.transient = error.is_transient();
    failure.hint = hint(error);
    failure
}

fn said(status: &Status) -> String {
    let message = if status.message.is_empty() { &status.reason } else { &status.message };
    format!("the API server refuses it: {message}")
}

fn hint(error: &ClusterError) -> Option<String> {
    let hint = match error.code() {
        401 => "renew the credentials in the kubeconfig",
        403 if is_terminating(error) => "its namespace is being deleted; plumb tries again when it is gone",
        403 => "grant the right by RBAC to the user or service account named there; plumb tries again by itself",
        404 => "its namespace or kind went away; plumb tries again by itself",
        413 => "the object is larger than the API server takes (3 MiB a request)",
        400 | 422 => "correct the object in git",
        500 if is_of_no_such_type(error) => "correct the object in git",
        500 if error.is_unmergeable() => {
            "the API server can't merge the object; a list key given twice is the usual cause"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// Server-side apply answers 500 to a field that its kind does not have, and to a value of another type than the field's
/// (apimachinery `util/managedfields/internal/structuredmerge.go`): a fault of the object all the same.
fn is_of_no_such_type(error: &ClusterError) -> bool {
    let typed = "failed to create typed patch object";
    let theirs =
        |message: &str| ["field not declared in schema", "expected "].iter().any(|words| message.contains(words));
    error.status().is_some_and(|status| status.message.starts_with(typed) && theirs(&status.message))
}

/// Whether the server refuses because the namespace is being deleted.
pub fn is_terminating(error: &ClusterError) -> bool {
    let causes = error.status().and_then(|status| status.details.as_ref()).map(|details| &details.causes);
    causes.is_some_and(|causes| causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
}

/// A redactor for all values of a Secret, as they are and in base64; of other kinds for the values that sound secret.
fn redactor(manifest: &Manifest) -> Redactor {
    Redactor::new(secret_values(manifest))
}

/// The same for all objects of a commit.
pub fn redactor_of(desired: &Desired) -> Redactor {
    Redactor::new(desired.objects.iter().flat_map(|manifest| secret_values(manifest)))
}

fn secret_values(manifest: &Manifest) -> Vec<String> {
    use base64::Engine as _;
    let value: serde_json::Value = serde_json::from_str(manifest.as_made().json.get()).unwrap_or_default();
    if !manifest.key.kind.is("", "Secret") {
        return mask::secrets_in(&value);
    }
    let mut values = Vec::new();
    for encoded in value.get("data").and_then(|data| data.as_object()).into_iter().flat_map(|data| data.values()) {
        let Some(encoded) = encoded.as_str() else { continue };
        if let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(encoded) {
            let value = String::from_utf8_lossy(&bytes).into_owned();
            // Messages quote a value as Go does, or show one line of it.
            values.push(serde_json::Value::from(value.as_str()).to_string().trim_matches('"').to_owned());
            values.extend(value.lines().map(str::to_owned));
            values.push(value);
        }
        values.push(encoded.to_owned());
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::world;
    use serde_json::json;

    /// An immutable template is quoted whole, with the values of its environment.
    #[test]
    fn a_refusal_that_quotes_the_object_is_told_without_its_secrets() {
        let template =
            json!({"containers": [{"env": [{"name": "DB_PASSWORD", "value": "canary"}], "args": ["--token=canary2"]}]});
        let key = world::key("batch", "Job", "j");
        let manifest = world::manifest_of(&key, "v1", json!({"spec": {"template": template}}));
        let message =
            format!("Job.batch \"j\" is invalid: spec.template: Invalid value: {template}: field is immutable");
        let status = Box::new(Status { code: 422, message, ..Status::default() });
        let error = ClusterError::Refused { what: "apply Job/n/j".to_owned(), status };
        let failure = of_object(Stage::Apply, &manifest, &error).to_string();
        assert!(!failure.contains("canary") && failure.contains("field is immutable"), "{failure}");
    }
}
