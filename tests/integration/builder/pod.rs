//! `plumb builder`: whom it lets in, by the word of a real API server, and, on a node, what it builds for them.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{Api, DeleteParams, PostParams};
use plumb::builder::containerd::Containerd;
use plumb::builder::{BuildError, BuildKit, Builder, Endpoint, Remote};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::daemons::{build, build_shell, dockerfile, fails, order};
use crate::harness::{Node, Plumb, client, gone, running};
use crate::scene::{SOON, Scene};

/// The audience of its tokens.
pub const AUDIENCE: &str = "plumb-builder";

/// Starts one, and gives its address.
pub async fn start(kubeconfig: &Path, namespace: &str, buildkit: &Path, containerd: &Path) -> (Plumb, String) {
    let (buildkit, containerd) = (format!("unix://{}", buildkit.display()), format!("unix://{}", containerd.display()));
    let account = format!("system:serviceaccount:{namespace}:plumb");
    let listen = ["builder", "--listen", "127.0.0.1:0", "--client", &account, "--audience", AUDIENCE];
    let mut plumb =
        Plumb::spawn(kubeconfig, [&listen[..], &["--builder", &buildkit, "--containerd", &containerd]].concat());
    let line = plumb.wait_for_log(|line| line.contains("answering the reconciler"), SOON).await;
    let address = line.split("address=").nth(1).expect("the address").trim().to_owned();
    (plumb, address)
}

/// A service account, in a namespace that stands.
pub async fn make_account(admin: &kube::Client, namespace: &str, name: &str) {
    let account = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), namespace);
    accounts.create(&PostParams::default(), &account).await.unwrap();
}

/// A token, as the kubelet gets it for a projected volume.
pub async fn token(
    admin: &kube::Client,
    namespace: &str,
    account: &str,
    audience: &str,
    bound: Option<&Secret>,
) -> String {
    let bound_object_ref = bound.map(|secret| BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Secret".to_owned()),
        name: secret.metadata.name.clone(),
        uid: secret.metadata.uid.clone(),
    });
    let spec = TokenRequestSpec {
        audiences: Some(vec![audience.to_owned()]),
        bound_object_ref,
        expiration_seconds: Some(600),
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), namespace);
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let answer = accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
    answer.status.and_then(|status| status.token).expect("a token")
}

/// The same token with its time over, signed by the cluster's own key.
fn expired(token: &str, key: &Path) -> String {
    let (head, rest) = token.split_once('.').expect("a JWT");
    let claims = URL_SAFE_NO_PAD.decode(rest.split('.').next().unwrap()).unwrap();
    let mut claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    for (claim, earlier) in [("iat", 7200), ("nbf", 7200), ("exp", 7200)] {
        claims[claim] = json!(claims[claim].as_i64().unwrap() - earlier);
    }
    let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &signed).unwrap();
    let openssl =
        Command::new("openssl").args(["dgst", "-sha256", "-sign"]).arg(key).arg(file.path()).output().unwrap();
    assert!(openssl.status.success(), "{}", String::from_utf8_lossy(&openssl.stderr));
    // DER: a sequence of two integers, each with a sign of its own. A JWT has them bare, 32 bytes each.
    let mut der = &openssl.stdout[2..];
    let mut signature = Vec::new();
    while let [2, length, more @ ..] = der {
        let (number, more) = more.split_at(usize::from(*length));
        let mut bare = [0; 32];
        let digits = &number[number.len().saturating_sub(32)..];
        bare[32 - digits.len()..].copy_from_slice(digits);
        signature.extend(bare);
        der = more;
    }
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The status that a request with this header is answered with, and the answer.
async fn ask(address: &str, request: &str, authorization: Option<&str>) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let authorization = authorization.map(|value| format!("authorization: {value}\r\n")).unwrap_or_default();
    stream.write_all(format!("{request} HTTP/1.1\r\nhost: builder\r\n{authorization}\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    (code.unwrap_or_else(|| panic!("{answer:?}")), answer)
}

fn remote(address: &str, token: &str) -> (Remote, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), token).unwrap();
    (Remote::new(address.to_owned(), file.path().to_owned()), file)
}

