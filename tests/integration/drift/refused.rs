//! Heals that the API server refuses, for good or for the time being, while somebody writes all the time.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::ensure;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::observed::write_as_plumb;
use super::stand::Stand;
use crate::harness::eventually;
use crate::scene::{SOON, config_map};

/// Admission that keeps plumb from writing a ConfigMap, and lets all others do it, but for who gives it the annotation `probe`.
struct Barrier<'a> {
    stand: &'a Stand,
    kinds: &'static str,
    name: String,
}

impl<'a> Barrier<'a> {
    fn who(stand: &Stand, object: &str) -> String {
        let probe = "has(object.metadata.annotations) && 'probe' in object.metadata.annotations";
        format!(
            "object.metadata.name == '{object}' && (request.userInfo.username == '{}' || {probe})",
            stand.scene.env.user()
        )
    }

    /// A policy refuses it: for good.
    async fn policy(stand: &'a Stand, object: &str) -> Self {
        let name = format!("{}-refused-{object}", stand.scene.namespace);
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}]},
                "validations": [{"expression": format!("!({})", Self::who(stand, object)), "message": "not by policy"}],
            },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
            "spec": {
                "policyName": name, "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": stand.scene.namespace}}},
            },
        });
        let kinds = "validatingadmissionpolicybinding,validatingadmissionpolicy";
        Self::up(stand, kinds, name, object, &[policy, binding]).await
    }

    /// The webhook that is asked does not answer: it may some time.
    async fn webhook(stand: &'a Stand, object: &str) -> Self {
        let name = format!("{}-down-{object}", stand.scene.namespace);
        let webhook = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {"name": name},
            "webhooks": [{
                "name": "down.example.org", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
                "timeoutSeconds": 1, "clientConfig": {"url": "https://127.0.0.1:1/"},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": stand.scene.namespace}},
                "matchConditions": [{"name": "who", "expression": Self::who(stand, object)}],
            }],
        });
        Self::up(stand, "validatingwebhookconfiguration", name, object, &[webhook]).await
    }

    async fn up(stand: &'a Stand, kinds: &'static str, name: String, object: &str, objects: &[Value]) -> Self {
        for object in objects {
            stand.kubectl_with(&["apply", "-f", "-"], &object.to_string()).await;
        }
        // The API server takes a moment to know it.
        eventually(SOON, || async {
            let probe = ["-n", &*stand.scene.namespace, "annotate", "cm", object, "probe=1", "--dry-run=server"];
            let (code, output) = stand.scene.kubectl(&probe, "").await;
            ensure!(code != Some(0), "still let through: {output}");
            Ok(())
        })
        .await;
        Self { stand, kinds, name }
    }

    async fn remove(self) {
        self.stand.kubectl(&["delete", self.kinds, &self.name]).await;
    }
}

const WHY: &str = "drift can't be put back; the next resync tries again";

