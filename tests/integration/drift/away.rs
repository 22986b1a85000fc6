//! Drift that the watch did not see, and restarts that find none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::ensure;
use git2::Oid;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams};
use plumb::model::applyset::PART_OF;
use rustix::process::Signal;
use serde_json::json;
use tokio::net::TcpListener;

use super::observed::write_as_plumb;
use super::stand::{Line, Stand, deployment, kubectl};
use crate::harness::{Audit, eventually};
use crate::scene::{SOON, Scene, config_map, short};

fn map(name: &str) -> String {
    config_map(name, &[("x", "1"), ("z", "1")])
}

/// Starts plumb again, and waits until it has deployed or restored this commit; what it asked meanwhile.
async fn restart(scene: Scene, commit: Oid) -> (Stand, Audit) {
    let mark = scene.env.audit().unwrap().mark().await;
    let mut plumb = scene.run();
    let deployed = |line: &str| line.contains("deployed") && line.contains(&short(commit));
    plumb.wait_for_log(deployed, SOON).await;
    let stand = Stand::running(scene, plumb);
    eventually(SOON, || async {
        let events: Vec<_> = stand.scene.env.audit().unwrap().since(mark).await.of("events").0;
        ensure!(!events.is_empty(), "no Event of the deployment yet");
        Ok(())
    })
    .await;
    let asked = stand.asked(mark).await;
    (stand, asked)
}

/// Ends plumb as a crash does.
fn crash(stand: Stand) -> Scene {
    let Stand { scene, mut plumb, .. } = stand;
    plumb.kill();
    scene
}

#[tokio::test]
async fn a_restart_that_finds_nothing_changed_writes_nothing_even_at_once() {
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n";
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: canary}\n";
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n";
    let files = [
        ("a.yaml", map("a")),
        ("claim.yaml", claim.to_owned()),
        ("secret.yaml", secret.to_owned()),
        ("service.yaml", service.to_owned()),
        ("web.yaml", deployment("web", 2, "")),
    ];
    let Some((scene, commit)) = Stand::pushed("d-restart", "", files).await else { return };
    // What stands as git has it, applied by nobody: our entry has no time then.
    scene.make_namespace().await;
    let labels = json!({PART_OF: crate::scene::part_of(&scene.name)});
    let adopted: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "a", "labels": labels}, "data": {"x": "1", "z": "1"}}))
            .unwrap();
    scene.config_maps().create(&PostParams::default(), &adopted).await.unwrap();
    let plumb = scene.run();
    let mut stand = Stand::on(scene, plumb).await.unwrap();
    // Within the second of the deployment, and again and again: times have a resolution of a second.
    for _ in 0..4 {
        let (again, asked) = restart(crash(stand), commit).await;
        assert!(asked.writes().is_empty(), "{:#?}", asked.writes());
        assert!(asked.dry_runs().len() >= 5, "{asked:#?}");
        assert!(again.lines("drift").is_empty(), "{:#?}", again.lines("drift"));
        again.lines("deployed")[0].says(&[("applied", "0"), ("unchanged", "6")]);
        stand = again;
    }
}

