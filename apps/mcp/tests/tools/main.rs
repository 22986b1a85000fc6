//! The program as it is deployed: asked by the MCP client that the backend uses too, with a real PostgreSQL and the backend's own
//! migrations.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

#[path = "../../../support/postgres.rs"]
#[allow(dead_code, reason = "shared with tests that need all of it")]
mod postgres;

mod harness;

use harness::{SECRET, Server, token, token_of};
use reqwest::StatusCode;
use rmcp::model::CallToolRequestParams;
use serde_json::{Value, json};

#[tokio::test]
async fn the_tools_are_told_with_their_schemas() {
    let server = Server::start().await;
    let client = server.client(&token(server.user().await)).await;
    let mut tools = client.list_all_tools().await.unwrap();
    tools.sort_by(|one, other| one.name.cmp(&other.name));
    let names: Vec<&str> = tools.iter().map(|tool| &*tool.name).collect();
    assert_eq!(names, ["add_task", "complete_task", "delete_task", "list_tasks", "update_task"]);
    for tool in &tools {
        assert!(tool.description.as_deref().is_some_and(|text| text.ends_with('.')), "{tool:?}");
        assert!(tool.output_schema.is_some(), "{tool:?}");
    }
    let add = json!(tools[0].input_schema);
    assert_eq!((&add["required"], &add["properties"]["title"]["type"]), (&json!(["title"]), &json!("string")));
}

#[tokio::test]
async fn a_task_is_added_listed_changed_completed_and_deleted() {
    let server = Server::start().await;
    let client = server.client(&token(server.user().await)).await;
    let call = async |name: &str, arguments: Value| {
        let request =
            CallToolRequestParams::new(name.to_owned()).with_arguments(arguments.as_object().unwrap().clone());
        let result = client.call_tool(request).await.unwrap();
        assert_ne!(result.is_error, Some(true), "{result:?}");
        result.structured_content.unwrap()
    };
    let milk = call("add_task", json!({"title": " milk "})).await;
    assert_eq!((&milk["title"], &milk["description"], &milk["completed"]), (&json!("milk"), &json!(""), &json!(false)));
    let bread = call("add_task", json!({"title": "bread", "description": "rye"})).await;
    assert_eq!(call("list_tasks", json!({})).await, json!({"tasks": [bread, milk]}));

    let done = call("complete_task", json!({"id": milk["id"]})).await;
    assert_eq!((&done["title"], &done["completed"]), (&json!("milk"), &json!(true)));
    assert_eq!(call("list_tasks", json!({"status": "open"})).await, json!({"tasks": [bread]}));
    assert_eq!(call("list_tasks", json!({"status": "done"})).await, json!({"tasks": [done]}));

    let update = json!({"id": milk["id"], "title": "oat milk", "completed": false});
    let changed = call("update_task", update).await;
    assert_eq!((&changed["title"], &changed["completed"]), (&json!("oat milk"), &json!(false)));
    assert_eq!(call("delete_task", json!({"id": bread["id"]})).await, json!({"deleted": bread}));
    assert_eq!(call("list_tasks", json!({})).await, json!({"tasks": [changed]}));
}

#[tokio::test]
async fn another_users_tasks_are_as_good_as_absent() {
    let server = Server::start().await;
    let ada = server.client(&token(server.user().await)).await;
    let eve = server.client(&token(server.user().await)).await;
    let add =
        CallToolRequestParams::new("add_task").with_arguments(json!({"title": "secret"}).as_object().unwrap().clone());
    let task = ada.call_tool(add).await.unwrap().structured_content.unwrap();
    for name in ["complete_task", "update_task", "delete_task"] {
        let arguments = json!({"id": task["id"], "title": "mine"});
        let call = CallToolRequestParams::new(name).with_arguments(arguments.as_object().unwrap().clone());
        let result = eve.call_tool(call).await.unwrap();
        assert_eq!(result.is_error, Some(true), "{name}: {result:?}");
        assert!(result.content[0].as_text().unwrap().text.starts_with("There is no task"), "{name}");
    }
    let list = || CallToolRequestParams::new("list_tasks");
    assert_eq!(eve.call_tool(list()).await.unwrap().structured_content.unwrap(), json!({"tasks": []}));
    assert_eq!(ada.call_tool(list()).await.unwrap().structured_content.unwrap(), json!({"tasks": [task]}));
}

#[tokio::test]
async fn what_cannot_be_a_task_is_told_to_the_model() {
    let server = Server::start().await;
    let client = server.client(&token(server.user().await)).await;
    for arguments in [json!({"title": " "}), json!({"title": "x".repeat(201)}), json!({"title": "a\u{0}b"})] {
        let call = CallToolRequestParams::new("add_task").with_arguments(arguments.as_object().unwrap().clone());
        let result = client.call_tool(call).await.unwrap();
        assert_eq!(result.is_error, Some(true), "{result:?}");
        assert!(result.content[0].as_text().unwrap().text.starts_with("The title must have 1 to 200"), "{result:?}");
    }
    let call =
        CallToolRequestParams::new("complete_task").with_arguments(json!({"id": "7"}).as_object().unwrap().clone());
    let result = client.call_tool(call).await.unwrap();
    assert_eq!(result.is_error, Some(true), "{result:?}");
}

#[tokio::test]
async fn nobody_gets_in_without_a_valid_token() {
    let server = Server::start().await;
    let user = server.user().await;
    let good = token(user);
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let ask = async |token: Option<&str>| {
        let request =
            harness::http().post(&server.mcp).header("accept", "application/json, text/event-stream").json(&list);
        let request = if let Some(token) = token { request.bearer_auth(token) } else { request };
        request.send().await.unwrap().status()
    };
    assert_eq!(ask(Some(&good)).await, StatusCode::OK);
    assert_eq!(ask(None).await, StatusCode::UNAUTHORIZED);
    for bad in [
        format!("{good}x"),
        token_of(user, "another secret, of the same length!", "todo-backend", 60),
        token_of(user, SECRET, "somebody-else", 60),
        token_of(user, SECRET, "todo-backend", -60),
    ] {
        assert_eq!(ask(Some(&bad)).await, StatusCode::UNAUTHORIZED, "{bad}");
    }
}

#[tokio::test]
async fn health_names_the_database_until_it_is_migrated() {
    let server = Server::on(postgres::database()).await;
    let health = async |query: &str| {
        let response = harness::http().get(format!("{}/health{query}", server.base)).send().await.unwrap();
        (response.status(), response.json::<Value>().await.unwrap())
    };
    let (status, body) = health("").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((&body["service"], &body["checks"]), (&json!("todo-mcp"), &json!({"database": "failing"})));
    let (status, body) = health("?exclude=database").await;
    assert_eq!((status, &body["checks"]), (StatusCode::OK, &json!({})));
    assert!(!server.healthy());
    server.migrate().await;
    let (status, body) = health("").await;
    assert_eq!((status, &body["checks"]), (StatusCode::OK, &json!({"database": "ok"})));
    assert!(server.healthy());
}

#[tokio::test]
async fn it_ends_in_good_order_and_has_logged_neither_token_nor_text() {
    let server = Server::start().await;
    let token = token(server.user().await);
    let client = server.client(&token).await;
    let arguments = json!({"title": "canary-title"});
    let add = CallToolRequestParams::new("add_task").with_arguments(arguments.as_object().unwrap().clone());
    client.call_tool(add).await.unwrap();
    drop(client);
    let (status, log) = server.end();
    assert!(status.success(), "{log}");
    for canary in [SECRET, &token, "canary-title"] {
        assert!(!log.contains(canary), "{canary} is in the log:\n{log}");
    }
}
