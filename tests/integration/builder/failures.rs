//! Builds that fail, hang or are not wanted any more, and builders that are not there.

use plumb::builder::containerd::Containerd;
use plumb::builder::{BuildError, BuildKit, Builder, Endpoint};

use super::daemons::{Daemons, build, build_shell, context, dockerfile, fails, order, shell, upon};
use super::trouble::{self, LIMIT};

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_step_that_fails_is_named_with_its_code_and_the_last_it_printed() {
    let builder = Daemons::shared().builder();
    let mut order = order("fails:1");
    order.bases = shell().await;
    let text = "FROM shell\nRUN echo fine\n\nRUN for i in 1 2 3; do echo line $i; done; echo password=hunter2; exit 7\nRUN echo never\n";
    let error = fails(&builder, &order, dockerfile(text)).await;
    let BuildError::Step { file, step, reason, log, .. } = &error else { panic!("{error:?}") };
    assert_eq!((file.as_str(), reason.as_str()), ("Dockerfile", "exit code 7"));
    assert!(step.contains("RUN for i in 1 2 3") && log.contains(&"line 3".to_owned()), "{error:?}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
    assert!(!error.is_transient());
    assert_eq!(builder.present(&["fails:1".to_owned()]).await.unwrap(), [false]);
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn what_the_commit_is_at_fault_for_is_said_with_the_place() {
    let builder = Daemons::shared().builder();
    let mut order = order("fails:2");
    let syntax = fails(&builder, &order, dockerfile("FROM scratch\n\nCOPPY a b\n")).await;
    assert!(
        matches!(&syntax, BuildError::Dockerfile { line: Some(3), reason, .. } if reason.contains("COPPY")),
        "{syntax:?}"
    );
    let no_file = fails(&builder, &order, dockerfile("FROM scratch\nCOPY missing /\n")).await;
    assert!(
        matches!(&no_file, BuildError::Step { line: Some(2), reason, .. } if reason.contains("missing")),
        "{no_file:?}"
    );
    let none = fails(&builder, &order, context(&[("README.md", 0o644, b"")])).await;
    assert!(matches!(&none, BuildError::NoDockerfile(file) if file == "Dockerfile"), "{none:?}");
    let empty = fails(&builder, &order, dockerfile("")).await;
    assert!(matches!(&empty, BuildError::Dockerfile { .. }), "{empty:?}");
    order.target = Some("relase".to_owned());
    let target = fails(&builder, &order, dockerfile("FROM scratch AS release\n")).await;
    assert!(matches!(&target, BuildError::UnknownTarget { target, .. } if target == "relase"), "{target:?}");
    for error in [syntax, no_file, none, empty, target] {
        assert!(!error.is_transient(), "{error}");
    }
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn an_unknown_base_is_named_with_its_line() {
    trouble::an_unknown_base_is_named(&Daemons::shared().builder(), "fails:3", Some(2)).await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_context_that_breaks_off_fails_with_its_own_reason() {
    trouble::what_breaks_a_context_is_told(&Daemons::shared().builder(), "fails:4").await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_build_that_is_dropped_is_cancelled_at_the_daemon() {
    let builder = Daemons::shared().builder();
    trouble::what_is_dropped_is_cancelled(&builder, &upon("cancelled:1", shell().await), "77001").await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_build_that_hangs_is_cancelled_at_its_time_limit_and_says_where() {
    let builder = Daemons::shared().builder().time_limit(LIMIT);
    trouble::what_hangs_is_cancelled_at_its_limit(&builder, &upon("hangs:1", shell().await), "77002").await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_daemon_that_ends_in_the_middle_is_away() {
    let daemons = Daemons::start(&[]);
    let builder = daemons.builder();
    let order = upon("interrupted:1", build_shell(&builder).await);
    trouble::whose_daemon_ends_is_told(&builder, &order, "77003", || daemons.stop("buildkitd")).await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_full_disk_is_told_and_what_finds_room_is_built() {
    let daemons = Daemons::start(&["--disk=48m"]);
    let endpoint = daemons.buildkitd().to_string();
    trouble::a_full_disk_is_told_until_there_is_room(&daemons, &daemons.builder(), &endpoint).await;
}

#[tokio::test]
async fn a_builder_that_is_not_there_says_what_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let (missing, dead) = (directory.path().join("missing.sock"), directory.path().join("dead.sock"));
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    for (socket, words) in [(missing, "there is no such socket"), (dead, "nobody listens there")] {
        let builder = BuildKit::new(Endpoint::Unix(socket.clone()), Containerd::new(Endpoint::Unix(socket)));
        let built = build(&builder, &order("away:1"), dockerfile("FROM scratch\n")).await.0.unwrap_err();
        let asked = builder.present(&["away:1".to_owned()]).await.unwrap_err();
        for error in [built, asked] {
            assert!(
                matches!(&error, BuildError::Away { reason, .. } if reason == words) && error.is_transient(),
                "{error:?}"
            );
        }
    }
}
