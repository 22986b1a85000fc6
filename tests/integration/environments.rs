//! Environments as branches: what a branch may say of its own environment, a branch that goes, a namespace that two want.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use plumb::model::environment::Condition;
use serde_json::json;

use crate::harness::{Change, Plumb};
use crate::scene::{SOON, Scene, config_map, definition, file_of};

impl Scene {
    /// The text of a definition of the scene's environment.
    fn definition(&self, spec: &str) -> String {
        definition(&self.name, "dev", &self.namespace, "manifests", spec)
    }

    /// Commits a definition on the environment's own branch, with a new value in an object, so that there is something to deploy.
    fn redefine_own(&self, definition: &str, value: &str) -> git2::Oid {
        let object = config_map("a", &[("x", value)]);
        self.env
            .repository()
            .commit("dev", [(file_of(&self.name), definition), ("manifests/a.yaml".to_owned(), object.as_str())])
    }

    /// Waits until a condition has this status and reason.
    async fn says(&self, type_: &str, status: &str, reason: &str) -> Condition {
        self.condition(type_, |condition| condition.status == status && condition.reason == reason).await
    }
}

#[tokio::test]
async fn a_branch_does_not_change_its_own_environment() {
    let scene = Scene::new("own").await;
    let Some(audit) = scene.env.audit() else { return };
    let first = scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
    let _plumb = scene.run();
    scene.deployed(first).await;

    // The configuration branch is ahead: what the branch has is an older version, as before every merge.
    scene.define("resync: 5m");
    let second = scene.push([("a.yaml", config_map("a", &[("x", "2")]))]);
    scene.deployed(second).await;

    let mark = audit.mark().await;
    let wider = scene
        .definition("serviceAccount: admin\nallow:\n  namespaces: [kube-system]")
        .replace(&scene.namespace, "kube-system");
    let third = scene.redefine_own(&wider, "3");
    let message = scene.failed(third).await;
    assert!(message.contains(&format!("{}:10: ", file_of(&scene.name))), "{message}");
    for field in ["spec.allow.namespaces", "spec.namespace", "spec.resync", "spec.serviceAccount"] {
        assert!(message.contains(field), "{message}");
    }
    assert!(message.contains("the branch dev") && message.contains("from main alone"), "{message}");
    assert!(scene.member_writes(&audit.since(mark).await).is_empty());
    let spec = scene.environment().await.unwrap().spec;
    assert_eq!(
        (spec.namespace.as_str(), spec.service_account, spec.allow.namespaces.len()),
        (&*scene.namespace, None, 0)
    );
    for verb in [&["validate"][..], &["plan", &scene.name]] {
        let (code, output) = scene.verb(verb).await;
        assert!(code == Some(1) && output.contains("spec.serviceAccount"), "{verb:?}: {output}");
    }

    // Once the configuration branch says the same, the commit that was refused goes on by itself.
    let slower = scene.definition("resync: 7m");
    let fourth = scene.redefine_own(&slower, "4");
    assert!(scene.failed(fourth).await.contains("spec.resync is changed"));
    scene.define("resync: 7m");
    scene.deployed(fourth).await;
    assert_eq!(scene.data("a").await.as_deref(), Some("x=4"));
    // The branch falls behind again, other environments' definitions are none of its business, and comments and defaults are no change.
    scene.define("resync: 9m");
    let other = file_of("other");
    let fifth = scene
        .env
        .repository()
        .commit("dev", [(other.as_str(), "not: valid"), ("manifests/a.yaml", &config_map("a", &[("x", "5")]))]);
    scene.deployed(fifth).await;
    let same = format!("# a comment\n{}", scene.definition("resync: 9m\nsuspend: false"));
    scene.deployed(scene.redefine_own(&same, "6")).await;

    // A merge that went wrong.
    let seventh = scene.redefine_own("<<<<<<< HEAD\n", "7");
    let message = scene.failed(seventh).await;
    assert!(
        message.contains(&format!("{}:1:", file_of(&scene.name))) && message.contains("git checkout main"),
        "{message}"
    );
    let gone = [
        (file_of(&scene.name), Change::Remove),
        ("manifests/a.yaml".to_owned(), config_map("a", &[("x", "8")]).into()),
    ];
    scene.deployed(scene.env.repository().commit("dev", gone)).await;
}

