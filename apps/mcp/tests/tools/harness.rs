//! Starts the program, and asks it.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;
use rmcp::model::ClientConfig;
use rmcp::service::RunningService;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{RoleClient, ServiceExt};
use serde_json::{Value, json};
use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::postgres;

/// What the backend signs with.
pub const SECRET: &str = "canary-jwt-secret-0123456789abcdef";

/// A process of the program. Dropped, it is killed.
pub struct Server {
    /// `http://…`
    pub base: String,
    /// `http://…/mcp`
    pub mcp: String,
    database: String,
    child: Child,
    log: BufReader<ChildStdout>,
}

impl Server {
    /// On a database of its own, migrated.
    pub async fn start() -> Self {
        let server = Self::on(postgres::database()).await;
        server.migrate().await;
        server
    }

    /// On this database.
    pub async fn on(database: String) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_todo-mcp"));
        let variables =
            [("DATABASE_URL", &*database), ("JWT_SECRET", SECRET), ("LISTEN", "127.0.0.1:0"), ("RUST_LOG", "info")];
        let mut child = command.env_clear().envs(variables).stdout(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let line: Value = serde_json::from_str(&line).expect("it logs JSON");
        let base = format!("http://{}", line["address"].as_str().expect("it says where it listens first"));
        Self { mcp: format!("{base}/mcp"), base, database, child, log }
    }

    /// As the backend does it.
    pub async fn migrate(&self) {
        let migrations = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../backend/migrations"));
        Migrator::new(migrations).await.unwrap().run(&mut self.connection().await).await.unwrap();
    }

    /// A new user.
    pub async fn user(&self) -> Uuid {
        let new =
            "INSERT INTO users (email, name, password_hash) VALUES (gen_random_uuid()::text, '', '') RETURNING id";
        sqlx::query_scalar(new).fetch_one(&mut self.connection().await).await.unwrap()
    }

    async fn connection(&self) -> PgConnection {
        PgConnection::connect(&self.database).await.unwrap()
    }

    /// The client that the backend uses as well.
    pub async fn client(&self, token: &str) -> RunningService<RoleClient, ClientConfig> {
        let config = StreamableHttpClientTransportConfig::with_uri(&*self.mcp).auth_header(token);
        ClientConfig::default().serve(StreamableHttpClientTransport::with_client(http(), config)).await.unwrap()
    }

    /// What `todo-mcp health` says.
    pub fn healthy(&self) -> bool {
        let listen = self.base.trim_start_matches("http://");
        let mut command = Command::new(env!("CARGO_BIN_EXE_todo-mcp"));
        let output = command.arg("health").env_clear().env("LISTEN", listen).output().unwrap();
        output.status.success()
    }

    /// Ends it as a kubelet does. How it ended, and all that it has said since it began to listen.
    pub fn end(mut self) -> (ExitStatus, String) {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap(), log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A plain client.
pub fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// A token as the backend makes them.
pub fn token(user: Uuid) -> String {
    token_of(user, SECRET, "todo-backend", 60)
}

/// A token that ends in so many seconds. Written out by hand: what the program reads must not be what it wrote itself.
pub fn token_of(user: Uuid, secret: &str, issuer: &str, seconds: i64) -> String {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let claims = json!({"iss": issuer, "sub": user, "iat": now, "exp": now + seconds});
    let signed = format!(
        "{}.{}",
        BASE64_URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#),
        BASE64_URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))
}
