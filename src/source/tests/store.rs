use std::path::Path;

use super::support::*;
use crate::model::CommitId;
use crate::source::{BLOB_LIMIT, Entry, EntryKind, SourceError, Store, Trust};

fn refusal(path: &Path) -> SourceError {
    Store::open(path, &Trust::default()).unwrap_err()
}

/// A commit of one tree, written by plumbing: what no working git would add to an index.
fn commit_of(work: &Path, tree_lines: &[u8]) -> CommitId {
    let mut child = git_command(work)
        .args(["hash-object", "-t", "tree", "-w", "--stdin", "--literally"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), tree_lines).unwrap();
    let tree = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    git(work, &["commit-tree", tree.trim(), "-m", "odd"]).parse().unwrap()
}

#[test]
fn every_shape_of_repository_is_found() {
    let scratch = Scratch::new();
    let (bare, work) = scratch.bare("repo.git");
    let linked = scratch.path("linked");
    git(&work, &["worktree", "add", "-q", "-b", "side", linked.to_str().unwrap()]);
    let side = commit(&linked, "b.txt", "two");
    let dev = head(&work, "dev");
    for path in [&bare, &work, &work.join(".git")] {
        let store = open(path);
        assert_eq!(store.resolve("dev").unwrap(), dev, "{}", path.display());
        assert_eq!(store.heads().unwrap().default_branch.as_deref(), Some("dev"));
    }
    let store = open(&linked);
    assert_eq!(store.heads().unwrap().branches.get("side"), Some(&side));
    assert_eq!(store.resolve("HEAD").unwrap(), side, "HEAD is that of the linked worktree");
    assert_eq!(store.heads().unwrap().default_branch.as_deref(), Some("dev"), "the default branch is the repository's");
}

#[test]
fn what_is_no_repository_says_so() {
    let scratch = Scratch::new();
    assert!(matches!(refusal(&scratch.path("none/at/all")), SourceError::Missing(_)));
    let file = scratch.path("file");
    std::fs::write(&file, "x").unwrap();
    assert!(matches!(refusal(&file), SourceError::NotARepository { .. }), "{}", refusal(&file));
    assert!(matches!(refusal(scratch.root.path()), SourceError::NotARepository { .. }));
    let dangling = scratch.path("dangling");
    std::fs::create_dir(&dangling).unwrap();
    std::fs::write(dangling.join(".git"), "gitdir: /nowhere\n").unwrap();
    assert!(refusal(&dangling).is_not_there());
}

#[test]
fn formats_that_cannot_be_read_are_named() {
    let scratch = Scratch::new();
    git(scratch.root.path(), &["init", "-q", "--object-format=sha256", "sha256"]);
    let error = refusal(&scratch.path("sha256")).to_string();
    assert!(error.contains("object format sha256") && error.contains("--object-format=sha1"), "{error}");

    let work = scratch.work_tree("reftable");
    // As `git init --ref-format=reftable` writes it; the git of this machine may be too old to do so.
    git(&work, &["config", "core.repositoryformatversion", "1"]);
    git(&work, &["config", "extensions.refstorage", "reftable"]);
    let error = refusal(&work).to_string();
    assert!(error.contains("reftable") && error.contains("git refs migrate"), "{error}");

    let work = scratch.work_tree("partial");
    git(&work, &["config", "core.repositoryformatversion", "1"]);
    git(&work, &["config", "extensions.partialclone", "origin"]);
    assert!(refusal(&work).to_string().contains("--filter"));

    let work = scratch.work_tree("future");
    git(&work, &["config", "core.repositoryformatversion", "99"]);
    assert!(matches!(refusal(&work), SourceError::Git { .. }), "{}", refusal(&work));
}

