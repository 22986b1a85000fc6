//! Somebody changes a field that git sets: told with who, want and live, and put back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use kube::api::{Patch, PatchParams};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::observed::write_as_plumb;
use super::stand::{Stand, deployment};
use crate::harness::eventually;
use crate::scene::{SOON, Scene, config_map};

/// One way to change an object.
struct Row {
    /// The object, whose name is the row's.
    kind: &'static str,
    name: &'static str,
    manifest: String,
    /// kubectl's arguments, and its input.
    change: &'static [&'static str],
    input: &'static str,
    /// What the log says of it.
    says: &'static [(&'static str, &'static str)],
    /// Where it shows that it was put back, and what stands there then.
    pointer: &'static str,
    value: Value,
}

fn map(name: &'static str) -> String {
    let text = config_map(name, &[("x", "1"), ("z", "1")]);
    text.replace(
        &format!("{{name: {name}}}"),
        &format!("{{name: {name}, labels: {{app: a}}, annotations: {{note: a}}}}"),
    )
}

fn row(kind: &'static str, name: &'static str, manifest: String, change: &'static [&'static str]) -> Row {
    Row { kind, name, manifest, change, input: "", says: &[], pointer: "", value: Value::Null }
}

impl Row {
    fn says(self, says: &'static [(&'static str, &'static str)]) -> Self {
        Self { says, ..self }
    }

    fn back(self, pointer: &'static str, value: Value) -> Self {
        Self { pointer, value, ..self }
    }
}