#[tokio::test]
async fn a_first_deployment_is_held_to_the_definition_too() {
    let scene = Scene::new("own-first").await;
    let suspended = scene.definition("suspend: true");
    let first = scene.redefine_own(&suspended, "1");
    let mut plumb = scene.run();
    let message = scene.failed(first).await;
    assert!(message.contains("spec.suspend is changed"), "{message}");
    assert_eq!(scene.data("a").await, None);
    scene.define("suspend: true");
    plumb.wait_for_log(|line| line.contains("suspended"), SOON).await;
    assert_eq!(scene.data("a").await, None);
}

#[tokio::test]
async fn a_branch_that_vanishes_prunes_nothing_and_comes_back() {
    let scene = Scene::new("vanish").await;
    let Some(audit) = scene.env.audit() else { return };
    let first = scene.push([("a.yaml", config_map("a", &[("x", "1")])), ("b.yaml", config_map("b", &[("x", "1")]))]);
    let mut plumb = scene.run();
    scene.deployed(first).await;
    let before = (scene.identity("a").await, scene.identity("b").await);
    let mark = audit.mark().await;

    scene.env.repository().delete_branch("dev");
    plumb.wait_for_log(|line| line.contains("there is no such branch"), SOON).await;
    let synced = scene.says("Synced", "Unknown", "BranchMissing").await;
    assert!(synced.message.contains("no branch dev"), "{synced:?}");
    assert_ne!(scene.says("Ready", "Unknown", "BranchMissing").await.message, "");
    scene.told("BranchMissing", &["there is no branch dev"]).await;
    assert!(scene.member_writes(&audit.since(mark).await).is_empty());

    // The same commit pushed again: nothing to do, and the status says so.
    scene.env.repository().set_branch("dev", first);
    scene.says("Synced", "True", "Unchanged").await;
    assert_eq!((scene.identity("a").await, scene.identity("b").await), before);

    // Gone again, over a restart: what stood is still kept as it was.
    scene.env.repository().delete_branch("dev");
    scene.says("Synced", "Unknown", "BranchMissing").await;
    plumb.kill();
    let mut plumb = scene.run();
    plumb.wait_for_log(|line| line.contains("there is no such branch"), SOON).await;
    let version = scene.environment().await.unwrap().status;
    let edit = Patch::Merge(json!({"data": {"x": "edited"}}));
    scene.config_maps().patch("a", &PatchParams::default(), &edit).await.unwrap();
    scene.data_becomes("a", Some("x=1")).await;
    scene.says("Synced", "Unknown", "BranchMissing").await;
    assert_eq!(version.unwrap().target, Some(first.to_string()));
    assert!(audit.since(mark).await.verb("delete").is_empty());

    scene.env.repository().set_branch("dev", first);
    let second = scene.push([("a.yaml", config_map("a", &[("x", "2")]))]);
    scene.deployed(second).await;
    scene.says("Synced", "True", "Deployed").await;
    assert!(audit.since(mark).await.verb("delete").is_empty());
}

