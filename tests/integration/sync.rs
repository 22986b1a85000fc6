//! From a moved branch to the cluster: what is requested, in which order, and what is not.

use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::api::Api;

use crate::harness::{Audit, Change};
use crate::scene::{SOON, Scene, config_map, part_of, short};

#[tokio::test]
async fn a_commit_costs_what_it_changes() {
    let scene = Scene::new("cost").await;
    let Some(audit) = scene.env.audit() else { return };
    let first = scene.push([
        ("a.yaml", config_map("a", &[("x", "1")])),
        ("b.yaml", config_map("b", &[("x", "1")])),
        ("c.yaml", config_map("c", &[("x", "1")])),
    ]);
    let mut plumb = scene.run();
    scene.deployed(first).await;
    assert_eq!(scene.data("a").await.as_deref(), Some("x=1"));
    let namespaces: Api<Namespace> = Api::all(scene.env.admin());
    assert!(namespaces.get(&scene.namespace).await.is_ok(), "the namespace is made");
    let object = scene.config_maps().get("a").await.unwrap();
    assert_eq!(object.labels()["applyset.kubernetes.io/part-of"], part_of(&scene.name));

    // One object of three changes: one question, one write, one status, one Event.
    let mark = audit.mark().await;
    let second = scene.push([("b.yaml", config_map("b", &[("x", "2")]))]);
    let entry = scene.deployed(second).await;
    assert_eq!((entry.applied, entry.pruned), (1, 0));
    assert_eq!(scene.data("b").await.as_deref(), Some("x=2"));
    let seen = audit.since(mark).await;
    let on_members = seen.of("configmaps");
    assert_eq!((on_members.dry_runs().len(), on_members.writes().len(), on_members.len()), (1, 1, 2), "{seen:#?}");
    assert!(on_members.0.iter().all(|event| event.object_ref.name == "b" && event.verb == "patch"));
    let rest = seen.only(|event| event.object_ref.resource != "configmaps");
    let rest: Vec<_> =
        rest.0.iter().map(|event| (&*event.object_ref.resource, &*event.object_ref.subresource)).collect();
    assert_eq!(rest, [("environments", "status"), ("events", "")]);

    // A commit beside the environment's path changes nothing and asks for nothing.
    let mark = audit.mark().await;
    let third = scene.env.repository().commit("dev", [("README.md", "something else")]);
    let is_third = |line: &str| line.contains("unchanged") && line.contains(&format!("commit={}", short(third)));
    plumb.wait_for_log(is_third, SOON).await;
    assert_eq!(audit.since(mark).await.len(), 0, "{:#?}", audit.since(mark).await);

    // The revert of what was pushed before is a roll-back.
    let fourth = scene.push([("b.yaml", config_map("b", &[("x", "1")]))]);
    scene.deployed(fourth).await;
    assert_eq!(scene.data("b").await.as_deref(), Some("x=1"));
}

#[tokio::test]
async fn a_forced_push_is_deployed_and_told_as_a_rewind() {
    let scene = Scene::new("forced").await;
    let first = scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
    let mut plumb = scene.run();
    scene.deployed(first).await;
    let second = scene.push([("a.yaml", config_map("a", &[("x", "2")])), ("b.yaml", config_map("b", &[("z", "1")]))]);
    scene.deployed(second).await;
    assert_eq!(scene.data("a").await.as_deref(), Some("x=2"));
    assert!(!plumb.log().iter().any(|line| line.contains("rewind")));

    scene.env.repository().set_branch("dev", first);
    let line = plumb.wait_for_log(|line| line.contains("rewind"), SOON).await;
    assert!(
        line.contains(&format!("from={}", short(second))) && line.contains(&format!("to={}", short(first))),
        "{line}"
    );
    scene.data_becomes("a", Some("x=1")).await;
    scene.data_becomes("b", None).await;
}

#[tokio::test]
async fn a_branch_may_have_a_nested_name_and_come_later() {
    let scene = Scene::new("nested").await;
    scene.define_other(&scene.name, "feature/x/todo-2", "manifests", "");
    let mut plumb = scene.run();
    let line = plumb.wait_for_log(|line| line.contains("there is no such branch"), SOON).await;
    assert!(line.contains("feature/x/todo-2"), "{line}");
    let commit = scene.push_to("feature/x/todo-2", [("deep/er/a.yaml", config_map("a", &[("x", "1")]))]);
    scene.deployed(commit).await;
    assert_eq!(scene.data("a").await.as_deref(), Some("x=1"));
    let shown = scene.environment().await.unwrap();
    assert_eq!(shown.spec.branch, "feature/x/todo-2");
}

