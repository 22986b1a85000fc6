//! Services: one of type LoadBalancer waits for its address.

use super::object::Object;
use crate::model::Health;
use crate::model::health::Status;

pub(super) fn assess(object: &Object) -> Health {
    let waits = object.spec("/type").text() == "LoadBalancer";
    if waits && object.status("/loadBalancer/ingress").list().next().is_none() {
        return Health::new(Status::InProgress, "NoAddress", "the load balancer has no address yet");
    }
    Health::current()
}