#[test]
fn a_foreign_owner_is_refused_until_trusted() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give a repository to someone else");
        return;
    }
    let scratch = Scratch::new();
    let (bare, _) = scratch.bare("repo.git");
    std::os::unix::fs::chown(&bare, Some(4711), None).unwrap();
    let error = refusal(&bare);
    assert!(matches!(error, SourceError::ForeignOwner { owner: 4711, .. }), "{error}");
    assert!(error.to_string().contains("--trust-owner 4711"), "{error}");
    let trusting = Store::open(&bare, &Trust::owners([4711])).unwrap();
    assert_eq!(trusting.heads().unwrap().branches.len(), 1);
    assert!(Store::open(&bare, &Trust::owners([4712])).is_err());
    // A worktree's pointer cannot lead to a foreign repository either.
    let trap = scratch.path("trap");
    std::fs::create_dir(&trap).unwrap();
    std::fs::write(trap.join(".git"), format!("gitdir: {}\n", bare.display())).unwrap();
    assert!(matches!(refusal(&trap), SourceError::ForeignOwner { .. }));
}

#[test]
fn history_tells_whether_a_file_was_ever_there() {
    let scratch = Scratch::new();
    let work = scratch.work_tree("work");
    let file = |id: CommitId| open(&work).at(id).unwrap().entry("d/f").unwrap().unwrap().id;
    let one = file(commit(&work, "d/f", "one"));
    git(&work, &["switch", "-q", "-c", "side"]);
    let two = file(commit(&work, "d/f", "two"));
    let side = commit(&work, "d/f", "three");
    git(&work, &["switch", "-q", "dev"]);
    commit(&work, "a.txt", "beside");
    git(&work, &["merge", "-q", "-m", "merge", "side"]);
    let merged = commit(&work, "d/g", "later");
    let store = open(&work);
    for (id, at, held) in [(one, merged, true), (two, merged, true), (file(side), merged, true), (two, side, true)] {
        assert_eq!(store.once_held("d/f", id, at).unwrap(), held);
    }
    let other = file(commit(&work, "d/f", "four"));
    assert!(!store.once_held("d/f", other, merged).unwrap());
    assert!(!store.once_held("d/other", one, merged).unwrap());
    // What was cut off can't be told.
    let url = format!("file://{}", work.display());
    git(scratch.root.path(), &["clone", "-q", "--depth", "1", &url, "shallow"]);
    let shallow = scratch.path("shallow");
    assert!(open(&shallow).once_held("d/f", one, head(&shallow, "HEAD")).unwrap());
}

#[test]
fn revisions_name_commits() {
    let scratch = Scratch::new();
    let work = scratch.work_tree("work");
    let first = head(&work, "HEAD");
    git(&work, &["tag", "dev"]);
    git(&work, &["tag", "-a", "-m", "note", "v1"]);
    let second = commit(&work, "a.txt", "two");
    let store = open(&work);
    for (revision, expected) in [
        ("dev", second),
        ("dev~1", first),
        ("dev^", first),
        ("HEAD", second),
        ("HEAD~1", first),
        ("v1", first),
        ("refs/heads/dev", second),
        (&second.to_string(), second),
        (&first.short(), first),
    ] {
        assert_eq!(store.resolve(revision).unwrap(), expected, "{revision}");
    }
    for revision in ["", "nothing", "dev~7", "HEAD:a.txt", "--all", "dev\0", "../x", &"0".repeat(40)] {
        let error = store.resolve(revision).unwrap_err();
        assert!(matches!(error, SourceError::NoSuchRevision(_)), "{revision:?}: {error}");
    }
}

