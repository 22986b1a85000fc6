//! What an environment's commit asks for: manifests with their origin, and what was read to make them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::images::Image;
use super::{CommitId, FieldPath, ObjectKey};

/// Where an object came from, so that every later error can name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The file in the repository, or the template of a chart, relative to the repository's root.
    pub file: Arc<str>,
    /// The line of the document's first line, from 1; 0 if the renderer can't tell.
    pub line: u32,
    /// The document in the file, from 1.
    pub document: u32,
}

impl fmt::Display for Origin {
    /// `file:line`, or `file (document n)` where the line is unknown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.document) {
            (0, 0 | 1) => f.write_str(&self.file),
            (0, document) => write!(f, "{} (document {document})", self.file),
            (line, _) => write!(f, "{}:{line}", self.file),
        }
    }
}

/// The first 16 bytes of a SHA-256: tells two contents apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 16]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let full: [u8; 32] = Sha256::digest(bytes).into();
        let mut half = [0; 16];
        half.copy_from_slice(&full[..16]);
        Self(half)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(6).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One object as it will be sent: complete, in its namespace, with the environment's label.
#[derive(Clone)]
pub struct Manifest {
    /// Its identity.
    pub key: ObjectKey,
    /// The version of its group, such as `v1`.
    pub version: Arc<str>,
    /// Where it came from.
    pub origin: Origin,
    /// Compact JSON, keys sorted, as the request's body carries it.
    pub json: Box<RawValue>,
    /// The digest of `json`.
    pub digest: Digest,
    /// Whether the object says `plumb.dev/replace: immutable`.
    pub replace_immutable: bool,
    /// Whether it is a Helm hook that Helm would delete and make again at each upgrade.
    pub made_anew: bool,
    /// Fields that are others' business, and not in `json`.
    pub left_alone: Option<Arc<LeftAlone>>,
}

/// Fields of an object that plumb leaves to others: those of `ignore` rules, and `spec.replicas` of what an autoscaler of the same render scales.
#[derive(Clone)]
pub struct LeftAlone {
    /// The fields, whether git has them or not.
    pub paths: Vec<FieldPath>,
    /// The object with what git says of these fields: how it is made. `None` if git says nothing of them.
    pub whole: Option<Box<RawValue>>,
}

impl Manifest {
    /// The fields that are others' business.
    pub fn left_alone(&self) -> &[FieldPath] {
        self.left_alone.as_ref().map_or(&[], |left_alone| &left_alone.paths)
    }

    /// The object as it is made: with the values that git has for what it then leaves to others.
    pub fn as_made(&self) -> Cow<'_, Self> {
        match self.left_alone.as_ref().and_then(|left_alone| left_alone.whole.as_ref()) {
            Some(whole) => Cow::Owned(Self { json: whole.clone(), ..self.clone() }),
            None => Cow::Borrowed(self),
        }
    }

    /// Whether it is a Job that the API server's own controller deletes some time after it has ended: gone is then how it ought to be.
    pub fn goes_by_itself(&self) -> bool {
        #[derive(serde::Deserialize)]
        struct Job {
            spec: Spec,
        }
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Spec {
            ttl_seconds_after_finished: Option<serde::de::IgnoredAny>,
        }
        let job = || serde_json::from_str::<Job>(self.json.get()).ok();
        self.key.kind.is("batch", "Job") && job().is_some_and(|job| job.spec.ttl_seconds_after_finished.is_some())
    }

    /// `group/version`, or the version alone for core.
    pub fn api_version(&self) -> String {
        let group = &self.key.kind.group;
        if group.is_empty() { self.version.to_string() } else { format!("{group}/{}", self.version) }
    }

    /// The object as JSON with the values of a Secret masked: for people.
    pub fn shown(&self) -> serde_json::Value {
        let mut value: serde_json::Value = serde_json::from_str(self.json.get()).unwrap_or_default();
        if self.key.kind.is("", "Secret") {
            mask_secret(&mut value);
        }
        value
    }
}

/// Masks `data` and `stringData` of a Secret in place, and the copy of it that client-side apply keeps in an annotation.
pub fn mask_secret(secret: &mut serde_json::Value) {
    for field in ["data", "stringData"] {
        if let Some(serde_json::Value::Object(data)) = secret.get_mut(field) {
            data.values_mut().for_each(|value| *value = super::secret::MASK.into());
        }
    }
    let last = secret.pointer_mut("/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration");
    if let Some(last) = last {
        *last = super::secret::MASK.into();
    }
}

impl fmt::Debug for Manifest {
    /// Never the body: it may be a Secret's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {:?})", self.key, self.origin, self.digest)
    }
}

/// What a render read: each path with the id of the tree or blob found there, or `None` where it looked and found nothing.
///
/// As long as all of them hold in another commit, the render is the same: this is the cache key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reads(pub Vec<(Box<str>, Option<CommitId>)>);

impl Desired {
    /// These objects of a commit, for a plan of them alone: nothing is known of what was read for them.
    pub fn only(commit: CommitId, objects: Vec<Arc<Manifest>>) -> Self {
        Self { commit, objects, images: Vec::new(), reads: Reads::default(), remarks: Vec::new() }
    }

    /// Tells two contents apart, whatever the commits and files they came from.
    pub fn digest(&self) -> Digest {
        let digests: Vec<u8> = self.objects.iter().flat_map(|manifest| manifest.digest.0).collect();
        Digest::of(&digests)
    }
}

/// All that one commit asks for in one environment.
#[derive(Debug, Clone)]
pub struct Desired {
    /// The commit it was rendered from.
    pub commit: CommitId,
    /// The objects, each key once, in the order of the files.
    pub objects: Vec<Arc<Manifest>>,
    /// The images of `plumb.yaml` that its containers use, and those that these are based on; each after its bases.
    pub images: Vec<Image>,
    /// What was read.
    pub reads: Reads,
    /// What a person should know of the definition beside this commit: `ignore` rules that are about nothing, Helm's hooks, images that
    /// nobody uses.
    pub remarks: Vec<String>,
}
