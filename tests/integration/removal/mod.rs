//! Definitions that leave git: their environments' objects stay or go as the last definition says, and nothing goes on doubt.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use git2::Oid;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::harness::{Change, Plumb, eventually};
use crate::scene::{SOON, Scene, condition, config_map, definition, file_of, part_of, short};

mod doubts;

/// Files with one ConfigMap each.
fn many(names: &[&'static str]) -> Vec<(&'static str, String)> {
    names.iter().map(|name| (*name, config_map(name.trim_end_matches(".yaml"), &[("x", "1")]))).collect()
}

impl Scene {
    /// A scene with a second environment, so that removing the first leaves one.
    async fn of_two(name: &str, spec: &str) -> Self {
        let scene = Self::with(name, spec).await;
        scene.define_elsewhere("other");
        scene
    }

    /// Defines an environment that has nothing to do with the scene's namespace, and no branch.
    fn define_elsewhere(&self, name: &str) -> String {
        let name = self.env.name(name);
        let text = definition(&name, "none", &name, "p", "");
        self.env.repository().commit("main", [(file_of(&name), text)]);
        name
    }

    /// Takes a definition out of the configuration branch.
    fn undefine(&self, environment: &str) -> Oid {
        self.env.repository().commit("main", [(file_of(environment), Change::Remove)])
    }

    /// Renames the environment in one commit: the same definition under another name.
    fn rename(&self, from: &str, to: &str, spec: &str) -> Oid {
        let text = definition(to, "dev", &self.namespace, "manifests", spec);
        self.env.repository().commit("main", [(file_of(from), Change::Remove), (file_of(to), text.into())])
    }

    /// Waits until the Environment is not ready for this reason, and gives the message.
    async fn not_ready(&self, reason: &str) -> String {
        self.condition("Ready", |ready| ready.status == "False" && ready.reason == reason).await.message
    }

    async fn is_gone(&self, environment: &str) {
        eventually(SOON, || async {
            let found = self.environment_of(environment).await;
            ensure!(found.is_none(), "it stands: {:?}", found.and_then(|found| found.status));
            Ok(())
        })
        .await;
    }

    /// The names of the ConfigMaps with the environment's label that are not being deleted.
    async fn standing(&self, environment: &str) -> BTreeSet<String> {
        let labelled =
            ListParams::default().labels(&format!("applyset.kubernetes.io/part-of={}", part_of(environment)));
        let maps = self.config_maps().list(&labelled).await.unwrap().items;
        let maps = maps.into_iter().filter(|map: &ConfigMap| map.metadata.deletion_timestamp.is_none());
        maps.map(|map| map.name_any()).collect()
    }
}

fn says(plumb: &Plumb, words: &str) -> usize {
    plumb.log().iter().filter(|line| line.contains(words)).count()
}

/// Wakes plumb and waits until it has seen the newest configuration: by a definition that it can't read.
async fn has_looked(scene: &Scene, plumb: &mut Plumb, mark: &str) {
    let seen = plumb.log_len();
    scene.env.repository().commit("main", [(file_of(mark), "not a definition")]);
    plumb.wait_for_log_after(seen, |line| line.contains(mark), SOON).await;
}

#[tokio::test]
async fn an_orphan_is_left_alone_and_taken_up_again() {
    let scene = Scene::new("orphan").await;
    let Some(audit) = scene.env.audit() else { return };
    let first = scene.push(many(&["a.yaml", "b.yaml"]));
    let mut plumb = scene.run();
    scene.deployed(first).await;
    let identity = scene.identity("a").await;
    let mark = audit.mark().await;

    let undefined = scene.undefine(&scene.name);
    let message = scene.not_ready("Removed").await;
    assert!(message.contains(&short(undefined)) && message.contains("its objects stay"), "{message}");
    let status = scene.environment().await.unwrap().status.unwrap();
    assert_eq!(condition(&status, "Synced").unwrap().status, "Unknown");
    let shown = scene.kubectl_ok(&["get", "env", &scene.name], "").await;
    assert!(shown.contains("Unknown"), "{shown}");
    eventually(SOON, || async {
        let environment = scene.environment().await.context("the Environment")?;
        ensure!(!environment.annotations().contains_key("plumb.dev/instance"), "still claimed");
        ensure!(environment.labels().contains_key("applyset.kubernetes.io/id"), "no parent any more");
        Ok(())
    })
    .await;
    let line = plumb.wait_for_log(|line| line.contains("its definition left git"), SOON).await;
    assert!(line.contains("policy=\"orphan\"") || line.contains("policy=orphan"), "{line}");

    // Neither a push nor a change in the cluster is anybody's business any more, before and after a restart.
    let second = scene.push([("a.yaml", config_map("a", &[("x", "2")]))]);
    let edit = Patch::Merge(json!({"data": {"x": "edited"}}));
    scene.config_maps().patch("b", &PatchParams::default(), &edit).await.unwrap();
    let version = scene.environment().await.unwrap().resource_version();
    plumb.kill();
    let mut plumb = scene.run();
    plumb.wait_for_log(|line| line.contains("reading the repository"), SOON).await;
    // The supervisor has looked at all of this by the time that it can say so of something new.
    has_looked(&scene, &mut plumb, "mark").await;
    assert_eq!(scene.environment().await.unwrap().resource_version(), version);
    assert_eq!(scene.identity("a").await, identity);
    assert_eq!(scene.data("b").await.as_deref(), Some("x=edited"));
    assert!(scene.member_writes(&audit.since(mark).await).is_empty());

    scene.define("");
    scene.deployed(second).await;
    eventually(SOON, || async {
        ensure!(
            scene.data("a").await.as_deref() == Some("x=2") && scene.data("b").await.as_deref() == Some("x=1"),
            "not as in git"
        );
        Ok(())
    })
    .await;
    let environment = scene.environment().await.unwrap();
    assert_eq!(environment.status.unwrap().removed, None);
    assert!(environment.metadata.annotations.unwrap().contains_key("plumb.dev/instance"));
    assert_eq!(scene.identity("a").await.0, identity.0, "it was made anew");
    assert!(audit.since(mark).await.verb("delete").is_empty());
}

#[tokio::test]
async fn the_last_object_of_an_orphan_takes_its_environment_along() {
    let scene = Scene::of_two("orphan-ends", "").await;
    let first = scene.push(many(&["a.yaml"]));
    let _plumb = scene.run();
    scene.deployed(first).await;
    scene.undefine(&scene.name);
    scene.not_ready("Removed").await;
    scene.config_maps().delete("a", &kube::api::DeleteParams::default()).await.unwrap();
    scene.is_gone(&scene.name).await;
}

#[tokio::test]
async fn a_deletion_asks_spares_what_a_prune_spares_and_ends_with_the_environment() {
    let scene = Scene::of_two("delete", "deletionPolicy: delete").await;
    let Some(audit) = scene.env.audit() else { return };
    let mut files = many(&["a.yaml", "b.yaml", "c.yaml", "kept.yaml", "slow.yaml"]);
    files[3].1 = files[3].1.replace("{name: kept}", "{name: kept, annotations: {plumb.dev/prune: disabled}}");
    files[4].1 = files[4].1.replace("{name: slow}", "{name: slow, finalizers: [example.org/slow]}");
    files.push(("deploy.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 0, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: example.org/c}]}}}\n".to_owned()));
    let first = scene.push(files);
    let mut plumb = scene.run();
    scene.deployed(first).await;
    let copy = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "copy", "labels": {"applyset.kubernetes.io/part-of": part_of(&scene.name)}}});
    scene.config_maps().patch("copy", &PatchParams::apply("operator"), &Patch::Apply(copy)).await.unwrap();
    let mark = audit.mark().await;

    let undefined = scene.undefine(&scene.name);
    let message = scene.not_ready("RemovalStopped").await;
    assert!(message.contains("it would delete 5 of 6 objects, and the prune budget is 50%"), "{message}");
    assert!(message.contains(&format!("plumb approve {}", scene.name)), "{message}");
    assert!(scene.member_writes(&audit.since(mark).await).is_empty());
    let (code, output) = scene.verb(&["plan", &scene.name]).await;
    assert!(code == Some(1) && output.contains("5 to prune") && output.contains("ConfigMap"), "{output}");
    // An unrelated commit of the configuration branch does not change what is asked; a restart does not either.
    scene.define_elsewhere("third");
    plumb.kill();
    let mut plumb = scene.run();
    plumb.wait_for_log(|line| line.contains("its objects are not deleted"), SOON).await;
    let (code, output) = scene.verb(&["approve", &scene.name]).await;
    assert!(code == Some(0) && output.contains(&short(undefined)), "{output}");

    eventually(SOON, || async {
        let left = scene.standing(&scene.name).await;
        ensure!(left == BTreeSet::from(["copy".to_owned(), "kept".to_owned()]), "{left:?}");
        Ok(())
    })
    .await;
    let deletes = audit.since(mark).await.verb("delete");
    let names: Vec<&str> = deletes.0.iter().map(|event| &*event.object_ref.name).collect();
    assert_eq!(names.len(), 5, "{names:?}");
    assert_eq!(names[0], "web", "workloads first");
    let stays = |message: &str| message.contains("1 object stays") && message.contains("kept");
    let message = scene.condition("Ready", |ready| stays(&ready.message)).await.message;
    assert!(message.contains("plumb.dev/prune: disabled"), "{message}");

    let gone = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    scene.config_maps().patch("slow", &PatchParams::default(), &gone).await.unwrap();
    let allowed = Patch::Merge(json!({"metadata": {"annotations": {"plumb.dev/prune": null}}}));
    scene.config_maps().patch("kept", &PatchParams::default(), &allowed).await.unwrap();
    scene.is_gone(&scene.name).await;
    plumb.wait_for_log(|line| line.contains("removed: it has no objects"), SOON).await;
    // Nothing was told or done twice while it waited.
    assert_eq!(says(&plumb, "objects stay"), 1, "{:#?}", plumb.log());
    let deletes = audit.since(mark).await.verb("delete");
    assert_eq!(deletes.len(), 7, "six objects and the Environment: {deletes:#?}");
    assert_eq!(scene.standing(&scene.name).await, BTreeSet::from(["copy".to_owned()]), "a label is no proof");
    let namespaces: Api<Namespace> = Api::all(scene.env.admin());
    let namespace = namespaces.get(&scene.namespace).await.unwrap();
    assert!(namespace.metadata.deletion_timestamp.is_none(), "the namespace was no object of the environment");
}

