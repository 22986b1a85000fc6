use std::time::Duration;

use super::support::*;
use crate::source::{RepositoryUrl, SourceSettings, SourceState};

#[tokio::test]
async fn a_push_is_published_by_an_event() {
    let scratch = Scratch::new();
    let (bare, work) = scratch.bare("repo.git");
    let mut watched = start(&bare);
    watched.until_ready().await;
    for text in ["two", "three"] {
        let id = commit(&work, "a.txt", text);
        git(&work, &["push", "-q", "origin", "dev"]);
        watched.until_at("dev", id).await;
    }
    // A force push to an older commit is news like any other.
    let older = head(&work, "HEAD~2");
    git(&work, &["push", "-q", "--force", "origin", "HEAD~2:dev"]);
    let state = watched.until_at("dev", older).await;
    let (_, store) = state.heads().unwrap();
    assert!(!store.is_ancestor(head(&work, "HEAD"), older).unwrap(), "the daemon can tell the rewind");
}

#[tokio::test]
async fn the_poll_finds_what_events_missed() {
    let scratch = Scratch::new();
    let (bare, work) = scratch.bare("repo.git");
    let mut settings = SourceSettings::new(RepositoryUrl::Local(bare));
    settings.interval = Some(Duration::from_millis(50));
    let mut watched = start_with(settings);
    watched.until_ready().await;
    let id = commit(&work, "a.txt", "two");
    git(&work, &["push", "-q", "origin", "dev"]);
    watched.until_at("dev", id).await;
}

#[tokio::test]
async fn nested_branches_are_heard_as_their_directories_come_and_go() {
    let scratch = Scratch::new();
    let (bare, work) = scratch.bare("repo.git");
    let id = head(&work, "HEAD");
    let mut watched = start(&bare);
    watched.until_ready().await;
    for _ in 0..3 {
        for name in ["team/a/dev", "team/a/prod", "team/b"] {
            git(&work, &["push", "-q", "origin", &format!("dev:refs/heads/{name}")]);
            watched.until_at(name, id).await;
        }
        git(&work, &["push", "-q", "origin", ":team/a/dev", ":team/a/prod", ":team/b"]);
        watched
            .until("only dev is left", |state| state.heads().is_some_and(|(heads, _)| heads.branches.len() == 1))
            .await;
    }
}

#[tokio::test]
async fn packing_refs_is_no_news() {
    let scratch = Scratch::new();
    let (bare, work) = scratch.bare("repo.git");
    let mut watched = start(&bare);
    watched.until_ready().await;
    watched.now();
    git(&bare, &["pack-refs", "--all"]);
    git(&bare, &["gc", "-q"]);
    std::fs::write(bare.join("refs/heads/dev.lock"), "").unwrap();
    std::fs::remove_file(bare.join("refs/heads/dev.lock")).unwrap();
    // The next thing heard is the next thing that happened.
    let id = commit(&work, "a.txt", "two");
    git(&work, &["push", "-q", "origin", "dev:other"]);
    watched.states.changed().await.unwrap();
    assert_eq!(at(&watched.now(), "other"), Some(id));
}

#[tokio::test]
async fn a_burst_of_branches_ends_at_the_newest_heads() {
    let scratch = Scratch::new();
    let (bare, work) = scratch.bare("repo.git");
    let mut watched = start(&bare);
    watched.until_ready().await;
    let specs: Vec<String> = (0..100).map(|n| format!("dev:refs/heads/env/{n}")).collect();
    for text in ["two", "three"] {
        let id = commit(&work, "a.txt", text);
        let mut arguments = vec!["push", "-q", "origin"];
        arguments.extend(specs.iter().map(String::as_str));
        git(&work, &arguments);
        let all = |state: &SourceState| (0..100).all(|n| at(state, &format!("env/{n}")) == Some(id));
        watched.until("all hundred", all).await;
    }
}

#[tokio::test]
async fn a_repository_that_is_not_there_is_waited_for() {
    let scratch = Scratch::new();
    let path = scratch.path("not/yet/repo.git");
    let mut watched = start(&path);
    let state = watched.until("waiting", |state| matches!(state, SourceState::Waiting { .. })).await;
    let reason = |state: &SourceState| state.trouble().unwrap_or_default().to_owned();
    watched.until("the reason", |state| reason(state).contains("no repository at")).await;
    drop(state);
    std::fs::create_dir_all(&path).unwrap();
    watched.until("half of one", |state| reason(state).contains("not a git repository")).await;
    git(&path, &["init", "-q", "--bare", "-b", "dev"]);
    watched.until_ready().await;
    let work = scratch.work_tree("work");
    git(&work, &["push", "-q", path.to_str().unwrap(), "dev"]);
    watched.until_at("dev", head(&work, "HEAD")).await;
}

