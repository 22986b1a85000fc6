use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use bytes::Bytes;
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::source::Store;
use crate::source::tests::support::{Scratch, endless, git, head, open};

fn image(context: &str) -> ImageSource {
    let (name, dockerfile, args) = ("web".to_owned(), "Dockerfile".to_owned(), std::collections::BTreeMap::new());
    ImageSource { name, context: context.to_owned(), dockerfile, target: None, args, platform: None }
}

fn write(work: &Path, file: &str, bytes: &[u8]) {
    let path = work.join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// A work tree with a context in `app`, committed.
fn app(scratch: &Scratch, more: impl Fn(&Path)) -> (Store, CommitId) {
    let work = scratch.work_tree("work");
    write(&work, "app/Dockerfile", b"FROM scratch\n");
    write(&work, "app/.dockerignore", b"Dockerfile\n**/secret\n");
    write(&work, "app/src/main.rs", b"fn main() {}\n");
    write(&work, "app/src/secret", b"x");
    write(&work, "app/run", b"#!/bin/sh\n");
    std::fs::set_permissions(work.join("app/run"), std::fs::Permissions::from_mode(0o775)).unwrap();
    symlink("src/main.rs", work.join("app/link")).unwrap();
    more(&work);
    git(&work, &["add", "-A"]);
    git(&work, &["commit", "-q", "-m", "app"]);
    (open(&work), head(&work, "HEAD"))
}

async fn collected(store: &Store, commit: CommitId, limit: u64) -> std::io::Result<Vec<Bytes>> {
    let context = find(&store.at(commit).unwrap(), &image("app")).unwrap();
    let pieces: Vec<_> = stream(store.clone(), commit, context, limit).collect().await;
    pieces.into_iter().collect()
}

#[tokio::test]
async fn the_tar_has_what_was_listed_and_the_same_bytes_each_time() {
    let scratch = Scratch::new();
    let long = format!("app/{}/{}", "d".repeat(120), "f".repeat(120));
    let (store, commit) = app(&scratch, |work| write(work, &long, b"long"));
    let pieces = collected(&store, commit, FILE_LIMIT).await.unwrap();
    assert!(pieces.iter().all(|piece| piece.len() <= CHUNK && !piece.is_empty()));
    let bytes = pieces.concat();
    let mut archive = ::tar::Archive::new(&*bytes);
    let mut seen = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 315_532_800));
        let mode = header.mode().unwrap();
        let path = entry.path().unwrap().display().to_string();
        let link = entry.link_name().unwrap().map(|link| link.display().to_string()).unwrap_or_default();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        seen.push((path, mode, if link.is_empty() { text } else { link }));
    }
    let long = long.strip_prefix("app/").unwrap();
    let expected = [
        (".dockerignore", 0o644, "Dockerfile\n**/secret\n"),
        (&format!("{}/", "d".repeat(120)), 0o755, ""),
        (long, 0o644, "long"),
        ("link", 0o777, "src/main.rs"),
        ("run", 0o755, "#!/bin/sh\n"),
        ("src/", 0o755, ""),
        ("src/main.rs", 0o644, "fn main() {}\n"),
    ];
    assert_eq!(seen, expected.map(|(path, mode, text)| (path.to_owned(), mode, text.to_owned())));

    // The same content in another repository and at another time: the same bytes, for ever.
    let again = Scratch::new();
    let (store, commit) = app(&again, |work| {
        write(work, &format!("app/{long}"), b"long");
        write(work, "elsewhere", b"more");
    });
    let other = collected(&store, commit, FILE_LIMIT).await.unwrap().concat();
    assert_eq!(Sha256::digest(&bytes), Sha256::digest(&other));
}

