//! What others do to plumb's objects that is no drift: no line, and not one request.

use anyhow::ensure;
use plumb::model::applyset::PART_OF;
use serde_json::json;

use super::stand::{Stand, deployment, kubectl};
use crate::harness::{AuditMark, eventually};
use crate::scene::{SOON, config_map, part_of};

fn map(name: &str) -> String {
    config_map(name, &[("x", "1"), ("z", "1")])
        .replace(&format!("{{name: {name}}}"), &format!("{{name: {name}, labels: {{app: a}}}}"))
}

/// Nothing was asked about the environment's objects since, nor told of anything but the fences.
async fn nothing_happened(stand: &Stand, mark: AuditMark) {
    stand.fence().await;
    let asked = stand.asked(mark).await;
    assert!(asked.is_empty(), "{asked:#?}");
    nothing_was_told(stand);
}

/// No drift was told but the fences.
fn nothing_was_told(stand: &Stand) {
    let drifts = stand.lines("drift");
    let fence = |object: &str| object.rsplit('/').next().is_some_and(|name| name.starts_with("zz"));
    assert!(drifts.iter().all(|line| fence(line.field("object"))), "{drifts:#?}");
}

#[tokio::test]
async fn writes_that_change_nothing_of_ours() {
    let Some(stand) = Stand::new("d-same", "", [("a.yaml", map("a")), ("b.yaml", map("b"))]).await else { return };
    stand.fence().await;
    let mark = stand.mark().await;
    stand.kubectl(&["patch", "cm", "a", "--type=merge", r#"-p={"data":{"x":"1"}}"#]).await;
    stand.kubectl(&["label", "cm", "a", "--overwrite", "app=a"]).await;
    stand.kubectl(&["annotate", "cm", "a", "note=mine"]).await;
    // A second applier: the same value, then another that it may not take.
    let other = |x: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": x}}).to_string()
    };
    let apply = ["apply", "--server-side", "--field-manager=other", "-f", "-"];
    stand.kubectl_with(&apply, &other("1")).await;
    let args: Vec<&str> = ["-n", &*stand.scene.namespace].into_iter().chain(apply).collect();
    let (code, output) = stand.scene.kubectl(&args, &other("2")).await;
    assert!(code != Some(0) && output.contains("conflict"), "{output}");
    // kubectl apply of what git has: it leaves an annotation and an entry of its own.
    stand.kubectl_with(&["apply", "-f", "-"], &map("b")).await;
    nothing_happened(&stand, mark).await;
    let applied = "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration";
    let b = stand.kubectl(&["get", "cm", "b", "-o", "json"]).await;
    assert!(serde_json::from_str::<serde_json::Value>(&b).unwrap().pointer(applied).is_some(), "{b}");
}

#[tokio::test]
async fn our_label_on_what_somebody_else_made() {
    let Some(stand) = Stand::new("d-copied", "", [("a.yaml", map("a"))]).await else { return };
    stand.fence().await;
    let mark = stand.mark().await;
    let labels = json!({PART_OF: part_of(&stand.scene.name)});
    let copy = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "copy", "labels": labels}, "data": {"x": "1"}});
    stand.kubectl_with(&["create", "-f", "-"], &copy.to_string()).await;
    stand.kubectl(&["patch", "cm", "copy", "--type=merge", r#"-p={"data":{"x":"2"}}"#]).await;
    nothing_happened(&stand, mark).await;
    stand.kubectl(&["delete", "cm", "copy"]).await;
    nothing_happened(&stand, mark).await;
}

/// What admission sets in what we apply has no owner: the limits of a LimitRange, the tolerations and the service account of a pod.
#[tokio::test]
async fn what_admission_adds_by_default() {
    let pod =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: web, image: example.org/web:1}]}\n";
    let Some((scene, commit)) = Stand::pushed("d-defaults", "", [("p.yaml", pod)]).await else { return };
    scene.make_namespace().await;
    let limits = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "limits"},
        "spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "500m"}}]},
    });
    kubectl(&scene, &["create", "-f", "-"], &limits.to_string()).await;
    let accounts = scene.objects("", "v1", "ServiceAccount");
    eventually(SOON, || async { Ok(accounts.get("default").await?) }).await; // Without it no pod is made.
    let plumb = scene.run();
    let Some(stand) = Stand::on(scene, plumb).await else { return };
    let defaulted = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "500m"}});
    let live = stand.becomes("pod", "p", "/spec/containers/0/resources", &defaulted).await;
    assert_eq!(live["spec"]["tolerations"].as_array().map(Vec::len), Some(2), "{live:#}");
    assert_eq!(live["spec"]["serviceAccountName"], "default");
    stand.fence().await;
    let mark = stand.mark().await;
    stand.kubectl(&["annotate", "pod", "p", "note=mine"]).await;
    nothing_happened(&stand, mark).await;
    // Nor is there anything to write for who compares the whole object: another life, and another commit.
    let Stand { scene, plumb, .. } = stand;
    drop(plumb);
    let plumb = scene.run();
    let next = scene.push([("a.yaml", map("a"))]);
    scene.deployed(next).await;
    let stand = Stand::running(scene, plumb);
    stand.fence().await;
    let written: Vec<String> = stand.wrote(mark).await.0.into_iter().map(|event| event.object_ref.name).collect();
    assert_eq!(written, ["a"], "{commit} stands");
    nothing_was_told(&stand);
}

