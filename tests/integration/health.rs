//! From written to ready: rollouts, what they say when they don't get there, and that nothing waits for them.
//!
//! The controllers are real; there is no node. Where a test says that it plays the kubelet it writes the status of pods as a kubelet would.

use anyhow::ensure;
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use plumb::model::Environment;
use plumb::model::environment::{Condition, EnvironmentStatus, HistoryEntry};
use serde_json::{Value, json};

use crate::harness::{Plumb, eventually};
use crate::scene::{SOON, Scene, condition, config_map, short};

fn deployment(name: &str, replicas: u8, version: u8) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  \
         selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    \
         spec: {{containers: [{{name: app, image: 'registry.example/app:{version}'}}]}}\n"
    )
}

async fn status(scene: &Scene) -> EnvironmentStatus {
    scene.environment().await.and_then(|environment| environment.status).unwrap_or_default()
}

/// The condition `Healthy`, as soon as it has this status and its message has all these texts.
async fn healthy(scene: &Scene, is: &str, texts: &[&str]) -> Condition {
    let so = |healthy: &Condition| healthy.status == is && texts.iter().all(|text| healthy.message.contains(text));
    scene.condition("Healthy", so).await
}

async fn ready(scene: &Scene) -> Condition {
    condition(&status(scene).await, "Ready").cloned().expect("a condition Ready")
}

fn pods(scene: &Scene) -> Api<Pod> {
    Api::namespaced(scene.env.admin(), &scene.namespace)
}

/// The pods with this label, as soon as there are so many.
async fn pods_of(scene: &Scene, label: &str, count: usize) -> Vec<Pod> {
    eventually(SOON, || async {
        let found = pods(scene).list(&ListParams::default().labels(label)).await?.items;
        ensure!(found.len() == count, "{} pods of {label}", found.len());
        Ok(found)
    })
    .await
}

/// Plays the kubelet.
async fn report_status(scene: &Scene, pod: &Pod, status: Value) {
    let patch = Patch::Merge(json!({"status": status}));
    pods(scene).patch_status(&pod.name_any(), &PatchParams::default(), &patch).await.expect("a status");
}

async fn report_ready(scene: &Scene, pod: &Pod) {
    let condition = |type_| json!({"type": type_, "status": "True", "lastTransitionTime": chrono::Utc::now()});
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    report_status(scene, pod, json!({"phase": "Running", "conditions": conditions})).await;
}

async fn report_crash_loop(scene: &Scene, pod: &Pod, last_words: &str) {
    let not_ready = json!({"type": "Ready", "status": "False", "reason": "ContainersNotReady"});
    let container = json!({
        "name": "app", "image": "registry.example/app:1", "imageID": "", "ready": false, "restartCount": 4,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 1m20s restarting failed container"}},
        "lastState": {"terminated": {"exitCode": 3, "reason": "Error", "message": last_words}},
    });
    let status = json!({"phase": "Running", "conditions": [not_ready], "containerStatuses": [container]});
    report_status(scene, pod, status).await;
}

/// The line of the log that has all these texts.
async fn line(plumb: &mut Plumb, texts: &[&str]) -> String {
    plumb.wait_for_log(|line| texts.iter().all(|text| line.contains(text)), SOON).await
}

#[tokio::test]
async fn a_rollout_is_followed_until_it_is_ready_with_the_test_as_kubelet() {
    let scene = Scene::new("rollout").await;
    let first = scene.push([("web.yaml", deployment("web", 2, 1)), ("a.yaml", config_map("a", &[("x", "1")]))]);
    let mut plumb = scene.run();
    scene.deployed(first).await;
    healthy(&scene, "Unknown", &["1 of 2 objects are ready; Deployment/", "/web: 0 of 2 replicas are ready"]).await;
    let is = ready(&scene).await;
    assert_eq!((is.status.as_str(), is.reason.as_str()), ("Unknown", "RolloutInProgress"));

    let [one, other] = <[Pod; 2]>::try_from(pods_of(&scene, "app=web", 2).await).expect("two pods");
    report_ready(&scene, &one).await;
    healthy(&scene, "Unknown", &["1 of 2 replicas are ready"]).await;
    report_ready(&scene, &other).await;
    healthy(&scene, "True", &["all 2 objects are ready"]).await;
    assert_eq!(ready(&scene).await.status, "True");
    line(&mut plumb, &["INFO healthy", &format!("commit={}", short(first)), "took="]).await;
    scene.told("Healthy", &[&short(first)]).await;
    let entry = scene.deployed(first).await;
    assert!(entry.took_ms.contains_key("health"), "{entry:?}");

    // A new template: the old pods are still well, and it is a rollout all the same, from the first status that has the commit.
    let environments: Api<Environment> = Api::all(scene.env.admin());
    let from = environments.get(&scene.name).await.unwrap().resource_version().unwrap();
    let params = WatchParams::default().fields(&format!("metadata.name={}", scene.name));
    let mut seen = environments.watch(&params, &from).await.unwrap().boxed();
    let second = scene.push([("web.yaml", deployment("web", 2, 2))]);
    let first_status = async {
        loop {
            let Some(Ok(WatchEvent::Modified(environment))) = seen.next().await else { continue };
            let status = environment.status.unwrap_or_default();
            if status.short_commit == Some(short(second)) {
                return status;
            }
        }
    };
    let status = tokio::time::timeout(SOON, first_status).await.expect("a status of the second commit");
    let healthy_then = condition(&status, "Healthy").unwrap();
    assert_eq!(healthy_then.status, "Unknown", "{healthy_then:?}");
    healthy(&scene, "Unknown", &["1 of 2 replicas are updated"]).await;
}

