//! TLS to the database: it is used when it shall be verified, and whoever can't be verified gets no password.

use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::StatusCode;

use crate::harness::{Backend, migrate};
use crate::postgres::{Postgres, as_user};

const EXTENSIONS: &str = "[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign
[server]
basicConstraints = critical, CA:false
subjectAltName = DNS:localhost
";

/// Makes NAME.pem and NAME.key in the server's directory: what `openssl req -x509` makes with these arguments.
fn certificate(directory: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    std::fs::write(directory.join("openssl.cnf"), EXTENSIONS).unwrap();
    let file = |ending: &str| directory.join(format!("{name}.{ending}"));
    let mut openssl: Command = as_user("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args(["-config", "openssl.cnf", "-subj", &format!("/CN={name}")]).args(arguments);
    openssl.arg("-keyout").arg(file("key")).arg("-out").arg(file("pem")).current_dir(directory);
    let output = openssl.output().expect("openssl is installed");
    assert!(output.status.success(), "{output:?}");
    file("pem")
}

/// A server that is known as `localhost` to whoever trusts the authority of the file, and URLs to it.
fn server() -> (Postgres, PathBuf, impl Fn(&str, &str) -> String) {
    let mut server = Postgres::prepare();
    let authority = certificate(server.directory(), "authority", &["-extensions", "authority"]);
    let by = ["-extensions", "server", "-CA", "authority.pem", "-CAkey", "authority.key"];
    certificate(server.directory(), "server", &by);
    let port = server.listen(&["ssl=on", "ssl_cert_file=../server.pem", "ssl_key_file=../server.key"]);
    server.start();
    server.database("todo");
    let url = move |host: &str, options: &str| {
        format!("postgresql://postgres:canary-password@{host}:{port}/todo?sslmode=verify-full{options}")
    };
    (server, authority, url)
}

fn trusting(authority: &Path) -> String {
    format!("&sslrootcert={}", authority.display())
}

#[tokio::test]
async fn a_database_that_is_who_it_says_is_used() {
    let (_server, authority, url) = server();
    let url = url("localhost", &trusting(&authority));
    let (status, log) = migrate(&url);
    assert!(status.success(), "{log}");
    let backend = Backend::on(url, &[]);
    backend.sign_up("ada@example.org").await.add("milk").await;
    assert_eq!(backend.get("/health?exclude=mcp").await.0, StatusCode::OK);
}

#[tokio::test]
async fn one_that_cannot_be_verified_is_refused_at_once_with_a_reason_and_without_the_password() {
    let (server, authority, url) = server();
    let other = certificate(server.directory(), "other", &["-extensions", "authority"]);
    let mut plain = Postgres::prepare();
    let plain_port = plain.listen(&[]);
    plain.start();
    let plain = format!("postgresql://postgres:canary-password@localhost:{plain_port}/postgres?sslmode=verify-full");
    for (url, reason) in [
        (url("localhost", &trusting(&other)), "UnknownIssuer"),
        (url("localhost", ""), "UnknownIssuer"),
        (url("127.0.0.1", &trusting(&authority)), "not valid for name"),
        (url("localhost", &trusting(Path::new("/nowhere.pem"))), "sslrootcert"),
        (plain, "server does not support TLS"),
    ] {
        let (status, log) = migrate(&url);
        assert_eq!(status.code(), Some(1), "{url}: {log}");
        assert!(log.contains(reason) && !log.contains("waiting for the database"), "{url}: {log}");
        assert!(!log.contains("canary-password"), "{log}");
    }

    // The server lives on, and its log says why it is not ready.
    let backend = Backend::on(url("localhost", &trusting(&other)), &[]);
    assert_eq!(backend.get("/health?exclude=mcp").await.0, StatusCode::SERVICE_UNAVAILABLE);
    let reason = backend.process.line("a health check failed").to_string();
    assert!(reason.contains("UnknownIssuer") && !reason.contains("canary-password"), "{reason}");
}
