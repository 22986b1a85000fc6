//! What stands already: taken over where it is nobody's, refused where it is somebody's, and no field is left behind by those who had it before.

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams, PostParams};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::scene::{Scene, config_map};

#[tokio::test]
async fn what_kubectl_made_is_adopted_and_then_follows_git_field_by_field() {
    let scene = Scene::new("adopted").await;
    scene.make_namespace().await;
    let in_namespace = ["-n", &scene.namespace, "-f", "-"];
    let kubectl = |verb: &'static [&'static str]| verb.iter().copied().chain(in_namespace).collect::<Vec<_>>();
    let text = |name: &str| config_map(name, &[("both", "1"), ("here", "1"), ("git", "0")]);
    scene.kubectl_ok(&kubectl(&["create"]), &text("created")).await;
    scene.kubectl_ok(&kubectl(&["apply"]), &text("applied")).await;
    let before = [scene.identity("created").await.0, scene.identity("applied").await.0];

    let in_git = |name| config_map(name, &[("both", "1"), ("git", "1")]);
    let first = scene.push([("created.yaml", in_git("created")), ("applied.yaml", in_git("applied"))]);
    let (_, plan) = scene.verb(&["plan", &scene.name]).await;
    assert!(plan.contains("2 to adopt") && plan.contains("with the fields of its client-side apply"), "{plan}");
    let _plumb = scene.run();
    scene.deployed(first).await;
    assert_eq!([scene.identity("created").await.0, scene.identity("applied").await.0], before, "they were made anew");
    // What client-side apply had sent and git does not have goes away; what somebody merely created stays until git had it.
    assert_eq!(scene.data("applied").await.as_deref(), Some("both=1 git=1"));
    assert_eq!(scene.data("created").await.as_deref(), Some("both=1 git=1 here=1"));
    let applied = scene.config_maps().get("applied").await.unwrap();
    let entries: Vec<_> = applied.managed_fields().iter().filter_map(|entry| entry.manager.as_deref()).collect();
    assert_eq!(entries, [format!("plumb-{}", scene.name)]);
    assert!(!applied.annotations().contains_key("kubectl.kubernetes.io/last-applied-configuration"));

    let in_git = |name| config_map(name, &[("git", "1")]);
    let second = scene.push([("created.yaml", in_git("created")), ("applied.yaml", in_git("applied"))]);
    scene.deployed(second).await;
    assert_eq!(scene.data("applied").await.as_deref(), Some("git=1"));
    assert_eq!(scene.data("created").await.as_deref(), Some("git=1 here=1"), "its creator pins a field that left git");
}

