use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::servers::{Https, Sshd};
use super::support::*;
use crate::model::secret::Masked;
use crate::source::{Credentials, SecretSource, SourceSettings, SourceState, Trust, look};

fn settings(scratch: &Scratch, url: &str) -> SourceSettings {
    let mut settings = SourceSettings::new(url.parse().unwrap());
    settings.cache = scratch.path("cache");
    settings.interval = Some(Duration::from_millis(50));
    settings.longest_delay = Duration::from_millis(200);
    settings
}

fn https(scratch: &Scratch, server: &Https, repository: &str) -> SourceSettings {
    let mut settings = settings(scratch, &server.url(repository));
    settings.credentials.ca_file = Some(server.ca_file.clone());
    settings
}

/// The one mirror in the cache.
fn mirror(scratch: &Scratch) -> PathBuf {
    let entries = std::fs::read_dir(scratch.path("cache")).unwrap();
    entries.map(|entry| entry.unwrap().path()).find(|path| path.extension().is_some_and(|end| end == "git")).unwrap()
}

fn file_url(path: &Path) -> String {
    format!("file://{}", path.display())
}

async fn trouble(settings: SourceSettings, word: &str) -> String {
    let mut watched = start_with(settings);
    let said = |state: &SourceState| state.trouble().is_some_and(|reason| reason.contains(word));
    watched.until(word, said).await.trouble().unwrap().to_owned()
}

#[tokio::test]
async fn a_remote_is_followed_through_pushes_deletions_and_renames_into_directories() {
    let scratch = Scratch::new();
    let (bare, work) = scratch.bare("repo.git");
    git(&work, &["push", "-q", "origin", "dev:team"]);
    let mut watched = start_with(settings(&scratch, &file_url(&bare)));
    let first = head(&work, "HEAD");
    let state = watched.until_at("team", first).await;
    let (heads, store) = state.heads().unwrap();
    assert_eq!(heads.default_branch.as_deref(), Some("dev"));
    assert_eq!(store.at(first).unwrap().list("").unwrap().len(), 1);
    let second = commit(&work, "a.txt", "two");
    git(&work, &["push", "-q", "origin", "dev"]);
    watched.until_at("dev", second).await;
    git(&work, &["push", "-q", "--force", "origin", "HEAD~1:dev"]);
    watched.until_at("dev", first).await;
    // A directory takes the place of a branch.
    git(&work, &["push", "-q", "origin", ":team"]);
    git(&work, &["push", "-q", "origin", "dev:team/dev"]);
    let state = watched.until_at("team/dev", second).await;
    assert!(!state.heads().unwrap().0.branches.contains_key("team"));
    git(&bare, &["symbolic-ref", "HEAD", "refs/heads/team/dev"]);
    let default = |state: &SourceState| state.heads().and_then(|(heads, _)| heads.default_branch.clone());
    watched.until("the default branch", |state| default(state).as_deref() == Some("team/dev")).await;
}

#[tokio::test]
async fn a_branch_and_a_directory_change_places_within_one_poll() {
    let scratch = Scratch::new();
    let (bare, work) = scratch.bare("repo.git");
    let settings = settings(&scratch, &file_url(&bare));
    for (gone, new, packed) in [
        ("team", "team/dev", false),
        ("team/dev", "team", false),
        ("team", "team/a/b", true),
        ("team/a/b", "team/a", true),
    ] {
        git(&work, &["push", "-q", "origin", &format!("dev:{gone}")]);
        look(&settings).await.unwrap();
        if packed {
            git(&mirror(&scratch), &["pack-refs", "--all"]);
        }
        let next = commit(&work, "a.txt", new);
        git(&work, &["push", "-q", "origin", &format!(":{gone}")]);
        git(&work, &["push", "-q", "origin", "dev", &format!("dev:{new}")]);
        let (heads, _) = look(&settings).await.unwrap();
        let branches: Vec<_> = heads.branches.iter().map(|(name, id)| (&**name, *id)).collect();
        assert_eq!(branches, [("dev", next), (new, next)], "{gone} to {new}");
        git(&work, &["push", "-q", "origin", &format!(":{new}")]);
        look(&settings).await.unwrap();
    }
}