#[tokio::test]
async fn a_namespace_that_two_environments_claim_is_an_error_of_both() {
    let scene = Scene::new("homes").await;
    let home = scene.env.name("home");
    let (infra, lives) = (scene.env.name("infra"), scene.env.name("lives"));
    let define = |name: &str, namespace: &str, more: &str| {
        let text = definition(name, name, namespace, "manifests", more);
        scene.env.repository().commit("main", [(file_of(name), text)])
    };
    define(&infra, &scene.namespace, "allow: {clusterScoped: [Namespace]}");
    define(&lives, &home, "");
    let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {home}}}\n");
    let wrong = scene.push_to(&infra, [("n.yaml", namespace.clone()), ("a.yaml", config_map("a", &[("x", "1")]))]);
    let first = scene.push_to(&lives, [("b.yaml", config_map("b", &[("x", "1")]))]);
    for environment in [&infra, &lives] {
        for verb in [&["plan", environment.as_str()][..], &["validate"]] {
            let (code, output) = scene.verb(verb).await;
            assert!(code == Some(1) && output.contains(&format!("Namespace/{home}")), "{verb:?}: {output}");
            assert!(output.contains(&infra) && output.contains(&lives), "{verb:?}: {output}");
        }
    }
    let plumb = scene.run();
    for (environment, commit) in [(&infra, wrong), (&lives, first)] {
        let entry = scene.ended_in(environment, commit).await;
        let message = entry.message.unwrap_or_default();
        assert!(entry.outcome == "Failed" && message.contains(&infra) && message.contains(&lives), "{message}");
    }
    let (code, _) = scene.kubectl(&["get", "namespace", &home], "").await;
    assert_eq!(code, Some(1), "nobody has made it");

    // One gives way: the other begins without a push.
    let right = scene.push_to(&infra, [("n.yaml", Change::from("# not ours\n"))]);
    scene.deployed_in(&infra, right).await;
    scene.deployed_in(&lives, first).await;
    // Asked for again, who lives there is refused as well, and keeps what it has.
    let again = scene.push_to(&infra, [("n.yaml", namespace)]);
    let second = scene.push_to(&lives, [("b.yaml", config_map("b", &[("x", "2")]))]);
    for (environment, commit) in [(&infra, again), (&lives, second)] {
        let entry = scene.ended_in(environment, commit).await;
        let message = entry.message.unwrap_or_default();
        assert!(entry.outcome == "Failed" && message.contains(&infra) && message.contains(&lives), "{message}");
    }
    let maps: Api<ConfigMap> = Api::namespaced(scene.env.admin(), &home);
    let data = async || maps.get("b").await.unwrap().data.unwrap()["x"].clone();
    assert_eq!(data().await, "1");
    scene.push_to(&infra, [("n.yaml", Change::from("# not ours\n"))]);
    scene.deployed_in(&lives, second).await;
    assert_eq!(data().await, "2");
    drop(plumb);
}

#[tokio::test]
async fn two_plumbs_under_one_name_do_not_remove_each_others_environments() {
    let scene = Scene::with("namesake", "deletionPolicy: delete\nprune: {budget: 100%}").await;
    let Some(audit) = scene.env.audit() else { return };
    let first = scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
    let one = scene.run();
    scene.deployed(first).await;
    let mark = audit.mark().await;
    let held = scene.environment().await.unwrap().metadata;

    // Another repository, and the same one with another configuration branch.
    let other = crate::harness::ScratchRepository::new();
    let stranger = scene.env.name("stranger");
    let text = |name: &str| definition(name, "none", name, "p", "");
    other.commit("main", [(file_of(&stranger), text(&stranger))]);
    let ops = scene.env.name("ops");
    scene.env.repository().set_branch("ops", scene.env.repository().open().refname_to_id("refs/heads/main").unwrap());
    scene.env.repository().commit("ops", [(file_of(&scene.name), Change::Remove), (file_of(&ops), text(&ops).into())]);
    let instance = scene.instance();
    let start = |repository: &std::path::Path, branch: &str| {
        let repository = repository.to_str().unwrap().to_owned();
        let args = ["run", "--repo", &repository, "--config-branch", branch, "--instance", &instance];
        Plumb::spawn(scene.env.kubeconfig(), args)
    };
    for mut plumb in [start(&other.path(), "main"), start(&scene.env.repository().path(), "ops")] {
        let line = plumb.wait_for_log(|line| line.contains("it is left alone"), SOON).await;
        assert!(line.contains(&scene.name) && line.contains("--instance"), "{line}");
    }
    let now = scene.environment().await.unwrap().metadata;
    assert_eq!((now.resource_version, now.annotations), (held.resource_version, held.annotations));
    let writes = audit.since(mark).await.writes();
    assert!(writes.only(|event| [&*scene.name, "a"].contains(&&*event.object_ref.name)).is_empty(), "{writes:#?}");
    assert!(!one.log().iter().any(|line| line.contains("taken the environment over")));
}
