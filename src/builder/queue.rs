//! The images of a commit: what is missing is built, bases first, a few at a time.
//!
//! One queue serves all environments, and none of them can take all of its places: a build that hangs has up to its time limit. The same image is
//! never built twice at once: the second asker waits, and finds it there.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{Semaphore, mpsc, watch as channel};

use super::{BuildError, BuildOrder, Builder, Built, Context, Progress};

/// How many images are built at once, and how many of them for one environment.
pub const PARALLEL: usize = 4;
/// See [`PARALLEL`].
pub const EACH: usize = 2;

/// Lines that may be ahead of who reads them.
const LOG: usize = 64;

/// An image to be had: its order, and how to open its context if it has to be built.
pub struct Wanted {
    /// What to build.
    pub order: BuildOrder,
    /// Gives the context. Called at most once, and only if the image is missing.
    pub context: Box<dyn FnOnce() -> Context + Send>,
}

/// Which of the images that were asked for are still needed: all of them, until somebody says less. Clones speak of the same question.
#[derive(Debug, Clone, Default)]
pub struct Needed(channel::Sender<Option<HashSet<String>>>);

impl Needed {
    /// None but these, from now on.
    pub fn only(&self, references: HashSet<String>) {
        self.0.send_replace(Some(references));
    }

    /// Whether this one is.
    pub fn has(&self, reference: &str) -> bool {
        self.0.borrow().as_ref().is_none_or(|needed| needed.contains(reference))
    }

    /// Waits until an image is not needed any more.
    async fn ends(&self, reference: &str) {
        let ended = |needed: &Option<HashSet<String>>| needed.as_ref().is_some_and(|only| !only.contains(reference));
        // It can't fail: the sender is here.
        let _ = self.0.subscribe().wait_for(ended).await;
    }
}

/// An image that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Had {
    /// Name and tag, as in the order.
    pub reference: String,
    /// What came of the build; `None` if it stood already.
    pub built: Option<Built>,
    /// From the asking to its standing.
    pub took: Duration,
}

/// An image that could not be had.
#[derive(Debug, thiserror::Error)]
#[error("{reference}: {error}")]
pub struct NotHad {
    /// Name and tag, as in the order.
    pub reference: String,
    /// Why not.
    #[source]
    pub error: BuildError,
}

/// Builds for everybody who asks, so many images at a time.
pub struct Queue {
    builder: Arc<dyn Builder>,
    slots: Semaphore,
    each: usize,
    /// By environment.
    own: Shared<Semaphore>,
    /// By image: who holds its lock builds it.
    building: Shared<tokio::sync::Mutex<()>>,
}

/// What all who name the same share, as long as one of them has it.
type Shared<T> = Mutex<HashMap<String, Weak<T>>>;

fn shared<T>(all: &Shared<T>, name: &str, new: impl FnOnce() -> T) -> Arc<T> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|_, known| known.strong_count() > 0);
    if let Some(known) = all.get(name).and_then(Weak::upgrade) {
        return known;
    }
    let made = Arc::new(new());
    all.insert(name.to_owned(), Arc::downgrade(&made));
    made
}

impl Queue {
    /// A queue before this builder: so many images at a time, and so many of them for one environment.
    pub fn new(builder: Arc<dyn Builder>, parallel: usize, each: usize) -> Self {
        let (own, building) = Default::default();
        Self { builder, slots: Semaphore::new(parallel.max(1)), each: each.max(1), own, building }
    }

    /// The builder behind it.
    pub fn builder(&self) -> &dyn Builder {
        self.builder.as_ref()
    }

