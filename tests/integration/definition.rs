//! The definition of an environment: the CRD in `deploy/`, its rules at the API server, and what `plumb init` writes.

use std::path::Path;

use anyhow::ensure;
use git2::Oid;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::harness::{Plumb, eventually};
use crate::scene::{SOON, Scene, config_map, file_of, short};

#[tokio::test]
async fn the_checked_in_crd_is_the_one_that_init_prints() {
    let mut init = Plumb::spawn(Path::new("/dev/null"), ["init", "--crd"]);
    assert!(init.wait(SOON).await.success());
    let file = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crd.yaml")).unwrap();
    assert_eq!(init.output().await.trim(), file.trim(), "make it anew: cargo run -- init --crd > deploy/crd.yaml");
}

/// The spec with a field set, by its path.
fn spec_with(path: &str, value: &Value) -> Value {
    let mut spec = json!({"branch": "dev", "namespace": "todo-dev", "path": "manifests"});
    let mut at = &mut spec;
    for part in path.split('.') {
        at = at.as_object_mut().unwrap().entry(part).or_insert_with(|| json!({}));
    }
    *at = value.clone();
    spec
}

#[tokio::test]
async fn the_api_server_refuses_what_a_definition_may_not_say() {
    let scene = Scene::new("rules").await;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("plumb.dev", "v1alpha1", "Environment"));
    let api: Api<DynamicObject> = Api::all_with(scene.env.admin(), &kind);
    let asked = PostParams { dry_run: true, ..PostParams::default() };
    let create = |name: String, spec: Value| {
        let object = json!({"apiVersion": "plumb.dev/v1alpha1", "kind": "Environment", "metadata": {"name": name}, "spec": spec});
        let (api, asked) = (&api, &asked);
        async move { api.create(asked, &serde_json::from_value(object).unwrap()).await }
    };
    let name = || scene.env.name("table");

    let good = [
        ("branch", json!("feature/x")),
        ("path", json!(".")),
        ("path", json!("a/..b/c")),
        ("values", json!(["environments/dev/values.yaml"])),
        ("serviceAccount", json!("plumb-deployer")),
        ("prune.budget", json!(0)),
        ("prune.budget", json!(25)),
        ("prune.budget", json!("100%")),
        ("prune.propagation", json!("background")),
        ("timeout", json!("1h 30m")),
        ("resync", json!("90s")),
        ("allow.clusterScoped", json!(["Namespace", "rbac.authorization.k8s.io/ClusterRole"])),
        ("ignore", json!([{"kind": "Deployment", "fields": ["spec.replicas"]}])),
    ];
    for (path, value) in good {
        let answer = create(name(), spec_with(path, &value)).await;
        assert!(answer.is_ok(), "{path}: {value} is refused: {answer:?}");
    }

    let bad = [
        ("branch", json!(""), "spec.branch"),
        ("branch", json!("-f"), "branch is a name"),
        ("branch", json!("refs/heads/dev"), "without refs/heads/"),
        ("namespace", json!("Todo"), "spec.namespace"),
        ("namespace", json!(""), "spec.namespace"),
        ("namespace", json!("n".repeat(64)), "spec.namespace"),
        ("path", json!(""), "spec.path"),
        ("path", json!("/etc"), "relative to the repository's root"),
        ("path", json!("a/../../b"), "has no '..'"),
        ("path", json!(".."), "has no '..'"),
        ("values", json!(["/etc/passwd"]), "have no '..'"),
        ("values", json!(["ok.yaml", "../x.yaml"]), "have no '..'"),
        ("values", json!([""]), "spec.values"),
        ("serviceAccount", json!(""), "spec.serviceAccount"),
        ("serviceAccount", json!(" "), "spec.serviceAccount"),
        ("serviceAccount", json!("a:b"), "spec.serviceAccount"),
        ("suspend", json!("yes"), "spec.suspend"),
        ("foreignAdditions", json!("delete"), "spec.foreignAdditions"),
        ("prune.budget", json!("101%"), "spec.prune.budget"),
        ("prune.budget", json!("many"), "spec.prune.budget"),
        ("prune.budget", json!("50"), "spec.prune.budget"),
        ("prune.budget", json!(-1), "spec.prune.budget"),
        ("prune.propagation", json!("orphan"), "spec.prune.propagation"),
        ("replace", json!("always"), "spec.replace"),
        ("deletionPolicy", json!("keep"), "spec.deletionPolicy"),
        ("timeout", json!("soon"), "spec.timeout"),
        ("timeout", json!(""), "spec.timeout"),
        ("resync", json!("-5m"), "spec.resync"),
        ("resync", json!("10"), "spec.resync"),
        ("ignore", json!([{"kind": "Deployment", "fields": []}]), "spec.ignore[0].fields"),
        ("ignore", json!([{"kind": "", "fields": ["spec"]}]), "spec.ignore[0].kind"),
    ];
    for (path, value, words) in bad {
        match create(name(), spec_with(path, &value)).await {
            Err(kube::Error::Api(status)) if status.code == 422 => {
                assert!(status.message.contains(words), "{path}: {value}: {}", status.message);
            }
            other => panic!("{path}: {value} should be refused: {other:?}"),
        }
    }
    for missing in ["branch", "namespace", "path"] {
        let mut spec = spec_with("suspend", &json!(false));
        spec.as_object_mut().unwrap().remove(missing);
        let answer = create(name(), spec).await.unwrap_err().to_string();
        assert!(answer.contains(&format!("spec.{missing}")), "{answer}");
    }
    let long = create("e".repeat(64), spec_with("suspend", &json!(false))).await.unwrap_err().to_string();
    assert!(long.contains("at most 63 characters"), "{long}");
}

