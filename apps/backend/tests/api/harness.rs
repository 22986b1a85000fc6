//! Starts the program, and asks it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::postgres;

/// What sessions are signed with.
pub const SECRET: &str = "canary-jwt-secret-0123456789abcdef";
/// Longer than anything may take; reached only by a test that fails.
pub const LONG: Duration = Duration::from_secs(60);

/// A process of the program. Dropped, it is killed.
pub struct Process {
    child: Child,
    log: Arc<(Mutex<Log>, Condvar)>,
}

#[derive(Default)]
struct Log {
    lines: Vec<Value>,
    ended: bool,
}

/// The program as a server.
pub struct Backend {
    /// The process.
    pub process: Process,
    base: String,
    client: Client,
}

/// Somebody who is signed in.
pub struct User<'a> {
    /// Where.
    pub backend: &'a Backend,
    /// By what.
    pub token: String,
}

impl Process {
    /// Starts it with these arguments and variables, and no others.
    pub fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_todo-backend"));
        command.args(arguments).env_clear().env("RUST_LOG", "debug").envs(variables.iter().copied());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program can be started");
        let log = Arc::<(Mutex<Log>, Condvar)>::default();
        let (stdout, shared) = (child.stdout.take().expect("it is piped"), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let line = line.expect("the log can be read");
                let line = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
                shared.0.lock().unwrap().lines.push(line);
                shared.1.notify_all();
            }
            shared.0.lock().unwrap().ended = true;
            shared.1.notify_all();
        });
        Self { child, log }
    }

    /// Waits for a line with this message.
    pub fn line(&self, message: &str) -> Value {
        self.nth_line(message, 0)
    }

    /// Waits until there is one more line with this message than so many.
    pub fn nth_line(&self, message: &str, before: usize) -> Value {
        let found = |log: &Log| log.lines.iter().filter(|line| line["message"] == message).nth(before).cloned();
        let log = self.log.0.lock().unwrap();
        let (log, _) = self.log.1.wait_timeout_while(log, LONG, |log| found(log).is_none() && !log.ended).unwrap();
        found(&log).unwrap_or_else(|| panic!("{message:?} was not said, but {:#?}", log.lines))
    }

    /// Waits until it has ended. All that it has said.
    pub fn end(mut self) -> (ExitStatus, String) {
        let log = self.log.0.lock().unwrap();
        let (log, _) = self.log.1.wait_timeout_while(log, LONG, |log| !log.ended).unwrap();
        assert!(log.ended, "it does not end: {:#?}", log.lines);
        drop(log);
        (self.child.wait().expect("it can be waited for"), self.said())
    }

    /// All that it has said until now.
    pub fn said(&self) -> String {
        self.log.0.lock().unwrap().lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// What a kubelet sends first.
    pub fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(status.expect("kill can be run").success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `migrate`.
pub fn migrate(database: &str) -> (ExitStatus, String) {
    Process::start(&["migrate"], &[("DATABASE_URL", database)]).end()
}

impl Backend {
    /// With a database of its own, migrated.
    pub fn start(variables: &[(&str, &str)]) -> Self {
        let database = postgres::database();
        let (status, log) = migrate(&database);
        assert!(status.success(), "{log}");
        Self::on(database, variables)
    }

    /// On this database.
    pub fn on(database: String, variables: &[(&str, &str)]) -> Self {
        let mine = [("DATABASE_URL", database.as_str()), ("JWT_SECRET", SECRET), ("LISTEN", "127.0.0.1:0")];
        let process = Process::start(&[], &[&mine, variables].concat());
        let base = format!("http://{}", process.line("listening")["address"].as_str().expect("it has an address"));
        Self { process, base, client: client() }
    }

    /// A request without a token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base)).timeout(LONG)
    }

    /// Status and body.
    pub async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        answer(self.request(Method::POST, path).json(&body)).await
    }

    /// Status and body.
    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.request(Method::GET, path)).await
    }

    /// A new user.
    pub async fn sign_up(&self, email: &str) -> User<'_> {
        let (status, body) = self.post("/api/auth/signup", json!({"email": email, "password": "a password"})).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        User { backend: self, token: body["token"].as_str().expect("there is a token").to_owned() }
    }
}

impl User<'_> {
    /// A request in the user's name.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.backend.request(method, path).bearer_auth(&self.token)
    }

    /// Status and body.
    pub async fn ask(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        answer(self.request(method, path).json(&body)).await
    }

    /// Status and body.
    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.request(Method::GET, path)).await
    }

    /// A new task's identifier.
    pub async fn add(&self, title: &str) -> String {
        let (status, task) = self.ask(Method::POST, "/api/tasks", json!({"title": title})).await;
        assert_eq!(status, StatusCode::CREATED, "{task}");
        task["id"].as_str().expect("it has an identifier").to_owned()
    }
}

/// A client that keeps no connection: a server that stops is not asked over an old one.
pub fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().pool_max_idle_per_host(0).build().expect("a client can be made")
}

async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.expect("it answers");
    let (status, text) = (response.status(), response.text().await.expect("the answer can be read"));
    let body = match text.is_empty() {
        true => Value::Null,
        false => serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}")),
    };
    (status, body)
}
