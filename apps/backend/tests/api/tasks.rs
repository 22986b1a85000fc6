//! Tasks.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Backend, User};

async fn titles(user: &User<'_>, query: &str) -> Vec<String> {
    let (status, body) = user.get(&format!("/api/tasks{query}")).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let title = |task: &Value| task["title"].as_str().unwrap().to_owned();
    body["tasks"].as_array().unwrap().iter().map(title).collect()
}

#[tokio::test]
async fn a_task_is_added_changed_completed_and_deleted() {
    let backend = Backend::start(&[]);
    let user = backend.sign_up("ada@example.org").await;
    let new = json!({"title": " milk ", "description": "two"});
    let (status, task) = user.ask(Method::POST, "/api/tasks", new).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(
        (&task["title"], &task["description"], &task["completed"]),
        (&json!("milk"), &json!("two"), &json!(false))
    );
    let path = format!("/api/tasks/{}", task["id"].as_str().unwrap());
    assert_eq!(user.get(&path).await, (StatusCode::OK, task.clone()));

    let (status, done) = user.ask(Method::PATCH, &path, json!({"completed": true})).await;
    assert_eq!((status, &done["title"], &done["completed"]), (StatusCode::OK, &json!("milk"), &json!(true)));
    assert!(done["updated_at"].as_str() > task["updated_at"].as_str() && done["created_at"] == task["created_at"]);
    let (_, renamed) = user.ask(Method::PATCH, &path, json!({"title": "oat milk", "description": ""})).await;
    assert_eq!(
        (&renamed["title"], &renamed["description"], &renamed["completed"]),
        (&json!("oat milk"), &json!(""), &json!(true))
    );

    let deleted = user.request(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    assert_eq!(user.get(&path).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_list_is_newest_first_and_can_be_filtered() {
    let backend = Backend::start(&[]);
    let user = backend.sign_up("ada@example.org").await;
    for title in ["one", "two", "three"] {
        user.add(title).await;
    }
    let (_, body) = user.get("/api/tasks").await;
    let two = body["tasks"][1]["id"].as_str().unwrap();
    user.ask(Method::PATCH, &format!("/api/tasks/{two}"), json!({"completed": true})).await;
    assert_eq!(titles(&user, "").await, ["three", "two", "one"]);
    assert_eq!(titles(&user, "?status=open").await, ["three", "one"]);
    assert_eq!(titles(&user, "?status=done").await, ["two"]);
    assert_eq!(user.get("/api/tasks?status=late").await.0, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn another_users_task_is_as_good_as_absent() {
    let backend = Backend::start(&[]);
    let (ada, eve) = (backend.sign_up("ada@example.org").await, backend.sign_up("eve@example.org").await);
    let path = format!("/api/tasks/{}", ada.add("secret").await);
    assert_eq!(titles(&eve, "").await, [""; 0]);
    for (method, body) in
        [(Method::GET, json!(null)), (Method::PATCH, json!({"title": "mine"})), (Method::DELETE, json!(null))]
    {
        let (status, answer) = eve.ask(method.clone(), &path, body).await;
        assert_eq!((status, &answer["error"]["code"]), (StatusCode::NOT_FOUND, &json!("not_found")), "{method}");
    }
    assert_eq!(titles(&ada, "").await, ["secret"]);
}

#[tokio::test]
async fn what_is_no_task_is_refused() {
    let backend = Backend::start(&[]);
    let user = backend.sign_up("ada@example.org").await;
    for body in [
        json!({}),
        json!({"title": " "}),
        json!({"title": "x".repeat(201)}),
        json!({"title": "a\u{0}b"}),
        json!({"title": "x", "description": "x".repeat(4001)}),
        json!({"title": "x", "colour": "red"}),
    ] {
        let (status, answer) = user.ask(Method::POST, "/api/tasks", body).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!("invalid")),
            "{answer}"
        );
    }
    let (status, answer) = user.get("/api/tasks/not-an-identifier").await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
    let (status, answer) = user.get("/api/nothing").await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
}
