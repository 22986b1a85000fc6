//! No error, however it comes about, shows the value of a Secret: not in the log, the status, the Events or what the verbs print.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};
use plumb::model::Environment;

use super::stand::{PATIENCE, definition, definition_file, wait_ended};
use crate::harness::{Change, Plumb, TestEnv};

/// Looked for as it is, and in base64 at any offset.
const CANARY: &str = "canary-sings-in-the-deep-mine-4711";

/// A Secret's manifest after `metadata`, and whether it is good.
const SECRETS: &[(&str, &str)] = &[
    ("good", "stringData: {token: CANARY, quoted: \"a \\\"CANARY\\\"\\nb\"}"),
    ("no-base64", "data: {token: CANARY}"),
    ("base64-cut", "data: {token: BASE64x}"),
    ("unknown-field", "dataz: {token: CANARY}"),
    ("list-for-mapping", "data: [CANARY]"),
    ("mapping-for-text", "stringData: {token: {inner: CANARY}}"),
    ("text-for-mapping", "data: CANARY"),
    ("null-beside", "stringData: {token: CANARY, other: }"),
    ("key-twice", "stringData: {token: CANARY, token: CANARY}"),
    ("odd-key", "stringData: {'not a key!': CANARY}"),
    ("docker-config", "type: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: 'CANARY {'}"),
    ("certificate-alone", "type: kubernetes.io/tls\nstringData: {tls.crt: CANARY}"),
    ("immutable-is-text", "immutable: CANARY\nstringData: {token: CANARY}"),
    ("unclosed", "stringData: {token: \"CANARY"),
    ("bad-indentation", "stringData:\n  token: CANARY\n other: CANARY"),
    ("tab", "stringData:\n\ttoken: CANARY"),
    ("wrong-tag", "stringData: {token: !!int CANARY}"),
    ("foreign-tag", "stringData: {token: !vault CANARY}"),
    ("bad-merge", "stringData: {<<: CANARY}"),
    ("unknown-alias", "stringData: {token: CANARY, other: *nothing}"),
    ("two-megabytes", "stringData: {token: CANARY, filler: FILLER}"),
    ("other-namespace", "  namespace: kube-system\nstringData: {token: CANARY}"),
    ("annotation", "  annotations: {plumb.dev/replace: CANARY}\nstringData: {token: CANARY}"),
];

/// Templates of a chart whose values file holds the canary, and the values.
const CHARTS: &[(&str, &str, &str)] = &[
    ("chart-good", "stringData: {token: {{ .Values.token | quote }}}", "token: CANARY"),
    ("chart-fails", "{{ fail (printf \"bad token %s\" .Values.token) }}", "token: CANARY"),
    ("chart-fails-encoded", "{{ fail (printf \"bad token %s\" (b64enc .Values.token)) }}", "token: CANARY"),
    ("chart-no-yaml", "stringData: {token: {{ .Values.token }}", "token: CANARY"),
    ("chart-no-number", "stringData: {token: {{ .Values.token | mustRegexFind 1 }}}", "token: CANARY"),
    ("chart-key-twice", "stringData: {token: {{ .Values.token }}, token: {{ .Values.token }}}", "token: CANARY"),
    ("chart-against-schema", "stringData: {token: a}", "token: a\npassword: CANARY"),
    ("chart-against-pattern", "stringData: {token: a}", "token: a\nkey: CANARY"),
    ("chart-values-broken", "stringData: {token: a}", "token: \"CANARY"),
    ("chart-refused", "type: kubernetes.io/dockerconfigjson\ndata: {a: {{ b64enc .Values.token }}}", "token: CANARY"),
];
/// A password is a number here, and a key is digits.
const SCHEMA: &str = r#"{"properties": {"password": {"type": "number"}, "key": {"pattern": "^[0-9]+$"}}}"#;

fn chart(template: &str, values: &str) -> Vec<(PathBuf, Change)> {
    let files = [
        ("deploy/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n".to_owned()),
        ("deploy/values.schema.json", SCHEMA.to_owned()),
        ("deploy/templates/credentials.yaml", manifest(template)),
        ("deploy/values.yaml", values.replace("CANARY", CANARY)),
    ];
    files.into_iter().map(|(file, text)| (file.into(), text.into())).collect()
}

fn manifest(rest: &str) -> String {
    let rest = rest.replace("CANARY", CANARY).replace("BASE64", &BASE64.encode(CANARY));
    let rest = rest.replace("FILLER", &"x".repeat(2 << 20));
    format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: credentials\n{rest}\n")
}

/// The forms in which a value could stand somewhere.
fn forms() -> Vec<String> {
    // In base64 a text looks different for each of three offsets; what is the same whatever stands around it.
    let inner = |offset: usize| {
        let encoded = BASE64.encode(format!("{}{CANARY}", "\0".repeat(offset)));
        encoded[4..encoded.len() - 4].to_owned()
    };
    [CANARY.to_owned()].into_iter().chain((0..3).map(inner)).collect()
}

