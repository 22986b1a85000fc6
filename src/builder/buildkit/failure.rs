//! From what buildkitd says to a failure that a person can act on.
//!
//! buildkitd's own failures come as one text; where it happened stands beside it, as JSON. The words that are looked for
//! are those of `frontend/dockerfile`, `solver/llbsolver/ops/exec.go` and `util/push` of BuildKit.

use std::error::Error;

use bollard_buildkit_proto::google::rpc;
use prost::Message;
use serde::Deserialize;
use tonic::{Code, Status};

use super::log::Log;
use crate::builder::{BuildError, BuildOrder, Endpoint, reference};
use crate::model::scrub::scrub;

/// Why a call that builds nothing failed.
pub(super) fn of_call(status: &Status, endpoint: &Endpoint) -> BuildError {
    let reason = scrub(status.message());
    // Only what never came from the daemon has a cause here.
    if status.code() == Code::Unavailable || status.source().is_some() {
        return BuildError::Away { endpoint: endpoint.to_string(), reason };
    }
    BuildError::Builder { endpoint: endpoint.to_string(), reason }
}

/// Why a registry can't be used.
pub(super) fn of_registry(status: &Status, image: &str, endpoint: &Endpoint) -> BuildError {
    if status.code() == Code::Unavailable || status.source().is_some() {
        return of_call(status, endpoint);
    }
    let (registry, reason) = (reference::split(image).0.to_owned(), scrub(status.message()));
    if is_full(&reason) {
        return BuildError::DiskFull { endpoint: endpoint.to_string(), reason };
    }
    BuildError::Registry { registry, status: http_status(&reason), reason }
}

/// Why a build failed.
pub(super) fn of_solve(status: &Status, order: &BuildOrder, log: &Log, endpoint: &Endpoint) -> BuildError {
    let said = scrub(status.message());
    let place = Place::of(status.details());
    let (file, line) = (order.dockerfile.clone(), place.line);
    if status.source().is_some() {
        return of_call(status, endpoint);
    }
    if is_full(&said) {
        return BuildError::DiskFull { endpoint: endpoint.to_string(), reason: said };
    }
    if said.contains("failed to push") {
        return of_registry(status, &order.reference, endpoint);
    }
    if said.contains("failed to read dockerfile") {
        return BuildError::NoDockerfile(file);
    }
    if let Some(target) = unknown_target(&said) {
        return BuildError::UnknownTarget { file, target: target.to_owned() };
    }
    if let Some((_, resolving)) = said.rsplit_once("failed to resolve source metadata for ") {
        let (image, reason) = resolving.split_once(": ").unwrap_or((resolving, "no reason given"));
        return unknown_base(file, line, image, reason);
    }
    // Docker 20's does not say in its answer which image it was at.
    let failed = log.failed();
    if let Some(image) = failed.as_ref().and_then(|(step, _)| step.strip_prefix("[internal] load metadata for ")) {
        let (_, reason) = said.rsplit_once("failed to create LLB definition: ").unwrap_or(("", &said));
        return unknown_base(file, line, image, reason);
    }
    let step = place.vertex.as_deref().and_then(|vertex| log.step(vertex)).or(failed);
    match step {
        Some((step, log)) if place.vertex.is_some() || failed_while_running(&said) => {
            BuildError::Step { file, line, step, reason: reason_of_step(&said), log }
        }
        _ => match parse_error(&said) {
            Some((parsed, reason)) => BuildError::Dockerfile { file, line: line.or(parsed), reason: reason.to_owned() },
            None if line.is_some() || said.contains("Dockerfile cannot be empty") => {
                BuildError::Dockerfile { file, line, reason: said }
            }
            None => of_call(status, endpoint),
        },
    }
}

/// Whether the daemon has no room. A registry that has none answers so.
fn is_full(said: &str) -> bool {
    said.contains("no space left on device") && http_status(said).is_none()
}

