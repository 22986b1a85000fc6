//! What left git leaves the cluster; nothing else does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::ensure;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::harness::{Change, Cluster, Program, TestEnv, eventually};
use crate::scene::{SOON, Scene, config_map, part_of, short};

/// Files with one ConfigMap each.
fn many(names: &[&'static str]) -> Vec<(&'static str, String)> {
    names.iter().map(|name| (*name, config_map(name.trim_end_matches(".yaml"), &[("x", "1")]))).collect()
}

#[tokio::test]
async fn only_what_is_provably_ours_is_deleted() {
    let scene = Scene::new("ours").await;
    let Some(audit) = scene.env.audit() else { return };
    let mut files = many(&["a.yaml", "b.yaml", "c.yaml", "d.yaml", "kept.yaml"]);
    files[4].1 = files[4].1.replace("{name: kept}", "{name: kept, annotations: {plumb.dev/prune: disabled}}");
    let first = scene.push(files);
    let _plumb = scene.run();
    scene.deployed(first).await;
    // Somebody else's, with our label copied onto it.
    let part_of = part_of(&scene.name);
    let copy = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "copy", "labels": {"applyset.kubernetes.io/part-of": part_of}}});
    let operator = PatchParams::apply("operator");
    scene.config_maps().patch("copy", &operator, &Patch::Apply(copy)).await.unwrap();

    let mark = audit.mark().await;
    let second = scene.push([("a.yaml", Change::Remove), ("kept.yaml", Change::Remove)]);
    let entry = scene.deployed(second).await;
    assert_eq!((entry.applied, entry.pruned), (0, 1));
    assert_eq!(scene.data("a").await, None);
    for stays in ["b", "c", "d", "kept", "copy"] {
        assert!(scene.data(stays).await.is_some(), "{stays} is gone");
    }
    let deletes = audit.since(mark).await.verb("delete");
    assert_eq!(deletes.0.iter().map(|event| &*event.object_ref.name).collect::<Vec<_>>(), ["a"]);

    // Pruning off: the object stays, and the next definition lets it go.
    scene.define("prune: {enabled: false}");
    eventually(SOON, || async {
        ensure!(!scene.environment().await.unwrap().spec.prune.enabled, "the old definition is in force");
        Ok(())
    })
    .await;
    let mark = audit.mark().await;
    let third = scene.push([("b.yaml", Change::Remove)]);
    scene.deployed(third).await;
    assert!(scene.data("b").await.is_some());
    assert!(audit.since(mark).await.verb("delete").is_empty());
    scene.define("");
    scene.data_becomes("b", None).await;
}

