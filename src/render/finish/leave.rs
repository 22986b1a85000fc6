//! Fields that are left to others: taken out of what is applied, so that plumb never owns them.
//!
//! Two things leave a field alone: an `ignore` rule of the definition, and a HorizontalPodAutoscaler of the same render, which alone says how many
//! replicas its target has. What git has for such a field is kept beside the manifest: the object is made with it.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::error::{ObjectError, Problem};
use super::{names, serialise};
use crate::model::environment::IgnoreRule;
use crate::model::{Digest, FieldPath, LeftAlone, Manifest, ObjectKey};

/// What an autoscaler scales.
const REPLICAS: &str = "spec.replicas";

/// A render without the fields that are left to others.
pub struct Left {
    /// The objects, in their order.
    pub objects: Vec<Arc<Manifest>>,
    /// The rules that are about nothing in this render, a sentence each.
    pub remarks: Vec<String>,
}

/// Takes the fields that are left to others out of a render's objects.
pub fn leave(objects: Vec<Arc<Manifest>>, rules: &[IgnoreRule]) -> Result<Left, Box<ObjectError>> {
    let scaled: HashSet<ObjectKey> = objects.iter().filter_map(|object| target(object)).collect();
    let mut uses = Uses::of(rules);
    if scaled.is_empty() && rules.is_empty() {
        return Ok(Left { objects, remarks: Vec::new() });
    }
    let replicas: Option<FieldPath> = REPLICAS.parse().ok();
    let leave_one = |object: Arc<Manifest>| {
        let mut paths: Vec<(FieldPath, Option<(usize, usize)>)> = uses.about(&object.key);
        if let Some(replicas) = replicas.as_ref().filter(|_| scaled.contains(&object.key)) {
            paths.push((replicas.clone(), None));
        }
        if paths.is_empty() {
            return Ok(object);
        }
        without(&object, &paths, &mut uses).map(Arc::new).map_err(|problem| {
            let (origin, key) = (object.origin.clone(), Some(object.key.clone()));
            Box::new(ObjectError { origin, object: key, problem })
        })
    };
    let objects = objects.into_iter().map(leave_one).collect::<Result<_, _>>()?;
    Ok(Left { objects, remarks: uses.remarks() })
}

fn without(
    object: &Manifest,
    paths: &[(FieldPath, Option<(usize, usize)>)],
    uses: &mut Uses<'_>,
) -> Result<Manifest, Problem> {
    let mut value: Value = serde_json::from_str(object.json.get()).map_err(|_| Problem::Json)?;
    let mut removed = false;
    for (path, rule) in paths {
        if path.remove_from(&mut value) {
            removed = true;
            rule.iter().for_each(|rule| _ = uses.taken.insert(*rule));
        }
    }
    let paths = paths.iter().map(|(path, _)| path.clone()).collect();
    let mut left = object.clone();
    let mut whole = None;
    if removed {
        let json = serialise(&value)?;
        left.digest = Digest::of(json.get().as_bytes());
        whole = Some(std::mem::replace(&mut left.json, json));
    }
    left.left_alone = Some(Arc::new(LeftAlone { paths, whole }));
    Ok(left)
}

/// The object that an autoscaler scales.
fn target(object: &Manifest) -> Option<ObjectKey> {
    #[derive(Deserialize)]
    struct Autoscaler {
        spec: Spec,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        scale_target_ref: Target,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Target {
        #[serde(default)]
        api_version: String,
        kind: String,
        name: String,
    }
    if !object.key.kind.is("autoscaling", "HorizontalPodAutoscaler") {
        return None;
    }
    // One that says no target, or none that can be, is the API server's to refuse.
    let target = serde_json::from_str::<Autoscaler>(object.json.get()).ok()?.spec.scale_target_ref;
    let group = if target.api_version.is_empty() { "" } else { names::api_version(&target.api_version).ok()?.0 };
    Some(ObjectKey::new(group, &target.kind, object.key.namespace_or_empty(), &target.name))
}

/// What each rule was good for.
struct Uses<'a> {
    rules: &'a [IgnoreRule],
    /// How many objects each rule is about.
    about: Vec<usize>,
    /// The fields, by rule and place in it, that some object of git has.
    taken: HashSet<(usize, usize)>,
}

impl<'a> Uses<'a> {
    fn of(rules: &'a [IgnoreRule]) -> Self {
        Self { rules, about: vec![0; rules.len()], taken: HashSet::new() }
    }

