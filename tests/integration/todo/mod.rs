//! The Todo Chatbot from end to end: a push is built, migrated and deployed, and somebody uses it in a browser while plumb heals, refuses and rolls back.
//!
//! One node and one story, since every part of it needs the one before. What it prints with `--nocapture` are the figures.

mod beside;
mod browser;
mod canary;
mod compose;
mod figures;
mod http;
mod load;
mod site;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::ensure;
use git2::Oid;
use k8s_openapi::api::core::v1::{Container, Event, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::json;

use self::browser::Browser;
use self::canary::Said;
use self::http::{ask, request};
use self::load::Load;
use self::site::Site;
use crate::harness::eventually;
use crate::scene::{SOON, short};

/// Two pods of the frontend, two of the backend, one of the MCP server.
const PODS: usize = 5;
/// In staging each backend has an MCP server beside it.
const STAGING_PODS: usize = PODS - 1;
/// From a container's start to its pod's Ready. Kubernetes tells both in whole seconds.
const COLD_START: u64 = 3;
const EMAIL: &str = "ada@example.org";
const PASSWORD: &str = "a canary that Ada types";
/// What somebody writes into a Secret by hand, and how it stands there.
const BY_HAND: [&str; 2] = ["canary-by-hand", "Y2FuYXJ5LWJ5LWhhbmQ="];

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
    // Asserted where figures are asked for: whoever wants none may be on a machine that is busy.
    let bound = std::env::var_os("PLUMB_LOAD").map(|_| COLD_START);
    figures::print(&pods, site.plumb.rss(), bound);

    let mut said = Said::default();
    let browser = Browser::start(&format!("http://{}", site.frontend(30300))).await;
    signs_up_and_adds_a_task_by_chat(&browser).await;
    said.logs(&site, "todo-dev", false).await;
    pods_go_and_what_was_said_stays(&site, &browser).await;
    drift_is_healed_and_told(&mut site).await;
    let broken = a_broken_migration_fails_and_the_old_pods_serve(&mut site, &browser).await;
    said.logs(&site, "todo-dev", false).await;
    a_rollback_builds_nothing(&mut site, &mut said, first, broken).await;
    said.logs(&site, "todo-dev", false).await;
    a_new_version_loses_no_request(&mut site).await;
    staging_gets_what_dev_has(&site, &mut said).await;

    assert_eq!(browser.complaints().await, Vec::<String>::new());
    restarts_are_none(&site).await;
    said.logs(&site, "todo-dev", true).await; // RUST_LOG=warn by now
    said.logs(&site, "todo-staging", false).await;
    said.everything_else(&site).await;
    said.has_none_of(&[&[PASSWORD], &BY_HAND[..]].concat());
    let (images, archives) = site.archives(first).await;
    figures::images_are_small(&images, &archives);
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

/// What somebody does with kubectl, and what plumb says of it.
struct Edit<'a> {
    kubectl: &'a [&'a str],
    /// What changes the file, with `kubectl edit`.
    editor: &'a str,
    object: (&'a str, &'a str),
    field: &'a str,
    manager: &'a str,
}