#[tokio::test]
async fn a_context_without_any_file_is_an_archive_all_the_same() {
    let scratch = Scratch::new();
    let (store, commit) = app(&scratch, |work| write(work, "app/.dockerignore", b"*\n"));
    let bytes = collected(&store, commit, FILE_LIMIT).await.unwrap().concat();
    // BuildKit looks at the first 1024 bytes for the header of an entry.
    let mut archive = ::tar::Archive::new(bytes.get(..1024).unwrap());
    let first = archive.entries().unwrap().next().unwrap().unwrap();
    let header = first.header();
    // Docker leaves a directory alone that is there, if it is called so.
    assert_eq!((&*first.path_bytes(), header.entry_type()), (&b"./"[..], ::tar::EntryType::Directory));
    assert_eq!((header.mode().unwrap(), header.size().unwrap()), (0o755, 0));
    assert_eq!(::tar::Archive::new(&*bytes).entries().unwrap().count(), 1);
    let snapshot = store.at(commit).unwrap();
    let listed = find(&snapshot, &image("app")).unwrap().entries(&snapshot).unwrap();
    assert!(listed.is_empty(), "the tag is that of no entries");
}

#[test]
fn a_dockerfile_that_is_ignored_goes_beside_the_context() {
    for (ignore, dockerfile, ignored) in [
        ("", "Dockerfile", false),
        ("Dockerfile\n", "Dockerfile", true),
        ("*\n!src\n", "Dockerfile", true),
        ("*\n!Dockerfile\n", "Dockerfile", false),
        ("build\n", "build/web/Dockerfile", true),
        ("build\n!build/web\n", "build/web/Dockerfile", false),
        ("build\n!build/web\n**/*.x\n", "build/web/a.x", true),
        ("**/Dockerfile\n", "build/web/Dockerfile", true),
    ] {
        let scratch = Scratch::new();
        let (store, commit) = app(&scratch, |work| {
            write(work, "app/.dockerignore", ignore.as_bytes());
            write(work, &format!("app/{dockerfile}"), b"FROM scratch\nLABEL a=b\n");
        });
        let snapshot = store.at(commit).unwrap();
        let image = ImageSource { dockerfile: format!("./{dockerfile}"), ..image("app") };
        let context = find(&snapshot, &image).unwrap();
        let text = context.ignored_dockerfile(&snapshot).unwrap();
        assert_eq!(text.as_deref(), ignored.then_some("FROM scratch\nLABEL a=b\n"), "{ignore:?}");
        let listed = context.entries(&snapshot).unwrap();
        assert_eq!(listed.iter().any(|entry| entry.path == dockerfile), !ignored, "{ignore:?}: one of the two");
    }
}