#[tokio::test]
async fn a_remote_that_fails_takes_no_branch_with_it() {
    let scratch = Scratch::new();
    let (bare, work) = scratch.bare("repo.git");
    let id = head(&work, "HEAD");
    let mut watched = start_with(settings(&scratch, &file_url(&bare)));
    watched.until_at("dev", id).await;
    let away = scratch.path("away.git");
    std::fs::rename(&bare, &away).unwrap();
    let state = watched.until_failing().await;
    assert_eq!(state.heads().unwrap().0.branches.get("dev"), Some(&id));
    // Another plumb that starts now has what the first one fetched.
    let mut other = start_with(settings(&scratch, &file_url(&bare)));
    assert_eq!(other.until_failing().await.heads().unwrap().0.branches.get("dev"), Some(&id));
    // Empty is not believed.
    git(scratch.root.path(), &["init", "-q", "--bare", "-b", "dev", "repo.git"]);
    let empty = |state: &SourceState| state.trouble().is_some_and(|reason| reason.contains("every branch is gone"));
    let state = watched.until("empty", empty).await;
    assert!(state.heads().unwrap().0.branches.contains_key("dev"));
    std::fs::remove_dir_all(&bare).unwrap();
    std::fs::rename(&away, &bare).unwrap();
    watched.until_at("dev", id).await;
}

#[tokio::test]
async fn a_broken_mirror_is_made_anew() {
    let scratch = Scratch::new();
    let (bare, work) = scratch.bare("repo.git");
    let follow = || start_with(settings(&scratch, &file_url(&bare)));
    let mut watched = follow();
    watched.until_ready().await;
    watched.stop.send(true).unwrap();
    watched.task.await.unwrap();
    let id = head(&work, "HEAD");

    // What a kill or a power cut leaves: locks, half of a repository, objects that are gone.
    std::fs::write(mirror(&scratch).join("refs/heads/dev.lock"), "").unwrap();
    std::fs::write(mirror(&scratch).join("packed-refs.lock"), "").unwrap();
    std::fs::create_dir_all(mirror(&scratch).with_extension("new").join("refs")).unwrap();
    let next = commit(&work, "a.txt", "two");
    git(&work, &["push", "-q", "origin", "dev"]);
    let mut watched = follow();
    watched.until_at("dev", next).await;
    watched.stop.send(true).unwrap();
    watched.task.await.unwrap();

    std::fs::remove_dir_all(mirror(&scratch).join("objects")).unwrap();
    std::fs::create_dir_all(mirror(&scratch).join("objects/pack")).unwrap();
    let mut watched = follow();
    let state = watched.until_at("dev", next).await;
    assert!(state.heads().unwrap().1.at(next).unwrap().entry("a.txt").unwrap().is_some());

    // Under the feet of a running watch: objects go, and a push comes.
    std::fs::remove_dir_all(mirror(&scratch)).unwrap();
    let last = commit(&work, "a.txt", "three");
    git(&work, &["push", "-q", "origin", "dev"]);
    let state = watched.until_at("dev", last).await;
    assert!(state.heads().unwrap().1.is_ancestor(id, last).unwrap());
}

#[tokio::test]
async fn a_foreign_owner_behind_a_file_url_is_refused_until_trusted() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give a repository to someone else");
        return;
    }
    let scratch = Scratch::new();
    let (bare, work) = scratch.bare("repo.git");
    std::os::unix::fs::chown(&bare, Some(4711), None).unwrap();
    trouble(settings(&scratch, &file_url(&bare)), "--trust-owner 4711").await;
    let mut trusting = settings(&scratch, &file_url(&bare));
    trusting.trust = Trust::owners([4711]);
    start_with(trusting).until_at("dev", head(&work, "HEAD")).await;
}