#[tokio::test]
async fn a_definition_that_comes_back_stops_a_deletion() {
    let scene = Scene::of_two("back", "deletionPolicy: delete").await;
    let Some(audit) = scene.env.audit() else { return };
    let first = scene.push(many(&["a.yaml", "b.yaml", "c.yaml"]));
    let mut plumb = scene.run();
    scene.deployed(first).await;
    let mark = audit.mark().await;
    scene.undefine(&scene.name);
    scene.not_ready("RemovalStopped").await;
    scene.define("deletionPolicy: delete");
    plumb.wait_for_log(|line| line.contains("it is defined again"), SOON).await;
    let second = scene.push([("a.yaml", config_map("a", &[("x", "2")]))]);
    scene.deployed(second).await;
    // An approval that comes too late approves nothing.
    let (code, output) = scene.verb(&["approve", &scene.name]).await;
    assert!(code == Some(0) && output.contains(&short(second)), "{output}");
    scene.undefine(&scene.name);
    let message = scene.not_ready("RemovalStopped").await;
    assert!(message.contains("3 of 3"), "{message}");
    assert!(audit.since(mark).await.verb("delete").is_empty());
}

#[tokio::test]
async fn what_was_removed_while_plumb_was_away_goes_at_its_start_as_git_said() {
    let scene = Scene::of_two("away", "deletionPolicy: delete\nprune: {budget: 100%}").await;
    let keeps = scene.env.name("keeps");
    scene.define_other(&keeps, "keeps", "manifests", "");
    let first = scene.push(many(&["a.yaml", "b.yaml", "c.yaml"]));
    let stays = scene.push_to("keeps", many(&["d.yaml"]));
    let mut plumb = scene.run();
    scene.deployed(first).await;
    scene.deployed_in(&keeps, stays).await;

    // Stopped on a laptop, it gives its claims up; they are still its own.
    assert!(plumb.terminate(SOON).await.success());
    scene.undefine(&scene.name);
    scene.undefine(&keeps);
    // What somebody writes into the Environment meanwhile is not what git said.
    let edit = Patch::Merge(json!({"spec": {"deletionPolicy": "delete", "prune": {"budget": "100%"}}}));
    let environments: Api<plumb::model::Environment> = Api::all(scene.env.admin());
    environments.patch(&keeps, &PatchParams::default(), &edit).await.unwrap();
    let mut plumb = scene.run();
    plumb.wait_for_log(|line| line.contains("removed: it has no objects"), SOON).await;
    scene.is_gone(&scene.name).await;
    assert!(scene.standing(&scene.name).await.is_empty());
    plumb.wait_for_log(|line| line.contains(&keeps) && line.contains("its objects stay"), SOON).await;
    assert_eq!(scene.standing(&keeps).await, BTreeSet::from(["d".to_owned()]));
}

