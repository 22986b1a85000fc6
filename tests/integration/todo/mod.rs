//! The Todo Chatbot from end to end: a push is built, migrated and deployed, and somebody uses it in a browser while plumb heals, refuses and rolls back.
//!
//! One node and one story, since every part of it needs the one before. What it prints with `--nocapture` are the figures.

mod beside;
mod browser;
mod compose;
mod http;
mod load;
mod site;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::ensure;
use git2::Oid;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::json;

use self::browser::Browser;
use self::http::{ask, request};
use self::load::Load;
use self::site::{Site, secrets};
use crate::harness::eventually;
use crate::scene::{SOON, short};

/// Two pods of the frontend, two of the backend, one of the MCP server.
const PODS: usize = 5;
const EMAIL: &str = "ada@example.org";
const PASSWORD: &str = "a canary that Ada types";

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn pushed_used_broken_healed_and_rolled_back() {
    let started = Instant::now();
    let (mut site, first) = Site::start().await;
    let pushed = Instant::now();
    site.deployed("dev", first).await;
    site.is("dev", "Healthy", "True", &[]).await;
    let pods = site.pods("todo-dev", PODS).await;
    eprintln!(
        "node with database and images {:.1?}, plumb's start to Healthy {:.1?}",
        pushed - started,
        pushed.elapsed()
    );
    figures(&pods);

    let browser = Browser::start(&format!("http://{}", site.frontend(30300))).await;
    signs_up_and_adds_a_task_by_chat(&browser).await;
    pods_go_and_what_was_said_stays(&site, &browser).await;
    drift_is_healed_and_told(&mut site).await;
    let broken = a_broken_migration_fails_and_the_old_pods_serve(&mut site, &browser).await;
    a_rollback_builds_nothing(&mut site, first, broken).await;
    a_new_version_loses_no_request(&mut site).await;
    staging_gets_what_dev_has(&site).await;

    assert_eq!(browser.complaints().await, Vec::<String>::new());
    restarts_are_none(&site).await;
    nobody_reads_a_secret(&site).await;
    let (images, archives) = site.archives(first).await;
    compose::comes_up_is_used_and_leaves_nothing(&images, &archives);
    eprintln!("the whole story {:.0?}", started.elapsed());
}

async fn signs_up_and_adds_a_task_by_chat(browser: &Browser) {
    browser.open("/signup").await;
    browser.fill("#name", "Ada").await;
    browser.fill("#email", EMAIL).await;
    browser.fill("#password", PASSWORD).await;
    browser.click("main button[type=submit]").await;
    browser.fill("#new-task", "water the plants").await;
    browser.click("#add-task button").await;
    browser.sees("#tasks li", "water the plants").await;
    browser.fill("#chat-input", "add a task: buy milk").await;
    browser.click("#chat button").await;
    browser.sees("#messages .message[data-role=assistant]", "buy milk").await;
    browser.open("/").await;
    browser.sees("#tasks li", "buy milk").await;
}

async fn pods_go_and_what_was_said_stays(site: &Site, browser: &Browser) {
    let pods: Api<Pod> = Api::namespaced(site.scene.env.admin(), "todo-dev");
    let names = |pods: &[Pod]| pods.iter().map(|pod| pod.name_any()).collect::<BTreeSet<_>>();
    let before = names(&site.pods("todo-dev", PODS).await);
    pods.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    let after = names(&site.pods("todo-dev", PODS).await);
    assert!(before.is_disjoint(&after), "{before:?} {after:?}");
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    // The pods are Ready a moment before kube-proxy sends anybody to them: until then the page says that the service is away.
    browser.finds("/", "#tasks li", "buy milk").await;
    assert_eq!(browser.faults().await, Vec::<String>::new());
    browser.sees("#messages .message[data-role=user]", "add a task: buy milk").await;
}