#[tokio::test]
async fn plumbs_service_account_is_let_in_and_nobody_else() {
    let scene = Scene::new("builder").await;
    if scene.env.audit().is_none() {
        return;
    }
    scene.make_namespace().await;
    let (user, kubeconfig) = scene.env.plain_user("builder").unwrap();
    // The rights of deploy/, and no more.
    let deploy = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/builder.yaml")).unwrap();
    let role =
        deploy.split("\n---\n").find(|document| document.contains("kind: ClusterRole\n")).expect("a ClusterRole");
    scene.kubectl_ok(&["apply", "--server-side", "-f", "-"], role).await;
    let (name, subject) = (scene.env.name("builder"), format!("--user={user}"));
    scene.kubectl_ok(&["create", "clusterrolebinding", &name, "--clusterrole=plumb-builder", &subject], "").await;
    scene.may(&user, "create", "tokenreviews.authentication.k8s.io").await;

    let (admin, namespace) = (scene.env.admin(), scene.namespace.as_str());
    make_account(&admin, namespace, "plumb").await;
    make_account(&admin, namespace, "other").await;
    let secrets: Api<Secret> = Api::namespaced(admin.clone(), namespace);
    let holder = serde_json::from_value(json!({"metadata": {"name": "holder"}})).unwrap();
    let holder = secrets.create(&PostParams::default(), &holder).await.unwrap();
    let good = token(&admin, namespace, "plumb", AUDIENCE, None).await;
    let revoked = token(&admin, namespace, "plumb", AUDIENCE, Some(&holder)).await;
    secrets.delete("holder", &DeleteParams::default()).await.unwrap();
    let other_audience = token(&admin, namespace, "plumb", "https://kubernetes.default.svc", None).await;
    let other_account = token(&admin, namespace, "other", AUDIENCE, None).await;
    let key = scene.env.cluster().control_plane().unwrap().directory().join("pki/service-account.key");
    let expired = expired(&good, &key);

    let nowhere = Path::new("/nowhere/daemon.sock");
    let (mut plumb, address) = start(&kubeconfig, namespace, nowhere, nowhere).await;
    let forged = format!("{}x", &good[..good.len() - 6]);
    for (code, token) in [
        (401, None),
        (401, Some("garbage")),
        (401, Some(&*forged)),
        (401, Some(&*expired)),
        (401, Some(&*revoked)),
        (401, Some(&*other_audience)),
        (403, Some(&*other_account)),
        // Let in: what it is told is what the daemon behind has to say.
        (502, Some(&*good)),
        (502, Some(&*good)),
    ] {
        let header = token.map(|token| format!("Bearer {token}"));
        for request in ["GET /v1/images", "DELETE /v1/images/a%3A1"] {
            let (seen, answer) = ask(&address, request, header.as_deref()).await;
            assert_eq!(seen, code, "{request}: {answer}");
            assert!(token.is_none_or(|token| !answer.contains(token)), "{answer}");
        }
        let (seen, answer) = ask(&address, "POST /v1/build", header.as_deref()).await;
        // Let in, but without an order.
        assert_eq!(seen, if code == 502 { 400 } else { code }, "{answer}");
    }
    assert_eq!(ask(&address, "GET /v1/images", Some(&format!("Basic {good}"))).await.0, 401);
    for probe in ["GET /livez", "GET /readyz"] {
        assert_eq!(ask(&address, probe, None).await.0, 200);
    }
    for nothing in ["GET /", "GET /metrics", "GET /v1", "GET /v2/images"] {
        assert_eq!(ask(&address, nothing, Some(&format!("Bearer {good}"))).await.0, 404, "{nothing}");
    }

    let asked = ["a:1".to_owned()];
    let (reconciler, _file) = remote(&address, &good);
    let error = reconciler.present(&asked).await.unwrap_err();
    assert!(matches!(&error, BuildError::Away { endpoint, .. } if endpoint.contains("/nowhere/")), "{error}");
    let (stranger, _file) = remote(&address, &other_account);
    let error = stranger.present(&asked).await.unwrap_err();
    assert!(
        matches!(&error, BuildError::Unauthorized { reason, .. } if reason.contains(":other, who is not")),
        "{error}"
    );

    assert!(plumb.terminate(SOON).await.success());
    let log = plumb.output().await;
    assert!(log.contains("refused") && log.contains(":other"), "{log}");
    for token in [&good, &forged, &expired, &revoked, &other_audience, &other_account] {
        let signature = token.rsplit('.').next().unwrap();
        assert!(!log.contains(signature), "{log}");
    }
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn on_a_node_it_builds_for_plumb_and_cancels_when_plumb_goes() {
    const SLEEP: &str = "86399.25";
    let node = Node::shared();
    let (kubeconfig, namespace) = (node.admin_kubeconfig(), "default");
    let admin = client(&kubeconfig).await;
    make_account(&admin, namespace, "plumb").await;
    let (plumb, address) = start(&kubeconfig, namespace, &node.buildkit(), &node.containerd()).await;
    let (remote, _file) = remote(&address, &token(&admin, namespace, "plumb", AUDIENCE, None).await);
    // Another's: nobody builds under such a tag through the pod.
    let [buildkit, containerd] = [node.buildkit(), node.containerd()].map(Endpoint::Unix);
    let bases = build_shell(&BuildKit::new(buildkit, Containerd::new(containerd))).await;
    let asked = ["shell:1".to_owned(), "nobody-built:1".to_owned()];
    assert_eq!(remote.present(&asked).await.unwrap(), [true, false]);
    assert!(remote.images().await.unwrap().iter().any(|image| image.reference == "docker.io/library/shell:1"));

    let error = fails(&remote, &order("shell:1"), dockerfile("FROM scratch\n")).await;
    assert!(error.to_string().contains("\"shell:1\" is not one repository with a tag of plumb's"), "{error}");

    let failing = order("fails:0123456789abcdef0123456789abcdef01234567");
    let error = fails(&remote, &failing, dockerfile("FROM scratch\nCOPPY a b\n")).await;
    assert!(error.to_string().starts_with("Dockerfile:2: "), "{error}");

    let mut sleeping = order("sleeps:0123456789abcdef0123456789abcdef01234567");
    sleeping.bases = bases;
    let builder = remote.clone();
    let building = tokio::spawn(async move {
        build(&builder, &sleeping, dockerfile(&format!("FROM shell\nRUN sleep {SLEEP}\n"))).await.0
    });
    running(SLEEP).await;
    building.abort();
    gone(SLEEP).await;

    // It removes what it built under a tag as plumb gives it, and nothing else.
    let own = "goes:0123456789abcdef0123456789abcdef01234567";
    build(&remote, &order(own), dockerfile("FROM scratch\nCOPY Dockerfile /\n")).await.0.unwrap();
    let asked = [own, "shell:1"].map(str::to_owned);
    assert_eq!(remote.present(&asked).await.unwrap(), [true, true]);
    for image in &asked {
        remote.remove(image).await.unwrap();
    }
    assert_eq!(remote.present(&asked).await.unwrap(), [false, true]);
    drop(plumb);
}
