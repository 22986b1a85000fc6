//! Tasks by plain forms.

use crate::scene::Scene;

#[tokio::test]
async fn a_task_is_added_done_changed_and_deleted() {
    let scene = Scene::signed_in().await;
    scene.get("/").await.has("Nothing to do yet").has_not("<li data-id=");
    scene.post("/tasks", &[("title", " Buy milk ")]).await.leads_to("/#new-task");
    scene
        .get("/")
        .await
        .has("<li data-id=\"t-1\" data-completed=\"false\">")
        .has(">Buy milk</a>")
        .has("1 task, 1 to do");

    scene.post("/tasks/t-1/completed?show=open", &[("completed", "true")]).await.leads_to("/?show=open#tick-t-1");
    scene.get("/").await.has("aria-checked=\"true\"").has("1 task, 0 to do");
    scene.get("/?show=open").await.has("Everything is done.").has_not("<li data-id=");
    scene.get("/?show=done").await.has("<li data-id=\"t-1\"").has("1 task done");
    scene.post("/tasks/t-1/completed", &[("completed", "false")]).await.leads_to("/#tick-t-1");
    scene.get("/?show=done").await.has("Nothing is done yet.");

    scene.get("/tasks/t-1").await.is(200).has("value=\"Buy milk\"");
    let form = [("title", "Buy oat milk"), ("description", "two\r\nlitres")];
    scene.post("/tasks/t-1?show=open", &form).await.leads_to("/?show=open#tasks-title");
    assert_eq!(scene.backend.world().tasks[0].1["description"], "two\nlitres");
    scene.get("/").await.has(">Buy oat milk</a>").has("<p class=\"muted\">two\nlitres</p>");

    scene.post("/tasks/t-1/delete", &[]).await.leads_to("/#tasks-title");
    scene.get("/").await.has("Nothing to do yet");
    scene.post("/tasks/t-1/delete", &[]).await.leads_to("/#tasks-title");
}

#[tokio::test]
async fn what_was_typed_wrong_is_told_where_it_was_typed_and_stays() {
    let scene = Scene::signed_in().await;
    let page = scene.post("/tasks?show=open", &[("title", "  ")]).await;
    page.is(422)
        .has("id=\"task-error\" role=\"alert\">The title must not be empty.")
        .has("aria-describedby=\"task-error\"");
    scene.post("/tasks", &[("title", "milk")]).await;
    let page = scene.post("/tasks/t-1", &[("title", ""), ("description", "two litres")]).await;
    page.is(422).has("The title must not be empty.").has(">two litres</textarea>").has("<h1>Edit task</h1>");
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let scene = Scene::signed_in().await;
    scene.get("/tasks/t-9").await.is(404).has("no longer there");
    scene.post("/tasks/t-9/completed", &[("completed", "true")]).await.is(404).has("no longer there");
    scene.get("/nothing").await.is(404).has("There is nothing at this address.");
    scene.get("/tasks").await.is(404);
    for id in ["..%2Fconversations", "a%3Fb", "%00", "%ff", "ä"] {
        scene.get(&format!("/tasks/{id}")).await.is(404).has("There is nothing at this address.");
    }
    scene.post("/tasks/t-9/completed", &[("completed", "perhaps")]).await.is(422).has("could not be read");
}

#[tokio::test]
async fn somebody_else_has_other_tasks() {
    let mut scene = Scene::signed_in().await;
    scene.post("/tasks", &[("title", "Ada's own")]).await;
    scene.sign_up("bob@example.org").await;
    scene.get("/").await.has("Nothing to do yet").has_not("own");
    scene.post("/tasks/t-1/completed", &[("completed", "true")]).await.is(404);
}

#[tokio::test]
async fn what_people_type_is_text() {
    let scene = Scene::signed_in().await;
    let title = "<script>alert(1)</script>\" onfocus=\"alert(2) & 'x'";
    scene.post("/tasks", &[("title", title)]).await.leads_to("/#new-task");
    scene.post("/chat", &[("message", title)]).await;
    for path in ["/", "/tasks/t-1"] {
        scene.get(path).await.is(200).has_not("<script>alert").has_not("\" onfocus");
    }
}
