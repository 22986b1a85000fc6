use super::*;

#[tokio::test]
async fn reverts_are_those_of_git_and_arrive_in_one_push() {
    let scratch = Scratch::new();
    let (bare, work) = repository(&scratch);
    let target = push(&work, "deep/a.txt", "good");
    let second = push(&work, "deep/a.txt", "bad");
    let third = push(&work, "b.txt", "worse");
    let store = open(&bare);
    let draft = roll_back(&store, "dev", target, false).unwrap();
    draft.publish(&local(&bare)).await.unwrap();
    assert_eq!(draft.head(), Some(head(&bare, "dev")));
    assert_eq!(tree(&bare, head(&bare, "dev")), tree(&bare, target));
    assert_eq!(draft.commits().iter().flat_map(reverted).collect::<Vec<_>>(), [third, second]);

    git(&work, &["revert", "--no-edit", "HEAD", "HEAD~1"]);
    let told = |at: &Path, revision| git(at, &["log", "-1", "--format=%T%n%P%n%B", revision]);
    let theirs = told(&work, "HEAD~1");
    let ours = told(&bare, "dev~1");
    assert!(ours.starts_with(theirs.trim()), "{ours}\nis not\n{theirs}");
    let why = format!("plumb rollback of environment dev to {} (deep/a.txt: good).", target.short());
    assert!(ours.ends_with(&why), "{ours}");
    assert_eq!(git(&bare, &["log", "-1", "--format=%an %ae %cn", "dev"]), "Grace grace@example.com Grace");
    git(&bare, &["fsck", "--strict"]);
}

#[test]
fn one_commit_for_all_lists_what_it_reverts() {
    let scratch = Scratch::new();
    let (bare, work) = repository(&scratch);
    let target = head(&work, "HEAD");
    let bad = push(&work, "a.txt", "bad");
    let worse = push(&work, "a.txt", "worse");
    let draft = roll_back(&open(&bare), "dev", target, true).unwrap();
    let [made] = draft.commits() else { panic!("{:?}", draft.commits()) };
    assert_eq!(reverted(made), [worse, bad]);
    assert_eq!(made.subject, format!("Roll dev back to {}", target.short()));
    let text = draft.store().repository().unwrap();
    let text = text.find_commit(made.id.to_string().parse().unwrap()).unwrap().message().unwrap().to_owned();
    assert!(text.ends_with(&format!("* {} a.txt: worse\n* {} a.txt: bad\n", worse.short(), bad.short())), "{text}");
}

#[test]
fn a_merge_is_reverted_by_its_first_parent() {
    let scratch = Scratch::new();
    let (bare, work) = repository(&scratch);
    let target = head(&work, "HEAD");
    git(&work, &["switch", "-qc", "side"]);
    let beside = commit(&work, "side.txt", "one");
    git(&work, &["switch", "-q", "dev"]);
    let own = commit(&work, "own.txt", "two");
    git(&work, &["merge", "-q", "--no-ff", "-m", "Merge side", "side"]);
    let merge = head(&work, "HEAD");
    commit(&work, "later.txt", "three");
    git(&work, &["push", "-q", "origin", "dev"]);

    let store = open(&bare);
    let draft = roll_back(&store, "dev", target, false).unwrap();
    let subjects: Vec<_> = draft.commits().iter().map(|commit| commit.subject.as_str()).collect();
    assert_eq!(
        subjects,
        ["Revert \"later.txt: three\"", "Revert \"Merge side\"", "Revert \"own.txt: two\""],
        "the merge's other side is not reverted commit by commit"
    );
    git(&work, &["revert", "--no-edit", "HEAD"]);
    git(&work, &["revert", "--no-edit", "-m", "1", &merge.to_string()]);
    let repository = draft.store().repository().unwrap();
    let ours = repository.find_commit(draft.commits()[1].id.to_string().parse().unwrap()).unwrap();
    let theirs = git(&work, &["log", "-1", "--format=%B"]);
    assert!(ours.message().unwrap().starts_with(theirs.trim()), "{}\n{theirs}", ours.message().unwrap());
    assert_eq!(ours.tree_id().to_string(), tree(&work, head(&work, "HEAD")));
    assert!(theirs.contains(&own.to_string()));

    let error = roll_back(&store, "dev", beside, false).err().unwrap();
    assert!(matches!(&error, WriteError::BesideTheLine { merge: named, .. } if *named == merge), "{error}");
    let draft = roll_back(&store, "dev", beside, true).unwrap();
    assert_eq!(
        tree(&bare, beside),
        draft.store().at(draft.head().unwrap()).unwrap().entry("").unwrap().unwrap().id.to_string()
    );
}

#[test]
fn what_leads_nowhere_is_refused_or_does_nothing() {
    let scratch = Scratch::new();
    let (bare, work) = repository(&scratch);
    let first = head(&work, "HEAD");
    git(&work, &["switch", "-qc", "other"]);
    let other = push(&work, "o.txt", "other");
    git(&work, &["switch", "-q", "dev"]);
    push(&work, "a.txt", "bad");
    git(&work, &["revert", "--no-edit", "HEAD"]);
    git(&work, &["push", "-q", "origin", "dev"]);
    let store = open(&bare);
    for target in [first, head(&work, "HEAD")] {
        let draft = roll_back(&store, "dev", target, false).unwrap();
        assert!(draft.is_empty() && draft.commits().is_empty(), "the files are the target's already");
    }
    for squash in [true, false] {
        let error = roll_back(&store, "dev", other, squash).err().unwrap();
        assert!(matches!(error, WriteError::NotInHistory { .. }), "{error}");
    }
    // Empty commits need no revert, and do not count.
    commit(&work, "a.txt", "new");
    for _ in 0..120 {
        git(&work, &["commit", "-q", "--allow-empty", "-m", "nothing"]);
    }
    git(&work, &["push", "-q", "origin", "dev"]);
    assert_eq!(roll_back(&store, "dev", first, false).unwrap().commits().len(), 3);
    for number in 0..101 {
        commit(&work, "a.txt", &number.to_string());
    }
    git(&work, &["push", "-q", "origin", "dev"]);
    let error = roll_back(&store, "dev", first, false).err().unwrap();
    assert!(
        matches!(error, WriteError::TooMany { count: 104, .. }) && error.to_string().contains("--squash"),
        "{error}"
    );
    assert_eq!(roll_back(&store, "dev", first, true).unwrap().commits().len(), 1);
}

#[test]
fn a_draft_that_is_dropped_was_never_there() {
    let scratch = Scratch::new();
    let (bare, work) = repository(&scratch);
    let target = head(&work, "HEAD");
    push(&work, "a.txt", "bad");
    let store = open(&bare);
    let before = files(&bare);
    let draft = roll_back(&store, "dev", target, false).unwrap();
    let made = draft.head().unwrap();
    assert_eq!(draft.store().commit(made, "dev").unwrap().author, "Grace");
    let directory = draft.store().common_dir().to_owned();
    assert!(directory.exists() && store.at(made).is_err());
    drop(draft);
    assert!(!directory.exists());
    assert_eq!(files(&bare), before);
}
