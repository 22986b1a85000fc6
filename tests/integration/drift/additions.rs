//! Fields that others add inside plumb's objects: told once, or taken out; and what controllers and tools leave in objects of others, which is neither.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use plumb::drift::ownership;
use plumb::model::environment::EnvironmentStatus;
use serde_json::{Value, json};

use super::stand::{Stand, deployment, kubectl};
use crate::harness::eventually;
use crate::scene::{SOON, condition, config_map};

const FOREIGN: (&str, &str) = ("class", "foreign-addition");
const CONTAINER: &str = "spec.template.spec.containers[name=web]";

/// A Service whose target port is that of the API server's defaults.
const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: svc}\nspec: {selector: {app: web}, ports: [{name: http, port: 80}]}\n";

fn files() -> [(&'static str, String); 2] {
    [("a.yaml", config_map("a", &[("x", "1")])), ("web.yaml", deployment("web", 0, ""))]
}

/// Somebody adds an environment variable, a second container, a label and a key.
async fn add(stand: &Stand) {
    // What comes together is told together, as written by who wrote last.
    let told = async |object: &str, field: &str| drop(stand.drift_with(object, &[("field", field)]).await);
    stand.kubectl(&["set", "env", "deploy/web", "EXTRA=canary"]).await;
    told("Deployment/web", &format!("{CONTAINER}.env[name=EXTRA]")).await;
    let side = r#"-p={"spec":{"template":{"spec":{"containers":[{"name":"side","image":"example.org/side:1","env":[{"name":"PASSWORD","value":"canary"}]}]}}}}"#;
    stand.kubectl(&["patch", "deploy", "web", side]).await;
    stand.kubectl(&["label", "cm", "a", "theirs=1"]).await;
    told("ConfigMap/a", "metadata.labels.theirs").await;
    stand.kubectl(&["patch", "cm", "a", "--type=merge", r#"-p={"data":{"y":"2"}}"#]).await;
}

#[tokio::test]
async fn what_others_add_is_told_once_and_counted_and_stays() {
    let Some(stand) = Stand::new("d-added", "", files()).await else { return };
    stand.fence().await;
    let mark = stand.mark().await;
    add(&stand).await;
    let told = [FOREIGN, ("action", "none, foreignAdditions is report"), ("want", "(absent)")];
    let field = |path: &str| format!("{CONTAINER}{path}");
    let web = stand.drift_with("Deployment/web", &[("field", &field(".env[name=EXTRA]"))]).await;
    web.says(&told);
    web.says(&[("live", "(added)"), ("manager", "kubectl-set")]);
    let side = "spec.template.spec.containers[name=side]";
    stand.drift_with("Deployment/web", &[("field", side)]).await.says(&told);
    let label = stand.drift_with("ConfigMap/a", &[("field", "metadata.labels.theirs")]).await;
    label.says(&told);
    label.says(&[("live", "1"), ("manager", "kubectl-label")]);
    stand.drift_with("ConfigMap/a", &[("field", "data.y")]).await.says(&told);

    let named = |status: &EnvironmentStatus| {
        condition(status, "Drifted").is_some_and(|drifted| {
            (&*drifted.status, &*drifted.reason) == ("True", "ForeignAdditions")
                && drifted.message.contains("/a (added: data.y, metadata.labels.theirs)")
        })
    };
    let status = stand.status(named).await;
    assert_eq!(status.drift, Some(2));
    assert_eq!(status.drift_by_class, [("foreign-addition".to_owned(), 2)].into());
    let lines = stand.lines("drift").into_iter().filter(|line| !line.field("object").ends_with("/zz"));
    assert_eq!(lines.count(), 4, "each addition is told once: {:#?}", stand.lines("drift"));
    stand.event("ConfigMap", "a", "foreign-addition by kubectl-label").await;

    // Changed again, touched, or healed beside it: no news.
    let lines = stand.drifts("ConfigMap/a").len();
    stand.kubectl(&["label", "cm", "a", "--overwrite", "theirs=2"]).await;
    stand.kubectl(&["annotate", "cm", "a", "note=1"]).await;
    stand.kubectl(&["patch", "cm", "a", "--type=merge", r#"-p={"data":{"x":"2"}}"#]).await;
    stand.drift_with("ConfigMap/a", &[("field", "data.x")]).await.says(&[("action", "reverted")]);
    stand.fence().await;
    assert_eq!(stand.drifts("ConfigMap/a").len(), lines + 1, "{:#?}", stand.drifts("ConfigMap/a"));
    let written: Vec<String> = stand.wrote(mark).await.0.into_iter().map(|event| event.object_ref.name).collect();
    assert_eq!(written, ["a"], "the heal of data.x alone");
    assert!(!stand.plumb.log().join("\n").contains("canary"), "what others added is not shown");

    // Taken back, it is over.
    stand.kubectl(&["label", "cm", "a", "theirs-"]).await;
    stand.kubectl(&["patch", "cm", "a", "--type=merge", r#"-p={"data":{"y":null}}"#]).await;
    let over = stand.line("no longer drifted").await;
    assert_eq!(over.field("object"), stand.object("ConfigMap/a"));
    stand.status(|status| status.drift == Some(1)).await;
}

#[tokio::test]
async fn what_others_add_is_taken_out_where_the_definition_says_so() {
    let spec = "foreignAdditions: revert\nignore: [{kind: Deployment, fields: [spec.template.spec.nodeSelector]}]";
    let Some(stand) = Stand::new("d-added-revert", spec, files()).await else { return };
    stand.fence().await;
    let kept = r#"-p={"metadata":{"finalizers":["example.org/hold"]},"spec":{"template":{"spec":{"nodeSelector":{"a":"b"}}}}}"#;
    stand.kubectl(&["patch", "deploy", "web", "--type=merge", kept]).await;
    add(&stand).await;
    let reverted = [FOREIGN, ("action", "reverted")];
    stand.drift_with("Deployment/web", &reverted).await;
    stand.drift_with("ConfigMap/a", &reverted).await;
    let containers = "/spec/template/spec/containers";
    let env = json!([{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]);
    let web = stand.becomes("deploy", "web", &format!("{containers}/0/env"), &env).await;
    assert_eq!(web.pointer("/spec/template/spec/nodeSelector"), Some(&json!({"a": "b"})), "left to others");
    assert_eq!(web.pointer("/metadata/finalizers"), Some(&json!(["example.org/hold"])));
    stand.becomes("deploy", "web", &format!("{containers}/1"), &Value::Null).await;
    stand.becomes("cm", "a", "/metadata/labels/theirs", &Value::Null).await;
    stand.data_becomes("a", Some("x=1")).await;
    let status = stand.status(|status| status.drift == Some(0)).await;
    assert!(status.drift_by_class.is_empty());
    stand.kubectl(&["patch", "deploy", "web", "--type=merge", r#"-p={"metadata":{"finalizers":null}}"#]).await;

    // Nothing is left to be done.
    stand.fence().await;
    let mark = stand.mark().await;
    stand.fence().await;
    // But for a dry-run of the Deployment, where its controller has written twice in a second.
    let asked = stand.asked(mark).await;
    let asked = asked.only(|event| event.object_ref.name != "web" || (event.is_write() && !event.is_dry_run()));
    assert!(asked.is_empty(), "{asked:#?}");

    // Without self-heal it is told alone.
    stand.scene.define(&format!("{spec}\nselfHeal: false"));
    eventually(SOON, || async {
        // It says so when the task has taken it in.
        let environment = stand.scene.environment().await.context("the Environment")?;
        ensure!(!environment.spec.self_heal, "the definition is not read yet");
        Ok(())
    })
    .await;
    let mark = stand.mark().await;
    stand.kubectl(&["label", "cm", "a", "late=1"]).await;
    let field = ("field", "metadata.labels.late");
    stand.drift_with("ConfigMap/a", &[field]).await.says(&[("action", "none, selfHeal is false")]);
    let writes = stand.wrote(mark).await;
    assert!(writes.is_empty(), "{writes:#?}");
}

/// Controllers hold objects of others by finalizers; where git lists some of its own, another one is an addition to that list.
#[tokio::test]
async fn a_finalizer_beside_those_of_git_is_an_addition() {
    let held =
        config_map("held", &[("x", "1")]).replace("{name: held}", "{name: held, finalizers: [example.org/ours]}");
    let files = [("held.yaml", held), ("free.yaml", config_map("free", &[("x", "1")]))];
    let Some(stand) = Stand::new("d-finalizer", "", files).await else { return };
    stand.fence().await;
    let patch = r#"-p=[{"op":"add","path":"/metadata/finalizers/-","value":"example.org/theirs"}]"#;
    stand.kubectl(&["patch", "cm", "held", "--type=json", patch]).await;
    let mark = r#"-p={"metadata":{"finalizers":["example.org/mark"]}}"#;
    stand.kubectl(&["patch", "cm", "free", "--type=merge", mark]).await;
    let field = ("field", "metadata.finalizers[=example.org/theirs]");
    let told = stand.drift_with("ConfigMap/held", &[field]).await;
    told.says(&[FOREIGN, ("action", "none, foreignAdditions is report"), ("manager", "kubectl-patch")]);
    stand.fence().await;
    assert!(stand.drifts("ConfigMap/free").is_empty(), "{:#?}", stand.drifts("ConfigMap/free"));
    stand.status(|status| status.drift == Some(1)).await;

    // What holds an object is not ours to let go, whatever else is taken out.
    stand.scene.define("foreignAdditions: revert");
    stand.kubectl(&["label", "cm", "held", "theirs=1"]).await;
    let held = stand.becomes("cm", "held", "/metadata/labels/theirs", &Value::Null).await;
    assert_eq!(held.pointer("/metadata/finalizers"), Some(&json!(["example.org/ours", "example.org/theirs"])));
    stand.status(|status| status.drift == Some(0)).await;
    let let_go = r#"-p={"metadata":{"finalizers":null}}"#;
    drop(stand.plumb);
    for name in ["held", "free"] {
        kubectl(&stand.scene, &["patch", "cm", name, "--type=merge", let_go], "").await;
    }
}

/// Under an empty struct of ours lies what git leaves to its defaults: what somebody sets there is an addition too.
#[tokio::test]
async fn what_is_set_under_an_empty_field_of_ours_is_an_addition() {
    let web = deployment("web", 0, "") + "      volumes: [{name: tmp, emptyDir: {}}]\n      securityContext: {}\n";
    let files = [("web.yaml", web), ("svc.yaml", SERVICE.to_owned())];
    let Some(stand) = Stand::new("d-added-under", "foreignAdditions: revert", files).await else { return };
    let memory = r#"-p={"spec":{"template":{"spec":{"volumes":[{"name":"tmp","emptyDir":{"medium":"Memory"}}]}}}}"#;
    let security = r#"-p={"spec":{"template":{"spec":{"securityContext":{"runAsNonRoot":true}}}}}"#;
    let target = r#"-p={"spec":{"ports":[{"port":80,"targetPort":8080}]}}"#;
    let pod = "/spec/template/spec";
    let rows = [
        ("Deployment", "web", memory, "spec.template.spec.volumes[name=tmp].emptyDir.medium", "Memory"),
        ("Deployment", "web", security, "spec.template.spec.securityContext.runAsNonRoot", "true"),
        ("Service", "svc", target, "spec.ports[port=80,protocol=TCP].targetPort", "8080"),
    ];
    let after = [
        (format!("{pod}/volumes/0/emptyDir"), json!({})),
        (format!("{pod}/securityContext"), json!({})),
        ("/spec/ports/0/targetPort".to_owned(), json!(80)),
    ];
    for ((kind, name, patch, field, live), (pointer, value)) in rows.into_iter().zip(after) {
        stand.kubectl(&["patch", kind, name, patch]).await;
        let line = stand.drift_with(&format!("{kind}/{name}"), &[("field", field)]).await;
        line.says(&[FOREIGN, ("live", live), ("action", "reverted")]);
        stand.becomes(kind, name, &pointer, &value).await;
    }
    stand.status(|status| status.drift == Some(0)).await;
}

/// Another element of a list whose elements have keys is an addition, be the key a port.
#[tokio::test]
async fn a_port_that_others_add_is_told_and_stays() {
    let files = [("web.yaml", deployment("web", 0, "ports: [{containerPort: 80}]")), ("svc.yaml", SERVICE.to_owned())];
    let Some(stand) = Stand::new("d-added-port", "", files).await else { return };
    let ports = "/spec/template/spec/containers/0/ports";
    let add = |list: &str, port: Value| json!([{"op": "add", "path": format!("{list}/-"), "value": port}]).to_string();
    let container = add(ports, json!({"containerPort": 81}));
    stand.kubectl(&["patch", "deploy", "web", "--type=json", "-p", &container]).await;
    let service = add("/spec/ports", json!({"name": "other", "port": 81}));
    stand.kubectl(&["patch", "svc", "svc", "--type=json", "-p", &service]).await;
    let added = format!("{CONTAINER}.ports[containerPort=81,protocol=TCP]");
    let told = [FOREIGN, ("action", "none, foreignAdditions is report"), ("live", "(added)")];
    stand.drift_with("Deployment/web", &[("field", &added)]).await.says(&told);
    stand.drift_with("Service/svc", &[("field", "spec.ports[port=81,protocol=TCP]")]).await.says(&told);
    let status = stand.status(|status| status.drift == Some(2)).await;
    assert_eq!(status.drift_by_class, [("foreign-addition".to_owned(), 2)].into());
    stand.becomes("svc", "svc", "/spec/ports/1/port", &json!(81)).await;
    stand.becomes("deploy", "web", &format!("{ports}/1/containerPort"), &json!(81)).await;
}

/// Whether somebody's writes without a trace changed anything is asked about after a pause. What is added or taken back meanwhile is told after the answer.
#[tokio::test]
async fn what_is_added_while_an_object_waits_to_be_asked_about_is_told() {
    let Some(stand) = Stand::new("d-added-busy", "", files()).await else { return };
    stand.fence().await;
    let busy = async || {
        for beat in 0..60 {
            let beat = Patch::Merge(json!({"metadata": {"annotations": {"beat": beat.to_string()}}}));
            stand.scene.config_maps().patch("a", &PatchParams::default(), &beat).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    busy().await;
    stand.kubectl(&["label", "cm", "a", "theirs=1"]).await;
    stand.drift_with("ConfigMap/a", &[("field", "metadata.labels.theirs")]).await.says(&[FOREIGN]);
    busy().await;
    stand.kubectl(&["label", "cm", "a", "theirs-"]).await;
    assert_eq!(stand.line("no longer drifted").await.field("object"), stand.object("ConfigMap/a"));
    stand.status(|status| status.drift == Some(0)).await;
}

/// An empty map is not kept by the API server, which gives it to whoever puts something in: our path is lost, but nothing of git's was changed.
#[tokio::test]
async fn what_is_put_into_a_map_that_git_has_empty_is_an_addition() {
    let empty = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: e}\ndata: {}\n";
    let fill = ["patch", "cm", "e", "--type=merge", r#"-p={"data":{"y":"2"}}"#];
    let clear = ["patch", "cm", "e", "--type=merge", r#"-p={"data":null}"#];
    let Some(stand) = Stand::new("d-added-empty", "", [("e.yaml", empty)]).await else { return };
    let only_additions = |stand: &Stand| {
        let lines = stand.drifts("ConfigMap/e");
        assert!(lines.iter().all(|line| line.field("class") == "foreign-addition"), "{lines:#?}");
        lines.len()
    };
    let added = [FOREIGN, ("field", "data.y"), ("want", "(absent)"), ("live", "2"), ("manager", "kubectl-patch")];
    let counted = |status: &EnvironmentStatus| status.drift_by_class == [("foreign-addition".to_owned(), 1)].into();
    stand.kubectl(&fill).await;
    stand.drift("ConfigMap/e").await.says(&added);
    stand.status(counted).await;
    stand.fence().await;
    assert_eq!((only_additions(&stand), stand.scene.data("e").await.as_deref()), (1, Some("y=2")));
    stand.kubectl(&clear).await;
    stand.status(|status| status.drift == Some(0)).await;
    stand.fence().await;
    assert_eq!(only_additions(&stand), 1);

    // The same where nothing is put back: it is told and counted without a write.
    stand.scene.define("selfHeal: false");
    eventually(SOON, || async {
        stand.kubectl(&clear).await;
        stand.kubectl(&fill).await;
        let told = stand.drifts("ConfigMap/e");
        ensure!(told.iter().any(|line| line.field("action") == "none, selfHeal is false"), "{told:#?}");
        Ok(())
    })
    .await;
    // Our path stays lost: what is done next is seen nevertheless.
    let mark = stand.mark().await;
    for _ in 0..2 {
        stand.status(counted).await;
        stand.kubectl(&clear).await;
        stand.status(|status| status.drift == Some(0)).await;
        stand.kubectl(&fill).await;
    }
    stand.status(counted).await;
    stand.kubectl(&clear).await;
    stand.status(|status| status.drift == Some(0)).await;
    only_additions(&stand);
    assert!(stand.wrote(mark).await.is_empty(), "{:#?}", stand.wrote(mark).await);
}

/// The same where it is taken out.
#[tokio::test]
async fn what_is_put_into_a_map_that_git_has_empty_is_taken_out() {
    let empty = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: e}\ndata: {}\n";
    let Some(stand) = Stand::new("d-out-empty", "foreignAdditions: revert", [("e.yaml", empty)]).await else { return };
    stand.kubectl(&["patch", "cm", "e", "--type=merge", r#"-p={"data":{"y":"2"}}"#]).await;
    let line = stand.drift_with("ConfigMap/e", &[("action", "reverted")]).await;
    line.says(&[FOREIGN, ("field", "data.y"), ("want", "(absent)"), ("live", "2"), ("manager", "kubectl-patch")]);
    stand.data_becomes("e", Some("")).await;
    stand.status(|status| status.drift == Some(0)).await;
    assert!(stand.drifts("ConfigMap/e").iter().all(|line| line.field("class") == "foreign-addition"));
}

/// Additions that stand at a start or a new commit are found without a change.
#[tokio::test]
async fn what_was_added_before_a_start_is_found() {
    let Some(stand) = Stand::new("d-added-before", "", files()).await else { return };
    let super::stand::Stand { scene, mut plumb, .. } = stand;
    plumb.kill();
    kubectl(&scene, &["label", "cm", "a", "theirs=1"], "").await;
    let plumb = scene.run();
    let stand = Stand::running(scene, plumb);
    stand.drift("ConfigMap/a").await.says(&[FOREIGN, ("field", "metadata.labels.theirs")]);
    // It is no longer the environment's concern when the object leaves git.
    stand.status(|status| status.drift == Some(1)).await;
    stand.scene.push([("a.yaml", crate::harness::Change::Remove)]);
    stand.status(|status| status.drift == Some(0)).await;
}

/// A whole object that somebody made owns the defaults of all that git does not say; controllers bind volumes, and leave finalizers and annotations.
#[tokio::test]
async fn defaults_and_controllers_add_nothing() {
    let claim = "apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], storageClassName: \"\", resources: {requests: {storage: 1Gi}}}
";
    let files = [("claim.yaml", claim.to_owned()), ("web.yaml", deployment("web", 1, ""))];
    let Some((scene, _)) = Stand::pushed("d-added-none", "", files).await else { return };
    scene.make_namespace().await;
    kubectl(&scene, &["create", "-f", "-"], &deployment("web", 1, "")).await;
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": scene.namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/nowhere"},
            "claimRef": {"namespace": scene.namespace, "name": "data"},
        },
    });
    kubectl(&scene, &["create", "-f", "-"], &volume.to_string()).await;
    let plumb = scene.run();
    let Some(stand) = Stand::on(scene, plumb).await else { return };
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(stand.scene.env.admin(), &stand.scene.namespace);
    eventually(SOON, || async {
        let claim = claims.get("data").await?;
        ensure!(claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_some()), "not bound: {claim:?}");
        assert!(ownership::foreign(claim.managed_fields())?.is_empty(), "{:#?}", claim.managed_fields());
        Ok(())
    })
    .await;
    stand
        .kubectl(&[
            "patch",
            "pvc",
            "data",
            "--type=merge",
            r#"-p={"metadata":{"finalizers":["example.org/a","kubernetes.io/pvc-protection"]}}"#,
        ])
        .await;
    stand.kubectl(&["rollout", "restart", "deploy/web"]).await;
    let deployments: Api<Deployment> = Api::namespaced(stand.scene.env.admin(), &stand.scene.namespace);
    let web = deployments.get("web").await.unwrap();
    assert!(!ownership::foreign(web.managed_fields()).unwrap().is_empty(), "not what is to be tested");
    stand.fence().await;
    // The watch of Deployments has brought all of it when it has brought this.
    stand.kubectl(&["label", "deploy/web", "theirs=1"]).await;
    let line = stand.drift_with("Deployment/web", &[("field", "metadata.labels.theirs")]).await;
    line.says(&[FOREIGN]);
    stand.fence().await;
    let lines = stand.lines("drift");
    let others = lines.iter().filter(|other| other.text != line.text && !other.field("object").ends_with("/zz"));
    assert_eq!(others.count(), 0, "{lines:#?}");
    stand.kubectl(&["patch", "pvc", "data", "--type=merge", r#"-p={"metadata":{"finalizers":null}}"#]).await;
    stand.kubectl(&["delete", "pv", &stand.scene.namespace, "--wait=false"]).await;
}