#[tokio::test]
async fn kubectl_shows_environments_as_columns() {
    let scene = Scene::with("columns", "selfHeal: false").await;
    let shows = async |commit: Oid, states: [&str; 3]| {
        eventually(SOON, || async {
            let shown = scene.kubectl_ok(&["get", "env", &scene.name], "").await;
            let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
            assert_eq!(lines[0], ["NAME", "BRANCH", "COMMIT", "SYNCED", "HEALTHY", "DRIFT", "AGE"]);
            let (is, expected) = (lines[1].get(..3), [&*scene.name, "dev", &*short(commit)]);
            ensure!(is == Some(&expected) && lines[1].get(3..6) == Some(&states), "{shown}");
            Ok(())
        })
        .await;
    };
    let commit = scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
    let _plumb = scene.run();
    scene.deployed(commit).await;
    shows(commit, ["True", "True", "0"]).await;
    let change = |x: &str| Patch::Merge(json!({"data": {"x": x}}));
    scene.config_maps().patch("a", &PatchParams::default(), &change("2")).await.unwrap();
    shows(commit, ["True", "True", "1"]).await;
    scene.config_maps().patch("a", &PatchParams::default(), &change("1")).await.unwrap();
    shows(commit, ["True", "True", "0"]).await;
    // There is no node for its pod.
    let web = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  progressDeadlineSeconds: 2\n  \
               selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    \
               spec: {containers: [{name: web, image: example.org/web:1}]}\n";
    let commit = scene.push([("web.yaml", web)]);
    scene.deployed(commit).await;
    shows(commit, ["True", "False", "0"]).await;
    let (code, status) = scene.verb(&["status", &scene.name]).await;
    assert!(code == Some(0) && status.contains(&short(commit)) && status.contains("Deployed"), "{status}");
}

#[tokio::test]
async fn a_first_definition_is_written_validated_rendered_and_taken() {
    let scene = Scene::new("init").await;
    let name = scene.env.name("first");
    let work = tempfile::tempdir().unwrap();
    let init = |args: Vec<String>| {
        Plumb::spawn_with(Path::new("/dev/null"), args, |command| {
            command.current_dir(work.path());
        })
    };
    let namespace = scene.env.name("first-ns");
    let args = ["init", &name, "--branch", "dev", "--namespace", &namespace].map(str::to_owned);
    let mut first = init(args.to_vec());
    assert!(first.wait(SOON).await.success(), "{}", first.output().await);
    let mut again = init(args.to_vec());
    assert_eq!(again.wait(SOON).await.code(), Some(1));
    assert!(again.output().await.contains("it is left as it is"), "{}", again.output().await);
    let mut bad = init(["init", "No_Name"].map(str::to_owned).to_vec());
    assert_eq!(bad.wait(SOON).await.code(), Some(1));

    let file = file_of(&name);
    let text = std::fs::read_to_string(work.path().join(&file)).unwrap();
    scene.kubectl_ok(&["create", "--dry-run=server", "--validate=strict", "-f", "-"], &text).await;
    scene.env.repository().commit("main", [(file.as_str(), text)]);
    scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
    let (code, output) = scene.verb(&["validate"]).await;
    assert!(code == Some(0) && output.contains(&format!("{name}: 1 objects")), "{output}");
    let (code, output) = scene.verb(&["render", &name]).await;
    assert!(code == Some(0) && output.contains("# manifests/a.yaml"), "{output}");
    let (code, output) = scene.verb(&["plan", &name, "--exit-code"]).await;
    assert!(code == Some(3) && output.contains("1 to create"), "{output}");
    let (code, output) = scene.verb(&["apply", &name]).await;
    assert_eq!(code, Some(0), "{output}");
    let made: Api<ConfigMap> = Api::namespaced(scene.env.admin(), &namespace);
    assert!(made.get("a").await.is_ok());
    let environment = scene.environment_of(&name).await.unwrap();
    assert!(environment.annotations().get("plumb.dev/instance").is_none(), "the claim is given up");
    assert_eq!(environment.status.unwrap().objects, Some(1));
}

#[tokio::test]
async fn an_environment_that_was_made_unreadable_is_put_back_and_the_others_go_on() {
    let scene = Scene::new("unreadable").await;
    let commit = scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
    let _plumb = scene.run();
    scene.deployed(commit).await;
    // The schema takes any text of this form; no duration is that long.
    let spec = json!({"spec": {"timeout": "99999999999999999999999s"}});
    scene.kubectl_ok(&["patch", "environment", &scene.name, "--type=merge", "--patch", &spec.to_string()], "").await;
    eventually(SOON, || async {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("plumb.dev", "v1alpha1", "Environment"));
        let now = Api::<DynamicObject>::all_with(scene.env.admin(), &kind).get(&scene.name).await?;
        ensure!(now.data["spec"]["timeout"] == "5m", "{:?}", now.data["spec"]);
        Ok(())
    })
    .await;
    let commit = scene.push([("a.yaml", config_map("a", &[("x", "2")]))]);
    scene.deployed(commit).await;
}
