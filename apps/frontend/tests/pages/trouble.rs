//! A backend that is away or broken.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

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
    let asked = Instant::now();
    let page = scene.get("/").await;
    assert!(asked.elapsed() >= Duration::from_millis(200), "whoever comes a moment later would have been found");
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
    // It closes each connection soon after it was opened, whatever is on it: what was kept open is dead.
    let mut scene = Scene::signed_in().await;
    let backend = scene.backend.clone();
    let (front, closing) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), backend.url.replace("http://", ""));
    let url = format!("http://{}", front.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut inward, _)) = front.accept().await {
            let to = closing.clone();
            tokio::spawn(async move {
                let mut outward = TcpStream::connect(to).await.unwrap();
                let both = tokio::io::copy_bidirectional(&mut inward, &mut outward);
                _ = tokio::time::timeout(Duration::from_millis(150), both).await;
            });
        }
    });
    let cookie = scene.cookie.take();
    scene = Scene::before(backend, &url).await;
    scene.cookie = cookie;
    for _ in 0..100 {
        scene.get("/").await.is(200);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Leads to `to`, one answer a connection: what is asked next on it is read, and the connection closed.
async fn answering_once(to: String) -> String {
    let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", front.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut inward, _)) = front.accept().await {
            let mut outward = TcpStream::connect(&to).await.unwrap();
            tokio::spawn(async move {
                let (mut asked, mut answer, mut answered) = ([0; 1 << 16], [0; 1 << 16], false);
                loop {
                    tokio::select! {
                        read = inward.read(&mut asked) => match read {
                            Ok(read @ 1..) if !answered => outward.write_all(&asked[..read]).await.unwrap(),
                            _ => return,
                        },
                        read = outward.read(&mut answer) => match read {
                            Ok(read @ 1..) => {
                                answered = true;
                                inward.write_all(&answer[..read]).await.unwrap();
                            }
                            _ => return,
                        },
                    }
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn what_does_no_more_when_it_is_done_twice_is_asked_again_when_its_connection_dies() {
    let mut scene = Scene::signed_in().await;
    let (backend, cookie) = (scene.backend.clone(), scene.cookie.take());
    for title in ["milk", "bread"] {
        backend.add(EMAIL, title);
    }
    scene = Scene::before(backend.clone(), &answering_once(backend.url.replace("http://", "")).await).await;
    scene.cookie = cookie;
    // Each of these asks the backend one thing, on the connection that is left of the one before.
    scene.get("/tasks/t-1").await.is(200);
    scene.get("/tasks/t-1").await.is(200);
    scene.post("/tasks/t-1/completed", &[("completed", "true")]).await.leads_to("/#tick-t-1");
    scene.post("/tasks/t-1", &[("title", "oat milk")]).await.leads_to("/#tasks-title");
    scene.post("/tasks/t-2/delete", &[]).await.leads_to("/#tasks-title");
    scene.post("/conversations/c-9/delete", &[]).await.leads_to("/");
    let tasks = backend.world().tasks.clone();
    assert_eq!((tasks.len(), &tasks[0].1["title"], &tasks[0].1["completed"]), (1, &"oat milk".into(), &true.into()));
    // A task might be added twice: that is not asked again. (It is on a new connection if the kept one is not back in time.)
    let mut added = 1;
    while scene.post("/tasks", &[("title", "tea")]).await.status.is_redirection() {
        added += 1;
        assert!(added < 20, "no connection died");
    }
    assert_eq!(backend.world().tasks.len(), added);
}