#[tokio::test]
async fn what_drifted_while_plumb_was_away_is_told_and_put_back() {
    let names = ["edited", "deleted", "unmarked", "renewed", "own"];
    let files = names.map(|name| (&*Box::leak(format!("{name}.yaml").into_boxed_str()), map(name)));
    let Some(stand) = Stand::new("d-away", "", files).await else { return };
    let commit = stand.scene.env.repository().open().refname_to_id("refs/heads/dev").unwrap();
    let scene = crash(stand);
    kubectl(&scene, &["patch", "cm", "edited", "--type=merge", r#"-p={"data":{"x":"2"}}"#], "").await;
    kubectl(&scene, &["delete", "cm", "deleted", "renewed"], "").await;
    kubectl(&scene, &["create", "cm", "renewed", "--from-literal=x=2"], "").await;
    kubectl(&scene, &["label", "cm", "unmarked", &format!("{PART_OF}-")], "").await;
    write_as_plumb(&scene, "own", "2").await;
    let (stand, _) = restart(scene, commit).await;
    let told = async |name: &str, fields: &[(&str, &str)]| {
        let line = stand.drift(&format!("ConfigMap/{name}")).await;
        line.says(&[("noticed", "while plumb was away")]);
        line.says(fields);
    };
    let value = ("class", "value-changed");
    let edited = [
        value,
        ("field", "data.x"),
        ("want", "1"),
        ("live", "2"),
        ("manager", "kubectl-patch"),
        ("action", "reverted"),
    ];
    told("edited", &edited).await;
    told("deleted", &[("class", "deleted"), ("action", "created")]).await;
    told("renewed", &[("class", "deleted"), ("action", "created")]).await;
    told("unmarked", &[("class", "ownership-lost"), ("action", "reverted")]).await;
    told("own", &[value, ("field", "data.x"), ("live", "2"), ("action", "reverted")]).await;
    for name in names {
        stand.data_becomes(name, Some("x=1 z=1")).await;
        assert_eq!(stand.drifts(&format!("ConfigMap/{name}")).len(), 1);
    }
    stand.status(|status| status.drift == Some(0)).await;
    // It has been told: another restart tells nothing.
    let (stand, asked) = restart(crash(stand), commit).await;
    assert!(asked.writes().is_empty() && stand.lines("drift").is_empty(), "{asked:#?} {:#?}", stand.lines("drift"));
}

#[tokio::test]
async fn a_commit_that_was_pushed_meanwhile_does_not_hide_what_drifted() {
    let files = ["a", "b", "c"].map(|name| (&*Box::leak(format!("{name}.yaml").into_boxed_str()), map(name)));
    let Some(stand) = Stand::new("d-away-commit", "", files).await else { return };
    let scene = crash(stand);
    let edit = Patch::Merge(json!({"data": {"x": "2"}}));
    scene.config_maps().patch("a", &PatchParams::default(), &edit).await.unwrap();
    scene.config_maps().delete("b", &Default::default()).await.unwrap();
    let commit = scene.push([("c.yaml", config_map("c", &[("x", "3")]))]);
    let (stand, _) = restart(scene, commit).await;
    stand.drift("ConfigMap/a").await.says(&[
        ("field", "data.x"),
        ("live", "2"),
        ("action", "reverted"),
        ("noticed", "while plumb was away"),
    ]);
    stand.drift("ConfigMap/b").await.says(&[("class", "deleted"), ("action", "created")]);
    stand.data_becomes("a", Some("x=1 z=1")).await;
    stand.data_becomes("b", Some("x=1 z=1")).await;
    stand.data_becomes("c", Some("x=3")).await;
    stand.fence().await;
    assert!(
        stand.drifts("ConfigMap/c").is_empty(),
        "what the commit changed is no drift: {:#?}",
        stand.drifts("ConfigMap/c")
    );
}

#[tokio::test]
async fn a_start_on_a_bad_head_tells_what_drifted_of_the_commit_before() {
    let Some(stand) = Stand::new("d-away-bad", "", [("a.yaml", map("a"))]).await else { return };
    let bad = stand.scene.push([("bad.yaml", "a: [")]);
    stand.scene.failed(bad).await;
    let scene = crash(stand);
    let edit = Patch::Merge(json!({"data": {"x": "2"}}));
    scene.config_maps().patch("a", &PatchParams::default(), &edit).await.unwrap();
    let plumb = scene.run();
    let stand = Stand::running(scene, plumb);
    stand.drift("ConfigMap/a").await.says(&[("field", "data.x"), ("live", "2"), ("noticed", "while plumb was away")]);
    stand.data_becomes("a", Some("x=1 z=1")).await;
}

/// A change whose trace was wiped off the ownership record: only the resync can see it.
#[tokio::test]
async fn what_the_ownership_record_does_not_show_is_found_by_the_resync() {
    let Some(stand) = Stand::new("d-resync", "resync: 3s", [("a.yaml", map("a"))]).await else { return };
    let maps = stand.scene.config_maps();
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line: &Line| line.field("noticed").is_empty()) {
        assert!(lines.len() < 6, "the watch saw it each time: {lines:#?}");
        // The watch brings both writes at once; it may be looked at between the two nevertheless.
        stand.plumb.signal(Signal::STOP);
        let before = maps.get("a").await.unwrap();
        maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"x": "2"}}))).await.unwrap();
        let owners = json!({"metadata": {"managedFields": before.metadata.managed_fields}});
        maps.patch("a", &PatchParams::default(), &Patch::Merge(owners)).await.unwrap();
        let after = maps.get("a").await.unwrap();
        assert_eq!(after.metadata.managed_fields, before.metadata.managed_fields, "not what is to be tested");
        stand.plumb.signal(Signal::CONT);
        let known = lines.len();
        lines = eventually(SOON, || async {
            let lines = stand.drifts("ConfigMap/a");
            ensure!(lines.len() > known, "nothing told yet");
            Ok(lines)
        })
        .await;
        stand.data_becomes("a", Some("x=1 z=1")).await;
    }
    let told = [("field", "data.x"), ("want", "1"), ("live", "2"), ("manager", "unknown"), ("action", "reverted")];
    let line = lines.last().unwrap();
    line.says(&told);
    line.says(&[("noticed", "by the resync")]);
    // The next ones find nothing, and write nothing.
    let mark = stand.mark().await;
    eventually(SOON, || async {
        ensure!(stand.asked(mark).await.dry_runs().len() >= 3, "no further resync yet");
        Ok(())
    })
    .await;
    assert!(stand.wrote(mark).await.is_empty());
    assert_eq!(stand.drifts("ConfigMap/a").len(), lines.len());
}

