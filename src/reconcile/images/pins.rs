//! What a registry has decided of a commit's images: the digest beside the tag, and the pull policy that goes with it.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use crate::build::rewrite::Rewrite;
use crate::builder::PullPolicy;
use crate::cluster::discovery::Known;
use crate::cluster::limiter;
use crate::model::images::Image;
use crate::model::kinds::Lookup;
use crate::model::{Desired, Failure, Manifest, Stage};
use crate::reconcile::Reconciler;
use crate::reconcile::look::planning;
use crate::render::finish::rewrite;

impl Reconciler {
    /// The same with the digests of images that stand in a registry: whoever moves a tag there changes nothing here.
    pub(in crate::reconcile) async fn pinned(&self, mut desired: Desired, known: &Known) -> Result<Desired, Failure> {
        if desired.images.is_empty() {
            return Ok(desired);
        }
        let Some(images) = &self.shared.images else { return self.pinned_as_it_stands(desired, known).await };
        let used = desired.images.iter().filter(|image| image.used).map(Image::reference).collect();
        let digests = images.digests(used).await.map_err(|error| images.failure(None, &error))?;
        if !digests.is_empty() {
            let pins = Rewrite::pinning(digests.iter().map(|(reference, digest)| (&**reference, &**digest)));
            desired.objects = rewritten(&desired.objects, &pins)?;
        }
        Ok(desired)
    }

    /// The same without a builder, for a verb that looks on: digest and pull policy of what stands are taken to be right. It can write nothing
    /// that has images.
    async fn pinned_as_it_stands(&self, mut desired: Desired, known: &Known) -> Result<Desired, Failure> {
        let names =
            desired.images.iter().filter(|image| image.used).map(|image| (&*image.source.name, image.reference()));
        let images = Rewrite::new(names, None);
        let as_it_stands = async |object: Arc<Manifest>| -> Result<_, Failure> {
            let (concerned, key) = (images.may_concern(object.json.get()), &object.key);
            let Lookup::Served(info) = known.kinds.lookup(&key.kind, &object.version) else { return Ok(object) };
            let live = if concerned { self.writer().read(key, info).await.map_err(planning)? } else { None };
            match live.and_then(|live| images.as_it_stands(live, PullPolicy::IfNotPresent.as_str())) {
                Some(pins) => Ok(rewritten(std::slice::from_ref(&object), &pins)?.pop().unwrap_or(object)),
                None => Ok(object),
            }
        };
        let objects = stream::iter(desired.objects).map(as_it_stands).buffered(limiter::MOST);
        desired.objects = objects.try_collect().await?;
        Ok(desired)
    }
}

fn rewritten(objects: &[Arc<Manifest>], images: &Rewrite) -> Result<Vec<Arc<Manifest>>, Failure> {
    let rewritten = rewrite(objects, images).map_err(|error| Failure::new(Stage::Render, error.to_string()));
    Ok(rewritten?.objects)
}
