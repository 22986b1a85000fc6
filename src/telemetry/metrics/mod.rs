//! What is counted and timed, for Prometheus. Labels are bounded: environments, and words that this program has.
//!
//! Names follow <https://prometheus.io/docs/practices/naming/>. One struct has them all and is handed to whoever counts.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::model::{CommitId, Outcome, Stage};

mod environments;
mod process;

use environments::{Environments, Seen};

/// From a render out of the cache to a rollout, in seconds.
const DURATIONS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// All metrics. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    environments: Environments,
    durations: Family<OfStage, Histogram, fn() -> Histogram>,
    requests: Family<Request, Counter>,
    request_durations: Family<Verb, Histogram, fn() -> Histogram>,
    concurrency: Gauge,
    watches: Watches,
    reads: Family<Read, Counter>,
    last_read: Gauge,
    collection: Collection,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStage {
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    verb: &'static str,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verb {
    verb: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Read {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    result: &'static str,
}

#[derive(Debug, Clone, Default)]
struct Collection {
    rounds: Family<Ended, Counter>,
    images: Counter,
    bytes: Counter,
}

#[derive(Debug, Clone, Default)]
struct Watches {
    lists: Counter,
    starts: Counter,
    failures: Counter,
}

/// How a request to the API server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// With this HTTP status.
    Code(u16),
    /// Not within its time limit.
    TimedOut,
    /// The server could not be reached, or the connection broke.
    Unreachable,
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(DURATIONS);
        let mut metrics = Self {
            registry: Arc::default(),
            environments: Environments::default(),
            durations: Family::new_with_constructor(histogram),
            requests: Family::default(),
            request_durations: Family::new_with_constructor(histogram),
            concurrency: Gauge::default(),
            watches: Watches::default(),
            reads: Family::default(),
            last_read: Gauge::default(),
            collection: Collection::default(),
        };
        metrics.registry = Arc::new(metrics.registered());
        metrics
    }
}

impl Metrics {
    fn registered(&self) -> Registry {
        let mut registry = Registry::default();
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("plumb_build", "This plumb", build);
        registry.register_collector(Box::new(process::Process::started_now()));
        registry.register_collector(Box::new(self.environments.clone()));
        let help = "How long each stage of a deployment took, by stage";
        registry.register("plumb_deployment_stage_duration_seconds", help, self.durations.clone());
        let help = "Answers of the API server, by verb (dry-run: a write that was only asked about) and HTTP status, timeout or unreachable";
        registry.register("plumb_api_requests", help, self.requests.clone());
        let help = "How long the API server took to answer, watches aside, by verb";
        registry.register("plumb_api_request_duration_seconds", help, self.request_durations.clone());
        let help = "How many requests may be under way at once: halved by a 429, grows again with success";
        registry.register("plumb_api_concurrency_limit", help, self.concurrency.clone());
        let help = "Lists that began a watch; a relist when a watch had expired counts too";
        registry.register("plumb_watch_lists", help, self.watches.lists.clone());
        let help = "Watch connections; each is renewed about every five minutes";
        registry.register("plumb_watch_connections", help, self.watches.starts.clone());
        let help = "Lists and watch connections that failed";
        registry.register("plumb_watch_failures", help, self.watches.failures.clone());
        let help = "Looks at the repository (of a remote one: asking it, and fetching what is new), by result";
        registry.register("plumb_source_reads", help, self.reads.clone());
        let help = "When the repository was last read";
        registry.register("plumb_source_last_read_timestamp_seconds", help, self.last_read.clone());
        let help = "Rounds of the collection of images, by result; doubt: something that may refer to one was not known, and none was removed";
        registry.register("plumb_image_collections", help, self.collection.rounds.clone());
        let help = "Images that nobody needed any more and that were removed";
        registry.register("plumb_images_removed", help, self.collection.images.clone());
        let help = "What they were made of; the builder's cache may keep some of it";
        registry.register("plumb_images_removed_bytes", help, self.collection.bytes.clone());
        registry
    }

