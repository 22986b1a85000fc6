//! The cluster is in no state to take a commit: what may pass by itself is waited for, and said while it lasts.

use std::path::PathBuf;

use anyhow::ensure;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, PostParams};
use serde_json::json;

use super::stand::{self, PATIENCE, definition, definition_file, settings, statuses, wait_ended, wait_value};
use crate::harness::{Change, Cluster, ControlPlane, Program, TestEnv, eventually};
use crate::scene::{install_crd, short};

/// An environment of this name on a branch and in a namespace of the same, of these files below `deploy`.
fn define(env: &TestEnv, suffix: &str, spec: &str, files: &[(&str, String)]) -> (String, git2::Oid) {
    let name = env.name(suffix);
    env.repository().commit("main", [(definition_file(&name), definition(&name, "deploy", spec))]);
    let commit = push(env, &name, files);
    (name, commit)
}

fn push(env: &TestEnv, branch: &str, files: &[(&str, String)]) -> git2::Oid {
    let change = |(file, text): &(&str, String)| (PathBuf::from(format!("deploy/{file}")), Change::from(text.clone()));
    env.repository().commit(branch, files.iter().map(change))
}

/// What the newest entry of the history says.
async fn said(env: &TestEnv, name: &str) -> String {
    let seen = statuses(env).await.unwrap();
    let entry = seen[name].last().expect("an entry").clone();
    format!("{}: {}", entry.stage.unwrap_or_default(), entry.message.unwrap_or_default())
}

