//! Objects that somebody deletes, or takes plumb's marks from.

use anyhow::ensure;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams};
use plumb::model::applyset::PART_OF;
use serde_json::{Value, json};

use super::stand::{Line, Stand, deployment};
use crate::harness::eventually;
use crate::scene::{SOON, condition, config_map, part_of};
use rustix::process::Signal;

fn map(name: &str) -> String {
    config_map(name, &[("x", "1"), ("z", "1")])
}

#[tokio::test]
async fn a_deleted_object_is_made_again() {
    let files = [("a.yaml", map("a")), ("web.yaml", deployment("web", 0, ""))];
    let Some(stand) = Stand::new("d-deleted", "", files).await else { return };
    let uid = stand.scene.identity("a").await.0;
    stand.kubectl(&["delete", "cm/a", "deploy/web"]).await;
    for object in ["ConfigMap/a", "Deployment/web"] {
        stand.drift(object).await.says(&[("class", "deleted"), ("action", "created"), ("field", "")]);
    }
    stand.data_becomes("a", Some("x=1 z=1")).await;
    stand.becomes("deploy", "web", "/spec/replicas", &json!(0)).await;
    assert_ne!(stand.scene.identity("a").await.0, uid);
    stand.fence().await;
    assert_eq!(stand.drifts("ConfigMap/a").len(), 1);
    let events = stand.events("ConfigMap", "a").await;
    assert!(events.len() == 1 && events[0].contains("deleted") && events[0].contains("created"), "{events:?}");
}

