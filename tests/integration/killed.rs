//! Killed at any point, plumb converges with its next start, and nothing is left that it does not know of.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use git2::Oid;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use rustix::process::Signal;

use crate::harness::{AuditMark, Change, Cluster, ControlPlane, Plumb, Program, TestEnv, eventually};
use crate::scene::{SOON, Scene, config_map, part_of, short};

/// What stands with the environment's label, as `Kind/name` with its data.
async fn standing(scene: &Scene) -> BTreeMap<String, String> {
    let labelled = ListParams::default().labels(&format!("applyset.kubernetes.io/part-of={}", part_of(&scene.name)));
    let maps = scene.config_maps().list(&labelled).await.unwrap().items;
    let secrets: Api<Secret> = Api::namespaced(scene.env.admin(), &scene.namespace);
    let secrets = secrets.list(&labelled).await.unwrap().items;
    let maps = maps.into_iter().map(|object: ConfigMap| {
        (format!("ConfigMap/{}", object.name_any()), object.data.unwrap_or_default()["x"].clone())
    });
    maps.chain(secrets.into_iter().map(|object| (format!("Secret/{}", object.name_any()), String::new()))).collect()
}

/// Every object with the label is of a kind that the parent names.
async fn all_tracked(scene: &Scene) {
    let parent = scene.environment().await.expect("the Environment");
    let named = parent.annotations().get("applyset.kubernetes.io/contains-group-kinds").cloned().unwrap_or_default();
    let named: BTreeSet<&str> = named.split(',').collect();
    for object in standing(scene).await.keys() {
        let kind = object.split('/').next().unwrap_or_default();
        assert!(named.contains(kind), "{object} is not tracked: {named:?}");
    }
}

/// Kills plumb as soon as it has made this many writes since `mark`; less if it ends before.
async fn kill_after(plumb: &mut Plumb, scene: &Scene, mark: AuditMark, writes: usize, commit: Oid) {
    let audit = scene.env.audit().expect("asked before");
    eventually(SOON, || async {
        let done = audit.since(mark).await.writes().len();
        let ended = plumb.log().iter().any(|line| line.contains("deployed") && line.contains(&short(commit)));
        ensure!(done >= writes || ended, "{done} of {writes} writes");
        Ok(())
    })
    .await;
    plumb.kill();
}

#[tokio::test]
async fn killed_after_any_write_it_converges() {
    let scene = Scene::with("killed", "prune: {budget: 100%}").await;
    let Some(audit) = scene.env.audit() else { return };
    let names: Vec<String> = (0..30).map(|number| format!("m-{number:02}")).collect();
    let file = |of: &[String], value: &str| {
        of.iter().map(|name| config_map(name, &[("x", value)])).collect::<Vec<_>>().join("---\n")
    };
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n";
    let start = audit.mark().await;
    let mut deleted = BTreeSet::new();
    // Odd commits have a Secret and the first two thirds, even ones the last two thirds and none: each makes, changes and deletes, and a kind comes or goes.
    for (round, writes) in [1, 2, 5, 12, 21, 31, 40].into_iter().enumerate() {
        let (odd, value) = (round % 2 == 1, round.to_string());
        let of = if odd { &names[..20] } else { &names[10..] };
        let commit = scene.push([
            ("many.yaml", file(of, &value)),
            ("secret.yaml", if odd { secret.to_owned() } else { "# none\n".to_owned() }),
        ]);
        let mark = audit.mark().await;
        let mut plumb = scene.run();
        kill_after(&mut plumb, &scene, mark, writes, commit).await;
        all_tracked(&scene).await;
        // Killed once more, early in the second life.
        let mark = audit.mark().await;
        let mut plumb = scene.run();
        kill_after(&mut plumb, &scene, mark, 1 + writes / 2, commit).await;
        all_tracked(&scene).await;
        let mut plumb = scene.run();
        let mut wanted: BTreeMap<String, String> =
            of.iter().map(|name| (format!("ConfigMap/{name}"), value.clone())).collect();
        if odd {
            wanted.insert("Secret/s".to_owned(), String::new());
        }
        eventually(SOON, || async {
            let now = standing(&scene).await;
            ensure!(now == wanted, "round {round}: {now:?}");
            Ok(())
        })
        .await;
        scene.deployed(commit).await;
        plumb.wait_for_log(|line| line.contains(" deployed "), SOON).await;
        assert!(plumb.terminate(SOON).await.success());
        all_tracked(&scene).await;
        for event in audit.since(start).await.verb("delete").writes().0 {
            deleted.insert((round, event.object_ref.name));
        }
    }
    // What every commit asked for was never deleted.
    assert!(!deleted.is_empty());
    let kept: BTreeSet<&String> = names[10..20].iter().collect();
    assert!(!deleted.iter().any(|(_, name)| kept.contains(name)), "{deleted:?}");
}

