//! Charts, rendered by the real helm.

use serde_json::json;

use crate::model::Desired;
use crate::render::tests::{LINK, TestRepository, program, render_with, spec};
use crate::render::{Cache, Rendered, Tools};
use crate::source::Snapshot;

const CHART: (&str, &str) = ("m/Chart.yaml", "apiVersion: v2\nname: web\nversion: 0.1.0\n");
const SUB: &str = "apiVersion: v2\nname: sub\nversion: 0.1.0\n";

fn tools() -> Option<Tools> {
    program("helm").map(|helm| Tools { helm: Some(helm), ..Tools::default() })
}

fn template(text: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  key: {text}\n")
}

fn shown(desired: &Desired) -> Vec<String> {
    desired.objects.iter().map(|object| format!("{} {}", object.key, object.origin)).collect()
}

#[test]
fn a_chart_is_rendered_as_the_environments_release() {
    let Some(tools) = tools() else { return };
    let repository = TestRepository::new();
    let crd = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.x.dev}\nspec: {group: x.dev, scope: Namespaced, names: {kind: Thing}}\n";
    let hook = |name: &str, event: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, annotations: {{helm.sh/hook: {event}}}}}\n")
    };
    let facts = template(
        "\"{{ .Release.Name }} {{ .Release.Namespace }} {{ .Release.IsUpgrade }} {{ .Capabilities.KubeVersion }} {{ .Capabilities.APIVersions.Has \"apps/v1/Deployment\" }} {{ .Values.one }}{{ .Values.two }}\"",
    );
    let snapshot = repository.commit(&[
        CHART,
        ("m/values.yaml", "one: chart\ntwo: chart\n"),
        ("e/one.yaml", "one: first\ntwo: first\n"),
        ("e/two.yaml", "two: second\n"),
        ("m/crds/thing.yaml", crd),
        ("m/templates/a.yaml", &facts),
        ("m/templates/hook.yaml", &hook("pre", "pre-install")),
        ("m/templates/test.yaml", &hook("test", "test")),
        ("m/templates/delete.yaml", &hook("delete", "pre-delete")),
        (
            "m/templates/thing.yaml",
            "apiVersion: x.dev/v1\nkind: Thing\nmetadata:\n  name: t\n  annotations:\nspec: {}\n",
        ),
        ("m/templates/NOTES.txt", "{{ .Release.Name }}"),
        ("m/charts/sub/Chart.yaml", "apiVersion: v2\nname: sub\nversion: 0.1.0\n"),
        ("m/charts/sub/templates/s.yaml", "apiVersion: v1\nkind: Service\nmetadata:\n  name: s\n"),
    ]);
    let spec = spec(json!({
        "values": ["e/one.yaml", "e/two.yaml"],
        "allow": {"clusterScoped": ["apiextensions.k8s.io/CustomResourceDefinition"]},
    }));
    let desired = render_with(&snapshot, &spec, &tools, &mut Cache::default()).unwrap().into_desired();
    let mut shown = shown(&desired);
    shown.sort();
    assert_eq!(
        shown,
        [
            "ConfigMap/dev/a m/templates/a.yaml",
            "ConfigMap/dev/pre m/templates/hook.yaml",
            "CustomResourceDefinition/things.x.dev m/crds/thing.yaml",
            "Service/dev/s m/charts/sub/templates/s.yaml",
            "Thing/dev/t m/templates/thing.yaml",
        ]
    );
    let map = desired.objects.iter().find(|object| &*object.key.name == "a").unwrap();
    assert!(map.json.get().contains("dev dev false v1.36.3 true firstsecond"), "{}", map.json.get());
}

