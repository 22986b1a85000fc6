//! Immutable fields: a clear refusal, or a replacement that is known to work before anything is deleted.

use anyhow::ensure;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use rustix::process::Signal;
use serde_json::json;

use crate::harness::eventually;
use crate::scene::{SOON, Scene, config_map};

/// A Deployment without pods, its selector and its pods' labels.
fn deployment(selector: &str, labels: &str, annotation: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, annotations: {{note: x{annotation}}}}}
spec:
  replicas: 0
  selector: {{matchLabels: {{app: {selector}}}}}
  template:
    metadata: {{labels: {{app: {labels}}}}}
    spec: {{containers: [{{name: web, image: example.org/web}}]}}
"
    )
}

#[tokio::test]
async fn an_immutable_field_is_refused_unless_a_replacement_is_allowed() {
    let scene = Scene::new("immutable").await;
    let Some(audit) = scene.env.audit() else { return };
    let api: Api<Deployment> = Api::namespaced(scene.env.admin(), &scene.namespace);
    let first = scene.push([("web.yaml", deployment("a", "a", "")), ("a.yaml", config_map("a", &[("x", "1")]))]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    let uid = api.get("web").await.unwrap().uid();

    let mark = audit.mark().await;
    let second = scene.push([("web.yaml", deployment("b", "b", "")), ("a.yaml", config_map("a", &[("x", "2")]))]);
    let message = scene.failed(second).await;
    assert!(message.contains("spec.selector can't be changed"), "{message}");
    assert!(message.contains("plumb.dev/replace: immutable") && message.contains("manifests/web.yaml:1"), "{message}");
    assert!(scene.member_writes(&audit.since(mark).await).is_empty());
    assert_eq!(scene.data("a").await.as_deref(), Some("x=1"));

    // Allowed for this object: what replaces it is checked, then it is deleted and made again.
    let mark = audit.mark().await;
    let allowed = deployment("b", "b", ", plumb.dev/replace: immutable");
    let third = scene.push([("web.yaml", allowed)]);
    scene.deployed(third).await;
    let replaced = api.get("web").await.unwrap();
    assert_ne!(replaced.uid(), uid);
    assert_eq!(replaced.spec.unwrap().selector.match_labels.unwrap()["app"], "b");
    let seen = audit.since(mark).await.of("deployments").only(|event| event.verb != "get" && event.verb != "list");
    let order: Vec<_> = seen.0.iter().map(|event| (&*event.verb, event.is_dry_run(), event.code())).collect();
    let wanted = [("patch", true, 422), ("create", true, 409), ("delete", false, 200), ("patch", false, 201)];
    assert_eq!(order, wanted);
    assert_eq!(scene.data("a").await.as_deref(), Some("x=2"));
}

/// An operator that makes an object again as soon as it is deleted keeps it: a replacement is no way around the question whose it is.
#[tokio::test]
async fn what_somebody_makes_again_before_its_replacement_is_not_taken_over() {
    let scene = Scene::with("replaced-first", "replace: immutable").await;
    let Some(audit) = scene.env.audit() else { return };
    let api: Api<Deployment> = Api::namespaced(scene.env.admin(), &scene.namespace);
    let first = scene.push([("web.yaml", deployment("a", "a", ""))]);
    let mut plumb = scene.run();
    scene.deployed(first).await;
    let finalizers = |value: serde_json::Value| Patch::Merge(json!({"metadata": {"finalizers": value}}));
    api.patch("web", &PatchParams::default(), &finalizers(json!(["example.org/hold"]))).await.unwrap();

    let mark = audit.mark().await;
    let second = scene.push([("web.yaml", deployment("b", "b", ""))]);
    // plumb looks again and again whether it is gone, and finds what was made while it did not look.
    eventually(SOON, || async {
        let looks = audit.since(mark).await.of("deployments").only(|event| event.verb == "get");
        ensure!(looks.len() >= 2, "{looks:#?}");
        Ok(())
    })
    .await;
    let theirs: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "web", "annotations": {"argocd.argoproj.io/tracking-id": "web:apps/Deployment:x/web"}},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "b"}}, "template": {
            "metadata": {"labels": {"app": "b"}}, "spec": {"containers": [{"name": "web", "image": "example.org/theirs"}]},
        }},
    }))
    .unwrap();
    plumb.signal(Signal::STOP);
    api.patch("web", &PatchParams::default(), &finalizers(json!(null))).await.unwrap();
    let theirs = api.create(&PostParams::default(), &theirs).await.unwrap();
    plumb.signal(Signal::CONT);

    plumb.wait_for_log(|line| line.contains("somebody else has made one of that name"), SOON).await;
    plumb.wait_for_log(|line| line.contains("belongs to the Argo CD application web"), SOON).await;
    scene.failed(second).await;
    let now = api.get("web").await.unwrap();
    assert_eq!((now.uid(), &now.spec), (theirs.uid(), &theirs.spec));
    let ours =
        now.managed_fields().iter().filter(|entry| entry.manager.as_ref().is_some_and(|m| m.starts_with("plumb")));
    assert_eq!(ours.count(), 0, "{:#?}", now.managed_fields());
}

