//! Removals that are less than certain, that are renames, or that are somebody else's.

use anyhow::ensure;
use git2::Oid;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::{has_looked, many};
use crate::harness::{Change, eventually};
use crate::scene::{SOON, Scene, config_map, definition, file_of, part_of};

#[tokio::test]
async fn nothing_is_deleted_on_doubt() {
    let policy = "deletionPolicy: delete\nprune: {budget: 100%}";
    let scene = Scene::of_two("doubt", policy).await;
    let Some(audit) = scene.env.audit() else { return };
    let repository = scene.env.repository();
    let good = scene.define(policy);
    let first = scene.push(many(&["a.yaml", "b.yaml"]));
    let mut plumb = scene.run();
    scene.deployed(first).await;
    let mark = audit.mark().await;
    let own = file_of(&scene.name);
    let both = [scene.name.clone(), scene.env.name("other")];

    // Not valid, called otherwise, a link, a file in the place of the directory of definitions: nobody meant to remove it.
    let environment = || async { scene.environment().await.unwrap().status.unwrap().removed };
    let wrong: [&[(String, Change)]; 3] = [
        &[(own.clone(), "spec: [".into())],
        &[(own.clone(), Change::Remove), (own.replace(".yaml", ".yml"), "kind: Environment".into())],
        &[(own.clone(), Change::Remove), (format!("environments/{}", scene.name), Change::Link("other".to_owned()))],
    ];
    for changes in wrong {
        let seen = plumb.log_len();
        // One after the other, and then seen at once.
        repository.set_branch("beside", good);
        for change in changes.iter().cloned() {
            repository.commit("beside", [change]);
        }
        repository.set_branch("main", repository.open().refname_to_id("refs/heads/beside").unwrap());
        let line = plumb.wait_for_log_after(seen, |line| line.contains("the definition is not valid"), SOON).await;
        assert!(line.contains(&scene.name), "{line}");
        assert_eq!(environment().await, None);
    }
    repository.set_branch("main", good);
    let seen = plumb.log_len();
    repository.set_branch("beside", good);
    repository.commit("beside", both.clone().map(|name| (file_of(&name), Change::Remove)));
    let file = repository.commit("beside", [("environments", "a file in its place")]);
    repository.set_branch("main", file);
    plumb.wait_for_log_after(seen, |line| line.contains("the definitions can't be read"), SOON).await;
    let seen = plumb.log_len();
    repository.delete_branch("main");
    plumb.wait_for_log_after(seen, |line| line.contains("does not exist"), SOON).await;
    assert_eq!(environment().await, None);
    let second = scene.push([("a.yaml", config_map("a", &[("x", "2")]))]);
    scene.deployed(second).await;

    // No definition at all, as after a bad merge.
    repository.set_branch("main", good);
    has_looked(&scene, &mut plumb, "mark-1").await;
    repository.set_branch("main", good);
    repository.commit("main", both.map(|name| (file_of(&name), Change::Remove)));
    let message = scene.not_ready("RemovalStopped").await;
    assert!(message.contains("no environment at all"), "{message}");

    // Another history, in which it never was.
    repository.set_branch("main", good);
    eventually(SOON, || async {
        ensure!(environment().await.is_none(), "not taken up again");
        Ok(())
    })
    .await;
    let unrelated = unrelated(&scene);
    repository.set_branch("main", unrelated);
    let message = scene.not_ready("RemovalStopped").await;
    assert!(message.contains("does not contain") && message.contains("moved by force"), "{message}");
    assert!(audit.since(mark).await.verb("delete").is_empty());

    // A definition that can't be read may be what it was renamed to.
    repository.set_branch("main", good);
    eventually(SOON, || async {
        ensure!(environment().await.is_none(), "not taken up again");
        Ok(())
    })
    .await;
    let renamed = scene.env.name("renamed");
    repository.commit("main", [(own.clone(), Change::Remove), (file_of(&renamed), "kind: [".into())]);
    let message = scene.not_ready("RemovalStopped").await;
    assert!(message.contains(&renamed) && message.contains("not valid"), "{message}");
    assert!(audit.since(mark).await.verb("delete").is_empty());
    // Repaired, it is no doubt any more: what it does not ask for goes.
    scene.define_other(&renamed, "renamed", "manifests", "");
    scene.push_to("renamed", [("a.yaml", config_map("a", &[("x", "3")])), ("b.yaml", "# none\n".to_owned())]);
    scene.is_gone(&scene.name).await;
    assert_eq!(scene.data("b").await, None);
    scene.data_becomes("a", Some("x=3")).await;
}

