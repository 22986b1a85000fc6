//! A private repository behind a URL, as docs/minikube.md has it: over https with a token, and over ssh with a key, both from a Secret.

use anyhow::ensure;
use base64::Engine as _;

use super::servers::{Https, Sshd};
use super::stand::Stand;
use crate::deploy::kustomization_of;
use crate::harness::eventually;
use crate::scene::{SOON, config_map, short};

const PAGE: &str = "docs/minikube.md";
const TOKEN: &str = "canary-hunter2";

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_private_repository_is_read_with_what_a_secret_holds_and_nothing_shows_that() {
    let stand = Stand::without_plumb("private", &["--dns"]).await;
    let scene = &stand.scene;
    let repository = scene.env.repository();
    let root = repository.path().parent().unwrap().to_owned();
    let machine = stand.machine();
    let first = scene.push([("c.yaml", config_map("c", &[("x", "1")]))]);
    scene.kubectl_ok(&["create", "namespace", "plumb"], "").await;

    let https = Https::start(&root, &machine, "server");
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("git:{TOKEN}"));
    let right = format!("Basic {pair}");
    *https.shared.wants.lock().unwrap() = Some(right.clone());
    let token = format!("token={TOKEN}");
    stand.secret(&[("--from-literal", &token), ("--from-file", &format!("ca={}", https.ca_file.display()))]).await;
    stand.install_from("# kustomization.yaml, for a private repository", &https.url("repo.git"), OWN_AUTHORITY).await;
    scene.deployed(first).await;
    let seen = https.shared.seen.lock().unwrap().clone();
    let without: Vec<_> = seen.iter().filter(|line| line.contains("repo.git") && !line.contains("+auth")).collect();
    assert!(without.is_empty(), "no request without the token: {without:?}");

    // The token is revoked, and given back.
    *https.shared.wants.lock().unwrap() = Some("Basic bm9ib2R5".to_owned());
    let second = scene.push([("c.yaml", config_map("c", &[("x", "2")]))]);
    let log = eventually(SOON, || async {
        let log = stand.log().await;
        ensure!(log.contains("password or token"), "the refusal is not told: {log}");
        Ok(log)
    })
    .await;
    assert_eq!(scene.data("c").await.as_deref(), Some("x=1"));
    *https.shared.wants.lock().unwrap() = Some(right);
    scene.deployed(second).await;
    stand.shows_none_of(&[TOKEN, &pair], &[&log], &[first, second].map(short)).await;

    let keys = tempfile::tempdir().unwrap();
    let Some(sshd) = Sshd::start(keys.path(), &machine) else { return };
    let (key, hosts) = (sshd.key.display(), sshd.known_hosts.display());
    stand.secret(&[("--from-file", &format!("key={key}")), ("--from-file", &format!("known_hosts={hosts}"))]).await;
    let url = sshd.url(&repository.path());
    stand.install_from("# kustomization.yaml, for a private repository over ssh", &url, POLL).await;
    let asked = https.shared.requests("repo.git");
    let third = scene.push([("c.yaml", config_map("c", &[("x", "3")]))]);
    scene.deployed(third).await;
    assert_eq!(https.shared.requests("repo.git"), asked, "it came by ssh");
    let text = std::fs::read_to_string(&sshd.key).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("-----")).collect();
    stand.shows_none_of(&lines, &[], &[short(third)]).await;
}

/// Added to the kustomization of the page: a test is not to wait for 15 s.
const POLL: &str = "
- patch: |
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: plumb, namespace: plumb}
    spec: {template: {spec: {containers: [{name: plumb, env: [{name: PLUMB_POLL, value: 500ms}]}]}}}
";

/// The same, and the certificate authority, as the page says in words.
const OWN_AUTHORITY: &str = "
- patch: |
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: plumb, namespace: plumb}
    spec:
      template:
        spec:
          containers:
          - name: plumb
            env: [{name: PLUMB_POLL, value: 500ms}, {name: PLUMB_CA_FILE, value: /etc/repository/ca}]
            volumeMounts: [{name: login, mountPath: /etc/repository, readOnly: true}]
          volumes: [{name: login, secret: {secretName: repository}}]
";

impl Stand {
    /// Where pods reach the machine, by which they have come.
    fn machine(&self) -> String {
        let (network, _) = self.node.address().rsplit_once('.').expect("an IPv4 address");
        format!("{network}.1")
    }

    /// Makes the Secret of the page, with these options of kubectl.
    async fn secret(&self, parts: &[(&str, &str)]) {
        self.scene.kubectl_ok(&["delete", "secret", "repository", "-n", "plumb", "--ignore-not-found"], "").await;
        let parts: Vec<_> = parts.iter().map(|(option, value)| format!("{option}={value}")).collect();
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        let create = ["create", "secret", "generic", "repository", "-n", "plumb"];
        self.scene.kubectl_ok(&[&create[..], &parts].concat(), "").await;
    }

    /// Installs the page's kustomization that begins with this comment, for this URL instead of the one there.
    async fn install_from(&self, comment: &str, url: &str, patch: &str) {
        let directory = kustomization_of(PAGE, comment);
        let file = directory.path().join("kustomization.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        let shown = text.split('"').find(|part| part.contains("://")).expect("the page has a URL");
        std::fs::write(&file, text.replace(shown, url) + patch).unwrap();
        self.install(directory.path()).await;
    }

    async fn log(&self) -> String {
        self.scene.kubectl_ok(&["logs", "deployment/plumb", "-n", "plumb"], "").await
    }

    /// Everything that people are shown has none of these secrets: logs, Events, statuses, the pods as they stand, metrics. It does
    /// tell of these commits.
    async fn shows_none_of(&self, secrets: &[&str], more: &[&str], commits: &[String]) {
        let plumb = self.plumb_pod().await.metadata.name.unwrap_or_default();
        let asked = [
            vec!["logs", "deployment/plumb", "-n", "plumb"],
            vec!["logs", "deployment/plumb-builder", "-n", "plumb-builder"],
            vec!["get", "events", "--all-namespaces", "-o", "yaml"],
            vec!["get", "environments,configmaps,pods,deployments", "--all-namespaces", "-o", "yaml"],
            vec!["describe", "pods", "-n", "plumb"],
        ];
        let mut shown = more.join("\n");
        for arguments in asked {
            shown += &self.scene.kubectl_ok(&arguments, "").await;
        }
        let paths = ["livez", "readyz", "metrics"];
        for path in paths.map(|path| format!("/api/v1/namespaces/plumb/pods/{plumb}:8080/proxy/{path}")) {
            shown += &self.scene.kubectl_ok(&["get", "--raw", &path], "").await;
        }
        for commit in commits {
            assert!(shown.contains(commit), "it tells nothing of {commit}");
        }
        for secret in secrets {
            let line = shown.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "shown, and is secret");
        }
    }
}