#[tokio::test]
async fn a_policy_replaces_jobs_but_never_by_what_the_api_server_would_refuse() {
    let scene = Scene::with("policy", "replace: immutable").await;
    let Some(audit) = scene.env.audit() else { return };
    let job = |image: &str, name: &str| {
        format!(
            "apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec:
  suspend: true
  template:
    spec: {{restartPolicy: Never, containers: [{{name: job, image: {image}}}]}}
"
        )
    };
    let api: Api<Job> = Api::namespaced(scene.env.admin(), &scene.namespace);
    let first = scene.push([("job.yaml", job("example.org/a", "migrate"))]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    let uid = api.get("migrate").await.unwrap().uid();
    let second = scene.push([("job.yaml", job("example.org/b", "migrate"))]);
    scene.deployed(second).await;
    let replaced = api.get("migrate").await.unwrap();
    assert_ne!(replaced.uid(), uid);

    // Admission that refuses to create what may be updated.
    let name = scene.env.name("no-c");
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [
                {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
            ]},
            "validations": [{"expression": "!object.spec.template.spec.containers[0].image.endsWith('c')", "message": "no c here"}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector":
            {"matchLabels": {"kubernetes.io/metadata.name": scene.namespace}}}},
    });
    scene.kubectl_ok(&["create", "-f", "-"], &format!("{policy}\n---\n{binding}\n")).await;
    let probe: Job = serde_json::from_value(json!({"metadata": {"name": "probe"}, "spec": {"template":
        {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "example.org/c"}]}}}}))
    .unwrap();
    eventually(SOON, || async {
        let asked = api.create(&PostParams { dry_run: true, ..PostParams::default() }, &probe).await;
        ensure!(asked.is_err(), "the policy is not in force yet");
        Ok(())
    })
    .await;

    let mark = audit.mark().await;
    let third = scene.push([("job.yaml", job("example.org/c", "migrate"))]);
    let message = scene.failed(third).await;
    assert!(message.contains("no c here"), "{message}");
    // Nor where an immutable field is only one of the complaints.
    let fourth = scene.push([("job.yaml", job("''", "migrate"))]);
    let message = scene.failed(fourth).await;
    assert!(message.contains("migrate"), "{message}");
    assert!(scene.member_writes(&audit.since(mark).await).is_empty());
    assert_eq!(api.get("migrate").await.unwrap().uid(), replaced.uid());
    scene.kubectl_ok(&["delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", &name], "").await;

    // A claim's data is not the policy's to delete.
    let claim = |class: &str| {
        format!(
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: data}}\nspec: {{storageClassName: {class}, accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}\n"
        )
    };
    let fifth = scene.push([("job.yaml", job("example.org/b", "migrate")), ("claim.yaml", claim("one"))]);
    scene.deployed(fifth).await;
    let sixth = scene.push([("claim.yaml", claim("two"))]);
    let message = scene.failed(sixth).await;
    assert!(message.contains("can't be changed") && message.contains("PersistentVolumeClaim"), "{message}");
}

#[tokio::test]
async fn a_helm_hook_with_another_image_is_made_anew() {
    let scene = Scene::new("hook").await;
    let job = "apiVersion: batch/v1
kind: Job
metadata:
  name: migrate
  annotations: {helm.sh/hook: 'pre-install,pre-upgrade', helm.sh/hook-weight: '-5'}
spec:
  suspend: true
  template:
    spec: {restartPolicy: Never, containers: [{name: job, image: 'example.org/app:{{ .Values.tag }}'}]}
";
    let chart = "apiVersion: v2\nname: web\nversion: 0.1.0\n";
    let a = config_map("a", &[("x", "{{ .Values.x }}")]);
    let files = [
        ("Chart.yaml", chart),
        ("templates/job.yaml", job),
        ("templates/a.yaml", &a),
        ("values.yaml", "tag: one\nx: '1'\n"),
    ];
    let first = scene.push(files.map(|(file, text)| (file, text.to_owned())));
    let _plumb = scene.run();
    scene.deployed(first).await;
    let api: Api<Job> = Api::namespaced(scene.env.admin(), &scene.namespace);
    let uid = api.get("migrate").await.unwrap().uid();
    // What changes nothing of it does not run it again.
    let second = scene.push([("values.yaml", "tag: one\nx: '2'\n")]);
    scene.deployed(second).await;
    assert_eq!(api.get("migrate").await.unwrap().uid(), uid);
    let third = scene.push([("values.yaml", "tag: two\nx: '2'\n")]);
    scene.deployed(third).await;
    let replaced = api.get("migrate").await.unwrap();
    assert_ne!(replaced.uid(), uid);
    let image = replaced.spec.unwrap().template.spec.unwrap().containers.remove(0).image;
    assert_eq!(image.as_deref(), Some("example.org/app:two"));
    let (code, output) = scene.verb(&["plan", &scene.name]).await;
    assert!(code == Some(0) && output.contains("hooks are applied with the rest"), "{output}");
}

#[tokio::test]
async fn what_is_being_deleted_is_waited_for() {
    let scene = Scene::new("finalizer").await;
    let first = scene.push([("a.yaml", config_map("a", &[("x", "1")])), ("b.yaml", config_map("b", &[("x", "1")]))]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    let finalizers = |value: serde_json::Value| Patch::Merge(json!({"metadata": {"finalizers": value}}));
    let maps = scene.config_maps();
    maps.patch("a", &PatchParams::default(), &finalizers(json!(["example.org/hold"]))).await.unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let uid = scene.identity("a").await.0;

    let second = scene.push([("a.yaml", config_map("a", &[("x", "2")])), ("b.yaml", config_map("b", &[("x", "2")]))]);
    scene.data_becomes("b", Some("x=2")).await; // It does not wait for a.
    let going = maps.get("a").await.unwrap();
    assert_eq!(going.data.unwrap()["x"], "1", "a terminating object was written to");
    maps.patch("a", &PatchParams::default(), &finalizers(json!(null))).await.unwrap();
    scene.deployed(second).await;
    assert_eq!(scene.data("a").await.as_deref(), Some("x=2"));
    assert_ne!(scene.identity("a").await.0, uid);
}