async fn drift_is_healed_and_told(site: &mut Site) {
    let limit = r#"[{"op":"replace","path":"/spec/template/spec/containers/0/resources/limits/memory","value":"1Gi"}]"#;
    let edits: [(&str, &str, &[&str], &str); 3] = [
        ("Deployment", "todo-backend", &["scale", "deployment/todo-backend", "--replicas=4"], "spec.replicas"),
        (
            "Deployment",
            "todo-frontend",
            &["patch", "deployment", "todo-frontend", "--type=json", "-p", limit],
            "memory",
        ),
        (
            "ConfigMap",
            "todo-config",
            &["patch", "configmap", "todo-config", "-p", r#"{"data":{"RUST_LOG":"trace"}}"#],
            "RUST_LOG",
        ),
    ];
    for (kind, name, edit, field) in edits {
        let after = site.plumb.log_len();
        site.scene.kubectl_ok(&[edit, &["-n", "todo-dev"]].concat(), "").await;
        let object = format!("{kind}/todo-dev/{name}");
        let line = site.line(after, &[" drift ", &object, field, "action=reverted"]).await;
        assert!(line.contains("kubectl"), "{line}");
        let events: Api<Event> = Api::namespaced(site.scene.env.admin(), "todo-dev");
        let of = ListParams::default().fields(&format!("involvedObject.kind={kind},involvedObject.name={name}"));
        eventually(SOON, || async {
            let told = events.list(&of).await?.items;
            let told = told.iter().filter_map(|event| event.message.as_deref()).collect::<Vec<_>>();
            ensure!(told.iter().any(|text| text.contains(field)), "no Event on {object} tells of {field}: {told:?}");
            Ok(())
        })
        .await;
    }
    site.is("dev", "Drifted", "False", &[]).await;
    site.is("dev", "Healthy", "True", &[]).await;
    site.pods("todo-dev", PODS).await;
}

async fn a_broken_migration_fails_and_the_old_pods_serve(site: &mut Site, browser: &Browser) -> Oid {
    let broken =
        [("apps/backend/migrations/99990101000000_broken.sql", "ALTER TABLE no_such_table ADD COLUMN x int;\n")];
    let broken = site.push(broken).await;
    site.deployed("dev", broken).await;
    let why = site.is("dev", "Healthy", "False", &["todo-backend", "99990101000000"]).await;
    eprintln!("a broken migration: {}", why.message);
    browser.open("/").await;
    browser.sees("#tasks li", "buy milk").await;
    browser.fill("#new-task", "while it is broken").await;
    browser.click("#add-task button").await;
    browser.sees("#tasks li", "while it is broken").await;
    broken
}

async fn a_rollback_builds_nothing(site: &mut Site, to: Oid, from: Oid) {
    let mut config = site.scene.env.repository().open().config().unwrap();
    config.set_str("user.name", "Grace").and_then(|()| config.set_str("user.email", "grace@example.org")).unwrap();
    let builds = site.builds();
    let started = Instant::now();
    let (code, output) = site.scene.verb(&["rollback", "dev"]).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains(&short(to)) || output.contains(&short(from)), "{output}");
    let head = site.scene.env.repository().open().refname_to_id("refs/heads/dev").unwrap();
    site.deployed("dev", head).await;
    site.is("dev", "Healthy", "True", &[]).await;
    assert_eq!(site.builds(), builds, "a rollback builds nothing");
    site.pods("todo-dev", PODS).await;
    eprintln!("rolled back in {:.1?}", started.elapsed());
}

