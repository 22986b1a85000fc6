//! Sign up, sign in, sign out.

use reqwest::Client;

use crate::{
    scene::{EMAIL, PASSWORD, Scene, page},
    stand_in::StandIn,
};

#[tokio::test]
async fn whoever_is_not_signed_in_is_asked_to() {
    let scene = Scene::start().await;
    scene.get("/").await.leads_to("/signin");
    scene.get("/tasks/t-1").await.leads_to("/signin");
    scene.get("/signin").await.is(200).has("<h1>Sign in</h1>").has("id=\"email\"").has("id=\"password\"");
    scene.get("/signup").await.is(200).has("id=\"name\"");
    scene.post("/tasks", &[("title", "milk")]).await.leads_to("/signin?notice=expired");
}

#[tokio::test]
async fn a_page_lets_any_password_be_typed_that_the_backend_takes() {
    let scene = Scene::start().await;
    let backend = include_str!("../../../backend/src/auth/routes.rs");
    let bounds = "8 to 200 characters.";
    assert!(backend.contains(&format!("The password must have {bounds}")));
    scene.get("/signup").await.has(bounds);
    for path in ["/signup", "/signin"] {
        let page = scene.get(path).await;
        let field = page.text.lines().find(|line| line.contains("type=\"password\"")).unwrap();
        // A browser would cut what is longer without a word, and counts UTF-16 units: an emoji is two of them.
        assert!(!field.contains("maxlength"), "{field}");
    }
}

#[tokio::test]
async fn signing_up_gives_a_cookie_that_no_script_and_no_other_site_can_use() {
    let mut scene = Scene::start().await;
    let cookie = scene.sign_up(EMAIL).await.header("set-cookie").to_owned();
    for part in ["session=head.canary0.sign;", "HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=43"] {
        assert!(cookie.contains(part), "{part}: {cookie}");
    }
    assert!(!cookie.contains("Secure"), "{cookie}");
    scene.get("/").await.is(200).has(">Ada</p>").has_not("canary");
}

#[tokio::test]
async fn behind_https_the_cookie_is_secure() {
    let scene = Scene::signed_in().await;
    let form = [("email", EMAIL), ("password", PASSWORD)];
    let request = scene.ask(Client::post, "/signin").header("x-forwarded-proto", "https").form(&form);
    let page = page(request).await;
    assert!(page.leads_to("/").header("set-cookie").contains("; Secure"));
}

#[tokio::test]
async fn a_wrong_password_is_told_and_the_address_stays_typed() {
    let mut scene = Scene::signed_in().await;
    scene.cookie = None;
    let page = scene.post("/signin", &[("email", EMAIL), ("password", "another canary")]).await;
    page.is(401).has("do not belong together").has("value=\"ada@example.org\"").has_not("canary");
    assert_eq!(page.header("set-cookie"), "");
    scene.post("/signin", &[("email", EMAIL), ("password", PASSWORD)]).await.leads_to("/");
    // The browser checks as well; this is for whoever has no such browser.
    scene.post("/signin", &[]).await.is(401);
}

#[tokio::test]
async fn what_is_wrong_with_a_new_account_is_told() {
    let scene = Scene::signed_in().await;
    let taken = scene.post("/signup", &[("email", EMAIL), ("password", PASSWORD)]).await;
    taken.is(409).has("There is an account with this e-mail address already").has("href=\"/signin\"");
    let short = scene.post("/signup", &[("email", "b@example.org"), ("password", "short")]).await;
    short.is(422).has("role=\"alert\">The password is too short.</p>").has("value=\"b@example.org\"");
}

#[tokio::test]
async fn signing_out_drops_the_cookie() {
    let scene = Scene::signed_in().await;
    let page = scene.post("/signout", &[]).await;
    page.leads_to("/signin?notice=signed-out");
    assert!(page.header("set-cookie").starts_with("session=; ") && page.header("set-cookie").contains("Max-Age=0"));
    scene.get("/signin?notice=signed-out").await.has("You have signed out.");
    scene.get("/signin?notice=<b>").await.is(200).has_not("<b>").has_not("role=\"status\"");
}

#[tokio::test]
async fn two_installations_on_one_host_keep_their_sessions_apart() {
    async fn start(cookie: &str) -> Scene {
        let backend = StandIn::start().await;
        let url = backend.url.clone();
        Scene::named(backend, &url, cookie).await
    }
    let (mut dev, mut staging) = (start("session-todo-dev").await, start("session-todo-staging").await);
    dev.sign_up(EMAIL).await;
    // The second account of its backend: a token that dev's does not know.
    staging.sign_up("eve@example.org").await;
    staging.sign_up(EMAIL).await;
    // A browser sends a host's cookies to all its ports.
    let both = format!("{}; {}", staging.cookie.clone().unwrap(), dev.cookie.clone().unwrap());
    assert!(both.contains("session-todo-staging=head.canary1.sign; session-todo-dev=head.canary0.sign"), "{both}");
    (dev.cookie, staging.cookie) = (Some(both.clone()), Some(both));
    dev.get("/").await.is(200);
    staging.get("/").await.is(200);
    let signed_out = dev.post("/signout", &[]).await;
    assert!(signed_out.header("set-cookie").starts_with("session-todo-dev=; "), "{:?}", signed_out.headers);
    // Nor does one that has ended take the other along.
    dev.backend.world().users.clear();
    let ended = dev.get("/").await;
    assert!(ended.header("set-cookie").starts_with("session-todo-dev=; "), "{:?}", ended.headers);
    dev.cookie = staging.cookie.as_ref().and_then(|both| both.split("; ").next()).map(str::to_owned);
    dev.get("/").await.leads_to("/signin");
}

#[tokio::test]
async fn an_expired_session_leads_to_the_sign_in_with_a_note() {
    let scene = Scene::signed_in().await;
    scene.backend.world().users.clear();
    for page in [
        scene.get("/").await,
        scene.get("/tasks/t-1").await,
        scene.post("/tasks", &[("title", "milk")]).await,
        scene.post("/tasks/t-1/delete", &[]).await,
        scene.post("/chat", &[("message", "hello")]).await,
    ] {
        page.leads_to("/signin?notice=expired");
        assert!(page.header("set-cookie").contains("Max-Age=0"), "{:?}", page.headers);
    }
    scene.get("/signin?notice=expired").await.has("Your session has ended. Please sign in again.");
    let form = [("message", "hello")];
    let script = page(scene.ask(Client::post, "/chat").header("accept", "text/event-stream").form(&form)).await;
    assert_eq!((script.status.as_u16(), &*script.text), (401, "Your session has ended. Please sign in again."));
}
