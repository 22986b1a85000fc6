//! What admission and the order of lists do to our objects: the ownership record does not show it.

use anyhow::ensure;
use serde_json::{Value, json};

use super::stand::{Stand, deployment};
use crate::harness::{AuditMark, eventually};
use crate::scene::{SOON, config_map};

/// An admission policy of the cluster that changes the ConfigMap `a` of the stand, where `when` holds: of who gives it a `note`, for one.
pub(super) struct Policy<'a> {
    stand: &'a Stand,
    name: String,
}

impl<'a> Policy<'a> {
    pub(super) async fn new(stand: &'a Stand, when: &str, becomes: &str) -> Self {
        let namespace = &stand.scene.namespace;
        let name = format!("{namespace}-policy");
        let expression = format!("Object{{data: {{'x': '{becomes}'}}}}");
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}]},
                "matchConditions": [{"name": "when", "expression": format!("object.metadata.name == 'a' && ({when})")}],
                "reinvocationPolicy": "Never",
                "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}],
            },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": name},
            "spec": {"policyName": name, "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}},
        });
        for object in [policy, binding] {
            stand.kubectl_with(&["apply", "-f", "-"], &object.to_string()).await;
        }
        // The API server takes a moment to know its policies.
        eventually(SOON, || async {
            let dry = ["annotate", "cm", "a", "note=1", "--dry-run=server", "-o", "jsonpath={.data.x}"];
            let x = stand.kubectl(&dry).await;
            ensure!(x == becomes, "{x}");
            Ok(())
        })
        .await;
        Self { stand, name }
    }

    pub(super) async fn remove(self) {
        let kinds = "mutatingadmissionpolicybinding,mutatingadmissionpolicy";
        self.stand.kubectl(&["delete", kinds, &self.name]).await;
    }
}

/// Waits until everything was looked at again, three times over.
async fn three_resyncs(stand: &Stand, mark: AuditMark) {
    eventually(SOON, || async {
        ensure!(stand.asked(mark).await.dry_runs().len() >= 3, "no further resync yet");
        Ok(())
    })
    .await;
}

/// Admission that has its own way with what we apply is obeyed: nothing to be told, and nothing to be written again and again.
#[tokio::test]
async fn admission_that_changes_what_we_apply_is_no_drift() {
    let Some(stand) = Stand::new("d-admitted", "resync: 3s", [("a.yaml", config_map("a", &[("x", "1")]))]).await else {
        return;
    };
    let policy = Policy::new(&stand, "true", "admitted").await;
    let commit = stand.scene.push([("a.yaml", config_map("a", &[("x", "2")]))]);
    stand.scene.deployed(commit).await;
    stand.data_becomes("a", Some("x=admitted")).await;
    let mark = stand.mark().await;
    three_resyncs(&stand, mark).await;
    assert!(stand.wrote(mark).await.is_empty());
    assert!(stand.drifts("ConfigMap/a").is_empty());
    policy.remove().await;
    // Without it git is right again, which the resync sees.
    stand.data_becomes("a", Some("x=2")).await;
    stand.drift("ConfigMap/a").await.says(&[("want", "2"), ("live", "admitted"), ("noticed", "by the resync")]);
}

/// What admission changes in somebody else's request has no owner.
#[tokio::test]
async fn what_admission_changes_in_the_request_of_another_is_found_by_the_resync() {
    let Some(stand) = Stand::new("d-admission", "resync: 3s", [("a.yaml", config_map("a", &[("x", "1")]))]).await
    else {
        return;
    };
    let noted = |object: &str| format!("has({object}.metadata.annotations) && 'note' in {object}.metadata.annotations");
    let (now, before) = (noted("object"), noted("oldObject"));
    let policy = Policy::new(&stand, &format!("{now} && oldObject != null && !({before})"), "admitted").await;
    stand.kubectl(&["annotate", "cm", "a", "note=1"]).await;
    let line = stand.drift("ConfigMap/a").await;
    line.says(&[("field", "data.x"), ("want", "1"), ("live", "admitted"), ("action", "reverted")]);
    stand.data_becomes("a", Some("x=1")).await;
    policy.remove().await;
}

/// The order of a list whose elements have names is nobody's field. That something was written without a trace is seen, and asked about by a dry-run, unless
/// so much was asked about the object just before that it has to wait; the resync finds it then.
#[tokio::test]
async fn a_list_in_another_order_is_put_back() {
    let inits =
        "      initContainers: [{name: one, image: example.org/one:1}, {name: two, image: example.org/two:1}]\n";
    let files = [("web.yaml", deployment("web", 0, "") + inits)];
    let Some(stand) = Stand::new("d-order", "resync: 3s", files).await else { return };
    for (list, field) in [
        ("/spec/template/spec/containers/0/env", "spec.template.spec.containers"),
        ("/spec/template/spec/initContainers", "spec.template.spec.initContainers"),
    ] {
        let live: Value = serde_json::from_str(&stand.kubectl(&["get", "deploy", "web", "-o", "json"]).await).unwrap();
        let ours = live.pointer(list).unwrap();
        let turned = json!([{"op": "replace", "path": list, "value": [ours[1], ours[0]]}]).to_string();
        stand.kubectl(&["patch", "deploy", "web", "--type=json", "-p", &turned]).await;
        stand.drift_with("Deployment/web", &[("field", field)]).await.says(&[("action", "reverted")]);
        stand.becomes("deploy", "web", list, ours).await;
    }
    // Once and for all.
    let mark = stand.mark().await;
    three_resyncs(&stand, mark).await;
    assert!(stand.wrote(mark).await.is_empty());
}

#[tokio::test]
async fn a_list_in_another_order_is_told_of_a_suspended_environment_too_and_left() {
    let files = [("web.yaml", deployment("web", 0, ""))];
    let Some(stand) = Stand::new("d-still", "resync: 3s", files).await else { return };
    stand.scene.define("resync: 3s\nsuspend: true");
    stand.scene.condition("Synced", |synced| synced.reason == "Suspended").await;
    let list = "/spec/template/spec/containers/0/env";
    let live: Value = serde_json::from_str(&stand.kubectl(&["get", "deploy", "web", "-o", "json"]).await).unwrap();
    let ours = live.pointer(list).unwrap();
    let turned = json!([ours[1], ours[0]]);
    let patch = json!([{"op": "replace", "path": list, "value": turned}]).to_string();
    let mark = stand.mark().await;
    stand.kubectl(&["patch", "deploy", "web", "--type=json", "-p", &patch]).await;
    let told = stand.drift_with("Deployment/web", &[("field", "spec.template.spec.containers")]).await;
    told.says(&[("action", "none, suspended")]);
    three_resyncs(&stand, mark).await;
    stand.becomes("deploy", "web", list, &turned).await;
    assert!(stand.wrote(mark).await.of("deployments").is_empty());
}
