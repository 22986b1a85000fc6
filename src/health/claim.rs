//! PersistentVolumeClaims.

use super::object::Object;
use crate::model::Health;
use crate::model::health::Status;

/// The volume controller has taken a claim up long before. In seconds.
const TO_TAKE_UP: i64 = 15;

/// Written on a claim when a volume is being made for it; the second is that of older clusters.
const PROVISIONERS: [&str; 2] =
    ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"];

pub(super) fn assess(object: &Object) -> Health {
    match object.status("/phase").text() {
        "Bound" => Health::current(),
        "Lost" => Health::new(Status::Failed, "Lost", "the volume it was bound to is gone"),
        _ => {
            let waits = Health::new(Status::InProgress, "Pending", "it is not bound to a volume yet");
            let has_class = !object.spec("/storageClassName").text().is_empty();
            let taken_up = PROVISIONERS.iter().any(|name| object.annotation(name).is_some());
            // A class with WaitForFirstConsumer makes nothing until a pod wants it, and a CronJob's may come tomorrow. If a workload can't start for want of
            // it, that one says so. kstatus and Argo CD wait for ever.
            match has_class && !taken_up {
                true => waits.turning(object.created().map(|created| created + TO_TAKE_UP), Status::Current),
                false => waits,
            }
        }
    }
}