#[tokio::test]
async fn an_object_that_is_being_deleted_is_waited_for_and_then_made_again() {
    let Some(stand) = Stand::new("d-finalizer", "", [("a.yaml", map("a"))]).await else { return };
    let uid = stand.scene.identity("a").await.0;
    let finalizers = |value: &str| format!(r#"-p={{"metadata":{{"finalizers":{value}}}}}"#);
    stand.kubectl(&["patch", "cm", "a", "--type=merge", &finalizers(r#"["example.org/hold"]"#)]).await;
    let mark = stand.mark().await;
    stand.kubectl(&["delete", "cm", "a", "--wait=false"]).await;
    stand.drift("ConfigMap/a").await.says(&[("class", "deleted"), ("action", "waiting until it is gone")]);
    stand.status(|status| status.drift == Some(1)).await;
    // Somebody touches it meanwhile: that is no news, and nothing is applied to what is going.
    stand.kubectl(&["annotate", "cm", "a", "note=1"]).await;
    stand.fence().await;
    assert_eq!(stand.drifts("ConfigMap/a").len(), 1, "{:#?}", stand.drifts("ConfigMap/a"));
    // What takes long is read, for its reason.
    let asked = stand.asked(mark).await.only(|event| event.verb != "get");
    assert!(asked.is_empty(), "{asked:#?}");

    stand.kubectl(&["patch", "cm", "a", "--type=merge", &finalizers("null")]).await;
    stand.data_becomes("a", Some("x=1 z=1")).await;
    assert_ne!(stand.scene.identity("a").await.0, uid);
    stand.drift_with("ConfigMap/a", &[("action", "created")]).await;
    stand.status(|status| status.drift == Some(0)).await;
    assert_eq!(stand.drifts("ConfigMap/a").len(), 2);
}

#[tokio::test]
async fn an_object_that_somebody_made_anew_is_ours_again() {
    let Some(stand) = Stand::new("d-recreated", "", [("a.yaml", map("a")), ("b.yaml", map("b"))]).await else { return };
    stand.plumb.signal(Signal::STOP);
    stand.kubectl(&["delete", "cm", "a", "b"]).await;
    // One without our marks, and one with our label: a copy of what stood.
    stand.kubectl(&["create", "cm", "a", "--from-literal=x=2"]).await;
    let label = format!("{PART_OF}={}", part_of(&stand.scene.name));
    let copy = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "labels": {PART_OF: part_of(&stand.scene.name)}}, "data": {"x": "2"}});
    stand.kubectl_with(&["create", "-f", "-"], &copy.to_string()).await;
    let uids = [stand.scene.identity("a").await.0, stand.scene.identity("b").await.0];
    stand.plumb.signal(Signal::CONT);
    for (name, uid) in ["a", "b"].into_iter().zip(uids) {
        stand.drift(&format!("ConfigMap/{name}")).await.says(&[("class", "deleted"), ("action", "created")]);
        stand.data_becomes(name, Some("x=1 z=1")).await;
        assert_eq!(stand.scene.identity(name).await.0, uid, "what stands is taken over, not deleted");
    }
    assert!(stand.kubectl(&["get", "cm", "-l", &label, "-o", "name"]).await.contains("configmap/a"));
}

#[tokio::test]
async fn an_object_that_lost_our_marks_gets_them_back() {
    let files = [("without.yaml", map("without")), ("other.yaml", map("other")), ("wiped.yaml", map("wiped"))];
    let Some(stand) = Stand::new("d-marks", "", files).await else { return };
    let mark = stand.mark().await;
    let wipe = r#"-p=[{"op":"replace","path":"/metadata/managedFields","value":[{}]}]"#;
    stand.kubectl(&["label", "cm", "without", &format!("{PART_OF}-")]).await;
    stand.kubectl(&["label", "cm", "other", "--overwrite", &format!("{PART_OF}=x")]).await;
    stand.kubectl(&["patch", "cm", "wiped", "--type=json", wipe]).await;
    let ours = part_of(&stand.scene.name);
    for name in ["without", "other", "wiped"] {
        let line = stand.drift(&format!("ConfigMap/{name}")).await;
        line.says(&[("class", "ownership-lost"), ("action", "reverted")]);
        let object = stand.becomes("cm", name, "/metadata/labels/applyset.kubernetes.io~1part-of", &json!(ours)).await;
        let entries = object["metadata"]["managedFields"].as_array().unwrap();
        let ours =
            |entry: &Value| entry["operation"] == "Apply" && entry["manager"] == format!("plumb-{}", stand.scene.name);
        assert!(entries.iter().any(ours), "{name}: {entries:#?}");
        assert_eq!(stand.drifts(&format!("ConfigMap/{name}")).len(), 1);
    }
    stand.fence().await;
    let writes = stand.wrote(mark).await;
    assert_eq!(writes.len(), 3, "{writes:#?}");
}

/// Another ApplySet's mark is a claim, not damage: plumb says so and takes nothing back.
#[tokio::test]
async fn an_object_that_another_applyset_took_is_not_fought_over() {
    let Some(stand) = Stand::new("d-taken", "", [("a.yaml", map("a"))]).await else { return };
    let theirs = part_of("somebody-else");
    let mark = stand.mark().await;
    stand.kubectl(&["label", "cm", "a", "--overwrite", &format!("{PART_OF}={theirs}")]).await;
    let line = stand.line("drift can't be put back; the next resync tries again").await;
    assert!(line.text.contains("belongs to the ApplySet"), "{}", line.text);
    let status = stand.status(|status| status.drift == Some(1)).await;
    assert_eq!(condition(&status, "Drifted").map(|drifted| &*drifted.status), Some("True"));
    stand.fence().await;
    let writes = stand.wrote(mark).await;
    assert!(writes.is_empty(), "{writes:#?}");
    // Given back, it is as it was.
    stand.kubectl(&["label", "cm", "a", "--overwrite", &format!("{PART_OF}={}", part_of(&stand.scene.name))]).await;
    stand.status(|status| status.drift == Some(0)).await;
}

#[tokio::test]
async fn a_deleted_namespace_comes_back_with_everything_in_it() {
    let files = [("a.yaml", map("a")), ("web.yaml", deployment("web", 0, ""))];
    let Some(stand) = Stand::new("d-namespace", "", files).await else { return };
    let namespaces: Api<Namespace> = Api::all(stand.scene.env.admin());
    let namespace = &stand.scene.namespace;
    let uid = namespaces.get(namespace).await.unwrap().uid();
    namespaces.delete(namespace, &DeleteParams::default()).await.unwrap();
    eventually(2 * SOON, || async {
        let now = namespaces.get(namespace).await?;
        ensure!(now.uid() != uid && now.metadata.deletion_timestamp.is_none(), "it is the old namespace");
        Ok(())
    })
    .await;
    stand.data_becomes("a", Some("x=1 z=1")).await;
    stand.becomes("deploy", "web", "/spec/replicas", &json!(0)).await;
    stand.status(|status| status.drift == Some(0)).await;
    stand.drift_with("ConfigMap/a", &[("class", "deleted"), ("action", "created")]).await;
    stand.fence().await;
    assert!(stand.drifts("ConfigMap/a").len() <= 2, "{:#?}", stand.drifts("ConfigMap/a"));
}

#[tokio::test]
async fn a_deleted_definition_comes_back_with_its_objects() {
    let group = format!("g{:08x}.example.org", rand::random::<u32>());
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("things.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced", "names": {"kind": "Thing", "plural": "things", "singular": "thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "properties": {"spec": {"type": "object", "properties": {"x": {"type": "string"}}}}}}}],
        },
    });
    let thing =
        json!({"apiVersion": format!("{group}/v1"), "kind": "Thing", "metadata": {"name": "t"}, "spec": {"x": "1"}});
    let spec = "allow: {clusterScoped: [apiextensions.k8s.io/CustomResourceDefinition]}";
    let files = [("crd.yaml", crd.to_string()), ("thing.yaml", thing.to_string())];
    let Some(stand) = Stand::new("d-definition", spec, files).await else { return };
    let things = format!("things.{group}");
    stand.kubectl(&["delete", "crd", &things]).await;
    stand.becomes(&things, "t", "/spec/x", &json!("1")).await;
    stand.status(|status| status.drift == Some(0)).await;
    stand.drift_with("Thing/t", &[("class", "deleted")]).await;
    let definition = format!("CustomResourceDefinition/{things}");
    eventually(SOON, || async {
        let lines = stand.lines("drift");
        ensure!(lines.iter().any(|line| line.field("object") == definition), "{lines:#?}");
        Ok(())
    })
    .await;
    // The kind is watched again.
    stand.kubectl(&["patch", &things, "t", "--type=merge", r#"-p={"spec":{"x":"2"}}"#]).await;
    stand.drift_with("Thing/t", &[("field", "spec.x"), ("live", "2")]).await;
    stand.becomes(&things, "t", "/spec/x", &json!("1")).await;
}

#[tokio::test]
async fn a_thousand_deletions_are_one_line_and_all_come_back() {
    let all: Vec<String> = (0..1000).map(|index| config_map(&format!("m{index}"), &[("x", "1")])).collect();
    let Some(stand) = Stand::new("d-burst", "", [("all.yaml", all.join("---\n"))]).await else { return };
    let ours = ListParams::default().labels(&format!("{PART_OF}={}", part_of(&stand.scene.name)));
    let maps = stand.scene.config_maps();
    maps.delete_collection(&DeleteParams::default(), &ours).await.unwrap();
    eventually(2 * SOON, || async {
        let stand_again = maps.list_metadata(&ours).await?.items.len();
        ensure!(stand_again == 1001, "{stand_again} of 1001 stand");
        Ok(())
    })
    .await;
    stand.status(|status| status.drift == Some(0)).await;
    // The first few one by one, as they come; the others together when it is over.
    let count = |line: &Line| line.field("objects").parse().unwrap_or(1);
    let lines = eventually(SOON, || async {
        let lines = stand.lines("drift");
        ensure!(lines.iter().map(count).sum::<usize>() == 1001, "{lines:#?}");
        Ok(lines)
    })
    .await;
    assert!(
        lines.iter().all(|line| line.field("class") == "deleted" && line.field("action") == "created"),
        "{lines:#?}"
    );
    // On a busy machine they come in more than one burst, or in one that is told before its end.
    let sums = lines.iter().filter(|line| count(line) > 1).count();
    assert!((1..=4).contains(&sums) && lines.len() <= 17 * sums, "{lines:#?}");
}