    /// An environment has this head, or none. One that is new waits from now on.
    pub fn head(&self, environment: &str, head: Option<CommitId>) {
        self.environments.head(environment, head, std::time::Instant::now());
    }

    /// The environment has a new definition: its head waits again.
    pub fn waits_anew(&self, environment: &str) {
        self.environments.with(environment, |seen| seen.waits_anew(std::time::Instant::now()));
    }

    /// The environment has nothing to do for this head, which does not wait any more. Another one that came meanwhile does.
    pub fn at_rest(&self, environment: &str, head: Option<CommitId>) {
        self.environments.with(environment, |seen| seen.at_rest(head));
    }

    /// A commit's deployment ended.
    pub fn ended(&self, environment: &str, outcome: &Outcome, stages: &[(Stage, Duration)]) {
        self.environments.with(environment, |seen| seen.ended(outcome));
        for (stage, took) in stages {
            self.durations.get_or_create(&OfStage { stage: stage.as_str() }).observe(took.as_secs_f64());
        }
    }

    /// Whether all objects of an environment are ready.
    pub fn health(&self, environment: &str, healthy: bool) {
        self.environments.with(environment, |seen| seen.healthy = Some(healthy));
    }

    /// The rollout of a commit that was deployed ended after so long: well, or because time was over.
    pub fn rolled_out(&self, environment: &str, well: bool, took: Duration) {
        if !well {
            self.environments.with(environment, Seen::rollout_failed);
        }
        self.durations.get_or_create(&OfStage { stage: Stage::Health.as_str() }).observe(took.as_secs_f64());
    }

    /// An environment's object is not as git says. `class` and `action` are words of this program.
    pub fn drift(&self, environment: &str, class: &'static str, action: &'static str) {
        self.environments.with(environment, |seen| seen.drift(class, action));
    }

    /// How many objects of an environment stand.
    pub fn objects(&self, environment: &str, count: usize) {
        self.environments.with(environment, |seen| seen.objects = u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// The environments that have series.
    pub fn environments(&self) -> Vec<String> {
        self.environments.names()
    }

    pub(super) fn forget(&self, environment: &str) {
        self.environments.forget(environment);
    }

    /// The API server answered, or did not, after so long.
    pub fn request(&self, verb: &'static str, answer: Answer, took: Duration) {
        self.answered(verb, answer);
        self.request_durations.get_or_create(&Verb { verb }).observe(took.as_secs_f64());
    }

    /// A watch was answered, or was not: it lasts.
    pub fn watch(&self, answer: Answer) {
        self.watches.starts.inc();
        self.answered("watch", answer);
    }

    fn answered(&self, verb: &'static str, answer: Answer) {
        let code = match answer {
            Answer::Code(code) => code.to_string(),
            Answer::TimedOut => "timeout".to_owned(),
            Answer::Unreachable => "unreachable".to_owned(),
        };
        self.requests.get_or_create(&Request { verb, code }).inc();
    }

    /// How many requests may be under way.
    pub fn concurrency(&self, limit: usize) {
        self.concurrency.set(i64::try_from(limit).unwrap_or(i64::MAX));
    }

    /// A kind is listed.
    pub fn listing(&self) {
        self.watches.lists.inc();
    }

    /// A list or a watch failed.
    pub fn watch_failed(&self) {
        self.watches.failures.inc();
    }

    /// The repository was read, or could not be.
    pub fn source_read(&self, well: bool) {
        self.reads.get_or_create(&Read { result: if well { "success" } else { "failure" } }).inc();
        if well {
            self.last_read.set(chrono::Utc::now().timestamp());
        }
    }

    /// A round of the collection of images ended: with so many removed, of so many bytes; `None`: with a doubt.
    pub fn collected(&self, removed: Option<(usize, u64)>) {
        let result = if removed.is_some() { "success" } else { "doubt" };
        self.collection.rounds.get_or_create(&Ended { result }).inc();
        if let Some((images, bytes)) = removed {
            self.collection.images.inc_by(u64::try_from(images).unwrap_or(u64::MAX));
            self.collection.bytes.inc_by(bytes);
        }
    }

    /// All of it as OpenMetrics text, which Prometheus and its kin read.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