#[tokio::test]
async fn https_with_a_password_from_a_file_or_the_url() {
    let scratch = Scratch::new();
    let (_, work) = scratch.bare("repo.git");
    let server = Https::start(scratch.root.path(), LOOPBACK, "server");
    // "ada:canary-hunter2" in base64.
    *server.shared.wants.lock().unwrap() = Some("Basic YWRhOmNhbmFyeS1odW50ZXIy".to_owned());
    let reason = trouble(https(&scratch, &server, "repo.git"), "credentials").await;
    assert!(reason.contains("password or token"), "{reason}");

    let mut wrong = https(&scratch, &server, "repo.git");
    wrong.credentials.password = Some(SecretSource::Value(Masked::new("canary-wrong")));
    let reason = trouble(wrong, "credentials").await;
    assert!(!reason.contains("canary"), "{reason}");

    let file = scratch.path("password");
    std::fs::write(&file, "canary-hunter2\n").unwrap();
    let mut right = https(&scratch, &server, "repo.git");
    right.credentials.username = Some("ada".to_owned());
    right.credentials.password = Some(SecretSource::File(file.clone()));
    let mut watched = start_with(right);
    watched.until_at("dev", head(&work, "HEAD")).await;
    let id = commit(&work, "a.txt", "two");
    git(&work, &["push", "-q", "origin", "dev"]);
    watched.until_at("dev", id).await;
    // The file is read for each attempt.
    *server.shared.wants.lock().unwrap() = Some("Basic YWRhOmNhbmFyeS1yb3RhdGVk".to_owned());
    watched.until_failing().await;
    std::fs::write(&file, "canary-rotated\n").unwrap();
    watched.until_at("dev", id).await;

    let url = server.url("repo.git").replace("https://", "https://ada:canary-rotated@");
    let mut in_url = settings(&scratch, &url);
    in_url.credentials.ca_file = Some(server.ca_file.clone());
    start_with(in_url).until_at("dev", id).await;
    let config = std::fs::read_to_string(mirror(&scratch).join("config")).unwrap();
    assert!(!config.contains("canary"), "{config}");
}

