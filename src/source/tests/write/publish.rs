use std::time::Duration;

use super::super::servers::{Https, Sshd};
use super::*;
use crate::source::SecretSource;

#[tokio::test]
async fn a_branch_that_moved_meanwhile_stays_where_it_is() {
    let scratch = Scratch::new();
    let (bare, work) = repository(&scratch);
    let target = head(&work, "HEAD");
    push(&work, "a.txt", "bad");
    let draft = roll_back(&open(&bare), "dev", target, false).unwrap();
    let newer = push(&work, "a.txt", "newer");
    let before = files(&bare);
    let error = draft.publish(&local(&bare)).await.unwrap_err();
    assert!(matches!(error, WriteError::Moved { .. }), "{error}");
    assert_eq!((head(&bare, "dev"), files(&bare) == before), (newer, true));
    git(&bare, &["update-ref", "-d", "refs/heads/dev"]);
    let error = draft.publish(&local(&bare)).await.unwrap_err();
    assert!(matches!(error, WriteError::Moved { .. }), "{error}");
    assert!(!open(&bare).heads().unwrap().branches.contains_key("dev"), "a deleted branch is not made again");
}

/// A hook of the repository.
fn hook(bare: &Path, name: &str, script: &str) {
    let file = bare.join("hooks").join(name);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_branch_that_moves_in_the_very_moment_is_not_overwritten() {
    let scratch = Scratch::new();
    let (bare, work) = repository(&scratch);
    let target = head(&work, "HEAD");
    push(&work, "a.txt", "bad");
    git(&work, &["switch", "-qc", "other"]);
    let other = push(&work, "a.txt", "somebody else's");
    // It runs when the objects have arrived and the ref is about to be moved.
    hook(&bare, "pre-receive", &format!("unset GIT_QUARANTINE_PATH; git update-ref refs/heads/dev {other}"));
    let draft = roll_back(&open(&bare), "dev", target, false).unwrap();
    let error = draft.publish(&local(&bare)).await.unwrap_err();
    assert!(matches!(error, WriteError::Moved { .. }), "{error}");
    assert_eq!(head(&bare, "dev"), other);
}

#[tokio::test]
async fn a_branch_that_is_checked_out_is_not_moved() {
    let scratch = Scratch::new();
    let work = scratch.work_tree("work");
    who(&work);
    let target = head(&work, "HEAD");
    let bad = commit(&work, "a.txt", "bad");
    let linked = scratch.path("linked");
    git(&work, &["worktree", "add", "-q", "-b", "side", linked.to_str().unwrap()]);
    for (branch, place) in [("dev", &work), ("side", &linked)] {
        for opened in [&work, &linked] {
            let draft = roll_back(&open(opened), branch, target, false).unwrap();
            let error = draft.publish(&local(opened)).await.unwrap_err();
            let WriteError::CheckedOut { work_tree, .. } = &error else { panic!("{error}") };
            assert_eq!(
                (&work_tree.canonicalize().unwrap(), head(&work, branch)),
                (&place.canonicalize().unwrap(), bad)
            );
        }
    }
    // Not any more, or not at all.
    std::fs::remove_dir_all(&linked).unwrap();
    git(&work, &["worktree", "prune"]);
    git(&work, &["branch", "third"]);
    for branch in ["side", "third"] {
        let draft = roll_back(&open(&work), branch, target, false).unwrap();
        draft.publish(&local(&work)).await.unwrap();
        assert_eq!(tree(&work, head(&work, branch)), tree(&work, target));
    }
    assert_eq!(git(&work, &["status", "--porcelain"]), "", "the work tree is as it was");
    // A rebase has the branch in its hands although HEAD is detached: git itself says no.
    git(&work, &["switch", "-q", "third"]);
    git(&work, &["switch", "-q", "--detach"]);
    std::fs::create_dir(work.join(".git/rebase-merge")).unwrap();
    std::fs::write(work.join(".git/rebase-merge/head-name"), "refs/heads/third\n").unwrap();
    let draft = roll_back(&open(&work), "third", bad, false);
    let error = match draft {
        Ok(draft) => draft.publish(&local(&work)).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(&error, WriteError::Refused { reason, .. } if reason.contains("checked out")), "{error}");
}

#[tokio::test]
async fn the_repositorys_own_hooks_have_their_say() {
    let scratch = Scratch::new();
    let (bare, work) = repository(&scratch);
    let target = head(&work, "HEAD");
    let bad = push(&work, "a.txt", "bad");
    hook(&bare, "pre-receive", "echo 'not on a Friday' >&2; exit 1");
    let draft = roll_back(&open(&bare), "dev", target, false).unwrap();
    let error = draft.publish(&local(&bare)).await.unwrap_err();
    assert!(matches!(&error, WriteError::Refused { reason, .. } if reason.contains("not on a Friday")), "{error}");
    assert_eq!(head(&bare, "dev"), bad);
}

#[test]
fn a_shallow_clone_and_borrowed_objects_are_drafted_on_too() {
    let scratch = Scratch::new();
    let (bare, work) = repository(&scratch);
    let target = push(&work, "a.txt", "two");
    push(&work, "a.txt", "three");
    let url = format!("file://{}", bare.display());
    git(scratch.root.path(), &["clone", "-q", "--bare", "--depth=2", &url, "shallow.git"]);
    git(scratch.root.path(), &["clone", "-q", "--bare", "--shared", bare.to_str().unwrap(), "shared.git"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for name in ["shallow.git", "shared.git"] {
        let path = scratch.path(name);
        who(&path);
        let draft = roll_back(&open(&path), "dev", target, false).unwrap();
        runtime.block_on(draft.publish(&local(&path))).unwrap();
        assert_eq!(tree(&path, head(&path, "dev")), tree(&bare, target), "{name}");
    }
    let first = head(&work, "HEAD~2");
    assert!(roll_back(&open(&scratch.path("shallow.git")), "dev", first, false).is_err(), "not in the clone");
}

/// The settings of a remote, and the store of its mirror, once it is there.
async fn mirrored(scratch: &Scratch, url: &str, set: impl FnOnce(&mut SourceSettings)) -> (SourceSettings, Store) {
    let mut settings = SourceSettings::new(url.parse().unwrap());
    settings.cache = scratch.path("cache");
    settings.interval = Some(Duration::from_millis(50));
    set(&mut settings);
    let state = start_with(settings.clone()).until_ready().await;
    let store = state.heads().unwrap().1.clone();
    who(store.common_dir()); // Mostly it is the user's own configuration that says who they are.
    (settings, store)
}

#[tokio::test]
async fn remotes_are_pushed_to_and_a_moved_branch_is_left_alone() {
    let scratch = Scratch::new();
    let (bare, work) = repository(&scratch);
    git(&bare, &["config", "http.receivepack", "true"]);
    let https = Https::start(scratch.root.path(), LOOPBACK, "server");
    let sshd = Sshd::start(scratch.root.path(), LOOPBACK);
    let mut urls = vec![format!("file://{}", bare.display()), https.url("repo.git")];
    urls.extend(sshd.as_ref().map(|sshd| sshd.url(&bare)));
    for url in urls {
        let target = push(&work, "a.txt", &format!("good at {url}"));
        push(&work, "a.txt", "bad");
        let set = |settings: &mut SourceSettings| {
            settings.credentials.ca_file = Some(https.ca_file.clone());
            settings.credentials.known_hosts = sshd.as_ref().map(|sshd| sshd.known_hosts.clone());
            settings.credentials.ssh_key = sshd.as_ref().map(|sshd| SecretSource::File(sshd.key.clone()));
        };
        let (settings, store) = mirrored(&scratch, &url, set).await;
        let before = files(store.common_dir());
        let draft = roll_back(&store, "dev", target, false).unwrap();
        draft.publish(&settings).await.unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(tree(&bare, head(&bare, "dev")), tree(&bare, target), "{url}");
        assert_eq!(files(store.common_dir()), before, "{url}: the mirror is only ever fetched into");

        // The mirror does not know of it yet: what is drafted on it comes too late.
        let stale = roll_back(&store, "dev", target, true).unwrap();
        let error = stale.publish(&settings).await.unwrap_err();
        assert!(matches!(error, WriteError::Moved { .. }), "{url}: {error}");
        assert_eq!(draft.head(), Some(head(&bare, "dev")), "{url}");
        git(&work, &["pull", "-q", "--ff-only", "origin", "dev"]);
    }
}

#[tokio::test]
async fn who_may_not_push_is_told_so() {
    let scratch = Scratch::new();
    let (bare, work) = repository(&scratch);
    let target = head(&work, "HEAD");
    push(&work, "a.txt", "bad");
    // http-backend serves everybody, and takes from nobody unless it is told to: 403.
    let https = Https::start(scratch.root.path(), LOOPBACK, "server");
    let set = |settings: &mut SourceSettings| settings.credentials.ca_file = Some(https.ca_file.clone());
    let (settings, store) = mirrored(&scratch, &https.url("repo.git"), set).await;
    let draft = roll_back(&store, "dev", target, false).unwrap();
    let error = draft.publish(&settings).await.unwrap_err();
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert!(reason.contains("that may push to it"), "{reason}");
    assert_ne!(draft.head(), Some(head(&bare, "dev")));
}
