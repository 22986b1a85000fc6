//! Definitions of custom resources that change under their objects.

use anyhow::ensure;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use plumb::drift::ownership;
use plumb::model::applyset;
use serde_json::json;

use crate::harness::eventually;
use crate::scene::{SOON, Scene, config_map};

/// The definition of Widgets of a group, with a list of its spec and versions, the last of which is stored.
fn definition(group: &str, list: &str, versions: &[&str]) -> String {
    let schema = format!(
        "{{openAPIV3Schema: {{type: object, properties: {{spec: {{type: object, properties: {{size: {{type: integer}}, list: {{type: array{list}, items: {{type: object, required: [name], properties: {{name: {{type: string}}}}}}}}}}}}}}}}}}"
    );
    let versions: Vec<_> = versions
        .iter()
        .enumerate()
        .map(|(index, version)| {
            format!(
                "  - {{name: {version}, served: true, storage: {}, schema: {schema}}}\n",
                index + 1 == versions.len()
            )
        })
        .collect();
    format!(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: widgets.{group}}}\nspec:\n  group: {group}\n  scope: Namespaced\n  names: {{plural: widgets, singular: widget, kind: Widget}}\n  versions:\n{}",
        versions.concat()
    )
}

fn widget(group: &str, version: &str, name: &str, size: u32) -> String {
    format!(
        "apiVersion: {group}/{version}\nkind: Widget\nmetadata: {{name: {name}}}\nspec: {{size: {size}, list: [{{name: a}}]}}\n"
    )
}

async fn widgets_scene(name: &str) -> (Scene, String) {
    let scene = Scene::new(name).await;
    scene.define("resync: 5s\nallow: {clusterScoped: [apiextensions.k8s.io/CustomResourceDefinition]}");
    let group = format!("{}.example.org", scene.env.name("g"));
    (scene, group)
}