async fn drift_is_healed_and_told(site: &mut Site) {
    let secret = format!(r#"{{"stringData":{{"openai-api-key":"{}"}}}}"#, BY_HAND[0]);
    let edits = [
        Edit {
            kubectl: &["scale", "deployment/todo-backend", "--replicas=4"],
            editor: "",
            object: ("Deployment", "todo-backend"),
            field: "spec.replicas",
            manager: "kubectl/scale",
        },
        Edit {
            kubectl: &["edit", "deployment/todo-frontend"],
            editor: "sed -i s/256Mi/1Gi/",
            object: ("Deployment", "todo-frontend"),
            field: "limits.memory",
            manager: "kubectl-edit",
        },
        Edit {
            kubectl: &["edit", "configmap/todo-config"],
            editor: "sed -i s/info/trace/",
            object: ("ConfigMap", "todo-config"),
            field: "RUST_LOG",
            manager: "kubectl-edit",
        },
        Edit {
            kubectl: &["patch", "secret/todo-secrets", "--patch", &secret],
            editor: "",
            object: ("Secret", "todo-secrets"),
            field: "openai-api-key",
            manager: "kubectl-patch",
        },
    ];
    for Edit { kubectl, editor, object, field, manager } in edits {
        let after = site.plumb.log_len();
        site.by_hand(kubectl, editor).await;
        let (kind, name) = object;
        let texts = [" drift ", &format!("{kind}/todo-dev/{name}"), field, manager, "action=reverted"];
        site.line(after, &texts).await;
        told(site, object, &[field, manager]).await;
    }
    site.is("dev", "Drifted", "False", &[]).await;
    site.is("dev", "Healthy", "True", &[]).await;
    site.pods("todo-dev", PODS).await;
}

/// Waits for an Event on an object that has all these texts.
async fn told(site: &Site, (kind, name): (&str, &str), texts: &[&str]) {
    let events: Api<Event> = Api::all(site.scene.env.admin());
    let of = ListParams::default().fields(&format!("involvedObject.kind={kind},involvedObject.name={name}"));
    eventually(SOON, || async {
        let told = events.list(&of).await?.items.into_iter().filter_map(|event| event.message).collect::<Vec<_>>();
        let has_all = |message: &String| texts.iter().all(|text| message.contains(text));
        ensure!(told.iter().any(has_all), "no Event on {kind} {name} tells of {texts:?}: {told:?}");
        Ok(())
    })
    .await;
}

async fn a_broken_migration_fails_and_the_old_pods_serve(site: &mut Site, browser: &Browser) -> Oid {
    site.fail_rollouts_after("60s");
    let (builds, after) = (site.builds().len(), site.plumb.log_len());
    let broken = site.push_to_build([(
        "apps/backend/migrations/99990101000000_broken.sql",
        "ALTER TABLE no_such_table ADD COLUMN x int;\n",
    )]);
    site.deployed("dev", broken).await;
    let built = site.builds().split_off(builds);
    assert!(built.len() == 1 && built[0].contains("image=todo-backend"), "one image is another one: {built:?}");
    eprintln!("{}", built[0]);
    // Which migration, and what the database said of it: so the init container's log is in the reason.
    let why = ["todo-backend", "99990101000000", "no_such_table"];
    eprintln!("a broken migration: {}", site.is("dev", "Healthy", "False", &why).await.message);
    let line = site.line(after, &[&why[..], &["ERROR failed", "stage=health", &short(broken)]].concat()).await;
    assert!(line.contains("object=Deployment/todo-dev/todo-backend"), "{line}");
    told(site, ("Environment", "dev"), &[&why[..], &["failed at health", &short(broken)]].concat()).await;
    site.fail_rollouts_after("90s");
    browser.open("/").await;
    browser.sees("#tasks li", "buy milk").await;
    browser.fill("#new-task", "while it is broken").await;
    browser.click("#add-task button").await;
    browser.sees("#tasks li", "while it is broken").await;
    broken
}

async fn a_rollback_builds_nothing(site: &mut Site, said: &mut Said, to: Oid, from: Oid) {
    let mut config = site.scene.env.repository().open().config().unwrap();
    config.set_str("user.name", "Grace").and_then(|()| config.set_str("user.email", "grace@example.org")).unwrap();
    let builds = site.builds();
    let started = Instant::now();
    let output = said.verb(site, &["rollback", "dev"]).await;
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

async fn staging_gets_what_dev_has(site: &Site, said: &mut Said) {
    site.make_staging_secrets().await;
    let builds = site.builds();
    let repository = site.scene.env.repository();
    repository.set_branch("staging", site.older);
    site.deployed("staging", site.older).await;
    site.pods("todo-staging", STAGING_PODS - 1).await;
    said.verb(site, &["promote", "dev", "staging"]).await;
    let head = |branch: &str| repository.open().refname_to_id(&format!("refs/heads/{branch}")).unwrap();
    assert_eq!(head("staging"), head("dev"));
    site.deployed("staging", head("staging")).await;
    site.is("staging", "Healthy", "True", &[]).await;
    let pods = site.pods("todo-staging", STAGING_PODS).await;
    assert_eq!(pods.iter().filter(|pod| has_own_mcp(pod)).count(), 2, "both backends' pods have an MCP server");
    assert_eq!(site.builds(), builds, "the same content has the same images");
    let browser = Browser::start(&format!("http://{}", site.frontend(30301))).await;
    browser.open("/signin").await;
    browser.fill("#email", EMAIL).await;
    browser.fill("#password", PASSWORD).await;
    browser.click("main button[type=submit]").await;
    // Ada is in the other database. Here she comes in by an account of this one, as a task does by this MCP server.
    browser.sees("[role=alert]", "E-mail address and password do not belong together.").await;
    signs_up_and_adds_a_task_by_chat(&browser).await;
    assert_eq!(browser.faults().await, Vec::<String>::new());
}

fn has_own_mcp(pod: &Pod) -> bool {
    let has = |containers: &[Container], name| containers.iter().any(|container| container.name == name);
    let spec = pod.spec.clone().unwrap_or_default();
    has(&spec.containers, "backend") && has(&spec.init_containers.unwrap_or_default(), "mcp")
}

async fn restarts_are_none(site: &Site) {
    for (namespace, count) in [("todo-dev", PODS), ("todo-staging", STAGING_PODS)] {
        for pod in site.pods(namespace, count).await {
            let status = pod.status.clone().unwrap_or_default();
            let containers =
                [status.init_container_statuses, status.container_statuses].into_iter().flatten().flatten();
            let restarts: Vec<_> = containers.map(|container| (container.name, container.restart_count)).collect();
            assert!(restarts.iter().all(|(_, count)| *count == 0), "{}: {restarts:?}", pod.name_any());
        }
    }
}
