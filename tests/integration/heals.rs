//! What an apply alone cannot heal ends equal to git all the same.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use plumb::cluster::Cluster;
use plumb::cluster::api::As;
use plumb::cluster::apply::Writer;
use plumb::cluster::execute::Executor;
use plumb::drift::ownership;
use plumb::model::environment::Propagation;
use plumb::model::kinds::Lookup;
use plumb::model::{Digest, Manifest, ObjectKey, Origin, applyset};
use serde_json::{Value, json};

use crate::harness::{Audit, AuditLog, eventually};
use crate::scene::{SOON, Scene, config_map, part_of};

/// A Deployment without pods, with parts of its spec as YAML in one line.
fn deployment(name: &str, strategy: &str, env: &str, volumes: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: 0
  strategy: {strategy}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers: [{{name: web, image: a, env: [{env}]}}]
      volumes: [{volumes}]
"
    )
}

const RECREATE: &str = "{type: Recreate}";
const ENV: &str = "{name: X, value: '1'}";
const VOLUME: &str = "{name: v, emptyDir: {}}";

/// The parts of a Deployment that these tests are about.
async fn parts(scene: &Scene, name: &str) -> Value {
    let spec = scene.objects("apps", "v1", "Deployment").get(name).await.expect("it stands").data["spec"].clone();
    let pod = &spec["template"]["spec"];
    json!({"strategy": spec["strategy"], "env": pod["containers"][0]["env"], "volumes": pod["volumes"]})
}

/// Waits until everything was looked at again, three times over, and gives the writes until then.
async fn writes_of_three_resyncs(scene: &Scene, audit: &AuditLog, resource: &str) -> Audit {
    let mark = audit.mark().await;
    eventually(SOON, || async {
        let looked = audit.since(mark).await.of(resource).dry_runs().len();
        ensure!(looked >= 3, "looked {looked} times");
        Ok(())
    })
    .await;
    scene.member_writes(&audit.since(mark).await)
}

