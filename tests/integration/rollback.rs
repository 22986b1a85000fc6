//! The verbs for people: `plumb rollback`, `promote`, `history` and `status --watch`, beside the daemon that deploys what they write.

mod shared;

use std::path::Path;
use std::process::Command;

use git2::{Oid, Repository};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use serde_json::Value;

use crate::harness::{Plumb, eventually};
use crate::scene::{SOON, Scene, config_map, definition, file_of, short};

impl Scene {
    /// Says who writes commits in this repository.
    fn sign(&self) {
        let mut config = self.env.repository().open().config().expect("its config");
        config
            .set_str("user.name", "Grace")
            .and_then(|()| config.set_str("user.email", "grace@example.org"))
            .expect("set");
    }

    fn head(&self, branch: &str) -> Oid {
        self.env.repository().open().refname_to_id(&format!("refs/heads/{branch}")).expect("the branch")
    }

    /// The subject of a branch's head.
    fn subject(&self, branch: &str) -> String {
        let repository = self.env.repository().open();
        repository.find_commit(self.head(branch)).unwrap().summary().unwrap().unwrap().to_owned()
    }

    /// `plumb ARGS` must end with this code; what it printed.
    async fn say(&self, code: i32, args: &[&str]) -> String {
        let (ended, output) = self.verb(args).await;
        assert_eq!(ended, Some(code), "plumb {args:?}: {output}");
        output
    }

    /// The outcome and subject of each deployment, newest first.
    async fn history(&self) -> Vec<(String, String)> {
        let output = self.say(0, &["history", &self.name, "-o", "json"]).await;
        let history: Value = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}"));
        assert!(history.get("note").is_none(), "{output}");
        let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
        let lines = history["deployments"].as_array().unwrap().iter();
        lines.map(|line| (text(line, "outcome"), text(line, "subject"))).collect()
    }
}

fn objects(repository: &Repository) -> usize {
    let mut count = 0;
    repository
        .odb()
        .unwrap()
        .foreach(|_| {
            count += 1;
            true
        })
        .unwrap();
    count
}

#[tokio::test]
async fn a_roll_back_deploys_what_stood_before() {
    let scene = Scene::new("rollback").await;
    scene.sign();
    let name = &*scene.name;
    let _plumb = scene.run();
    let mut pushed = Vec::new();
    for value in ["1", "2", "3"] {
        let commit = scene.push([("a.yaml", config_map("a", &[("x", value)]))]);
        scene.deployed(commit).await;
        pushed.push(commit);
    }
    let [first, second, third] = pushed[..] else { unreachable!() };

    let before = objects(&scene.env.repository().open());
    let mark = match scene.env.audit() {
        Some(audit) => Some((audit, audit.mark().await)),
        None => None,
    };
    let shown = scene.say(0, &["rollback", name, "--dry-run"]).await;
    if let Some((audit, mark)) = mark {
        assert_eq!(audit.since(mark).await.writes().len(), 0, "the API server was only asked");
    }
    assert!(shown.contains(&format!("from {} back to {}", short(third), short(second))), "{shown}");
    assert!(shown.contains("+ ") && shown.contains("Revert \"test: a change\""), "{shown}");
    assert!(shown.contains("ConfigMap/") && shown.contains("1 to update"), "the plan: {shown}");
    assert_eq!((scene.head("dev"), objects(&scene.env.repository().open())), (third, before), "nothing was written");

    let said = scene.say(0, &["rollback", name]).await;
    let back = scene.head("dev");
    assert!(said.contains(&format!("Branch dev is at {}", short(back))), "{said}");
    assert_eq!(scene.subject("dev"), "Revert \"test: a change\"");
    assert_eq!(scene.deployed(back).await.applied, 1);
    scene.data_becomes("a", Some("x=2")).await;
    assert_eq!(scene.history().await[0], ("Deployed".to_owned(), "Revert \"test: a change\"".to_owned()));

    // Once more is one more step back, not there and back again.
    scene.say(0, &["rollback", name, "--squash"]).await;
    assert_eq!(scene.subject("dev"), format!("Roll {name} back to {}", short(first)));
    scene.deployed(scene.head("dev")).await;
    scene.data_becomes("a", Some("x=1")).await;
    let at_first = scene.head("dev");
    let said = scene.say(1, &["rollback", name]).await;
    assert!(said.contains("--to"), "there is nothing before the first: {said}");
    let said = scene.say(0, &["rollback", name, "--to", &first.to_string()]).await;
    assert!(said.contains("Nothing to do"), "{said}");
    assert_eq!(scene.head("dev"), at_first);
    // What is deployed is settled; for a second after a write the ownership record can't tell.
    eventually(SOON, || async {
        let (code, output) = scene.verb(&["plan", name, "--exit-code"]).await;
        anyhow::ensure!(code == Some(0), "{output}");
        Ok(())
    })
    .await;

    // And forward again, by name: ordinary commits, like any.
    scene.say(0, &["rollback", name, "--to", "HEAD~1"]).await;
    scene.deployed(scene.head("dev")).await;
    scene.data_becomes("a", Some("x=2")).await;
}

