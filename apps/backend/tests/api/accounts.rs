//! Users and their sessions.

use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::harness::{Backend, migrate};
use crate::postgres;

#[tokio::test]
async fn who_signs_up_can_sign_in_and_is_known() {
    let database = postgres::database();
    assert!(migrate(&database).0.success());
    let backend = Backend::on(database.clone(), &[]);
    let account = json!({"email": " Ada@Example.org", "password": "correct horse", "name": "Ada"});
    let (status, up) = backend.post("/api/auth/signup", account.clone()).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!((&up["user"]["email"], &up["user"]["name"]), (&json!("ada@example.org"), &json!("Ada")));
    let mut connection = PgConnection::connect(&database).await.unwrap();
    let (hash,): (String,) =
        sqlx::query_as("SELECT password_hash FROM users").fetch_one(&mut connection).await.unwrap();
    assert!(hash.starts_with("$argon2id$"), "{hash}");

    let (status, taken) = backend.post("/api/auth/signup", account).await;
    assert_eq!((status, &taken["error"]["code"]), (StatusCode::CONFLICT, &json!("email_taken")));

    let (status, signed_in) =
        backend.post("/api/auth/signin", json!({"email": "ada@example.org", "password": "correct horse"})).await;
    assert_eq!((status, &signed_in["user"]), (StatusCode::OK, &up["user"]));
    let me = backend.request(Method::GET, "/api/auth/me").bearer_auth(signed_in["token"].as_str().unwrap());
    assert_eq!(me.send().await.unwrap().json::<serde_json::Value>().await.unwrap(), up["user"]);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_are_told_alike() {
    let backend = Backend::start(&[]);
    backend.sign_up("ada@example.org").await;
    let mut answers = Vec::new();
    for (email, password) in [("ada@example.org", "not it"), ("eve@example.org", "a password"), ("no address", "x")] {
        answers.push(backend.post("/api/auth/signin", json!({"email": email, "password": password})).await);
    }
    assert_eq!(answers[0].0, StatusCode::UNAUTHORIZED);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

#[tokio::test]
async fn who_tries_passwords_has_to_wait_and_nobody_else() {
    let backend = Backend::start(&[]);
    for email in ["ada@example.org", "eve@example.org"] {
        backend.sign_up(email).await;
    }
    // The same for an address without an account: the answer does not tell which it is.
    for email in ["nobody@example.org", "ada@example.org"] {
        let wrong = json!({"email": email, "password": "a guess"});
        let mut statuses = Vec::new();
        for _ in 0..6 {
            statuses.push(backend.post("/api/auth/signin", wrong.clone()).await.0);
        }
        assert_eq!(statuses[..5], [StatusCode::UNAUTHORIZED; 5], "{email}");
    }
    // The sixth may have come more than a second after the fifth here: the pauses grow, so that one comes that has to wait.
    let mut answer = backend.post("/api/auth/signin", json!({"email": "ada@example.org", "password": "a guess"})).await;
    while answer.0 == StatusCode::UNAUTHORIZED {
        answer = backend.post("/api/auth/signin", json!({"email": "Ada@example.org", "password": "a guess"})).await;
    }
    assert_eq!((answer.0, &answer.1["error"]["code"]), (StatusCode::TOO_MANY_REQUESTS, &json!("too_many_attempts")));
    let right = |email| json!({"email": email, "password": "a password"});
    let refused =
        backend.request(Method::POST, "/api/auth/signin").json(&right("ada@example.org")).send().await.unwrap();
    assert!(refused.status() == StatusCode::TOO_MANY_REQUESTS && refused.headers().contains_key("retry-after"));
    assert_eq!(backend.post("/api/auth/signin", right("eve@example.org")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn so_many_may_sign_up_at_once_and_the_others_are_told_when() {
    let backend = Backend::start(&[]);
    let sign_up = async |email: String| {
        let account = json!({"email": email, "password": "a password"});
        backend.request(Method::POST, "/api/auth/signup").json(&account).send().await.unwrap()
    };
    let mistake = backend.post("/api/auth/signup", json!({"email": "ada@example.org", "password": "short"}));
    assert_eq!(mistake.await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let crowd = (0..20).map(|number| sign_up(format!("{number}@example.org")));
    let (made, refused): (Vec<_>, Vec<_>) =
        join_all(crowd).await.into_iter().partition(|answer| answer.status() == StatusCode::CREATED);
    assert!(made.len() >= 10 && !refused.is_empty(), "{} of 20 were made", made.len());
    for refused in refused {
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(refused.headers().contains_key("retry-after"));
        let answer: serde_json::Value = refused.json().await.unwrap();
        assert_eq!(answer["error"]["code"], "too_many_signups");
    }
    // Whoever has an account does not notice.
    let (email, password) = (made.into_iter().next().unwrap(), "a password");
    let email = email.json::<serde_json::Value>().await.unwrap()["user"]["email"].clone();
    let signed_in = backend.post("/api/auth/signin", json!({"email": email, "password": password})).await;
    assert_eq!(signed_in.0, StatusCode::OK);
}

#[tokio::test]
async fn accounts_that_cannot_be_are_refused_with_a_reason() {
    let backend = Backend::start(&[]);
    for body in [
        json!({"email": "ada", "password": "long enough"}),
        json!({"email": "ada@example.org", "password": "short"}),
        json!({"email": "ada@example.org", "password": "x".repeat(201)}),
        json!({"email": "ada@example.org"}),
        json!({"email": "a\u{0}da@example.org", "password": "long enough"}),
        json!({"email": "ada@example.org", "password": "long enough", "name": "n".repeat(101)}),
    ] {
        let (status, answer) = backend.post("/api/auth/signup", body).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!("invalid")),
            "{answer}"
        );
        assert!(answer["error"]["message"].is_string());
    }
    // Of characters, not of what a browser counts: each of these is two there.
    let longest = json!({"email": "ada@example.org", "password": "\u{1f600}".repeat(200)});
    assert_eq!(backend.post("/api/auth/signup", longest.clone()).await.0, StatusCode::CREATED);
    assert_eq!(backend.post("/api/auth/signin", longest).await.0, StatusCode::OK);
    let unreadable =
        backend.request(Method::POST, "/api/auth/signup").body("{").header("content-type", "application/json");
    assert_eq!(unreadable.send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    let large = backend.post("/api/auth/signup", json!({"email": "x".repeat(70_000), "password": "y"})).await;
    assert_eq!(large.0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn nothing_but_signing_in_works_without_a_valid_token() {
    let backend = Backend::start(&[]);
    let user = backend.sign_up("ada@example.org").await;
    for path in ["/api/auth/me", "/api/tasks"] {
        assert_eq!(backend.get(path).await.0, StatusCode::UNAUTHORIZED, "{path}");
        let mangled = format!("{}x", user.token);
        let request = backend.request(Method::GET, path).bearer_auth(mangled);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(user.get(path).await.0, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn a_token_that_outlives_its_user_is_nobodys() {
    let (one, other) = (Backend::start(&[]), Backend::start(&[]));
    let token = one.sign_up("ada@example.org").await.token;
    let asked = |method, path| other.request(method, path).bearer_auth(&token);
    let me = asked(Method::GET, "/api/auth/me").send().await.unwrap();
    assert_eq!(me.status(), StatusCode::UNAUTHORIZED);
    let add = asked(Method::POST, "/api/tasks").json(&json!({"title": "milk"})).send().await.unwrap();
    assert_eq!(add.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn passwords_and_tokens_are_never_logged() {
    let backend = Backend::start(&[]);
    let account = json!({"email": "ada@example.org", "password": "canary-password"});
    let (_, up) = backend.post("/api/auth/signup", account.clone()).await;
    backend.post("/api/auth/signin", account).await;
    let token = up["token"].as_str().unwrap().to_owned();
    backend.request(Method::GET, "/api/auth/me").bearer_auth(&token).send().await.unwrap();
    backend.process.terminate();
    let (_, log) = backend.process.end();
    // The log is that of the level `debug`, so that silence is no accident of the level.
    assert!(log.contains("DEBUG") && log.contains("/api/auth/signin"), "{log}");
    for canary in ["canary-password", "canary-jwt-secret", &token, "argon2id"] {
        assert!(!log.contains(canary), "{canary} is in the log:\n{log}");
    }
}