/// Carries the rows out one after the other in one environment.
async fn table(name: &str, rows: Vec<Row>) {
    let files: Vec<(&'static str, String)> = rows
        .iter()
        .map(|row| (&*Box::leak(format!("{}.yaml", row.name).into_boxed_str()), row.manifest.clone()))
        .collect();
    let Some(stand) = Stand::new(name, "", files).await else { return };
    for row in rows {
        eprintln!("row {}", row.name);
        let object = format!("{}/{}", row.kind, row.name);
        stand.kubectl_with(row.change, row.input).await;
        let line = stand.drift(&object).await;
        line.says(&[("class", "value-changed"), ("action", "reverted")]);
        line.says(row.says);
        // Since when is recorded with who, but for what went through `scale`.
        let timed = !["unknown", "kubectl/scale"].contains(&line.field("manager"));
        let age = humantime::parse_duration(line.field("age"));
        assert!(if timed { age.is_ok_and(|age| age < Duration::from_secs(60)) } else { age.is_err() }, "{}", line.text);
        stand.becomes(row.kind, row.name, row.pointer, &row.value).await;
        assert_eq!(stand.drifts(&object).len(), 1, "{:#?}", stand.drifts(&object));
        // Who watches the object sees it too.
        let events = stand.events(row.kind, row.name).await;
        assert!(events.len() == 1 && events[0].contains(line.field("field")), "{events:?} {line:?}");
    }
    let status = stand.status(|status| status.drift == Some(0)).await;
    assert_eq!(crate::scene::condition(&status, "Drifted").map(|drifted| &*drifted.status), Some("False"));
}

#[tokio::test]
async fn values_labels_and_annotations_changed_and_removed_by_kubectl() {
    let cm = "ConfigMap";
    let patch = &["patch", "cm", "merge", "--type=merge", r#"-p={"data":{"x":"2"}}"#];
    let json = &["patch", "cm", "json", "--type=json", r#"-p=[{"op":"replace","path":"/data/x","value":"2"}]"#];
    let removed = &["patch", "cm", "removed", "--type=merge", r#"-p={"data":{"x":null}}"#];
    table(
        "d-values",
        vec![
            row(cm, "merge", map("merge"), patch)
                .says(&[("field", "data.x"), ("want", "1"), ("live", "2"), ("manager", "kubectl-patch")])
                .back("/data/x", json!("1")),
            row(cm, "json", map("json"), json)
                .says(&[("field", "data.x"), ("want", "1"), ("live", "2"), ("manager", "kubectl-patch")])
                .back("/data/x", json!("1")),
            row(cm, "removed", map("removed"), removed)
                .says(&[("field", "data.x"), ("want", "1"), ("live", "(absent)"), ("manager", "unknown")])
                .back("/data/x", json!("1")),
            row(cm, "label", map("label"), &["label", "cm", "label", "--overwrite", "app=b"])
                .says(&[("field", "metadata.labels.app"), ("want", "a"), ("live", "b"), ("manager", "kubectl-label")])
                .back("/metadata/labels/app", json!("a")),
            row(cm, "unlabel", map("unlabel"), &["label", "cm", "unlabel", "app-"])
                .says(&[("field", "metadata.labels.app"), ("live", "(absent)"), ("manager", "unknown")])
                .back("/metadata/labels/app", json!("a")),
            row(cm, "annotate", map("annotate"), &["annotate", "cm", "annotate", "--overwrite", "note=b"])
                .says(&[("field", "metadata.annotations.note"), ("live", "b"), ("manager", "kubectl-annotate")])
                .back("/metadata/annotations/note", json!("a")),
        ],
    )
    .await;
}

#[tokio::test]
async fn workloads_scaled_set_and_patched_in_lists_and_atomic_fields() {
    let kind = "Deployment";
    let web = |name, container| deployment(name, 0, container);
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: policy}\nspec: {podSelector: {}, policyTypes: [Ingress]}\n";
    let narrow = &[
        "patch",
        "networkpolicy",
        "policy",
        "--type=merge",
        r#"-p={"spec":{"podSelector":{"matchLabels":{"a":"b"}}}}"#,
    ];
    let args = &[
        "patch",
        "deploy",
        "args",
        "--type=json",
        r#"-p=[{"op":"replace","path":"/spec/template/spec/containers/0/args/0","value":"c"}]"#,
    ];
    let gone = &[
        "patch",
        "deploy",
        "item",
        r#"-p={"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"A","$patch":"delete"}]}]}}}}"#,
    ];
    let twice = &[
        "patch",
        "deploy",
        "twice",
        "--type=json",
        r#"-p=[{"op":"add","path":"/spec/template/spec/containers/0/env/-","value":{"name":"A","value":"2"}}]"#,
    ];
    let selector = &["patch", "svc", "selector", "--type=merge", r#"-p={"spec":{"selector":{"app":"b"}}}"#];
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: selector}\nspec: {selector: {app: a}, ports: [{port: 80}]}\n";
    let env = "/spec/template/spec/containers/0/env";
    let both = json!([{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]);
    table(
        "d-workloads",
        vec![
            // What an atomic field without anything in it is given is not a default.
            row("NetworkPolicy", "policy", policy.to_owned(), narrow)
                .says(&[("field", "spec.podSelector"), ("want", "{}"), ("live", r#"{"matchLabels":{"a":"b"}}"#)])
                .back("/spec/podSelector", json!({})),
            row(kind, "scale", web("scale", ""), &["scale", "deploy/scale", "--replicas=1"])
                .says(&[("field", "spec.replicas"), ("want", "0"), ("live", "1"), ("manager", "kubectl/scale")])
                .back("/spec/replicas", json!(0)),
            row(kind, "env", web("env", ""), &["set", "env", "deploy/env", "A=2"])
                .says(&[
                    ("field", "spec.template.spec.containers[name=web].env[name=A].value"),
                    ("want", "1"),
                    ("live", "2"),
                    ("manager", "kubectl-set"),
                ])
                .back(env, both.clone()),
            row(kind, "image", web("image", ""), &["set", "image", "deploy/image", "web=example.org/web:2"])
                .says(&[("field", "spec.template.spec.containers[name=web].image"), ("live", "example.org/web:2")])
                .back("/spec/template/spec/containers/0/image", json!("example.org/web:1")),
            row(kind, "args", web("args", "args: [a, b]"), args)
                .says(&[
                    ("field", "spec.template.spec.containers[name=web].args"),
                    ("want", r#"["a","b"]"#),
                    ("live", r#"["c","b"]"#),
                ])
                .back("/spec/template/spec/containers/0/args", json!(["a", "b"])),
            row(kind, "item", web("item", ""), gone)
                .says(&[("field", "spec.template.spec.containers[name=web].env[name=A]"), ("live", "(absent)")])
                .back(env, both.clone()),
            row(kind, "twice", web("twice", ""), twice)
                .says(&[
                    ("field", "spec.template.spec.containers[name=web].env[name=A]"),
                    ("want", r#"{"name":"A","value":"1"}"#),
                    ("live", "(there 2 times)"),
                ])
                .back(env, both),
            row("Service", "selector", service.to_owned(), selector)
                .says(&[("field", "spec.selector"), ("want", r#"{"app":"a"}"#), ("live", r#"{"app":"b"}"#)])
                .back("/spec/selector", json!({"app": "a"})),
        ],
    )
    .await;
}

/// `kubectl rollout undo` writes the template of an older ReplicaSet.
#[tokio::test]
async fn a_rollout_that_somebody_undoes() {
    let Some(stand) = Stand::new("d-undo", "", [("web.yaml", deployment("web", 0, ""))]).await else { return };
    let revision = "/metadata/annotations/deployment.kubernetes.io~1revision";
    stand.becomes("deploy", "web", revision, &json!("1")).await;
    let next = deployment("web", 0, "").replace("web:1", "web:2");
    let commit = stand.scene.push([("web.yaml", next)]);
    stand.scene.deployed(commit).await;
    stand.becomes("deploy", "web", revision, &json!("2")).await;
    stand.kubectl(&["rollout", "undo", "deploy/web"]).await;
    let line = stand.drift("Deployment/web").await;
    line.says(&[("class", "value-changed"), ("field", "spec.template.spec.containers[name=web].image")]);
    line.says(&[("want", "example.org/web:2"), ("live", "example.org/web:1"), ("action", "reverted")]);
    assert!(line.field("manager").starts_with("kubectl"), "{}", line.text);
    stand.becomes("deploy", "web", "/spec/template/spec/containers/0/image", &json!("example.org/web:2")).await;
    stand.status(|status| status.drift == Some(0)).await;
    assert_eq!(stand.drifts("Deployment/web").len(), 1, "{:#?}", stand.drifts("Deployment/web"));
}

#[tokio::test]
async fn other_appliers_by_force_and_client_side() {
    let other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: forced}\ndata: {x: '2'}\n";
    let client = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: client}\ndata: {x: '2'}\n";
    let cm = "ConfigMap";
    let forced = &["apply", "--server-side", "--force-conflicts", "--field-manager=other", "-f", "-"];
    let mut rows = vec![
        row(cm, "forced", map("forced"), forced)
            .says(&[("field", "data.x"), ("want", "1"), ("live", "2"), ("manager", "other")])
            .back("/data/x", json!("1")),
        row(cm, "client", map("client"), &["apply", "-f", "-"])
            .says(&[("field", "data.x"), ("want", "1"), ("live", "2"), ("manager", "kubectl-client-side-apply")])
            .back("/data/x", json!("1")),
    ];
    (rows[0].input, rows[1].input) = (other, client);
    table("d-appliers", rows).await;
}

#[tokio::test]
async fn kubectl_edit() {
    let Some(stand) = Stand::new("d-edit", "", [("a.yaml", map("a"))]).await else { return };
    let editor = "sed -i 's/x: \"1\"/x: \"2\"/'";
    edit(&stand.scene, &["-n", &stand.scene.namespace, "edit", "cm", "a"], editor).await;
    stand.drift("ConfigMap/a").await.says(&[
        ("field", "data.x"),
        ("want", "1"),
        ("live", "2"),
        ("manager", "kubectl-edit"),
        ("class", "value-changed"),
        ("action", "reverted"),
    ]);
    stand.data_becomes("a", Some("x=1 z=1")).await;
}

async fn edit(scene: &Scene, args: &[&str], editor: &str) {
    let admin = scene.env.cluster().admin_kubeconfig();
    let mut kubectl = crate::harness::Plumb::spawn_program("kubectl", &admin, args, |command| {
        command.env("KUBE_EDITOR", editor);
    });
    assert!(kubectl.wait(SOON).await.success(), "{}", kubectl.output().await);
}

/// Two writes that undo each other leave the value, but not the ownership: it is taken back without a word, of a Secret too.
#[tokio::test]
async fn there_and_back() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {x: MQ==}\n"; // 1
    let files = [("a.yaml", map("a")), ("s.yaml", secret.to_owned())];
    let Some(stand) = Stand::new("d-back", "", files).await else { return };
    stand.plumb.signal(Signal::STOP);
    for (kind, name, values) in [("cm", "a", ["2", "1"]), ("secret", "s", ["Mg==", "MQ=="])] {
        for value in values {
            let patch = format!(r#"-p={{"data":{{"x":"{value}"}}}}"#);
            stand.kubectl(&["patch", kind, name, "--type=merge", &patch]).await;
        }
    }
    stand.plumb.signal(Signal::CONT);
    for (kind, name) in [("cm", "a"), ("secret", "s")] {
        eventually(SOON, || async {
            let object = stand.kubectl(&["get", kind, name, "-o", "json", "--show-managed-fields"]).await;
            let object: Value = serde_json::from_str(&object)?;
            let entries = object["metadata"]["managedFields"].as_array().context("no owners")?;
            let ours = entries.iter().find(|entry| entry["operation"] == "Apply").context("our entry")?;
            ensure!(ours["fieldsV1"]["f:data"].get("f:x").is_some(), "data.x of {kind} {name} is not ours again");
            Ok(())
        })
        .await;
    }
    stand.fence().await;
    for object in ["ConfigMap/a", "Secret/s"] {
        assert!(stand.drifts(object).is_empty(), "{:#?}", stand.drifts(object));
    }
}

#[tokio::test]
async fn secret_values_are_never_told() {
    let (old, new) = ("Y2FuYXJ5LW9sZA==", "Y2FuYXJ5LW5ldw=="); // canary-old, canary-new
    let manifest =
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\ndata: {{password: {old}, other: {old}}}\n");
    let Some(stand) = Stand::new("d-secret", "", [("s.yaml", manifest)]).await else { return };
    let patch = format!(r#"-p={{"data":{{"password":"{new}"}}}}"#);
    stand.kubectl(&["patch", "secret", "s", "--type=merge", &patch]).await;
    let line = stand.drift("Secret/s").await;
    line.says(&[
        ("class", "value-changed"),
        ("field", "data.password"),
        ("manager", "kubectl-patch"),
        ("action", "reverted"),
    ]);
    stand.becomes("secret", "s", "/data/password", &json!(old)).await;
    // Changed in our own name too: then the content is compared.
    let labels = json!({plumb::model::applyset::PART_OF: crate::scene::part_of(&stand.scene.name)});
    let own = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "labels": labels}, "data": {"password": new, "other": old}});
    let manager = format!("--field-manager=plumb-{}", stand.scene.name);
    stand.kubectl_with(&["apply", "--server-side", "--force-conflicts", &manager, "-f", "-"], &own.to_string()).await;
    stand.becomes("secret", "s", "/data/password", &json!(old)).await;
    stand.fence().await;
    stand.kubectl(&["delete", "secret", "s"]).await;
    stand.drift_with("Secret/s", &[("class", "deleted"), ("action", "created")]).await;
    let events = stand.kubectl(&["get", "events", "-o", "json"]).await;
    let environment = serde_json::to_string(&stand.scene.environment().await.unwrap()).unwrap();
    for text in [stand.plumb.log().join("\n"), events, environment] {
        for secret in [old, new, "canary"] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    }
}

/// Whoever applies under our name leaves our entry whole: its time, or else the resourceVersion tells, and a dry-run decides.
#[tokio::test]
async fn our_own_name_used_elsewhere() {
    const TRIES: usize = 30;
    let name = |index: usize| format!("m{index}");
    let file = |index: usize| -> &'static str { Box::leak(format!("m{index}.yaml").into_boxed_str()) };
    let files = (0..TRIES).map(|index| (file(index), config_map(&name(index), &[("x", "1"), ("z", "1")])));
    let Some(stand) = Stand::new("d-own", "", files).await else { return };
    let time = async |name: &str| {
        let object = stand.scene.config_maps().get(name).await.unwrap();
        let entries = object.metadata.managed_fields.unwrap_or_default();
        entries.into_iter().find(|entry| entry.operation.as_deref() == Some("Apply")).and_then(|entry| entry.time)
    };
    let differs =
        [("field", "data.x"), ("want", "1"), ("live", "3"), ("class", "value-changed"), ("action", "reverted")];
    // In another second.
    let first = time("m0").await;
    eventually(SOON, || async {
        write_as_plumb(&stand.scene, "m1", "1").await; // Nothing new in it: only its time tells the second.
        write_as_plumb(&stand.scene, "m2", "3").await;
        ensure!(time("m2").await != first, "still the same second");
        Ok(())
    })
    .await;
    stand.drift_with("ConfigMap/m2", &differs).await;
    stand.data_becomes("m2", Some("x=1 z=1")).await;
    assert!(stand.drifts("ConfigMap/m1").is_empty());

    // In the second of plumb's own write.
    let mut same = None;
    for name in (3..TRIES).map(name) {
        let drift = Patch::Merge(json!({"data": {"x": "2"}}));
        stand.scene.config_maps().patch(&name, &PatchParams::default(), &drift).await.unwrap();
        // Seen at once, for the test's own write has to fall into the same second.
        let until = Instant::now() + SOON;
        while stand.scene.data(&name).await.as_deref() != Some("x=1 z=1") {
            assert!(Instant::now() < until, "{name} is not put back");
        }
        let healed = time(&name).await;
        write_as_plumb(&stand.scene, &name, "3").await;
        let now = time(&name).await;
        stand.drift_with(&format!("ConfigMap/{name}"), &differs).await;
        stand.data_becomes(&name, Some("x=1 z=1")).await;
        if now == healed {
            same = Some(name);
            break;
        }
    }
    assert!(same.is_some(), "never within the second");

    // One that leaves a field out.
    let labels = json!({plumb::model::applyset::PART_OF: crate::scene::part_of(&stand.scene.name)});
    let less = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m0", "labels": labels}, "data": {"x": "1"}});
    let manager = format!("--field-manager=plumb-{}", stand.scene.name);
    stand.kubectl_with(&["apply", "--server-side", &manager, "-f", "-"], &less.to_string()).await;
    stand.drift_with("ConfigMap/m0", &[("field", "data.z"), ("live", "(absent)")]).await;
    stand.data_becomes("m0", Some("x=1 z=1")).await;
}