    /// The fields of one object that rules are about.
    fn about(&mut self, key: &ObjectKey) -> Vec<(FieldPath, Option<(usize, usize)>)> {
        let mut fields = Vec::new();
        for (index, (rule, about)) in self.rules.iter().zip(&mut self.about).enumerate() {
            if rule.is_about(key) {
                *about += 1;
                fields.extend(rule.fields.iter().enumerate().map(|(at, field)| (field.clone(), Some((index, at)))));
            }
        }
        fields
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for (index, (rule, about)) in self.rules.iter().zip(&self.about).enumerate() {
            let IgnoreRule { kind, name, fields } = rule;
            if *about == 0 {
                remarks.push(format!("spec.ignore[{index}]: no {kind} of this commit has a name like {name:?}"));
                continue;
            }
            let idle = fields.iter().enumerate().filter(|(at, _)| !self.taken.contains(&(index, *at)));
            remarks.extend(idle.map(|(at, field)| {
                format!("spec.ignore[{index}].fields[{at}]: git has {field} in no {kind} like {name:?}; what others write there is not reported")
            }));
        }
        remarks
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::tests::world::manifest_of;

    fn rules(rules: Value) -> Vec<IgnoreRule> {
        serde_json::from_value(rules).unwrap()
    }

    fn object(group: &str, kind: &str, name: &str, spec: Value) -> Arc<Manifest> {
        manifest_of(&ObjectKey::new(group, kind, "todo", name), "v1", json!({"metadata": {"name": name}, "spec": spec}))
    }

    fn json_of(manifest: &Manifest) -> Value {
        serde_json::from_str(manifest.json.get()).unwrap()
    }

    #[test]
    fn a_rule_takes_fields_out_and_keeps_what_git_says_of_them() {
        let web = object("apps", "Deployment", "web", json!({"replicas": 3, "paused": false}));
        let other = object("apps", "Deployment", "db", json!({"replicas": 3}));
        let rules =
            rules(json!([{"kind": "Deployment", "name": "w*", "fields": ["spec.replicas", "metadata.labels.x"]}]));
        let left = leave(vec![web.clone(), other.clone()], &rules).unwrap();
        let [left_web, left_other] = left.objects.as_slice() else { panic!() };
        assert_eq!(json_of(left_web), json!({"metadata": {"name": "web"}, "spec": {"paused": false}}));
        assert_eq!(json_of(&left_web.as_made()), json_of(&web));
        assert_eq!(left_web.digest, Digest::of(left_web.json.get().as_bytes()));
        assert_eq!(left_web.left_alone(), rules[0].fields, "a field that git does not have is left alone too");
        assert!(Arc::ptr_eq(left_other, &other));
        assert_eq!(
            left.remarks,
            [
                "spec.ignore[0].fields[1]: git has metadata.labels.x in no Deployment like \"w*\"; what others write there is not reported"
            ]
        );
    }

    #[test]
    fn the_values_that_git_has_for_them_change_nothing() {
        let rules = rules(json!([{"kind": "Deployment", "fields": ["spec.replicas"]}]));
        let left = |replicas: u32| {
            let web = object("apps", "Deployment", "web", json!({"replicas": replicas, "paused": false}));
            leave(vec![web], &rules).unwrap().objects.remove(0).digest
        };
        assert_eq!(left(3), left(5));
    }

    #[test]
    fn a_rule_about_nothing_is_named() {
        let rules = rules(json!([{"kind": "Deploymnet", "fields": ["spec.replicas"]}]));
        let left = leave(vec![object("apps", "Deployment", "web", json!({"replicas": 3}))], &rules).unwrap();
        assert_eq!(left.remarks, ["spec.ignore[0]: no Deploymnet of this commit has a name like \"*\""]);
    }

    #[test]
    fn an_autoscaler_has_the_replicas_of_its_target() {
        let scaler = |version: &str, kind: &str, name: &str| {
            let target = json!({"apiVersion": version, "kind": kind, "name": name});
            object("autoscaling", "HorizontalPodAutoscaler", "scaler", json!({"scaleTargetRef": target}))
        };
        let workloads = || {
            vec![
                object("apps", "Deployment", "web", json!({"replicas": 3, "paused": false})),
                object("apps", "StatefulSet", "web", json!({"replicas": 3})),
                object("", "ReplicationController", "web", json!({"replicas": 3})),
                object("x.dev", "Deployment", "web", json!({"replicas": 3})),
                object("apps", "Deployment", "web2", json!({"replicas": 3})),
            ]
        };
        let left = |scaler: Arc<Manifest>| {
            let mut objects = workloads();
            objects.insert(0, scaler);
            let left = leave(objects, &[]).unwrap();
            assert!(left.remarks.is_empty());
            let without = left.objects.iter().skip(1).filter(|object| object.left_alone.is_some());
            without
                .map(|object| {
                    assert_eq!(json_of(object)["spec"].get("replicas"), None);
                    format!("{}/{}", object.key.kind.slashed(), object.key.name)
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(left(scaler("apps/v1", "Deployment", "web")), ["apps/Deployment/web"]);
        assert_eq!(left(scaler("apps/v1", "StatefulSet", "web")), ["apps/StatefulSet/web"]);
        assert_eq!(left(scaler("v1", "ReplicationController", "web")), ["ReplicationController/web"]);
        assert_eq!(left(scaler("x.dev/v1", "Deployment", "web")), ["x.dev/Deployment/web"]);
        assert!(left(scaler("apps/v1", "Deployment", "absent")).is_empty());
        assert!(left(object("autoscaling", "HorizontalPodAutoscaler", "scaler", json!({}))).is_empty());
        assert!(left(object("other", "HorizontalPodAutoscaler", "scaler", json!({}))).is_empty());
    }
}