#[tokio::test]
async fn killed_in_the_middle_of_a_deletion_the_next_start_goes_on() {
    let scene = Scene::of_two("del-killed", "deletionPolicy: delete\nprune: {budget: 100%}").await;
    let Some(audit) = scene.env.audit() else { return };
    let names: Vec<String> = (0..40).map(|number| format!("m-{number:02}")).collect();
    let all = names.iter().map(|name| config_map(name, &[("x", "1")])).collect::<Vec<_>>().join("---\n");
    let first = scene.push([("all.yaml", all)]);
    let mut plumb = scene.run();
    scene.deployed(first).await;
    for enough in [1, 12, 25] {
        let mark = audit.mark().await;
        scene.undefine(&scene.name);
        eventually(SOON, || async {
            let deleted = audit.since(mark).await.verb("delete").len();
            ensure!(deleted >= enough, "{deleted} of {enough}");
            Ok(())
        })
        .await;
        plumb.kill();
        // What is left is named by the Environment.
        let left = scene.standing(&scene.name).await;
        assert!(left.is_empty() || scene.environment().await.is_some(), "untracked: {left:?}");
        plumb = scene.run();
        scene.is_gone(&scene.name).await;
        assert!(scene.standing(&scene.name).await.is_empty());
        scene.define("deletionPolicy: delete\nprune: {budget: 100%}");
        eventually(SOON, || async {
            let now = scene.standing(&scene.name).await.len();
            ensure!(now == names.len(), "{now} are back");
            Ok(())
        })
        .await;
        scene.deployed(first).await;
    }
}