#[tokio::test]
async fn nothing_is_fetched_while_nothing_changed() {
    let scratch = Scratch::new();
    let (bare, work) = scratch.bare("repo.git");
    let server = Https::start(scratch.root.path(), LOOPBACK, "server");
    // The second HEAD is of a branch without a commit, which no list of branches names.
    for (head_of_remote, default) in [("refs/heads/dev", Some("dev")), ("refs/heads/none-yet", None)] {
        git(&bare, &["symbolic-ref", "HEAD", head_of_remote]);
        let mut watched = start_with(https(&scratch, &server, "repo.git"));
        let state = watched.until_at("dev", head(&work, "HEAD")).await;
        assert_eq!(state.heads().unwrap().0.default_branch.as_deref(), default);
        let (asked, sent) = (server.shared.requests("info/refs"), server.shared.requests("POST"));
        let start = std::time::Instant::now();
        while server.shared.requests("info/refs") < asked + 5 {
            assert!(start.elapsed() < LIVE);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Each list of branches is one GET and one POST; a fetch would be more.
        let (lists, posts) = (server.shared.requests("info/refs") - asked, server.shared.requests("POST") - sent);
        assert!(posts <= lists, "{posts} POSTs for {lists} lists, {head_of_remote}");
        assert!(!watched.states.has_changed().unwrap() || watched.now().trouble().is_none());
        watched.stop.send(true).unwrap();
        watched.task.await.unwrap();
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_and_a_redirect_get_no_credentials() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let (server, other) =
        (Https::start(scratch.root.path(), LOOPBACK, "server"), Https::start(scratch.root.path(), LOOPBACK, "other"));
    let with_password = |ca_file| {
        let mut settings = settings(&scratch, &server.url("repo.git"));
        let password = Some(SecretSource::Value(Masked::new("canary")));
        settings.credentials = Credentials { ca_file, password, ..Credentials::default() };
        settings
    };
    let reason = trouble(with_password(Some(other.ca_file.clone())), "certificate").await;
    assert!(reason.contains("CA file"), "{reason}");
    trouble(with_password(None), "certificate").await;
    assert_eq!(server.shared.requests(""), 0, "{:?}", server.shared.seen);

    *server.shared.redirect.lock().unwrap() = Some(format!("https://127.0.0.1:{}", other.port));
    let reason = trouble(with_password(Some(server.ca_file.clone())), "redirects").await;
    assert!(reason.contains("final URL"), "{reason}");
    assert_eq!(other.shared.requests(""), 0, "{:?}", other.shared.seen);
}

#[tokio::test]
async fn an_answer_that_ends_early_or_never_comes_is_a_failure_and_no_deletion() {
    let scratch = Scratch::new();
    let (_, work) = scratch.bare("repo.git");
    git(&work, &["push", "-q", "origin", "dev:other", "dev:third"]);
    let server = Https::start(scratch.root.path(), LOOPBACK, "server");
    let mut impatient = https(&scratch, &server, "repo.git");
    impatient.ask_timeout = Duration::from_secs(2);
    let mut watched = start_with(impatient);
    let id = head(&work, "HEAD");
    watched.until_at("third", id).await;
    for cut in [1, 60, 150] {
        server.shared.cut.store(cut, Ordering::Relaxed);
        let state = watched.until_failing().await;
        assert_eq!(state.heads().unwrap().0.branches.len(), 3, "cut at {cut}: {state:?}");
        server.shared.cut.store(0, Ordering::Relaxed);
        watched.until_ready().await;
    }
    server.shared.silent.store(true, Ordering::Relaxed);
    let state = watched.until("a time limit", |state| state.trouble().is_some_and(|why| why.contains("longer"))).await;
    assert_eq!(state.heads().unwrap().0.branches.len(), 3);
    server.shared.silent.store(false, Ordering::Relaxed);
    watched.until_at("dev", id).await;
}

#[tokio::test]
async fn shutdown_ends_a_fetch_that_hangs_and_all_its_processes() {
    let scratch = Scratch::new();
    scratch.bare("repo.git");
    let server = Https::start(scratch.root.path(), LOOPBACK, "server");
    server.shared.silent.store(true, Ordering::Relaxed);
    let watched = start_with(https(&scratch, &server, "repo.git"));
    let start = std::time::Instant::now();
    while server.shared.requests("info/refs") == 0 {
        assert!(start.elapsed() < LIVE, "never asked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    watched.stop.send(true).unwrap();
    tokio::time::timeout(LIVE, watched.task).await.unwrap().unwrap();
    // The helper's command line has the port, which is nobody else's.
    let port = format!(":{}/", server.port);
    let running = || {
        let processes = std::fs::read_dir("/proc").unwrap().map_while(Result::ok);
        processes
            .filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok())
            .any(|line| line.contains(&port))
    };
    while running() {
        assert!(start.elapsed() < LIVE, "git is still running");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn plain_http_and_link_local_names_are_refused() {
    let scratch = Scratch::new();
    trouble(settings(&scratch, "http://127.0.0.1:9/repo.git"), "--insecure-http").await;
    let mut allowed = settings(&scratch, "http://127.0.0.1:9/repo.git");
    allowed.insecure_http = true;
    let reason = trouble(allowed, "failed").await;
    assert!(!reason.contains("--insecure-http"), "{reason}");
    // The short form has no address that could be checked when it is parsed.
    trouble(settings(&scratch, "git@169.254.169.254:repo.git"), "link-local").await;
}

#[tokio::test]
async fn ssh_checks_the_host_and_uses_the_key() {
    let scratch = Scratch::new();
    let (bare, work) = scratch.bare("repo.git");
    let Some(server) = Sshd::start(scratch.root.path(), LOOPBACK) else { return };
    let with = |known_hosts: &Path, key: &Path| {
        let mut settings = settings(&scratch, &server.url(&bare));
        settings.credentials.known_hosts = Some(known_hosts.to_owned());
        settings.credentials.ssh_key = Some(SecretSource::File(key.to_owned()));
        settings
    };
    let empty = scratch.path("no hosts");
    std::fs::write(&empty, "").unwrap();
    let reason = trouble(with(&empty, &server.key), "ssh-keyscan").await;
    assert!(reason.contains("SHA256:") && reason.contains("no hosts"), "{reason}");

    // The client's key in the place of the host's: the host's key has changed.
    let changed = scratch.path("changed");
    let key = std::fs::read_to_string(server.key.with_extension("pub")).unwrap();
    std::fs::write(&changed, format!("[127.0.0.1]:{} {key}", server.port)).unwrap();
    trouble(with(&changed, &server.key), "SHA256:").await;

    let reason = trouble(with(&server.known_hosts, &scratch.path("host_key")), "credentials").await;
    assert!(reason.contains("ssh key"), "{reason}");

    // What the server says is not lost among ssh's own words.
    let mut gone = with(&server.known_hosts, &server.key);
    gone.repository = server.url(&scratch.path("gone.git")).parse().unwrap();
    trouble(gone, "does not appear to be a git repository").await;

    // Readable for its group, as a mounted Secret is: ssh itself would refuse the file.
    let mode: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o440);
    std::fs::set_permissions(&server.key, mode).unwrap();
    let mut watched = start_with(with(&server.known_hosts, &server.key));
    watched.until_at("dev", head(&work, "HEAD")).await;
    let id = commit(&work, "a.txt", "two");
    git(&work, &["push", "-q", "origin", "dev"]);
    watched.until_at("dev", id).await;
}

#[tokio::test]
async fn a_full_disk_leaves_the_last_known_heads() {
    let scratch = Scratch::new();
    let (bare, work) = scratch.bare("repo.git");
    std::fs::create_dir(scratch.path("cache")).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
        .arg(scratch.path("cache"))
        .output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: a small file system cannot be mounted here");
        return;
    }
    let _mounted = Mounted(scratch.path("cache"));
    let mut watched = start_with(settings(&scratch, &file_url(&bare)));
    let id = head(&work, "HEAD");
    watched.until_at("dev", id).await;
    let mut noise = vec![0; 4_000_000];
    rand::RngCore::fill_bytes(&mut rand::rng(), &mut noise);
    std::fs::write(work.join("noise.bin"), noise).unwrap();
    let large = commit(&work, "a.txt", "two");
    git(&work, &["push", "-q", "origin", "dev"]);
    let state = watched.until_failing().await;
    let (heads, store) = state.heads().unwrap();
    assert_eq!(heads.branches.get("dev"), Some(&id));
    assert!(store.at(id).unwrap().entry("a.txt").unwrap().is_some());
    let resize =
        std::process::Command::new("mount").args(["-o", "remount,size=64m"]).arg(scratch.path("cache")).status();
    assert!(resize.unwrap().success());
    watched.until_at("dev", large).await;
}

/// Fetched by a process of its own, whose children may have less memory than the file is large.
#[tokio::test]
async fn a_file_that_memory_does_not_hold_is_fetched() {
    const NAME: &str = "source::tests::remote::a_file_that_memory_does_not_hold_is_fetched";
    const SCRATCH: &str = "PLUMB_TEST_LARGE_FILE";
    const MIB: u64 = 1 << 20;
    if let Some(root) = std::env::var_os(SCRATCH) {
        let bare = Path::new(&root).join("repo.git");
        let mut settings = SourceSettings::new(file_url(&bare).parse().unwrap());
        settings.cache = Path::new(&root).join("cache");
        let mut watched = start_with(settings);
        let fetched = watched.states.wait_for(|state| !matches!(**state, SourceState::Waiting { .. }));
        // A large file takes its time on a loaded machine.
        let state = tokio::time::timeout(LIVE * 12, fetched).await.unwrap().unwrap().clone();
        assert_eq!(at(&state, "dev"), Some(head(&bare, "dev")), "{state:?}");
        return;
    }
    let scratch = Scratch::new();
    let (bare, work) = scratch.bare("repo.git");
    std::fs::File::create(work.join("large.bin")).unwrap().set_len(128 * MIB).unwrap();
    for repository in [&bare, &work] {
        git(repository, &["config", "core.bigFileThreshold", "1m"]); // The server is another machine.
    }
    commit(&work, "a.txt", "two");
    git(&work, &["push", "-q", "origin", "dev"]);
    let output = std::process::Command::new("prlimit")
        .arg(format!("--data={}", 96 * MIB))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(SCRATCH, scratch.root.path())
        .output()
        .unwrap();
    let told = [output.stderr, output.stdout].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

/// Unmounts when dropped.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
