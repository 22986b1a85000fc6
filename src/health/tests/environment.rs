use proptest::prelude::*;

use serde_json::json;

use crate::health::assess;
use crate::health::environment::Summary;
use crate::model::health::Status;
use crate::model::{GroupKind, Health, Live, ObjectKey};

fn live(health: Option<Health>) -> Live {
    let health = health.map(Box::new);
    Live { health, ..bare(false) }
}

fn bare(terminating: bool) -> Live {
    let metadata = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta::default();
    Live { terminating, ..crate::drift::ownership::reduce(&metadata, &mut Default::default()) }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("apps", "Deployment", "n", name)
}

#[test]
fn an_ingress_needs_an_address_only_where_that_is_waited_for() {
    let kind = GroupKind::new("networking.k8s.io", "Ingress");
    let object = serde_json::from_value(json!({"kind": "Ingress", "status": {"loadBalancer": {}}})).unwrap();
    let key = ObjectKey::new("networking.k8s.io", "Ingress", "n", "web");
    let without = live(Some(assess(&kind, &object)));
    let going = Live { terminating: true, ..without.clone() };
    let summary = |live, wait_for_ingress| Summary::of([(&key, Some(live))], wait_for_ingress, 0);
    assert!(summary(&without, false).is_current());
    assert_eq!(
        summary(&without, true).words(&[]),
        "0 of 1 objects are ready; Ingress/n/web: no ingress controller has given it an address yet"
    );
    assert!(!summary(&going, false).is_current());
}

#[test]
fn the_failed_are_named_before_the_waiting_and_the_rest_is_counted() {
    let objects = [
        ("a", Some(live(Some(Health::new(Status::InProgress, "TooFewReady", "0 of 1 replicas are ready"))))),
        ("b", Some(live(None))),
        ("c", None),
        ("d", Some(bare(true))),
        ("e", Some(live(Some(Health::new(Status::Failed, "ProgressDeadlineExceeded", "it timed out"))))),
    ];
    let keys: Vec<_> = objects.iter().map(|(name, live)| (key(name), live.as_ref())).collect();
    let summary = Summary::of(keys.iter().map(|(key, live)| (key, *live)), false, 0);
    assert!(summary.has_failed() && !summary.is_current());
    assert_eq!(
        summary.words(&[(key("e"), "Pod e-1: it crashes".to_owned())]),
        "1 of 5 objects are ready; Deployment/n/e: it timed out: Pod e-1: it crashes; \
         Deployment/n/a: 0 of 1 replicas are ready; Deployment/n/c: it does not stand; and 1 more"
    );
}

#[test]
fn what_the_objects_say_is_cleaned() {
    let (key, live) = (key("a"), live(Some(Health::new(Status::Failed, "Error", "it said hunter2"))));
    let summary = Summary::of([(&key, Some(&live))], false, 0).cleaned(|text| text.replace("hunter2", "••••••"));
    assert_eq!(summary.words(&[]), "0 of 1 objects are ready; Deployment/n/a: it said ••••••");
}

#[test]
fn an_object_turns_at_its_second() {
    let pending = Health::new(Status::InProgress, "Unschedulable", "no room").turning(Some(20), Status::Failed);
    let (key, live) = (key("a"), live(Some(pending)));
    let at = |now| Summary::of([(&key, Some(&live))], false, now);
    assert!(!at(19).has_failed());
    assert_eq!(at(19).turns_at, Some(20));
    assert!(at(20).has_failed());
    assert_eq!(at(20).turns_at, None);
}

#[test]
fn an_environment_of_nothing_is_healthy() {
    assert_eq!(Summary::of([], false, 0).words(&[]), "all 0 objects are ready");
}

fn any_live() -> impl Strategy<Value = Option<Live>> {
    let status = prop::sample::select(vec![Status::Current, Status::InProgress, Status::Failed]);
    let health = (status.clone(), prop::option::of(0_i64..100), status)
        .prop_map(|(is, at, to)| Health::new(is, "Reason", "message").turning(at, to));
    prop::option::weighted(
        0.9,
        (prop::option::of(health), any::<bool>())
            .prop_map(|(health, terminating)| Live { terminating, ..live(health) }),
    )
}

proptest! {
    #[test]
    fn it_is_healthy_if_and_only_if_every_object_is(objects in prop::collection::vec(any_live(), 0..12), now in 0_i64..120) {
        let keys: Vec<ObjectKey> = (0..objects.len()).map(|number| key(&number.to_string())).collect();
        let summary = Summary::of(keys.iter().zip(objects.iter().map(Option::as_ref)), false, now);
        let status = |live: &Live| live.health.as_ref().map_or(Status::Current, |health| health.status(now));
        let well = |live: &Option<Live>| live.as_ref().is_some_and(|live| !live.terminating && status(live) == Status::Current);
        let failed = |live: &Option<Live>| live.as_ref().is_some_and(|live| !live.terminating && status(live) == Status::Failed);
        prop_assert_eq!(summary.is_current(), objects.iter().all(well));
        prop_assert_eq!(summary.has_failed(), objects.iter().any(failed));
        prop_assert_eq!(summary.unready, objects.iter().filter(|live| !well(live)).count());
        prop_assert_eq!(summary.named.len(), summary.unready.min(3));
        prop_assert!(summary.turns_at.is_none_or(|at| at > now));
    }
}
