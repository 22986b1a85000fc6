//! The chat, with and without a script in the browser.

use futures::StreamExt as _;
use reqwest::{Client, RequestBuilder};

use crate::scene::{Page, Scene, page};

fn by_script(scene: &Scene, form: &[(&str, &str)]) -> RequestBuilder {
    scene.ask(Client::post, "/chat").header("origin", &scene.url).header("accept", "text/event-stream").form(form)
}

async fn say(scene: &Scene, message: &str) -> Page {
    page(by_script(scene, &[("message", message), ("conversation_id", "")])).await
}

#[tokio::test]
async fn an_answer_comes_as_events() {
    let scene = Scene::signed_in().await;
    let page = say(&scene, " add milk ").await;
    assert_eq!(page.is(200).header("content-type"), "text/event-stream");
    assert_eq!(page.header("x-accel-buffering"), "no");
    assert_eq!(
        page.text,
        "event: conversation\ndata: {\"id\":\"c-1\"}\n\nevent: tool\ndata: {\"ok\":true,\"words\":\"Added a task\"}\n\n\
         event: delta\ndata: {\"text\":\"I \"}\n\nevent: delta\ndata: {\"text\":\"have \"}\n\n\
         event: delta\ndata: {\"text\":\"added \"}\n\nevent: delta\ndata: {\"text\":\"“milk”.\"}\n\nevent: done\ndata: {}\n\n"
    );
    scene.get("/").await.has(">milk</a>").has("value=\"c-1\"").has("<p>I have added “milk”.</p>");
}

#[tokio::test]
async fn each_piece_is_passed_on_when_it_is_made() {
    let scene = Scene::signed_in().await;
    let response = by_script(&scene, &[("message", "slowly now")]).send().await.unwrap();
    let mut bytes = response.bytes_stream();
    let mut read = String::new();
    for word in ["You ", "said: ", "slowly ", "now"] {
        assert!(!read.contains(word), "{read}");
        scene.backend.words.add_permits(1);
        while !read.contains(&format!("{{\"text\":\"{word}\"}}")) {
            read += std::str::from_utf8(&bytes.next().await.expect(word).unwrap()).unwrap();
        }
    }
}

#[tokio::test]
async fn a_server_that_ends_says_so_in_the_answer() {
    let scene = Scene::signed_in().await;
    let response = by_script(&scene, &[("message", "slowly now")]).send().await.unwrap();
    scene.close.send_replace(true);
    let text = response.text().await.unwrap();
    assert!(text.ends_with("event: error\ndata: {\"words\":\"The answer was interrupted, because the service is being updated. Please ask again.\"}\n\n"), "{text}");
}

#[tokio::test]
async fn an_answer_that_fails_says_so() {
    let scene = Scene::signed_in().await;
    say(&scene, "break off").await.is(200).has("data: {\"words\":\"The answer broke off. Please ask again.\"}");
    let page = say(&scene, "fail").await;
    page.is(200).has("data: {\"words\":\"The assistant is busy. Please ask again in a minute.\"}").has_not("canary");
}

#[tokio::test]
async fn without_a_script_the_page_comes_back_with_the_answer() {
    let scene = Scene::signed_in().await;
    scene.post("/chat?show=open", &[("message", "hello")]).await.leads_to("/?show=open&conversation=c-1#chat-input");
    let page = scene.get("/?conversation=c-1").await;
    page.has("data-role=\"user\"><span class=\"unseen\">You:</span><p>hello</p>");
    page.has("data-role=\"assistant\"><span class=\"unseen\">Assistant:</span><p>You said: hello</p>");
    // It goes on in the same conversation.
    scene
        .post("/chat", &[("message", "again"), ("conversation_id", "c-1")])
        .await
        .leads_to("/?conversation=c-1#chat-input");
    assert_eq!(scene.backend.world().talks[0].2.len(), 4);
}

#[tokio::test]
async fn without_a_script_a_failure_is_told_on_the_page() {
    let scene = Scene::signed_in().await;
    let page = scene.post("/chat", &[("message", "fail")]).await;
    page.is(502).has("role=\"alert\">The assistant is busy.").has("<p>fail</p>").has("value=\"c-1\"");
}

#[tokio::test]
async fn a_chat_that_is_not_set_up_says_so_and_the_rest_works() {
    let scene = Scene::signed_in().await;
    scene.backend.world().no_chat = Some((503, "chat_not_configured"));
    let words = "The chat is not set up on this server";
    let script = say(&scene, "hello").await;
    script.is(503).has(words).has_not("canary");
    let form = scene.post("/chat", &[("message", "hello")]).await;
    form.is(503).has(words).has("required>hello</textarea>").has("id=\"add-task\"");
    scene.post("/tasks", &[("title", "milk")]).await.leads_to("/#new-task");
}

#[tokio::test]
async fn whoever_asks_too_much_at_once_is_told_and_keeps_what_was_typed() {
    let scene = Scene::signed_in().await;
    scene.backend.world().no_chat = Some((429, "too_many_chats"));
    let words = "Two of your messages are still being answered";
    say(&scene, "hello").await.is(429).has(words).has_not("canary");
    let form = scene.post("/chat", &[("message", "hello")]).await;
    form.is(429).has(words).has("required>hello</textarea>");
}

#[tokio::test]
async fn the_conversation_that_changed_last_is_shown_and_others_are_listed() {
    let scene = Scene::signed_in().await;
    say(&scene, "first").await;
    say(&scene, "second").await;
    scene
        .get("/")
        .await
        .has("You said: second")
        .has_not("You said: first")
        .has("href=\"/?conversation=c-1\">first</a>");
    scene.get("/?conversation=c-1").await.has("You said: first").has_not("You said: second");
    scene.get("/?conversation=new").await.has_not("You said").has("name=\"conversation_id\" value=\"\"");
    scene.get("/?conversation=c-9").await.is(200).has_not("You said");
    scene.post("/conversations/c-2/delete", &[]).await.leads_to("/");
    scene.get("/").await.has("You said: first").has_not("second");
}
