//! Docker's classic builder: the context is the body of a request, and the answer is its log.

use std::io;

use bollard::errors::Error;
use bollard::query_parameters::BuildImageOptions;
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::sync::mpsc::Sender;

use crate::builder::buildkit::{self, BrokenContext, Log};
use crate::builder::{BuildError, BuildOrder, Built, Context, Progress, reference};
use crate::model::path::normal;
use crate::model::scrub::scrub;

/// Why a build failed: by itself, or because the daemon could not be asked.
pub(super) enum Failed {
    Build(BuildError),
    Call(Error),
    /// What it remembers having built is not there any more: without its cache it builds.
    Cache(String),
    /// The daemon has no room.
    Full(String),
}

pub(super) async fn build(
    client: &bollard::Docker,
    order: &BuildOrder,
    context: Context,
    cache: bool,
    log: &mut Log,
    progress: &Sender<Progress>,
) -> Result<Built, Failed> {
    let broken = BrokenContext::default();
    let told = broken.clone();
    // The daemon would only say that a body ended, or bollard that the daemon is away.
    let context = context.map(move |piece| {
        piece.map_err(|error| {
            let said = std::io::Error::other(error.to_string());
            told.set(error);
            said
        })
    });
    let built = answered(client, order, Box::pin(context), cache, log, progress).await;
    match broken.take() {
        Some(error) if built.is_err() => Err(Failed::Build(BuildError::Context(error))),
        _ => built,
    }
}

async fn answered(
    client: &bollard::Docker,
    order: &BuildOrder,
    context: Context,
    cache: bool,
    log: &mut Log,
    progress: &Sender<Progress>,
) -> Result<Built, Failed> {
    // As it stands in the tar, or it is not taken out again.
    let dockerfile = normal(&order.dockerfile);
    let context = match &order.ignored_dockerfile {
        Some(text) => Box::pin(stream::iter([with_ignored(&dockerfile, text)]).chain(context)),
        None => context,
    };
    let options = BuildImageOptions {
        dockerfile,
        t: Some(reference::full(&order.reference)),
        target: order.target.clone().unwrap_or_default(),
        platform: order.platform.clone().unwrap_or_default(),
        buildargs: Some(order.args.clone().into_iter().collect()),
        labels: Some(buildkit::labels(order).into_iter().collect()),
        nocache: !cache,
        rm: true,
        forcerm: true,
        ..BuildImageOptions::default()
    };
    let mut answers = std::pin::pin!(client.build_image(options, None, Some(bollard::body_try_stream(context))));
    while let Some(answer) = answers.next().await {
        let said = match answer {
            Ok(info) => match info.error_detail.and_then(|error| error.message) {
                Some(reason) => return Err(failed(&reason, order, log)),
                None => info.stream.unwrap_or_default(),
            },
            Err(Error::DockerStreamError { error }) => return Err(failed(&error, order, log)),
            Err(Error::DockerResponseServerError { message, status_code })
                if status_code < 500 || of_dockerfile(&message) =>
            {
                return Err(failed(&message, order, log));
            }
            Err(error) => return Err(Failed::Call(error)),
        };
        for told in log.classic(&said) {
            // Whoever does not listen any more misses it.
            let _ = progress.send(told).await;
        }
    }
    Ok(Built { digest: None })
}

fn failed(said: &str, order: &BuildOrder, log: &Log) -> Failed {
    if said.contains("unable to find image \"sha256:") {
        return Failed::Cache(scrub(said));
    }
    if said.contains("no space left on device") {
        return Failed::Full(scrub(said));
    }
    Failed::Build(failure(said, order, log))
}

/// The beginning of a context's tar with a Dockerfile that is to be in no image. This builder takes it out again if `.dockerignore` names it: one that does
/// stands before the context's own, which takes its place if there is one and names it as a rule. Where `<Dockerfile>.dockerignore` names it alone and
/// `.dockerignore` is in the context too, it stays: of the former this builder does not know.
fn with_ignored(path: &str, text: &str) -> io::Result<Bytes> {
    let escaped = |out: String, letter: char| match letter {
        '*' | '?' | '[' | ']' | '^' | '\\' => format!("{out}\\{letter}"),
        _ => out + letter.encode_utf8(&mut [0; 4]),
    };
    let ignore = path.chars().fold(".dockerignore\n/".to_owned(), escaped);
    let mut archive = tar::Builder::new(Vec::new());
    for (path, text) in [(".dockerignore", &*ignore), (path, text)] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        archive.append_data(&mut header, path, text.as_bytes())?;
    }
    // Without the end of an archive: the context's own entries follow.
    Ok(archive.get_ref().clone().into())
}

fn of_dockerfile(message: &str) -> bool {
    ["dockerfile", "Dockerfile", "build stage"].iter().any(|word| message.contains(word))
}

/// What the classic builder says, in the words of moby's `builder/dockerfile`.
fn failure(said: &str, order: &BuildOrder, log: &Log) -> BuildError {
    let (said, file) = (scrub(said), order.dockerfile.clone());
    if said.contains("Cannot locate specified Dockerfile") {
        return BuildError::NoDockerfile(file);
    }
    if said.contains("failed to reach build target") || said.contains("invalid target") {
        return BuildError::UnknownTarget { file, target: order.target.clone().unwrap_or_default() };
    }
    let (step, lines) = log.running();
    match step {
        Some(step) if step.contains("FROM ") => {
            let image =
                step.rsplit_once("FROM ").map_or("", |(_, rest)| rest).split(' ').next().unwrap_or_default().to_owned();
            let transient = !["not found", "does not exist", "denied"].iter().any(|word| said.contains(word));
            BuildError::UnknownBase { file, line: None, image, reason: said, transient }
        }
        Some(step) => {
            let code = said.rsplit_once("returned a non-zero code: ").map(|(_, code)| format!("exit code {code}"));
            BuildError::Step { file, line: None, step, reason: code.unwrap_or(said), log: lines }
        }
        None => {
            let (line, reason) = buildkit::parse_error(&said).unwrap_or((None, &said));
            BuildError::Dockerfile { file, line, reason: reason.to_owned() }
        }
    }
}
