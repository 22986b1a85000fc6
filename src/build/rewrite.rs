//! Where manifests use the images that the repository builds: every container gets the tag that follows from the sources.
//!
//! The meaning is that of kustomize's `images`: whatever has a list of `containers`, `initContainers` or `ephemeralContainers`, wherever it
//! stands in an object (a pod, a workload's template, a CronJob's, a custom resource's), and an image of a declared name in it. So are image volumes
//! (KEP-4639), and what Tekton and Argo Workflows call their containers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::reference::{Reference, canonical};

/// The lists that hold containers, in objects of all kinds.
const LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Where objects of an API group have containers besides.
#[derive(Debug, Clone, Copy)]
struct Places {
    group: &'static str,
    lists: &'static [&'static str],
    single: &'static [&'static str],
}

const PLACES: [Places; 2] = [
    Places { group: "argoproj.io", lists: &["sidecars"], single: &["container", "script"] },
    Places { group: "tekton.dev", lists: &["steps", "sidecars"], single: &["stepTemplate"] },
];

impl Places {
    fn of(api_version: &str) -> Option<&'static Self> {
        let (group, _) = api_version.split_once('/')?;
        PLACES.iter().find(|places| places.group == group)
    }
}

/// Where an image is named: the fields of its reference and of its pull policy.
type Names = (&'static str, &'static str);
const CONTAINER: Names = ("image", "imagePullPolicy");
const VOLUME: Names = ("reference", "pullPolicy");

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
    /// The declared names whose built images it uses.
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
        json.contains("\"image\":") && self.images.values().any(|(name, _)| short(Reference::of(name).repository))
    }

    /// Rewrites one object. Its metadata and status are nobody's containers.
    pub fn object(&self, object: &mut Value) -> Found {
        let mut found = Found::default();
        if let Value::Object(fields) = object {
            let places = places(fields, None);
            for (name, field) in fields {
                if !matches!(&**name, "metadata" | "status") {
                    self.walk(name, field, places, &mut found);
                }
            }
        }
        found
    }

    fn walk(&self, name: &str, value: &mut Value, places: Option<&'static Places>, found: &mut Found) {
        match value {
            Value::Object(fields) => {
                if places.is_some_and(|places| places.single.contains(&name)) {
                    self.image(fields, CONTAINER, found);
                }
                // An object within another has places of its own: what a trigger makes.
                let places = self::places(fields, places);
                fields.iter_mut().for_each(|(name, field)| self.walk(name, field, places, found));
            }
            Value::Array(items) => {
                let are_containers = LISTS.contains(&name) || places.is_some_and(|places| places.lists.contains(&name));
                for item in items {
                    if let Value::Object(item) = &mut *item {
                        match item.get_mut("image") {
                            Some(Value::Object(image)) if name == "volumes" => self.image(image, VOLUME, found),
                            _ if are_containers => self.image(item, CONTAINER, found),
                            _ => {}
                        }
                    }
                    self.walk("", item, places, found);
                }
            }
            _ => {}
        }
    }

    fn image(&self, holder: &mut Map<String, Value>, (field, policy): Names, found: &mut Found) {
        let Some(Value::String(image)) = holder.get_mut(field) else { return };
        let reference = Reference::of(image.trim());
        let Some((name, built)) = self.images.get(&*canonical(reference.repository)) else { return };
        if self.pins {
            if image == name {
                found.changed = true;
                built.clone_into(image);
                self.set_pull_policy(holder, policy);
            }
            return;
        }
        let stands = image.trim() == built;
        if !stands && !reference.is_open() {
            found.explicit.insert(image.clone());
            return;
        }
        found.used.insert(name.clone());
        if stands {
            return;
        }
        built.clone_into(image);
        found.changed = true;
        self.set_pull_policy(holder, policy);
    }

    fn set_pull_policy(&self, holder: &mut Map<String, Value>, field: &str) {
        if let Some(policy) = self.pull_policy {
            holder.insert(field.to_owned(), policy.into());
        }
    }
}

