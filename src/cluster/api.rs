//! One request to the API server: bounded in number and time, 429 and Retry-After obeyed, errors told apart.
//!
//! kube's own retry is off: it sleeps for minutes and hides 429 from the limiter. Answers are decoded here, since kube's helper logs a body
//! that it can't decode, and that body may be a Secret.

use std::time::{Duration, Instant};

use http::Request;
use kube::Client;
use kube::client::Body;
use kube::core::Status;
use serde::de::DeserializeOwned;
use tokio::time::error::Elapsed;

use super::error::ClusterError;
use super::limiter::Limiter;
use crate::model::EnvironmentSpec;
use crate::telemetry::metrics::Answer;
use crate::telemetry::{Pulse, Telemetry};

/// A request may take this long; the API server's own limit for non-watch requests is 60 s.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// How often a 429 is obeyed before it is passed on.
const PATIENCE: u32 = 8;
/// A server that asks for more than this is answered by the caller's own back-off.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Whose rights a request uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As<'a> {
    /// plumb's own.
    Plumb,
    /// A service account's: namespace and name.
    ServiceAccount(&'a str, &'a str),
}

impl<'a> As<'a> {
    /// Those that an environment's writes use.
    pub fn environment(spec: &'a EnvironmentSpec) -> Self {
        match &spec.service_account {
            Some(name) => Self::ServiceAccount(&spec.namespace, name),
            None => Self::Plumb,
        }
    }
}

/// Sends requests. Clones share the connection pool, the limiter and what is counted.
#[derive(Clone)]
pub struct Caller {
    client: Client,
    limiter: Limiter,
    telemetry: Telemetry,
    pulse: Pulse,
}

impl Caller {
    /// A caller over this client.
    pub fn new(client: Client, limiter: Limiter) -> Self {
        Self { client, limiter, telemetry: Telemetry::default(), pulse: Pulse::default() }
    }

    /// The same for one task: each answer is a sign of life of it.
    pub fn with_pulse(self, pulse: Pulse) -> Self {
        Self { pulse, ..self }
    }

