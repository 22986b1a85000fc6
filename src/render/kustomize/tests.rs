//! Kustomizations, built by the real kubectl or kustomize.

use serde_json::json;

use crate::render::tests::{LINK, TestRepository, program, render_with, spec};
use crate::render::{Cache, Kustomize, RenderError, Rendered, Tools};
use crate::source::Snapshot;

fn tools() -> Option<Tools> {
    let kubectl = program("kubectl").map(Kustomize::Kubectl)?;
    Some(Tools { kustomize: Some(kubectl), ..Tools::default() })
}

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  key: x\n";
const BASE: (&str, &str) = ("base/kustomization.yaml", "resources: [a.yaml]\n");

fn failure(snapshot: &Snapshot, tools: &Tools) -> String {
    render_with(snapshot, &spec(json!({})), tools, &mut Cache::default()).unwrap_err().failure().to_string()
}

#[test]
fn a_kustomization_sees_its_closure_and_keeps_origins() {
    let Some(tools) = tools() else { return };
    let repository = TestRepository::new();
    let kustomization = "resources: [../base]\nnamePrefix: dev-\npatches:\n- path: patch.yaml\n  target: {kind: ConfigMap, name: a}\nsecretGenerator:\n- {name: s, files: [key=secret.txt], options: {disableNameSuffixHash: true}}\n";
    let snapshot = repository.commit(&[
        ("m/kustomization.yaml", kustomization),
        ("m/patch.yaml", "- {op: replace, path: /data/key, value: patched}\n"),
        ("m/secret.txt", "hunter22"),
        BASE,
        ("base/a.yaml", MAP),
    ]);
    let desired = render_with(&snapshot, &spec(json!({})), &tools, &mut Cache::default()).unwrap().into_desired();
    let mut shown: Vec<_> = desired.objects.iter().map(|object| format!("{} {}", object.key, object.origin)).collect();
    shown.sort();
    assert_eq!(shown, ["ConfigMap/dev/dev-a base/a.yaml", "Secret/dev/dev-s m/kustomization.yaml"]);
    let json = desired.objects.iter().map(|object| object.json.get()).collect::<String>();
    assert!(json.contains("\"patched\"") && !json.contains("config.kubernetes.io"), "{json}");
}

#[test]
fn kustomize_is_given_what_plumb_has_read() {
    let Some(tools) = tools() else { return };
    let repository = TestRepository::new();
    // kustomize's reader lets the merge replace the key before it, and takes U+2028 for the end of the comment.
    for kustomization in [
        "resources: [a.yaml]\n<<: {resources: [\"http://127.0.0.1:9/x\"]}\n",
        "resources: [a.yaml]\n# \u{2028}bases: [\"http://127.0.0.1:9/x\"]\n",
    ] {
        let snapshot = repository.commit(&[("m/kustomization.yaml", kustomization), ("m/a.yaml", MAP)]);
        let desired = render_with(&snapshot, &spec(json!({})), &tools, &mut Cache::default()).unwrap().into_desired();
        let shown: Vec<_> = desired.objects.iter().map(|object| object.key.to_string()).collect();
        assert_eq!(shown, ["ConfigMap/dev/a"], "{kustomization}");
    }
    let shown = failure(
        &repository.commit(&[(
            "m/kustomization.yaml",
            "resources: [a.yaml]\n! \"<<\": {bases: [\"http://127.0.0.1:9/x\"]}\n",
        )]),
        &tools,
    );
    assert!(shown.contains("kustomize reads the key \"<<\" as another"), "{shown}");
}

#[test]
fn the_literals_of_all_secret_generators_are_masked() {
    let mut found = Vec::new();
    let inline = "kind: SecretGenerator\nliterals: [k=three]\n";
    super::literals(
        &json!({"secretGenerator": [{"literals": ["k=one"]}], "generators": [inline, "x.yaml"]}),
        &mut found,
    );
    super::literals(
        &json!({"kind": "List", "items": [{"kind": "SecretGenerator", "literals": ["k=t=wo"]}]}),
        &mut found,
    );
    super::literals(&json!({"kind": "ConfigMapGenerator", "literals": ["k=no secret"]}), &mut found);
    assert_eq!(found, ["one", "three", "t=wo"]);
}

#[test]
fn only_a_change_in_the_closure_is_built() {
    let Some(tools) = tools() else { return };
    let repository = TestRepository::new();
    let mut cache = Cache::default();
    let mut at = |files: &[(&str, &str)]| {
        let mut all = vec![("m/kustomization.yaml", "resources: [../base]\n"), BASE];
        all.extend(files);
        render_with(&repository.commit(&all), &spec(json!({})), &tools, &mut cache)
    };
    assert!(matches!(at(&[("base/a.yaml", MAP)]), Ok(Rendered::New(_))));
    assert!(matches!(at(&[("base/a.yaml", MAP), ("base/other.yaml", "x"), ("m/x.txt", "x")]), Ok(Rendered::Same(_))));
    assert!(matches!(at(&[("base/a.yaml", &MAP.replace("key: x", "key: z"))]), Ok(Rendered::New(_))));
    assert!(at(&[("base/a.yaml", MAP), ("m/Kustomization", "")]).is_err(), "a file that came into being counts");
}

