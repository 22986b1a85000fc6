//! What goes wrong in a build, the same for whoever builds.

use std::time::Duration;

use bytes::Bytes;
use plumb::builder::{BuildError, BuildOrder, Builder, Built, Progress};
use tokio::sync::mpsc;

use super::daemons::{Daemons, build, context, dockerfile, fails, order};
use crate::harness::{SOON, gone, running};

/// The time limit of builders whose builds hang.
pub const LIMIT: Duration = Duration::from_secs(600);

/// Begins a build upon `shell` whose step has no end, and does something when that runs.
async fn meanwhile(
    builder: &dyn Builder,
    order: &BuildOrder,
    word: &str,
    act: impl AsyncFnOnce(),
) -> Result<Built, BuildError> {
    let hang = format!("FROM shell\nRUN echo begun; exec sleep {word}\n");
    let (log, mut lines) = mpsc::channel(8);
    let begun = async {
        while let Some(line) = lines.recv().await {
            if matches!(&line, Progress::Line { text, .. } if text == "begun") {
                running(word).await;
                return act().await;
            }
        }
        panic!("the step never began");
    };
    let (outcome, ()) = tokio::join!(builder.build(order, dockerfile(&hang), log), begun);
    outcome
}

pub async fn what_is_dropped_is_cancelled(builder: &dyn Builder, order: &BuildOrder, word: &str) {
    let (begun, dropped) = tokio::sync::oneshot::channel();
    let hangs = meanwhile(builder, order, word, async || begun.send(()).expect("somebody waits"));
    tokio::select! {
        outcome = hangs => panic!("it ended by itself: {outcome:?}"),
        begun = dropped => begun.expect("it is told"),
    }
    gone(word).await;
}

/// Of a builder with [`LIMIT`].
pub async fn what_hangs_is_cancelled_at_its_limit(builder: &dyn Builder, order: &BuildOrder, word: &str) {
    let later = async || {
        tokio::time::pause();
        tokio::time::advance(LIMIT).await;
        tokio::time::resume();
    };
    let error = meanwhile(builder, order, word, later).await.unwrap_err();
    let BuildError::TimeLimit { step: Some(step), log, .. } = &error else { panic!("{error:?}") };
    assert!(step.contains(&format!("sleep {word}")) && log == &["begun"], "{error:?}");
    assert!(!error.is_transient(), "{error}");
    gone(word).await;
}

pub async fn whose_daemon_ends_is_told(builder: &dyn Builder, order: &BuildOrder, word: &str, end: impl FnOnce()) {
    let ended = meanwhile(builder, order, word, async || end());
    let ended = tokio::time::timeout(SOON, ended).await.expect("it ends with the daemon");
    let error = ended.unwrap_err();
    assert!(matches!(error, BuildError::Away { .. }) && error.is_transient(), "{error:?}");
}

/// `line`: where the builder tells it.
pub async fn an_unknown_base_is_named(builder: &dyn Builder, name: &str, line: Option<u32>) {
    let error = fails(builder, &order(name), dockerfile("# comment\nFROM localhost:1/no/such:1\n")).await;
    let BuildError::UnknownBase { file, line: found, image, .. } = &error else { panic!("{error:?}") };
    assert_eq!((&**file, *found, &**image), ("Dockerfile", line, "localhost:1/no/such:1"), "{error}");
    assert!(error.is_transient(), "nobody answered: {error}");
}

pub async fn what_breaks_a_context_is_told(builder: &dyn Builder, name: &str) {
    for begun in [None, Some(Ok(Bytes::from_static(&[0; 512])))] {
        let refused = Err(std::io::Error::other("the blob 12ab is gone"));
        let broken = futures::stream::iter(begun.into_iter().chain([refused]));
        let error = fails(builder, &order(name), Box::pin(broken)).await;
        assert!(matches!(&error, BuildError::Context(reason) if reason.to_string().contains("12ab")), "{error:?}");
        assert!(!error.is_transient(), "{error}");
    }
}

/// Of daemons whose disk is smaller than 64 MiB.
pub async fn a_full_disk_is_told_until_there_is_room(daemons: &Daemons, builder: &dyn Builder, endpoint: &str) {
    let large = vec![7; 64 << 20];
    let text = b"FROM scratch\nCOPY large /large\n";
    let files: [(&str, u32, &[u8]); 2] = [("Dockerfile", 0o644, text), ("large", 0o644, &large)];
    let error = fails(builder, &order("large:1"), context(&files)).await;
    assert!(matches!(&error, BuildError::DiskFull { endpoint: at, .. } if at == endpoint), "{error:?}");
    assert!(error.is_transient(), "{error}");
    daemons.make_room("512m");
    let small = dockerfile("FROM scratch\nLABEL small=1\n");
    build(builder, &order("small:1"), small).await.0.expect("what has room is built");
    assert_eq!(builder.present(&["large:1".to_owned(), "small:1".to_owned()]).await.unwrap(), [false, true]);
    build(builder, &order("large:1"), context(&files)).await.0.expect("and what had none");
    assert_eq!(builder.present(&["large:1".to_owned()]).await.unwrap(), [true]);
}