#[tokio::test]
async fn a_failed_head_is_rolled_back_to_the_last_good_one() {
    let scene = Scene::new("badhead").await;
    scene.sign();
    let mut plumb = scene.run();
    let good = scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
    scene.deployed(good).await;
    let beside = scene.env.repository().commit("dev", [("README.md", "beside")]);
    plumb.wait_for_log(|line| line.contains("unchanged") && line.contains(&short(beside)), SOON).await;
    let bad = scene.push([("a.yaml", "kind: [")]);
    scene.failed(bad).await;
    let said = scene.say(0, &["rollback", &scene.name]).await;
    assert!(said.contains(&format!("back to {}", short(beside))) && said.contains(&short(good)), "{said}");
    scene.ended(scene.head("dev")).await;
    let outcomes: Vec<_> = scene.history().await.into_iter().map(|(outcome, _)| outcome).collect();
    assert_eq!(outcomes, ["Unchanged", "Failed", "Unchanged", "Deployed"], "the README's commit is known from git");
    scene.data_becomes("a", Some("x=1")).await;
}

#[tokio::test]
async fn what_is_promoted_is_deployed_in_the_other_environment() {
    let scene = Scene::new("promote").await;
    scene.sign();
    let (staging, namespace) = (scene.env.name("staging"), scene.env.name("ns2"));
    let text = definition(&staging, "staging", &namespace, "manifests", "");
    scene.env.repository().commit("main", [(file_of(&staging), text)]);
    let there: Api<ConfigMap> = Api::namespaced(scene.env.admin(), &namespace);
    let value = async |name: &str| there.get(name).await.unwrap().data.unwrap()["x"].clone();
    let (from, to) = (&*scene.name, &*staging);
    let _plumb = scene.run();
    let first = scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
    scene.deployed(first).await;

    let shown = scene.say(0, &["promote", from, to, "--dry-run"]).await;
    assert!(shown.contains("ConfigMap/") && shown.contains("1 to create"), "{shown}");
    assert!(scene.env.repository().open().refname_to_id("refs/heads/staging").is_err());
    scene.say(0, &["promote", from, to]).await;
    assert_eq!(scene.head("staging"), first, "the branch is made where dev is");
    scene.deployed_in(to, first).await;
    assert_eq!(value("a").await, "1");
    assert!(scene.say(0, &["promote", from, to]).await.contains("Nothing to do"));

    // Both went on: a merge.
    scene.push_to("staging", [("b.yaml", config_map("b", &[("x", "staging's")]))]);
    let second = scene.push([("a.yaml", config_map("a", &[("x", "2")]))]);
    scene.deployed(second).await;
    let shown = scene.say(0, &["promote", from, to, "-o", "json"]).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["arrival"], &shown["written"], &shown["count"]), (&"merge".into(), &true.into(), &1.into()));
    let merge = scene.head("staging");
    assert_eq!(shown["after"], merge.to_string());
    scene.deployed_in(to, merge).await;
    assert_eq!((value("a").await, value("b").await), ("2".to_owned(), "staging's".to_owned()));

    // The same place: nothing is written.
    scene.push_to("staging", [("a.yaml", config_map("a", &[("x", "hotfix")]))]);
    let hotfix = scene.head("staging");
    scene.push([("a.yaml", config_map("a", &[("x", "3")]))]);
    let said = scene.say(1, &["promote", from, to]).await;
    assert!(said.contains("manifests/a.yaml") && said.contains("Nothing was written"), "{said}");
    assert_eq!(scene.head("staging"), hotfix);
    // What failed where it comes from is not kept from going on, but said.
    let bad = scene.push([("c.yaml", "kind: [")]);
    scene.failed(bad).await;
    scene.env.repository().set_branch("staging", merge);
    let said = scene.say(1, &["promote", from, to, "--dry-run"]).await;
    assert!(said.contains(&format!("! {} failed in {from}: manifests/c.yaml", short(bad))), "{said}");
    assert!(said.contains("! no plan: manifests/c.yaml") && said.contains("Nothing was written"), "{said}");
    let said = scene.say(1, &["promote", from, from]).await;
    assert!(said.contains("the same branch"), "{said}");
}