/// Somebody toggles a label of theirs on an object that plumb may not put back: each toggle wakes plumb, and few of them cost anything.
#[tokio::test]
async fn a_refused_heal_under_a_busy_writer_is_told_once_and_tried_after_pauses_that_grow() {
    let files = ["a", "b"].map(|name| config_map(name, &[("x", "1")]));
    let [a, b] = files;
    let Some(stand) = Stand::new("d-refused", "", [("a.yaml", a), ("b.yaml", b)]).await else { return };
    let barrier = Barrier::policy(&stand, "a").await;
    let mark = stand.mark().await;
    stand.kubectl(&["patch", "cm", "a", "--type=merge", r#"-p={"data":{"x":"2"}}"#]).await;
    stand.drift("ConfigMap/a").await.says(&[("want", "1"), ("live", "2"), ("action", "failed")]);
    let (maps, began, mut toggles) = (stand.scene.config_maps(), Instant::now(), 0);
    while began.elapsed().as_secs() < 20 || toggles < 100 {
        assert!(began.elapsed() < 3 * SOON, "{toggles} toggles in {:?}", began.elapsed());
        for value in [json!("1"), Value::Null] {
            let patch = Patch::Merge(json!({"metadata": {"labels": {"theirs": value}}}));
            maps.patch("a", &PatchParams::default(), &patch).await.unwrap();
        }
        toggles += 1;
    }
    let took = began.elapsed();
    let asked = stand.asked(mark).await.only(|event| event.object_ref.name == "a");
    let heals = stand.wrote(mark).await.only(|event| event.object_ref.name == "a").len();
    eprintln!("{toggles} toggles in {took:?}: {heals} heals were tried, {} requests", asked.len());
    let minutes = usize::try_from(took.as_secs() / 60 + 1).unwrap();
    assert!((2..=8 * minutes).contains(&heals), "{heals} in {took:?}");
    assert!(asked.len() <= 3 * heals, "{asked:#?}");
    assert_eq!(stand.drifts("ConfigMap/a").len(), 1, "{:#?}", stand.drifts("ConfigMap/a"));
    assert_eq!(stand.events("ConfigMap", "a").await.len(), 1);
    let why = stand.lines(WHY);
    assert!(why.len() == 1 && why[0].text.contains("not by policy"), "{why:#?}");
    // Others are not kept waiting.
    stand.kubectl(&["patch", "cm", "b", "--type=merge", r#"-p={"data":{"x":"2"}}"#]).await;
    stand.drift("ConfigMap/b").await.says(&[("action", "reverted")]);

    // Let through, it is put back after the pause that is under way, for it was written to meanwhile.
    barrier.remove().await;
    let labels = AtomicU32::new(0);
    eventually(3 * SOON, || async {
        // A policy that is gone may be in force for a moment: written to again, it is tried again.
        let label = format!("last={}", labels.fetch_add(1, Ordering::Relaxed));
        stand.kubectl(&["label", "--overwrite", "cm", "a", &label]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        ensure!(stand.scene.data("a").await.as_deref() == Some("x=1"), "still theirs");
        Ok(())
    })
    .await;
    stand.kubectl(&["label", "cm", "a", "last-"]).await; // An addition that is told counts as drift, too.
    stand.status(|status| status.drift == Some(0)).await;
}

/// That one object can't be put back says nothing of another.
#[tokio::test]
async fn a_drift_is_told_while_the_heals_of_another_fail() {
    let files = ["a", "b"].map(|name| config_map(name, &[("x", "1")]));
    let [a, b] = files;
    let Some(stand) = Stand::new("d-failing", "", [("a.yaml", a), ("b.yaml", b)]).await else { return };
    let (down, refused) = (Barrier::webhook(&stand, "a").await, Barrier::policy(&stand, "b").await);
    let mark = stand.mark().await;
    stand.kubectl(&["patch", "cm", "a", "--type=merge", r#"-p={"data":{"x":"2"}}"#]).await;
    stand.drift("ConfigMap/a").await.says(&[("action", "failed")]);
    eventually(SOON, || async {
        let tried = stand.wrote(mark).await.only(|event| event.object_ref.name == "a").len();
        ensure!(tried >= 3, "tried {tried} times");
        Ok(())
    })
    .await;
    stand.kubectl(&["patch", "cm", "b", "--type=merge", r#"-p={"data":{"x":"3"}}"#]).await;
    let line = stand.drift("ConfigMap/b").await;
    line.says(&[("field", "data.x"), ("want", "1"), ("live", "3"), ("manager", "kubectl-patch"), ("action", "failed")]);
    stand.event("ConfigMap", "b", "value-changed by kubectl-patch data.x: want 1, was 3; ").await;
    assert_eq!(stand.drifts("ConfigMap/a").len(), 1, "{:#?}", stand.drifts("ConfigMap/a"));

    // What passes by itself is put back by itself.
    down.remove().await;
    eventually(3 * SOON, || async {
        ensure!(stand.scene.data("a").await.as_deref() == Some("x=1"), "still theirs");
        Ok(())
    })
    .await;
    refused.remove().await;
}

/// A dry-run that could not be answered is no answer: where drift is only told, nothing else would look at the object again.
#[tokio::test]
async fn what_could_not_be_asked_about_is_asked_again_where_drift_is_only_told() {
    let map = || config_map("a", &[("x", "1"), ("z", "1")]);
    let Some(stand) = Stand::new("d-off-down", "selfHeal: false", [("a.yaml", map())]).await else { return };
    let asked = async |stand: &Stand, mark| {
        eventually(SOON, || async {
            let asked = stand.asked(mark).await.dry_runs().only(|event| event.object_ref.name == "a").len();
            ensure!(asked >= 1, "not asked about yet");
            Ok(())
        })
        .await;
    };
    let down = Barrier::webhook(&stand, "a").await;
    let mark = stand.mark().await;
    write_as_plumb(&stand.scene, "a", "2").await;
    asked(&stand, mark).await;
    assert!(stand.drifts("ConfigMap/a").is_empty());
    down.remove().await;
    stand.drift("ConfigMap/a").await.says(&[("field", "data.x"), ("live", "2"), ("action", "none, selfHeal is false")]);
    stand.status(|status| status.drift == Some(1)).await;

    // A start that can't ask does not say that all is as it was.
    let Barrier { name, kinds, .. } = Barrier::webhook(&stand, "a").await;
    let mark = stand.mark().await;
    let Stand { scene, plumb, .. } = stand;
    drop(plumb);
    let plumb = scene.run();
    let stand = Stand::running(scene, plumb);
    asked(&stand, mark).await;
    assert!(stand.lines("unchanged").is_empty() && stand.drifts("ConfigMap/a").is_empty(), "{:#?}", stand.plumb.log());
    stand.kubectl(&["delete", kinds, &name]).await;
    stand.drift("ConfigMap/a").await.says(&[("field", "data.x"), ("live", "2")]);
    stand.line("unchanged").await;
    assert_eq!(stand.drifts("ConfigMap/a").len(), 1, "{:#?}", stand.drifts("ConfigMap/a"));
    stand.status(|status| status.drift == Some(1)).await;
}