fn unknown_base(file: String, line: Option<u32>, image: &str, reason: &str) -> BuildError {
    let answered = ["not found", "does not exist", "denied", "authorization", "unauthorized"];
    let transient = !answered.iter().any(|word| reason.to_lowercase().contains(word));
    BuildError::UnknownBase { file, line, image: image.to_owned(), reason: reason.to_owned(), transient }
}

/// The words are those of today's BuildKit and of Docker 20's.
fn failed_while_running(said: &str) -> bool {
    [
        "did not complete successfully",
        "executor failed running",
        "failed to compute cache key",
        "failed to calculate checksum",
    ]
    .iter()
    .any(|words| said.contains(words))
}

/// `process "…" did not complete successfully: exit code: 2` is `exit code 2`: the step says the rest.
fn reason_of_step(said: &str) -> String {
    match said.rsplit_once("exit code: ") {
        Some((_, code)) => format!("exit code {code}"),
        None => said.rsplit_once("did not complete successfully: ").map_or(said, |(_, reason)| reason).to_owned(),
    }
}

/// `dockerfile parse error on line 3: x` is line 3 and `x`.
pub(in crate::builder) fn parse_error(said: &str) -> Option<(Option<u32>, &str)> {
    let (_, rest) = said.split_once("parse error ")?;
    let (line, reason) = rest.split_once(": ")?;
    Some((line.rsplit(' ').next()?.parse().ok(), reason))
}

/// `target stage "x" could not be found` is `x`. Docker 20's has no quotes.
fn unknown_target(said: &str) -> Option<&str> {
    let (_, target) = said.split_once("target stage ")?;
    let (target, _) = target.split_once(" could not be found")?;
    Some(target.trim_matches('"'))
}

/// The status of a registry's answer, as in `unexpected status from HEAD request to http://…: 401 Unauthorized`.
fn http_status(said: &str) -> Option<u16> {
    if said.contains("authorization failed") || said.contains("no basic auth credentials") {
        return Some(401);
    }
    let (_, after) = said.split_once("unexpected status")?;
    let words = after.split([' ', ':']).filter(|word| word.len() == 3);
    words.filter_map(|word| word.parse().ok()).find(|status| (400..600).contains(status))
}

/// Where it happened, as far as buildkitd tells.
#[derive(Debug, Default, PartialEq, Eq)]
struct Place {
    /// The line of the Dockerfile, from 1.
    line: Option<u32>,
    /// The step's digest.
    vertex: Option<String>,
}

#[derive(Deserialize)]
struct Source {
    #[serde(default)]
    ranges: Vec<Range>,
}

#[derive(Deserialize)]
struct Range {
    #[serde(default)]
    start: Option<Position>,
}

#[derive(Deserialize)]
struct Position {
    line: u32,
}

#[derive(Deserialize)]
struct VertexOf {
    digest: String,
}