#[test]
fn what_an_environment_is_is_looked_at_with_every_commit() {
    let Some(tools) = tools() else { return };
    let repository = TestRepository::new();
    let mut cache = Cache::default();
    let mut at = |files: &[(&str, &str)]| render_with(&repository.commit(files), &spec(json!({})), &tools, &mut cache);
    let (kustomization, map) = (("m/kustomization.yaml", "resources: [a.yaml]\n"), ("m/a.yaml", MAP));
    assert!(matches!(at(&[kustomization, map]), Ok(Rendered::New(_))));
    // The tools have no helm: whoever asks for it has seen that this is a chart.
    let chart = at(&[kustomization, map, ("m/Chart.yaml", "apiVersion: v2\nname: web\nversion: 0.1.0\n")]);
    assert!(matches!(chart, Err(RenderError::Helm(_))), "{chart:?}");
    assert!(at(&[kustomization, map]).is_ok());
    assert!(at(&[map]).is_ok(), "a directory");
    assert!(matches!(at(&[map, ("m/Chart.yaml", "name: web\n")]), Err(RenderError::Helm(_))));
    assert!(at(&[map]).is_ok());
    let broken = at(&[map, ("m/kustomization.yaml", "nonsense: [a]\n")]);
    assert!(matches!(broken, Err(RenderError::Kustomize(_))), "{broken:?}");
}

#[test]
fn bad_kustomizations_name_file_and_entry() {
    let Some(tools) = tools() else { return };
    let repository = TestRepository::new();
    for (kustomization, expected) in [
        (
            "resources: [\"https://example.com/x.yaml\"]",
            "resources names \"https://example.com/x.yaml\", which is not a path in this repository",
        ),
        ("resources: [github.com/a/b]", "resources names \"github.com/a/b\""),
        ("components: [\"git@example.com:a/b\"]", "components names"),
        (
            "configMapGenerator: [{name: x, files: [\"k=http://127.0.0.1/x\"]}]",
            "configMapGenerator.files names \"http://127.0.0.1/x\"",
        ),
        ("transformers: [\"kind: T\\nfiles: ['http://127.0.0.1/x']\"]", "generator.files names \"http://127.0.0.1/x\""),
        ("resources: [a.yaml, gone.yaml]", "resources names \"gone.yaml\", which is not in this commit; correct"),
        ("resources: [../../x]", "resources names \"../../x\", which leads out of the repository"),
        ("resources: [/etc]", "resources names \"/etc\", which leads out"),
        (
            "Resources: [\"http://127.0.0.1/x\"]",
            "m/kustomization.yaml: kustomize reads the key \"Resources\" as another, or not at all; write \"resources\"",
        ),
        ("{\"resources\": [\"a.yaml\"], \"RESOURCES\": []}", "the key \"RESOURCES\" as another"),
        ("resources: [a.yaml]\ntransformers: [plugin.yaml]", "m/plugin.yaml: kustomize reads the key \"Path\""),
        (
            "resources: [a.yaml]\ngenerators: [../empty]",
            "generators names the directory \"../empty\", and has to name files",
        ),
        ("helmCharts: [{name: x}]", "helmCharts would start another program"),
        ("resources: [../empty]", "empty has 0 of kustomization.yaml"),
        ("resources: [a.yaml", "not valid YAML"),
        ("[]", "a kustomization is one mapping"),
        ("nonsense: [a]", "kustomize: "),
        ("resources: [a.yaml]\nsecretGenerator: [{name: s, envs: [secret.env]}]", "kustomize: "),
        ("resources: [link.yaml]", "symbolic link"),
    ] {
        let file = 0o100_644;
        let snapshot = repository.commit_modes(&[
            ("m/kustomization.yaml", kustomization.as_bytes(), file),
            ("m/a.yaml", MAP.as_bytes(), file),
            ("m/plugin.yaml", b"kind: PatchTransformer\nPath: http://127.0.0.1/x\n", file),
            ("m/secret.env", b"key=hunter2222\xff\n", file),
            ("m/link.yaml", b"/etc/passwd", LINK),
            ("empty/README", b"", file),
        ]);
        let shown = failure(&snapshot, &tools);
        assert!(shown.contains(expected), "{kustomization}: {shown}");
        assert!(!shown.contains("hunter2") && !shown.contains("plumb-render-"), "{shown}");
    }
}