#[test]
fn a_context_without_end_is_refused_where_too_many_were_looked_at() {
    let scratch = Scratch::new();
    let work = scratch.work_tree("work");
    let commit = endless(&git2::Repository::open(&work).unwrap());
    let store = open(&work);
    let snapshot = store.at(commit).unwrap();
    let context = find(&snapshot, &image("app")).unwrap();
    let nothing = Ignore::parse(b"**/0\n!1/1/1/1/1/1/1/1/1/0\n").unwrap();
    for ignore in [Ignore::default(), nothing] {
        let refused = context.walk(&snapshot, &ignore, 1000).unwrap_err();
        assert!(matches!(&refused, ContextError::TooMany { path, limit: 1000 } if path == "app"), "{refused}");
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_before_the_first_byte() {
    for (more, limit, expected) in [
        (
            &(|work: &Path| write(work, "app/big", &[7; 99])) as &dyn Fn(&Path),
            98,
            "app/big is 99 bytes; the limit for a file of a context is 98 bytes; name it in .dockerignore",
        ),
        (
            &|work: &Path| std::fs::File::create(work.join("app/model.bin")).unwrap().set_len(FILE_LIMIT + 1).unwrap(),
            FILE_LIMIT,
            "app/model.bin is 67108865 bytes; the limit for a file of a context is 67108864 bytes",
        ),
        (
            &|work: &Path| {
                write(work, "app/z.bin", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
            },
            FILE_LIMIT,
            "app/z.bin is a git-lfs pointer",
        ),
        (
            &|work: &Path| symlink("../x", work.join("app/out")).unwrap(),
            FILE_LIMIT,
            "app/out is a symbolic link to \"../x\"",
        ),
        (
            &|work: &Path| {
                let id = head(work, "HEAD").to_string();
                git(work, &["update-index", "--add", "--cacheinfo", &format!("160000,{id},app/sub")]);
                std::fs::create_dir_all(work.join("app/sub")).unwrap();
                git(work, &["commit", "-q", "-m", "sub"]);
            },
            FILE_LIMIT,
            "app/sub is a submodule",
        ),
    ] {
        let scratch = Scratch::new();
        let (store, commit) = app(&scratch, more);
        let error = collected(&store, commit, limit).await.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[tokio::test]
async fn a_stream_that_nobody_reads_ends() {
    let scratch = Scratch::new();
    let (store, commit) = app(&scratch, |work| write(work, "app/large", &vec![7; 4 << 20]));
    let context = find(&store.at(commit).unwrap(), &image("app")).unwrap();
    let mut stream = Box::pin(stream(store, commit, context, FILE_LIMIT));
    assert!(stream.next().await.unwrap().is_ok());
    // The runtime waits for its blocking threads at the end of the test: one that never ended would hang it.
}

#[test]
fn a_tree_that_is_known_is_not_listed_again() {
    let scratch = Scratch::new();
    let (store, commit) = app(&scratch, |_| {});
    let snapshot = store.at(commit).unwrap();
    let context = find(&snapshot, &image("./app/")).unwrap();
    let mut known = Known::default();
    let first = known.entries(&snapshot, &context).unwrap();
    known.sweep();
    // A submodule in its place would be refused, were it looked at.
    let hollow = Context { path: "nowhere".to_owned(), ..context.clone() };
    assert_eq!(known.entries(&snapshot, &hollow).unwrap(), first);
    known.sweep();
    known.sweep();
    assert!(known.digests.is_empty(), "what nobody asks for is forgotten");
}

/// How many MiB a process of its own takes more to read `contexts` streams of an app at once, `bytes` altogether. In that process itself: nothing.
fn grown(name: &str, contexts: usize, bytes: usize, more: impl Fn(&Path)) -> Option<u64> {
    const REPOSITORY: &str = "PLUMB_TEST_CONTEXT";
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    };
    if let Some(path) = std::env::var_os(REPOSITORY) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let store = open(Path::new(&path));
        let commit = store.resolve("dev").unwrap();
        let context = find(&store.at(commit).unwrap(), &image("app")).unwrap();
        let before = peak();
        let read: usize = runtime.block_on(async {
            let all = (0..contexts).map(|_| stream(store.clone(), commit, context.clone(), FILE_LIMIT).boxed());
            let mut all = futures::stream::select_all(all);
            let mut read = 0;
            while let Some(piece) = all.next().await {
                read += piece.unwrap().len();
            }
            read
        });
        assert!(read > bytes, "{read}");
        std::io::stderr().write_all(format!("grown by {} MiB\n", peak() - before).as_bytes()).unwrap();
        return None;
    }
    let scratch = Scratch::new();
    app(&scratch, more);
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(REPOSITORY, scratch.path("work"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stdout));
    let grown = told.split("grown by ").nth(1).and_then(|rest| rest.split(' ').next()).expect("it is told");
    Some(grown.parse().unwrap())
}

/// Bytes that can't be compressed to much less.
fn noise(length: u32, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed).collect()
}

#[test]
fn the_peak_is_a_file_and_not_the_context() {
    let name = "source::context::tests::the_peak_is_a_file_and_not_the_context";
    let files = |work: &Path| {
        for number in 0..12 {
            write(work, &format!("app/file{number}"), &noise(4 << 20, number));
        }
    };
    if let Some(grown) = grown(name, 1, 48 << 20, files) {
        assert!(grown < 24, "{grown} MiB for files of 4 MiB");
    }
}

#[test]
fn of_many_contexts_one_holds_a_large_file() {
    let name = "source::context::tests::of_many_contexts_one_holds_a_large_file";
    let file = |work: &Path| write(work, "app/large", &noise(32 << 20, 7));
    if let Some(grown) = grown(name, 4, 128 << 20, file) {
        assert!(
            grown < 96,
            "{grown} MiB for four contexts with a file of 32 MiB, which is held twice while it is read"
        );
    }
}
