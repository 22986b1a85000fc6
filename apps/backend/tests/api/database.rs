//! The schema, and a database that comes and goes.

use reqwest::StatusCode;
use sqlx::{Connection, PgConnection};

use crate::harness::{Backend, LONG, Process, migrate};
use crate::postgres::{self, Postgres};

#[tokio::test]
async fn a_migration_is_idempotent() {
    let database = postgres::database();
    for _ in 0..2 {
        let (status, log) = migrate(&database);
        assert!(status.success(), "{log}");
    }
    let mut connection = PgConnection::connect(&database).await.unwrap();
    let (count,): (i64,) =
        sqlx::query_as("SELECT count(*) FROM _sqlx_migrations WHERE success").fetch_one(&mut connection).await.unwrap();
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap().count();
    assert_eq!(usize::try_from(count).unwrap(), files);
}

#[test]
fn several_that_start_at_once_all_succeed() {
    let database = postgres::database();
    let variables = [("DATABASE_URL", database.as_str())];
    let all: Vec<Process> = (0..4).map(|_| Process::start(&["migrate"], &variables)).collect();
    for process in all {
        let (status, log) = process.end();
        assert!(status.success(), "{log}");
    }
}

#[tokio::test]
async fn an_older_program_accepts_a_newer_schema() {
    let database = postgres::database();
    assert!(migrate(&database).0.success());
    let mut connection = PgConnection::connect(&database).await.unwrap();
    let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (9999, 'of a later version', true, '\\x00', 1)";
    sqlx::query(later).execute(&mut connection).await.unwrap();
    let (status, log) = migrate(&database);
    assert!(status.success(), "{log}");
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing_and_says_why() {
    let database = postgres::database();
    let mut connection = PgConnection::connect(&database).await.unwrap();
    sqlx::query("CREATE TABLE tasks (mine int)").execute(&mut connection).await.unwrap();
    let (status, log) = migrate(&database);
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("the migration failed") && log.contains("relation \\\"tasks\\\" already exists"), "{log}");
    let (users,): (Option<String>,) =
        sqlx::query_as("SELECT to_regclass('users')::text").fetch_one(&mut connection).await.unwrap();
    assert_eq!(users, None);
}

#[test]
fn a_migration_waits_longer_and_longer_for_a_database_that_is_away() {
    let mut server = Postgres::prepare();
    let process = Process::start(&["migrate"], &[("DATABASE_URL", &server.url("postgres"))]);
    let pause = |nth| process.nth_line("waiting for the database", nth)["retry_in_ms"].as_u64().unwrap();
    let (first, second) = (pause(0), pause(1));
    assert!(first < second, "{first} ms, then {second} ms");
    server.start();
    let (status, log) = process.end();
    assert!(status.success(), "{log}");
}

#[test]
fn a_migration_does_not_wait_for_a_database_that_refuses_it() {
    let missing = postgres::database() + "&dbname=missing";
    let (status, log) = migrate(&missing);
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("\\\"missing\\\" does not exist") && !log.contains("waiting for the database"), "{log}");
}

#[tokio::test]
async fn requests_fail_while_the_database_is_away_and_succeed_again_after() {
    let mut server = Postgres::prepare();
    server.start();
    let database = server.database("todo");
    assert!(migrate(&database).0.success());
    let backend = Backend::on(database, &[]);
    let user = backend.sign_up("ada@example.org").await;
    user.add("milk").await;

    server.stop();
    let (status, answer) = user.get("/api/tasks").await;
    assert_eq!(
        (status, answer["error"]["code"].as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, Some("database_unavailable"))
    );
    let (status, health) = backend.get("/health?exclude=mcp").await;
    assert_eq!((status, health["checks"]["database"].as_str()), (StatusCode::SERVICE_UNAVAILABLE, Some("failing")));

    server.start();
    let (status, answer) = user.get("/api/tasks").await;
    assert_eq!((status, answer["tasks"][0]["title"].as_str()), (StatusCode::OK, Some("milk")), "{answer}");
    assert_eq!(backend.get("/health?exclude=mcp").await.0, StatusCode::OK);
}

#[tokio::test]
async fn the_server_starts_and_lives_without_a_database() {
    let server = Postgres::prepare();
    let backend = tokio::time::timeout(LONG, async { Backend::on(server.url("todo"), &[]) }).await.unwrap();
    assert_eq!(backend.get("/health?exclude=mcp&exclude=database").await.0, StatusCode::OK);
    assert_eq!(backend.get("/health?exclude=mcp").await.0, StatusCode::SERVICE_UNAVAILABLE);
}
