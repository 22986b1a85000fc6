//! Docker: a dockerd builds into its own store, by the BuildKit in it if there is one, or by its classic builder.

mod classic;
mod hijack;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bollard::errors::Error;
use bollard::query_parameters::{ListImagesOptions, RemoveImageOptions, TagImageOptions};
use chrono::DateTime;
use tokio::sync::OnceCell;
use tokio::sync::mpsc::Sender;
use tracing::debug;

use super::buildkit::{self, How, Log, Output, Run};
use super::{
    BuildError, BuildOrder, Builder, Built, Context, Credentials, Endpoint, LABEL, Progress, PullPolicy, Stored,
    TIME_LIMIT, reference, rename,
};

/// How long an answer may take; of a build, how long its context may.
const ANSWER: Duration = Duration::from_secs(60);

/// Docker 23's: the first whose BuildKit knows named contexts.
const NAMED_CONTEXTS: (usize, usize) = (1, 42);

/// What an old dockerd's BuildKit has in its cache it takes for a layer that is there, and it is not for us to empty it.
const HELD: &str =
    "a layer of the image is lost in its store, and its build cache holds on to it: docker builder prune --all lets go";

/// A dockerd that the node runs its containers with.
#[derive(Debug)]
pub struct Docker {
    endpoint: Endpoint,
    limit: Duration,
    classic: bool,
    has_buildkit: OnceCell<bool>,
    /// The classic builder's cache names an image that is not there.
    stale_cache: AtomicBool,
}

/// How an image stands in dockerd's store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    /// The name is there, and something that it stands for is not.
    Broken,
    Missing,
}

impl Docker {
    /// The dockerd at this address.
    pub fn new(endpoint: Endpoint) -> Self {
        let (has_buildkit, stale_cache) = (OnceCell::new(), AtomicBool::new(false));
        Self { endpoint, limit: TIME_LIMIT, classic: false, has_buildkit, stale_cache }
    }

    /// The longest that a build may take.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Builds by the classic builder even if there is a BuildKit.
    pub fn classic(mut self) -> Self {
        self.classic = true;
        self
    }

    /// A client that speaks the daemon's version of the API.
    async fn client(&self, timeout: Duration) -> Result<bollard::Docker, BuildError> {
        let newest = bollard::API_DEFAULT_VERSION;
        let client = match &self.endpoint {
            Endpoint::Unix(path) => {
                bollard::Docker::connect_with_unix(&path.to_string_lossy(), timeout.as_secs(), newest)
            }
            Endpoint::Tcp(authority) => bollard::Docker::connect_with_http(authority, timeout.as_secs(), newest),
        };
        let client = client.map_err(|error| self.failure(error))?;
        client.negotiate_version().await.map_err(|error| self.failure(error))
    }

    async fn has_buildkit(&self) -> bool {
        if self.classic {
            return false;
        }
        // Only an answer is remembered: who was away may have one when it is back.
        let probe = async || {
            let channel = hijack::channel(&self.endpoint).await.map_err(|_| ())?;
            Ok::<_, ()>(buildkit::answers(channel).await)
        };
        self.has_buildkit.get_or_try_init(probe).await.copied().unwrap_or(false)
    }

    async fn run(
        &self,
        order: &BuildOrder,
        context: Context,
        log: &mut Log,
        to: &Sender<Progress>,
    ) -> Result<Built, BuildError> {
        let client = self.client(self.limit).await?;
        let version = client.client_version();
        let has_buildkit = self.has_buildkit().await;
        let named_contexts = has_buildkit && (version.major_version, version.minor_version) >= NAMED_CONTEXTS;
        let mut order = Cow::Borrowed(order);
        let context = match named_contexts || order.bases.is_empty() {
            true => context,
            false => {
                self.have_bases(&client, &order).await?;
                rename::beside(order.to_mut());
                rename::rename(context, &order)
            }
        };
        let order = &*order;
        let broken = self.state(&client, &order.reference).await? == State::Broken;
        if broken {
            // What another image has of it too, or a container, stays; and what the daemon remembers of it would not be built again.
            let removed = client.remove_image(&order.reference, None::<RemoveImageOptions>, None).await;
            removed
                .map(drop)
                .unwrap_or_else(|error| debug!(%error, image = %order.reference, "it is broken, and stays"));
        }
        if has_buildkit {
            let how = How { output: Output::Docker, cache: !broken, named_contexts };
            let run =
                Run { endpoint: &self.endpoint, order, how, log, credentials: Credentials::default(), progress: to };
            let built = run.over(hijack::channel(&self.endpoint).await?, context).await?;
            // Old daemons' BuildKit keeps no time of the tag; this does, and changes nothing else.
            let (repo, tag) =
                (reference::name(&order.reference).to_owned(), reference::tag_of(&order.reference).map(str::to_owned));
            let tagged = client.tag_image(&order.reference, Some(TagImageOptions { repo: Some(repo), tag })).await;
            tagged.map_err(|error| self.failure(error))?;
            if broken && self.state(&client, &order.reference).await? == State::Broken {
                return Err(BuildError::Builder { endpoint: self.endpoint.to_string(), reason: HELD.to_owned() });
            }
            return Ok(built);
        }
        let cache = !self.stale_cache.swap(false, Ordering::Relaxed) && !broken;
        classic::build(&client, order, context, cache, log, to).await.map_err(|error| match error {
            classic::Failed::Build(error) => error,
            classic::Failed::Call(error) => self.failure(error),
            classic::Failed::Full(reason) => BuildError::DiskFull { endpoint: self.endpoint.to_string(), reason },
            classic::Failed::Cache(reason) => {
                self.stale_cache.store(true, Ordering::Relaxed);
                BuildError::Builder { endpoint: self.endpoint.to_string(), reason }
            }
        })
    }