#[test]
fn only_a_changed_chart_or_values_file_is_rendered() {
    let Some(tools) = tools() else { return };
    let repository = TestRepository::new();
    let map = template("{{ .Values.v | quote }}");
    let spec = spec(json!({"values": ["e/v.yaml"]}));
    let mut cache = Cache::default();
    let mut at = |value: &str, other: &str| {
        let snapshot = repository.commit(&[CHART, ("m/templates/a.yaml", &map), ("e/v.yaml", value), ("x", other)]);
        render_with(&snapshot, &spec, &tools, &mut cache).unwrap()
    };
    assert!(matches!(at("v: 1", "1"), Rendered::New(_)));
    assert!(matches!(at("v: 1", "2"), Rendered::Same(_)));
    assert!(matches!(at("v: 2", "2"), Rendered::New(_)));
}

#[test]
fn what_tells_the_time_is_not_repeatable() {
    let Some(tools) = tools() else { return };
    let repository = TestRepository::new();
    let rolls = template("{{ now | unixEpoch | quote }}");
    let refused = "m/templates/a.yaml renders differently each time";
    let shown = failure(&repository.commit(&[CHART, ("m/templates/a.yaml", &rolls)]), json!({}), &tools);
    assert!(shown.contains(refused), "{shown}");
    // By a value that is made a template.
    let files =
        [CHART, ("m/templates/a.yaml", &*template("{{ tpl .Values.at . | quote }}")), ("v.yaml", "at: '{{ now }}'\n")];
    let shown = failure(&repository.commit(&files), json!({"values": ["v.yaml"]}), &tools);
    assert!(shown.contains(refused), "{shown}");
    // In what is not rendered it does nothing.
    let quiet = template("{{ if .Values.roll }}{{ now | unixEpoch }}{{ else }}x{{ end }}");
    let snapshot = repository.commit(&[CHART, ("m/templates/a.yaml", &quiet)]);
    render_with(&snapshot, &spec(json!({})), &tools, &mut Cache::default()).unwrap();
}

#[test]
fn a_packed_chart_may_tell_the_time_too() {
    let Some(tools) = tools() else { return };
    let repository = TestRepository::new();
    let rolls = template("{{ now | unixEpoch | quote }}");
    let packed = packed(&[("sub/Chart.yaml", SUB.as_bytes()), ("sub/templates/a.yaml", rolls.as_bytes())]);
    let snapshot = repository
        .commit_modes(&[(CHART.0, CHART.1.as_bytes(), 0o100_644), ("m/charts/sub-0.1.0.tgz", &packed, 0o100_644)]);
    let shown = failure(&snapshot, json!({}), &tools);
    assert!(shown.contains("sub/templates/a.yaml renders differently each time"), "{shown}");
}

