//! The images of a commit: which of them are missing where workloads find them, and having them built.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{RwLock, watch as channel};

use super::Reconciler;
use crate::builder::queue::{EACH, Had, Needed, NotHad, PARALLEL, Queue, Wanted};
use crate::builder::{BuildError, BuildOrder, Builder, Context, PullPolicy, reference, rename};
use crate::model::images::Image;
use crate::model::{CommitId, Desired, Failure, Stage};
use crate::report::log;
use crate::source::Store;
use crate::source::context::{ContextError, FILE_LIMIT, find, stream};

mod pins;

/// The builder that all environments share, and what is known of its images.
pub struct Images {
    queue: Queue,
    /// The URL of the repository that they are built from.
    source: Option<String>,
    known: Mutex<Known>,
    /// What environments are about to use, whether or not it is in any status yet.
    claims: Mutex<HashMap<String, Claims>>,
    /// An image is removed by whoever has it alone, so that nobody finds it standing meanwhile.
    removing: RwLock<()>,
    /// Counts commits that had something built.
    builds: channel::Sender<u64>,
    /// Set until the builder has answered for the first time, if that is waited for.
    patience: Mutex<Option<Patience>>,
}

/// For how long a builder that is away is waited for, and whether that was said.
struct Patience {
    until: Instant,
    told: bool,
}

/// What is known of images. A tag follows from its content, so what stood once is the same as long as it stands.
#[derive(Default)]
struct Known {
    /// References that were seen to stand.
    stand: HashSet<String>,
    /// Digests that a registry gave. They are not forgotten as long as it can't be asked: an object that lost its digest would be rolled out anew.
    digests: BTreeMap<String, String>,
}

/// The images of an environment's commits that are on their way: of the one that was last at the gates, and of the one that was last written. There
/// is no third: a commit that was overtaken goes through the gates again.
#[derive(Default)]
struct Claims {
    gates: Vec<String>,
    target: Vec<String>,
}

impl Images {
    /// Before this builder.
    pub fn new(builder: Arc<dyn Builder>) -> Self {
        Self {
            queue: Queue::new(builder, PARALLEL, EACH),
            source: None,
            known: Mutex::default(),
            claims: Mutex::default(),
            removing: RwLock::default(),
            builds: channel::Sender::new(0),
            patience: Mutex::default(),
        }
    }

    /// The same, of the repository at this URL, which the images tell.
    pub fn from_repository(self, source: Option<String>) -> Self {
        Self { source, ..self }
    }

    /// A builder that is away is waited for so long, unless it answers before and goes away then: at a start it may come up after plumb.
    pub fn wait_for_builder(&self, within: Duration) {
        *self.patience() = Some(Patience { until: Instant::now() + within, told: false });
    }

    fn patience(&self) -> MutexGuard<'_, Option<Patience>> {
        self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The builder has come up: what builds, what tells which images stand, and the registry, if there is one.
    fn answered(&self) {
        if self.patience().take().is_some_and(|patience| patience.told) {
            log::builder_answers();
        }
    }

    /// Why a commit has not its images. That nobody answers may only mean that the builder has not come up yet.
    fn failure(&self, reference: Option<&str>, error: &BuildError) -> Failure {
        let failure = failure(reference, error);
        if !error.is_away() {
            self.answered();
            return failure;
        }
        match &mut *self.patience() {
            Some(patience) if Instant::now() < patience.until => {
                if !std::mem::replace(&mut patience.told, true) {
                    log::waiting_for_builder(error);
                }
                failure.awaited()
            }
            _ => failure,
        }
    }

    /// The builder behind it.
    pub fn builder(&self) -> &dyn Builder {
        self.queue.builder()
    }

