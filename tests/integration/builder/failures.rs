//! Builds that fail, hang or are not wanted any more, and builders that are not there.

use std::time::Duration;

use plumb::builder::containerd::Containerd;
use plumb::builder::{BuildError, BuildKit, Builder, Endpoint, Progress};
use tokio::sync::mpsc;

use super::daemons::{Daemons, build, build_shell, context, dockerfile, fails, order, shell};
use crate::harness::{gone, running};

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
    let builder = Daemons::shared().builder();
    let error = fails(&builder, &order("fails:3"), dockerfile("# comment\nFROM localhost:1/no/such:1\n")).await;
    let BuildError::UnknownBase { line, image, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*line, image.as_str()), (Some(2), "localhost:1/no/such:1"), "{error}");
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_context_that_breaks_off_fails_with_its_own_reason() {
    let builder = Daemons::shared().builder();
    let broken = futures::stream::iter([
        Ok(bytes::Bytes::from_static(&[0; 512])),
        Err(std::io::Error::other("the blob 12ab is gone")),
    ]);
    let error = fails(&builder, &order("fails:4"), Box::pin(broken)).await;
    assert!(matches!(&error, BuildError::Context(reason) if reason.to_string().contains("12ab")), "{error:?}");
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_build_that_is_dropped_is_cancelled_at_the_daemon() {
    let builder = Daemons::shared().builder();
    let mut order = order("cancelled:1");
    order.bases = shell().await;
    let (log, mut lines) = mpsc::channel(8);
    let cancelled = builder.build(&order, dockerfile("FROM shell\nRUN echo begun; exec sleep 77001\n"), log);
    let begun = async {
        while let Some(line) = lines.recv().await {
            if matches!(&line, Progress::Line { text, .. } if text == "begun") {
                return running("77001").await;
            }
        }
        panic!("the step never began");
    };
    tokio::select! {
        outcome = cancelled => panic!("it ended by itself: {outcome:?}"),
        () = begun => {}
    }
    gone("77001").await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_build_that_hangs_is_cancelled_at_its_time_limit_and_says_where() {
    let limit = Duration::from_secs(600);
    let builder = Daemons::shared().builder().time_limit(limit);
    let mut order = order("hangs:1");
    order.bases = shell().await;
    let (log, mut lines) = mpsc::channel(8);
    let hangs = builder.build(&order, dockerfile("FROM shell\nRUN echo begun; exec sleep 77002\n"), log);
    let ten_minutes_later = async {
        while let Some(line) = lines.recv().await {
            if matches!(&line, Progress::Line { text, .. } if text == "begun") {
                tokio::time::pause();
                tokio::time::advance(limit).await;
                tokio::time::resume();
            }
        }
    };
    let (outcome, ()) = tokio::join!(hangs, ten_minutes_later);
    let error = outcome.unwrap_err();
    let BuildError::TimeLimit { step: Some(step), log, .. } = &error else { panic!("{error:?}") };
    assert!(step.contains("sleep 77002") && log == &["begun"], "{error:?}");
    gone("77002").await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_daemon_that_ends_in_the_middle_is_away() {
    let daemons = Daemons::start(&[]);
    let builder = daemons.builder();
    let mut order = order("interrupted:1");
    order.bases = build_shell(&builder).await;
    let (log, mut lines) = mpsc::channel(8);
    let interrupted = builder.build(&order, dockerfile("FROM shell\nRUN echo begun; exec sleep 77003\n"), log);
    let stop = async {
        while let Some(line) = lines.recv().await {
            if matches!(&line, Progress::Line { text, .. } if text == "begun") {
                daemons.stop("buildkitd");
            }
        }
    };
    let both = async { tokio::join!(interrupted, stop) };
    let (outcome, ()) = tokio::time::timeout(Duration::from_secs(60), both).await.expect("it ends with the daemon");
    let error = outcome.unwrap_err();
    assert!(matches!(error, BuildError::Away { .. }) && error.is_transient(), "{error:?}");
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_full_disk_is_told_and_what_finds_room_is_built() {
    let daemons = Daemons::start(&["--disk=48m"]);
    let builder = daemons.builder();
    let large = vec![7; 64 << 20];
    let text = b"FROM scratch\nCOPY large /large\n";
    let files: [(&str, u32, &[u8]); 2] = [("Dockerfile", 0o644, text), ("large", 0o644, &large)];
    let error = fails(&builder, &order("large:1"), context(&files)).await;
    assert!(
        matches!(&error, BuildError::DiskFull { endpoint, .. } if *endpoint == daemons.buildkitd().to_string()),
        "{error:?}"
    );
    assert!(error.is_transient(), "{error}");
    daemons.make_room("256m");
    let small = dockerfile("FROM scratch\nLABEL small=1\n");
    build(&builder, &order("small:1"), small).await.0.expect("what has room is built");
    assert_eq!(builder.present(&["large:1".to_owned(), "small:1".to_owned()]).await.unwrap(), [false, true]);
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
