//! Gathers the objects of one render: finishes each as soon as it is read, and takes over those of files that did not change.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::RenderError;
use super::finish::{
    Defined, Draft, Finisher, Nulls, Words, defines, expand, is_definition, is_other_hook, leave, remark_on_hooks,
};
use super::request::Request;
use super::yaml::Budget;
use crate::model::{CommitId, GroupKind, Manifest, ObjectKey, Origin};

/// The finished objects of the files of the last render.
pub(super) type Files = HashMap<Arc<str>, FinishedFile>;

/// What one file yielded.
pub(super) struct FinishedFile {
    /// The blob's id.
    id: CommitId,
    objects: Vec<Arc<Manifest>>,
    /// The kinds that its CustomResourceDefinitions define.
    defined: Defined,
    /// Whether an object's namespace was decided by a definition in the same render; if so, another file decides too.
    depends: bool,
}

/// An object on its way.
enum Slot {
    Finished(Arc<Manifest>),
    /// Of a kind that nobody knows yet: a file further on may define it.
    Later(Draft),
}

struct Gathered {
    file: Arc<str>,
    id: Option<CommitId>,
    slots: Vec<Slot>,
    defined: Defined,
}

/// Gathers the objects of one render.
pub struct Collector<'a> {
    request: &'a Request<'a>,
    known: &'a mut Files,
    gathered: Vec<Gathered>,
    defined: Defined,
    words: Words,
    nulls: Nulls,
    /// What may still be read.
    pub budget: Budget,
    fresh: usize,
}

/// All that a render yielded.
pub(super) struct Collected {
    pub objects: Vec<Arc<Manifest>>,
    /// Rules of the definition that are about nothing, and hooks.
    pub remarks: Vec<String>,
    pub files: Files,
    /// Whether every file was the same as in the last render, and none is gone.
    pub same: bool,
}

impl<'a> Collector<'a> {
    pub(super) fn new(request: &'a Request<'a>, known: &'a mut Files) -> Self {
        Self {
            request,
            known,
            gathered: Vec::new(),
            defined: Defined::new(),
            words: Words::default(),
            nulls: Nulls::Refuse,
            budget: Budget::default(),
            fresh: 0,
        }
    }

    /// What becomes of nulls in objects that are added from now on.
    pub fn nulls(&mut self, nulls: Nulls) {
        self.nulls = nulls;
    }

    /// Takes over what this file yielded in the last render, if it is the same file.
    pub fn take_known(&mut self, file: &str, id: CommitId) -> bool {
        let is_same = self.known.get(file).is_some_and(|known| known.id == id && !known.depends);
        let Some((file, known)) = is_same.then(|| self.known.remove_entry(file)).flatten() else { return false };
        self.defined.extend(known.defined.clone());
        let slots = known.objects.into_iter().map(Slot::Finished).collect();
        self.gathered.push(Gathered { file, id: Some(id), slots, defined: known.defined });
        true
    }

    /// Adds the objects of a file. With an id they are taken over by the next render that finds the same id at the same path.
    pub fn add(&mut self, file: Arc<str>, id: Option<CommitId>, drafts: Vec<Draft>) -> Result<(), RenderError> {
        self.fresh += 1;
        let mut objects = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let origin = draft.origin.clone();
            let before = objects.len();
            expand(draft, &mut objects);
            for _ in before + 1..objects.len() {
                self.budget.object().map_err(RenderError::yaml(origin.file.clone()))?;
            }
        }
        objects.retain(|draft| !is_other_hook(&draft.value) && !is_definition(&draft.value));
        let mut defined = Defined::new();
        objects.iter().for_each(|draft| defines(&draft.value, &mut defined));
        self.defined.extend(defined.clone());
        let mut slots = Vec::with_capacity(objects.len());
        for draft in objects {
            slots.push(if self.is_unknown(&draft) { Slot::Later(draft) } else { Slot::Finished(self.finish(draft)?) });
        }
        self.gathered.push(Gathered { file, id, slots, defined });
        Ok(())
    }

    /// Finishes what waited for a definition, and checks what only all objects together can show.
    pub(super) fn done(mut self) -> Result<Collected, RenderError> {
        let mut files = Files::new();
        let mut objects = Vec::new();
        let same = self.fresh == 0 && self.known.is_empty() && !self.gathered.is_empty();
        for Gathered { file, id, slots, defined } in std::mem::take(&mut self.gathered) {
            let mut depends = false;
            let mut own = Vec::with_capacity(slots.len());
            for slot in slots {
                own.push(match slot {
                    Slot::Finished(manifest) => manifest,
                    Slot::Later(draft) => {
                        depends = true;
                        self.finish(draft)?
                    }
                });
            }
            objects.extend(own.iter().cloned());
            if let Some(id) = id {
                files.insert(file, FinishedFile { id, objects: own, defined, depends });
            }
        }
        refuse_duplicates(&objects)?;
        if objects.is_empty() && !self.request.spec.allow.empty {
            return Err(RenderError::Empty(self.request.spec.path.clone()));
        }
        // Last, on all objects together: an autoscaler may stand in any file.
        let left = leave(objects, &self.request.spec.ignore)?;
        let remarks = left.remarks.into_iter().chain(remark_on_hooks(&left.objects)).collect();
        Ok(Collected { objects: left.objects, remarks, files, same })
    }

    fn finish(&mut self, draft: Draft) -> Result<Arc<Manifest>, RenderError> {
        let mut finisher = Finisher {
            spec: self.request.spec,
            part_of: self.request.part_of,
            kinds: self.request.kinds,
            defined: &self.defined,
            nulls: self.nulls,
            words: std::mem::take(&mut self.words),
        };
        let finished = finisher.finish(draft);
        self.words = finisher.words;
        Ok(Arc::new(finished?))
    }

    fn is_unknown(&self, draft: &Draft) -> bool {
        let field = |field: &str| draft.value.get(field).and_then(serde_json::Value::as_str);
        let (Some(version), Some(kind)) = (field("apiVersion"), field("kind")) else { return false };
        let group = version.split_once('/').map_or("", |(group, _)| group);
        self.request.kinds.preferred(&GroupKind::new(group, kind)).is_none()
    }
}

fn refuse_duplicates(objects: &[Arc<Manifest>]) -> Result<(), RenderError> {
    let mut seen: HashMap<&ObjectKey, &Origin> = HashMap::with_capacity(objects.len());
    for object in objects {
        if let Some(first) = seen.insert(&object.key, &object.origin) {
            let (key, first, second) = (object.key.clone(), first.clone(), object.origin.clone());
            return Err(RenderError::Duplicate { key, first, second });
        }
    }
    Ok(())
}
