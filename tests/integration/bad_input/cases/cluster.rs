//! What only the cluster, or what else is deployed to it, makes wrong.

use serde_json::json;

use super::super::case::{BYSTANDER, Case, plain};

pub fn cases() -> Vec<Case> {
    [kinds(), refused(), owners()].concat()
}

/// Kinds, versions and namespaces that are not there.
fn kinds() -> Vec<Case> {
    let bad = |name, text: &str| plain(name).write("deploy/bad.yaml", text);
    vec![
        bad("unknown-kind", "apiVersion: apps/v1\nkind: Deploymnet\nmetadata: {name: x}\n").fails(
            "plan",
            &["deploy/bad.yaml:1", "Deploymnet/@ENV@/x", "without a kind Deploymnet", "did you mean Deployment?"],
        ),
        bad("kind-of-another-group", "apiVersion: v1\nkind: Deployment\nmetadata: {name: x}\n")
            .fails("plan", &["deploy/bad.yaml:1", "Deployment/@ENV@/x", "Deployment is served as apps/v1"]),
        bad("old-version", "apiVersion: apps/v1beta1\nkind: Deployment\nmetadata: {name: x}\n")
            .fails("plan", &["deploy/bad.yaml:1", "in v1, not in v1beta1", "set apiVersion to apps/v1"]),
        bad("no-such-namespace", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: nowhere}\n")
            .with_spec("  allow: {namespaces: [nowhere]}\n")
            .fails(
                "plan",
                &["deploy/bad.yaml:1", "ConfigMap/nowhere/x", "namespace nowhere does not exist", "add the Namespace"],
            ),
        bad(
            "broken-definition",
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: x.example.org}\n\
             spec: {group: example.org, scope: Namespaced, names: {plural: xs, kind: X}, versions: []}\n",
        )
        .with_spec("  allow: {clusterScoped: [apiextensions.k8s.io/CustomResourceDefinition]}\n")
        .fails("dry-run", &["deploy/bad.yaml:1", "CustomResourceDefinition/x.example.org", "correct the object"]),
    ]
}

/// What the API server's dry-run refuses.
fn refused() -> Vec<Case> {
    let web = |name, from: &str, to: &str| {
        plain(name).write("deploy/web.yaml", super::super::stand::WEB.replacen(from, to, 1))
    };
    vec![
        web("misspelt-field", "replicas:", "replcas:").fails(
            "dry-run",
            &[
                "deploy/web.yaml:1",
                "Deployment/@ENV@/web",
                ".spec.replcas: field not declared",
                "correct the object in git",
            ],
        ),
        web("text-for-a-number", "replicas: 2", "replicas: two")
            .fails("dry-run", &["deploy/web.yaml:1", "Deployment/@ENV@/web", "replicas", "correct the object in git"]),
        web("missing-image", "image: web:1", "imagePullPolicy: Never").fails(
            "dry-run",
            &[
                "deploy/web.yaml:1",
                "Deployment/@ENV@/web",
                "containers[0].image: Required",
                "correct the object in git",
            ],
        ),
        web("port-too-high", "port: 80", "port: 80000").fails(
            "dry-run",
            &["deploy/web.yaml:14", "Service/@ENV@/web", "spec.ports[0].port", "correct the object in git"],
        ),
        web("immutable-selector", "matchLabels: {app: web}", "matchLabels: {app: web, tier: front}")
            .fails("dry-run", &["deploy/web.yaml:1", "Deployment/@ENV@/web", "correct the object in git"]),
        plain("immutable-selector-only")
            .write("deploy/web.yaml", super::super::stand::WEB.replace("{app: web}", "{app: web, tier: front}"))
            .fails(
                "dry-run",
                &[
                    "deploy/web.yaml:1",
                    "Deployment/@ENV@/web",
                    "spec.selector can't be changed",
                    "plumb.dev/replace: immutable",
                ],
            ),
        plain("two-refusals")
            .write(
                "deploy/web.yaml",
                super::super::stand::WEB.replace("port: 80", "port: 80000").replace("replicas:", "replcas:"),
            )
            .fails(
                "dry-run",
                &["deploy/web.yaml:1", "and 1 more", "deploy/web.yaml:14", "Service/@ENV@/web", "spec.ports[0].port"],
            ),
    ]
}

/// Objects that are somebody else's, and deletions that nobody may have meant.
fn owners() -> Vec<Case> {
    let theirs = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: theirs}\n";
    let metadata =
        |metadata| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "b"}});
    let helm = json!({
        "name": "theirs", "labels": {"app.kubernetes.io/managed-by": "Helm"},
        "annotations": {"meta.helm.sh/release-name": "cart", "meta.helm.sh/release-namespace": "shop"},
    });
    let flux = json!({
        "name": "theirs",
        "labels": {"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"},
    });
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "1-2-3", "controller": true});
    vec![
        plain("made-by-helm")
            .stands(metadata(helm))
            .write("deploy/theirs.yaml", theirs)
            .fails("plan", &["deploy/theirs.yaml:1", "ConfigMap/@ENV@/theirs", "Helm", "cart", "adopt: true"]),
        plain("made-by-flux")
            .stands(metadata(flux))
            .write("deploy/theirs.yaml", theirs)
            .fails("plan", &["deploy/theirs.yaml:1", "ConfigMap/@ENV@/theirs", "Flux", "adopt: true"]),
        plain("controlled")
            .stands(metadata(json!({"name": "theirs", "ownerReferences": [owner]})))
            .write("deploy/theirs.yaml", theirs)
            .fails("plan", &["deploy/theirs.yaml:1", "ConfigMap/@ENV@/theirs", "Node"]),
        plain("made-by-kubectl-applyset")
            .stands(metadata(json!({"name": "theirs", "labels": {"applyset.kubernetes.io/part-of": "applyset-x-v1"}})))
            .write("deploy/theirs.yaml", theirs)
            .fails("plan", &["deploy/theirs.yaml:1", "ConfigMap/@ENV@/theirs", "applyset-x-v1"]),
        plain("the-bystanders")
            .with_spec("  allow: {namespaces: [@BYSTANDER@]}\n")
            .write(
                "deploy/theirs.yaml",
                format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings, namespace: {BYSTANDER}}}\n"),
            )
            .fails("plan", &["deploy/theirs.yaml:1", "ConfigMap/@BYSTANDER@/settings", "environment", "@BYSTANDER@"]),
        plain("beyond-the-budget")
            .remove("deploy/web.yaml")
            .remove("deploy/credentials.yaml")
            .fails("prune", &["delete 3 of 4 objects", "the prune budget is 50%", "plumb approve"]),
    ]
}
