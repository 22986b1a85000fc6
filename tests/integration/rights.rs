//! As whom plumb acts: the environment's service account writes, plumb watches.

use anyhow::ensure;
use kube::api::{Api, PostParams};
use serde_json::json;

use crate::harness::eventually;
use crate::scene::{SOON, Scene, config_map};

#[tokio::test]
async fn writes_are_made_as_the_service_account_and_watches_as_plumb() {
    let scene = Scene::with("account", "serviceAccount: deployer").await;
    let Some(audit) = scene.env.audit() else { return };
    scene.make_namespace().await;
    let rights = "apiVersion: v1
kind: ServiceAccount
metadata: {name: deployer}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: deployer}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [get, create, patch, delete]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: deployer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: deployer}
subjects: [{kind: ServiceAccount, name: deployer}]
";
    scene.kubectl_ok(&["create", "-n", &scene.namespace, "-f", "-"], rights).await;
    let account = format!("system:serviceaccount:{}:deployer", scene.namespace);

    let mark = audit.mark().await;
    let first = scene.push([("a.yaml", config_map("a", &[("x", "1")])), ("b.yaml", config_map("b", &[("x", "1")]))]);
    let mut plumb = scene.run();
    scene.deployed(first).await;
    let second =
        scene.push([("a.yaml", config_map("a", &[("x", "2")]).into()), ("b.yaml", crate::harness::Change::Remove)]);
    assert_eq!(scene.deployed(second).await.pruned, 1);

    // The account has no right to Secrets: the error names it, and nothing of the commit is applied.
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hunter2}\n";
    let third = scene.push([("a.yaml", config_map("a", &[("x", "3")])), ("s.yaml", secret.to_owned())]);
    let message = scene.failed(third).await;
    assert!(message.contains(&account) && message.contains("secrets") && message.contains("RBAC"), "{message}");
    assert_eq!(scene.data("a").await.as_deref(), Some("x=2"));

    assert!(plumb.terminate(SOON).await.success());
    // That a watch has ended is logged when the API server comes to it.
    let seen = eventually(SOON, || async {
        let seen = audit.since_with_watches(mark).await;
        ensure!(!seen.clone().of("configmaps").verb("watch").is_empty(), "no watch is logged yet");
        Ok(seen)
    })
    .await;
    let is_member = |resource: &str| matches!(resource, "configmaps" | "secrets");
    let members = seen.only(|event| is_member(&event.object_ref.resource));
    for event in &members.0 {
        let acted_as = event.impersonated_user.as_ref().map(|user| user.username.clone());
        let wanted = event.is_write().then(|| account.clone());
        assert_eq!(acted_as, wanted, "{event:?}");
    }
    assert!(!members.writes().is_empty() && !members.dry_runs().is_empty() && !members.verb("watch").is_empty());
    let others = seen.only(|event| !is_member(&event.object_ref.resource));
    assert!(others.0.iter().all(|event| event.impersonated_user.is_none()), "{others:#?}");
}

#[tokio::test]
async fn a_missing_account_has_no_rights_and_a_blank_one_is_refused_before_any_request() {
    let scene = Scene::with("blank", "serviceAccount: nobody").await;
    let Some(audit) = scene.env.audit() else { return };
    scene.make_namespace().await;
    let commit = scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
    let _plumb = scene.run();
    let message = scene.failed(commit).await;
    assert!(message.contains(&format!("system:serviceaccount:{}:nobody", scene.namespace)), "{message}");
    assert_eq!(scene.data("a").await, None);

    let mark = audit.mark().await;
    for blank in ["''", "' '", "\"\\t\""] {
        let bad = scene.define(&format!("serviceAccount: {blank}"));
        let entry = scene.ended(bad).await;
        assert_eq!((entry.outcome.as_str(), entry.stage.as_deref()), ("Failed", Some("definition")), "{entry:?}");
        let (code, output) = scene.verb(&["apply", &scene.name, "--take-over"]).await;
        assert!(code == Some(1) && output.contains("serviceAccount"), "{output}");
    }
    let as_plumb = audit.since(mark).await.of("configmaps").only(|event| event.impersonated_user.is_none());
    assert!(as_plumb.writes().is_empty() && as_plumb.dry_runs().is_empty(), "{as_plumb:#?}");
    assert_eq!(scene.data("a").await, None);

    // The account is made: the next try goes through by itself, so that the next definition changes nothing, or with that.
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
        Api::namespaced(scene.env.admin(), &scene.namespace);
    let account = serde_json::from_value(json!({"metadata": {"name": "nobody"}})).unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();
    let name = &scene.namespace;
    let subject = format!("--serviceaccount={name}:nobody");
    scene.kubectl_ok(&["create", "rolebinding", "nobody", "--clusterrole=edit", &subject, "-n", name], "").await;
    scene.define("serviceAccount: nobody");
    scene.condition("Synced", |synced| ["Deployed", "Unchanged"].contains(&&*synced.reason)).await;
    assert_eq!(scene.data("a").await.as_deref(), Some("x=1"));
}