    /// Wakes when something was built.
    pub fn builds(&self) -> channel::Receiver<u64> {
        self.builds.subscribe()
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<String, Claims>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The images that environments are about to use.
    pub fn claimed(&self) -> BTreeSet<String> {
        self.claims().values().flat_map(|claims| claims.gates.iter().chain(&claims.target).cloned()).collect()
    }

    /// No task works for the environment any more: it is about to use nothing.
    pub fn left(&self, environment: &str) {
        self.claims().remove(environment);
    }

    /// Forgets what is known of images that no environment is about to use: it is asked for again when one is.
    pub fn forget_unclaimed(&self) {
        let claimed = self.claimed();
        let mut known = self.known();
        known.stand.retain(|reference| claimed.contains(reference));
        known.digests.retain(|reference, _| claimed.contains(reference));
    }

    /// Removes an image, unless an environment is about to use it; that is told. Whoever asks whether it stands waits for the end.
    pub async fn remove(&self, reference: &str) -> Result<bool, BuildError> {
        let _alone = self.removing.write().await;
        let wanted = reference::full(reference);
        if self.claimed().iter().any(|claimed| reference::full(claimed) == wanted) {
            return Ok(false);
        }
        self.known().stand.retain(|known| reference::full(known) != wanted);
        self.builder().remove(reference).await?;
        Ok(true)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether each stands. What is known costs no request. A node's own store is asked again for what no environment runs: whoever makes room there
    /// removes such images without asking. If it can't be asked, what was seen to stand does.
    pub async fn stand(&self, references: &[String]) -> Result<Vec<bool>, BuildError> {
        let _none_goes = self.removing.read().await;
        let on_node = self.queue.builder().pull_policy() == PullPolicy::Never;
        let asked: Vec<String> = {
            let (known, claims) = (self.known(), self.claims());
            let runs = |reference: &String| claims.values().any(|claims| claims.target.contains(reference));
            let is_known = |reference: &String| known.stand.contains(reference) && (!on_node || runs(reference));
            references.iter().filter(|reference| !is_known(reference)).cloned().collect()
        };
        let answer = if asked.is_empty() { Ok(Vec::new()) } else { self.queue.builder().present(&asked).await };
        let mut known = self.known();
        match answer {
            Err(error) if !asked.iter().all(|reference| known.stand.contains(reference)) => return Err(error),
            Err(_) => {}
            Ok(present) => asked.into_iter().zip(present).for_each(|(reference, stands)| {
                _ = if stands { known.stand.insert(reference) } else { known.stand.remove(&reference) };
            }),
        }
        Ok(references.iter().map(|reference| known.stand.contains(reference)).collect())
    }

    /// The digests of those that stand in a registry, by their references. What is known costs no request, and stays if the registry can't be asked.
    async fn digests(&self, references: Vec<String>) -> Result<BTreeMap<String, String>, BuildError> {
        if self.queue.builder().pull_policy() == PullPolicy::Never {
            return Ok(BTreeMap::new());
        }
        let _none_goes = self.removing.read().await;
        let asked: Vec<String> = {
            let known = self.known();
            let is_known =
                |reference: &&String| known.stand.contains(*reference) && known.digests.contains_key(*reference);
            references.iter().filter(|reference| !is_known(reference)).cloned().collect()
        };
        let answer = if asked.is_empty() { Ok(Vec::new()) } else { self.queue.builder().digests(&asked).await };
        let mut known = self.known();
        match answer {
            Err(error) if !asked.iter().all(|reference| known.digests.contains_key(reference)) => return Err(error),
            Err(_) => {}
            Ok(found) => asked.into_iter().zip(found).for_each(|(reference, digest)| known.take(reference, digest)),
        }
        let digest = |reference: String| Some((reference.clone(), known.digests.get(&reference)?.clone()));
        Ok(references.into_iter().filter_map(digest).collect())
    }

    /// Builds those of a commit's images that do not stand, as long as they are needed. Dropping the future cancels what nobody else waits for.
    pub async fn build(
        &self,
        environment: &str,
        store: &Store,
        commit: CommitId,
        images: &[Image],
        needed: Needed,
    ) -> Result<(), Failure> {
        let wanted = images.iter().map(|image| wanted(store, commit, image, self.source.as_deref())).collect();
        let tell = |reference: &str, progress| log::build_progress(environment, reference, &progress);
        let had = self.queue.have(environment, wanted, needed, tell).await;
        let had = had.map_err(|NotHad { reference, error }| self.failure(Some(&reference), &error))?;
        self.answered();
        if had.iter().any(|image| image.built.is_some()) {
            self.builds.send_modify(|count| *count += 1);
        }
        for image in &had {
            log::image(environment, commit, &image.reference, image.built.is_some(), image.took);
        }
        let mut known = self.known();
        for Had { reference, built, .. } in had {
            match built.and_then(|built| built.digest) {
                Some(digest) => known.take(reference, Some(digest)),
                None => _ = known.stand.insert(reference),
            }
        }
        Ok(())
    }
}

impl Known {
    /// What was heard of an image: the digest that it stands with, or that it does not.
    fn take(&mut self, reference: String, digest: Option<String>) {
        match digest {
            Some(digest) => {
                self.stand.insert(reference.clone());
                self.digests.insert(reference, digest);
            }
            None => _ = self.digests.remove(&reference),
        }
    }
}

/// Images that a commit needs and that do not stand.
#[derive(Debug, Clone)]
pub struct Lacking {
    /// The commit that they are built from.
    pub commit: CommitId,
    /// Those that containers use and that are missing, and all that these are based on; each after its bases.
    pub images: Vec<Image>,
}

impl Lacking {
    /// What they are called.
    pub fn references(&self) -> HashSet<String> {
        self.images.iter().map(Image::reference).collect()
    }
}

impl Reconciler {
    /// What of the commit's images has to be built before it can be deployed, if anything.
    pub async fn lacking(&self, desired: &Desired) -> Result<Option<Lacking>, Failure> {
        self.claim_images(desired, |claims| &mut claims.gates);
        if desired.images.is_empty() {
            return Ok(None);
        }
        let Some(images) = &self.shared.images else { return Err(no_builder(&desired.images)) };
        let used: Vec<String> = desired.images.iter().filter(|image| image.used).map(Image::reference).collect();
        let stand = images.stand(&used).await.map_err(|error| images.failure(None, &error))?;
        let mut needed: HashSet<String> =
            used.into_iter().zip(stand).filter(|(_, stands)| !stands).map(|(reference, _)| reference).collect();
        for image in desired.images.iter().rev() {
            if needed.contains(&image.reference()) {
                needed.extend(image.bases.values().cloned());
            }
        }
        let lacking = desired.images.iter().filter(|image| needed.contains(&image.reference())).cloned().collect();
        let lacking = Lacking { commit: desired.commit, images: lacking };
        if lacking.images.is_empty() {
            images.answered();
            return Ok(None);
        }
        Ok(Some(lacking))
    }

    /// Builds what is lacking, as long as it is needed. Dropping the future cancels what nobody else waits for.
    pub async fn build(&self, store: &Store, lacking: &Lacking, needed: Needed) -> Result<(), Failure> {
        let Some(images) = &self.shared.images else { return Err(no_builder(&lacking.images)) };
        images.build(&self.name, store, lacking.commit, &lacking.images, needed).await
    }

    /// The commit's images are in use from now on, whatever the status says yet.
    pub(super) fn use_images(&self, desired: &Desired) {
        self.claim_images(desired, |claims| &mut claims.target);
    }

    fn claim_images(&self, desired: &Desired, place: impl FnOnce(&mut Claims) -> &mut Vec<String>) {
        if let Some(images) = &self.shared.images {
            let mut claims = images.claims();
            *place(claims.entry(self.name.to_string()).or_default()) =
                desired.images.iter().map(Image::reference).collect();
        }
    }

    /// Forgets which of the commit's images stand: somebody may have removed them.
    pub(super) fn forget_images(&self, desired: &Desired) {
        if let Some(images) = &self.shared.images {
            let mut known = images.known();
            desired.images.iter().for_each(|image| _ = known.stand.remove(&image.reference()));
        }
    }
}

/// Where an image comes from, by the OCI's names
/// (<https://github.com/opencontainers/image-spec/blob/main/annotations.md>).
fn labels(commit: CommitId, url: Option<&str>) -> BTreeMap<String, String> {
    let revision = ("revision", commit.to_string());
    let all = std::iter::once(revision).chain(url.map(|url| ("source", url.to_owned())));
    all.map(|(name, value)| (format!("org.opencontainers.image.{name}"), value)).collect()
}

/// What a build is asked for. `url` is the repository's.
fn wanted(store: &Store, commit: CommitId, image: &Image, url: Option<&str>) -> Wanted {
    let source = &image.source;
    let found = store.at(commit).map_err(ContextError::from).and_then(|snapshot| {
        let context = find(&snapshot, source)?;
        let ignored_dockerfile = context.ignored_dockerfile(&snapshot)?;
        let is_ambiguous = match image.bases.is_empty() {
            true => false,
            false => {
                let dockerfile = context.read_dockerfile(&snapshot, &source.args)?;
                image.bases.keys().any(|base| dockerfile.has_stage_called(base))
            }
        };
        Ok((context, ignored_dockerfile, is_ambiguous))
    });
    let (context, ignored_dockerfile, is_ambiguous) = match found {
        Ok((context, ignored_dockerfile, is_ambiguous)) => (Ok(context), ignored_dockerfile, is_ambiguous),
        Err(error) => (Err(error), None, false),
    };
    let mut order = BuildOrder {
        reference: image.reference(),
        dockerfile: source.dockerfile.clone(),
        ignored_dockerfile,
        target: source.target.clone(),
        args: source.args.clone(),
        platform: source.platform.clone(),
        labels: labels(commit, url),
        bases: image.bases.clone(),
    };
    let renamed = is_ambiguous.then(|| rename::early(&mut order));
    let store = store.clone();
    // What is wrong with the image's files comes as the stream's first piece.
    let context = move || {
        let context: Context = match context {
            Ok(context) => Box::pin(stream(store, commit, context, FILE_LIMIT)),
            Err(error) => Box::pin(futures::stream::once(async { Err(std::io::Error::other(error)) })),
        };
        match renamed {
            Some(renamed) => renamed(context),
            None => context,
        }
    };
    Wanted { order, context: Box::new(context) }
}

fn no_builder(images: &[Image]) -> Failure {
    let names: Vec<&str> = images.iter().map(|image| &*image.source.name).collect();
    let reason = format!("plumb.yaml declares images ({}), and this plumb has no builder", names.join(", "));
    Failure::new(Stage::Build, reason)
        .hint("start plumb with --builder, such as unix:///run/buildkit/buildkitd.sock; or take them out of plumb.yaml")
}

fn failure(reference: Option<&str>, error: &BuildError) -> Failure {
    let reason = match reference {
        Some(reference) => format!("{reference}: {error}"),
        None => error.to_string(),
    };
    let mut failure = Failure::new(Stage::Build, reason);
    if let Some(hint) = error.hint() {
        failure = failure.hint(hint);
    }
    if error.is_transient() { failure.transient() } else { failure }
}

#[cfg(test)]
mod tests;