#[tokio::test]
async fn a_delete_is_refused_when_the_object_changed_since_it_was_decided() {
    let scene = Scene::new("races").await;
    let Some(audit) = scene.env.audit() else { return };
    let first = scene.push(many(&["a.yaml", "stays.yaml"]));
    let _plumb = scene.run();
    scene.deployed(first).await;
    // Others write to the object without a pause, until one deletion came too late.
    let enough = Arc::new(AtomicBool::new(false));
    let writers = (0..4).map(|writer| {
        let (api, enough) = (scene.config_maps(), Arc::clone(&enough));
        tokio::spawn(async move {
            for count in 0.. {
                let touch = json!({"metadata": {"annotations": {format!("writer-{writer}"): count.to_string()}}});
                // It may be gone for a moment.
                let _ = api.patch("a", &PatchParams::default(), &Patch::Merge(touch)).await;
                if enough.load(Ordering::Relaxed) {
                    return;
                }
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    for round in 0.. {
        let mark = audit.mark().await;
        scene.push([("a.yaml", Change::Remove)]);
        let conflict = || async {
            let deletes = audit.since(mark).await.verb("delete");
            ensure!(!deletes.is_empty(), "no delete yet");
            Ok(deletes)
        };
        let deletes = eventually(SOON, conflict).await;
        if deletes.0.iter().any(|event| event.code() == 409) {
            break;
        }
        assert!(round < 20, "no deletion ever came too late");
        let again = scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
        scene.deployed(again).await;
    }
    enough.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    scene.data_becomes("a", None).await;
    assert!(scene.data("stays").await.is_some());
}

#[tokio::test]
async fn a_commit_that_deletes_too_much_asks_before_its_first_write() {
    let scene = Scene::new("budget").await;
    let Some(audit) = scene.env.audit() else { return };
    let first = scene.push(many(&["a.yaml", "b.yaml", "c.yaml", "d.yaml", "e.yaml"]));
    let _plumb = scene.run();
    scene.deployed(first).await;

    let mark = audit.mark().await;
    let second = scene.push([
        ("a.yaml", Change::Remove),
        ("b.yaml", Change::Remove),
        ("c.yaml", Change::Remove),
        ("d.yaml", config_map("d", &[("x", "2")]).into()),
    ]);
    let message = scene.failed(second).await;
    assert!(message.contains("it would delete 3 of 5 objects, and the prune budget is 50%"), "{message}");
    assert!(message.contains(&format!("plumb approve {}", scene.name)), "{message}");
    assert!(scene.member_writes(&audit.since(mark).await).is_empty());
    let (code, output) = scene.verb(&["plan", &scene.name]).await;
    assert!(output.contains("it would delete 3 of 5 objects"), "{code:?} {output}");
    // The approval of another commit approves nothing.
    let annotate = format!("plumb.dev/confirm-prune={first}");
    scene.kubectl_ok(&["annotate", "environment", &scene.name, &annotate], "").await;

    let third = scene.push([("e.yaml", config_map("e", &[("x", "2")]))]);
    let message = scene.failed(third).await;
    assert!(message.contains("3 of 5"), "{message}");
    let (code, output) = scene.verb(&["approve", &scene.name]).await;
    assert!(code == Some(0) && output.contains(&short(third)), "{output}");
    let entry = scene.deployed(third).await;
    assert_eq!((entry.applied, entry.pruned), (2, 3));

    // An annotation does the same; a budget of its own counts objects.
    scene.define("prune: {budget: 4}");
    let fourth = scene.push(many(&["f.yaml", "g.yaml", "h.yaml"]));
    scene.deployed(fourth).await;
    let gone: Vec<_> = ["d.yaml", "e.yaml", "f.yaml", "g.yaml", "h.yaml"].map(|file| (file, Change::Remove)).into();
    let fifth = scene.push(gone.into_iter().chain([("i.yaml", config_map("i", &[("x", "1")]).into())]));
    let message = scene.failed(fifth).await;
    assert!(message.contains("it would delete 5 of 5 objects, and the prune budget is 4"), "{message}");
    let annotate = format!("plumb.dev/confirm-prune={fifth}");
    scene.kubectl_ok(&["annotate", "--overwrite", "environment", &scene.name, &annotate], "").await;
    assert_eq!(scene.deployed(fifth).await.pruned, 5);
}

#[tokio::test]
async fn kinds_that_hold_data_are_never_deleted_unasked() {
    let scene = Scene::new("data").await;
    let Some(audit) = scene.env.audit() else { return };
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n";
    let set = "apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 0
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db, image: example.org/db}]}
";
    let mut files = many(&["a.yaml", "b.yaml", "c.yaml"]);
    files.extend([("claim.yaml", claim.to_owned()), ("set.yaml", set.to_owned())]);
    let first = scene.push(files);
    let _plumb = scene.run();
    scene.deployed(first).await;
    let mark = audit.mark().await;
    for (file, named) in [("claim.yaml", "PersistentVolumeClaim"), ("set.yaml", "StatefulSet")] {
        let commit = scene.push([(file, Change::Remove)]);
        let message = scene.failed(commit).await;
        assert!(message.contains(named) && message.contains("never deleted unasked"), "{message}");
        let back = scene.push([(file, if file == "set.yaml" { set } else { claim })]);
        scene.push([("a.yaml", config_map("a", &[("x", &*back.to_string())]))]);
    }
    let last = scene.push([("a.yaml", config_map("a", &[("x", "last")]))]);
    scene.deployed(last).await;
    assert!(audit.since(mark).await.verb("delete").is_empty());
}

#[tokio::test]
async fn an_empty_render_a_missing_path_and_a_deleted_branch_delete_nothing() {
    let scene = Scene::new("empty").await;
    let Some(audit) = scene.env.audit() else { return };
    let first = scene.push(many(&["a.yaml", "b.yaml"]));
    let mut plumb = scene.run();
    scene.deployed(first).await;
    let mark = audit.mark().await;

    let empty = scene.push([("a.yaml", Change::from("# nothing\n")), ("b.yaml", Change::Remove)]);
    let message = scene.failed(empty).await;
    assert!(message.contains("no object") && message.contains("allow.empty"), "{message}");
    let missing = scene.push([("a.yaml", Change::Remove)]);
    let message = scene.failed(missing).await;
    assert!(message.contains("manifests"), "{message}");
    scene.env.repository().delete_branch("dev");
    plumb.wait_for_log(|line| line.contains("there is no such branch"), SOON).await;
    assert_eq!((scene.data("a").await.is_some(), scene.data("b").await.is_some()), (true, true));

    // A restart in this state changes nothing either, and the next good commit deploys.
    plumb.kill();
    let mut plumb = scene.run();
    plumb.wait_for_log(|line| line.contains("there is no such branch"), SOON).await;
    let writes = audit.since(mark).await;
    assert!(scene.member_writes(&writes).is_empty(), "{writes:#?}");
    scene.env.repository().set_branch("dev", first);
    let good = scene.push([("a.yaml", config_map("a", &[("x", "2")]))]);
    scene.deployed(good).await;
    assert_eq!(scene.data("a").await.as_deref(), Some("x=2"));
    assert!(audit.since(mark).await.verb("delete").is_empty());

    // Emptiness may be meant: then it is within the budget, or asked for.
    scene.define("allow: {empty: true}");
    let meant = scene.push([("a.yaml", Change::from("# nothing\n")), ("b.yaml", Change::Remove)]);
    assert_eq!(scene.deployed(meant).await.pruned, 2);
}

/// The garbage collector may be away, or forget an object for ever: only what may have pods waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_pods_goes_without_the_garbage_collector() {
    let cluster = Cluster::own();
    let env = TestEnv::on(cluster.clone(), "collector").await;
    let scene = Scene::in_env(env, "replace: immutable\nprune: {budget: 100%}").await;
    let deployments: Api<Deployment> = Api::namespaced(scene.env.admin(), &scene.namespace);
    let fixed = |value| format!("{}immutable: true\n", config_map("fixed", &[("x", value)]));
    let web = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: example.org/web}]}
