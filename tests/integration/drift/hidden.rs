//! Fights over what the ownership record does not show: a dry-run alone tells that there is one, and what of the object it is about.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, Patch, PatchParams};
use plumb::model::applyset::PART_OF;
use plumb::model::environment::EnvironmentStatus;
use plumb::model::secret::MASK;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::fights::{TOLD, is_contested};
use super::stand::{Line, Stand};
use crate::harness::eventually;
use crate::scene::{Scene, condition, config_map, part_of};

/// How long a fight may take to be told: plumb asks about an object after pauses that grow.
const WITHIN: Duration = Duration::from_secs(240);

const SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {user: plumb, password: canary-of-git}\n";

/// The environment's field manager.
fn manager(scene: &Scene) -> String {
    format!("plumb-{}", scene.name)
}

/// An object as somebody applies it who takes plumb's name.
fn body(scene: &Scene, kind: &str, name: &str, content: Value) -> Value {
    let metadata = json!({"name": name, "labels": {PART_OF: part_of(&scene.name)}});
    let mut body = json!({"apiVersion": "v1", "kind": kind, "metadata": metadata});
    body.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
    body
}

async fn told(stand: &Stand, object: &str) -> Line {
    eventually(WITHIN, || async {
        let object = stand.object(object);
        let line = stand.lines(TOLD).into_iter().find(|line| line.field("object") == object);
        line.ok_or_else(|| anyhow::anyhow!("no fight of {object} is told: {:#?}", stand.drifts("ConfigMap/a")))
    })
    .await
}

fn contested(status: &EnvironmentStatus) -> String {
    condition(status, "Contested").map(|contested| contested.message.clone()).unwrap_or_default()
}

/// Times in the ownership record have a resolution of a second: who writes in the second of our own write is not told from it.
const LATER: Duration = Duration::from_secs(3);

/// Applies these again and again, until it is told to stop.
fn apply_all_the_time(scene: &Scene, enough: &Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
    let params = PatchParams::apply(&manager(scene)).force();
    let (maps, secrets) = (scene.config_maps(), Api::<Secret>::namespaced(scene.env.admin(), &scene.namespace));
    let map = body(scene, "ConfigMap", "a", json!({"data": {"x": "theirs", "z": "1"}}));
    let secret =
        body(scene, "Secret", "s", json!({"data": {"user": "cGx1bWI=", "password": "Y2FuYXJ5LW9mLXRoZWlycw=="}}));
    let enough = Arc::clone(enough);
    tokio::spawn(async move {
        while !enough.load(Ordering::Relaxed) {
            tokio::time::sleep(LATER).await;
            maps.patch("a", &params, &Patch::Apply(&map)).await.expect("the API server answers");
            secrets.patch("s", &params, &Patch::Apply(&secret)).await.expect("the API server answers");
        }
    })
}

/// Who takes plumb's own name keeps our fields ours: the values alone differ. A Secret's are told of, and not told.
#[tokio::test]
async fn a_fight_with_who_writes_in_our_name_names_fields_and_opponent() {
    let files = [("a.yaml", config_map("a", &[("x", "1"), ("z", "1")])), ("s.yaml", SECRET.to_owned())];
    let Some(stand) = Stand::new("d-fight-own", "", files).await else { return };
    let enough = Arc::new(AtomicBool::new(false));
    let opponent = apply_all_the_time(&stand.scene, &enough);
    let by = format!("{} (not this plumb)", manager(&stand.scene));
    let fight = told(&stand, "ConfigMap/a").await;
    fight.says(&[("fields", "data.x"), ("class", "value-changed"), ("opponent", &by)]);
    let fight = told(&stand, "Secret/s").await;
    fight.says(&[("fields", "data.password"), ("opponent", &by)]);
    stand.event("ConfigMap", "a", &format!("changed again and again by {by}: data.x; ")).await;
    stand.event("Secret", "s", &format!("changed again and again by {by}: data.password; ")).await;
    let status = stand
        .status(|status| ["/a (data.x)", "/s (data.password)"].iter().all(|of| contested(status).contains(of)))
        .await;
    let message = contested(&status);
    assert!(message.contains(&format!("/a (data.x) is changed again and again by {by}")), "{message}");
    enough.store(true, Ordering::Relaxed);
    opponent.await.unwrap();
    let told = [("field", "data.x"), ("want", "1"), ("live", "theirs"), ("manager", &by)];
    stand.drift_with("ConfigMap/a", &told).await;
    stand.drift("Secret/s").await.says(&[("field", "data.password"), ("want", MASK), ("live", MASK)]);
    for base64 in ["canary-of", "Y2FuYXJ5LW9m"] {
        assert!(!stand.plumb.log().iter().any(|line| line.contains(base64)));
        assert!(!format!("{:?}{:?}", status, stand.events("Secret", "s").await).contains(base64));
    }
}

