//! What takes traffic in: a Service of type LoadBalancer waits for its address, an Ingress where the environment asks for that.

use super::object::Object;
use crate::model::health::Status;
use crate::model::{GroupKind, Health};

const NO_ADDRESS: &str = "NoAddress";

pub(super) fn service(object: &Object) -> Health {
    let waits = object.spec("/type").text() == "LoadBalancer";
    if waits && !has_address(object) {
        return Health::new(Status::InProgress, NO_ADDRESS, "the load balancer has no address yet");
    }
    Health::current()
}

pub(super) fn ingress(object: &Object) -> Health {
    if !has_address(object) {
        return Health::new(Status::InProgress, NO_ADDRESS, "no ingress controller has given it an address yet");
    }
    Health::current()
}

fn has_address(object: &Object) -> bool {
    object.status("/loadBalancer/ingress").list().next().is_some()
}

/// Whether it is an Ingress and nothing but its address is missing. Not every controller gives one, so that only the environment can say whether to wait.
pub(super) fn is_ingress_without_address(kind: &GroupKind, health: &Health) -> bool {
    kind.is("networking.k8s.io", "Ingress") && &*health.reason == NO_ADDRESS
}
