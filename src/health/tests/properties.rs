//! What holds of every object, whatever its status says.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::table;
use crate::health::{Object, RULES, assess};
use crate::model::GroupKind;
use crate::model::health::Status;

fn kind() -> impl Strategy<Value = GroupKind> {
    let custom = GroupKind::new("example.org", "Widget");
    let mut kinds: Vec<GroupKind> = RULES.iter().map(|(group, kind, _)| GroupKind::new(group, kind)).collect();
    kinds.extend([custom, GroupKind::new("", "Secret")]);
    prop::sample::select(kinds)
}

/// Words that the rules look for, and others.
fn word() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "True",
        "False",
        "Unknown",
        "Ready",
        "Available",
        "Progressing",
        "ProgressDeadlineExceeded",
        "ReplicaFailure",
        "Reconciling",
        "Stalled",
        "Running",
        "Pending",
        "Failed",
        "Succeeded",
        "Complete",
        "Suspended",
        "PodScheduled",
        "Unschedulable",
        "CrashLoopBackOff",
        "Bound",
        "Lost",
        "LoadBalancer",
        "OnDelete",
        "AbleToScale",
        "ScalingActive",
        "Established",
        "NamesAccepted",
        "2026-11-21T12:00:00Z",
        "9999-99-99",
    ];
    prop_oneof![4 => prop::sample::select(WORDS).prop_map(str::to_owned), 1 => ".{0,8}"]
}

fn name() -> impl Strategy<Value = String> {
    const NAMES: &[&str] = &[
        "conditions",
        "type",
        "status",
        "reason",
        "message",
        "lastTransitionTime",
        "observedGeneration",
        "replicas",
        "readyReplicas",
        "updatedReplicas",
        "availableReplicas",
        "phase",
        "containerStatuses",
        "state",
        "waiting",
        "terminated",
        "lastState",
        "exitCode",
        "restartCount",
        "loadBalancer",
        "ingress",
        "updateStrategy",
        "rollingUpdate",
        "partition",
        "desiredNumberScheduled",
        "storageClassName",
        "suspend",
        "paused",
    ];
    prop_oneof![6 => prop::sample::select(NAMES).prop_map(str::to_owned), 1 => ".{0,4}"]
}

/// Any JSON, made more often than not of what the rules look for.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2_i64..6).prop_map(Value::from),
        prop::sample::select(vec![i64::MAX, i64::MIN]).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// An object of the table with one of its fields replaced by anything: nearer to what controllers write.
fn mutated() -> impl Strategy<Value = (GroupKind, Value)> {
    let known: Vec<Value> = table::all().collect();
    (prop::sample::select(known), any::<prop::sample::Index>(), value()).prop_map(|(mut object, at, value)| {
        let kind = table::kind_of(&object);
        let mut paths: Vec<String> = Vec::new();
        for field in ["/spec", "/status"] {
            if let Some(inner) = object.pointer(field) {
                collect(inner, field.to_owned(), &mut paths);
            }
        }
        if !paths.is_empty() {
            *object.pointer_mut(at.get(&paths).as_str()).unwrap() = value;
        }
        (kind, object)
    })
}

fn collect(value: &Value, path: String, paths: &mut Vec<String>) {
    let escape = |name: &String| name.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, inner)| collect(inner, format!("{path}/{}", escape(name)), paths));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, inner)| collect(inner, format!("{path}/{at}"), paths));
        }
        _ => {}
    }
    paths.push(path);
}

fn object() -> impl Strategy<Value = (GroupKind, Value)> {
    let any = (kind(), value(), value(), prop::option::of(0_i64..4)).prop_map(|(kind, spec, status, generation)| {
        (kind, json!({"metadata": {"generation": generation}, "spec": spec, "status": status}))
    });
    prop_oneof![any, mutated()]
}

fn read(object: &Value) -> Object {
    serde_json::from_value(object.clone()).unwrap()
}

proptest! {
    #[test]
    fn anything_is_judged_and_the_judgement_is_bounded((kind, object) in object(), now in any::<i64>()) {
        let health = assess(&kind, &read(&object));
        health.status(now);
        prop_assert!(health.turns_at(now).is_none_or(|at| at > now));
        prop_assert!(!health.reason.is_empty());
        prop_assert!(health.message.chars().count() <= 600 && !health.message.contains('\n'));
        prop_assert!(health.status(i64::MIN) == Status::Current || !health.message.is_empty(), "{health:?} says why");
    }

    #[test]
    fn being_deleted_wins((kind, mut object) in object(), now in any::<i64>()) {
        object["metadata"]["deletionTimestamp"] = "2026-11-21T12:00:00Z".into();
        prop_assert_eq!(assess(&kind, &read(&object)).status(now), Status::Terminating);
    }

    #[test]
    fn a_spec_that_was_not_observed_is_never_current(
        (kind, mut object) in object(), observed in 0_i64..9, behind in 1_i64..9, now in any::<i64>(),
    ) {
        object["metadata"]["generation"] = (observed + behind).into();
        if !object["status"].is_object() {
            object["status"] = json!({});
        }
        object["status"]["observedGeneration"] = observed.into();
        let status = assess(&kind, &read(&object)).status(now);
        prop_assert!(matches!(status, Status::InProgress | Status::Terminating), "{:?}", status);
    }

    #[test]
    fn judging_twice_is_judging_once((kind, object) in object()) {
        prop_assert_eq!(assess(&kind, &read(&object)), assess(&kind, &read(&object)));
    }
}
