//! A canary put where secrets are never shows.

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn a_compound_value_is_masked_wherever_a_secret_is_in_it() {
    for (value, shown) in [
        (
            json!([{"env": [{"name": "DB_PASSWORD", "value": "hunter2"}, {"name": "DB", "value": "db"}]}]),
            json!([{"env": [{"name": "DB_PASSWORD", "value": MASK}, {"name": "DB", "value": "db"}]}]),
        ),
        (json!({"password": {"value": "hunter2"}, "a": 1}), json!({"password": MASK, "a": 1})),
        (json!(["--password=hunter2", "-v"]), json!([format!("--password={MASK}"), "-v"])),
        (json!(["--token", "hunter2", "--port", "1"]), json!(["--token", MASK, "--port", "1"])),
        (json!(["sh", "-c", "login --token hunter2 -v"]), json!(["sh", "-c", format!("login --token {MASK}")])),
        (json!(["-c", "PASSWORD='a b' run"]), json!(["-c", format!("PASSWORD='{MASK}")])),
        (json!(r#"{"dbPassword": "hunter2"}"#), json!(format!(r#"{{"dbPassword":"{MASK}"}}"#))),
        (json!("- name: DB_PASSWORD\n  value: hunter2"), json!(format!("- name: DB_PASSWORD\n  value: {MASK}"))),
        (json!("password: |\n  hunter2"), json!(format!("password: |\n  {MASK}"))),
        (json!("amqp://ghp_x@h"), json!(format!("amqp://{MASK}@h"))),
        (json!("postgres://u:hunter2@h/d"), json!(MASK)),
    ] {
        assert_eq!(masked(&value), shown);
    }
}

#[test]
fn what_is_no_secret_is_shown() {
    for value in [
        json!([{"name": "web", "image": "example.org/auth-service:1.2", "args": ["--port=80", "-v"]}]),
        json!({"verbs": ["get"], "resources": ["secrets", "configmaps"]}),
        json!("http://token-service:8080/a"),
        json!("no token was given"),
        json!("Password:"),
        json!({"checksum": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}),
    ] {
        assert_eq!(masked(&value), value);
    }
}

#[test]
fn what_a_text_may_quote_is_known_and_names_of_secrets_are_quoted() {
    let pod = json!({"containers": [{
        "name": "auth", "image": "example.org/auth:1", "args": ["--password=hunter2 -v", "--token", "hunter3"],
        "env": [
            {"name": "DB_PASSWORD", "value": "hunter4"},
            {"name": "API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "db-credentials", "key": "password"}}},
        ],
    }], "imagePullSecrets": [{"name": "regcred"}], "volumes": [{"name": "v", "secret": {"secretName": "db-secret"}}]});
    let found = secrets_in(&pod);
    for secret in ["hunter2", "hunter3", "hunter4"] {
        assert!(found.iter().any(|text| text == secret), "{secret}: {found:?}");
    }
    for name in ["db-credentials", "regcred", "db-secret", "password", "example.org/auth:1"] {
        assert!(!found.iter().any(|text| text == name), "{name}: {found:?}");
    }
}

/// A value that no name and no chance puts anywhere else.
const CANARY: &str = "canary-9z";

fn secret_name() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "PASSWORD",
        "passwd",
        "token",
        "apiKey",
        "API_KEY",
        "jwt-secret",
        "Authorization",
        "dsn",
        "private_key",
        "pwd",
        "credentials",
        "AWS_SECRET_ACCESS_KEY",
    ]);
    ("(db_|APP-|my)?", word, "(_1|File|X)?").prop_map(|(before, word, after)| format!("{before}{word}{after}"))
}

/// Something with a secret in it.
fn secret() -> impl Strategy<Value = Value> {
    (secret_name(), 0..14u8, "[a-z ,;&]{0,6}").prop_map(|(name, form, around)| match form {
        0 => json!({name: CANARY}),
        1 => json!({name: [{"a": CANARY}]}),
        2 => json!({"name": name, "value": CANARY}),
        3 => json!({"key": name, "value": CANARY, "more": [CANARY]}),
        4 => json!([format!("--{name}={CANARY}")]),
        5 => json!([format!("--{name}"), CANARY]),
        6 => json!(format!("{around} --{name} {CANARY}{around}")),
        7 => json!(format!("{around} {name}={CANARY}{around}")),
        8 => json!(format!("{around} {name}=\"{around}{CANARY}\"")),
        9 => json!(format!("a: b\n{name}: {CANARY}\nc: d")),
        10 => json!(json!({"x": {name: CANARY}}).to_string()),
        11 => json!(format!("env:\n- name: {name}\n  value: {CANARY}\n")),
        12 => json!(format!("https://u:{CANARY}@host/{around}")),
        _ => json!(format!("-----BEGIN PRIVATE KEY-----\n{CANARY}\n")),
    })
}

fn object() -> impl Strategy<Value = Value> {
    let plain = prop_oneof![any::<i32>().prop_map(Value::from), "[ -~]{0,12}".prop_map(Value::from)];
    let leaf = prop_oneof![2 => secret(), 1 => plain];
    leaf.prop_recursive(5, 48, 5, |below| {
        prop_oneof![
            prop::collection::vec(below.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[a-f]{1,3}|name|value|env", below, 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_canary_never_shows(object in object()) {
        let shown = masked(&object).to_string();
        prop_assert!(!shown.contains("canary"), "{shown} of {object}");
    }

    #[test]
    fn any_text_is_taken(text in ".*") {
        masked_text(&text);
        secrets_in(&Value::from(text));
    }
}