#[tokio::test]
async fn objects_go_on_when_a_version_leaves_their_definition() {
    let (scene, group) = widgets_scene("version-gone").await;
    let first = scene.push([
        ("crd.yaml", definition(&group, "", &["v1alpha1", "v1"])),
        ("w.yaml", widget(&group, "v1alpha1", "w", 1)),
        ("u.yaml", widget(&group, "v1alpha1", "u", 1)),
    ]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    let api = scene.objects(&group, "v1", "Widget");
    let old = scene.objects(&group, "v1alpha1", "Widget");
    let params = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    old.patch("w", &params, &Patch::Merge(json!({"metadata": {"labels": {"theirs": "1"}}}))).await.unwrap();

    let second = scene.push([
        ("crd.yaml", definition(&group, "", &["v1"])),
        ("w.yaml", widget(&group, "v1", "w", 2)),
        ("u.yaml", widget(&group, "v1", "u", 1)),
    ]);
    scene.deployed(second).await;
    for (name, size) in [("w", 2), ("u", 1)] {
        // An API server that had not taken the definition up yet keeps an entry of the old version, until the next resync.
        let now = eventually(SOON, || async {
            let now = api.get(name).await?;
            let versions: Vec<_> = now.managed_fields().iter().filter_map(|entry| entry.api_version.clone()).collect();
            ensure!(versions.iter().all(|version| *version == format!("{group}/v1")), "{name}: {versions:?}");
            Ok(now)
        })
        .await;
        assert_eq!(now.data["spec"]["size"], size, "{name}");
        let managers: Vec<_> = now.managed_fields().iter().filter_map(|entry| entry.manager.as_deref()).collect();
        assert!(managers.contains(&&*applyset::manager(&scene.name)), "{name}: {managers:?}");
        assert!(!managers.contains(&"before-first-apply"), "{name}: all ownership was lost");
    }
    assert_eq!(api.get("w").await.unwrap().labels()["theirs"], "1");
    // And a version that left while nobody wrote: found by a resync.
    let third = scene.push([("w.yaml", widget(&group, "v1", "w", 3))]);
    scene.deployed(third).await;
    assert_eq!(api.get("w").await.unwrap().data["spec"]["size"], 3);
}

#[tokio::test]
async fn objects_are_applied_anew_when_a_list_becomes_one_of_single_elements() {
    let (scene, group) = widgets_scene("granular").await;
    let first = scene.push([("crd.yaml", definition(&group, "", &["v1"])), ("w.yaml", widget(&group, "v1", "w", 1))]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    let api = scene.objects(&group, "v1", "Widget");
    let list = async || {
        let widget = api.get("w").await.unwrap();
        let ours = applyset::manager(&scene.name);
        let entry = widget.managed_fields().iter().find(|entry| entry.manager.as_deref() == Some(&ours)).cloned();
        entry.unwrap().fields_v1.unwrap().0["f:spec"]["f:list"].clone()
    };
    assert_eq!(list().await, json!({}), "one value");
    let keyed = ", x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [name]";
    let second = scene.push([("crd.yaml", definition(&group, keyed, &["v1"]))]);
    let entry = scene.deployed(second).await;
    assert_eq!(entry.applied, 2, "the object is applied too, though it is the same in git");
    // An API server that had not taken the definition up yet is asked again by the next resync.
    eventually(SOON, || async {
        let list = list().await;
        ensure!(list.get("k:{\"name\":\"a\"}").is_some(), "{list}");
        Ok(())
    })
    .await;
    // So an element of theirs is told from one of ours.
    let theirs = json!([{"op": "add", "path": "/spec/list/-", "value": {"name": "b"}}]);
    let theirs: json_patch::Patch = serde_json::from_value(theirs).unwrap();
    api.patch("w", &PatchParams::default(), &Patch::Json::<()>(theirs)).await.unwrap();
    let foreign = ownership::foreign(api.get("w").await.unwrap().managed_fields());
    assert_eq!(foreign.unwrap().paths(), ["spec.list[name=b]", "spec.list[name=b].name"]);
}

/// What plumb says when it watches a kind in another version.
const MOVED: &str = "the version that was watched is served no more; another one is watched";

/// plumb watches the version that git had at first; when it goes, long after git has left it, its objects stand as they stood.
#[tokio::test]
async fn a_version_that_goes_after_git_has_left_it_is_no_drift() {
    let scene = Scene::new("version-left").await;
    let Some(audit) = scene.env.audit() else { return };
    let group = format!("{}.example.org", scene.env.name("g"));
    let both = definition(&group, "", &["v1beta1", "v1"]);
    scene.kubectl_ok(&["apply", "--server-side", "-f", "-"], &both).await;
    let widgets = scene.objects(&group, "v1", "Widget");
    eventually(SOON, || async { Ok(widgets.list(&Default::default()).await?) }).await;
    let all = ["a.yaml", "b.yaml", "c.yaml", "d.yaml"];
    let of = |version: &str, size: u32| all.map(|file| (file, widget(&group, version, &file[..1], size)));
    let first = scene.push(of("v1beta1", 1));
    let mut plumb = scene.run();
    scene.deployed(first).await;
    let second = scene.push(of("v1", 2));
    scene.deployed(second).await;

    let mark = audit.mark().await;
    let one = both.replace("name: v1beta1, served: true", "name: v1beta1, served: false");
    scene.kubectl_ok(&["apply", "--server-side", "-f", "-"], &one).await;
    plumb.wait_for_log(|line| line.contains(MOVED) && line.contains(&group), SOON).await;
    // And it goes on watching: what drifts is seen, and it alone was told and written.
    widgets.patch("b", &PatchParams::default(), &Patch::Merge(json!({"spec": {"size": 7}}))).await.unwrap();
    eventually(SOON, || async {
        let size = widgets.get("b").await?.data["spec"]["size"].clone();
        ensure!(size == 2, "{size}");
        Ok(())
    })
    .await;
    let is_drift = |line: &String| line.contains(" drift ") && line.contains("Widget/");
    let drifts = eventually(SOON, || async {
        let drifts: Vec<String> = plumb.log().into_iter().filter(is_drift).collect();
        ensure!(!drifts.is_empty(), "nothing is told");
        Ok(drifts)
    })
    .await;
    assert!(drifts.len() == 1 && drifts[0].contains("/b "), "{drifts:#?}");
    let written = scene.member_writes(&audit.since(mark).await);
    assert!(written.0.iter().all(|event| event.object_ref.name == "b"), "{written:#?}");
}

/// A definition that somebody else has ceases to serve a version: nobody tells plumb, but that the watch of it ends.
#[tokio::test]
async fn a_version_that_is_served_no_more_blocks_nothing_that_git_asks_for_in_another() {
    let scene = Scene::new("version-unserved").await;
    let group = format!("{}.example.org", scene.env.name("g"));
    let both = definition(&group, "", &["v1beta1", "v1"]);
    scene.kubectl_ok(&["apply", "--server-side", "-f", "-"], &both).await;
    let widgets = scene.objects(&group, "v1", "Widget");
    eventually(SOON, || async { Ok(widgets.list(&Default::default()).await?) }).await;
    let first = scene.push([("w.yaml", widget(&group, "v1beta1", "w", 1)), ("a.yaml", config_map("a", &[("x", "1")]))]);
    let mut plumb = scene.run();
    scene.deployed(first).await;

    let one = both.replace("name: v1beta1, served: true", "name: v1beta1, served: false");
    scene.kubectl_ok(&["apply", "--server-side", "-f", "-"], &one).await;
    let moved = |line: &str| line.contains(MOVED) && line.contains("Widget") && line.contains(&group);
    plumb.wait_for_log(moved, SOON).await;
    let second = scene.push([("w.yaml", widget(&group, "v1", "w", 2)), ("a.yaml", config_map("a", &[("x", "2")]))]);
    scene.deployed(second).await;
    assert_eq!(widgets.get("w").await.unwrap().data["spec"]["size"], 2);
    assert_eq!(scene.data("a").await.as_deref(), Some("x=2"));
}