#[tokio::test]
async fn a_rollout_costs_no_request_but_its_status_and_what_is_at_rest_none_with_the_test_as_kubelet() {
    let scene = Scene::new("rollout-cost").await;
    let Some(audit) = scene.env.audit() else { return };
    let first = scene.push([("web.yaml", deployment("web", 4, 1))]);
    let mut plumb = scene.run();
    scene.deployed(first).await;
    let pods = pods_of(&scene, "app=web", 4).await;
    healthy(&scene, "Unknown", &["0 of 4 replicas are ready"]).await;
    let (mark, began) = (audit.mark().await, std::time::Instant::now());
    for pod in &pods {
        report_ready(&scene, pod).await;
    }
    healthy(&scene, "True", &[]).await;
    scene.told("Healthy", &[&short(first)]).await;
    let requests = eventually(SOON, || async {
        let requests = audit.since(mark).await.writes();
        ensure!(!requests.of("events").is_empty(), "the Event is not in the log yet");
        Ok(requests)
    })
    .await;
    let on = |resource: &str, subresource: &str| {
        let object = |event: &crate::harness::AuditEvent| {
            (event.object_ref.resource.clone(), event.object_ref.subresource.clone())
        };
        requests.only(|event| object(event) == (resource.to_owned(), subresource.to_owned())).len()
    };
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
    assert!((1..=seconds + 2).contains(&on("environments", "status")), "{requests:#?}");
    assert_eq!((on("events", ""), requests.len()), (1, on("environments", "status") + 1), "{requests:#?}");

    let mark = audit.mark().await;
    let beside = scene.env.repository().commit("dev", [("README.md", "something else")]);
    line(&mut plumb, &["unchanged", &format!("commit={}", short(beside))]).await;
    assert_eq!(audit.since(mark).await.len(), 0, "{:#?}", audit.since(mark).await);
}