    /// Has all of the images for an environment that are needed, in the order of the question. At the first failure the other builds are cancelled; so are all,
    /// if the future is dropped, and each as soon as it is not needed any more. `tell` is given the log, with the reference that it is of.
    pub async fn have<F>(
        &self,
        environment: &str,
        wanted: Vec<Wanted>,
        needed: Needed,
        tell: F,
    ) -> Result<Vec<Had>, NotHad>
    where
        F: Fn(&str, Progress) + Send + Sync,
    {
        let started = Instant::now();
        let references: Vec<String> = wanted.iter().map(|wanted| wanted.order.reference.clone()).collect();
        let Some(first) = references.first() else { return Ok(Vec::new()) };
        let asked = self.builder.present(&references).await;
        let present = asked.map_err(|error| NotHad { reference: first.clone(), error })?;
        let mut had: HashMap<String, Had> = HashMap::new();
        let mut waiting = Vec::new();
        for (wanted, present) in wanted.into_iter().zip(present) {
            let reference = wanted.order.reference.clone();
            if present {
                had.insert(reference.clone(), Had { reference, built: None, took: started.elapsed() });
            } else if !waiting.iter().any(|other: &Wanted| other.order.reference == reference) {
                waiting.push(wanted);
            }
        }
        let mut running = FuturesUnordered::new();
        loop {
            // Whatever is based on an image needs it: with a base that is not needed, none of those is.
            waiting.retain(|wanted| needed.has(&wanted.order.reference));
            let missing: HashSet<&String> =
                references.iter().filter(|reference| !had.contains_key(*reference)).collect();
            let can_start = |wanted: &mut Wanted| !wanted.order.bases.values().any(|base| missing.contains(base));
            let ready: Vec<Wanted> = waiting.extract_if(.., can_start).collect();
            running.extend(ready.into_iter().map(|wanted| self.build_needed(environment, wanted, &needed, &tell)));
            match running.next().await {
                Some(result) => had.extend(result?.map(|done: Had| (done.reference.clone(), done))),
                None => break,
            }
        }
        match waiting.into_iter().next() {
            Some(Wanted { order, .. }) => Err(NotHad { reference: order.reference, error: BuildError::BasesInACircle }),
            None => Ok(references.iter().filter_map(|reference| had.get(reference).cloned()).collect()),
        }
    }

    /// `None`: it was cancelled, since it is not needed any more.
    async fn build_needed(
        &self,
        environment: &str,
        wanted: Wanted,
        needed: &Needed,
        tell: &(impl Fn(&str, Progress) + Send + Sync),
    ) -> Result<Option<Had>, NotHad> {
        let reference = wanted.order.reference.clone();
        tokio::select! {
            biased;
            () = needed.ends(&reference) => Ok(None),
            had = self.build(environment, wanted, tell) => had.map(Some),
        }
    }

    async fn build(
        &self,
        environment: &str,
        wanted: Wanted,
        tell: &(impl Fn(&str, Progress) + Send + Sync),
    ) -> Result<Had, NotHad> {
        let started = Instant::now();
        let Wanted { order, context } = wanted;
        let reference = order.reference.clone();
        let had = |built| Had { reference: reference.clone(), built, took: started.elapsed() };
        let failed = |error| NotHad { reference: reference.clone(), error };

        // Semaphores that are never closed give a permit. Its own first: whoever waits behind its own builds holds no image that others wait for.
        let own = shared(&self.own, environment, || Semaphore::new(self.each));
        let queued = own.available_permits() == 0;
        let _own = own.acquire().await;
        let turn = shared(&self.building, &reference, tokio::sync::Mutex::default);
        // Somebody else may have built it meanwhile.
        let waited = queued || turn.try_lock().is_err();
        let _turn = turn.lock().await;
        if waited {
            let present = self.builder.present(std::slice::from_ref(&reference)).await.map_err(failed)?;
            if present == [true] {
                return Ok(had(None));
            }
        }
        let _slot = self.slots.acquire().await;
        let (log, mut lines) = mpsc::channel(LOG);
        let told = async {
            while let Some(progress) = lines.recv().await {
                tell(&reference, progress);
            }
        };
        let (built, ()) = tokio::join!(self.builder.build(&order, context(), log), told);
        built.map(|built| had(Some(built))).map_err(failed)
    }
}

#[cfg(test)]
mod tests;
