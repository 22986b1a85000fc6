//! Giving a field to others without a dip: whoever drops a field that nobody else owns resets it.
//!
//! So before the apply that no longer has the field, its live value is applied once as [`HANDOVER`], without force: that manager keeps it until somebody
//! writes it, and a conflict says that somebody has it already. An object is made whole, with what git has, and gives the field away afterwards: the
//! order of writes in which a crash leaves nothing at its default.

use serde_json::{Value, json};

use super::apply::{Metadata, Whole};
use super::error::ClusterError;
use super::execute::Executor;
use super::heal::Attempts;
use crate::drift::ownership;
use crate::model::Manifest;
use crate::model::applyset::HANDOVER;
use crate::model::kinds::KindInfo;

impl Executor<'_> {
    /// Sees to it that somebody else owns what is left to others, as far as only `droppers` do, who will drop it.
    pub(super) async fn hand_over(
        &self,
        manifest: &Manifest,
        info: &KindInfo,
        droppers: &[&str],
    ) -> Result<(), ClusterError> {
        let mut attempts = Attempts::default();
        loop {
            let Some(now) = self.writer.object(&manifest.key, info).await? else { return Ok(()) };
            let owned = ownership::last_owned(now.owners(), droppers, manifest.left_alone())?.present_in(&now.content);
            if owned.is_empty() {
                return Ok(());
            }
            let body = share(manifest, &now, owned.pick(&now.content));
            let shared = self.writer.share(&manifest.key, info, HANDOVER, &body).await;
            // A conflict: somebody wrote one of them since they were read. That one is theirs, the others are handed over anew.
            if !attempts.overtaken(&shared) {
                return shared.map(drop);
            }
        }
    }

    /// Gives away what an object was made with and is left to others.
    pub(super) async fn give_away(
        &self,
        manifest: &Manifest,
        info: &KindInfo,
        made: Metadata,
    ) -> Result<Metadata, ClusterError> {
        if manifest.left_alone.as_ref().is_none_or(|left_alone| left_alone.whole.is_none()) {
            return Ok(made);
        }
        self.hand_over(manifest, info, &[self.writer.manager]).await?;
        self.writer.apply(manifest, info, made.metadata.uid.as_deref(), true).await
    }
}

/// The apply of these fields of this very object.
fn share(manifest: &Manifest, now: &Whole, fields: Value) -> Value {
    let mut metadata = fields.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    let identity = [
        ("name", json!(&*manifest.key.name)),
        ("namespace", json!(now.metadata.namespace)),
        ("uid", json!(now.metadata.uid)),
    ];
    metadata.extend(identity.map(|(field, value)| (field.to_owned(), value)));
    let head = [
        ("apiVersion", json!(manifest.api_version())),
        ("kind", json!(&*manifest.key.kind.kind)),
        ("metadata", Value::Object(metadata)),
    ];
    let mut body = fields.as_object().cloned().unwrap_or_default();
    body.extend(head.map(|(field, value)| (field.to_owned(), value)));
    Value::Object(body)
}
