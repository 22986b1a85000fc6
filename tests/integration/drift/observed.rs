//! Where plumb is told to leave the cluster as it is: it says what differs, and touches nothing.

use std::time::Duration;

use anyhow::ensure;
use kube::api::{Patch, PatchParams};
use plumb::model::environment::EnvironmentStatus;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::stand::{Stand, kubectl};
use crate::harness::{AuditMark, Change, eventually};
use crate::scene::{SOON, Scene, condition, config_map};

fn files() -> [(&'static str, String); 4] {
    let map = |name: &str| config_map(name, &[("x", "1"), ("z", "1")]);
    [("a.yaml", map("a")), ("b.yaml", map("b")), ("c.yaml", map("c")), ("d.yaml", map("d"))]
}

/// Somebody changes `a`, deletes `b`, takes our label off `c`.
async fn tamper(stand: &Stand) {
    stand.kubectl(&["patch", "cm", "a", "--type=merge", r#"-p={"data":{"x":"2"}}"#]).await;
    stand.kubectl(&["delete", "cm", "b"]).await;
    stand.kubectl(&["label", "cm", "c", "applyset.kubernetes.io/part-of-"]).await;
}

/// The classes of what [`tamper`] does.
const CLASSES: [(&str, &str); 3] =
    [("ConfigMap/a", "value-changed"), ("ConfigMap/b", "deleted"), ("ConfigMap/c", "ownership-lost")];

/// Waits until all is told, and asserts that each was told once, with this action.
async fn told_once(stand: &Stand, action: &str) {
    for (object, class) in CLASSES {
        stand.drift(object).await.says(&[("class", class), ("action", action)]);
    }
    stand.status(|status| status.drift == Some(3)).await;
    for (object, _) in CLASSES {
        assert_eq!(stand.drifts(object).len(), 1, "{:#?}", stand.drifts(object));
    }
}

async fn all_as_git_says(stand: &Stand) {
    for name in ["a", "b", "c", "d"] {
        stand.data_becomes(name, Some("x=1 z=1")).await;
    }
    let status = stand.status(|status| status.drift == Some(0)).await;
    assert_eq!(condition(&status, "Drifted").map(|drifted| &*drifted.status), Some("False"));
}

#[tokio::test]
async fn without_self_heal_drift_is_told_once_and_counted_and_nothing_is_written() {
    let Some(stand) = Stand::new("d-off", "selfHeal: false", files()).await else { return };
    let mark = stand.mark().await;
    tamper(&stand).await;
    told_once(&stand, "none, selfHeal is false").await;
    let status = stand.status(|_| true).await;
    let drifted = condition(&status, "Drifted").unwrap();
    assert_eq!((&*drifted.status, &*drifted.reason), ("True", "SelfHealOff"));
    for word in ["/a (data.x)", "/b (deleted)", "/c (ownership-lost)"] {
        assert!(drifted.message.contains(word), "{drifted:?}");
    }
    let events = stand.events("ConfigMap", "a").await;
    assert!(events[0].contains("want 1, was 2") && events[0].contains("selfHeal is false"), "{events:?}");

    // Touched again it is no news; changed further it is; changed back it is over.
    stand.kubectl(&["annotate", "cm", "a", "note=1"]).await;
    stand.kubectl(&["patch", "cm", "a", "--type=merge", r#"-p={"data":{"z":"2"}}"#]).await;
    stand.drift_with("ConfigMap/a", &[("field", "data.z"), ("live", "2")]).await;
    stand.kubectl(&["patch", "cm", "a", "--type=merge", r#"-p={"data":{"x":"1","z":"1"}}"#]).await;
    stand.status(|status| status.drift == Some(2)).await;
    let object = stand.object("ConfigMap/a");
    assert!(stand.line("no longer drifted").await.field("object") == object);
    // And once more, although it is ours no longer by the API server's record.
    stand.kubectl(&["patch", "cm", "a", "--type=merge", r#"-p={"data":{"x":"5"}}"#]).await;
    stand.drift_with("ConfigMap/a", &[("field", "data.x"), ("live", "5")]).await;
    stand.kubectl(&["patch", "cm", "a", "--type=merge", r#"-p={"data":{"x":"1"}}"#]).await;
    stand.status(|status| status.drift == Some(2)).await;
    let writes = stand.wrote(mark).await;
    assert!(writes.is_empty(), "{writes:#?}");

    // A commit is deployed; what it does not change stays as somebody left it.
    let mark = stand.mark().await;
    let commit = stand.scene.push([("d.yaml", config_map("d", &[("x", "2")]))]);
    stand.scene.deployed(commit).await;
    let written: Vec<String> = stand.wrote(mark).await.0.into_iter().map(|event| event.object_ref.name).collect();
    assert_eq!(written, ["d"]);
    assert_eq!(stand.scene.data("b").await, None);
    stand.status(|status| status.drift == Some(2)).await;

    stand.scene.define("");
    stand.data_becomes("b", Some("x=1 z=1")).await;
    stand.status(|status| status.drift == Some(0)).await;
}

/// What is left alone is left alone after a resync and a restart too, in which all that was remembered of it is forgotten: until git changes it.
#[tokio::test]
async fn without_self_heal_what_was_left_stays_over_resyncs_restarts_and_commits() {
    let Some(stand) = Stand::new("d-off-long", "selfHeal: false\nresync: 3s", files()).await else { return };
    tamper(&stand).await;
    told_once(&stand, "none, selfHeal is false").await;
    let resynced = async |stand: &Stand| {
        let mark = stand.mark().await;
        eventually(SOON, || async {
            // Each resync asks about what stands, and so about `d`.
            let of_d = stand.asked(mark).await.dry_runs().only(|event| event.object_ref.name == "d");
            ensure!(of_d.len() >= 2, "no resync yet");
            Ok(())
        })
        .await;
    };
    let stays = async |stand: &Stand, x: &str| {
        let commit = stand.scene.push([("d.yaml", config_map("d", &[("x", x)]))]);
        stand.scene.deployed(commit).await;
        assert_eq!(stand.scene.data("d").await, Some(format!("x={x}")));
        assert_eq!(stand.scene.data("a").await.as_deref(), Some("x=2 z=1"));
        assert_eq!(stand.scene.data("b").await, None);
        let labels = stand.scene.config_maps().get("c").await.unwrap().metadata.labels.unwrap_or_default();
        assert!(!labels.contains_key(plumb::model::applyset::PART_OF), "{labels:?}");
        stand.status(|status| status.drift == Some(3)).await;
    };
    resynced(&stand).await;
    stays(&stand, "2").await;
    resynced(&stand).await;
    stays(&stand, "3").await;

    // Started again on the same head, and on another one.
    let restarted = async |stand: Stand, x: Option<&str>| {
        let Stand { scene, plumb, .. } = stand;
        drop(plumb);
        let commit = x.map(|x| scene.push([("d.yaml", config_map("d", &[("x", x)]))]));
        let plumb = scene.run();
        if let Some(commit) = commit {
            scene.deployed(commit).await;
        }
        let stand = Stand::running(scene, plumb);
        for (object, class) in CLASSES {
            stand.drift(object).await.says(&[("class", class), ("noticed", "while plumb was away")]);
        }
        stand
    };
    let stand = restarted(stand, None).await;
    stays(&stand, "4").await;
    stays(&stand, "5").await;
    let stand = restarted(stand, Some("6")).await;
    stays(&stand, "7").await;
    resynced(&stand).await;
    stays(&stand, "8").await;

    stand.takes_what_git_changes().await;
}

/// What an earlier life told does not outlive its cause: a start finds how it is, and says so; one that finds it as the status says writes none.
#[tokio::test]
async fn without_self_heal_a_start_tells_what_is_over() {
    let Some(stand) = Stand::new("d-off-over", "selfHeal: false", files()).await else { return };
    let good = stand.scene.env.repository().open().refname_to_id("refs/heads/dev").unwrap();
    let synced = |status: &EnvironmentStatus, is: &str, reason: &str| {
        condition(status, "Synced").is_some_and(|synced| synced.status == is && synced.reason == reason)
    };
    let stopped = |stand: Stand| {
        let Stand { scene, plumb, .. } = stand;
        drop(plumb);
        scene
    };
    let started = |scene: Scene| {
        let plumb = scene.run();
        Stand::running(scene, plumb)
    };

    // Drift, and somebody puts it right while plumb is away.
    stand.kubectl(&["patch", "cm", "a", "--type=merge", r#"-p={"data":{"x":"2"}}"#]).await;
    stand.status(|status| status.drift == Some(1)).await;
    let scene = stopped(stand);
    kubectl(&scene, &["patch", "cm", "a", "--type=merge", r#"-p={"data":{"x":"1"}}"#], "").await;
    let stand = started(scene);
    let status = stand.status(|status| status.drift == Some(0)).await;
    assert_eq!(condition(&status, "Drifted").map(|drifted| &*drifted.status), Some("False"));
    assert!(synced(&status, "True", "Deployed"), "{status:#?}");

    // A head that was refused, and the branch goes back.
    let bad = stand.scene.push([("bad.yaml", "a: [")]);
    stand.scene.failed(bad).await;
    let scene = stopped(stand);
    scene.env.repository().set_branch("dev", good);
    let stand = started(scene);
    stand.status(|status| synced(status, "True", "Unchanged")).await;

    // A branch that was gone, and comes back.
    stand.scene.env.repository().delete_branch("dev");
    stand.status(|status| synced(status, "Unknown", "BranchMissing")).await;
    let scene = stopped(stand);
    scene.env.repository().set_branch("dev", good);
    let stand = started(scene);
    stand.status(|status| synced(status, "True", "Unchanged")).await;

    // A suspension that ends.
    stand.scene.define("selfHeal: false\nsuspend: true");
    stand.status(|status| synced(status, "Unknown", "Suspended")).await;
    let scene = stopped(stand);
    scene.define("selfHeal: false");
    let stand = started(scene);
    let status = stand.status(|status| synced(status, "True", "Unchanged")).await;

    let scene = stopped(stand);
    let stand = started(scene);
    stand.line("unchanged").await;
    stand.fence().await;
    stand.status(|now| now.drift == Some(1)).await;
    let now = stand.status(|_| true).await;
    assert_eq!(now.history, status.history, "nothing ended");
}

#[tokio::test]
async fn suspended_it_tells_and_writes_nothing_until_it_is_resumed() {
    let Some(stand) = Stand::new("d-suspended", "", files()).await else { return };
    stand.scene.define("suspend: true");
    stand.line("suspended: nothing is changed").await;
    let mark = stand.mark().await;
    tamper(&stand).await;
    told_once(&stand, "none, suspended").await;
    let status = stand.status(|_| true).await;
    assert_eq!(condition(&status, "Drifted").map(|drifted| &*drifted.reason), Some("Suspended"));
    let writes = stand.wrote(mark).await;
    assert!(writes.is_empty(), "{writes:#?}");
    stand.scene.define("");
    all_as_git_says(&stand).await;
}

#[tokio::test]
async fn a_start_while_suspended_finds_what_drifted_before() {
    let Some(stand) = Stand::new("d-suspended-start", "", files()).await else { return };
    stand.scene.define("suspend: true");
    stand.line("suspended: nothing is changed").await;
    let Stand { scene, plumb, .. } = stand;
    drop(plumb);
    let mark = scene.env.audit().unwrap().mark().await;
    let plumb = scene.run();
    let stand = Stand::running(scene, plumb);
    stand.line("suspended: nothing is changed").await;
    // Nothing differs, and nothing is told.
    stand.status(|status| status.drift == Some(0)).await;
    tamper(&stand).await;
    told_once(&stand, "none, suspended").await;
    assert!(stand.wrote(mark).await.is_empty());

    let Stand { scene, plumb, .. } = stand;
    drop(plumb);
    let plumb = scene.run();
    let stand = Stand::running(scene, plumb);
    told_once(&stand, "none, suspended").await;
    for (object, _) in CLASSES {
        stand.drift(object).await.says(&[("noticed", "while plumb was away")]);
    }
    let writes = stand.wrote(mark).await;
    assert!(writes.is_empty(), "{writes:#?}");
    stand.scene.define("");
    all_as_git_says(&stand).await;
}

/// A write in our own name leaves no trace in the ownership record but its time: a dry-run tells, and writes nothing.
#[tokio::test]
async fn a_write_in_our_own_name_is_told_without_a_write() {
    let Some(stand) = Stand::new("d-off-own", "selfHeal: false", files()).await else { return };
    let mark = stand.mark().await;
    write_as_plumb(&stand.scene, "a", "2").await;
    stand.drift("ConfigMap/a").await.says(&[("field", "data.x"), ("want", "1"), ("live", "2")]);
    stand.status(|status| status.drift == Some(1)).await;
    let writes = stand.wrote(mark).await;
    assert!(writes.is_empty(), "{writes:#?}");
}

/// Applies a ConfigMap that differs in `x` alone, under the environment's field manager.
pub async fn write_as_plumb(scene: &Scene, name: &str, x: &str) {
    let labels = json!({plumb::model::applyset::PART_OF: crate::scene::part_of(&scene.name)});
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"x": x, "z": "1"}});
    let params = PatchParams::apply(&format!("plumb-{}", scene.name)).force();
    scene.config_maps().patch(name, &params, &Patch::Apply(body)).await.unwrap();
}

/// The values of a Secret are not told, but they tell when it is over.
#[tokio::test]
async fn a_secret_that_is_changed_back_has_drifted_no_longer() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {x: MQ==}\n"; // 1
    let Some(stand) = Stand::new("d-off-secret", "selfHeal: false", [("s.yaml", secret)]).await else { return };
    stand.kubectl(&["patch", "secret", "s", "--type=merge", r#"-p={"data":{"x":"Mg=="}}"#]).await;
    stand.drift("Secret/s").await.says(&[("field", "data.x"), ("action", "none, selfHeal is false")]);
    stand.status(|status| status.drift == Some(1)).await;
    stand.kubectl(&["patch", "secret", "s", "--type=merge", r#"-p={"data":{"x":"MQ=="}}"#]).await;
    stand.status(|status| status.drift == Some(0)).await;
    assert_eq!(stand.line("no longer drifted").await.field("object"), stand.object("Secret/s"));
    assert_eq!(stand.drifts("Secret/s").len(), 1);
}

/// An object that leaves git is no drift any more, whoever changed it.
#[tokio::test]
async fn what_leaves_git_is_forgotten() {
    let Some(stand) = Stand::new("d-off-left", "selfHeal: false", files()).await else { return };
    tamper(&stand).await;
    told_once(&stand, "none, selfHeal is false").await;
    stand.scene.push([("a.yaml", Change::Remove), ("b.yaml", Change::Remove)]);
    stand.status(|status| status.drift == Some(1)).await;
    stand.data_becomes("a", None).await;
}

/// So long somebody plays with an object, about ten times a second,
const PLAY: Duration = Duration::from_secs(10);
/// and so often at least.
const TOGGLES: u32 = 50;

/// Puts a label on an object and takes it off again, as long as [`PLAY`] and [`TOGGLES`] times; then it stays on. How often, and how long it took.
async fn toggle(stand: &Stand, object: &str, label: impl Fn(u32) -> String) -> (u32, Duration) {
    let (maps, began, mut toggles) = (stand.scene.config_maps(), Instant::now(), 0);
    let patch = async |label: String, value: Value| {
        let patch = Patch::Merge(json!({"metadata": {"labels": {label: value}}}));
        maps.patch(object, &PatchParams::default(), &patch).await.expect("the API server answers");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    while began.elapsed() < PLAY || toggles < TOGGLES {
        assert!(began.elapsed() < 2 * SOON, "{toggles} toggles in {:?}", began.elapsed());
        patch(label(toggles), json!("1")).await;
        patch(label(toggles), Value::Null).await;
        toggles += 1;
    }
    patch("last".to_owned(), json!("1")).await;
    (toggles, began.elapsed())
}

/// How often plumb wrote the Environment since.
async fn told(stand: &Stand, mark: AuditMark) -> usize {
    let all = stand.scene.env.audit().expect("an audit log").since(mark).await;
    let of_ours = |name: &str, resource: &str| name == stand.scene.name && resource == "environments";
    all.writes().only(|event| of_ours(&event.object_ref.name, &event.object_ref.resource)).len()
}

/// Somebody adds something and takes it away, without a pause. What is told and asked is bounded, and in the end the status says how it is.
#[tokio::test]
async fn toggling_a_field_costs_a_status_a_second_and_a_few_requests() {
    let Some(stand) = Stand::new("d-off-toggled", "selfHeal: false", files()).await else { return };
    stand.status(|status| status.drift == Some(0)).await;
    let says = |status: &EnvironmentStatus, name: &str| {
        let message = format!("/{name} (added: metadata.labels.last)");
        condition(status, "Drifted").is_some_and(|drifted| drifted.message.contains(&message))
    };

    // The same label: known after the first time, so that each toggle is a drift or its end.
    let mark = stand.mark().await;
    let (toggles, took) = toggle(&stand, "a", |_| "theirs".to_owned()).await;
    stand.status(|status| says(status, "a")).await;
    let (told_of, asked) = (told(&stand, mark).await, stand.asked(mark).await);
    let (drifts, over) = (stand.drifts("ConfigMap/a").len(), stand.lines("no longer drifted").len());
    eprintln!(
        "{toggles} toggles in {took:?}: {told_of} statuses, {} requests, {drifts} drifts told, {over} ends",
        asked.len()
    );
    let seconds = usize::try_from(took.as_secs()).unwrap();
    assert!((3..=seconds + 10).contains(&told_of), "{told_of}");
    assert!(asked.writes().is_empty() && asked.len() <= 60, "{asked:#?}");
    assert!((1..=seconds + 42).contains(&drifts) && (1..=drifts).contains(&over), "{drifts} {over}");

    // Another one each time: of none of them it is known whether it is a default.
    let mark = stand.mark().await;
    let (toggles, took) = toggle(&stand, "b", |number| format!("theirs-{number}")).await;
    stand.status(|status| says(status, "b")).await;
    let (told_of, asked) = (told(&stand, mark).await, stand.asked(mark).await);
    eprintln!("{toggles} additions in {took:?}: {told_of} statuses, {} requests", asked.len());
    assert!(asked.writes().is_empty() && asked.len() <= 60, "{asked:#?}");
    assert!(told_of as u64 <= took.as_secs() + 10, "{told_of}");
}
