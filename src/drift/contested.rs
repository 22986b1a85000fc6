//! What keeps our fields from being applied: fields beside them that the API server does not let stand together with ours.
//!
//! Server-side apply takes out only what its own manager owned. Where somebody turned `value` into `valueFrom`, or a default came along with the
//! former `strategy.type`, the merged object is refused with 422, however often it is applied. The refusal names the place; what stands there and is not
//! in git has to become ours first, so that the next apply takes it out.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;

use super::fields::{FieldSet, FieldsError, Place};
use super::ownership::{fields, is_apply_of, is_main};
use crate::model::FieldPath;

/// An object of ours that the API server refused to apply.
pub struct Contested<'a> {
    /// The live `managedFields`.
    pub entries: &'a [ManagedFieldsEntry],
    /// Our field manager.
    pub manager: &'a str,
    /// The `apiVersion` that git has the object in. Entries of another one name paths that may mean something else.
    pub api_version: &'a str,
    /// The live object, in that version.
    pub live: &'a Value,
    /// The object in git.
    pub git: &'a Value,
    /// Fields that are nobody's business of ours.
    pub left_alone: &'a [FieldPath],
}

impl Contested<'_> {
    /// What stands in the way of our fields, by the fields that the refusal names: what others own beside one of them, inside of what git has, and all
    /// that stands at the very place, defaults that nobody owns too. Nothing of it is in git.
    pub fn in_the_way(&self, refused: &[&str]) -> Result<FieldSet, FieldsError> {
        let (mut others, mut all) = (FieldSet::default(), FieldSet::default());
        for entry in self.entries.iter().filter(|entry| entry.api_version.as_deref() == Some(self.api_version)) {
            let owned = fields(entry)?;
            all = all.union(&owned);
            let foreign = entry.subresource.as_deref().unwrap_or_default().is_empty()
                && !is_apply_of(entry, self.manager)
                && (is_main(entry, "Apply") || is_main(entry, "Update"));
            if foreign {
                others = others.union(&owned);
            }
        }
        let others = others.difference(&others.present_in(self.git));
        let mut found = FieldSet::default();
        for place in refused.iter().map(|field| Place::parse(field)) {
            found = found.union(&others.beside(&place, self.git)).union(&all.standing_at(&place, self.live, self.git));
        }
        Ok(found.outside(self.left_alone))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DEV: &str = "plumb-dev";
    const APP: &str = r#"k:{"name":"app"}"#;
    const X: &str = r#"k:{"name":"X"}"#;

    fn entry(manager: &str, operation: &str, fields: Value) -> ManagedFieldsEntry {
        serde_json::from_value(
            json!({"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsV1": fields}),
        )
        .unwrap()
    }

    fn env(fields: Value) -> Value {
        json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {APP: {"f:env": fields}}}}}})
    }

    fn pod(env: Value, volumes: Value) -> Value {
        json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "i", "env": env}], "volumes": volumes}}}})
    }

    fn found(entries: &[ManagedFieldsEntry], live: &Value, git: &Value, refused: &str) -> Vec<String> {
        let contested = Contested { entries, manager: DEV, api_version: "apps/v1", live, git, left_alone: &[] };
        contested.in_the_way(&[refused]).unwrap().paths()
    }

    #[test]
    fn a_foreign_sibling_is_taken_and_nothing_else() {
        let entries = [
            entry(DEV, "Apply", env(json!({X: {".": {}, "f:name": {}}}))),
            entry(
                "kubectl-edit",
                "Update",
                env(
                    json!({".": {}, X: {"f:valueFrom": {".": {}, "f:fieldRef": {}}}, "k:{\"name\":\"Y\"}": {".": {}, "f:name": {}}}),
                ),
            ),
        ];
        let live = pod(json!([{"name": "X", "valueFrom": {"fieldRef": {}}}, {"name": "Y"}]), json!([]));
        let git = pod(json!([{"name": "X", "value": "1"}]), json!([]));
        let at = "spec.template.spec.containers[name=app].env[name=X]";
        let expected = [format!("{at}.valueFrom"), format!("{at}.valueFrom.fieldRef")];
        // The refusal may name the one or the other.
        assert_eq!(found(&entries, &live, &git, "spec.template.spec.containers[0].env[0].valueFrom"), expected);
        assert_eq!(found(&entries, &live, &git, "spec.template.spec.containers[0].env[0].value"), expected);
        assert!(found(&entries, &live, &git, "spec.template.spec.containers[0].image.x").is_empty());
        assert!(found(&entries, &live, &git, "spec.selector").is_empty(), "another part of the object");
    }

    #[test]
    fn what_nobody_owns_is_taken_at_the_very_place() {
        let git = json!({"spec": {"strategy": {"type": "Recreate"}, "paused": true}});
        let live = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}}, "progressDeadlineSeconds": 600}});
        let ours = json!({"f:spec": {"f:strategy": {"f:type": {}}}});
        let entries = [entry(DEV, "Apply", ours)];
        let rolling = ["spec.strategy.rollingUpdate", "spec.strategy.rollingUpdate.maxSurge"];
        assert_eq!(found(&entries, &live, &git, "spec.strategy.rollingUpdate"), rolling);
        assert!(found(&entries, &live, &git, "spec.strategy.type").is_empty(), "git has it");
        // In an element of a keyed list, which an entry tells.
        let volume = |kind: Value| json!({"spec": {"volumes": [{"name": "other"}, kind]}});
        let entries =
            [entry(DEV, "Apply", json!({"f:spec": {"f:volumes": {"k:{\"name\":\"v\"}": {".": {}, "f:name": {}}}}}))];
        let live = volume(json!({"name": "v", "configMap": {"defaultMode": 420, "items": [{"key": "a"}]}}));
        let git = volume(json!({"name": "v", "emptyDir": {}}));
        assert_eq!(
            found(&entries, &live, &git, "spec.volumes[1].configMap"),
            ["", ".defaultMode", ".items"].map(|rest| format!("spec.volumes[name=v].configMap{rest}"))
        );
    }

    #[test]
    fn what_is_none_of_ours_stays() {
        let git = json!({"spec": {"strategy": {"type": "Recreate"}}});
        let live = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {}}}});
        let rolling = || json!({"f:spec": {"f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}}}});
        let older =
            ManagedFieldsEntry { api_version: Some("apps/v1beta1".into()), ..entry("old", "Update", rolling()) };
        let scale = ManagedFieldsEntry { subresource: Some("scale".into()), ..entry("hpa", "Update", rolling()) };
        let without = json!({"spec": {"strategy": {"type": "Recreate"}}});
        assert!(found(&[older, scale], &without, &git, "spec.strategy.rollingUpdate").is_empty());
        let left_alone = ["spec.strategy.rollingUpdate".parse().unwrap()];
        let entries = [entry("other", "Apply", rolling())];
        let contested = Contested {
            entries: &entries,
            manager: DEV,
            api_version: "apps/v1",
            live: &live,
            git: &git,
            left_alone: &left_alone,
        };
        assert!(contested.in_the_way(&["spec.strategy.rollingUpdate"]).unwrap().is_empty());
        let contested = Contested { left_alone: &[], ..contested };
        assert_eq!(contested.in_the_way(&["spec.strategy.rollingUpdate"]).unwrap().len(), 2);
    }
}
