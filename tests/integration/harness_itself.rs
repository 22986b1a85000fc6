//! The harness is what all other tests believe, so it is tested first.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::api::{Api, Patch, PatchParams, PostParams};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::harness::{
    Change, Cluster, ControlPlane, Plumb, Program, SOON, ScratchRepository, TestEnv, eventually, start_under,
};

fn config_map(name: &str) -> Patch<serde_json::Value> {
    Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}}))
}

#[tokio::test]
async fn an_applied_object_is_attributed_to_the_tests_own_user() {
    let (one, other) = (TestEnv::new("attributed").await, TestEnv::new("other").await);
    let namespace = one.create_namespace("dev").await;
    let (Some(audit), Some(others)) = (one.audit(), other.audit()) else { return };
    let (mark, others_mark) = (audit.mark().await, others.mark().await);

    let api: Api<ConfigMap> = Api::namespaced(one.client().await, &namespace);
    let params = PatchParams::apply("plumb-test");
    api.patch("a", &params.clone().dry_run(), &config_map("a")).await.unwrap();
    api.patch("a", &params, &config_map("a")).await.unwrap();
    api.get("missing").await.unwrap_err();

    let seen = audit.since(mark).await;
    assert_eq!(seen.len(), 3, "{seen:?}");
    let config_maps = seen.of("configmaps").in_namespace(&namespace);
    assert_eq!(config_maps.dry_runs().len(), 1);
    assert_eq!(config_maps.writes().len(), 1);
    let write = config_maps.writes().0.remove(0);
    assert_eq!((write.verb.as_str(), write.object_ref.name.as_str(), write.code()), ("patch", "a", 201));
    assert_eq!(write.user.username, one.user());
    assert!(write.request_received_timestamp <= write.stage_timestamp);
    assert_eq!(config_maps.verb("get").only(|event| event.code() == 404).len(), 1);

    assert!(others.since(others_mark).await.is_empty(), "another test's log holds these requests");
    assert!(audit.since(audit.mark().await).await.is_empty(), "the log's own requests are counted");
}

#[tokio::test]
async fn the_log_tells_who_acted_as_whom_and_rbac_refuses() {
    let env = TestEnv::new("impersonated").await;
    let namespace = env.create_namespace("dev").await;
    let Some(audit) = env.audit() else { return };

    // The controllers run: one of them makes this account.
    let accounts: Api<ServiceAccount> = Api::namespaced(env.admin(), &namespace);
    eventually(SOON, || async { Ok(accounts.get("default").await?) }).await;

    let mark = audit.mark().await;
    let deployer = format!("system:serviceaccount:{namespace}:default");
    let mut config = kube::Config::from_custom_kubeconfig(
        kube::config::Kubeconfig::read_from(env.kubeconfig()).unwrap(),
        &kube::config::KubeConfigOptions::default(),
    )
    .await
    .unwrap();
    config.auth_info.impersonate = Some(deployer.clone());
    let api: Api<ConfigMap> = Api::namespaced(kube::Client::try_from(config).unwrap(), &namespace);
    api.patch("a", &PatchParams::apply("plumb-test"), &config_map("a")).await.unwrap_err();

    let refused = audit.since(mark).await.0.remove(0);
    assert_eq!(refused.code(), 403);
    assert_eq!(refused.user.username, env.user());
    assert_eq!(refused.impersonated_user.map(|user| user.username), Some(deployer));
}

#[tokio::test]
async fn two_clusters_stand_side_by_side() {
    let other = TestEnv::on(Cluster::Own(ControlPlane::start(false).into()), "side").await;
    let namespace = other.create_namespace("dev").await;
    let here = TestEnv::new("side").await;
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(here.admin());
    assert!(namespaces.get_opt(&namespace).await.unwrap().is_none(), "both are the same cluster");

    let directory = other.cluster().control_plane().unwrap().directory().to_owned();
    assert!(!processes_of(&directory).is_empty());
    drop(other);
    assert_eq!(processes_of(&directory), Vec::<String>::new());
    assert!(!directory.exists());
}

#[tokio::test]
async fn an_api_server_that_was_away_comes_back_with_its_data() {
    let cluster = Cluster::Own(ControlPlane::start(false).into());
    let env = TestEnv::on(cluster.clone(), "away").await;
    let control_plane = cluster.control_plane().unwrap();
    let api: Api<ConfigMap> = Api::namespaced(env.admin(), "default");
    let object = ConfigMap {
        metadata: kube::api::ObjectMeta { name: Some("kept".into()), ..Default::default() },
        ..Default::default()
    };
    api.create(&PostParams::default(), &object).await.unwrap();

    control_plane.stop(Program::ApiServer);
    api.get("kept").await.unwrap_err();
    control_plane.start_again(Program::ApiServer);
    api.get("kept").await.unwrap();

    control_plane.pause(Program::ApiServer);
    let hangs = tokio::time::timeout(Duration::from_millis(300), api.get("kept")).await;
    // An error may come at once, from a connection of before the restart; an answer never.
    assert!(!matches!(hangs, Ok(Ok(_))), "a paused server answered: {hangs:?}");
    control_plane.resume(Program::ApiServer);
    api.get("kept").await.unwrap();
}