/// A field more in plumb's name, and in another's too: none of ours is lost by it, and nothing but the other's share keeps it from going with the next apply.
#[tokio::test]
async fn a_fight_over_a_field_added_in_our_name_and_co_owned_is_told() {
    let files = [("a.yaml", config_map("a", &[("x", "1"), ("z", "1")]))];
    let Some(stand) = Stand::new("d-fight-shared", "", files).await else { return };
    let (maps, scene) = (stand.scene.config_maps(), &stand.scene);
    let more = body(scene, "ConfigMap", "a", json!({"data": {"x": "1", "z": "1", "y": "9"}}));
    let share = Patch::Merge(json!({"data": {"y": "9"}}));
    let (ours, other) = (
        PatchParams::apply(&manager(scene)).force(),
        PatchParams { field_manager: Some("sharer".to_owned()), ..PatchParams::default() },
    );
    eventually(WITHIN, || async {
        maps.patch("a", &other, &share).await?;
        maps.patch("a", &ours, &Patch::Apply(&more)).await?;
        ensure!(!stand.lines(TOLD).is_empty(), "no fight is told: {:#?}", stand.drifts("ConfigMap/a"));
        Ok(())
    })
    .await;
    let fight = told(&stand, "ConfigMap/a").await;
    fight.says(&[("fields", "data.y"), ("class", "value-changed")]);
    stand.drift("ConfigMap/a").await.says(&[("field", "data.y"), ("want", "(absent)"), ("live", "9")]);
    stand.status(|status| contested(status).contains("/a (data.y) is changed again and again by ")).await;
}

/// Changes whose trace is wiped off: only resyncs find them. Each heal is undone before the next one, which is a fight like any other.
#[tokio::test]
async fn a_fight_that_only_resyncs_find_is_told_with_its_fields() {
    let files = [("a.yaml", config_map("a", &[("x", "1"), ("z", "1")]))];
    let Some(stand) = Stand::new("d-fight-resync", "resync: 3s", files).await else { return };
    let maps = stand.scene.config_maps();
    for round in 0..12 {
        assert!(round < 11, "no fight after {round} rounds: {:#?}", stand.drifts("ConfigMap/a"));
        // The watch brings both writes at once.
        stand.plumb.signal(Signal::STOP);
        let before: ConfigMap = maps.get("a").await.unwrap();
        maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"x": "2"}}))).await.unwrap();
        let owners = json!({"metadata": {"managedFields": before.metadata.managed_fields}});
        maps.patch("a", &PatchParams::default(), &Patch::Merge(owners)).await.unwrap();
        stand.plumb.signal(Signal::CONT);
        stand.data_becomes("a", Some("x=1 z=1")).await;
        // The fourth heal of the same field is one too many.
        if round >= 3 && !stand.lines(TOLD).is_empty() {
            break;
        }
    }
    let fight = told(&stand, "ConfigMap/a").await;
    fight.says(&[("fields", "data.x"), ("class", "value-changed"), ("opponent", "unknown")]);
    stand.event("ConfigMap", "a", "changed again and again by an unknown writer: data.x; ").await;
    let status = stand.status(is_contested).await;
    let message = contested(&status);
    assert!(message.ends_with("/a (data.x) is changed again and again by an unknown writer"), "{message}");
}