impl Place {
    fn of(details: &[u8]) -> Self {
        let mut place = Self::default();
        let details = rpc::Status::decode(details).unwrap_or_default().details;
        for detail in details {
            if detail.type_url.contains("errdefs.Source") {
                let source: Option<Source> = serde_json::from_slice(&detail.value).ok();
                let range = source.and_then(|source| source.ranges.into_iter().next());
                place.line = place.line.or(range.and_then(|range| range.start).map(|start| start.line));
            } else if detail.type_url.contains("errdefs.Vertex") {
                place.vertex = serde_json::from_slice(&detail.value).ok().map(|VertexOf { digest }| digest);
            }
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::google::protobuf::Any;

    use super::*;

    /// What buildkitd 0.33 answers, with the details that plumb reads.
    fn answer(message: &str, line: Option<u32>) -> Status {
        let source = line.map(|line| Any {
            type_url: "github.com/moby/buildkit/errdefs.Source+json".to_owned(),
            value: format!(r#"{{"info":{{"filename":"Dockerfile"}},"ranges":[{{"start":{{"line":{line}}}}}]}}"#)
                .into_bytes(),
        });
        let details = rpc::Status { code: 2, message: message.to_owned(), details: source.into_iter().collect() };
        Status::with_details(Code::Unknown, message, details.encode_to_vec().into())
    }

    fn failure(message: &str, line: Option<u32>) -> BuildError {
        let order = BuildOrder {
            reference: "registry:5000/a:1".to_owned(),
            dockerfile: "Dockerfile".to_owned(),
            ..BuildOrder::default()
        };
        let endpoint = Endpoint::Tcp("builder:1".to_owned());
        of_solve(&answer(message, line), &order, &Log::default(), &endpoint)
    }

    #[test]
    fn what_is_said_of_a_dockerfile() {
        let parse =
            failure("dockerfile parse error on line 3: unknown instruction: COPPY (did you mean COPY?)", Some(3));
        assert_eq!(parse.to_string(), "Dockerfile:3: unknown instruction: COPPY (did you mean COPY?)");
        let target = failure("target stage \"relase\" could not be found (did you mean release?)", None);
        assert_eq!(target.to_string(), "Dockerfile has no stage \"relase\"");
        let none = failure("failed to read dockerfile: open Dockerfile: no such file or directory", None);
        assert_eq!(none.to_string(), "there is no Dockerfile in the build context");
    }

    #[test]
    fn what_is_said_of_a_base() {
        let refused = "localhost:1/no/such:1: failed to resolve source metadata for localhost:1/no/such:1: failed to do request: \
            Head \"http://localhost:1/v2/no/such/manifests/1\": dial tcp 127.0.0.1:1: connect: connection refused";
        let error = failure(refused, Some(2));
        assert!(
            error
                .to_string()
                .starts_with("Dockerfile:2: the base image localhost:1/no/such:1 cannot be had: failed to do"),
            "{error}"
        );
        assert!(error.is_transient());
        let unknown = "docker.io/library/rsut:1: failed to resolve source metadata for docker.io/library/rsut:1: pull access denied";
        assert!(!failure(unknown, Some(1)).is_transient());
    }

    #[test]
    fn what_is_said_of_a_registry() {
        let table = [
            (
                "unexpected status from HEAD request to http://registry:5000/v2/a/manifests/1: 500 Internal Server Error",
                Some(500),
                true,
            ),
            (
                "unexpected status from PUT request to http://registry:5000/v2/a/manifests/1: 400 Bad Request",
                Some(400),
                false,
            ),
            (
                "unexpected status from POST request to https://registry:5000/v2/a/blobs/uploads/: 401 Unauthorized",
                Some(401),
                true,
            ),
            ("authorization failed: no basic auth credentials", Some(401), true),
            ("failed to do request: Head \"https://registry:5000/v2/\": dial tcp: connection refused", None, true),
        ];
        for (words, expected, transient) in table {
            let error = failure(&format!("failed to push registry:5000/a:1: {words}"), None);
            assert!(matches!(&error, BuildError::Registry { status, .. } if *status == expected), "{error:?}");
            assert_eq!(error.is_transient(), transient, "{error}");
        }
    }

    #[test]
    fn what_is_said_of_the_daemon() {
        assert!(matches!(failure("write /var/lib/x: no space left on device", None), BuildError::DiskFull { .. }));
        let resolving =
            "failed to resolve source metadata for r:5000/a:1: write /var/lib/meta.db: no space left on device";
        let endpoint = Endpoint::Tcp("builder:1".to_owned());
        let asked = of_registry(&Status::unknown(resolving), "r:5000/a:1", &endpoint);
        assert!(matches!(&asked, BuildError::DiskFull { endpoint, .. } if endpoint.contains("builder:1")), "{asked:?}");
        let theirs = "failed to push registry:5000/a:1: unexpected status from PUT request to http://registry:5000/v2/a/manifests/1: \
            500 Internal Server Error: write /var/lib/registry/x: no space left on device";
        assert!(matches!(failure(theirs, None), BuildError::Registry { status: Some(500), .. }));
        assert!(matches!(failure("something new", None), BuildError::Builder { .. }));
        let away = of_call(&Status::unavailable("gone"), &Endpoint::Tcp("builder:1".to_owned()));
        assert!(matches!(away, BuildError::Away { .. }));
    }
}