#[tokio::test]
async fn siblings_that_may_not_stand_beside_ours_are_taken_out() {
    let scene = Scene::with("siblings", "resync: 1s").await;
    let Some(audit) = scene.env.audit() else { return };
    let all = || ["strategy", "env", "volume"].map(|name| deployment(name, RECREATE, ENV, VOLUME)).join("---\n");
    let first = scene.push([("all.yaml", all())]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    let git = json!({"strategy": {"type": "Recreate"}, "env": [{"name": "X", "value": "1"}], "volumes": [{"name": "v", "emptyDir": {}}]});
    assert_eq!(parts(&scene, "env").await, git);

    let pod = |patch: Value| json!({"template": {"spec": patch}});
    let from = json!({"fieldRef": {"fieldPath": "metadata.name"}});
    let drifts = [
        // The API server adds the defaults of a rolling update, which are then the editor's.
        ("strategy", json!({"strategy": {"type": "RollingUpdate"}})),
        ("env", pod(json!({"containers": [{"name": "web", "image": "a", "env": [{"name": "X", "valueFrom": from}]}]}))),
        ("volume", pod(json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}]}))),
    ];
    let api: Api<Deployment> = Api::namespaced(scene.env.admin(), &scene.namespace);
    for (name, spec) in drifts {
        let generation = api.get(name).await.unwrap().metadata.generation;
        let params = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
        let edited = api.patch(name, &params, &Patch::Merge(json!({"spec": spec}))).await.unwrap();
        assert_ne!(edited.metadata.generation, generation, "{name} was not changed");
    }
    for name in ["strategy", "env", "volume"] {
        eventually(SOON, || async {
            let now = parts(&scene, name).await;
            ensure!(now == git, "{name}: {now}");
            Ok(())
        })
        .await;
        let owners = api.get(name).await.unwrap();
        let editors = owners.managed_fields().iter().filter(|entry| entry.manager.as_deref() == Some("kubectl-edit"));
        assert_eq!(editors.count(), 0, "{name}");
    }
    // What was applied within the last seconds is applied again, which changes nothing; then there is rest.
    eventually(SOON, || async {
        let writes = writes_of_three_resyncs(&scene, audit, "deployments").await;
        ensure!(writes.is_empty(), "{writes:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_default_that_nobody_owns_does_not_keep_a_commit_out() {
    let scene = Scene::new("default").await;
    let first = scene.push([("web.yaml", deployment("web", "{type: RollingUpdate}", ENV, VOLUME))]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    assert_eq!(parts(&scene, "web").await["strategy"]["rollingUpdate"]["maxSurge"], "25%");
    let second = scene.push([("web.yaml", deployment("web", RECREATE, ENV, VOLUME))]);
    scene.deployed(second).await;
    assert_eq!(parts(&scene, "web").await["strategy"], json!({"type": "Recreate"}));
    let from = "{name: X, valueFrom: {fieldRef: {fieldPath: metadata.name}}}";
    let third =
        scene.push([("web.yaml", deployment("web", "{type: RollingUpdate}", from, "{name: v, configMap: {name: c}}"))]);
    scene.deployed(third).await;
    let fourth = scene.push([("web.yaml", deployment("web", RECREATE, ENV, VOLUME))]);
    scene.deployed(fourth).await;
    assert_eq!(parts(&scene, "web").await["volumes"], json!([{"name": "v", "emptyDir": {}}]));

    // What is wrong in git itself is refused before anything is written, as ever.
    let bad = deployment("web", "{type: Recreate, rollingUpdate: {maxSurge: 1}}", ENV, VOLUME);
    let fifth = scene.push([("web.yaml", bad), ("a.yaml", config_map("a", &[("x", "1")]))]);
    let message = scene.failed(fifth).await;
    assert!(message.contains("spec.strategy.rollingUpdate"), "{message}");
    assert_eq!(scene.data("a").await, None);
}

#[tokio::test]
async fn what_others_added_is_taken_out_when_asked_for() {
    let scene = Scene::new("foreign-out").await;
    let first = scene.push([("web.yaml", deployment("web", RECREATE, ENV, VOLUME))]);
    let plumb = scene.run();
    scene.deployed(first).await;
    drop(plumb);
    let api: Api<Deployment> = Api::namespaced(scene.env.admin(), &scene.namespace);
    let additions = json!({
        "metadata": {"labels": {"theirs": "1"}, "annotations": {"theirs": "1"}, "finalizers": ["example.org/theirs"]},
        "spec": {"template": {"spec": {"nodeSelector": {"a": "b"}, "containers": [
            {"name": "web", "env": [{"name": "Y", "value": "1"}], "stdin": true},
            {"name": "side", "image": "b"},
        ]}}},
    });
    api.patch("web", &PatchParams::default(), &Patch::Strategic(additions)).await.unwrap();
    let manager = applyset::manager(&scene.name);
    let found = ownership::foreign(api.get("web").await.unwrap().managed_fields()).unwrap();
    let printed = found.paths().join("\n");
    for path in [
        "metadata.labels.theirs",
        "containers[name=web].env[name=Y].value",
        "containers[name=web].stdin",
        "containers[name=side].image",
        "spec.nodeSelector",
    ] {
        assert!(printed.contains(path), "{path} is not in\n{printed}");
    }
    assert!(!printed.contains("annotations") && !printed.contains("finalizers"), "{printed}");

    let cluster = Cluster::connect(Some(scene.env.kubeconfig()), None).await.unwrap();
    let known = cluster.discovered.ensure(&cluster.caller).await.unwrap();
    let manifest = manifest(&scene, &deployment("web", RECREATE, ENV, VOLUME));
    let Lookup::Served(info) = known.kinds.lookup(&manifest.key.kind, "v1") else { panic!("Deployments are served") };
    let (_sender, stop) = tokio::sync::watch::channel(false);
    let executor = Executor {
        cluster: &cluster,
        writer: Writer { caller: &cluster.caller, manager: &manager, by: As::Plumb },
        propagation: Propagation::default(),
        stop: &stop,
    };
    let live = executor.take_out_foreign(&manifest, info, &found).await.unwrap().context("it stands").unwrap();
    assert!(live.entry(&manager).is_some());
    let clean = api.get("web").await.unwrap();
    assert!(!clean.labels().contains_key("theirs"));
    assert_eq!(clean.finalizers(), ["example.org/theirs"], "what holds an object is not ours to let go");
    let pod = clean.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    assert_eq!((pod.containers.len(), pod.containers[0].stdin, &pod.node_selector), (1, None, &None));
    assert_eq!(parts(&scene, "web").await["env"], json!([{"name": "X", "value": "1"}]));
    assert_eq!(clean.annotations()["theirs"], "1");
    let left = ownership::foreign(clean.managed_fields()).unwrap();
    assert!(left.is_empty(), "{left:?}");
    let again = executor.take_out_foreign(&manifest, info, &left).await.unwrap().unwrap();
    assert_eq!(again.resource_version, live.resource_version.max(again.resource_version));
}

/// A manifest as a render makes it.
fn manifest(scene: &Scene, yaml: &str) -> Manifest {
    let mut object: Value = serde_yaml::from_str(yaml).unwrap();
    object["metadata"]["namespace"] = scene.namespace.as_str().into();
    object["metadata"]["labels"] = json!({applyset::PART_OF: part_of(&scene.name)});
    let json = object.to_string();
    Manifest {
        key: ObjectKey::new("apps", "Deployment", &scene.namespace, object["metadata"]["name"].as_str().unwrap()),
        version: "v1".into(),
        origin: Origin { file: "web.yaml".into(), line: 1, document: 1 },
        digest: Digest::of(json.as_bytes()),
        json: serde_json::value::RawValue::from_string(json).unwrap(),
        replace_immutable: false,
        left_alone: None,
    }
}

#[tokio::test]
async fn a_field_that_was_changed_and_changed_back_leaves_with_git_even_over_a_restart() {
    let scene = Scene::new("restarted").await;
    let all: [(&str, &str); 4] = [("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")];
    let with = |names: &str| {
        let data: Vec<_> = all.into_iter().filter(|(name, _)| names.contains(name)).collect();
        [("x.yaml", config_map("x", &data))]
    };
    let first = scene.push(with("abcd"));
    let plumb = scene.run();
    scene.deployed(first).await;
    let there_and_back = async |field: &str| {
        let params = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
        for value in ["2", "1"] {
            scene.config_maps().patch("x", &params, &Patch::Merge(json!({"data": {field: value}}))).await.unwrap();
        }
        let x = scene.config_maps().get("x").await.unwrap();
        let ours = x.managed_fields().iter().find(|entry| entry.operation.as_deref() == Some("Apply")).unwrap();
        assert!(
            ours.fields_v1.as_ref().unwrap().0["f:data"].get(format!("f:{field}")).is_none(),
            "not what is to be tested"
        );
    };
    // The commit that drops it comes while plumb is away.
    drop(plumb);
    there_and_back("b").await;
    let second = scene.push(with("acd"));
    let plumb = scene.run();
    scene.deployed(second).await;
    assert_eq!(scene.data("x").await.as_deref(), Some("a=1 c=1 d=1"));

    // It is changed back while plumb is away, and dropped after it is back.
    drop(plumb);
    there_and_back("c").await;
    let plumb = scene.run();
    let third = scene.push([("other.yaml", config_map("other", &[("k", "1")]))]);
    scene.deployed(third).await;
    let fourth = scene.push(with("ad"));
    scene.deployed(fourth).await;
    assert_eq!(scene.data("x").await.as_deref(), Some("a=1 d=1"));
    drop(plumb);

    // A single life of plumb's does one commit.
    there_and_back("d").await;
    scene.push(with("a"));
    let (code, output) = scene.verb(&["apply", &scene.name, "--instance", &scene.instance()]).await;
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(scene.data("x").await.as_deref(), Some("a=1"));
}

#[tokio::test]
async fn in_a_namespace_that_is_being_deleted_it_waits_and_then_everything_is_back() {
    let scene = Scene::new("ns-gone").await;
    let files = |x: &str| [("a.yaml", config_map("a", &[("x", x)])), ("b.yaml", config_map("b", &[("x", x)]))];
    let first = scene.push(files("1"));
    let _plumb = scene.run();
    scene.deployed(first).await;
    // An object of somebody else's keeps the namespace from going.
    let hold = config_map("hold", &[]).replace("{name: hold}", "{name: hold, finalizers: [example.org/hold]}");
    scene.kubectl_ok(&["create", "-n", &scene.namespace, "-f", "-"], &hold).await;
    let namespaces: Api<Namespace> = Api::all(scene.env.admin());
    let uid = namespaces.get(&scene.namespace).await.unwrap().uid();
    namespaces.delete(&scene.namespace, &DeleteParams::default()).await.unwrap();
    eventually(SOON, || async {
        ensure!(scene.data("a").await.is_none() && scene.data("b").await.is_none(), "not deleted yet");
        Ok(())
    })
    .await;
    let second = scene.push(files("2"));
    let message = scene.failed(second).await;
    assert!(message.contains("its namespace is being deleted"), "{message}");
    assert_eq!(scene.data("a").await, None);

    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    scene.config_maps().patch("hold", &PatchParams::default(), &release).await.unwrap();
    scene.deployed(second).await;
    let again = namespaces.get(&scene.namespace).await.unwrap().uid();
    assert_ne!(again, uid);
    assert_eq!((scene.data("a").await.as_deref(), scene.data("b").await.as_deref()), (Some("x=2"), Some("x=2")));

    // The same without a commit: what is gone is drift, and waits for its namespace.
    namespaces.delete(&scene.namespace, &DeleteParams::default()).await.unwrap();
    eventually(SOON, || async {
        let namespace = namespaces.get_opt(&scene.namespace).await?.context("no namespace")?;
        ensure!(namespace.uid() != again, "still the old one");
        ensure!(
            scene.data("a").await.as_deref() == Some("x=2") && scene.data("b").await.as_deref() == Some("x=2"),
            "not back yet"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn an_object_with_a_finalizer_is_left_while_it_goes_and_made_again_by_a_resync() {
    let scene = Scene::with("going", "resync: 1s").await;
    let Some(audit) = scene.env.audit() else { return };
    let first = scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    let maps = scene.config_maps();
    let finalizers = |value: Value| Patch::Merge(json!({"metadata": {"finalizers": value}}));
    maps.patch("a", &PatchParams::default(), &finalizers(json!(["example.org/hold"]))).await.unwrap();
    let mark = audit.mark().await;
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let going = scene.identity("a").await;
    // A namespace's metadata is read at each look around: three of them, and not one write.
    eventually(SOON, || async {
        let environment = scene.environment().await.context("no Environment")?;
        let condition = environment.status.context("no status")?.conditions.into_iter().find(|c| c.type_ == "Synced");
        let message = condition.context("no condition")?.message;
        ensure!(message.contains("is being deleted"), "{message}");
        Ok(())
    })
    .await;
    assert_eq!(scene.identity("a").await, going);
    assert!(scene.member_writes(&audit.since(mark).await).is_empty(), "a terminating object was written to");
    maps.patch("a", &PatchParams::default(), &finalizers(json!(null))).await.unwrap();
    eventually(SOON, || async {
        ensure!(scene.data("a").await.as_deref() == Some("x=1"), "not back yet");
        ensure!(scene.identity("a").await.0 != going.0, "still the old one");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn an_aggregated_role_has_the_rules_of_its_controller() {
    let scene = Scene::new("aggregated").await;
    let Some(audit) = scene.env.audit() else { return };
    scene.define("resync: 1s\nallow: {clusterScoped: [rbac.authorization.k8s.io/ClusterRole]}");
    let (whole, part) = (scene.env.name("whole"), scene.env.name("part"));
    let role = |name: &str, head: &str, resource: &str| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: {name}{head}}}\nrules: [{{apiGroups: [''], resources: [{resource}], verbs: [get]}}]\n"
        )
    };
    let aggregated = format!(
        "{}aggregationRule: {{clusterRoleSelectors: [{{matchLabels: {{aggregate-to: {whole}}}}}]}}\n",
        role(&whole, "", "secrets")
    );
    let first = scene.push([
        ("whole.yaml", aggregated),
        ("part.yaml", role(&part, &format!(", labels: {{aggregate-to: {whole}}}"), "pods")),
    ]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    let roles: Api<ClusterRole> = Api::all(scene.env.admin());
    let rules = async || {
        let rules = roles.get(&whole).await.unwrap().rules.unwrap_or_default();
        rules.into_iter().flat_map(|rule| rule.resources.unwrap_or_default()).collect::<Vec<_>>()
    };
    eventually(SOON, || async {
        ensure!(rules().await == ["pods"], "{:?}", rules().await);
        Ok(())
    })
    .await;
    // Applied within the last seconds, an object is applied again by a resync, which changes nothing: neither moves.
    let version = roles.get(&whole).await.unwrap().resource_version();
    writes_of_three_resyncs(&scene, audit, "clusterroles").await;
    let now = roles.get(&whole).await.unwrap();
    assert_eq!((now.resource_version(), rules().await), (version, vec!["pods".to_owned()]));
    let foreign = ownership::foreign(now.managed_fields()).unwrap();
    assert!(foreign.is_empty(), "{foreign:?}");
}

#[tokio::test]
async fn a_key_that_leaves_string_data_leaves_the_secret() {
    let scene = Scene::new("string-data").await;
    let secret = |plain: &str| {
        [(
            "s.yaml",
            format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\ndata: {{kept: MQ==}}\nstringData: {plain}\n"),
        )]
    };
    let api: Api<Secret> = Api::namespaced(scene.env.admin(), &scene.namespace);
    let keys = async || api.get("s").await.unwrap().data.unwrap_or_default().into_keys().collect::<Vec<_>>();
    let first = scene.push(secret("{a: x, b: z}"));
    let _plumb = scene.run();
    scene.deployed(first).await;
    assert_eq!(keys().await, ["a", "b", "kept"]);
    let second = scene.push(secret("{a: z}"));
    scene.deployed(second).await;
    assert_eq!(keys().await, ["a", "kept"]);
    assert_eq!(api.get("s").await.unwrap().data.unwrap()["a"].0, b"z");
    // A person's other value is git's again, with all else that is ours.
    let entry = api.get("s").await.unwrap().managed_fields()[0].fields_v1.clone().unwrap().0;
    assert!(entry.get("f:stringData").is_none() && entry["f:data"].get("f:a").is_some(), "{entry}");
}

/// The definition of Widgets of a group, with a list of its spec and versions, the last of which is stored.
fn definition(group: &str, list: &str, versions: &[&str]) -> String {
    let schema = format!(
        "{{openAPIV3Schema: {{type: object, properties: {{spec: {{type: object, properties: {{size: {{type: integer}}, list: {{type: array{list}, items: {{type: object, required: [name], properties: {{name: {{type: string}}}}}}}}}}}}}}}}}}"
    );
    let versions: Vec<_> = versions
        .iter()
        .enumerate()
        .map(|(index, version)| {
            format!(
                "  - {{name: {version}, served: true, storage: {}, schema: {schema}}}\n",
                index + 1 == versions.len()
            )
        })
        .collect();
    format!(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: widgets.{group}}}\nspec:\n  group: {group}\n  scope: Namespaced\n  names: {{plural: widgets, singular: widget, kind: Widget}}\n  versions:\n{}",
        versions.concat()
    )
}

fn widget(group: &str, version: &str, name: &str, size: u32) -> String {
    format!(
        "apiVersion: {group}/{version}\nkind: Widget\nmetadata: {{name: {name}}}\nspec: {{size: {size}, list: [{{name: a}}]}}\n"
    )
}

async fn widgets_scene(name: &str) -> (Scene, String) {
    let scene = Scene::new(name).await;
    scene.define("resync: 5s\nallow: {clusterScoped: [apiextensions.k8s.io/CustomResourceDefinition]}");
    let group = format!("{}.example.org", scene.env.name("g"));
    (scene, group)
}

#[tokio::test]
async fn objects_go_on_when_a_version_leaves_their_definition() {
    let (scene, group) = widgets_scene("version-gone").await;
    let first = scene.push([
        ("crd.yaml", definition(&group, "", &["v1alpha1", "v1"])),
        ("w.yaml", widget(&group, "v1alpha1", "w", 1)),
        ("u.yaml", widget(&group, "v1alpha1", "u", 1)),
    ]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    let api = scene.objects(&group, "v1", "Widget");
    let old = scene.objects(&group, "v1alpha1", "Widget");
    let params = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    old.patch("w", &params, &Patch::Merge(json!({"metadata": {"labels": {"theirs": "1"}}}))).await.unwrap();

    let second = scene.push([
        ("crd.yaml", definition(&group, "", &["v1"])),
        ("w.yaml", widget(&group, "v1", "w", 2)),
        ("u.yaml", widget(&group, "v1", "u", 1)),
    ]);
    scene.deployed(second).await;
    for (name, size) in [("w", 2), ("u", 1)] {
        let now = api.get(name).await.unwrap();
        assert_eq!(now.data["spec"]["size"], size, "{name}");
        let versions: Vec<_> = now.managed_fields().iter().filter_map(|entry| entry.api_version.as_deref()).collect();
        assert!(versions.iter().all(|version| *version == format!("{group}/v1")), "{name}: {versions:?}");
        let managers: Vec<_> = now.managed_fields().iter().filter_map(|entry| entry.manager.as_deref()).collect();
        assert!(managers.contains(&&*applyset::manager(&scene.name)), "{name}: {managers:?}");
        assert!(!managers.contains(&"before-first-apply"), "{name}: all ownership was lost");
    }
    assert_eq!(api.get("w").await.unwrap().labels()["theirs"], "1");
    // And a version that left while nobody wrote: found by a resync.
    let third = scene.push([("w.yaml", widget(&group, "v1", "w", 3))]);
    scene.deployed(third).await;
    assert_eq!(api.get("w").await.unwrap().data["spec"]["size"], 3);
}

#[tokio::test]
async fn objects_are_applied_anew_when_a_list_becomes_one_of_single_elements() {
    let (scene, group) = widgets_scene("granular").await;
    let first = scene.push([("crd.yaml", definition(&group, "", &["v1"])), ("w.yaml", widget(&group, "v1", "w", 1))]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    let api = scene.objects(&group, "v1", "Widget");
    let list = async || {
        let widget = api.get("w").await.unwrap();
        let ours = applyset::manager(&scene.name);
        let entry = widget.managed_fields().iter().find(|entry| entry.manager.as_deref() == Some(&ours)).cloned();
        entry.unwrap().fields_v1.unwrap().0["f:spec"]["f:list"].clone()
    };
    assert_eq!(list().await, json!({}), "one value");
    let keyed = ", x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [name]";
    let second = scene.push([("crd.yaml", definition(&group, keyed, &["v1"]))]);
    let entry = scene.deployed(second).await;
    assert_eq!(entry.applied, 2, "the object is applied too, though it is the same in git");
    // An API server that had not taken the definition up yet is asked again by the next resync.
    eventually(SOON, || async {
        let list = list().await;
        ensure!(list.get("k:{\"name\":\"a\"}").is_some(), "{list}");
        Ok(())
    })
    .await;
    // So an element of theirs is told from one of ours.
    let theirs = json!([{"op": "add", "path": "/spec/list/-", "value": {"name": "b"}}]);
    let theirs: json_patch::Patch = serde_json::from_value(theirs).unwrap();
    api.patch("w", &PatchParams::default(), &Patch::Json::<()>(theirs)).await.unwrap();
    let foreign = ownership::foreign(api.get("w").await.unwrap().managed_fields());
    assert_eq!(foreign.unwrap().paths(), ["spec.list[name=b]", "spec.list[name=b].name"]);
}