#[test]
fn a_commit_has_author_time_and_summary() {
    let scratch = Scratch::new();
    let work = scratch.work_tree("work");
    let message = "\n\nscale \u{1b}[31mthe backend  \n\nBody.";
    let output = git_command(&work)
        .args(["commit", "-q", "--allow-empty", "--cleanup=verbatim", "-m", message])
        .args(["--author", "Grace H <grace@example.com>", "--date", "2026-01-02T03:04:05Z"])
        .output()
        .unwrap();
    assert!(output.status.success());
    let id = head(&work, "HEAD");
    let commit = open(&work).commit(id, "dev").unwrap();
    assert_eq!((commit.id, commit.branch.as_str()), (id, "dev"));
    assert_eq!((commit.author.as_str(), commit.summary.as_str()), ("Grace H", "scale [31mthe backend"));
    assert_eq!(commit.time.to_rfc3339(), "2026-01-02T03:04:05+00:00");
    let none = CommitId::new([7; 20]);
    assert!(matches!(open(&work).commit(none, "dev"), Err(SourceError::NoSuchCommit(id)) if id == none));
}

#[test]
fn the_line_of_a_branch_leaves_out_what_was_merged() {
    let scratch = Scratch::new();
    let work = scratch.work_tree("work");
    let first = head(&work, "HEAD");
    git(&work, &["switch", "-qc", "side"]);
    commit(&work, "b.txt", "beside");
    git(&work, &["switch", "-q", "dev"]);
    let second = commit(&work, "a.txt", "two");
    git(&work, &["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    let merge = head(&work, "HEAD");
    let store = open(&work);
    assert_eq!(store.line(merge, 10).unwrap(), [merge, second, first]);
    assert_eq!(store.line(merge, 2).unwrap(), [merge, second]);
    assert!(store.line(CommitId::new([7; 20]), 2).is_err());
}

#[test]
fn a_rewind_is_told_from_an_advance() {
    let scratch = Scratch::new();
    let work = scratch.work_tree("work");
    let first = head(&work, "HEAD");
    let second = commit(&work, "a.txt", "two");
    git(&work, &["reset", "-q", "--hard", &first.to_string()]);
    let other = commit(&work, "a.txt", "other");
    let store = open(&work);
    assert!(store.is_ancestor(first, second).unwrap());
    assert!(store.is_ancestor(first, first).unwrap());
    assert!(!store.is_ancestor(second, first).unwrap());
    assert!(!store.is_ancestor(second, other).unwrap());
    assert!(!store.is_ancestor(CommitId::new([7; 20]), other).unwrap(), "collected as garbage since");
    assert!(store.is_ancestor(first, CommitId::new([7; 20])).is_err());
}

#[test]
fn a_snapshot_is_read_at_its_commit() {
    let scratch = Scratch::new();
    let work = scratch.work_tree("work");
    std::os::unix::fs::symlink("a.txt", work.join("link")).unwrap();
    commit(&work, "deep/er/b.yaml", "b: 1");
    git(&work, &["update-index", "--add", "--chmod=+x", "a.txt"]);
    let submodule = format!("160000,{},sub", head(&work, "HEAD"));
    git(&work, &["update-index", "--add", "--cacheinfo", &submodule]);
    git(&work, &["commit", "-q", "-m", "more"]);
    let id = head(&work, "HEAD");
    std::fs::write(work.join("a.txt"), "changed later").unwrap();

    let snapshot = open(&work).at(id).unwrap();
    let root = snapshot.list("").unwrap();
    let kinds: Vec<_> = root.iter().map(|(name, entry)| (name.as_str(), entry.kind)).collect();
    let expected = [
        ("a.txt", EntryKind::Executable),
        ("deep", EntryKind::Tree),
        ("link", EntryKind::Symlink),
        ("sub", EntryKind::Submodule),
    ];
    assert_eq!(kinds, expected);
    for same in [".", "./", "deep/.", "deep//er"] {
        assert!(snapshot.entry(same).unwrap().is_some_and(|entry| entry.kind == EntryKind::Tree), "{same}");
    }
    let file = snapshot.entry("deep/er/b.yaml").unwrap().unwrap();
    assert_eq!(snapshot.blob("deep/er/b.yaml", &file).unwrap(), b"b: 1");
    assert_eq!(snapshot.blob("a.txt", &snapshot.entry("a.txt").unwrap().unwrap()).unwrap(), b"one");
    assert_eq!(snapshot.blob("link", &snapshot.entry("link").unwrap().unwrap()).unwrap(), b"a.txt");
    for absent in ["b.txt", "a.txt/x", "link/x", "sub/x", "deep/b.yaml"] {
        assert_eq!(snapshot.entry(absent).unwrap(), None, "{absent}");
    }
    for bad in ["/etc/passwd", "../x", "deep/../../x", "a\0b"] {
        assert!(matches!(snapshot.entry(bad), Err(SourceError::BadPath(_))), "{bad:?}");
    }
    assert!(matches!(snapshot.list("a.txt"), Err(SourceError::NotADirectory { .. })));
    let tree = snapshot.entry("deep").unwrap().unwrap();
    assert!(matches!(snapshot.blob("deep", &tree), Err(SourceError::NotAFile { .. })));
    let thread = std::thread::spawn(move || snapshot.list("deep").unwrap().len());
    assert_eq!(thread.join().unwrap(), 1);
}

#[test]
fn names_that_would_leave_their_directory_are_refused() {
    let scratch = Scratch::new();
    let work = scratch.work_tree("work");
    let blob = git(&work, &["rev-parse", "HEAD:a.txt"]).parse::<CommitId>().unwrap();
    for name in [b"..".as_slice(), b".", b".git", b".GIT", b"a/b"] {
        let tree = [b"100644 ", name, b"\0", blob.as_bytes()].concat();
        let snapshot = open(&work).at(commit_of(&work, &tree)).unwrap();
        // libgit2 may refuse the whole tree; else the list must.
        assert!(snapshot.list("").is_err(), "{:?}", String::from_utf8_lossy(name));
    }
    let tree = [b"100644 caf\xe9.yaml\0".as_slice(), blob.as_bytes()].concat();
    let error = open(&work).at(commit_of(&work, &tree)).unwrap().list("").unwrap_err();
    assert!(matches!(&error, SourceError::NameNotUtf8(name) if name == "caf\u{fffd}.yaml"), "{error}");
}

#[test]
fn a_huge_file_is_refused_before_it_is_read() {
    let scratch = Scratch::new();
    let work = scratch.work_tree("work");
    std::fs::File::create(work.join("huge.bin")).unwrap().set_len(BLOB_LIMIT + 1).unwrap();
    let id = commit(&work, "small.txt", "x");
    let snapshot = open(&work).at(id).unwrap();
    let entry = snapshot.entry("huge.bin").unwrap().unwrap();
    let error = snapshot.blob("huge.bin", &entry).unwrap_err();
    assert!(matches!(error, SourceError::TooLarge { size, .. } if size == BLOB_LIMIT + 1), "{error}");
}

#[test]
fn corrupt_objects_are_errors_that_name_the_file() {
    let scratch = Scratch::new();
    let work = scratch.work_tree("work");
    let id = head(&work, "HEAD");
    let snapshot = open(&work).at(id).unwrap();
    let entry = snapshot.entry("a.txt").unwrap().unwrap();
    let name = entry.id.to_string();
    let object = work.join(".git/objects").join(&name[..2]).join(&name[2..]);
    let mut permissions = std::fs::metadata(&object).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    std::fs::set_permissions(&object, permissions).unwrap();
    std::fs::write(&object, b"garbage").unwrap();
    let snapshot = open(&work).at(id).unwrap();
    let error = snapshot.blob("a.txt", &entry).unwrap_err();
    assert!(error.to_string().contains("a.txt at commit"), "{error}");
    std::fs::remove_file(&object).unwrap();
    let missing: Entry = entry;
    assert!(open(&work).at(id).unwrap().blob("a.txt", &missing).is_err());
}

#[test]
fn heads_tell_unborn_detached_nested_and_unreadable_branches() {
    let scratch = Scratch::new();
    git(scratch.root.path(), &["init", "-q", "-b", "trunk", "empty"]);
    let unborn = open(&scratch.path("empty")).heads().unwrap();
    assert_eq!((unborn.default_branch.as_deref(), unborn.branches.len()), (Some("trunk"), 0));

    let work = scratch.work_tree("work");
    let id = head(&work, "HEAD");
    let heads_dir = work.join(".git/refs/heads");
    for name in ["team/dev", "odd-ünïcode", "with@sign", "UPPER"] {
        git(&work, &["branch", name]);
    }
    git(&work, &["pack-refs", "--all"]);
    git(&work, &["branch", "team/loose"]);
    git(&work, &["symbolic-ref", "refs/heads/alias", "refs/heads/team/dev"]);
    git(&work, &["symbolic-ref", "refs/heads/nowhere", "refs/heads/missing"]);
    std::fs::write(heads_dir.join("dev.lock"), "").unwrap();
    std::fs::write(heads_dir.join("broken"), "not a commit id\n").unwrap();
    std::fs::write(heads_dir.join("empty"), "").unwrap();
    let bytes: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"caf\xe9");
    std::fs::write(heads_dir.join(bytes), format!("{id}\n")).unwrap();
    git(&work, &["checkout", "-q", "--detach"]);

    let heads = open(&work).heads().unwrap();
    let names: Vec<_> = heads.branches.keys().map(String::as_str).collect();
    assert_eq!(names, ["UPPER", "alias", "dev", "odd-ünïcode", "team/dev", "team/loose", "with@sign"]);
    assert!(heads.branches.values().all(|head| *head == id));
    let mut unreadable = heads.unreadable.clone();
    unreadable.sort();
    assert_eq!(unreadable, ["broken", "caf\u{fffd}", "empty", "nowhere"]);
    assert_eq!(heads.default_branch, None, "HEAD is detached");
}

#[test]
fn a_damaged_packed_refs_is_an_error_and_not_an_empty_repository() {
    let scratch = Scratch::new();
    let work = scratch.work_tree("work");
    git(&work, &["pack-refs", "--all"]);
    let whole = std::fs::read(work.join(".git/packed-refs")).unwrap();
    std::fs::write(work.join(".git/packed-refs"), &whole[..whole.len() - 9]).unwrap();
    let outcome = open(&work).heads();
    let seen = outcome.as_ref().is_ok_and(|heads| heads.branches.contains_key("dev"));
    assert!(seen || outcome.is_err(), "{outcome:?}");
}

/// The race that must not be lost: a branch is neither gone nor old while another process moves and packs it.
#[test]
fn a_branch_never_seems_gone_or_older_while_refs_are_packed() {
    let scratch = Scratch::new();
    let work = scratch.work_tree("work");
    let commits: Vec<CommitId> = (0..40).map(|n| commit(&work, "a.txt", &n.to_string())).collect();
    git(&work, &["branch", "moving", &commits[0].to_string()]);
    let (writer_work, writer_commits) = (work.clone(), commits.clone());
    let writer = std::thread::spawn(move || {
        for id in writer_commits {
            git(&writer_work, &["update-ref", "refs/heads/moving", &id.to_string()]);
            git(&writer_work, &["pack-refs", "--all"]);
        }
    });
    let store = open(&work);
    let (mut newest, mut reads) = (0, 0);
    while !writer.is_finished() {
        let heads = store.heads().unwrap();
        let seen = heads.branches.get("moving").unwrap_or_else(|| panic!("gone: {heads:?}"));
        let position = commits.iter().position(|id| id == seen).unwrap();
        assert!(position >= newest, "went back from {newest} to {position}");
        assert!(heads.unreadable.is_empty(), "{heads:?}");
        (newest, reads) = (position, reads + 1);
    }
    writer.join().unwrap();
    assert!(reads > 10, "{reads}");
}