#[tokio::test]
async fn a_newer_commit_does_not_wait_for_a_rollout() {
    let scene = Scene::new("rollout-newer").await;
    let first = scene.push([("web.yaml", deployment("web", 1, 1))]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    healthy(&scene, "Unknown", &["0 of 1 replicas are ready"]).await;
    for version in ["1", "2", "3"] {
        let commit = scene.push([("a.yaml", config_map("a", &[("x", version)]))]);
        scene.deployed(commit).await;
        assert_eq!(scene.data("a").await, Some(format!("x={version}")));
    }
    healthy(&scene, "Unknown", &["1 of 2 objects are ready", "0 of 1 replicas are ready"]).await;
}

#[tokio::test]
async fn a_rollout_that_runs_out_of_time_fails_and_says_why_with_the_test_as_kubelet() {
    let scene = Scene::with("rollout-late", "timeout: 60s").await;
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {password: hunter2-of-git}\n";
    let commit = scene.push([("web.yaml", deployment("web", 1, 1)), ("secret.yaml", secret.to_owned())]);
    let mut plumb = scene.run();
    scene.ended(commit).await;
    let pod = pods_of(&scene, "app=web", 1).await.remove(0);
    report_crash_loop(&scene, &pod, "hunter2-of-git is wrong; tried postgres://app:hunter3@db/todo").await;
    warn_about(&scene, &pod).await;

    let entry = eventually(SOON, || async {
        let entry = scene.ended(commit).await;
        ensure!(entry.outcome == "Failed", "{entry:?}");
        Ok(entry)
    })
    .await;
    assert_eq!(entry.stage.as_deref(), Some("health"), "{entry:?}");
    let is = healthy(&scene, "False", &["not ready within 1m"]).await;
    assert_eq!(is.reason, "TimedOut");
    let line = line(&mut plumb, &["ERROR failed", "stage=health", "object=Deployment/"]).await;
    scene.told("DeploymentFailed", &[&short(commit), "failed at health"]).await;
    let why =
        format!("Pod {}: CrashLoopBackOff: container app ended with exit code 3: •••••• is wrong", pod.name_any());
    let event = "FailedMount: MountVolume.SetUp failed";
    for text in [&is.message, entry.message.as_ref().unwrap(), &line] {
        assert!(text.contains(&why) && text.contains("restarted 4 times") && text.contains(event), "{text}");
        assert!(!text.contains("hunter2-of-git") && !text.contains("hunter3"), "{text}");
    }
    assert_eq!(ready(&scene).await.status, "False");

    // A restart finds what has failed and does not begin anew.
    plumb.kill();
    let mut plumb = scene.run();
    plumb.wait_for_log(|line| line.contains("deployed"), SOON).await;
    healthy(&scene, "False", &["not ready within 1m", &why]).await;
    assert_eq!(failed_at(&scene, commit).await.stage.as_deref(), Some("health"));
    assert!(!plumb.log().iter().any(|line| line.contains("drift")), "{:#?}", plumb.log());

    // Late, but ready.
    report_ready(&scene, &pod).await;
    healthy(&scene, "True", &[]).await;
    assert_eq!(failed_at(&scene, commit).await.outcome, "Failed", "that is how its rollout ended");
}

async fn failed_at(scene: &Scene, commit: git2::Oid) -> HistoryEntry {
    let history = status(scene).await.history;
    history.into_iter().find(|entry| entry.commit == commit.to_string()).expect("its entry")
}

/// A Warning on a pod, as a kubelet writes it.
async fn warn_about(scene: &Scene, pod: &Pod) {
    let events: Api<Event> = Api::namespaced(scene.env.admin(), &scene.namespace);
    let event = Event {
        metadata: ObjectMeta { generate_name: Some(format!("{}.", pod.name_any())), ..ObjectMeta::default() },
        involved_object: serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "namespace": scene.namespace, "name": pod.name_any(), "uid": pod.uid(),
        }))
        .unwrap(),
        type_: Some("Warning".to_owned()),
        reason: Some("FailedMount".to_owned()),
        message: Some("MountVolume.SetUp failed".to_owned()),
        ..Event::default()
    };
    events.create(&PostParams::default(), &event).await.expect("an Event");
}

#[tokio::test]
async fn an_object_that_fails_is_told_before_the_time_is_over_with_the_test_as_kubelet() {
    let scene = Scene::new("rollout-job").await;
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: migrate}\nspec:\n  backoffLimit: 0\n  template:\n    \
               spec: {restartPolicy: Never, containers: [{name: app, image: 'registry.example/app:1'}]}\n";
    let commit = scene.push([("job.yaml", job)]);
    let mut plumb = scene.run();
    scene.deployed(commit).await;
    healthy(&scene, "Unknown", &["/migrate: 0 of 1 pods have completed"]).await;
    let pod = pods_of(&scene, "job-name=migrate", 1).await.remove(0);
    let state = json!({"terminated": {"exitCode": 3, "reason": "Error", "message": "no such table"}});
    let container = json!({
        "name": "app", "image": "registry.example/app:1", "imageID": "", "ready": false, "restartCount": 0, "state": state,
    });
    report_status(&scene, &pod, json!({"phase": "Failed", "containerStatuses": [container]})).await;
    let why = ["Job has reached the specified backoff limit", "container app ended with exit code 3: no such table"];
    assert_eq!(healthy(&scene, "False", &why).await.reason, "ObjectFailed");
    line(&mut plumb, &["WARN unhealthy", "object=Job/", why[0], why[1]]).await;
    scene.told("Unhealthy", &[why[0]]).await;
    assert_eq!(scene.deployed(commit).await.outcome, "Deployed", "it may still be mended within its time");
}

