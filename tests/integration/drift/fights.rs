//! Somebody undoes every heal, as soon as it is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::ensure;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, WatchEvent, WatchParams};
use serde_json::json;
use tokio::time::Instant;

use super::stand::{Stand, condition};
use crate::harness::eventually;
use crate::scene::config_map;

/// So long they fight.
const FIGHT: Duration = Duration::from_secs(40);

/// Writes a value of its own into `a` whenever the watch shows another one, until it is told to stop; counts its writes.
struct Opponent {
    maps: Api<ConfigMap>,
    enough: Arc<AtomicBool>,
    writes: Arc<AtomicU32>,
}

impl Opponent {
    async fn write(&self) {
        let params = PatchParams { field_manager: Some("opponent".to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({"data": {"x": "theirs"}}));
        self.maps.patch("a", &params, &patch).await.expect("the API server answers");
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    async fn fight(self) {
        while !self.enough.load(Ordering::Relaxed) {
            self.write().await;
            let now = self.maps.get_metadata("a").await.expect("a").metadata.resource_version.expect("a version");
            let params = WatchParams::default().fields("metadata.name=a").timeout(5);
            let mut changes = self.maps.watch(&params, &now).await.expect("a watch").boxed();
            while let Some(Ok(WatchEvent::Modified(map))) = changes.next().await {
                if self.enough.load(Ordering::Relaxed) {
                    return;
                }
                if map.data.is_some_and(|data| data["x"] != "theirs") {
                    self.write().await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_fight_is_told_and_bounded_and_holds_up_nothing_else() {
    let map = |name: &str| config_map(name, &[("x", "1"), ("z", "1")]);
    let Some(stand) = Stand::new("d-fight", "", [("a.yaml", map("a")), ("b.yaml", map("b"))]).await else { return };
    let mark = stand.mark().await;
    let (enough, writes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let opponent =
        Opponent { maps: stand.scene.config_maps(), enough: Arc::clone(&enough), writes: Arc::clone(&writes) };
    let opponent = tokio::spawn(opponent.fight());
    let ends = Instant::now() + FIGHT;

    let fight = stand.line("fight: every heal is undone; the pauses between heals grow").await;
    fight.says(&[("object", &stand.object("ConfigMap/a")), ("opponent", "opponent")]);
    let contested = |status: &_| condition(status, "Contested").is_some_and(|contested| contested.status == "True");
    let status = stand.status(contested).await;
    let message = &condition(&status, "Contested").unwrap().message;
    assert!(message.contains("ConfigMap/") && message.contains("changed again and again by opponent"), "{message}");

    // Meanwhile others are healed at once, and a commit is deployed at once: both before the fight's next heal but one.
    let before = heals(&stand, mark).await;
    stand.kubectl(&["patch", "cm", "b", "--type=merge", r#"-p={"data":{"x":"2"}}"#]).await;
    stand.drift("ConfigMap/b").await.says(&[("live", "2"), ("action", "reverted")]);
    stand.data_becomes("b", Some("x=1 z=1")).await;
    let commit = stand.scene.push([("c.yaml", map("c"))]);
    stand.scene.deployed(commit).await;
    assert!(stand.scene.data("c").await.is_some());
    let after = heals(&stand, mark).await;
    assert!(after <= before + 2, "{before} {after}");

    tokio::time::sleep_until(ends).await;
    let (heals, rewrites) = (heals(&stand, mark).await, writes.load(Ordering::Relaxed));
    let asked = stand.asked(mark).await.only(|event| event.object_ref.name == "a");
    eprintln!("{FIGHT:?}: {heals} heals, {} requests about the object, {rewrites} writes of the opponent", asked.len());
    assert!((3..=10).contains(&heals), "{heals} writes in {FIGHT:?}");
    assert!(asked.len() <= 30, "{asked:#?}");
    assert_eq!(stand.lines("fight: every heal is undone; the pauses between heals grow").len(), 1);

    // Left alone, the object is git's again after the pause that is under way.
    enough.store(true, Ordering::Relaxed);
    eventually(Duration::from_secs(180), || async {
        ensure!(stand.scene.data("a").await.as_deref() == Some("x=1 z=1"), "still theirs");
        Ok(())
    })
    .await;
    opponent.await.unwrap();
    stand.status(|status| status.drift == Some(0)).await;
}

/// What plumb wrote to the object that is fought over.
async fn heals(stand: &Stand, mark: crate::harness::AuditMark) -> usize {
    stand.wrote(mark).await.only(|event| event.object_ref.name == "a").len()
}

/// Somebody who writes all the time, and nothing of git's, costs a few requests and no write at all.
#[tokio::test]
async fn a_busy_writer_of_other_fields_costs_next_to_nothing() {
    let Some(stand) = Stand::new("d-busy", "", [("a.yaml", config_map("a", &[("x", "1")]))]).await else { return };
    stand.fence().await;
    let mark = stand.mark().await;
    let maps = stand.scene.config_maps();
    let (ends, mut writes) = (Instant::now() + Duration::from_secs(10), 0);
    while Instant::now() < ends {
        writes += 1;
        let beat = Patch::Merge(json!({"metadata": {"annotations": {"beat": writes.to_string()}}}));
        maps.patch("a", &PatchParams::default(), &beat).await.unwrap();
    }
    stand.fence().await;
    let asked = stand.asked(mark).await;
    eprintln!("{writes} writes by another: {} requests of plumb", asked.len());
    assert!(writes > 100, "not what is to be tested: {writes}");
    assert!(asked.writes().is_empty() && asked.len() <= 30, "{asked:#?}");
    assert!(stand.drifts("ConfigMap/a").is_empty());
}