#[tokio::test]
async fn a_branch_that_moves_meanwhile_wins() {
    let scene = Scene::new("meanwhile").await;
    scene.sign();
    let _plumb = scene.run();
    let first = scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
    scene.deployed(first).await;
    let second = scene.push([("a.yaml", config_map("a", &[("x", "2")]))]);
    scene.deployed(second).await;
    // Somebody's push arrives while that of the roll-back is being taken.
    let newer = scene.env.repository().write("dev", [("manifests/a.yaml", config_map("a", &[("x", "3")]))]);
    let hook = scene.env.repository().path().join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    let script = format!("#!/bin/sh\nunset GIT_QUARANTINE_PATH\ngit update-ref refs/heads/dev {newer}\n");
    std::fs::write(&hook, script).unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let said = scene.say(1, &["rollback", &scene.name]).await;
    assert!(said.contains("moved meanwhile; nothing was written"), "{said}");
    assert_eq!(scene.head("dev"), newer);
    scene.deployed(newer).await;
    scene.data_becomes("a", Some("x=3")).await;
}

#[tokio::test]
async fn a_remote_repository_is_rolled_back_too() {
    let scene = Scene::new("remote").await;
    let mirrors = tempfile::tempdir().unwrap();
    let url = format!("file://{}", scene.env.repository().path().display());
    let more = ["--mirrors".as_ref(), mirrors.path(), "--poll".as_ref(), "100ms".as_ref()];
    let start = |verb: &[&str]| {
        let args = verb.iter().map(Path::new).chain(["--repo".as_ref(), Path::new(&url)]).chain(more);
        Plumb::spawn_with(scene.env.kubeconfig(), args, |command| {
            let who = ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"];
            command.envs(who.map(|name| (name, "grace@example.org")));
        })
    };
    let first = scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
    let _plumb = start(&["run", "--instance", &scene.instance()]);
    scene.deployed(first).await;
    let second = scene.push([("a.yaml", config_map("a", &[("x", "2")]))]);
    scene.deployed(second).await;
    let mut rollback = start(&["rollback", &scene.name]);
    assert!(rollback.wait(SOON).await.success(), "{}", rollback.output().await);
    let repository = scene.env.repository().open();
    let back = repository.find_commit(scene.head("dev")).unwrap();
    assert_eq!((back.parent_id(0).unwrap(), back.author().name().unwrap()), (second, "grace@example.org"));
    scene.deployed(back.id()).await;
    scene.data_becomes("a", Some("x=1")).await;
}

#[tokio::test]
async fn without_a_name_a_repository_or_a_cluster_it_says_so() {
    let scene = Scene::new("without").await;
    let home = tempfile::tempdir().unwrap();
    let first = scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
    {
        let _plumb = scene.run();
        scene.deployed(first).await;
    }
    let second = scene.push([("a.yaml", config_map("a", &[("x", "2")]))]);
    let repository = scene.env.repository().path();
    let start = |args: &[&str], repository: &Path| {
        let args = args.iter().map(Path::new).chain(["--repo".as_ref(), repository]);
        Plumb::spawn_with(scene.env.kubeconfig(), args, |command| {
            command.env("HOME", home.path()).env("XDG_CONFIG_HOME", home.path()).env_remove("EMAIL");
        })
    };
    let mut nobody = start(&["rollback", &scene.name], &repository);
    assert_eq!(nobody.wait(SOON).await.code(), Some(1));
    assert!(nobody.output().await.contains("git config --global user.name"), "{}", nobody.output().await);
    assert_eq!(scene.head("dev"), second);

    let mut history = start(&["history", &scene.name], Path::new("/nowhere"));
    assert_eq!(history.wait(SOON).await.code(), Some(0));
    let output = history.output().await;
    assert!(output.contains(&short(first)) && output.contains("there is no repository at /nowhere"), "{output}");

    // What waits is known from git: the head was never ended.
    assert_eq!(scene.history().await[0].0, "Pending");

    scene.sign();
    let args = ["rollback", &scene.name, "--kubeconfig", "/nowhere"];
    let said = scene.say(0, &args).await;
    assert!(said.contains("the commit before the head") && said.contains("/nowhere"), "{said}");
    let back = scene.env.repository().open().find_commit(scene.head("dev")).unwrap().tree_id();
    assert_eq!(back, scene.env.repository().open().find_commit(first).unwrap().tree_id());
}