#[tokio::test]
async fn a_deployment_whose_pods_can_not_be_made_says_what_the_api_server_says() {
    let scene = Scene::new("rollout-forbidden").await;
    let web = deployment("web", 1, 1).replace("spec: {containers", "spec: {serviceAccountName: missing, containers");
    let commit = scene.push([("web.yaml", web)]);
    let _plumb = scene.run();
    scene.deployed(commit).await;
    let texts = ["is forbidden: error looking up service account", "serviceaccount \"missing\" not found"];
    // Given time for a service account that comes a moment later; then it has failed.
    let failed = healthy(&scene, "False", &texts).await;
    assert_eq!(failed.reason, "ObjectFailed");
    let web = Api::<Deployment>::namespaced(scene.env.admin(), &scene.namespace).get("web").await.unwrap();
    let conditions = web.status.and_then(|status| status.conditions).unwrap_or_default();
    let refused =
        conditions.into_iter().find(|condition| condition.type_ == "ReplicaFailure").expect("pods are refused");
    let refused = refused.last_transition_time.expect("a time").0.as_second();
    let told = chrono::DateTime::parse_from_rfc3339(&failed.last_transition_time).expect("a time").timestamp();
    assert!(told - refused >= 15, "it had {} s", told - refused);
    let account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: missing}\n";
    scene.kubectl_ok(&["apply", "--namespace", &scene.namespace, "-f", "-"], account).await;
    pods_of(&scene, "app=web", 1).await;
    healthy(&scene, "Unknown", &["0 of 1 replicas are ready"]).await;
}

#[tokio::test]
async fn a_custom_resource_is_as_its_conditions_say() {
    let scene = Scene::new("rollout-custom").await;
    let group = format!("{}.example.org", scene.name);
    scene.define("allow: {clusterScoped: [apiextensions.k8s.io/CustomResourceDefinition]}");
    let definition = format!(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: widgets.{group}}}\n\
         spec:\n  group: {group}\n  scope: Namespaced\n  names: {{kind: Widget, plural: widgets}}\n  versions: [{{name: v1, \
         served: true, storage: true, subresources: {{status: {{}}}}, schema: {{openAPIV3Schema: {{type: object, \
         x-kubernetes-preserve-unknown-fields: true}}}}}}]\n"
    );
    let widget = format!("apiVersion: {group}/v1\nkind: Widget\nmetadata: {{name: w}}\nspec: {{size: 1}}\n");
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {key: hunter2-of-git}\n".to_owned();
    let commit = scene.push([("crd.yaml", definition), ("widget.yaml", widget), ("secret.yaml", secret)]);
    let _plumb = scene.run();
    scene.deployed(commit).await;
    healthy(&scene, "True", &["all 3 objects are ready"]).await;
    let widgets = scene.objects(&group, "v1", "Widget");
    let say = async |status: &str, reason: &str, message: &str| {
        let condition = json!({
            "type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": chrono::Utc::now(),
        });
        let patch = Patch::Merge(json!({"status": {"conditions": [condition]}}));
        widgets.patch_status("w", &PatchParams::default(), &patch).await.expect("a status");
    };
    say("False", "Issuing", "the issuer knows no hunter2-of-git, password=hunter3").await;
    let is = healthy(&scene, "Unknown", &["Widget/", "/w: the issuer knows no ••••••, password=••••••"]).await;
    assert_eq!(is.reason, "Progressing", "it was healthy before");
    say("True", "Issued", "").await;
    healthy(&scene, "True", &[]).await;
    // Being deleted, it is waited for, whatever it says.
    let keep = Patch::Merge(json!({"metadata": {"finalizers": ["example.org/keep"]}}));
    widgets.patch("w", &PatchParams::default(), &keep).await.unwrap();
    widgets.delete("w", &Default::default()).await.unwrap();
    healthy(&scene, "Unknown", &["/w: it is being deleted"]).await;
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    widgets.patch("w", &PatchParams::default(), &release).await.unwrap();
    healthy(&scene, "True", &[]).await;
}

#[tokio::test]
async fn an_ingress_is_waited_for_where_the_definition_says_so_with_the_test_as_ingress_controller() {
    let ingress = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: web}\nspec: {rules: [{host: \
                   todo.example.org, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: \
                   {number: 80}}}}]}}]}\n";
    let scene = Scene::new("ingress").await;
    scene.push([("ingress.yaml", ingress)]);
    let _plumb = scene.run();
    healthy(&scene, "True", &["all 1 objects are ready"]).await;

    scene.define("waitForIngress: true");
    healthy(&scene, "Unknown", &["Ingress/", "no ingress controller has given it an address yet"]).await;

    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}});
    let ingresses: Api<Ingress> = Api::namespaced(scene.env.admin(), &scene.namespace);
    ingresses.patch_status("web", &PatchParams::default(), &Patch::Merge(&status)).await.expect("a status");
    healthy(&scene, "True", &["all 1 objects are ready"]).await;
}