#[tokio::test]
async fn an_environments_own_kinds_and_namespace_go_with_it_once_somebody_said_so() {
    let scene = Scene::of_two(
        "del-whole",
        "deletionPolicy: delete\nprune: {budget: 100%}\nallow:\n  clusterScoped: [Namespace, apiextensions.k8s.io/CustomResourceDefinition]",
    )
    .await;
    let group = format!("{}.example.org", scene.env.name("g"));
    let crd = format!(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: widgets.{group}}}\nspec:\n  group: {group}\n  scope: Namespaced\n  names: {{plural: widgets, kind: Widget}}\n  versions: [{{name: v1, served: true, storage: true, schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}}}]\n"
    );
    let first = scene.push([
        ("ns.yaml", format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}}}\n", scene.namespace)),
        ("crd.yaml", crd),
        ("w.yaml", format!("apiVersion: {group}/v1\nkind: Widget\nmetadata: {{name: w}}\n")),
        ("a.yaml", config_map("a", &[("x", "1")])),
    ]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    scene.undefine(&scene.name);
    let message = scene.not_ready("RemovalStopped").await;
    assert!(message.contains(&format!("Namespace/{}", scene.namespace)), "{message}");
    assert!(message.contains("CustomResourceDefinition"), "{message}");
    let (code, output) = scene.verb(&["approve", &scene.name]).await;
    assert_eq!(code, Some(0), "{output}");
    scene.is_gone(&scene.name).await;
    let namespaces: Api<Namespace> = Api::all(scene.env.admin());
    eventually(SOON, || async {
        let namespace = namespaces.get_opt(&scene.namespace).await?;
        ensure!(
            namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()),
            "the namespace stands"
        );
        Ok(())
    })
    .await;
}