fn assert_says(said: &str, words: &[&str]) {
    let missing: Vec<&&str> = words.iter().filter(|word| !said.contains(**word)).collect();
    assert!(missing.is_empty(), "it does not say {missing:?}: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_is_away_is_waited_for() {
    let cluster = Cluster::Own(ControlPlane::start(false).into());
    let env = TestEnv::on(cluster.clone(), "away").await;
    let control_plane = cluster.control_plane().unwrap();
    let (name, _) = define(&env, "dev", "", &[("settings.yaml", settings("1"))]);

    control_plane.stop(Program::ApiServer);
    let mut plumb = stand::run(&env);
    let line = plumb.wait_for_log(|line| line.contains("does not answer"), PATIENCE).await;
    assert_says(&line, &["ERROR", "trying again", "refused"]);

    control_plane.start_again(Program::ApiServer);
    let line = plumb.wait_for_log(|line| line.contains("has no environments.plumb.dev"), PATIENCE).await;
    assert_says(&line, &["ERROR", "waiting for it", "plumb init --crd | kubectl apply"]);

    crate::scene::install_crd(&env).await;
    wait_value(&env, &name, "1").await;

    control_plane.stop(Program::ApiServer);
    let before = plumb.log_len();
    let lost = push(&env, &name, &[("settings.yaml", settings("2"))]);
    let away = |line: &str| line.contains(&short(lost)) && line.contains("can't be reached");
    let line = plumb.wait_for_log_after(before, away, PATIENCE).await;
    assert_says(&line, &["retry=true"]);
    let newest = push(&env, &name, &[("settings.yaml", settings("3"))]);
    plumb.wait_for_log_after(before, |line| line.contains(&short(newest)), PATIENCE).await;
    // What lasts for less than a moment is not told.
    plumb.wait_for_log_after(before, |line| line.contains("does not answer"), PATIENCE).await;
    control_plane.start_again(Program::ApiServer);
    wait_value(&env, &name, "3").await;
    wait_ended(&env, [(&*name, newest)], "Deployed").await;
    plumb.wait_for_log_after(before, |line| line.contains("the API server answers again"), PATIENCE).await;

    let Some(audit) = env.audit() else { return };
    let seen = audit.since(audit.start()).await;
    assert!(seen.verb("delete").is_empty() && seen.verb("deletecollection").is_empty());
    assert!(plumb.terminate(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_right_is_named_and_its_grant_is_enough() {
    let env = TestEnv::new("rights").await;
    crate::scene::install_crd(&env).await;
    let namespace = env.create_namespace("dev").await;
    let account = "  serviceAccount: deployer\n";
    let (name, first) = define(&env, "dev", account, &[("settings.yaml", settings("1"))]);
    let Some(audit) = env.audit() else { return };
    let mark = audit.mark().await;
    let mut plumb = stand::run(&env);
    wait_ended(&env, [(&*name, first)], "Failed").await;
    let user = format!("system:serviceaccount:{namespace}:deployer");
    let needs = "cannot patch resource \"configmaps\"";
    let what =
        ["deploy/settings.yaml:1", "ConfigMap/", &user, needs, "grant the right by RBAC", "tries again by itself"];
    assert_says(&said(&env, &name).await, &what);

    let roles: Api<Role> = Api::namespaced(env.admin(), &namespace);
    let role = json!({
        "metadata": {"name": "deployer"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "patch"]}],
    });
    roles.create(&PostParams::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
    let bindings: Api<RoleBinding> = Api::namespaced(env.admin(), &namespace);
    let binding = json!({
        "metadata": {"name": "deployer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "deployer"},
        "subjects": [{"kind": "ServiceAccount", "name": "deployer", "namespace": namespace}],
    });
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    wait_ended(&env, [(&*name, first)], "Deployed").await;
    wait_value(&env, &name, "1").await;

    // A commit that needs more is refused as a whole, before its first write.
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n".to_owned();
    let second = push(&env, &name, &[("settings.yaml", settings("2")), ("secret.yaml", secret)]);
    wait_ended(&env, [(&*name, second)], "Failed").await;
    assert_says(&said(&env, &name).await, &["dry-run: deploy/secret.yaml:1", "Secret/", &user, "\"secrets\"", "RBAC"]);
    wait_value(&env, &name, "1").await;
    roles.delete("deployer", &DeleteParams::default()).await.unwrap();
    let role = json!({
        "metadata": {"name": "deployer"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["get", "create", "patch"]}],
    });
    roles.create(&PostParams::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
    wait_ended(&env, [(&*name, second)], "Deployed").await;
    wait_value(&env, &name, "2").await;

    let members = audit.since(mark).await.in_namespace(&namespace).writes();
    let own = members.only(|event| event.impersonated_user.as_ref().is_none_or(|acted| acted.username != user));
    assert!(own.is_empty(), "written with plumb's own rights: {own:?}");
    assert!(plumb.terminate(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_custom_resource_waits_alone_for_its_definition() {
    let env = TestEnv::new("gadgets").await;
    crate::scene::install_crd(&env).await;
    let group = format!("{}.example.org", env.name("g"));
    let gadget = format!("apiVersion: {group}/v1\nkind: Gadget\nmetadata: {{name: one}}\nspec: {{size: 3}}\n");
    let files = [("a-gadget.yaml", gadget), ("settings.yaml", settings("1"))];
    let (name, commit) = define(&env, "dev", "", &files);
    let mut plumb = stand::run(&env);
    wait_ended(&env, [(&*name, commit)], "Failed").await;
    let words =
        ["apply: deploy/a-gadget.yaml:1", "Gadget", &group, "held back until it does", "CustomResourceDefinition"];
    assert_says(&said(&env, &name).await, &words);
    wait_value(&env, &name, "1").await;
    // The same in a later commit: the rest of it is applied.
    let second = push(&env, &name, &[("settings.yaml", settings("2"))]);
    wait_ended(&env, [(&*name, second)], "Failed").await;
    wait_value(&env, &name, "2").await;

    let api: Api<CustomResourceDefinition> = Api::all(env.admin());
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let crd = json!({
        "metadata": {"name": format!("gadgets.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced", "names": {"plural": "gadgets", "kind": "Gadget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    });
    api.create(&PostParams::default(), &serde_json::from_value(crd).unwrap()).await.unwrap();
    wait_ended(&env, [(&*name, second)], "Deployed").await;
    let (version, api_version) = ("v1".to_owned(), format!("{group}/v1"));
    let resource = ApiResource { group, version, api_version, kind: "Gadget".into(), plural: "gadgets".into() };
    let gadgets: Api<DynamicObject> = Api::namespaced_with(env.admin(), &name, &resource);
    assert_eq!(gadgets.get("one").await.unwrap().data["spec"]["size"], 3);
    assert!(plumb.terminate(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_seen_before_its_commit_is_tried_again() {
    let env = TestEnv::new("early").await;
    install_crd(&env).await;
    let (name, _) = define(&env, "dev", "", &[("settings.yaml", settings("1"))]);
    let mut plumb = stand::run(&env);
    wait_value(&env, &name, "1").await;

    // As a network file system may show it, or a repository that is copied to its place.
    let file = PathBuf::from("deploy/settings.yaml");
    let second = env.repository().write(&name, [(file, Change::from(settings("2")))]);
    let (repository, id) = (env.repository().path(), second.to_string());
    let (object, away) = (repository.join("objects").join(&id[..2]).join(&id[2..]), repository.join("away"));
    std::fs::rename(&object, &away).unwrap();
    let branch = repository.join("refs/heads").join(&name);
    let new = branch.with_extension("lock");
    std::fs::write(&new, format!("{id}\n")).unwrap();
    std::fs::rename(&new, &branch).unwrap();
    wait_ended(&env, [(&*name, second)], "Failed").await;
    assert_says(&said(&env, &name).await, &["source: ", &id, "is not in the repository"]);

    std::fs::rename(&away, &object).unwrap();
    wait_ended(&env, [(&*name, second)], "Deployed").await;
    wait_value(&env, &name, "2").await;
    assert!(plumb.terminate(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_poison_object_among_a_hundred_fails_alone() {
    let env = TestEnv::new("poison").await;
    crate::scene::install_crd(&env).await;
    let many: String = (0..99).map(|n| settings("1").replace("settings", &format!("c{n}")) + "---\n").collect();
    let poison = |port| {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: poison}}\nspec: {{ports: [{{port: {port}}}]}}\n")
    };
    let (name, commit) = define(&env, "dev", "", &[("many.yaml", many), ("poison.yaml", poison(80_000))]);
    let applied = || async {
        let api: Api<ConfigMap> = Api::namespaced(env.admin(), &name);
        let ours = ListParams::default().labels("applyset.kubernetes.io/part-of");
        let count = api.list_metadata(&ours).await?.items.len();
        ensure!(count == 99, "{count} stand");
        Ok(())
    };
    let mut plumb = stand::run(&env);
    wait_ended(&env, [(&*name, commit)], "Failed").await;
    let words =
        ["apply: deploy/poison.yaml:1", "Service/", "/poison", "spec.ports[0].port", "correct the object in git"];
    assert_says(&said(&env, &name).await, &words);
    eventually(PATIENCE, applied).await;
    assert_eq!(statuses(&env).await.unwrap()[&name].last().unwrap().applied, 99);

    // A restart does the same.
    assert!(plumb.terminate(PATIENCE).await.success());
    let mut plumb = stand::run(&env);
    plumb.wait_for_log(|line| line.contains("failed") && line.contains("/poison"), PATIENCE).await;
    let second = push(&env, &name, &[("poison.yaml", poison(80))]);
    wait_ended(&env, [(&*name, second)], "Deployed").await;
    assert!(plumb.terminate(PATIENCE).await.success());
}
