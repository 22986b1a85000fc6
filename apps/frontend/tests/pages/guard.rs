//! What holds for every answer and every form.

use reqwest::Client;

use crate::scene::{Scene, page};

#[tokio::test]
async fn every_answer_is_guarded() {
    let scene = Scene::signed_in().await;
    for path in ["/", "/signin", "/static/app.js", "/static/style.css", "/static/no", "/nothing", "/health", "/tasks/x"]
    {
        let page = scene.get(path).await;
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{path}");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("form-action 'self'"), "{path}");
        assert_eq!(page.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(page.header("referrer-policy"), "same-origin", "{path}");
    }
    assert_eq!(scene.get("/").await.header("cache-control"), "no-store");
}

#[tokio::test]
async fn a_form_of_another_site_does_nothing() {
    let scene = Scene::signed_in().await;
    let form = [("title", "milk")];
    for (name, value) in [("origin", "http://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
        let page = page(scene.ask(Client::post, "/tasks").header(name, value).form(&form)).await;
        page.is(403).has("another site");
        assert!(page.header("content-security-policy").contains("'none'"));
    }
    assert!(scene.backend.world().tasks.is_empty());
    scene.post("/tasks", &form).await.leads_to("/#new-task");
}

#[tokio::test]
async fn nothing_endless_is_read() {
    let scene = Scene::signed_in().await;
    scene.post("/tasks", &[("title", &"x".repeat(70_000))]).await.is(413).has("<h1>").has("too long");
    assert!(scene.backend.world().tasks.is_empty());
}

#[tokio::test]
async fn a_browser_that_has_a_file_is_told_so() {
    let scene = Scene::start().await;
    for (path, kind) in [("/static/app.js", "text/javascript"), ("/static/icon.svg", "image/svg+xml")] {
        let first = scene.get(path).await;
        assert!(first.is(200).header("content-type").starts_with(kind));
        let again = page(scene.ask(Client::get, path).header("if-none-match", first.header("etag"))).await;
        assert!(again.is(304).text.is_empty());
        page(scene.ask(Client::get, path).header("if-none-match", "\"old\"")).await.is(200);
    }
}
