//! The images of containers, in the objects of a render.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

use super::error::{ObjectError, Problem};
use super::serialise;
use crate::build::rewrite::{Found, Rewrite};
use crate::model::{Digest, LeftAlone, Manifest, ObjectKey};

/// A render with the images that are built for it.
pub struct Containers {
    /// The objects, in their order.
    pub objects: Vec<Arc<Manifest>>,
    /// The declared names that are used.
    pub used: BTreeSet<String>,
    /// Images of declared names that were left alone, since they say themselves which one they mean.
    pub explicit: Vec<(ObjectKey, String)>,
}

/// Rewrites the images of all objects; what is left to others, too, since an object is made with it.
pub fn rewrite(objects: &[Arc<Manifest>], rewrite: &Rewrite) -> Result<Containers, Box<ObjectError>> {
    let mut out =
        Containers { objects: Vec::with_capacity(objects.len()), used: BTreeSet::new(), explicit: Vec::new() };
    for object in objects {
        let mut found = Found::default();
        let rewritten = one(object, rewrite, &mut found).map_err(|problem| {
            let (origin, object) = (object.origin.clone(), Some(object.key.clone()));
            Box::new(ObjectError { origin, object, problem })
        })?;
        out.objects.push(rewritten.map_or_else(|| Arc::clone(object), Arc::new));
        out.used.extend(found.used);
        out.explicit.extend(found.explicit.into_iter().map(|image| (object.key.clone(), image)));
    }
    Ok(out)
}

/// The object with its images, if that makes it another.
fn one(object: &Manifest, rewrite: &Rewrite, found: &mut Found) -> Result<Option<Manifest>, Problem> {
    // A schema may have fields of these names.
    if object.key.kind.is("apiextensions.k8s.io", "CustomResourceDefinition") {
        return Ok(None);
    }
    let json = text(&object.json, rewrite, found)?;
    let whole = object.left_alone.as_ref().and_then(|left_alone| left_alone.whole.as_ref());
    let whole = whole.map(|whole| text(whole, rewrite, found)).transpose()?.flatten();
    if json.is_none() && whole.is_none() {
        return Ok(None);
    }
    let mut rewritten = object.clone();
    if let Some(json) = json {
        rewritten.digest = Digest::of(json.get().as_bytes());
        rewritten.json = json;
    }
    if let (Some(whole), Some(left_alone)) = (whole, &object.left_alone) {
        let paths = left_alone.paths.clone();
        rewritten.left_alone = Some(Arc::new(LeftAlone { paths, whole: Some(whole) }));
    }
    Ok(Some(rewritten))
}

fn text(json: &RawValue, rewrite: &Rewrite, found: &mut Found) -> Result<Option<Box<RawValue>>, Problem> {
    if !rewrite.may_concern(json.get()) {
        return Ok(None);
    }
    let mut value: Value = serde_json::from_str(json.get()).map_err(|_| Problem::Json)?;
    let here = rewrite.object(&mut value);
    found.used.extend(here.used);
    found.explicit.extend(here.explicit);
    if here.changed { serialise(&value).map(Some) } else { Ok(None) }
}
