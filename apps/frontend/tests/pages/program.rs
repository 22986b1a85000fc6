//! The program itself: how it starts, what it writes down, how it ends.

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use reqwest::Client;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, ChildStdout, Command},
};

use crate::{
    scene::{EMAIL, PASSWORD, client},
    stand_in::StandIn,
};

struct Program {
    child: Child,
    log: BufReader<ChildStdout>,
    url: String,
    told: String,
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_todo-frontend"));
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

impl Program {
    async fn start(backend: &str) -> Self {
        let mut child = command()
            .envs([
                ("BACKEND_URL", backend),
                ("LISTEN", "127.0.0.1:0"),
                ("RUST_LOG", "debug"),
                ("SESSION_COOKIE", "mine"),
            ])
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap());
        let mut told = String::new();
        while !told.contains("\"message\":\"serving\"") {
            assert!(log.read_line(&mut told).await.unwrap() > 0, "it ended: {told}");
        }
        let line: serde_json::Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
        let url = format!("http://{}", line["listen"].as_str().unwrap());
        Self { child, log, url, told }
    }

    async fn terminate(&self) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    }

    /// Waits for its end; all that it wrote.
    async fn ended(mut self) -> (Option<i32>, String) {
        self.log.read_to_string(&mut self.told).await.unwrap();
        (self.child.wait().await.unwrap().code(), self.told)
    }
}

#[tokio::test]
async fn it_says_what_it_lacks() {
    let Output { status, stderr, .. } = command().output().await.unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(!status.success() && said.contains("BACKEND_URL is not set"), "{said}");
}

#[tokio::test]
async fn it_can_ask_the_one_that_runs() {
    let program = Program::start("http://127.0.0.1:9").await;
    let ask = || command().arg("health").env("LISTEN", program.url.replace("http://", "")).output();
    let Output { status, stderr, .. } = ask().await.unwrap();
    assert!(status.success(), "{stderr:?}");
    program.terminate().await;
    while ask().await.unwrap().status.success() {}
    assert_eq!(program.ended().await.0, Some(0));
}

#[tokio::test]
async fn it_ends_when_told_to_and_writes_no_secret_down() {
    let backend = StandIn::start().await;
    let program = Program::start(&backend.url).await;
    let form = [("email", EMAIL), ("password", PASSWORD)];
    let signed = client().post(format!("{}/signup", program.url)).form(&form).send().await.unwrap();
    let cookie = signed.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    assert!(cookie.starts_with("mine=") && cookie.contains("canary"), "{cookie}");
    let get = |path: &str| client().get(format!("{}{path}", program.url)).header("cookie", &cookie);
    assert_eq!(get("/").send().await.unwrap().status().as_u16(), 200);
    backend.world().broken = Some("canary".to_owned());
    assert_eq!(get("/").send().await.unwrap().status().as_u16(), 502);
    program.terminate().await;
    let (code, told) = program.ended().await;
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("\"message\":\"ended\"") && told.contains("the backend did not do"), "{told}");
    assert!(!told.contains("canary of") && !told.contains("head.canary"), "{told}");
}

#[tokio::test]
async fn an_answer_that_flows_is_finished_first() {
    let backend = StandIn::start().await;
    let program = Program::start(&backend.url).await;
    let form = [("email", EMAIL), ("password", PASSWORD)];
    let signed = client().post(format!("{}/signup", program.url)).form(&form).send().await.unwrap();
    let cookie = signed.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let request = Client::post(&client(), format!("{}/chat", program.url)).header("cookie", cookie);
    let flowing =
        request.header("accept", "text/event-stream").form(&[("message", "slowly now")]).send().await.unwrap();
    program.terminate().await;
    // Only then are no new connections taken.
    while client().get(format!("{}/health", program.url)).send().await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    backend.words.add_permits(4);
    let text = flowing.text().await.unwrap();
    assert!(text.ends_with("event: done\ndata: {}\n\n"), "{text}");
    assert_eq!(program.ended().await.0, Some(0));
}
