//! The same of a dockerd, by the BuildKit in it and by its classic builder.

use std::collections::BTreeMap;
use std::time::Duration;

use plumb::builder::{BuildError, Builder, Docker, Endpoint, LABEL, Progress};
use tokio::sync::mpsc;

use super::daemons::{Daemons, build, build_shell, context, dockerfile, fails, order};
use crate::harness::{gone, running};

#[derive(Clone, Copy, PartialEq)]
enum By {
    BuildKit,
    Classic,
}

impl By {
    fn builder(self) -> Docker {
        let docker = Daemons::with_docker().docker();
        if self == Self::Classic { docker.classic() } else { docker }
    }

    /// A name that the tests of the other builder do not have.
    fn name(self, name: &str) -> String {
        format!("{}-{name}:1", if self == Self::Classic { "classic" } else { "buildkit" })
    }
}

async fn an_image_stands_until_it_is_removed(by: By) {
    let builder = by.builder();
    let name = by.name("once");
    let text =
        b"FROM scratch AS wanted\nARG ANSWER=none\nLABEL answer=$ANSWER\nCOPY a /a\nFROM wanted\nLABEL answer=last\n";
    let files: [(&str, u32, &[u8]); 2] = [("docker/Dockerfile", 0o644, text), ("a", 0o755, b"content")];
    let mut order = order(&name);
    order.dockerfile = "docker/Dockerfile".to_owned();
    order.target = Some("wanted".to_owned());
    order.args = BTreeMap::from([("ANSWER".to_owned(), "42".to_owned())]);
    let asked = [name.clone()];
    assert_eq!(builder.present(&asked).await.unwrap(), [false]);
    let (built, log) = build(&builder, &order, context(&files)).await;
    built.unwrap_or_else(|error| panic!("{error}: {log:#?}"));
    assert!(log.iter().any(|line| matches!(line, Progress::Step(step) if step.contains("COPY a /a"))), "{log:#?}");
    assert_eq!(builder.present(&asked).await.unwrap(), [true]);
    let images = builder.images().await.unwrap();
    let image = images.iter().find(|image| image.reference == name).expect("it bears plumb's label");
    assert_eq!(image.labels[LABEL], name.trim_end_matches(":1"));
    assert_eq!(image.labels["answer"], "42");
    assert!(image.created > 1_700_000_000, "{}", image.created);
    for _ in 0..2 {
        builder.remove(&name).await.expect("a name that is gone is no error");
        assert_eq!(builder.present(&asked).await.unwrap(), [false]);
    }
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn an_image_stands_until_it_is_removed_by_buildkit() {
    an_image_stands_until_it_is_removed(By::BuildKit).await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn an_image_stands_until_it_is_removed_by_the_classic_builder() {
    an_image_stands_until_it_is_removed(By::Classic).await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn an_ignored_dockerfile_is_in_no_image() {
    for by in [By::BuildKit, By::Classic] {
        let builder = by.builder();
        let mut order = order(&by.name("ignored"));
        order.dockerfile = "./docker/Docker[file]".to_owned();
        order.bases = build_shell(&builder).await;
        let a: (&str, u32, &[u8]) = ("docker/a", 0o644, b"a");
        // The ignore file ignores itself, or it doesn't.
        for (files, has) in [(vec![a], "! -e"), (vec![a, (".dockerignore", 0o644, b"docker/*file*\n")], "-e")] {
            let run = format!("[ ! -e 'docker/Docker[file]' ] && [ -e docker/a ] && [ {has} .dockerignore ]");
            order.ignored_dockerfile = Some(format!("FROM shell\nWORKDIR /all\nCOPY . .\nRUN {run}\n"));
            let (built, log) = build(&builder, &order, context(&files)).await;
            built.unwrap_or_else(|error| panic!("{error}: {log:#?}"));
        }
    }
}

/// From a base of this repository: what is printed is told, a failure says where, what is dropped or hangs is cancelled.
async fn steps_run_fail_and_are_cancelled(by: By, word: &str) {
    let builder = by.builder();
    let mut order = order(&by.name("steps"));
    order.bases = build_shell(&builder).await;
    let (built, log) = build(&builder, &order, dockerfile("FROM shell\nRUN echo printed\n")).await;
    built.unwrap_or_else(|error| panic!("{error}: {log:#?}"));
    assert!(log.iter().any(|line| matches!(line, Progress::Line { text, .. } if text == "printed")), "{log:#?}");

    let error = fails(&builder, &order, dockerfile("FROM shell\nRUN echo first\nRUN echo last; exit 7\n")).await;
    let BuildError::Step { step, reason, log, .. } = &error else { panic!("{error:?}") };
    assert_eq!(reason, "exit code 7", "{error:?}");
    assert!(step.contains("RUN echo last") && log.last().is_some_and(|line| line == "last"), "{error:?}");

    let hang = format!("FROM shell\nRUN echo begun; exec sleep {word}\n");
    let (log, mut lines) = mpsc::channel(8);
    let cancelled = builder.build(&order, dockerfile(&hang), log);
    let begun = async {
        while let Some(line) = lines.recv().await {
            if matches!(&line, Progress::Line { text, .. } if text == "begun") {
                return running(word).await;
            }
        }
        panic!("the step never began");
    };
    tokio::select! {
        outcome = cancelled => panic!("it ended by itself: {outcome:?}"),
        () = begun => {}
    }
    gone(word).await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn steps_run_fail_and_are_cancelled_by_buildkit() {
    steps_run_fail_and_are_cancelled(By::BuildKit, "77004").await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn steps_run_fail_and_are_cancelled_by_the_classic_builder() {
    steps_run_fail_and_are_cancelled(By::Classic, "77005").await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn what_the_commit_is_at_fault_for_is_said() {
    for by in [By::BuildKit, By::Classic] {
        let builder = by.builder();
        let mut order = order(&by.name("fails"));
        let syntax = fails(&builder, &order, dockerfile("FROM scratch\n\nCOPPY a b\n")).await;
        assert!(
            matches!(&syntax, BuildError::Dockerfile { line: Some(3), reason, .. } if reason.contains("COPPY")),
            "{syntax:?}"
        );
        let none = fails(&builder, &order, context(&[("README.md", 0o644, b"")])).await;
        assert!(matches!(&none, BuildError::NoDockerfile(file) if file == "Dockerfile"), "{none:?}");
        let no_file = fails(&builder, &order, dockerfile("FROM scratch\nCOPY missing /\n")).await;
        assert!(matches!(&no_file, BuildError::Step { reason, .. } if reason.contains("missing")), "{no_file:?}");
        order.target = Some("relase".to_owned());
        let target = fails(&builder, &order, dockerfile("FROM scratch AS release\nLABEL a=b\n")).await;
        assert!(matches!(&target, BuildError::UnknownTarget { target, .. } if target == "relase"), "{target:?}");
        for error in [syntax, none, no_file, target] {
            assert!(!error.is_transient(), "{error}");
        }
    }
}

#[tokio::test]
async fn a_dockerd_that_is_not_there_says_what_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let (missing, dead) = (directory.path().join("missing.sock"), directory.path().join("dead.sock"));
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    for (socket, words) in [(missing, "there is no such socket"), (dead, "nobody listens there")] {
        let builder = Docker::new(Endpoint::Unix(socket)).time_limit(Duration::from_secs(60));
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