#[test]
fn bad_charts_name_the_template_and_hide_secrets() {
    let Some(tools) = tools() else { return };
    let repository = TestRepository::new();
    let good = template("x");
    let schema = r#"{"properties": {"password": {"type": "string", "pattern": "^a$"}}}"#;
    let remote = r#"{"properties": {"a": {"$ref": "http://127.0.0.1/x.json"}}}"#;
    let dependent = format!(
        "{}dependencies:\n- {{name: redis, version: 1, repository: \"https://charts.example.com\"}}\n",
        CHART.1
    );
    let values = json!({"values": ["v.yaml"]});
    for (files, more, expected) in [
        (vec![("m/templates/a.yaml", "kind: A\nx: {{ .Values.a.b.c }}\n")], json!({}), "m/templates/a.yaml:2: helm: "),
        (vec![("m/templates/a.yaml", "x: {{ if }}\n")], json!({}), "m/templates/a.yaml:1: helm: parse error"),
        (
            vec![("m/templates/a.yaml", "x: {{ fail \"boo\" }}\n")],
            json!({}),
            "m/templates/a.yaml:1: helm: execution error",
        ),
        (vec![("m/templates/a.yaml", "x: 1\n\ty: 1\n")], json!({}), "m/templates/a.yaml: "),
        (
            vec![("m/templates/a.yaml", "x: 1\nx: 2\n")],
            json!({}),
            "m/templates/a.yaml: the output of m/templates/a.yaml: the key",
        ),
        (vec![("m/templates/a.yaml", "data: 1\n")], json!({}), "m/templates/a.yaml: apiVersion is missing"),
        (
            vec![("m/templates/a.yaml", &good), ("m/templates/b.yaml", "x: {{ randAlphaNum 20 }}\n")],
            json!({}),
            "m/templates/b.yaml: m/templates/b.yaml renders differently each time; give what is random",
        ),
        (vec![], json!({}), "\"m\" renders to no object at all"),
        (vec![], values.clone(), "\"v.yaml\", which the environment's spec.values names, is not in this commit"),
        (vec![("v.yaml", "a: 1\nb: 2\na: 3\n")], values.clone(), "v.yaml:3: column 1: the key \"a\" stands twice"),
        (vec![("v.yaml", "[1]\n")], values.clone(), "v.yaml: v.yaml: a values file is a mapping"),
        (
            vec![("m/values.schema.json", schema), ("v.yaml", "password: hunter2\n")],
            values.clone(),
            "helm: values don't meet the specifications of the schema(s)",
        ),
        (
            vec![
                ("m/templates/a.yaml", "x: {{ fail .Values.db.password }}\n"),
                ("v.yaml", "db: {password: hunter2}\n"),
            ],
            values,
            "m/templates/a.yaml:1: helm: execution error",
        ),
        (
            vec![("m/values.schema.json", remote)],
            json!({}),
            "m/values.schema.json: m/values.schema.json: the schema refers to",
        ),
        (
            vec![("m/Chart.yaml", &*dependent)],
            json!({}),
            "m/Chart.yaml: m/Chart.yaml: the dependency \"redis\" is not in charts/",
        ),
    ] {
        let mut all = vec![CHART];
        all.extend(files);
        let all: std::collections::BTreeMap<_, _> = all.into_iter().collect();
        let snapshot = repository.commit(&all.into_iter().collect::<Vec<_>>());
        let shown = failure(&snapshot, more, &tools);
        assert!(shown.starts_with(expected), "{expected}: {shown}");
        assert!(!shown.contains("hunter2") && !shown.contains("plumb-render-"), "{shown}");
    }
}

/// A chart as `helm package` makes it.
pub(super) fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut packed = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        packed.append_data(&mut header, path, *bytes).unwrap();
    }
    packed.into_inner().unwrap().finish().unwrap()
}

fn failure(snapshot: &Snapshot, more: serde_json::Value, tools: &Tools) -> String {
    render_with(snapshot, &spec(more), tools, &mut Cache::default()).unwrap_err().failure().to_string()
}

#[test]
fn a_chart_reaches_nothing_outside_of_it() {
    let Some(tools) = tools() else { return };
    let repository = TestRepository::new();
    let files = |link: (&'static str, &'static [u8])| {
        repository.commit_modes(&[
            (CHART.0, CHART.1.as_bytes(), 0o100_644),
            ("m/templates/a.yaml", b"x: {{ .Files.Get \"secret\" | quote }}\n", 0o100_644),
            (link.0, link.1, LINK),
        ])
    };
    for link in [("m/secret", &b"/etc/passwd"[..]), ("m/secret", b"../../../etc/passwd"), ("m/x/y", b"/")] {
        let shown = failure(&files(link), json!({}), &tools);
        assert!(shown.contains("is a symbolic link that leads out"), "{shown}");
    }
    let none = failure(&repository.commit(&[CHART]), json!({}), &Tools::default());
    assert!(none.starts_with("\"m\" is a Helm chart, and there is no helm program; install helm"), "{none}");
}

