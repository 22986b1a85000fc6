//! Charts and kustomizations: what the programs that render them refuse, and what they must never be asked.

use super::super::case::{Base, Case, of};
use crate::harness::Change;

pub fn cases() -> Vec<Case> {
    [templates(), charts(), kustomizations()].concat()
}

/// Templates that don't render, or not to what they should.
fn templates() -> Vec<Case> {
    let bad = |name, text: &str| of(Base::Chart, name).write("deploy/templates/bad.yaml", text);
    vec![
        bad("template-error", "a: b\nc: {{ .Values.nothing.there }}\n")
            .fails("render", &["deploy/templates/bad.yaml:2", "nil pointer"]),
        bad("template-syntax", "a: {{ if }}\n")
            .fails("render", &["deploy/templates/bad.yaml:1", "missing value for if"]),
        bad("template-unknown-function", "a: {{ environment }}\n")
            .fails("render", &["deploy/templates/bad.yaml:1", "function \"environment\" not defined"]),
        bad("template-fails", "{{ fail \"choose a region\" }}\n")
            .fails("render", &["deploy/templates/bad.yaml:1", "choose a region"]),
        bad("template-requires", "a: {{ required \"set .Values.region\" .Values.region }}\n")
            .fails("render", &["deploy/templates/bad.yaml:1", "set .Values.region"]),
        bad("template-in-itself", "{{ define \"a\" }}{{ include \"a\" . }}{{ end }}{{ include \"a\" . }}\n")
            .fails("render", &["deploy/templates/bad.yaml"]),
        bad("template-yields-no-yaml", "kind: [ConfigMap\n").fails("render", &["deploy/templates/bad.yaml"]),
        bad(
            "template-is-random",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: {{ randAlphaNum 20 }}}\n",
        )
        .fails("render", &["deploy/templates/bad.yaml", "renders differently each time", "a fixed value"]),
        bad("template-of-other-namespace", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: other}\n")
            .fails("render", &["deploy/templates/bad.yaml", "ConfigMap/other/x", "spec.allow.namespaces"]),
    ]
}

/// Charts and values that are not what they should be.
fn charts() -> Vec<Case> {
    let chart = |name| of(Base::Chart, name);
    vec![
        chart("chart-yaml-broken").write("deploy/Chart.yaml", "apiVersion: v2\nname: [web\n").fails("render", &["Chart.yaml"]),
        chart("chart-dependency")
            .write(
                "deploy/Chart.yaml",
                "apiVersion: v2\nname: web\nversion: 1.0.0\ndependencies:\n- {name: db, version: 1.0.0, repository: 'https://example.org'}\n",
            )
            .fails("render", &["deploy/Chart.yaml", "\"db\"", "plumb fetches nothing", "helm dependency build"]),
        chart("chart-schema-violated").write("values/env.yaml", "value: \"2\"\nreplicas: many\n").fails("render", &["replicas"]),
        chart("chart-schema-remote")
            .write("deploy/values.schema.json", "{\"$ref\": \"https://example.org/schema.json\"}")
            .fails("render", &["deploy/values.schema.json", "https://example.org/schema.json", "plumb fetches nothing"]),
        chart("chart-link-out")
            .change("deploy/templates/passwd.yaml", Change::Link("/etc/passwd".into()))
            .fails("render", &["deploy/templates/passwd.yaml"]),
        chart("values-broken").write("values/env.yaml", "value: [\n").fails("render", &["values/env.yaml:", "not valid YAML"]),
        chart("values-key-twice")
            .write("values/env.yaml", "value: a\nvalue: b\n")
            .fails("render", &["values/env.yaml:2", "\"value\" stands twice"]),
        chart("values-a-list").write("values/env.yaml", "- a\n").fails("render", &["values/env.yaml", "is a mapping"]),
        chart("values-missing").remove("values/env.yaml").fails(
            "render",
            &["\"values/env.yaml\"", "spec.values", "not in this commit", "add it to the branch"],
        ),
    ]
}

fn kustomizations() -> Vec<Case> {
    let of = |name, text: &str| of(Base::Kustomization, name).write("deploy/kustomization.yaml", text);
    vec![
        of("base-by-https", "resources: [settings.yaml, 'https://example.org/base.yaml']\n")
            .fails("render", &["deploy/kustomization.yaml", "resources", "example.org", "plumb fetches nothing"]),
        of("base-by-git", "resources: [settings.yaml, 'github.com/example/base?ref=v1']\n")
            .fails("render", &["deploy/kustomization.yaml", "resources", "github.com/example/base"]),
        of("base-outside", "resources: [settings.yaml, ../../base]\n")
            .fails("render", &["deploy/kustomization.yaml", "resources", "leads out of the repository"]),
        of("base-missing", "resources: [settings.yaml, base]\n")
            .fails("render", &["deploy/kustomization.yaml", "resources", "\"base\"", "not in this commit"]),
        of(
            "generator-by-https",
            "resources: [settings.yaml]\nconfigMapGenerator: [{name: a, files: ['https://example.org/a']}]\n",
        )
        .fails("render", &["deploy/kustomization.yaml", "configMapGenerator", "plumb fetches nothing"]),
        of("charts-by-kustomize", "resources: [settings.yaml]\nhelmCharts: [{name: a, repo: 'https://example.org'}]\n")
            .fails("render", &["deploy/kustomization.yaml", "helmCharts", "does not allow"]),
        of("kustomization-broken", "resources: [\n").fails("render", &["deploy/kustomization.yaml:", "not valid YAML"]),
        of("kustomization-a-list", "- settings.yaml\n").fails("render", &["deploy/kustomization.yaml", "one mapping"]),
        of("kustomization-twice", "resources: [settings.yaml]\n")
            .write("deploy/kustomization.yml", "resources: [settings.yaml]\n")
            .fails("render", &["deploy", "must have one"]),
        of("kustomization-unknown-field", "resources: [settings.yaml]\nresourcez: [a]\n")
            .fails("render", &["resourcez"]),
    ]
}