/// The backend is asked all the time while plumb replaces its pods.
async fn a_new_version_loses_no_request(site: &mut Site) {
    let address = site.expose_backend().await;
    let account = json!({"email": EMAIL, "password": PASSWORD});
    let signin = request("POST", &address, "/api/auth/signin", "", Some(&account));
    let (status, answer) = ask(&address, signin).await.unwrap();
    assert!(status.is_success(), "{status}: {answer}");
    let token = serde_json::from_str::<serde_json::Value>(&answer).unwrap()["token"].as_str().unwrap().to_owned();
    let before: BTreeSet<_> = backends(site).await;

    let per_second = std::env::var("PLUMB_LOAD").ok().and_then(|text| text.parse().ok()).unwrap_or(50);
    let started = Instant::now();
    let load = Load::start(per_second, address, "/api/tasks", token);
    let newer = site.set("RUST_LOG", "warn").await;
    site.deployed("dev", newer).await;
    site.is("dev", "Healthy", "True", &[]).await;
    site.pods("todo-dev", PODS).await;
    let least =
        Duration::from_secs(std::env::var("PLUMB_LOAD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0));
    tokio::time::sleep(least.saturating_sub(started.elapsed())).await;
    let outcome = load.stop().await;
    assert!(before.is_disjoint(&backends(site).await), "the pods were replaced");
    eprintln!(
        "{} requests in {:.0?} over a rollout, {} failed, {} sent again, {} connections kept, p50 {:.1?}, p99 {:.1?}, longest {:.1?}",
        outcome.answered.len() + outcome.failed.len(),
        started.elapsed(),
        outcome.failed.len(),
        outcome.resent,
        outcome.kept,
        outcome.quantile(0.5),
        outcome.quantile(0.99),
        outcome.quantile(1.0),
    );
    assert!(outcome.failed.is_empty() && !outcome.answered.is_empty(), "{:?}", outcome.failed);
    // A pod that ends closes its connections, and each may have a request on it just then; nothing else is a reason to send one again.
    let (pods, kept) = (before.len(), outcome.kept);
    assert!(outcome.resent <= pods * kept, "{} sent again, {kept} connections, {pods} pods", outcome.resent);
    site.scene.kubectl_ok(&["delete", "service", "by-hand", "-n", "todo-dev"], "").await;
}

async fn backends(site: &Site) -> BTreeSet<String> {
    let pods = site.pods("todo-dev", PODS).await;
    pods.iter().map(|pod| pod.name_any()).filter(|name| name.starts_with("todo-backend-")).collect()
}

async fn staging_gets_what_dev_has(site: &Site) {
    site.make_staging_secrets().await;
    let builds = site.builds();
    let repository = site.scene.env.repository();
    repository.set_branch("staging", site.older);
    site.deployed("staging", site.older).await;
    site.pods("todo-staging", PODS - 1).await;
    let (code, output) = site.scene.verb(&["promote", "dev", "staging"]).await;
    assert_eq!(code, Some(0), "{output}");
    let head = |branch: &str| repository.open().refname_to_id(&format!("refs/heads/{branch}")).unwrap();
    assert_eq!(head("staging"), head("dev"));
    site.deployed("staging", head("staging")).await;
    site.is("staging", "Healthy", "True", &[]).await;
    site.pods("todo-staging", PODS).await;
    assert_eq!(site.builds(), builds, "the same content has the same images");
    let browser = Browser::start(&format!("http://{}", site.frontend(30301))).await;
    browser.open("/signin").await;
    browser.fill("#email", EMAIL).await;
    browser.fill("#password", PASSWORD).await;
    browser.click("main button[type=submit]").await;
    browser.sees("[role=alert]", "").await; // Ada is in the other database
    browser.sees("form", "").await;
}

async fn restarts_are_none(site: &Site) {
    for namespace in ["todo-dev", "todo-staging"] {
        for pod in site.pods(namespace, PODS).await {
            let containers = pod.status.clone().and_then(|status| status.container_statuses).unwrap_or_default();
            let restarts: i32 = containers.iter().map(|container| container.restart_count).sum();
            assert_eq!(restarts, 0, "{}", pod.name_any());
        }
    }
}

/// Looks for the secrets in all that people read.
async fn nobody_reads_a_secret(site: &Site) {
    let mut said = vec![("plumb's log".to_owned(), site.plumb.log().join("\n"))];
    for arguments in [
        &["get", "events", "--all-namespaces", "-o", "yaml"][..],
        &["get", "environments", "-o", "yaml"],
        &["get", "deployments,replicasets,pods,services,configmaps", "--all-namespaces", "-o", "yaml"],
    ] {
        said.push((arguments.join(" "), site.scene.kubectl_ok(arguments, "").await));
    }
    for verb in [&["history", "dev"][..], &["status", "dev"], &["plan", "dev"], &["render", "dev"]] {
        said.push((verb.join(" "), site.scene.verb(verb).await.1));
    }
    let metrics = ask(&site.listens, request("GET", &site.listens, "/metrics", "", None)).await.unwrap();
    said.push(("metrics".to_owned(), metrics.1));
    for namespace in ["todo-dev", "todo-staging"] {
        for pod in site.pods(namespace, PODS).await {
            let name = pod.name_any();
            let log = site.scene.kubectl_ok(&["logs", &name, "--all-containers", "-n", namespace], "").await;
            said.push((format!("the log of {name}"), log));
        }
    }
    let mut secrets = secrets();
    secrets.push(PASSWORD.to_owned());
    for (place, text) in said {
        assert!(!text.is_empty() || place.starts_with("the log of"), "{place} has nothing to say");
        for secret in &secrets {
            assert!(!text.contains(secret), "{secret} is in {place}");
        }
    }
}

/// What pods need: memory, and the seconds from a container's start until it was Ready.
fn figures(pods: &[Pod]) {
    for pod in pods {
        let status = pod.status.clone().unwrap_or_default();
        let uid = pod.uid().unwrap_or_default();
        let started = status.container_statuses.iter().flatten().filter_map(|container| {
            container.state.as_ref()?.running.as_ref()?.started_at.as_ref().map(|started| started.0)
        });
        let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
        let ready = ready.and_then(|ready| ready.last_transition_time.as_ref()).map(|time| time.0);
        eprintln!(
            "{}: {} KiB, started {:?}, ready {:?}",
            pod.name_any(),
            memory(&uid).map_or_else(|| "?".to_owned(), |bytes| (bytes >> 10).to_string()),
            started.collect::<Vec<_>>(),
            ready,
        );
    }
}

/// What the processes of a pod have in memory: their proportional share.
fn memory(uid: &str) -> Option<u64> {
    let mut sum = 0;
    for process in std::fs::read_dir("/proc").ok()?.flatten().map(|process| process.path()) {
        let Ok(groups) = std::fs::read_to_string(process.join("cgroup")) else { continue };
        if !groups.contains(uid) {
            continue;
        }
        let rollup = std::fs::read_to_string(process.join("smaps_rollup")).ok()?;
        let line = rollup.lines().find(|line| line.starts_with("Pss:"))?;
        sum += line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10;
    }
    Some(sum)
}