#[tokio::test]
async fn a_field_that_leaves_git_leaves_the_cluster_whoever_wrote_it_too() {
    let scene = Scene::new("pinned").await;
    let all: [(&str, &str); 4] = [("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")];
    let first = scene.push([("x.yaml", config_map("x", &all))]);
    let plumb = scene.run();
    scene.deployed(first).await;
    let write = async |manager: &str, data: Value| {
        let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
        scene.config_maps().patch("x", &params, &Patch::Merge(json!({"data": data}))).await.unwrap();
    };
    // Changed and changed back before plumb looks, then regained by a commit: both own it.
    plumb.signal(Signal::STOP);
    write("kubectl-edit", json!({"b": "2"})).await;
    write("kubectl-edit", json!({"b": "1"})).await;
    plumb.signal(Signal::CONT);
    let second = scene.push([("x.yaml", config_map("x", &[("a", "2"), ("b", "1"), ("c", "1"), ("d", "1")]))]);
    scene.deployed(second).await;
    let owners = scene.config_maps().get("x").await.unwrap();
    let owns = |manager: &str, field: &str| {
        let of = |entry: &&_| -> bool {
            let entry: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry = entry;
            entry.manager.as_deref() == Some(manager)
        };
        let entry = owners.managed_fields().iter().find(of);
        entry.is_some_and(|entry| entry.fields_v1.as_ref().unwrap().0["f:data"].get(field).is_some())
    };
    assert!(owns("kubectl-edit", "f:b") && owns(&format!("plumb-{}", scene.name), "f:b"), "not what is to be tested");
    plumb.signal(Signal::STOP);
    let third = scene.push([("x.yaml", config_map("x", &[("a", "2"), ("c", "1"), ("d", "1")]))]);
    let (_, plan) = scene.verb(&["plan", &scene.name]).await;
    assert!(plan.contains(", takes data.b from kubectl-edit "), "{plan}");
    plumb.signal(Signal::CONT);
    scene.deployed(third).await;
    assert_eq!(scene.data("x").await.as_deref(), Some("a=2 c=1 d=1"));

    // Changed and changed back, and dropped by the very next commit.
    plumb.signal(Signal::STOP);
    write("kubectl-patch", json!({"c": "2"})).await;
    write("kubectl-patch", json!({"c": "1"})).await;
    let fourth = scene.push([("x.yaml", config_map("x", &[("a", "2"), ("d", "1")]))]);
    // Our entry has it no more: only the commit that is deployed tells that it was git's.
    let (_, plan) = scene.verb(&["plan", &scene.name]).await;
    assert!(plan.contains(", takes data.c from kubectl-patch "), "{plan}");
    plumb.signal(Signal::CONT);
    scene.deployed(fourth).await;
    assert_eq!(scene.data("x").await.as_deref(), Some("a=2 d=1"));
}

#[tokio::test]
async fn what_bears_anothers_mark_is_refused_unless_adoption_is_asked_for() {
    let scene = Scene::new("foreign").await;
    scene.make_namespace().await;
    let owner = scene
        .config_maps()
        .create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": "owner"}})).unwrap())
        .await;
    let controller = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.unwrap().uid(), "controller": true}]);
    let marks = [
        (
            "helm",
            "Helm release todo/web",
            json!({
                "labels": {"app.kubernetes.io/managed-by": "Helm"},
                "annotations": {"meta.helm.sh/release-name": "web", "meta.helm.sh/release-namespace": "todo"},
            }),
        ),
        (
            "argo",
            "Argo CD application web",
            json!({"annotations": {"argocd.argoproj.io/tracking-id": "web:/ConfigMap:todo/argo"}}),
        ),
        (
            "flux",
            "web",
            json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "web", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}}),
        ),
        ("set", "applyset-somebody-v1", json!({"labels": {"applyset.kubernetes.io/part-of": "applyset-somebody-v1"}})),
        ("controlled", "ConfigMap/owner", json!({"ownerReferences": controller})),
    ];
    for (name, _, mark) in &marks {
        let mut metadata = mark.clone();
        metadata["name"] = json!(name);
        let object = json!({"metadata": metadata, "data": {"x": "0"}});
        scene.config_maps().create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    }
    let first = scene.push([("free.yaml", config_map("free", &[("x", "1")]))]);
    let _plumb = scene.run();
    scene.deployed(first).await;

    for (name, named, _) in &marks {
        let commit = scene
            .push([("one.yaml", config_map(name, &[("x", "1")])), ("free.yaml", config_map("free", &[("x", *name)]))]);
        let message = scene.failed(commit).await;
        assert!(message.contains(named) && message.contains("adopt: true"), "{name}: {message}");
        assert!(message.contains("manifests/one.yaml:1"), "{name}: {message}");
        assert_eq!(scene.data(name).await.as_deref(), Some("x=0"), "{name}");
        assert_eq!(scene.data("free").await.as_deref(), Some("x=1"), "something of a refused commit was applied");
    }
    let all = marks.iter().map(|(name, _, _)| config_map(name, &[("x", "1")])).collect::<Vec<_>>().join("---\n");
    scene.define("adopt: true");
    let commit = scene.push([("one.yaml", all)]);
    scene.deployed(commit).await;
    for (name, _, _) in &marks {
        assert_eq!(scene.data(name).await.as_deref(), Some("x=1"), "{name}");
    }
}
