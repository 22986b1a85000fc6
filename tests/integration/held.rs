//! What passed its gates goes on being restored: not what a definition asks for that was refused, and not only while every gate can be passed.

use anyhow::{Context as _, ensure};
use plumb::model::environment::Condition;

use crate::harness::{AuditLog, Change, eventually};
use crate::scene::{SOON, Scene, config_map, definition, file_of, short};

/// Waits until plumb has gone over everything so often since now: each time it dry-runs the ConfigMaps.
async fn rounds(audit: &AuditLog, count: usize) {
    let mark = audit.mark().await;
    eventually(SOON, || async {
        let seen = audit.since(mark).await.of("configmaps").dry_runs().len();
        ensure!(seen >= count, "{seen} dry-runs");
        Ok(())
    })
    .await;
}

async fn synced(scene: &Scene, status: &str, reason: &str) -> Condition {
    scene.condition("Synced", |condition| condition.status == status && condition.reason == reason).await
}

#[tokio::test]
async fn what_a_refused_definition_asks_for_is_written_neither_by_a_resync_nor_by_a_heal_nor_by_a_restart() {
    let scene = Scene::with("refused", "resync: 1s").await;
    let Some(audit) = scene.env.audit() else { return };
    let first = scene.env.repository().commit(
        "dev",
        [
            ("manifests/a.yaml", config_map("a", &[("x", "1")])),
            ("other/a.yaml", config_map("a", &[("x", "other")])),
            ("other/z.yaml", config_map("z", &[("x", "1")])),
        ],
    );
    let plumb = scene.run();
    scene.deployed(first).await;

    let other = definition(&scene.name, "dev", &scene.namespace, "other", "resync: 1s\nserviceAccount: nobody");
    scene.env.repository().commit("main", [(file_of(&scene.name), other)]);
    scene.condition("Synced", |condition| condition.status == "False" && condition.message.contains("nobody")).await;
    rounds(audit, 3).await;
    // Drift of what stands is put back meanwhile, as it was deployed.
    let patch = r#"{"data": {"x": "2"}}"#;
    scene.kubectl_ok(&["patch", "configmap", "a", "-n", &scene.namespace, "--patch", patch], "").await;
    scene.data_becomes("a", Some("x=1")).await;
    assert_eq!(scene.data("z").await, None);

    drop(plumb);
    let mut plumb = scene.run();
    plumb.wait_for_log(|line| line.contains("failed") && line.contains(&short(first)), SOON).await;
    rounds(audit, 3).await;
    assert_eq!(
        (scene.data("a").await.as_deref(), scene.data("z").await),
        (Some("x=1"), None),
        "a restart is no approval"
    );

    // Back under the definition that it passed with, it is what it was.
    scene.define("resync: 1s");
    synced(&scene, "True", "Deployed").await;
    scene.kubectl_ok(&["patch", "configmap", "a", "-n", &scene.namespace, "--patch", patch], "").await;
    scene.data_becomes("a", Some("x=1")).await;
}

#[tokio::test]
async fn a_definition_that_is_not_valid_is_told_whatever_else_comes_to_its_end() {
    let scene = Scene::with("invalid", "resync: 1s").await;
    let Some(audit) = scene.env.audit() else { return };
    let first = scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
    let mut plumb = scene.run();
    scene.deployed(first).await;
    scene.define("resync: often");
    synced(&scene, "False", "DefinitionInvalid").await;
    rounds(audit, 3).await;
    let status = scene.environment().await.and_then(|environment| environment.status).context("a status").unwrap();
    let condition = status.conditions.iter().find(|condition| condition.type_ == "Synced").unwrap();
    assert_eq!((&*condition.status, &*condition.reason), ("False", "DefinitionInvalid"), "after resyncs");
    // A commit is deployed under the definition before it, and that is no end of the trouble.
    let second = scene.push([("a.yaml", config_map("a", &[("x", "2")]))]);
    scene.data_becomes("a", Some("x=2")).await;
    eventually(SOON, || async {
        let status = scene.environment().await.and_then(|environment| environment.status).context("a status")?;
        let ended = status.history.iter().find(|entry| entry.commit == second.to_string()).context("not ended")?;
        ensure!(ended.outcome == "Deployed", "{ended:?}");
        let condition = status.conditions.iter().find(|condition| condition.type_ == "Synced").context("Synced")?;
        ensure!(condition.reason == "DefinitionInvalid", "{condition:?}");
        Ok(())
    })
    .await;
    // Nor are the two told in turns as often as a head is tried again.
    let unknown = "apiVersion: nowhere.example.org/v1\nkind: Nothing\nmetadata: {name: n}\n".to_owned();
    let third = short(scene.push([("n.yaml", unknown)]));
    plumb.wait_for_log(|line| line.contains(" failed ") && line.contains(&third), SOON).await;
    synced(&scene, "False", "DefinitionInvalid").await;
    rounds(audit, 5).await;
    let told = plumb.log().iter().filter(|line| line.contains(" failed ") && line.contains(&third)).count();
    assert_eq!(told, 1, "{:#?}", plumb.log());
    let fourth = scene.push([("n.yaml", Change::Remove)]);
    scene.define("resync: 1s");
    scene.deployed(fourth).await;
    synced(&scene, "True", "Deployed").await;
}

/// A kind that can't be listed any more, since a webhook that converts it is away: everything else is still put back.
#[tokio::test]
async fn a_resync_that_cannot_pass_its_gates_forgets_nothing() {
    let scene =
        Scene::with("poison", "resync: 1s\nallow: {clusterScoped: [apiextensions.k8s.io/CustomResourceDefinition]}")
            .await;
    let group = format!("{}.example.org", scene.env.name("g"));
    let version = |name: &str, storage: bool| {
        format!(
            "  - {{name: {name}, served: true, storage: {storage}, schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}}}\n"
        )
    };
    let head = format!(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: things.{group}}}\nspec:\n  group: {group}\n  scope: Namespaced\n  names: {{plural: things, singular: thing, kind: Thing}}\n"
    );
    let thing =
        |version: &str, name: &str| format!("apiVersion: {group}/{version}\nkind: Thing\nmetadata: {{name: {name}}}\n");
    scene.kubectl_ok(&["apply", "-f", "-"], &format!("{head}  versions:\n{}", version("v1", true))).await;
    let first = scene.push([("a.yaml", config_map("a", &[("x", "1")])), ("t.yaml", thing("v1", "t"))]);
    let mut plumb = scene.run();
    scene.deployed(first).await;

    let nobody = "  conversion: {strategy: Webhook, webhook: {conversionReviewVersions: [v1], clientConfig: {url: 'https://127.0.0.1:1/convert'}}}\n";
    let before = plumb.log_len();
    let both = format!("{head}{nobody}  versions:\n{}{}", version("v1", false), version("v2", true));
    scene.kubectl_ok(&["apply", "-f", "-"], &both).await;
    scene.kubectl_ok(&["create", "-n", &scene.namespace, "-f", "-"], &thing("v2", "theirs")).await;
    plumb.wait_for_log_after(before, |line| line.contains(&short(first)) && line.contains("Thing"), SOON).await;
    scene.kubectl_ok(&["delete", "configmap", "a", "-n", &scene.namespace], "").await;
    scene.data_becomes("a", Some("x=1")).await;
    // So that its objects can be deleted.
    scene.kubectl_ok(&["apply", "-f", "-"], &both.replace(nobody, "  conversion: {strategy: None}\n")).await;
}