#[tokio::test]
async fn a_restart_on_a_bad_head_restores_what_stood_before_it() {
    let scene = Scene::new("restart").await;
    let Some(audit) = scene.env.audit() else { return };
    let good = scene.push([("a.yaml", config_map("a", &[("x", "1")])), ("b.yaml", config_map("b", &[("x", "1")]))]);
    let mut plumb = scene.run();
    scene.deployed(good).await;
    let target = scene.environment().await.unwrap().status.and_then(|status| status.target);
    assert_eq!(target, Some(good.to_string()));

    // Nothing changed: a restart moves no resourceVersion, and sends no delete.
    let before = [scene.identity("a").await, scene.identity("b").await];
    plumb.kill();
    let mark = audit.mark().await;
    let mut plumb = scene.run();
    plumb.wait_for_log(|line| line.contains("deployed") || line.contains("unchanged"), SOON).await;
    assert_eq!([scene.identity("a").await, scene.identity("b").await], before);
    assert!(audit.since(mark).await.verb("delete").is_empty());

    // While plumb is away: the branch goes bad, one object is deleted by hand, the other changed.
    plumb.kill();
    let bad = scene.push([("a.yaml", "kind: ["), ("b.yaml", "# none\n")]);
    scene.config_maps().delete("a", &kube::api::DeleteParams::default()).await.unwrap();
    let edit = serde_json::json!({"data": {"x": "by hand"}});
    let params = kube::api::PatchParams::default();
    scene.config_maps().patch("b", &params, &kube::api::Patch::Merge(edit)).await.unwrap();
    let _plumb = scene.run();
    eventually(SOON, || async {
        let now = (scene.data("a").await, scene.data("b").await);
        ensure!(now == (Some("x=1".into()), Some("x=1".into())), "{now:?}");
        Ok(())
    })
    .await;
    let message = scene.failed(bad).await;
    assert!(message.contains("manifests/a.yaml:1"), "{message}");
    let next = scene.push([("a.yaml", config_map("a", &[("x", "2")]).into()), ("b.yaml", Change::Remove)]);
    assert_eq!(scene.deployed(next).await.pruned, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_the_middle_ends_the_write_that_is_under_way_and_says_nothing_too_early() {
    let cluster = Cluster::Own(ControlPlane::start(false).into());
    let scene = Scene::in_env(TestEnv::on(cluster.clone(), "stopped").await, "").await;
    let Some(audit) = scene.env.audit() else { return };
    let all: Vec<_> = (0..3000).map(|number| config_map(&format!("m-{number}"), &[("x", "1")])).collect();
    let mark = audit.mark().await;
    let commit = scene.push([("many.yaml", all.join("---\n"))]);
    let mut plumb = scene.run();
    eventually(SOON, || async {
        ensure!(scene.data("m-0").await.is_some(), "nothing is written yet");
        Ok(())
    })
    .await;
    // The API server stands still until plumb has taken the signal in: however slow the machine, most is yet to be written.
    let control_plane = cluster.control_plane().unwrap();
    control_plane.pause(Program::ApiServer);
    plumb.signal(Signal::INT);
    plumb.wait_for_log(|line| line.contains("stopping; what is being written ends first"), SOON).await;
    control_plane.resume(Program::ApiServer);
    assert!(plumb.wait(SOON).await.success());
    let log = plumb.log();
    assert!(!log.iter().any(|line| line.contains(" deployed ")), "{log:#?}");
    let environment = scene.environment().await.unwrap();
    let told = environment.status.iter().flat_map(|status| &status.conditions);
    assert!(!told.into_iter().any(|condition| condition.status == "True"), "{environment:?}");
    let written = audit.since(mark).await.of("configmaps").writes();
    assert!(written.len() < all.len(), "it was not stopped in the middle");
    assert!(written.0.iter().all(|event| event.code() == 201), "a write was cut");
    all_tracked(&scene).await;
    let _plumb = scene.run();
    scene.deployed(commit).await;
    assert_eq!(standing(&scene).await.len(), all.len());
}