/// A kind of this test's own, its definition and objects of it.
fn widgets(group: &str) -> String {
    format!(
        "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: widgets.{group}}}
spec:
  group: {group}
  scope: Namespaced
  names: {{plural: widgets, singular: widget, kind: Widget}}
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema: {{type: object, properties: {{spec: {{type: object, properties: {{size: {{type: integer}}}}}}}}}}
"
    )
}

#[tokio::test]
async fn a_definition_and_its_objects_come_in_one_commit_and_all_phases_in_order() {
    let scene = Scene::new("phases").await;
    let (second_namespace, group) = (scene.env.name("more"), format!("{}.example.org", scene.env.name("g")));
    scene.define(&format!(
        "allow:
  namespaces: [{second_namespace}]
  clusterScoped: [Namespace, apiextensions.k8s.io/CustomResourceDefinition, admissionregistration.k8s.io/ValidatingWebhookConfiguration]"
    ));
    let Some(audit) = scene.env.audit() else { return };
    let mark = audit.mark().await;
    // The file names are in the opposite of the right order.
    let commit = scene.push([
        (
            "a-hook.yaml",
            format!(
                "apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{name: {0}}}
webhooks:
  - name: hook.{1}
    admissionReviewVersions: [v1]
    sideEffects: None
    clientConfig: {{url: 'https://127.0.0.1:1/'}}
    failurePolicy: Ignore
    rules: [{{apiGroups: [{1}], apiVersions: [v1], operations: [DELETE], resources: [widgets]}}]
",
                scene.env.name("hook"),
                group
            ),
        ),
        ("b-widget.yaml", format!("apiVersion: {group}/v1\nkind: Widget\nmetadata: {{name: w}}\nspec: {{size: 1}}\n")),
        (
            "c-web.yaml",
            "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: example.org/web}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
"
            .to_owned(),
        ),
        ("d-config.yaml", config_map("a", &[("x", "1")])),
        (
            "e-secret.yaml",
            format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: {second_namespace}}}\nstringData: {{a: b}}\n"),
        ),
        ("f-widgets.yaml", widgets(&group)),
        ("g-namespace.yaml", format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {second_namespace}}}\n")),
    ]);
    let _plumb = scene.run();
    let entry = scene.deployed(commit).await;
    assert_eq!(entry.applied, 8);
    let widget = scene.objects(&group, "v1", "Widget").get("w").await.unwrap();
    assert_eq!(widget.data["spec"]["size"], 1);

    let seen = audit.since(mark).await;
    let member = scene.member_writes(&seen).only(|event| event.verb == "patch" && event.code() < 300);
    let phases: [&[&str]; 4] = [
        &["namespaces", "customresourcedefinitions"],
        &["secrets", "configmaps"],
        &["services", "deployments", "widgets"],
        &["validatingwebhookconfigurations"],
    ];
    let phases = phases.map(|of| member.only(|event| of.contains(&&*event.object_ref.resource)));
    assert_eq!(phases.each_ref().map(Audit::len), [2, 2, 3, 1], "{member:#?}");
    for (before, after) in phases.iter().zip(&phases[1..]) {
        let end: DateTime<Utc> = before.0.iter().map(|event| event.stage_timestamp).max().unwrap();
        let start: DateTime<Utc> = after.0.iter().map(|event| event.request_received_timestamp).min().unwrap();
        assert!(end <= start, "{:?} began before {:?} had ended", after.0[0].object_ref, before.0[0].object_ref);
    }

    // What is gone from git goes; a definition takes its objects with it, so it asks first.
    let without = scene.push([("b-widget.yaml", Change::Remove), ("f-widgets.yaml", Change::Remove)]);
    let message = scene.failed(without).await;
    assert!(message.contains(&format!("CustomResourceDefinition/widgets.{group}")), "{message}");
    assert!(scene.objects(&group, "v1", "Widget").get("w").await.is_ok());
    let mark = audit.mark().await;
    let (code, output) = scene.verb(&["approve", &scene.name]).await;
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(scene.deployed(without).await.pruned, 2);
    let deletes = audit.since(mark).await.verb("delete").writes();
    let order: Vec<_> = deletes.0.iter().map(|event| &*event.object_ref.resource).collect();
    assert_eq!(order, ["widgets", "customresourcedefinitions"]);
}