/// kube-controller-manager rolls a Deployment out, scales it by hand-over of nothing, and somebody restarts it: nothing of that is ours.
#[tokio::test]
async fn controllers_at_work_on_a_deployment() {
    let memory = "resources: {requests: {memory: 1Gi}}";
    let files = [("web.yaml", deployment("web", 2, memory)), ("zzd.yaml", deployment("zzd", 0, ""))];
    let Some(stand) = Stand::new("d-controllers", "", files).await else { return };
    stand.fence().await;
    let mark = stand.mark().await;
    let rolled_out = async |generation: u64| {
        eventually(SOON, || async {
            let web = stand.kubectl(&["get", "deploy", "web", "-o", "json"]).await;
            let web: serde_json::Value = serde_json::from_str(&web)?;
            let (seen, made) =
                (web["status"]["observedGeneration"].as_u64(), web["status"]["updatedReplicas"].as_u64());
            ensure!(seen >= Some(generation) && made > Some(0), "{}", web["status"]);
            Ok(web["metadata"]["generation"].as_u64().unwrap())
        })
        .await
    };
    let generation = rolled_out(1).await;
    stand.kubectl(&["rollout", "restart", "deploy/web"]).await;
    let generation = rolled_out(generation + 1).await;
    // The same quantity in other words, a status by hand, an annotation.
    let other = r#"-p={"spec":{"template":{"spec":{"containers":[{"name":"web","resources":{"requests":{"memory":"1024Mi"}}}]}}}}"#;
    stand.kubectl(&["patch", "deploy", "web", other]).await;
    stand
        .kubectl(&[
            "patch",
            "deploy",
            "web",
            "--subresource=status",
            "--type=merge",
            r#"-p={"status":{"collisionCount":1}}"#,
        ])
        .await;
    stand.kubectl(&["annotate", "deploy", "web", "note=mine"]).await;
    rolled_out(generation).await;
    // The Deployments' watch has brought all of it when it has brought this.
    stand.kubectl(&["scale", "deploy/zzd", "--replicas=1"]).await;
    stand.drift_with("Deployment/zzd", &[("live", "1")]).await;
    stand.fence().await;
    // What a slow controller writes within a second of ours may be asked about.
    let written = stand.wrote(mark).await.only(|event| event.object_ref.name == "web");
    assert!(written.is_empty(), "{written:#?}");
    nothing_was_told(&stand);
}
