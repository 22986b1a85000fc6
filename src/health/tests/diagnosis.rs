use serde_json::{Value, json};

use super::table::documents;
use crate::health::Object;
use crate::health::diagnosis::{Culprit, Evidence, Log, culprit, newest, selector};

fn object(value: Value) -> Object {
    serde_json::from_value(value).unwrap()
}

fn deployment(selector: Value) -> Object {
    object(json!({"metadata": {"uid": "deployment"}, "spec": {"selector": selector}}))
}

fn owned(owner: &str, name: &str, revision: &str) -> Value {
    json!({"metadata": {
        "name": name, "uid": name, "annotations": {"deployment.kubernetes.io/revision": revision},
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Any", "name": "any", "uid": owner, "controller": true}],
    }})
}

/// A pod of the table, as the head of its document calls it, with a name and an owner.
fn pod(title: &str, name: &str, owner: &str) -> Object {
    let text = include_str!("objects/pod.yaml");
    let (.., mut pod) = documents(text).find(|(head, ..)| head.ends_with(title)).unwrap();
    pod["metadata"]["name"] = name.into();
    pod["metadata"]["uid"] = format!("uid of {name}").into();
    pod["metadata"]["ownerReferences"] = owned(owner, "", "")["metadata"]["ownerReferences"].clone();
    object(pod)
}

fn found(pods: &[Object]) -> Option<Culprit> {
    culprit(&object(json!({"metadata": {"uid": "set"}})), pods, i64::MAX)
}

#[test]
fn a_selector_is_written_as_a_request_takes_it_and_none_selects_nothing() {
    let labels = json!({"matchLabels": {"app": "web", "tier": "front"}});
    assert_eq!(selector(&deployment(labels)).unwrap(), "app=web,tier=front");
    let expressions = json!({"matchExpressions": [
        {"key": "app", "operator": "In", "values": ["a", "b"]}, {"key": "x", "operator": "DoesNotExist"},
        {"key": "y", "operator": "Exists"}, {"key": "z", "operator": "NotIn", "values": ["c"]},
    ]});
    assert_eq!(selector(&deployment(expressions)).unwrap(), "app in (a,b),!x,y,z notin (c)");
    for nothing in [json!(null), json!({}), json!({"matchExpressions": [{"key": "a", "operator": "Near"}]})] {
        assert_eq!(selector(&deployment(nothing)), None);
    }
}

#[test]
fn the_newest_replica_set_is_that_of_the_highest_revision_and_its_own() {
    let sets = [("deployment", "a", "9"), ("deployment", "b", "10"), ("another", "c", "11"), ("deployment", "d", "x")];
    let sets: Vec<Object> = sets.iter().map(|(owner, name, revision)| object(owned(owner, name, revision))).collect();
    let newest = newest(&deployment(json!({})), &sets).unwrap();
    assert_eq!(newest.metadata.name.as_deref(), Some("b"));
}

#[test]
fn the_pod_that_failed_and_was_restarted_most_says_why() {
    let pods = [
        pod("its readiness probe fails", "waits", "set"),
        pod("it needs more memory than it may have", "killed", "set"),
        pod("it crashes again and again", "crashes", "set"),
        pod("an init container crashes, with its last words in the termination log", "other", "another set"),
        pod(": ready", "ready", "set"),
    ];
    let culprit = found(&pods).unwrap();
    assert_eq!((culprit.name.as_str(), culprit.uid.as_str()), ("crashes", "uid of crashes"));
    assert_eq!(culprit.log, Some(Log { container: "app".to_owned(), previous: true }));
    assert_eq!(found(&pods[4..]), None, "a pod that is well says nothing");
}

#[test]
fn a_log_is_read_of_the_run_that_went_wrong() {
    let log = |title| found(&[pod(title, "p", "set")]).unwrap().log;
    let of = |container: &str, previous| Some(Log { container: container.to_owned(), previous });
    assert_eq!(log("its readiness probe fails"), of("app", false));
    assert_eq!(log("its work failed"), of("app", false));
    assert_eq!(log("an init container crashes, with its last words in the termination log"), of("migrate", true));
    assert_eq!(log("its image can't be pulled"), None, "it never ran");
    assert_eq!(log("no node has room for it"), None);
}

fn event(reason: &str, message: &str, second: u8) -> k8s_openapi::api::core::v1::Event {
    let time = format!("2026-11-21T12:00:{second:02}Z");
    serde_json::from_value(json!({
        "metadata": {}, "involvedObject": {}, "type": "Warning", "reason": reason, "message": message, "lastTimestamp": time,
    }))
    .unwrap()
}

#[test]
fn it_reads_as_one_line_without_credentials() {
    let evidence = Evidence {
        culprit: found(&[pod("it crashes again and again", "web-1", "set")]),
        log: "\n\u{1b}[31mstarting\u{1b}[0m\nconnecting to postgres://app:hunter2@db/todo\ntold-secret is wrong\n"
            .to_owned(),
        events: vec![
            event("FailedMount", "older", 1),
            event("BackOff", "Back-off restarting failed container app in pod web-1", 3),
            event("FailedMount", "MountVolume.SetUp failed:\n  no such secret", 2),
        ],
        denied: None,
    };
    let words = evidence.words(|text| text.replace("told-secret", "••••••")).unwrap();
    insta::assert_snapshot!(words, @"Pod web-1: CrashLoopBackOff: container app ended with exit code 1, restarted 4 times; its log ends: starting | connecting to postgres://••••••@db/todo | •••••• is wrong; FailedMount: MountVolume.SetUp failed: no such secret");
    assert_eq!(Evidence::default().words(str::to_owned), None);
    let denied = Evidence { denied: Some("list pods: forbidden".to_owned()), ..Evidence::default() };
    assert_eq!(denied.words(str::to_owned).unwrap(), "list pods: forbidden");
}

#[test]
fn a_long_log_is_cut() {
    let log = (0..1000).map(|line| format!("{line} {}\n", "x".repeat(1000))).collect();
    let words = Evidence { log, ..Evidence::default() }.words(str::to_owned).unwrap();
    assert!(words.starts_with("its log ends: 992 x") && words.len() < 2600, "{}", words.len());
}
