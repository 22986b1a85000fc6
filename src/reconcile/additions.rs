//! What others added inside of our objects: told apart from defaults, and taken out.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use serde_json::Value;
use tokio::sync::watch as channel;

use super::Reconciler;
use super::look::planning;
use crate::cluster::ClusterError;
use crate::cluster::execute::Done;
use crate::cluster::limiter;
use crate::drift::fields::FieldSet;
use crate::drift::fingerprint::{Class, Found};
use crate::model::environment::ForeignAdditions;
use crate::model::kinds::Lookup;
use crate::model::{Failure, Live, Manifest, ObjectKey};

/// What became of objects that have fields of others in them.
#[derive(Debug, Default)]
pub struct Additions {
    /// They have additions.
    pub found: Vec<Found>,
    /// Those are defaults, or left to others.
    pub none: Vec<ObjectKey>,
    /// That can't be told at the moment.
    pub unknown: Vec<ObjectKey>,
}

impl Reconciler {
    /// Which of these objects, that stand as they were applied, have additions.
    ///
    /// Who creates or replaces a whole object owns the defaults of all that git does not say. So what git's object alone would be is asked once for each set of
    /// fields. Where the API server refuses to say, none of them count: there is no alarm on doubt.
    pub async fn additions(&self, keys: Vec<ObjectKey>) -> Additions {
        let judged = futures::stream::iter(keys).map(|key| async move {
            let paths = self.added(&key).await;
            (key, paths)
        });
        let mut additions = Additions::default();
        for (key, paths) in judged.buffered(limiter::MOST).collect::<Vec<_>>().await {
            match paths {
                None => additions.unknown.push(key),
                Some(paths) if paths.is_empty() => additions.none.push(key),
                Some(paths) => additions.found.push(Found { key, class: Class::ForeignAddition, paths }),
            }
        }
        additions
    }

    /// `None` if it can't be asked at the moment.
    async fn added(&self, key: &ObjectKey) -> Option<FieldSet> {
        let Some((manifest, text, paths)) = self.foreign_fields(key) else { return Some(FieldSet::default()) };
        if let Some(added) = self.known_additions(&manifest, &text) {
            return Some(self.told_or_taken(&added));
        }
        let added = match self.beyond_defaults(&manifest, &paths).await {
            Ok(Some(added)) => added,
            Ok(None) => return Some(FieldSet::default()), // Gone: the watch will tell.
            Err(failure) if failure.transient => return None,
            Err(_) => FieldSet::default(),
        };
        let found = self.told_or_taken(&added);
        self.memory().additions.insert(key.clone(), (manifest.digest, text, added));
        Some(found)
    }

    /// Finalizers are told, and never taken out.
    fn told_or_taken(&self, added: &FieldSet) -> FieldSet {
        match self.as_held().definition.spec.foreign_additions {
            ForeignAdditions::Report => added.clone(),
            ForeignAdditions::Revert => added.without_finalizers(),
        }
    }

    /// Whether it takes requests to tell what others added to an object.
    pub fn asks_of_additions(&self, key: &ObjectKey) -> bool {
        self.foreign_fields(key).is_some_and(|(manifest, text, _)| self.known_additions(&manifest, &text).is_none())
    }

    /// What was found the last time, if neither git's object nor the fields of others have changed since.
    fn known_additions(&self, manifest: &Manifest, text: &Arc<str>) -> Option<FieldSet> {
        let memory = self.memory();
        let (digest, known, added) = memory.additions.get(&manifest.key)?;
        (*digest == manifest.digest && known == text).then(|| added.clone())
    }

    /// An object of the target with fields of others in it: their text and what of them is not left to others.
    fn foreign_fields(&self, key: &ObjectKey) -> Option<(Arc<Manifest>, Arc<str>, FieldSet)> {
        let manifest = self.target_manifest(key)?;
        let live = |live: &Live| Some((Arc::clone(live.foreign.as_ref()?), additions(live, &manifest)?));
        let (text, paths) =
            self.cluster.inventory.with_members(&self.part_of, |members| members.get(key).and_then(live))?;
        Some((manifest, text, paths))
    }

    /// Those of the paths at which the object is not as git's alone would be.
    async fn beyond_defaults(&self, manifest: &Manifest, paths: &FieldSet) -> Result<Option<FieldSet>, Failure> {
        let (known, key) = (self.discover().await?, &manifest.key);
        let Lookup::Served(info) = known.kinds.lookup(&key.kind, &manifest.version) else { return Ok(None) };
        let held = self.as_held();
        let Some(live) = held.writer().read(key, info).await.map_err(planning)? else { return Ok(None) };
        let alone = held.writer().would_make(manifest, info).await;
        told_apart(paths, &live, alone).map(Some).map_err(planning)
    }