";
    let a = config_map("a", &[("x", "1")]);
    let first = scene.push([("a.yaml", a), ("fixed.yaml", fixed("1")), ("web.yaml", web.to_owned())]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    let uid = scene.identity("fixed").await.0;

    let control_plane = cluster.control_plane().unwrap();
    control_plane.pause(Program::ControllerManager);
    let second =
        scene.push([("a.yaml", Change::Remove), ("web.yaml", Change::Remove), ("fixed.yaml", fixed("2").into())]);
    let entry = scene.deployed(second).await;
    assert_eq!((entry.applied, entry.pruned), (1, 2));
    let left = scene.config_maps().get_opt("a").await.unwrap();
    assert!(left.is_none(), "it waits for the garbage collector: {:?}", left.map(|left| left.metadata));
    assert_ne!(scene.identity("fixed").await.0, uid);
    let going = deployments.get("web").await.unwrap().metadata;
    assert_eq!(going.finalizers, Some(vec!["foregroundDeletion".to_owned()]));
    control_plane.resume(Program::ControllerManager);
    eventually(SOON, || async {
        ensure!(deployments.get_opt("web").await?.is_none(), "the Deployment stays");
        Ok(())
    })
    .await;
}

/// Nobody knows what became of a write whose answer was lost: a later start must look where it went.
#[tokio::test]
async fn a_kind_stays_named_as_long_as_a_write_of_it_may_still_come() {
    let scene = Scene::new("lost").await;
    let first = scene.push(many(&["a.yaml"]));
    let mut plumb = scene.run();
    scene.deployed(first).await;
    let named = async || {
        let environment = scene.environment().await.unwrap();
        environment.metadata.annotations.unwrap()["applyset.kubernetes.io/contains-group-kinds"].clone()
    };
    assert_eq!(named().await, "ConfigMap");
    let name = scene.env.name("lost");
    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [{
            "name": "lost.example.org", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"url": "https://127.0.0.1:1/"},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": scene.namespace}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["services"]}],
            "matchConditions": [{"name": "not-dry-run", "expression": "request.dryRun != true"}],
        }],
    });
    scene.kubectl_ok(&["apply", "-f", "-"], &webhook.to_string()).await;
    eventually(SOON, || async {
        // The API server takes a moment to know it; until then it makes one.
        let probe = ["-n", &*scene.namespace, "create", "service", "clusterip", "probe", "--tcp=80"];
        let (code, _) = scene.kubectl(&probe, "").await;
        scene.kubectl(&["-n", &scene.namespace, "delete", "service", "probe", "--ignore-not-found"], "").await;
        ensure!(code != Some(0), "still let through");
        Ok(())
    })
    .await;
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80}]}\n".to_owned();
    let second = short(scene.push([("s.yaml", service)]));
    plumb.wait_for_log(|line| line.contains(" failed ") && line.contains(&second), SOON).await;
    let third = scene.push([("s.yaml", Change::Remove), ("a.yaml", config_map("a", &[("x", "2")]).into())]);
    scene.deployed(third).await;
    scene.kubectl_ok(&["delete", "validatingwebhookconfiguration", &name], "").await;
    assert_eq!(named().await, "ConfigMap,Service");
}