#[tokio::test]
async fn drift_just_before_a_commit_is_told_although_the_commit_overwrites_it() {
    let Some(stand) = Stand::new("d-before", "", [("a.yaml", map("a")), ("b.yaml", map("b"))]).await else { return };
    stand.plumb.signal(Signal::STOP);
    stand.kubectl(&["patch", "cm", "a", "--type=merge", r#"-p={"data":{"x":"2"}}"#]).await;
    stand.kubectl(&["patch", "cm", "b", "--type=merge", r#"-p={"data":{"x":"2"}}"#]).await;
    let commit = stand.scene.push([("a.yaml", config_map("a", &[("x", "3")]))]);
    stand.plumb.signal(Signal::CONT);
    stand.scene.deployed(commit).await;
    stand.data_becomes("a", Some("x=3")).await;
    stand.data_becomes("b", Some("x=1 z=1")).await;
    for object in ["ConfigMap/a", "ConfigMap/b"] {
        // Whichever came first.
        let line: Line = stand.drift(object).await;
        assert!(["reverted", "left to the new commit"].contains(&line.field("action")), "{}", line.text);
        line.says(&[("field", "data.x"), ("want", "1"), ("live", "2")]);
    }
    stand.fence().await;
    for object in ["ConfigMap/a", "ConfigMap/b"] {
        assert_eq!(stand.drifts(object).len(), 1, "{:#?}", stand.drifts(object));
    }
    stand.status(|status| status.drift == Some(0)).await;
}

/// A webhook of ConfigMaps that is asked and never answers: whoever applies one waits until the API server goes on without it.
struct Hung {
    name: String,
    asked: Arc<AtomicUsize>,
}

impl Hung {
    async fn up(stand: &Stand, object: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, name) = (listener.local_addr().unwrap().port(), format!("{}-hung", stand.scene.namespace));
        let webhook = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {"name": name},
            "webhooks": [{
                "name": "hung.example.org", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Ignore",
                "timeoutSeconds": 10, "clientConfig": {"url": format!("https://127.0.0.1:{port}/")},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": stand.scene.namespace}},
                "matchConditions": [{"name": "which", "expression": format!("object.metadata.name == '{object}'")}],
            }],
        });
        let hung = Self { name, asked: Arc::default() };
        let asked = Arc::clone(&hung.asked);
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                held.push(connection);
                asked.fetch_add(1, Ordering::SeqCst);
            }
        });
        stand.kubectl_with(&["apply", "-f", "-"], &webhook.to_string()).await;
        // The API server takes a moment to know it.
        eventually(SOON, || async {
            stand.kubectl(&["annotate", "cm", object, "probe=1", "--dry-run=server"]).await;
            ensure!(hung.asked() > 0, "not asked yet");
            Ok(())
        })
        .await;
        hung
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// While a commit is in its gates, the watch says of an object that lost our label what it says of one that is gone.
#[tokio::test]
async fn what_lost_our_label_before_a_commit_overwrites_it_is_not_told_as_deleted() {
    let Some(stand) = Stand::new("d-before-lost", "", [("a.yaml", map("a")), ("b.yaml", map("b"))]).await else {
        return;
    };
    let hung = Hung::up(&stand, "b").await;
    let before = hung.asked();
    let commit =
        stand.scene.push(["a", "b"].map(|name| (&*format!("{name}.yaml").leak(), config_map(name, &[("x", "3")]))));
    eventually(SOON, || async {
        ensure!(hung.asked() > before, "the commit is not in its gates yet");
        Ok(())
    })
    .await;
    stand.kubectl(&["label", "cm", "a", &format!("{PART_OF}-")]).await;
    let line = stand.drift("ConfigMap/a").await;
    line.says(&[("class", "ownership-lost"), ("action", "left to the new commit"), ("field", "metadata.labels")]);
    stand.kubectl(&["delete", "validatingwebhookconfiguration", &hung.name]).await;
    stand.scene.deployed(commit).await;
    stand.data_becomes("a", Some("x=3")).await;
    stand.fence().await;
    assert_eq!(stand.drifts("ConfigMap/a").len(), 1, "{:#?}", stand.drifts("ConfigMap/a"));
    stand.status(|status| status.drift == Some(0)).await;
}