    /// Takes the additions out of these objects.
    pub async fn take_out(&self, keys: &HashSet<ObjectKey>, stop: &channel::Receiver<bool>) -> Done {
        self.pulse.step("taking out what others added");
        let known = match self.discover().await {
            Ok(known) => known,
            Err(failure) => return Done { failures: vec![failure], ..Done::default() },
        };
        let fields = keys.iter().filter_map(|key| self.foreign_fields(key));
        let additions: Vec<_> = fields.map(|(manifest, _, paths)| (manifest, self.told_or_taken(&paths))).collect();
        let held = self.as_held();
        let done = held.executor(stop).take_out_all(additions, &known.kinds).await;
        self.remember(&done);
        done
    }

    /// The objects that have fields of others in them.
    pub fn with_additions(&self) -> Vec<ObjectKey> {
        self.cluster.inventory.with_members(&self.part_of, |members| {
            let with = members.iter().filter(|(_, live)| live.foreign.is_some());
            with.map(|(key, _)| key.clone()).collect()
        })
    }

    /// Has the additions of these objects looked at again, or of all.
    pub fn look_at_additions_again(&self, among: Option<&HashSet<ObjectKey>>) {
        let mut keys = self.with_additions();
        keys.retain(|key| among.is_none_or(|among| among.contains(key)));
        self.cluster.inventory.change_again(&self.part_of, keys.into_iter().map(|key| (key, None)));
    }
}

/// What others own inside an object, but for what is left to them; `None` if nothing.
pub(super) fn additions(live: &Live, manifest: &Manifest) -> Option<FieldSet> {
    let paths = FieldSet::parse(live.foreign.as_ref()?).ok()?.outside(manifest.left_alone());
    (!paths.is_empty()).then_some(paths)
}

/// Those of the paths at which a live object is not as it would be `alone`.
///
/// There may be none like it: a Service with a port or an address of its own, a definition, whose name follows from its content, a quota that is used up, a right
/// that is missing. Then nobody knows which of the fields are defaults, and asking again would not help.
fn told_apart(paths: &FieldSet, live: &Value, alone: Result<Value, ClusterError>) -> Result<FieldSet, ClusterError> {
    match alone {
        Ok(alone) => {
            // Where it would have no parent of them either, that is named: it is what is in it that was added.
            let differing = paths.differing(live, &alone);
            Ok(differing.intersection(paths).union(&paths.under(&differing.difference(paths))))
        }
        Err(error) if matches!(error.code(), 400 | 403 | 404 | 405 | 409 | 413 | 422) => Ok(FieldSet::default()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;

    fn refused(code: u16, message: &str) -> Result<Value, ClusterError> {
        let status = Box::new(Status { code, message: message.to_owned(), ..Status::default() });
        Err(ClusterError::Refused { what: "dry-run".to_owned(), status })
    }

    #[test]
    fn without_an_answer_about_defaults_nothing_is_an_addition() {
        let fields = json!({"f:spec": {"f:sessionAffinity": {}, "f:extra": {}}});
        let paths = FieldSet::from_value(&fields).unwrap();
        let live = json!({"spec": {"sessionAffinity": "None", "extra": "theirs"}});
        let alone = Ok(json!({"spec": {"sessionAffinity": "None"}}));
        assert_eq!(told_apart(&paths, &live, alone).unwrap().paths(), ["spec.extra"]);
        // An empty map is not kept.
        let fields = FieldSet::from_value(&json!({"f:data": {"f:y": {}}})).unwrap();
        let added = told_apart(&fields, &json!({"data": {"y": "2"}}), Ok(json!({}))).unwrap();
        assert_eq!(added.paths(), ["data.y"]);
        for (code, message) in [
            (422, "spec.ports[0].nodePort: provided port is already allocated"),
            (422, "spec.clusterIPs: failed to allocate IP 10.96.0.7: provided IP is already allocated"),
            (422, "metadata.name: must be spec.names.plural+\".\"+spec.group"),
            (403, "exceeded quota: services"),
            (403, "services is forbidden: cannot create"),
            (400, "admission webhook does not support dry run"),
        ] {
            let added = told_apart(&paths, &live, refused(code, message)).unwrap();
            assert!(added.is_empty(), "{message}: {:?}", added.paths());
        }
        // These pass, and are asked again.
        for (code, message) in [(429, ""), (503, ""), (500, "failed calling webhook")] {
            assert!(
                told_apart(&paths, &live, refused(code, message)).is_err_and(|error| error.is_transient()),
                "{code}"
            );
        }
    }
}
