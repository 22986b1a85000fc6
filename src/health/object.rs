//! What the rules read of an object. What is missing, or not of its type, reads as absent: status is written by anybody's controller.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;
use serde_json::Value;

use crate::model::Health;
use crate::model::health::Status;

/// An object as the API server sends it: metadata, spec and status. All else, such as a Secret's data, is dropped as it is read.
#[derive(Clone, Default, Deserialize)]
pub struct Object {
    /// `metadata`.
    #[serde(default)]
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

impl Object {
    /// A field of the spec, by JSON pointer.
    pub(super) fn spec(&self, pointer: &str) -> Field<'_> {
        Field(self.spec.pointer(pointer))
    }

    /// A field of the status, by JSON pointer.
    pub(super) fn status(&self, pointer: &str) -> Field<'_> {
        Field(self.status.pointer(pointer))
    }

    pub(super) fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    pub(super) fn generation(&self) -> Option<i64> {
        self.metadata.generation
    }

    /// `status.observedGeneration`, where the kind has it.
    pub(super) fn observed_generation(&self) -> Option<i64> {
        self.status("/observedGeneration").int()
    }

    /// Seconds since the epoch.
    pub(super) fn created(&self) -> Option<i64> {
        self.metadata.creation_timestamp.as_ref().map(seconds)
    }

    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }

    /// The condition of this type.
    pub(super) fn condition(&self, type_: &str) -> Option<Condition<'_>> {
        self.conditions().find(|condition| condition.type_() == type_)
    }

    pub(super) fn conditions(&self) -> impl Iterator<Item = Condition<'_>> {
        self.status("/conditions").list().map(Condition)
    }
}

/// A field that may be absent.
#[derive(Clone, Copy)]
pub(super) struct Field<'a>(Option<&'a Value>);

impl<'a> Field<'a> {
    pub(super) fn of(value: &'a Value) -> Self {
        Self(Some(value))
    }

    pub(super) fn at(self, pointer: &str) -> Self {
        Self(self.0.and_then(|value| value.pointer(pointer)))
    }

    pub(super) fn value(self) -> Option<&'a Value> {
        self.0
    }

    pub(super) fn exists(self) -> bool {
        self.0.is_some_and(|value| !value.is_null())
    }

    pub(super) fn int(self) -> Option<i64> {
        self.0?.as_i64()
    }

    /// A count of the API, which is never negative and has 32 bits. Controllers leave out what is 0.
    pub(super) fn count(self) -> i64 {
        self.count_or(0)
    }

    /// A count whose default is another.
    pub(super) fn count_or(self, default: i64) -> i64 {
        self.int().unwrap_or(default).clamp(0, i64::from(i32::MAX))
    }

    pub(super) fn text(self) -> &'a str {
        self.0.and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn is_true(self) -> bool {
        self.0 == Some(&Value::Bool(true))
    }

    /// Seconds since the epoch of an RFC 3339 time.
    pub(super) fn time(self) -> Option<i64> {
        chrono::DateTime::parse_from_rfc3339(self.text()).ok().map(|time| time.timestamp())
    }

    pub(super) fn list(self) -> impl Iterator<Item = Field<'a>> {
        self.0.and_then(Value::as_array).into_iter().flatten().map(Field::of)
    }
}

/// One element of `status.conditions`.
#[derive(Clone, Copy)]
pub(super) struct Condition<'a>(pub(super) Field<'a>);

impl<'a> Condition<'a> {
    pub(super) fn type_(self) -> &'a str {
        self.0.at("/type").text()
    }

    pub(super) fn is_true(self) -> bool {
        self.0.at("/status").text() == "True"
    }

    pub(super) fn is_false(self) -> bool {
        self.0.at("/status").text() == "False"
    }

    pub(super) fn reason(self) -> &'a str {
        self.0.at("/reason").text()
    }

    pub(super) fn message(self) -> &'a str {
        self.0.at("/message").text()
    }

    /// When its status last changed.
    pub(super) fn since(self) -> Option<i64> {
        self.0.at("/lastTransitionTime").time()
    }

    /// It says of which generation it speaks (KEP-1623), and that is not the newest.
    pub(super) fn is_of_older_generation(self, object: &Object) -> bool {
        self.0.at("/observedGeneration").int().is_some_and(|observed| Some(observed) != object.generation())
    }

    /// This status, for the condition's own reason. A controller may give none.
    pub(super) fn health(self, status: Status) -> Health {
        let reason = if self.reason().is_empty() { self.type_() } else { self.reason() };
        let said = format!("its condition {} is {}", self.type_(), self.0.at("/status").text());
        Health::new(status, reason, if self.message().is_empty() { &said } else { self.message() })
    }
}

fn seconds(time: &Time) -> i64 {
    time.0.as_second()
}
