//! What an apply alone cannot heal ends equal to git all the same.

use anyhow::ensure;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use plumb::drift::ownership;
use serde_json::json;

use crate::harness::{Audit, AuditLog, eventually};
use crate::scene::{SOON, Scene, config_map};

mod siblings;
mod terminating;
mod versions;

/// Waits until everything was looked at again, three times over, and gives the writes until then.
async fn writes_of_three_resyncs(scene: &Scene, audit: &AuditLog, resource: &str) -> Audit {
    let mark = audit.mark().await;
    eventually(SOON, || async {
        let looked = audit.since(mark).await.of(resource).dry_runs().len();
        ensure!(looked >= 3, "looked {looked} times");
        Ok(())
    })
    .await;
    scene.member_writes(&audit.since(mark).await)
}

#[tokio::test]
async fn a_field_that_was_changed_and_changed_back_leaves_with_git_even_over_a_restart() {
    let scene = Scene::new("restarted").await;
    let all: [(&str, &str); 4] = [("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")];
    let with = |names: &str| {
        let data: Vec<_> = all.into_iter().filter(|(name, _)| names.contains(name)).collect();
        [("x.yaml", config_map("x", &data))]
    };
    let first = scene.push(with("abcd"));
    let plumb = scene.run();
    scene.deployed(first).await;
    let there_and_back = async |field: &str| {
        let params = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
        for value in ["2", "1"] {
            scene.config_maps().patch("x", &params, &Patch::Merge(json!({"data": {field: value}}))).await.unwrap();
        }
        let x = scene.config_maps().get("x").await.unwrap();
        let ours = x.managed_fields().iter().find(|entry| entry.operation.as_deref() == Some("Apply")).unwrap();
        assert!(
            ours.fields_v1.as_ref().unwrap().0["f:data"].get(format!("f:{field}")).is_none(),
            "not what is to be tested"
        );
    };
    // The commit that drops it comes while plumb is away.
    drop(plumb);
    there_and_back("b").await;
    let second = scene.push(with("acd"));
    let plumb = scene.run();
    scene.deployed(second).await;
    assert_eq!(scene.data("x").await.as_deref(), Some("a=1 c=1 d=1"));

    // It is changed back while plumb is away, and dropped after it is back.
    drop(plumb);
    there_and_back("c").await;
    let plumb = scene.run();
    let third = scene.push([("other.yaml", config_map("other", &[("k", "1")]))]);
    scene.deployed(third).await;
    let fourth = scene.push(with("ad"));
    scene.deployed(fourth).await;
    assert_eq!(scene.data("x").await.as_deref(), Some("a=1 d=1"));
    drop(plumb);

    // A single life of plumb's does one commit.
    there_and_back("d").await;
    scene.push(with("a"));
    let (code, output) = scene.verb(&["apply", &scene.name, "--instance", &scene.instance()]).await;
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(scene.data("x").await.as_deref(), Some("a=1"));
}

#[tokio::test]
async fn an_aggregated_role_has_the_rules_of_its_controller() {
    let scene = Scene::new("aggregated").await;
    let Some(audit) = scene.env.audit() else { return };
    scene.define("resync: 1s\nallow: {clusterScoped: [rbac.authorization.k8s.io/ClusterRole]}");
    let (whole, part) = (scene.env.name("whole"), scene.env.name("part"));
    let role = |name: &str, head: &str, resource: &str| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: {name}{head}}}\nrules: [{{apiGroups: [''], resources: [{resource}], verbs: [get]}}]\n"
        )
    };
    let aggregated = format!(
        "{}aggregationRule: {{clusterRoleSelectors: [{{matchLabels: {{aggregate-to: {whole}}}}}]}}\n",
        role(&whole, "", "secrets")
    );
    let first = scene.push([
        ("whole.yaml", aggregated),
        ("part.yaml", role(&part, &format!(", labels: {{aggregate-to: {whole}}}"), "pods")),
    ]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    let roles: Api<ClusterRole> = Api::all(scene.env.admin());
    let rules = async || {
        let rules = roles.get(&whole).await.unwrap().rules.unwrap_or_default();
        rules.into_iter().flat_map(|rule| rule.resources.unwrap_or_default()).collect::<Vec<_>>()
    };
    eventually(SOON, || async {
        ensure!(rules().await == ["pods"], "{:?}", rules().await);
        Ok(())
    })
    .await;
    // Applied within the last seconds, an object is applied again by a resync, which changes nothing: neither moves.
    let version = roles.get(&whole).await.unwrap().resource_version();
    writes_of_three_resyncs(&scene, audit, "clusterroles").await;
    let now = roles.get(&whole).await.unwrap();
    assert_eq!((now.resource_version(), rules().await), (version, vec!["pods".to_owned()]));
    let foreign = ownership::foreign(now.managed_fields()).unwrap();
    assert!(foreign.is_empty(), "{foreign:?}");
}

#[tokio::test]
async fn a_key_that_leaves_string_data_leaves_the_secret() {
    let scene = Scene::new("string-data").await;
    let secret = |plain: &str| {
        [(
            "s.yaml",
            format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\ndata: {{kept: MQ==}}\nstringData: {plain}\n"),
        )]
    };
    let api: Api<Secret> = Api::namespaced(scene.env.admin(), &scene.namespace);
    let keys = async || api.get("s").await.unwrap().data.unwrap_or_default().into_keys().collect::<Vec<_>>();
    let first = scene.push(secret("{a: x, b: z}"));
    let _plumb = scene.run();
    scene.deployed(first).await;
    assert_eq!(keys().await, ["a", "b", "kept"]);
    let second = scene.push(secret("{a: z}"));
    scene.deployed(second).await;
    assert_eq!(keys().await, ["a", "kept"]);
    assert_eq!(api.get("s").await.unwrap().data.unwrap()["a"].0, b"z");
    // A person's other value is git's again, with all else that is ours.
    let entry = api.get("s").await.unwrap().managed_fields()[0].fields_v1.clone().unwrap().0;
    assert!(entry.get("f:stringData").is_none() && entry["f:data"].get("f:a").is_some(), "{entry}");
}