/// A commit without a parent that defines another environment.
fn unrelated(scene: &Scene) -> Oid {
    let repository = scene.env.repository().open();
    let name = scene.env.name("stranger");
    let text = definition(&name, "none", &name, "p", "");
    let blob = repository.blob(text.as_bytes()).unwrap();
    let mut tree = git2::build::TreeUpdateBuilder::new();
    tree.upsert(file_of(&name), blob, git2::FileMode::Blob);
    let empty = repository.odb().unwrap().write(git2::ObjectType::Tree, &[]).unwrap();
    let tree = tree.create_updated(&repository, &repository.find_tree(empty).unwrap()).unwrap();
    let author = git2::Signature::now("A Tester", "tester@example.org").unwrap();
    repository.commit(None, &author, &author, "another", &repository.find_tree(tree).unwrap(), &[]).unwrap()
}

#[tokio::test]
async fn a_renamed_environment_keeps_its_objects_without_interruption() {
    let scene = Scene::with("rename", "deletionPolicy: delete").await;
    let Some(audit) = scene.env.audit() else { return };
    let first = scene.push(many(&["a.yaml", "b.yaml", "c.yaml"]));
    let mut plumb = scene.run();
    scene.deployed(first).await;
    let uids = |names: [&'static str; 3]| {
        let scene = &scene;
        async move {
            let mut uids = Vec::new();
            for name in names {
                uids.push(scene.identity(name).await.0);
            }
            uids
        }
    };
    let before = uids(["a", "b", "c"]).await;
    let mark = audit.mark().await;
    let names: Vec<String> = ["n0", "n1", "n2", "n3"].iter().map(|name| scene.env.name(name)).collect();
    let mut from = scene.name.clone();
    // With either policy, seen as it happens and found at a start.
    for (round, to) in names.iter().enumerate() {
        let away = round % 2 == 1;
        if away {
            plumb.kill();
        }
        let policy = if round < 2 { "deletionPolicy: delete" } else { "deletionPolicy: orphan" };
        scene.rename(&from, to, policy);
        if away {
            plumb = scene.run();
        }
        scene.deployed_in(to, first).await;
        for name in ["a", "b", "c"] {
            let object = scene.config_maps().get(name).await.unwrap();
            assert_eq!(object.labels()["applyset.kubernetes.io/part-of"], part_of(to), "round {round}");
            let managers: Vec<_> =
                object.managed_fields().iter().filter_map(|entry| entry.manager.as_deref()).collect();
            assert_eq!(managers, [format!("plumb-{to}")], "round {round}");
        }
        scene.is_gone(&from).await;
        from.clone_from(to);
    }
    assert_eq!(uids(["a", "b", "c"]).await, before);
    let deletes = audit.since(mark).await.verb("delete").only(|event| event.object_ref.resource != "environments");
    assert!(deletes.is_empty(), "{deletes:#?}");
    // What a rename would do can be seen before.
    plumb.kill();
    let last = scene.env.name("last");
    scene.rename(&from, &last, "");
    let (code, output) = scene.verb(&["plan", &last]).await;
    assert!(code == Some(0) && output.contains("3 to take over"), "{output}");
}

#[tokio::test]
async fn an_environment_that_another_installation_has_is_nobodys_to_remove() {
    let scene = Scene::of_two("theirs", "deletionPolicy: delete\nprune: {budget: 100%}").await;
    let Some(audit) = scene.env.audit() else { return };
    let first = scene.push(many(&["a.yaml"]));
    let plumb = scene.run();
    scene.deployed(first).await;
    drop(plumb);
    let claim = Patch::Merge(json!({"metadata": {"annotations": {"plumb.dev/instance": "somebody#1"}}}));
    let environments: Api<plumb::model::Environment> = Api::all(scene.env.admin());
    environments.patch(&scene.name, &PatchParams::default(), &claim).await.unwrap();
    scene.undefine(&scene.name);
    let mark = audit.mark().await;
    let mut plumb = scene.run();
    has_looked(&scene, &mut plumb, "mark").await;
    let other = scene.env.name("third");
    scene.define_other(&other, "third", "manifests", "");
    let ready = scene.push_to("third", many(&["z.yaml"]));
    scene.deployed_in(&other, ready).await;
    let writes = audit.since(mark).await.writes();
    assert!(
        writes.only(|event| event.object_ref.name == scene.name || event.object_ref.name == "a").is_empty(),
        "{writes:#?}"
    );
    assert!(scene.data("a").await.is_some());
}
