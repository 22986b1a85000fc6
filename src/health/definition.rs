//! What makes the API server serve more kinds: CustomResourceDefinitions and APIServices.

use super::object::Object;
use crate::model::Health;
use crate::model::health::Status;

pub(super) fn custom_resource(object: &Object) -> Health {
    if let Some(refused) = object.condition("NamesAccepted").filter(|condition| condition.is_false()) {
        return refused.health(Status::Failed);
    }
    match object.condition("Established") {
        Some(established) if established.is_true() => Health::current(),
        Some(established) => established.health(Status::InProgress),
        None => Health::new(Status::InProgress, "NotEstablished", "it is not established yet"),
    }
}

pub(super) fn api_service(object: &Object) -> Health {
    match object.condition("Available") {
        Some(available) if available.is_true() => Health::current(),
        Some(available) => available.health(Status::InProgress),
        None => Health::new(Status::InProgress, "NotAvailable", "it has not been reached yet"),
    }
}