/// The places of an object's group, if it is one; otherwise those of what it stands in.
fn places(fields: &Map<String, Value>, outer: Option<&'static Places>) -> Option<&'static Places> {
    match fields.get("apiVersion") {
        Some(Value::String(version)) => Places::of(version),
        _ => outer,
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
    fn a_volume_is_the_image_that_is_built() {
        let of = |volume: Value| {
            json!({"kind": "Deployment", "spec": {"template": {"spec": {"volumes": [
                {"name": "models", "image": volume}, {"name": "disk", "rbd": {"image": "todo-backend", "reference": "todo-backend"}},
            ]}}}})
        };
        let git = of(json!({"reference": "todo-backend", "pullPolicy": "Always"}));
        let used = used(&["todo-backend"]);
        let (object, found) = rewritten(git.clone(), Some("Never"));
        let built = of(json!({"reference": "todo-backend:0a1b", "pullPolicy": "Never"}));
        assert_eq!((object, found), (built, Found { changed: true, used, ..Found::default() }));
        assert_eq!(rewritten(git, None).0, of(json!({"reference": "todo-backend:0a1b", "pullPolicy": "Always"})));
        let (_, found) = rewritten(of(json!({"reference": "todo-backend:1.2"})), Some("Never"));
        let explicit = BTreeSet::from(["todo-backend:1.2".to_owned()]);
        assert_eq!(found, Found { explicit, ..Found::default() });

        let web = |image: &str| of(json!({"reference": image}));
        let mut object = web("localhost:5000/web:2c3d");
        assert!(Rewrite::pinning([("localhost:5000/web:2c3d", "sha256:77")]).object(&mut object).changed);
        assert_eq!(object, web("localhost:5000/web:2c3d@sha256:77"));
        let pins = rewrite(None).as_it_stands(object.clone(), "IfNotPresent").expect("it is told by what stands");
        let mut desired = web("localhost:5000/web:2c3d");
        pins.object(&mut desired);
        assert_eq!(
            desired,
            of(json!({"reference": "localhost:5000/web:2c3d@sha256:77", "pullPolicy": "IfNotPresent"}))
        );
    }

    #[test]
    fn what_tekton_and_argo_call_a_container_is_one_in_their_objects_and_no_others() {
        let tekton = |image: &str| {
            json!({
                "steps": [{"name": "test", "image": image}, {"ref": {"name": "shared"}}],
                "sidecars": [{"image": image}],
                "stepTemplate": {"image": image},
            })
        };
        let argo = |image: &str| {
            json!({"templates": [
                {"name": "a", "container": {"image": image}, "sidecars": [{"image": image}]},
                {"name": "b", "script": {"image": image, "source": "x"}, "initContainers": [{"image": image}]},
                {"name": "c", "containerSet": {"containers": [{"image": image}]}},
                {"name": "d", "steps": [[{"name": "e", "template": "a"}]]},
            ]})
        };
        let task = |image: &str| json!({"apiVersion": "tekton.dev/v1", "kind": "TaskRun", "spec": {"taskSpec": tekton(image)}});
        let places: [&dyn Fn(&str) -> Value; 6] = [
            &|image| json!({"apiVersion": "tekton.dev/v1", "kind": "Task", "spec": tekton(image)}),
            &task,
            &|image| json!({"apiVersion": "tekton.dev/v1", "kind": "Pipeline", "spec": {"tasks": [{"taskSpec": tekton(image)}]}}),
            &|image| json!({"apiVersion": "triggers.tekton.dev/v1beta1", "kind": "TriggerTemplate", "spec": {"resourcetemplates": [task(image)]}}),
            &|image| json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTemplate", "spec": argo(image)}),
            &|image| json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "CronWorkflow", "spec": {"workflowSpec": argo(image)}}),
        ];
        for place in places {
            let (object, found) = rewritten(place("todo-backend"), None);
            assert_eq!(object, place("todo-backend:0a1b"));
            assert_eq!(found.used, used(&["todo-backend"]));
        }
        let (object, _) = rewritten(task("todo-backend"), Some("Never"));
        assert_eq!(object["spec"]["taskSpec"]["steps"][0]["imagePullPolicy"], "Never");
        for version in ["example.com/v1", "nottekton.dev/v1", "v1"] {
            let foreign = json!({"apiVersion": version, "spec": {
                "steps": [{"image": "todo-backend"}], "container": {"image": "todo-backend"}, "script": {"image": "todo-backend"},
            }});
            assert_eq!(rewritten(foreign.clone(), None), (foreign, Found::default()), "{version}");
        }
    }

    #[test]
    fn what_says_itself_which_image_it_means_is_left_alone() {
        let object = json!({"spec": {"containers": [
            {"image": "todo-backend:1.2"}, {"image": "todo-backend@sha256:00"}, {"image": "ghcr.io/todo-backend"}, {"image": 3},
        ]}});
        let (same, found) = rewritten(object.clone(), Some("Never"));
        assert_eq!(same, object);
        let explicit = used(&["todo-backend:1.2", "todo-backend@sha256:00"]);
        assert_eq!(found, Found { explicit, ..Found::default() }, "nothing is built for it");
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