#[tokio::test]
async fn no_process_outlives_a_killed_parent() {
    // A shell in the place of a test process: it holds the pipe, and is then killed with no chance to clean up.
    let script = "exec 3> >(exec tests/cluster/control-plane run --until-eof --no-controller-manager); read -r";
    let (mut parent, directory) = start_under(&["bash", "-c", script]);
    let supervisor = supervisor_of(&directory);
    assert!(!processes_of(&directory).is_empty() && supervisor.exists());
    parent.kill().unwrap();
    parent.wait().unwrap();
    gone(&directory).await;
    eventually(SOON, || async {
        ensure!(!supervisor.exists(), "the supervisor runs on: {}", supervisor.display());
        ensure!(!directory.exists(), "the directory stays behind: {}", directory.display());
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn no_process_outlives_a_parent_that_is_killed_while_it_starts() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("cluster");
    let script = "exec 3> >(exec tests/cluster/control-plane run --until-eof --dir \"$0\"); read -r";
    let mut parent = Command::new("bash")
        .args(["-c", script, directory.to_str().unwrap()])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // An etcd that stands still keeps the start from getting further, however slow this test is.
    eventually(SOON, || async { stop_etcd_of(&directory).context("etcd is not started yet") }).await;
    assert!(!directory.join("ready").exists(), "the test came too late to test anything");
    parent.kill().unwrap();
    parent.wait().unwrap();
    gone(&directory).await;
    eventually(SOON, || async {
        ensure!(!directory.exists(), "the directory stays behind");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn no_process_outlives_a_killed_supervisor() {
    // Any run sweeps what others left behind: this one has a place where no other test's run looks.
    let scratch = tempfile::tempdir().unwrap();
    let place = format!("TMPDIR={}", scratch.path().display());
    let start = || {
        start_under(&["env", &place, "tests/cluster/control-plane", "run", "--until-eof", "--no-controller-manager"])
    };
    let (mut supervisor, directory) = start();
    assert!(directory.starts_with(scratch.path()));
    assert!(!processes_of(&directory).is_empty());
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    gone(&directory).await;

    assert!(directory.exists(), "nobody was left to remove it");
    let (mut next, _) = start();
    assert!(!directory.exists(), "the next run removes it");
    drop(next.stdin.take());
    assert!(next.wait().unwrap().success());
}

/// Where /proc has the supervisor, whose own command line does not tell the directory.
fn supervisor_of(directory: &Path) -> PathBuf {
    let pid = std::fs::read_to_string(directory.join("pid")).unwrap();
    Path::new("/proc").join(pid.trim())
}

/// The command lines of the processes that have something to do with `directory`.
fn processes_of(directory: &Path) -> Vec<String> {
    let directory = directory.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(directory)).map(|line| line.replace('\0', " ")).collect()
}

/// Freezes the etcd of a cluster, if it runs.
fn stop_etcd_of(directory: &Path) -> Option<()> {
    let directory = directory.to_str()?;
    let is_etcd = |line: &[u8]| {
        let mut arguments = line.split(|byte| *byte == 0);
        let program = arguments.next().unwrap_or_default();
        program.ends_with(b"/etcd") && arguments.any(|argument| argument.starts_with(directory.as_bytes()))
    };
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let etcd = processes
        .map(|process| process.path())
        .find(|process| std::fs::read(process.join("cmdline")).is_ok_and(|line| is_etcd(&line)))?;
    let pid = Pid::from_raw(etcd.file_name()?.to_str()?.parse().ok()?)?;
    kill_process(pid, Signal::STOP).ok()
}

async fn gone(directory: &Path) {
    eventually(SOON, || async {
        let left = processes_of(directory);
        ensure!(left.is_empty(), "still there: {left:?}");
        Ok(())
    })
    .await;
}

#[test]
fn commits_build_on_each_other() {
    let repository = ScratchRepository::new();
    let first = repository.commit("main", [("a/b.yaml", "one"), ("c.yaml", "two")]);
    let second = repository.commit("dev", [("a/b.yaml", Change::Remove), ("link", Change::Link("c.yaml".into()))]);

    let git = repository.open();
    let commit = git.find_commit(second).unwrap();
    assert_eq!(commit.parent_id(0).unwrap(), first, "a new branch starts at main");
    let tree = commit.tree().unwrap();
    assert_eq!(tree.iter().map(|entry| entry.name().unwrap().to_owned()).collect::<Vec<_>>(), ["c.yaml", "link"]);
    repository.set_branch("dev", first);
    assert_eq!(git.refname_to_id("refs/heads/dev").unwrap(), first);
}

/// A shell script stands in for plumb, which the handle need not know.
fn shell(script: &str) -> Plumb {
    Plumb::spawn_program("sh", Path::new("/dev/null"), ["-c", script], |_| {})
}

#[tokio::test]
async fn the_handle_of_a_process_reads_both_streams_and_ends_it() {
    let mut process = shell("trap 'echo bye; exit 3' TERM; echo one; echo two >&2; while :; do sleep 0.05; done");
    assert_eq!(process.wait_for_log(|line| line == "one", SOON).await, "one");
    assert_eq!(process.wait_for_log(|line| line.contains("tw"), SOON).await, "two");
    assert!(process.peak_rss() >= process.rss() && process.rss() > 0);
    let seen = process.log_len();
    assert_eq!(process.terminate(SOON).await.code(), Some(3));
    assert_eq!(process.wait_for_log_after(seen, |_| true, SOON).await, "bye");
}

#[tokio::test]
#[should_panic(expected = "without the line; it said:\nonly this")]
async fn waiting_for_a_line_of_a_process_that_ended_fails_at_once() {
    let mut process = shell("echo only this");
    process.wait_for_log(|line| line == "another", Duration::from_secs(600)).await;
}

#[tokio::test]
#[should_panic(expected = "not within 50ms: still no")]
async fn waiting_is_bounded_and_says_what_was_seen_last() {
    eventually(Duration::from_millis(50), || async { Err::<(), _>(anyhow::anyhow!("still no")) }).await;
}