/// Runs git, which must go well, and gives what it prints.
fn git(directory: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(directory).env("GIT_CONFIG_GLOBAL", "/dev/null").args(args);
    let output = command.output().expect("git starts");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn what_is_to_be_typed_in_a_work_tree_does_the_same() {
    let scene = Scene::new("byhand").await;
    scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
    let scratch = tempfile::tempdir().unwrap();
    let work = scratch.path().join("Ada's work");
    git(scratch.path(), &["clone", "-q", "-b", "dev", scene.env.repository().path().to_str().unwrap(), "Ada's work"]);
    git(&work, &["config", "user.name", "Ada"]);
    git(&work, &["config", "user.email", "ada@example.org"]);
    git(&work, &["branch", "main", "origin/main"]);
    let commit = |file: &str| {
        std::fs::write(work.join(file), file).unwrap();
        git(&work, &["add", "--all"]);
        git(&work, &["commit", "-qm", file]);
    };
    let target = git(&work, &["rev-parse", "HEAD"]);
    commit("one");
    git(&work, &["switch", "-qc", "side"]);
    commit("beside");
    git(&work, &["switch", "-q", "dev"]);
    commit("two");
    git(&work, &["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    commit("three");
    let head = git(&work, &["rev-parse", "HEAD"]);
    for (squash, commits) in [(None, "4"), (Some("--squash"), "1")] {
        let args =
            ["rollback", &scene.name, "--to", &target, "--config-branch", "main", "--repo", work.to_str().unwrap()];
        let mut rollback = Plumb::spawn(scene.env.kubeconfig(), args.into_iter().chain(squash));
        assert_eq!(rollback.wait(SOON).await.code(), Some(1));
        let said = rollback.output().await;
        assert!(said.contains("branch dev is checked out in"), "{said}");
        assert_eq!(git(&work, &["rev-parse", "HEAD"]), head);
        let commands: Vec<&str> = said.lines().filter(|line| line.starts_with("  git -C ")).collect();
        for command in &commands {
            let done =
                Command::new("sh").arg("-c").arg(command).env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
            assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
        }
        let tree = |of: &str| git(&work, &["rev-parse", &format!("{of}^{{tree}}")]);
        assert_eq!(
            (tree("HEAD"), git(&work, &["status", "--porcelain"])),
            (tree(&target), String::new()),
            "{commands:?}"
        );
        assert_eq!(git(&work, &["rev-list", "--count", &format!("{head}..HEAD")]), commits, "{commands:?}");
        git(&work, &["reset", "-q", "--hard", &head]);
    }
}

#[tokio::test]
async fn status_prints_what_changes_until_it_is_interrupted() {
    let scene = Scene::new("follow").await;
    let first = scene.push([("a.yaml", config_map("a", &[("x", "1")]))]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    let mut one = Plumb::spawn(scene.env.kubeconfig(), ["status", &scene.name, "--watch"]);
    let mut all = Plumb::spawn(scene.env.kubeconfig(), ["status", "-w", "-o", "json"]);
    one.wait_for_log(|line| line.contains(&short(first)) && line.contains("Deployed applied=1"), SOON).await;
    let is = |line: &str, commit: Oid| {
        line.contains(&scene.name) && line.contains(&format!("\"shortCommit\":\"{}\"", short(commit)))
    };
    all.wait_for_log(|line| is(line, first), SOON).await;

    let printed = one.log_len();
    let second = scene.push([("a.yaml", config_map("a", &[("x", "2")]))]);
    one.wait_for_log_after(printed, |line| line.contains(&short(second)) && line.contains("applied=1"), SOON).await;
    all.wait_for_log(|line| is(line, second), SOON).await;
    let again = one.log()[printed..]
        .iter()
        .filter(|line| line.contains("Deployed applied=1") && line.contains(&short(first)))
        .count();
    assert_eq!(again, 0, "what stays is not printed again: {:#?}", one.log());
    for plumb in [&mut one, &mut all] {
        plumb.signal(rustix::process::Signal::INT);
        assert_eq!(plumb.wait(SOON).await.code(), Some(0));
    }
}