#[tokio::test]
async fn a_commit_in_a_work_tree_and_in_a_linked_one_is_heard() {
    let scratch = Scratch::new();
    let work = scratch.work_tree("work");
    let linked = scratch.path("linked");
    git(&work, &["worktree", "add", "-q", "-b", "side", linked.to_str().unwrap()]);
    let mut watched = start(&linked);
    watched.until_ready().await;
    let dev = commit(&work, "a.txt", "two");
    watched.until_at("dev", dev).await;
    let side = commit(&linked, "a.txt", "three");
    watched.until_at("side", side).await;
    git(&work, &["symbolic-ref", "HEAD", "refs/heads/side2"]);
    let default = |state: &SourceState| state.heads().and_then(|(heads, _)| heads.default_branch.clone());
    watched.until("the new default branch", |state| default(state).as_deref() == Some("side2")).await;
}

#[tokio::test]
async fn a_repository_that_vanishes_takes_no_branch_with_it() {
    let scratch = Scratch::new();
    let (bare, work) = scratch.bare("repo.git");
    let id = head(&work, "HEAD");
    let mut watched = start(&bare);
    watched.until_ready().await;
    std::fs::remove_dir_all(&bare).unwrap();
    let state = watched.until_failing().await;
    assert_eq!(state.heads().unwrap().0.branches.get("dev"), Some(&id));

    // Made again, it is empty at first. That is not believed.
    git(scratch.root.path(), &["init", "-q", "--bare", "-b", "dev", "repo.git"]);
    let empty = |state: &SourceState| state.trouble().is_some_and(|reason| reason.contains("every branch is gone"));
    let state = watched.until("empty", empty).await;
    assert!(state.heads().unwrap().0.branches.contains_key("dev"));

    let next = commit(&work, "a.txt", "two");
    git(&work, &["push", "-q", "origin", "dev"]);
    watched.until_at("dev", next).await;

    // Replaced by a rename, without ever being gone.
    let (other, other_work) = scratch.bare("other.git");
    let id = commit(&other_work, "b.txt", "other");
    git(&other_work, &["push", "-q", "origin", "dev"]);
    std::fs::rename(&bare, scratch.path("old.git")).unwrap();
    std::fs::rename(&other, &bare).unwrap();
    watched.until_at("dev", id).await;
    git(&other_work, &["push", "-q", bare.to_str().unwrap(), "HEAD~1:refs/heads/later"]);
    watched.until_at("later", head(&other_work, "HEAD~1")).await;
}

#[tokio::test]
async fn refs_that_cannot_be_read_leave_the_last_known_heads() {
    let scratch = Scratch::new();
    let (bare, work) = scratch.bare("repo.git");
    let id = head(&work, "HEAD");
    let mut watched = start(&bare);
    watched.until_ready().await;
    // A file in the place of the directory: unreadable for root as well.
    std::fs::rename(bare.join("refs/heads"), bare.join("refs/aside")).unwrap();
    std::fs::write(bare.join("refs/heads"), "").unwrap();
    let state = watched.until_failing().await;
    assert_eq!(state.heads().unwrap().0.branches.get("dev"), Some(&id));
    std::fs::remove_file(bare.join("refs/heads")).unwrap();
    std::fs::rename(bare.join("refs/aside"), bare.join("refs/heads")).unwrap();
    watched.until_at("dev", id).await;
    // One unreadable ref is not a branch that is gone, and costs the others nothing.
    std::fs::write(bare.join("refs/heads/dev.lock"), "torn").unwrap();
    std::fs::rename(bare.join("refs/heads/dev.lock"), bare.join("refs/heads/dev")).unwrap();
    std::fs::write(bare.join("refs/heads/other"), format!("{id}\n")).unwrap();
    let state = watched.until_at("other", id).await;
    assert_eq!(state.heads().unwrap().0.unreadable, ["dev"]);
}

#[tokio::test]
async fn a_refused_repository_fails_with_the_reason_and_recovers() {
    let scratch = Scratch::new();
    let (bare, work) = scratch.bare("repo.git");
    let config = bare.join("config");
    let before = std::fs::read_to_string(&config).unwrap();
    let after = before.replace("repositoryformatversion = 0", "repositoryformatversion = 1");
    std::fs::write(&config, format!("{after}[extensions]\n\tobjectformat = sha256\n")).unwrap();
    let mut watched = start(&bare);
    let state = watched.until_failing().await;
    assert!(state.trouble().unwrap().contains("sha256") && state.heads().is_none(), "{state:?}");
    std::fs::write(&config, before).unwrap();
    watched.until_at("dev", head(&work, "HEAD")).await;
}

#[tokio::test]
async fn shutdown_ends_the_task() {
    let scratch = Scratch::new();
    let (bare, _) = scratch.bare("repo.git");
    let mut watched = start(&bare);
    watched.until_ready().await;
    watched.stop.send(true).unwrap();
    tokio::time::timeout(LIVE, watched.task).await.unwrap().unwrap();
    let watched = start(&bare);
    drop(watched.stop);
    tokio::time::timeout(LIVE, watched.task).await.unwrap().unwrap();
}
