//! The rules over objects of each kind and state, in `objects/`: one file a kind, and one of a whole node's; one document a state.
//!
//! A document's head says what it is and what is expected of it. `recorded`: as a kube-apiserver and kube-controller-manager 1.36.3 had it, without
//! `managedFields` and pod templates; there was no kubelet, so the test that recorded it had written the status of the pods. `recorded: on a node`, in
//! `node.yaml`: there were a kubelet and a scheduler 1.36.3 with containerd, on 2026-11-30; `tests/cluster/record-health` does it again. `written`: in the
//! form that the controller, scheduler or kubelet writes, for states that are hard to bring about.

use serde_json::Value;

use crate::health::assess;
use crate::model::health::Status;
use crate::model::{GroupKind, Health};

const OBJECTS: &[(&str, &str)] = &[
    ("autoscaler", include_str!("objects/autoscaler.yaml")),
    ("claim", include_str!("objects/claim.yaml")),
    ("custom", include_str!("objects/custom.yaml")),
    ("daemon_set", include_str!("objects/daemon_set.yaml")),
    ("definition", include_str!("objects/definition.yaml")),
    ("deployment", include_str!("objects/deployment.yaml")),
    ("ingress", include_str!("objects/ingress.yaml")),
    ("job", include_str!("objects/job.yaml")),
    ("namespace", include_str!("objects/namespace.yaml")),
    ("node", include_str!("objects/node.yaml")),
    ("pod", include_str!("objects/pod.yaml")),
    ("replica_set", include_str!("objects/replica_set.yaml")),
    ("service", include_str!("objects/service.yaml")),
    ("stateful_set", include_str!("objects/stateful_set.yaml")),
];

/// The documents of a file: what each is, what is expected, and the object.
pub(super) fn documents(text: &str) -> impl Iterator<Item = (String, Vec<String>, Value)> {
    text.split("\n---\n").map(|document| {
        let mut head = document.lines().map_while(|line| line.strip_prefix("# ")).map(str::to_owned);
        let title = head.next().expect("a head");
        (title, head.collect(), serde_yaml::from_str(document).expect("YAML"))
    })
}

/// Every object of the table.
pub(super) fn all() -> impl Iterator<Item = Value> {
    OBJECTS.iter().flat_map(|(_, text)| documents(text)).map(|(_, _, object)| object)
}

pub(super) fn kind_of(object: &Value) -> GroupKind {
    let (api_version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    GroupKind::new(api_version.rsplit_once('/').map_or("", |(group, _)| group), kind)
}

/// In the words of the documents' heads.
fn said(health: &Health) -> Vec<String> {
    const BEGINNING: i64 = 0;
    let message = if health.message.is_empty() { String::new() } else { format!(": {}", health.message) };
    let mut lines = vec![format!("{} {}{message}", health.status(BEGINNING), health.reason)];
    lines.extend(health.turns_at(BEGINNING).map(|at| {
        let time = chrono::DateTime::from_timestamp(at, 0).unwrap();
        format!("then {} at {}", health.status(at), time.format("%FT%TZ"))
    }));
    lines
}

#[test]
fn every_state_is_judged_as_its_head_says() {
    let mut wrong = Vec::new();
    for (file, text) in OBJECTS {
        for (title, expected, object) in documents(text) {
            assert!(title.starts_with("recorded: ") || title.starts_with("written: "), "{file}: {title}");
            let health = assess(&kind_of(&object), &serde_json::from_value(object).unwrap());
            if said(&health) != expected {
                wrong.push(format!("{file}, {title}\n  expected {expected:#?}\n  but is  {:#?}", said(&health)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_has_states_that_are_well_and_states_that_are_not() {
    for (group, name, _) in crate::health::RULES {
        let kind = GroupKind::new(group, name);
        let statuses = || {
            let of_kind = all().filter(|object| kind_of(object) == kind);
            of_kind.map(|object| assess(&kind, &serde_json::from_value(object).unwrap()).status(0))
        };
        assert!(statuses().any(|status| status == Status::Current), "{kind}");
        assert!(statuses().any(|status| status != Status::Current), "{kind}");
    }
}

#[test]
fn secrets_and_config_maps_are_never_read_whole() {
    for (group, kind) in
        [("", "Secret"), ("", "ConfigMap"), ("networking.k8s.io", "NetworkPolicy"), ("batch", "CronJob")]
    {
        assert!(!crate::health::reads_status(&GroupKind::new(group, kind)), "{kind}");
    }
    for (group, kind) in [("apps", "Deployment"), ("cert-manager.io", "Certificate"), ("example.org", "Secret")] {
        assert!(crate::health::reads_status(&GroupKind::new(group, kind)), "{kind}");
    }
}