    /// Where requests are counted.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// The task that this caller's requests are made for.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// The client itself, for watches, which are not bounded by the limiter.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a request and decodes the answer. `what` says in words what is asked, for errors.
    pub async fn call<T: DeserializeOwned>(
        &self,
        what: &(dyn Fn() -> String + Sync),
        by: As<'_>,
        request: Result<Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, ClusterError> {
        let answer = self.answer(what, by, request).await?;
        serde_json::from_slice(&answer).map_err(|source| ClusterError::Unreadable { what: what(), source })
    }

    /// Sends a request whose answer is plain text: a container's log, which may be in any encoding.
    pub async fn text(
        &self,
        what: &(dyn Fn() -> String + Sync),
        by: As<'_>,
        request: Result<Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<String, ClusterError> {
        let answer = self.answer(what, by, request).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    async fn answer(
        &self,
        what: &(dyn Fn() -> String + Sync),
        by: As<'_>,
        request: Result<Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Vec<u8>, ClusterError> {
        let mut request = request.map_err(|source| ClusterError::Unbuildable { what: what(), source })?;
        impersonate(&mut request, by).map_err(|()| ClusterError::BlankImpersonation { what: what() })?;
        let verb = verb(&request);
        let (parts, body) = request.into_parts();
        let body = bytes::Bytes::from(body); // shared, so that sending it again copies nothing
        for attempt in 1.. {
            let permit = self.pulse.queue(self.limiter.turns(), self.limiter.place()).await;
            let request = Request::from_parts(parts.clone(), Body::from(body.clone()));
            let began = Instant::now();
            let answer = tokio::time::timeout(TIME_LIMIT, self.once(request)).await;
            drop(permit);
            self.pulse.beat();
            self.telemetry.metrics.request(verb, answer_of(&answer, |(code, ..)| *code), began.elapsed());
            let (code, retry_after, text) = match answer {
                Err(_) => return Err(ClusterError::TimedOut { what: what(), after: TIME_LIMIT }),
                Ok(Err(source)) => return Err(ClusterError::Unreachable { what: what(), source }),
                Ok(Ok(answer)) => answer,
            };
            if code == 429 && attempt < PATIENCE {
                let pause = retry_after.unwrap_or(Duration::from_secs(1));
                if pause <= LONGEST_PAUSE {
                    self.limiter.throttled(pause);
                    self.telemetry.metrics.concurrency(self.limiter.allowed());
                    continue;
                }
            }
            if code != 429 {
                self.limiter.succeeded();
            }
            self.telemetry.metrics.concurrency(self.limiter.allowed());
            if !(200..300).contains(&code) {
                return Err(ClusterError::Refused { what: what(), status: Box::new(status_of(code, &text)) });
            }
            return Ok(text);
        }
        Err(ClusterError::TimedOut { what: what(), after: TIME_LIMIT })
    }

    async fn once(&self, request: Request<Body>) -> Result<(u16, Option<Duration>, Vec<u8>), kube::Error> {
        let response = self.client.send(request).await?;
        let code = response.status().as_u16();
        let seconds = response.headers().get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = seconds.and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let bytes = response.into_body().collect_bytes().await?;
        Ok((code, retry_after, bytes.into()))
    }
}

/// How a request ended, for the count of requests.
pub(super) fn answer_of<T>(answer: &Result<Result<T, kube::Error>, Elapsed>, code: impl Fn(&T) -> u16) -> Answer {
    match answer {
        Ok(Ok(answer)) => Answer::Code(code(answer)),
        Ok(Err(kube::Error::Api(status))) => Answer::Code(status.code),
        Ok(Err(_)) => Answer::Unreachable,
        Err(_) => Answer::TimedOut,
    }
}

/// What a request asks for, in the words of RBAC; a write that is only tried out is a `dry-run`.
fn verb(request: &Request<Vec<u8>>) -> &'static str {
    let query = request.uri().query().unwrap_or_default();
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    match *request.method() {
        _ if has("dryRun") => "dry-run",
        http::Method::GET if has("limit") => "list",
        http::Method::GET => "get",
        http::Method::POST => "create",
        http::Method::PATCH => "patch",
        http::Method::DELETE => "delete",
        _ => "other",
    }
}

fn impersonate(request: &mut Request<Vec<u8>>, by: As<'_>) -> Result<(), ()> {
    let As::ServiceAccount(namespace, name) = by else { return Ok(()) };
    if namespace.trim().is_empty() || name.trim().is_empty() {
        return Err(());
    }
    let user = format!("system:serviceaccount:{namespace}:{name}").parse().map_err(|_| ())?;
    request.headers_mut().insert("Impersonate-User", user);
    Ok(())
}

/// The server's Status, or one made from the code where a proxy or the flow control answered in plain text.
fn status_of(code: u16, text: &[u8]) -> Status {
    match serde_json::from_slice::<Status>(text) {
        Ok(status) if status.code != 0 => status,
        Ok(status) => status.with_code(code),
        Err(_) => {
            let text: String = String::from_utf8_lossy(text).trim().chars().take(200).collect();
            Status::failure(&text, "").with_code(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::pulse;

    #[test]
    fn a_blank_service_account_never_becomes_plumb_itself() {
        for (namespace, name) in [("", "a"), ("a", ""), (" ", "a"), ("a", " ")] {
            let mut request = Request::new(Vec::new());
            assert!(impersonate(&mut request, As::ServiceAccount(namespace, name)).is_err());
            assert!(request.headers().is_empty());
        }
        let mut request = Request::new(Vec::new());
        impersonate(&mut request, As::ServiceAccount("todo-dev", "plumb-deployer")).unwrap();
        assert_eq!(request.headers()["Impersonate-User"], "system:serviceaccount:todo-dev:plumb-deployer");
    }

    #[test]
    fn a_request_is_counted_by_what_it_asks_for() {
        use kube::core::params::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
        let paths = kube::core::Request::new("/api/v1/namespaces/n/configmaps");
        let apply = |params: &PatchParams| paths.patch("a", params, &Patch::Apply(&serde_json::json!({})));
        let cases = [
            (paths.list_metadata(&ListParams::default().limit(500).labels("a=b")), "list"),
            (paths.get_metadata("a", &Default::default()), "get"),
            (paths.create(&PostParams::default(), Vec::new()), "create"),
            (apply(&PatchParams::apply("limit")), "patch"),
            (apply(&PatchParams::apply("plumb").dry_run()), "dry-run"),
            (paths.delete("a", &DeleteParams::default()), "delete"),
        ];
        for (request, expected) in cases {
            assert_eq!(verb(&request.unwrap()), expected);
        }
    }

    /// Places that are taken and never given back: whoever waits for one hangs, and is found.
    #[tokio::test(start_paused = true)]
    async fn a_request_that_never_gets_its_turn_is_a_hang() {
        let (limiter, telemetry) = (Limiter::default(), Telemetry::default());
        let mut lost = Vec::new();
        for _ in 0..super::super::limiter::MOST {
            lost.push(limiter.place().await);
        }
        let config = kube::Config::new("http://127.0.0.1:9".parse().unwrap());
        let caller = Caller::new(Client::try_from(config).unwrap(), limiter);
        let pulse = telemetry.pulses.enter("environment dev", pulse::BOUND);
        pulse.step("applying 3f2a91c");
        let caller = caller.with_pulse(pulse);
        let asking = tokio::spawn(async move {
            let request = Ok(Request::get("/version").body(Vec::new()).unwrap());
            caller.call::<serde_json::Value>(&|| "ask".to_owned(), As::Plumb, request).await.err()
        });
        tokio::time::sleep(pulse::BOUND).await;
        assert!(telemetry.pulses.reports()[0].is_alive());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let said = telemetry.pulses.reports()[0].to_string();
        assert!(said.starts_with("environment dev hangs: applying 3f2a91c for 5m 1s"), "{said}");
        drop(lost);
        assert!(matches!(asking.await.unwrap(), Some(ClusterError::Unreachable { .. })));
        assert!(telemetry.pulses.reports().is_empty());
    }

    #[test]
    fn plain_text_answers_become_a_status() {
        let status = status_of(503, b"upstream is away\n");
        assert_eq!((status.code, status.message.as_str()), (503, "upstream is away"));
    }
}
