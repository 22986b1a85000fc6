//! Somebody undoes every heal, as soon as it is made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use plumb::model::environment::EnvironmentStatus;
use serde_json::json;
use tokio::time::Instant;

use super::stand::{Line, Stand, deployment};
use super::unseen::Policy;
use crate::harness::eventually;
use crate::scene::{SOON, condition, config_map};

/// So long they fight.
const FIGHT: Duration = Duration::from_secs(40);
/// How a fight is told.
pub(super) const TOLD: &str = "fight: every heal is undone; the pauses between heals grow";

pub(super) fn is_contested(status: &EnvironmentStatus) -> bool {
    condition(status, "Contested").is_some_and(|contested| contested.status == "True")
}

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

    let fight = stand.line(TOLD).await;
    fight.says(&[("object", &stand.object("ConfigMap/a")), ("fields", "data.x"), ("opponent", "opponent")]);
    stand.event("ConfigMap", "a", "changed again and again by opponent: data.x; ").await;
    let status = stand.status(is_contested).await;
    let message = &condition(&status, "Contested").unwrap().message;
    assert!(message.ends_with("/a (data.x) is changed again and again by opponent"), "{message}");

    // Meanwhile others are healed at once, and a commit is deployed at once: neither waits for the fight's pauses.
    let (before, began) = (heals(&stand, mark).await, Instant::now());
    stand.kubectl(&["patch", "cm", "b", "--type=merge", r#"-p={"data":{"x":"2"}}"#]).await;
    stand.drift("ConfigMap/b").await.says(&[("live", "2"), ("action", "reverted")]);
    stand.data_becomes("b", Some("x=1 z=1")).await;
    let commit = stand.scene.push([("c.yaml", map("c"))]);
    stand.scene.deployed(commit).await;
    assert!(stand.scene.data("c").await.is_some());
    let after = heals(&stand, mark).await;
    // The commit is one of them, too.
    assert!(after <= before + 2 + began.elapsed().as_secs() as usize, "{before} {after}");

    tokio::time::sleep_until(ends).await;
    let (heals, rewrites) = (heals(&stand, mark).await, writes.load(Ordering::Relaxed));
    let asked = stand.asked(mark).await.only(|event| event.object_ref.name == "a");
    eprintln!("{FIGHT:?}: {heals} heals, {} requests about the object, {rewrites} writes of the opponent", asked.len());
    assert!((3..=10).contains(&heals), "{heals} writes in {FIGHT:?}");
    assert!(asked.len() <= 30, "{asked:#?}");
    assert_eq!(stand.lines(TOLD).len(), 1);

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
    let (began, mut writes) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(10) || writes < 100 {
        assert!(began.elapsed() < 2 * SOON, "{writes} writes in {:?}", began.elapsed());
        writes += 1;
        let beat = Patch::Merge(json!({"metadata": {"annotations": {"beat": writes.to_string()}}}));
        maps.patch("a", &PatchParams::default(), &beat).await.unwrap();
    }
    stand.fence().await;
    let asked = stand.asked(mark).await;
    eprintln!("{writes} writes by another: {} requests of plumb", asked.len());
    assert!(asked.writes().is_empty() && asked.len() <= 30, "{asked:#?}");
    assert!(stand.drifts("ConfigMap/a").is_empty());
}

/// Somebody who deletes an object whenever it is there again is answered after pauses that grow, too.
#[tokio::test]
async fn deleting_again_and_again_is_a_fight() {
    let Some(stand) = Stand::new("d-fight-deleted", "", [("a.yaml", config_map("a", &[("x", "1")]))]).await else {
        return;
    };
    let mark = stand.mark().await;
    let (maps, ends) = (stand.scene.config_maps(), Instant::now() + FIGHT);
    let mut deletions = 0;
    while Instant::now() < ends {
        deletions += u32::from(maps.delete("a", &DeleteParams::default()).await.is_ok());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let heals = heals(&stand, mark).await;
    eprintln!("{FIGHT:?}: {deletions} deletions, {heals} heals");
    assert!((4..=10).contains(&heals), "{heals} writes in {FIGHT:?}");
    let fights = stand.lines(TOLD);
    assert_eq!(fights.len(), 1, "{fights:#?}");
    fights[0].says(&[("object", &stand.object("ConfigMap/a")), ("class", "deleted")]);
    let status = stand.status(is_contested).await;
    let message = &condition(&status, "Contested").unwrap().message;
    assert!(message.contains("is deleted again and again"), "{message}");
    eventually(Duration::from_secs(180), || async {
        ensure!(stand.scene.data("a").await.is_some(), "it is not back yet");
        Ok(())
    })
    .await;
}

/// A thousand objects at once: a line or two, not one for each, and each is written no more often than if it were alone.
#[tokio::test]
async fn a_thousand_fights_are_told_together() {
    const ALL: usize = 1000;
    let all: Vec<String> = (0..ALL).map(|index| config_map(&format!("m{index}"), &[("x", "1")])).collect();
    let Some(stand) = Stand::new("d-fights", "", [("all.yaml", all.join("---\n"))]).await else { return };
    let mark = stand.mark().await;
    let (maps, began) = (stand.scene.config_maps(), Instant::now());
    let enough = Arc::new(AtomicBool::new(false));
    let opponent = tokio::spawn({
        let (maps, enough) = (maps.clone(), Arc::clone(&enough));
        async move {
            let params = PatchParams { field_manager: Some("opponent".to_owned()), ..PatchParams::default() };
            while !enough.load(Ordering::Relaxed) {
                let healed = maps.list(&ListParams::default()).await.expect("the API server answers").items;
                let healed = healed
                    .into_iter()
                    .filter(|map| map.data.as_ref().is_some_and(|data| data.get("x").is_some_and(|x| x == "1")));
                let writes = healed.map(|map| map.name_any()).filter(|name| name.starts_with('m')).map(|name| {
                    let (maps, params) = (maps.clone(), params.clone());
                    async move { _ = maps.patch(&name, &params, &Patch::Merge(json!({"data": {"x": "theirs"}}))).await }
                });
                futures::stream::iter(writes).buffer_unordered(16).collect::<Vec<()>>().await;
            }
        }
    });
    let told = |lines: &[Line]| lines.iter().map(|line| line.field("objects").parse().unwrap_or(1)).sum::<usize>();
    let lines = eventually(Duration::from_secs(600), || async {
        let lines = stand.lines(TOLD);
        ensure!(told(&lines) >= ALL, "{} of {ALL} are told: {lines:#?}", told(&lines));
        Ok(lines)
    })
    .await;
    enough.store(true, Ordering::Relaxed);
    opponent.await.unwrap();
    let (minutes, wrote) = (began.elapsed().as_secs() / 60 + 1, stand.wrote(mark).await);
    let mut each: BTreeMap<String, u64> = BTreeMap::new();
    wrote.0.into_iter().for_each(|event| *each.entry(event.object_ref.name).or_default() += 1);
    let most = each.values().max().copied().unwrap_or_default();
    eprintln!(
        "{ALL} fights told in {} lines within {:?}; at most {most} writes of one object",
        lines.len(),
        began.elapsed()
    );
    assert!(most <= 10 * minutes, "{most} writes of one object in {minutes} minutes");
    // On a busy machine they come in more than one burst.
    let sums = lines.iter().filter(|line| !line.field("objects").is_empty()).count();
    assert!((1..=8 * usize::try_from(minutes).unwrap()).contains(&sums) && lines.len() <= 17 * sums, "{lines:#?}");
    let summary = lines.iter().find(|line| !line.field("objects").is_empty()).expect("a summary");
    summary.says(&[("opponent", "opponent")]);
    let status = stand.status(is_contested).await;
    let message = &condition(&status, "Contested").unwrap().message;
    assert!(message.contains("more") && message.len() < 1000, "{message}");
}

/// Admission that changes a field of ours in every request but plumb's: the ownership record shows neither that nor who, and a dry-run tells.
#[tokio::test]
async fn admission_that_undoes_heals_in_the_requests_of_others_is_a_fight_with_nobody_known() {
    let Some(stand) = Stand::new("d-fight-admitted", "", [("a.yaml", config_map("a", &[("x", "1")]))]).await else {
        return;
    };
    let others = format!("request.userInfo.username != '{}'", stand.scene.env.user());
    let policy = Policy::new(&stand, &others, "admitted").await;
    let mark = stand.mark().await;
    let (maps, ends, mut writes) = (stand.scene.config_maps(), Instant::now() + FIGHT, 0);
    while Instant::now() < ends {
        writes += 1;
        let beat = Patch::Merge(json!({"metadata": {"annotations": {"beat": writes.to_string()}}}));
        maps.patch("a", &PatchParams::default(), &beat).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (heals, asked) = (heals(&stand, mark).await, stand.asked(mark).await);
    eprintln!("{FIGHT:?}: {writes} writes that were admitted so, {heals} heals, {} requests", asked.len());
    assert!((3..=10).contains(&heals), "{heals} writes in {FIGHT:?}");
    assert!(asked.len() <= 60, "{asked:#?}");
    let fights = stand.lines(TOLD);
    assert_eq!(fights.len(), 1, "{fights:#?}");
    let fields = [("fields", "data.x"), ("class", "value-changed"), ("opponent", "unknown")];
    fights[0].says(&[("object", &*stand.object("ConfigMap/a"))]);
    fights[0].says(&fields);
    let status = stand.status(is_contested).await;
    let message = &condition(&status, "Contested").unwrap().message;
    assert!(message.ends_with("/a (data.x) is changed again and again by an unknown writer"), "{message}");
    let told = [("field", "data.x"), ("want", "1"), ("live", "admitted"), ("manager", "unknown")];
    stand.drifts("ConfigMap/a").iter().for_each(|drift| drift.says(&told));
    policy.remove().await;
    eventually(Duration::from_secs(180), || async {
        ensure!(stand.scene.data("a").await.as_deref() == Some("x=1"), "still as it was admitted");
        Ok(())
    })
    .await;
}

/// An autoscaler that git knows nothing of, and a Deployment whose replicas git sets: each is right in its own eyes.
#[tokio::test]
async fn an_autoscaler_that_is_not_in_git_is_named_as_the_opponent() {
    let files = [("web.yaml", deployment("web", 1, ""))];
    let Some(stand) = Stand::new("d-fight-hpa", "", files).await else { return };
    let mark = stand.mark().await;
    // It needs no metrics to see that there are fewer than its minimum.
    stand.kubectl(&["autoscale", "deployment", "web", "--min=3", "--max=5", "--cpu=80%"]).await;
    let fight = eventually(Duration::from_secs(180), || async {
        stand.lines(TOLD).into_iter().next().context("no fight is told yet")
    })
    .await;
    let opponent = fight.field("opponent");
    assert!(opponent.contains("kube-controller-manager"), "{}", fight.text);
    fight.says(&[("object", &stand.object("Deployment/web")), ("fields", "spec.replicas")]);
    let wrote = stand.wrote(mark).await.only(|event| event.object_ref.name == "web");
    assert!((3..=6).contains(&wrote.len()), "{wrote:#?}");
    let drifts = stand.drifts("Deployment/web");
    drifts[0].says(&[("field", "spec.replicas"), ("want", "1"), ("live", "3"), ("action", "reverted")]);
}
