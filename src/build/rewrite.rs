//! Where manifests use the images that the repository builds: every container gets the tag that follows from the sources.
//!
//! The meaning is that of kustomize's `images`: whatever has a list of `containers`, `initContainers` or `ephemeralContainers`, wherever it
//! stands in an object (a pod, a workload's template, a CronJob's, a custom resource's), and an image of a declared name in it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::reference::{Reference, canonical};

/// The lists that hold containers.
const LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// The images that the repository builds, by name.
#[derive(Debug, Clone, Default)]
pub struct Rewrite {
    /// By full name: the name as declared, or the reference that is pinned, and the reference that takes its place.
    images: BTreeMap<String, (String, String)>,
    pull_policy: Option<&'static str>,
    pins: bool,
}

/// What was found in one object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Whether anything in it was changed.
    pub changed: bool,
    /// The declared names that it uses.
    pub used: BTreeSet<String>,
    /// Images of declared names that say themselves which one they mean, and were left alone.
    pub explicit: BTreeSet<String>,
}

impl Rewrite {
    /// `images` are names with their references. `pull_policy` is what the builder needs; `None` leaves it as git has it.
    pub fn new<'a>(images: impl IntoIterator<Item = (&'a str, String)>, pull_policy: Option<&'static str>) -> Self {
        let by_name =
            |(name, reference): (&'a str, String)| (canonical(name).into_owned(), (name.to_owned(), reference));
        Self { images: images.into_iter().map(by_name).collect(), pull_policy, pins: false }
    }

    /// The same references with their digests: a second pass, over what the first one made.
    pub fn pinning<'a>(digests: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let pinned = |(reference, digest): (&'a str, &'a str)| {
            let name = canonical(Reference::of(reference).repository).into_owned();
            (name, (reference.to_owned(), format!("{reference}@{digest}")))
        };
        Self { images: digests.into_iter().map(pinned).collect(), pull_policy: None, pins: true }
    }

    /// The same for who has no builder to ask: what a live object has from a registry tells the digest, where the tag is the same, and which pull policy
    /// goes with a registry. `None`: it has nothing from one. `self` is the first pass.
    pub fn as_it_stands(&self, mut live: Value, pushed: &'static str) -> Option<Self> {
        let standing = self.object(&mut live).explicit;
        let images = standing.iter().filter_map(|image| {
            let (tagged, _) = image.split_once('@')?;
            let name = canonical(Reference::of(image).repository).into_owned();
            let (_, reference) = self.images.get(&name)?;
            let stands = if tagged == reference { image } else { reference };
            Some((name, (reference.clone(), stands.clone())))
        });
        let images: BTreeMap<_, _> = images.collect();
        (!images.is_empty()).then_some(Self { images, pull_policy: Some(pushed), pins: true })
    }

    /// Whether an object's text could use any of the images: a cheap look before it is read.
    pub fn may_concern(&self, json: &str) -> bool {
        // The last part of a name stands in every way to write it.
        let short = |name: &str| json.contains(name.rsplit('/').next().unwrap_or(name));
        json.contains("ontainers\":[") && self.images.values().any(|(name, _)| short(Reference::of(name).repository))
    }

    /// Rewrites one object. Its metadata and status are nobody's containers.
    pub fn object(&self, object: &mut Value) -> Found {
        let mut found = Found::default();
        if let Value::Object(fields) = object {
            for (name, field) in fields {
                if !matches!(&**name, "metadata" | "status") {
                    self.walk(Some(name), field, &mut found);
                }
            }
        }
        found
    }

    fn walk(&self, name: Option<&str>, value: &mut Value, found: &mut Found) {
        match value {
            Value::Object(fields) => fields.iter_mut().for_each(|(name, field)| self.walk(Some(name), field, found)),
            Value::Array(items) => {
                let is_list = name.is_some_and(|name| LISTS.contains(&name));
                for item in items {
                    if let (true, Value::Object(container)) = (is_list, &mut *item) {
                        self.container(container, found);
                    }
                    self.walk(None, item, found);
                }
            }
            _ => {}
        }
    }

    fn container(&self, container: &mut Map<String, Value>, found: &mut Found) {
        let Some(Value::String(image)) = container.get_mut("image") else { return };
        let reference = Reference::of(image.trim());
        let Some((name, built)) = self.images.get(&*canonical(reference.repository)) else { return };
        if self.pins {
            if image == name {
                found.changed = true;
                built.clone_into(image);
                self.set_pull_policy(container);
            }
            return;
        }
        found.used.insert(name.clone());
        if image.trim() == built {
            return;
        }
        if !reference.is_open() {
            found.explicit.insert(image.clone());
            return;
        }
        built.clone_into(image);
        found.changed = true;
        self.set_pull_policy(container);
    }

    fn set_pull_policy(&self, container: &mut Map<String, Value>) {
        if let Some(policy) = self.pull_policy {
            container.insert("imagePullPolicy".to_owned(), policy.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rewrite(pull_policy: Option<&'static str>) -> Rewrite {
        let images = [("todo-backend", "todo-backend:0a1b"), ("localhost:5000/web", "localhost:5000/web:2c3d")];
        Rewrite::new(images.map(|(name, reference)| (name, reference.to_owned())), pull_policy)
    }

    fn rewritten(mut object: Value, pull_policy: Option<&'static str>) -> (Value, Found) {
        let rewrite = rewrite(pull_policy);
        let concerned = rewrite.may_concern(&object.to_string());
        let found = rewrite.object(&mut object);
        assert!(concerned || found == Found::default(), "the cheap look misses nothing");
        (object, found)
    }

    fn used(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn every_container_of_every_kind_gets_the_tag() {
        let pod = || {
            json!({
                "containers": [{"name": "a", "image": "todo-backend"}, {"name": "b", "image": "nginx:1"}, {"name": "c"}],
                "initContainers": [{"name": "i", "image": "docker.io/library/todo-backend:latest"}],
                "ephemeralContainers": [{"name": "e", "image": "localhost:5000/web"}],
            })
        };
        let expected = || {
            json!({
                "containers": [{"name": "a", "image": "todo-backend:0a1b"}, {"name": "b", "image": "nginx:1"}, {"name": "c"}],
                "initContainers": [{"name": "i", "image": "todo-backend:0a1b"}],
                "ephemeralContainers": [{"name": "e", "image": "localhost:5000/web:2c3d"}],
            })
        };
        let places: [fn(Value) -> Value; 5] = [
            |pod| json!({"kind": "Pod", "spec": pod}),
            |pod| json!({"kind": "Deployment", "spec": {"template": {"spec": pod}}}),
            |pod| json!({"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": pod}}}}}),
            |pod| json!({"kind": "Rollout", "spec": {"template": {"spec": pod}, "strategy": {"canary": {}}}}),
            |pod| json!({"kind": "PodTemplate", "template": {"spec": pod}, "more": [{"spec": {"x": [[1]]}}]}),
        ];
        for place in places {
            let (object, found) = rewritten(place(pod()), None);
            assert_eq!(object, place(expected()));
            assert_eq!(
                found,
                Found { changed: true, used: used(&["todo-backend", "localhost:5000/web"]), ..Found::default() }
            );
            let (again, found) = rewritten(object.clone(), None);
            assert_eq!((again, found.changed), (object, false), "a second time changes nothing");
        }
    }

    #[test]
    fn the_pull_policy_is_that_of_the_builder_where_an_image_is_its() {
        let object = json!({"spec": {"containers": [
            {"image": "todo-backend", "imagePullPolicy": "Always"}, {"image": "nginx", "imagePullPolicy": "Always"},
        ]}});
        let (object, _) = rewritten(object, Some("Never"));
        assert_eq!(
            object,
            json!({"spec": {"containers": [
                {"image": "todo-backend:0a1b", "imagePullPolicy": "Never"}, {"image": "nginx", "imagePullPolicy": "Always"},
            ]}})
        );
    }

    #[test]
    fn what_says_itself_which_image_it_means_is_left_alone() {
        let object = json!({"spec": {"containers": [
            {"image": "todo-backend:1.2"}, {"image": "todo-backend@sha256:00"}, {"image": "ghcr.io/todo-backend"}, {"image": 3},
        ]}});
        let (same, found) = rewritten(object.clone(), Some("Never"));
        assert_eq!(same, object);
        let explicit = used(&["todo-backend:1.2", "todo-backend@sha256:00"]);
        assert_eq!(found, Found { changed: false, used: used(&["todo-backend"]), explicit });
    }

    #[test]
    fn what_was_rewritten_is_pinned_and_nothing_else() {
        let pins = Rewrite::pinning([("localhost:5000/web:2c3d", "sha256:77")]);
        let mut object = json!({"spec": {"containers": [
            {"image": "localhost:5000/web:2c3d"}, {"image": "localhost:5000/web:other"}, {"image": "localhost:5000/web"},
            {"image": "localhost:5000/web:2c3d@sha256:00"}, {"image": "web:2c3d"},
        ]}});
        assert!(pins.may_concern(&object.to_string()));
        assert!(pins.object(&mut object).changed);
        assert_eq!(
            object,
            json!({"spec": {"containers": [
                {"image": "localhost:5000/web:2c3d@sha256:77"}, {"image": "localhost:5000/web:other"}, {"image": "localhost:5000/web"},
                {"image": "localhost:5000/web:2c3d@sha256:00"}, {"image": "web:2c3d"},
            ]}})
        );
        assert!(!pins.object(&mut object).changed, "a second time changes nothing");
    }

    #[test]
    fn what_stands_from_a_registry_tells_what_only_a_builder_could() {
        let of =
            |image: &str, policy: &str| json!({"spec": {"containers": [{"image": image, "imagePullPolicy": policy}]}});
        let desired = || of("localhost:5000/web:2c3d", "Never");
        let cases = [
            ("localhost:5000/web:2c3d@sha256:77", Some("localhost:5000/web:2c3d@sha256:77")),
            // Another commit's, so which digest this one has nobody knows; but that it is pushed.
            ("localhost:5000/web:other@sha256:77", Some("localhost:5000/web:2c3d")),
            ("localhost:5000/web:2c3d", None),
            ("localhost:5000/web", None),
            ("nginx:1@sha256:77", None),
        ];
        for (standing, expected) in cases {
            let pins = rewrite(None).as_it_stands(of(standing, "IfNotPresent"), "IfNotPresent");
            let mut object = desired();
            assert_eq!(pins.is_some_and(|pins| pins.object(&mut object).changed), expected.is_some(), "{standing}");
            assert_eq!(object, expected.map_or_else(desired, |image| of(image, "IfNotPresent")), "{standing}");
        }
    }

    #[test]
    fn what_only_looks_like_a_container_is_none() {
        for object in [
            json!({"metadata": {"annotations": {"x": {"containers": [{"image": "todo-backend"}]}}}}),
            json!({"status": {"containers": [{"image": "todo-backend"}]}}),
            json!({"data": {"image": "todo-backend", "containers": "[{image: todo-backend}]"}}),
            json!({"spec": {"containers": {"image": "todo-backend"}}}),
            json!({"spec": {"containers": ["todo-backend"]}}),
            json!([{"containers": [{"image": "todo-backend"}]}]),
        ] {
            assert_eq!(rewritten(object.clone(), None), (object, Found::default()));
        }
    }
}
