//! When the API server refuses an update only because a field is immutable, and what policy makes of that.
//!
//! An immutable field is told narrowly, by the causes of the API server's answer: every cause must be one of the refusals that its
//! validation has for a change of a valid object. One other cause, such as an invalid value, and nothing is deleted.

use super::guards::ask_kinds;
use super::{Action, Reason, Refusal, Step};
use crate::model::environment::ReplacePolicy;

/// One entry of `details.causes` of a `metav1.Status` (422 Invalid).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueForbidden`, …
    pub reason: String,
    /// The path of the field.
    pub field: String,
    /// The field error's body: its type, for an invalid value the value, then the detail.
    pub message: String,
}

/// How the detail of an immutable field's error is told.
#[derive(Clone, Copy)]
enum Detail {
    /// The message is `Invalid value: <value>: <detail>`. The value is the user's text and may say anything, so only the end counts.
    Invalid(&'static str),
    /// The message is `Forbidden: <detail>`, with more after it in some cases.
    Forbidden(&'static str),
}

/// The field that a refusal is about; `""`: any but metadata.
const TABLE: &[(&str, Detail)] = &[
    // apimachinery pkg/api/validation/objectmeta.go and pkg/api/validate/immutable.go, used by all kinds.
    ("", Detail::Invalid("field is immutable")),
    // pkg/apis/core/validation/validation.go: ValidateServiceUpdate.
    ("", Detail::Forbidden("field is immutable")),
    ("spec.clusterIPs", Detail::Invalid("may not change once set")),
    ("spec.clusterIPs", Detail::Invalid("primary clusterIP can not be unset")),
    ("spec.ipFamilies", Detail::Invalid("may not change once set")),
    ("spec.ipFamilies", Detail::Invalid("primary ipFamily can not be unset")),
    ("spec.loadBalancerClass", Detail::Invalid("may not change once set")),
    // ibid.: ValidatePersistentVolumeClaimUpdate, ValidatePersistentVolumeUpdate, ValidatePodUpdate.
    ("spec", Detail::Forbidden("spec is immutable after creation except ")),
    ("spec.persistentvolumesource", Detail::Forbidden("spec.persistentvolumesource is immutable after creation")),
    ("spec.nodeAffinity", Detail::Invalid("field is immutable, except for updating from beta label to GA")),
    ("spec", Detail::Forbidden("pod updates may not change fields other than ")),
    // pkg/apis/apps/validation/validation.go: ValidateStatefulSetUpdate.
    ("spec", Detail::Forbidden("updates to statefulset spec for fields other than ")),
    // pkg/apis/rbac/validation/validation.go: ValidateRoleBindingUpdate, ValidateClusterRoleBindingUpdate.
    ("roleRef", Detail::Invalid("cannot change roleRef")),
    // pkg/apis/scheduling/validation/validation.go: ValidatePriorityClassUpdate.
    ("value", Detail::Forbidden("may not be changed in an update.")),
];

impl Cause {
    fn is_immutable(&self) -> bool {
        // Metadata is never changed by making the object anew.
        let metadata = self.field == "metadata" || self.field.starts_with("metadata.");
        !metadata && TABLE.iter().any(|(field, detail)| self.is_about(field) && self.has(*detail))
    }

    /// Whether it is about this field, or an item of it.
    fn is_about(&self, field: &str) -> bool {
        field.is_empty() || self.field.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
    }

    fn has(&self, detail: Detail) -> bool {
        match detail {
            Detail::Invalid(detail) => {
                let rest = self.message.strip_prefix("Invalid value: ").and_then(|rest| rest.strip_suffix(detail));
                self.reason == "FieldValueInvalid"
                    && rest.is_some_and(|value| value.is_empty() || value.ends_with(": "))
            }
            Detail::Forbidden(detail) => {
                let rest = self.message.strip_prefix("Forbidden: ");
                self.reason == "FieldValueForbidden" && rest.is_some_and(|rest| rest.starts_with(detail))
            }
        }
    }
}

/// The fields that can't be changed, if that is all the API server complains of; else `None`.
pub fn immutable_fields(causes: &[Cause]) -> Option<Vec<String>> {
    let only = !causes.is_empty() && causes.iter().all(Cause::is_immutable);
    only.then(|| {
        let mut fields: Vec<String> = causes.iter().map(|cause| cause.field.clone()).collect();
        fields.sort();
        fields.dedup();
        fields
    })
}

/// What an update becomes that the API server refused.
#[derive(Debug)]
pub enum Escalation {
    /// A replacement: delete and create, once a dry-run of the creation was answered 409 AlreadyExists, which comes after validation and
    /// admission.
    Replace(Box<Step>),
    /// A refusal that names the fields and says how to allow it.
    Refused(Refusal),
    /// It is not about immutable fields: the API server's own words stand.
    NotImmutable,
}

/// Decides what an update becomes that the API server refused with these causes.
///
/// Only what is ours already is ever replaced. Kinds whose deletion takes data or other objects along are replaced only if the object
/// itself is annotated: neither the environment's policy nor Helm's reaches them.
pub fn escalate(step: &Step, policy: ReplacePolicy, causes: &[Cause]) -> Escalation {
    let (Some(fields), Some(manifest)) = (immutable_fields(causes), &step.manifest) else {
        return Escalation::NotImmutable;
    };
    let refuse = |hint: &str| {
        Escalation::Refused(Refusal {
            key: step.key.clone(),
            origin: Some(manifest.origin.clone()),
            reason: format!("{} can't be changed in an object that stands", fields.join(", ")),
            hint: hint.to_owned(),
        })
    };
    if step.action != Action::Update {
        return refuse("it is not this environment's yet, so it is not replaced: delete it, or put the field back");
    }
    let by_policy = policy == ReplacePolicy::Immutable || manifest.made_anew;
    let by_policy = by_policy && !ask_kinds::loses_with_it(&step.key.kind);
    if !(by_policy || manifest.replace_immutable) {
        return refuse(
            "put the field back, or annotate the object plumb.dev/replace: immutable to have it deleted and made again",
        );
    }
    Escalation::Replace(Box::new(Step { action: Action::Replace, reason: Reason::Immutable, ..step.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Kinds, Manifest, ObjectKey};
    use crate::plan::tests::world::{World, config_map, key, manifest, owned_by};

    fn invalid(field: &str, message: &str) -> Cause {
        Cause { reason: "FieldValueInvalid".into(), field: field.into(), message: format!("Invalid value: {message}") }
    }

    fn forbidden(field: &str, message: &str) -> Cause {
        Cause { reason: "FieldValueForbidden".into(), field: field.into(), message: format!("Forbidden: {message}") }
    }

    /// As kube-apiserver 1.36 words them.
    #[test]
    fn immutable_fields_are_known_by_their_words() {
        let statefulset = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
                           'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        for cause in [
            invalid("spec.selector", r#"{"matchLabels":{"app":"b"}}: field is immutable"#),
            invalid("spec.template", r#"{"metadata":{}}: field is immutable"#),
            invalid("spec.clusterIPs[0]", r#"["10.0.0.9"]: may not change once set"#),
            invalid("spec.clusterIPs[0]", "[]: primary clusterIP can not be unset"),
            invalid("roleRef", r#"{"apiGroup":"","kind":"Role","name":"b"}: cannot change roleRef"#),
            invalid("provisioner", r#""b": field is immutable"#),
            forbidden("spec", statefulset),
            forbidden(
                "spec",
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n  diff",
            ),
            forbidden("data", "field is immutable when `immutable` is set"),
            forbidden("value", "may not be changed in an update."),
        ] {
            assert_eq!(immutable_fields(std::slice::from_ref(&cause)), Some(vec![cause.field.clone()]), "{cause:?}");
        }
    }

    #[test]
    fn whatever_else_is_wrong_nothing_is_replaced() {
        let immutable = invalid("spec.selector", "{}: field is immutable");
        for other in [
            invalid("spec.replicas", "-1: must be greater than or equal to 0"),
            // A value that says the words.
            invalid("spec.template.spec.containers[0].image", r#"": field is immutable": must not have spaces"#),
            invalid("spec.x", r#""field is immutable""#),
            invalid("spec.x", r#""a": this field is immutable"#),
            invalid("metadata.uid", r#""a": field is immutable"#),
            invalid("metadata.annotations", "{}: may not change once set"),
            forbidden("spec.template", "pod updates may not change fields other than x"),
            forbidden("spec", "exceeds the quota; field is immutable"),
            forbidden("spec.resources.requests.storage", "field can not be less than status.capacity"),
            Cause {
                reason: "FieldValueRequired".into(),
                field: "spec.x".into(),
                message: "Required value: field is immutable".into(),
            },
        ] {
            assert_eq!(immutable_fields(std::slice::from_ref(&other)), None, "{other:?}");
            assert_eq!(immutable_fields(&[immutable.clone(), other]), None);
        }
        assert_eq!(immutable_fields(&[]), None);
    }

    fn step_of(object: &ObjectKey, annotated: bool) -> Step {
        step_with(object, |with| with.replace_immutable = annotated)
    }

    fn step_with(object: &ObjectKey, change: impl FnOnce(&mut Manifest)) -> Step {
        let mut with = (*manifest(object, 1)).clone();
        change(&mut with);
        let mut world = World::new([with.into()]).with(object, owned_by("dev", "1"));
        world.kinds = Kinds::builtin();
        world.step(object)
    }

    #[test]
    fn policy_or_annotation_allows_a_replacement() {
        let causes = [invalid("spec.selector", "{}: field is immutable")];
        let deployment = key("apps", "Deployment", "web");
        let replaces = |step: &Step, policy| matches!(escalate(step, policy, &causes), Escalation::Replace(_));
        assert!(!replaces(&step_of(&deployment, false), ReplacePolicy::Never));
        assert!(replaces(&step_of(&deployment, true), ReplacePolicy::Never));
        assert!(replaces(&step_of(&deployment, false), ReplacePolicy::Immutable));
        let claim = key("", "PersistentVolumeClaim", "data");
        assert!(!replaces(&step_of(&claim, false), ReplacePolicy::Immutable), "a policy loses no data");
        assert!(replaces(&step_of(&claim, true), ReplacePolicy::Never));
        assert!(replaces(&step_of(&key("apps", "StatefulSet", "db"), false), ReplacePolicy::Immutable));
    }

    #[test]
    fn a_helm_hook_is_made_anew_as_helm_would() {
        let causes = [invalid("spec.template", "{}: field is immutable")];
        let replaces = |object: &ObjectKey, made_anew| {
            let step = step_with(object, |with| with.made_anew = made_anew);
            matches!(escalate(&step, ReplacePolicy::Never, &causes), Escalation::Replace(_))
        };
        let job = key("batch", "Job", "migrate");
        assert!(replaces(&job, true) && !replaces(&job, false));
        assert!(!replaces(&key("", "PersistentVolumeClaim", "data"), true), "its data is no hook's to lose");
    }

    #[test]
    fn what_is_refused_says_which_field_and_what_to_do() {
        let causes = [invalid("spec.selector", "{}: field is immutable")];
        let a = config_map("a");
        let Escalation::Refused(refusal) = escalate(&step_of(&a, false), ReplacePolicy::Never, &causes) else {
            panic!()
        };
        assert_eq!(refusal.reason, "spec.selector can't be changed in an object that stands");
        assert!(refusal.hint.contains("plumb.dev/replace: immutable") && refusal.origin.is_some());
        // What is only being adopted is nobody's to delete.
        let adopted = Step { action: Action::Adopt, ..step_of(&a, true) };
        assert!(matches!(escalate(&adopted, ReplacePolicy::Immutable, &causes), Escalation::Refused(_)));
        let other = [invalid("spec.replicas", "-1: must be at least 0")];
        assert!(matches!(escalate(&step_of(&a, true), ReplacePolicy::Immutable, &other), Escalation::NotImmutable));
    }
}
