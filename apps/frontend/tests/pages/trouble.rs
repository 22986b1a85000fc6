//! A backend that is away or broken.

use tokio::net::TcpListener;

use crate::{
    scene::{EMAIL, PASSWORD, Scene},
    stand_in::StandIn,
};

#[tokio::test]
async fn a_backend_that_is_away_is_told_in_words() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut scene = Scene::before(StandIn::start().await, &format!("http://{nobody}")).await;
    let page = scene.post("/signin", &[("email", EMAIL), ("password", PASSWORD)]).await;
    page.is(503).has("can&#39;t be reached at the moment").has("value=\"ada@example.org\"").has_not("canary");
    scene.cookie = Some("session=a.b.c".to_owned());
    let page = scene.get("/").await;
    page.is(503).has("can&#39;t be reached at the moment").has_not("127.0.0.1");
    // Still signed in, once the backend is there again.
    assert_eq!(page.header("set-cookie"), "");
    // Or Kubernetes would take away the one who can say so.
    scene.get("/health").await.is(200).has("\"status\":\"ok\"").has("\"service\":\"todo-frontend\"");
}

#[tokio::test]
async fn a_broken_backend_is_told_in_words_that_give_nothing_away() {
    let scene = Scene::signed_in().await;
    scene.backend.world().broken = Some("postgres://app:canary@db/todo: connection refused".to_owned());
    for page in [scene.get("/").await, scene.post("/tasks", &[("title", "milk")]).await] {
        page.is(502).has("has a problem at the moment").has_not("canary");
    }
    scene.backend.world().broken = None;
    scene.get("/").await.is(200);
}

#[tokio::test]
async fn a_backend_that_is_replaced_between_two_pages_is_not_noticed() {
    // It answers once on each connection, and closes it: what was kept open is dead.
    let mut scene = Scene::signed_in().await;
    let backend = scene.backend.clone();
    let (front, closing) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), backend.url.replace("http://", ""));
    let url = format!("http://{}", front.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut inward, _)) = front.accept().await {
            let to = closing.clone();
            tokio::spawn(async move {
                let mut outward = tokio::net::TcpStream::connect(to).await.unwrap();
                let both = tokio::io::copy_bidirectional(&mut inward, &mut outward);
                _ = tokio::time::timeout(std::time::Duration::from_millis(30), both).await;
            });
        }
    });
    let cookie = scene.cookie.take();
    scene = Scene::before(backend, &url).await;
    scene.cookie = cookie;
    for _ in 0..50 {
        scene.get("/").await.is(200);
    }
}
