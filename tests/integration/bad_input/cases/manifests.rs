//! Manifests that are refused before anything is asked of the cluster.

use super::super::case::{Case, plain};

pub fn cases() -> Vec<Case> {
    [syntax(), objects(), contents()].concat()
}

/// What is no YAML, or YAML that says two things.
fn syntax() -> Vec<Case> {
    let bad = |name, text: &str| plain(name).write("deploy/bad.yaml", text);
    vec![
        bad("bad-yaml", "kind: ConfigMap\nmetadata: {name: x\ndata: 1\n")
            .fails("render", &["deploy/bad.yaml:", "column", "not valid YAML"]),
        bad("bad-indentation", "kind: ConfigMap\nmetadata:\n  name: x\n namespace: y\n")
            .fails("render", &["deploy/bad.yaml:4", "not valid YAML"]),
        bad("tabs", "kind: ConfigMap\nmetadata:\n\tname: x\n").fails("render", &["deploy/bad.yaml:3", "tab"]),
        bad("unclosed-quote", "kind: \"ConfigMap\nmetadata: {}\n")
            .fails("render", &["deploy/bad.yaml:", "not valid YAML"]),
        bad("template-left-over", "kind: ConfigMap\nmetadata:\n  name: {{ .Values.name }}\n")
            .fails("render", &["deploy/bad.yaml:3"]),
        bad("merge-conflict", "kind: ConfigMap\n<<<<<<< HEAD\ndata: {a: b}\n=======\ndata: {a: c}\n>>>>>>> dev\n")
            .fails("render", &["deploy/bad.yaml:"]),
        bad("key-twice", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  a: b\n  a: c\n")
            .fails("render", &["deploy/bad.yaml:6", "\"a\" stands twice", "one of the two would be lost"]),
        bad("key-is-no-text", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  on: x\n")
            .fails("render", &["deploy/bad.yaml:5", "\"on\"", "a boolean", "write it in quotes"]),
        bad("unknown-anchor", "apiVersion: v1\nkind: *kind\n").fails("render", &["deploy/bad.yaml:2"]),
        bad("alias-in-itself", "apiVersion: v1\nkind: ConfigMap\nmetadata: &m {name: x, labels: *m}\n")
            .fails("render", &["deploy/bad.yaml:3", "the very value it stands in"]),
        bad("foreign-tag", "apiVersion: v1\nkind: !!python/object:os.system ConfigMap\n")
            .fails("render", &["deploy/bad.yaml:2", "the tag", "is not known here"]),
        bad("infinity", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: .inf}\n")
            .fails("render", &["deploy/bad.yaml:4", "no form in JSON"]),
        plain("bad-json")
            .write("deploy/bad.json", "{\"kind\": \"ConfigMap\",\n \"metadata\": {\"name\": \"x\",}}\n")
            .fails("render", &["deploy/bad.json:2", "not valid JSON"]),
        plain("json-key-twice")
            .write("deploy/bad.json", "{\"kind\": \"ConfigMap\",\n \"kind\": \"Secret\"}\n")
            .fails("render", &["deploy/bad.json:2", "\"kind\" stands twice"]),
    ]
}

/// What is YAML and no object that this environment may have.
fn objects() -> Vec<Case> {
    let bad = |name, text: &str| plain(name).write("deploy/bad.yaml", text);
    let object = |name, metadata: &str| bad(name, &format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {metadata}\n"));
    vec![
        bad("no-object", "- just\n- a list\n")
            .fails("render", &["deploy/bad.yaml:1", "a list, not a Kubernetes object", "move it out of"]),
        bad("no-kind", "apiVersion: v1\nmetadata: {name: x}\n")
            .fails("render", &["deploy/bad.yaml:1", "kind is missing", "move it out of"]),
        bad("no-api-version", "kind: ConfigMap\nmetadata: {name: x}\n")
            .fails("render", &["deploy/bad.yaml:1", "apiVersion is missing"]),
        bad("odd-api-version", "apiVersion: a/b/c\nkind: ConfigMap\nmetadata: {name: x}\n")
            .fails("render", &["deploy/bad.yaml:1", "\"a/b/c\"", "such as v1 or apps/v1"]),
        object("no-name", "{labels: {a: b}}").fails("render", &["deploy/bad.yaml:1", "metadata.name is missing"]),
        object("odd-name", "{name: Not_A_Name}")
            .fails("render", &["deploy/bad.yaml:1", "\"Not_A_Name\"", "lower-case letters"]),
        object("name-with-dots", "{name: ../../secrets/x}")
            .fails("render", &["deploy/bad.yaml:1", "not a valid name", "lower-case letters"]),
        object("name-is-a-number", "{name: 1234}")
            .fails("render", &["deploy/bad.yaml:3", "metadata.name", "a number, not text", "in quotes"]),
        object("generate-name", "{generateName: x-}")
            .fails("render", &["deploy/bad.yaml:3", "generateName", "give the object a name"]),
        object("other-namespace", "{name: x, namespace: kube-system}").fails(
            "render",
            &["deploy/bad.yaml:3", "ConfigMap/kube-system/x", "\"@ENV@\" only", "spec.allow.namespaces"],
        ),
        object("part-of-label", "{name: x, labels: {applyset.kubernetes.io/part-of: applyset-mine-v1}}").fails(
            "render",
            &["deploy/bad.yaml:3", "ConfigMap/@ENV@/x", "applyset.kubernetes.io/part-of", "remove the label"],
        ),
        object("exported", "{name: x, uid: 4b2c, resourceVersion: '77'}").fails(
            "render",
            &["deploy/bad.yaml:3", "ConfigMap/", "only the API server sets", "exported from a cluster"],
        ),
        bad(
            "cluster-scoped",
            "---\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: x}\n",
        )
        .fails(
            "render",
            &[
                "deploy/bad.yaml:3",
                "ClusterRole",
                "cluster-scoped",
                "\"rbac.authorization.k8s.io/ClusterRole\"",
                "spec.allow.clusterScoped",
            ],
        ),
        bad("namespace-object", "apiVersion: v1\nkind: Namespace\nmetadata: {name: kube-system}\n")
            .fails("render", &["deploy/bad.yaml:1", "cluster-scoped", "spec.allow.clusterScoped"]),
        bad("defined-twice", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n").fails(
            "render",
            &[
                "deploy/settings.yaml:1",
                "ConfigMap/@ENV@/settings",
                "twice",
                "deploy/bad.yaml:1",
                "remove one of the two",
            ],
        ),
    ]
}

/// What server-side apply would make a trap of.
fn contents() -> Vec<Case> {
    let bad = |name, text: &str| plain(name).write("deploy/bad.yaml", text);
    let data =
        |name, data: &str| bad(name, &format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: x}}\n{data}\n"));
    let web = |name, container: &str| {
        bad(name, &format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: x}}\nspec:\n  containers:\n  - {container}\n"))
    };
    vec![
        data("number-for-text", "data: {retries: 5}")
            .fails("render", &["deploy/bad.yaml:4", "ConfigMap/@ENV@/x", "data.retries is a number", "in quotes"]),
        data("null-value", "data: {a: }")
            .fails("render", &["deploy/bad.yaml:4", "ConfigMap/@ENV@/x", "data.a is null", "remove the field"]),
        web("null-deep-inside", "{name: c, image: i, resources: {limits: null}}").fails(
            "render",
            &["deploy/bad.yaml:6", "Pod/@ENV@/x", "spec.containers[0].resources.limits is null", "remove the field"],
        ),
        web("variable-twice", "{name: c, image: i, env: [{name: A, value: a}, {name: A, value: b}]}").fails(
            "render",
            &["deploy/bad.yaml:6", "Pod/@ENV@/x", "containers[0].env", "name=A", "remove or rename one"],
        ),
        web("container-twice", "{name: c, image: i}\n  - {name: c, image: j}").fails(
            "render",
            &["deploy/bad.yaml:5", "Pod/@ENV@/x", "spec.containers has two elements", "name=c", "remove or rename one"],
        ),
        bad(
            "secret-no-base64",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata:\n  token: CANARY-not-base64!\n",
        )
        .fails(
            "render",
            &["deploy/bad.yaml:5", "Secret/@ENV@/x", "data.token is not base64", "encode it", "stringData"],
        ),
        bad(
            "odd-replace-annotation",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, annotations: {plumb.dev/replace: always}}\n",
        )
        .fails("render", &["deploy/bad.yaml:1", "ConfigMap/@ENV@/x", "plumb.dev/replace", "'immutable'"]),
    ]
}
