//! What others added inside of our objects: told apart from defaults, and taken out.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use tokio::sync::watch as channel;

use super::Reconciler;
use super::look::planning;
use crate::cluster::execute::Done;
use crate::cluster::limiter;
use crate::drift::fields::FieldSet;
use crate::drift::fingerprint::{Class, Found};
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
    /// fields. Where that can't be told, all of them count.
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
        let known =
            self.memory().additions.get(key).filter(|known| known.0 == manifest.digest && known.1 == text).cloned();
        if let Some((_, _, added)) = known {
            return Some(added);
        }
        let added = match self.beyond_defaults(&manifest, &paths).await {
            Ok(Some(added)) => added,
            Ok(None) => return Some(FieldSet::default()), // Gone: the watch will tell.
            Err(failure) if failure.transient => return None,
            Err(_) => paths, // As of a Service with a port of its own, of which there can't be two.
        };
        self.memory().additions.insert(key.clone(), (manifest.digest, text, added.clone()));
        Some(added)
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
        let Some(live) = self.writer().read(key, info).await.map_err(planning)? else { return Ok(None) };
        let alone = self.writer().would_make(manifest, info).await.map_err(planning)?;
        Ok(Some(paths.differing(&live, &alone)))
    }

    /// Takes the additions out of these objects.
    pub async fn take_out(&self, keys: &HashSet<ObjectKey>, stop: &channel::Receiver<bool>) -> Done {
        self.pulse.step("taking out what others added");
        let known = match self.discover().await {
            Ok(known) => known,
            Err(failure) => return Done { failures: vec![failure], ..Done::default() },
        };
        let fields = keys.iter().filter_map(|key| self.foreign_fields(key));
        let additions: Vec<_> = fields.map(|(manifest, _, paths)| (manifest, paths)).collect();
        let done = self.executor(stop).take_out_all(additions, &known.kinds).await;
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