    async fn state(&self, client: &bollard::Docker, reference: &str) -> Result<State, BuildError> {
        match client.inspect_image(reference).await {
            // Without its manifest or config, all that a store in containerd tells of an image is its name: neither the platform nor a kind of layers.
            Ok(image) if image.architecture.as_deref().is_none_or(str::is_empty) => Ok(State::Broken),
            Err(Error::JsonDataError { message, .. }) if message.contains("missing field `Type`") => Ok(State::Broken),
            Ok(_) => Ok(State::Whole),
            Err(error) if status(&error) == Some(404) => Ok(State::Missing),
            Err(Error::DockerResponseServerError { message, .. })
                if message.contains("no such file or directory") || message.contains("layer does not exist") =>
            {
                Ok(State::Broken)
            }
            Err(error) => Err(self.failure(error)),
        }
    }

    /// Who does not find a base here would look for it in a registry.
    async fn have_bases(&self, client: &bollard::Docker, order: &BuildOrder) -> Result<(), BuildError> {
        for base in order.bases.values() {
            if self.state(client, base).await? != State::Whole {
                return Err(BuildError::UnknownBase {
                    file: order.dockerfile.clone(),
                    line: None,
                    image: base.clone(),
                    reason: "it has not been built".to_owned(),
                    transient: true,
                });
            }
        }
        Ok(())
    }

    fn failure(&self, error: Error) -> BuildError {
        let endpoint = self.endpoint.to_string();
        match error {
            Error::SocketNotFoundError(_) => {
                BuildError::Away { endpoint, reason: "there is no such socket".to_owned() }
            }
            Error::DockerResponseServerError { message, .. } if message.contains("no space left on device") => {
                BuildError::DiskFull { endpoint, reason: message }
            }
            Error::DockerResponseServerError { message, .. } => BuildError::Builder { endpoint, reason: message },
            Error::RequestTimeoutError => BuildError::Away { endpoint, reason: "it does not answer".to_owned() },
            other => self.endpoint.unreachable(&other),
        }
    }
}

fn status(error: &Error) -> Option<u16> {
    if let Error::DockerResponseServerError { status_code, .. } = error { Some(*status_code) } else { None }
}

#[async_trait]
impl Builder for Docker {
    async fn present(&self, references: &[String]) -> Result<Vec<bool>, BuildError> {
        let client = self.client(ANSWER).await?;
        let mut present = Vec::with_capacity(references.len());
        for reference in references {
            present.push(self.state(&client, reference).await? == State::Whole);
        }
        Ok(present)
    }

    async fn build(&self, order: &BuildOrder, context: Context, log: Sender<Progress>) -> Result<Built, BuildError> {
        let mut collected = Log::default();
        match tokio::time::timeout(self.limit, self.run(order, context, &mut collected, &log)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(collected.time_limit(self.limit)),
        }
    }

    async fn images(&self) -> Result<Vec<Stored>, BuildError> {
        let client = self.client(ANSWER).await?;
        let filters = Some(HashMap::from([("label".to_owned(), vec![LABEL.to_owned()])]));
        let images = client.list_images(Some(ListImagesOptions { filters, ..ListImagesOptions::default() })).await;
        let mut stored = Vec::new();
        for image in images.map_err(|error| self.failure(error))? {
            // Not `Created`: what was built from the cache was created when the cache was.
            let tagged = client.inspect_image(&image.id).await.ok().and_then(|image| image.metadata?.last_tag_time);
            let created =
                tagged.and_then(|at| DateTime::parse_from_rfc3339(&at).ok()).map_or(image.created, |at| at.timestamp());
            let labels: std::collections::BTreeMap<String, String> = image.labels.into_iter().collect();
            let size = image.size.try_into().unwrap_or_default();
            for reference in image.repo_tags {
                stored.push(Stored { reference, created, labels: labels.clone(), size });
            }
        }
        Ok(stored)
    }

    async fn remove(&self, reference: &str) -> Result<(), BuildError> {
        let client = self.client(ANSWER).await?;
        match client.remove_image(reference, None::<RemoveImageOptions>, None).await {
            Err(error) => match status(&error) {
                Some(404) => Ok(()),
                Some(409) => Err(BuildError::InUse(reference.to_owned())),
                _ => Err(self.failure(error)),
            },
            Ok(_) => Ok(()),
        }
    }

    fn pull_policy(&self) -> PullPolicy {
        PullPolicy::Never
    }
}