fn assert_silent(place: &str, text: &str) {
    for form in forms() {
        if let Some(at) = text.find(&form) {
            let from = text[..at].char_indices().rev().nth(200).map_or(0, |(index, _)| index);
            panic!("{place} shows a Secret's value: {}", &text[from..at + form.len()]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_error_shows_a_secret() {
    let env = TestEnv::new("canary").await;
    crate::scene::install_crd(&env).await;
    let file = PathBuf::from("deploy/credentials.yaml");
    let changes = |rest: &str| [(file.clone(), Change::from(manifest(rest)))];
    // Each twice: as the first commit, which is applied object by object, and as a later one, which passes the gates.
    let mut wanted = Vec::new();
    let mut definitions = Vec::new();
    for (case, rest) in SECRETS {
        for (suffix, first) in [("1", *rest), ("2", SECRETS[0].1)] {
            let name = env.name(&format!("{case}-{suffix}"));
            let commit = env.repository().commit(&name, changes(first));
            definitions.push((definition_file(&name), Change::from(definition(&name, "deploy", ""))));
            let outcome = if suffix == "1" && *case != "good" { "Failed" } else { "Deployed" };
            wanted.push((name, commit, *rest, outcome));
        }
    }
    for (case, template, values) in CHARTS {
        let name = env.name(case);
        let commit = env.repository().commit(&name, chart(template, values));
        definitions.push((definition_file(&name), Change::from(definition(&name, "deploy", ""))));
        wanted.push((name, commit, "", if *case == "chart-good" { "Deployed" } else { "Failed" }));
    }
    env.repository().commit("main", definitions);
    let repository = env.repository().path();
    let repository = repository.to_str().unwrap();
    let mut plumb = Plumb::spawn(env.kubeconfig(), ["run", "--repo", repository, "--log", "debug"]);
    for outcome in ["Deployed", "Failed"] {
        let those = wanted.iter().filter(|(.., wanted)| *wanted == outcome);
        wait_ended(&env, those.map(|(name, commit, ..)| (&**name, *commit)), outcome).await;
    }
    let later = |(name, _, rest, _): &(String, git2::Oid, &str, &str)| {
        (name.clone(), env.repository().commit(name, changes(rest)))
    };
    let bad = wanted.iter().filter(|(name, _, _, outcome)| *outcome == "Deployed" && !name.contains("good"));
    let later: Vec<(String, git2::Oid)> = bad.map(later).collect();
    wait_ended(&env, later.iter().map(|(name, commit)| (&**name, *commit)), "Failed").await;

    assert_silent("the log", &plumb.log().join("\n"));
    let environments: Api<Environment> = Api::all(env.admin());
    let stands = environments.list(&ListParams::default()).await.unwrap();
    assert_silent("an Environment", &serde_json::to_string(&stands.items).unwrap());
    let events: Api<Event> = Api::namespaced(env.admin(), "default");
    let events = events.list(&ListParams::default()).await.unwrap();
    assert_silent("an Event", &serde_json::to_string(&events.items).unwrap());
    assert!(plumb.terminate(PATIENCE).await.success());

    for case in ["good", "no-base64", "docker-config", "odd-key", "unclosed"] {
        for verb in [&["plan"] as &[&str], &["plan", "-o", "json"], &["render"], &["render", "-o", "json"], &["status"]]
        {
            let name = env.name(&format!("{case}-1"));
            let arguments = [&[verb[0], &*name, "--repo", repository, "--log", "debug"], &verb[1..]].concat();
            let mut run = Plumb::spawn(env.kubeconfig(), arguments);
            run.wait(PATIENCE).await;
            let output = run.output().await;
            assert!(!output.is_empty());
            assert_silent(&format!("plumb {} {case}", verb.join(" ")), &output);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_repositorys_password_is_shown_nowhere() {
    let env = TestEnv::new("password").await;
    // Nobody listens there. The name of the installation, which goes into annotations and Events, is in the log, too.
    let repository = format!("https://{CANARY}:at@{CANARY}@127.0.0.1:9/repo.git");
    let start = |arguments: &[&str]| {
        Plumb::spawn_with(env.kubeconfig(), arguments, |command| {
            command.env("PLUMB_REPO", &repository).env("PLUMB_GIT_USERNAME", CANARY).env_remove("POD_NAMESPACE");
        })
    };
    let mut plumb = start(&["run", "--log", "debug"]);
    let line = plumb.wait_for_log(|line| line.contains("plumb starts"), PATIENCE).await;
    assert!(line.contains(":https://127.0.0.1:9/repo.git") && line.contains("=https://127.0.0.1:9/repo.git"), "{line}");
    plumb.wait_for_log(|line| line.contains("cannot fetch from https://127.0.0.1:9/repo.git"), PATIENCE).await;
    plumb.terminate(PATIENCE).await;
    assert_silent("the log", &plumb.output().await);
    for arguments in [&["--help"] as &[&str], &["run", "--help"], &["plan", "-h"], &["plan", "dev"]] {
        let mut plumb = start(arguments);
        plumb.wait(PATIENCE).await;
        let said = plumb.output().await;
        assert!(said.contains("PLUMB_REPO") || said.contains("cannot fetch from"), "{said}");
        assert_silent(&format!("plumb {}", arguments.join(" ")), &said);
    }
}
