//! Which images the workloads of the cluster name, whoever made them. Asked before images are removed, and of all namespaces.
//!
//! Of each object's spec the values under `image` are kept while it is read, so that no page of a large cluster is held whole.

use std::collections::BTreeSet;
use std::fmt;

use kube::core::params::ListParams;
use kube::core::{ListMeta, Request};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::api::{As, Caller};
use super::error::ClusterError;

/// What has containers, makes what has, or is kept to go back to.
const WORKLOADS: [&str; 9] = [
    "/api/v1/pods",
    "/api/v1/replicationcontrollers",
    "/apis/apps/v1/controllerrevisions",
    "/apis/apps/v1/daemonsets",
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/replicasets",
    "/apis/apps/v1/statefulsets",
    "/apis/batch/v1/cronjobs",
    "/apis/batch/v1/jobs",
];

/// A pod has some ten kilobytes.
const PAGE: u32 = 250;

/// Every image that a workload of the cluster names. One list that fails fails all: it may be the one that matters.
pub async fn named(caller: &Caller) -> Result<BTreeSet<String>, ClusterError> {
    let mut images = BTreeSet::new();
    for path in WORKLOADS {
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let request = Request::new(path).list(&params);
            let page: Page = caller.call(&|| format!("list {path}"), As::Plumb, request).await?;
            for object in page.items {
                images.extend(object.spec.0);
                images.extend(object.data.0);
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(images)
}

#[derive(Deserialize)]
struct Page {
    metadata: ListMeta,
    items: Vec<Object>,
}

/// Where an object says what it asks for. A status tells of images in other words.
#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    spec: Images,
    /// A ControllerRevision's.
    #[serde(default)]
    data: Images,
}

/// The images that a document names: what is text under `image`, and under `reference` in a volume's `image`.
#[derive(Debug, Default)]
struct Images(Vec<String>);

impl<'de> Deserialize<'de> for Images {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut images = Vec::new();
        Walk { found: &mut images, is_image: false }.deserialize(deserializer)?;
        Ok(Self(images))
    }
}

struct Walk<'a> {
    found: &'a mut Vec<String>,
    /// Text that stands here is an image.
    is_image: bool,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let is_image = key == "image" || (self.is_image && key == "reference");
            map.next_value_seed(Walk { found: self.found, is_image })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Walk { found: self.found, is_image: false })?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if self.is_image {
            self.found.push(text.to_owned());
        }
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        IgnoredAny::deserialize(deserializer).map(drop)
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_wherever_a_workload_has_them() {
        let page = r#"{"metadata": {"continue": ""}, "items": [
            {"metadata": {"annotations": {"image": "no:1"}}, "status": {"containerStatuses": [{"image": "no:2"}]}, "spec": {
                "containers": [{"image": "a:1", "env": [{"name": "image", "value": "no:3"}], "resources": {"limits": {"cpu": 1.5}}}],
                "initContainers": [{"image": "b:1", "tty": true, "stdin": null}],
                "ephemeralContainers": [{"image": "c:1", "ports": [{"containerPort": 80, "offset": -1}]}],
                "volumes": [{"image": {"reference": "d:1", "pullPolicy": "Never"}}, {"rbd": {"image": "disk"}}]}},
            {"spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": [{"image": "e:1"}]}}}}}},
            {"data": {"spec": {"template": {"$patch": "replace", "spec": {"containers": [{"image": "f:1"}]}}}}},
            {"metadata": {}}, {"spec": null}
        ]}"#;
        let page: Page = serde_json::from_str(page).unwrap();
        let mut found: Vec<String> =
            page.items.into_iter().flat_map(|object| object.spec.0.into_iter().chain(object.data.0)).collect();
        found.sort();
        assert_eq!(found, ["a:1", "b:1", "c:1", "d:1", "disk", "e:1", "f:1"]);
    }
}