#[test]
fn the_schema_of_a_packed_chart_is_looked_at() {
    let Some(tools) = tools() else { return };
    let repository = TestRepository::new();
    let schema = r#"{"$ref": "https://example.com/x.json"}"#;
    let packed = packed(&[("sub/Chart.yaml", SUB.as_bytes()), ("sub/values.schema.json", schema.as_bytes())]);
    let snapshot = repository
        .commit_modes(&[(CHART.0, CHART.1.as_bytes(), 0o100_644), ("m/charts/sub-0.1.0.tgz", &packed, 0o100_644)]);
    let shown = failure(&snapshot, json!({}), &tools);
    assert!(shown.starts_with("m/charts/sub-0.1.0.tgz: ") && shown.contains("https://example.com/x.json"), "{shown}");
}

#[test]
fn a_chart_is_no_link() {
    let Some(tools) = tools() else { return };
    let repository = TestRepository::new();
    let remote = br#"{"$ref": "http://127.0.0.1:9/x.json"}"#;
    for (link, target) in [
        ("m/values.schema.json", "files/schema.json"),
        ("m/charts", "files"),
        ("m/charts/sub", "../files/sub"),
        ("m/charts/sub-1.tgz", "../files/sub-1.tgz"),
        ("m/charts/real/values.schema.json", "../../files/schema.json"),
    ] {
        let mut files = vec![
            (CHART.0, CHART.1.as_bytes(), 0o100_644),
            ("m/files/schema.json", remote, 0o100_644),
            ("m/files/sub/Chart.yaml", SUB.as_bytes(), 0o100_644),
            ("m/files/sub/values.schema.json", remote, 0o100_644),
            (link, target.as_bytes(), LINK),
        ];
        if link.starts_with("m/charts/real") {
            files.push(("m/charts/real/Chart.yaml", SUB.as_bytes(), 0o100_644));
        }
        let shown = failure(&repository.commit_modes(&files), json!({}), &tools);
        assert!(
            shown.starts_with(&format!("{link}: {link} is a symbolic link, which Helm would follow; put")),
            "{shown}"
        );
    }
}

#[test]
fn values_may_be_a_link_in_the_chart() {
    let Some(tools) = tools() else { return };
    let repository = TestRepository::new();
    let map = template("{{ .Values.word }}");
    let rendered = |target: &[u8]| {
        let snapshot = repository.commit_modes(&[
            (CHART.0, CHART.1.as_bytes(), 0o100_644),
            ("m/templates/a.yaml", map.as_bytes(), 0o100_644),
            ("m/files/base.yaml", b"word: based", 0o100_644),
            ("m/values.yaml", target, LINK),
        ]);
        render_with(&snapshot, &spec(json!({})), &tools, &mut Cache::default())
    };
    let desired = rendered(b"files/base.yaml").unwrap().into_desired();
    assert!(desired.objects[0].json.get().contains("based"), "{}", desired.objects[0].json.get());
    for outside in [&b"/etc/passwd"[..], b"../other.yaml"] {
        assert!(rendered(outside).is_err());
    }
}

#[test]
fn charts_in_packed_charts_are_rendered() {
    let Some(tools) = tools() else { return };
    let repository = TestRepository::new();
    let map = template("{{ .Chart.Name }}");
    let inner =
        packed(&[("in/Chart.yaml", SUB.replace("sub", "in").as_bytes()), ("in/templates/a.yaml", map.as_bytes())]);
    let packed = packed(&[("sub/Chart.yaml", SUB.as_bytes()), ("sub/charts/in-0.1.0.tgz", &inner)]);
    let snapshot = repository
        .commit_modes(&[(CHART.0, CHART.1.as_bytes(), 0o100_644), ("m/charts/sub-0.1.0.tgz", &packed, 0o100_644)]);
    let desired = render_with(&snapshot, &spec(json!({})), &tools, &mut Cache::default()).unwrap().into_desired();
    assert_eq!(desired.objects.len(), 1);
    assert!(desired.objects[0].json.get().contains("\"key\":\"in\""), "{}", desired.objects[0].json.get());
}
