//! What several verbs need first: the repository's heads, an environment's definition, a cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kube::ResourceExt as _;

use super::{Exit, print};
use crate::builder::{Builder, PullPolicy};
use crate::cluster::parent::{self, Parent};
use crate::cluster::{Cluster, ClusterError};
use crate::config::{BuilderArgs, ClusterArgs, Output, RepositoryArgs};
use crate::daemon::{self, Removal};
use crate::model::marks::{self, Instance};
use crate::model::{CommitId, Configuration, Environment, Failure, Kinds};
use crate::plan::Planned;
use crate::reconcile::images::Images;
use crate::reconcile::{Reconciler, Shared};
use crate::render::{Definition, Definitions, Tools, yaml};
use crate::source::{Draft, Heads, Store, look};

impl ClusterArgs {
    /// The cluster; nothing is sent yet.
    pub(super) async fn connect(&self) -> anyhow::Result<Cluster> {
        Ok(Cluster::connect(self.kubeconfig.as_deref(), self.context.as_deref()).await?)
    }
}

/// What a verb that changes nothing looks at, and how it prints that.
#[derive(Debug, clap::Args)]
pub(super) struct Subject {
    /// The environment
    environment: String,
    /// The commit: an id, a branch, or HEAD~1 and the like counted from the environment's branch [default: its head]
    #[arg(long, value_name = "REVISION")]
    pub(super) at: Option<String>,
    /// How it is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub(super) output: Output,
}

impl Subject {
    /// The environment's name.
    pub(super) fn environment(&self) -> &str {
        &self.environment
    }

    /// The environment's definition, and the commit.
    pub(super) fn of<'a>(&self, opened: &'a Opened) -> anyhow::Result<(&'a Arc<Definition>, CommitId)> {
        let definition = opened.definition(&self.environment)?;
        Ok((definition, opened.commit(definition, self.at.as_deref())?))
    }
}

/// A repository at one moment.
pub(super) struct Opened {
    pub(super) heads: Arc<Heads>,
    pub(super) store: Store,
    /// The branch that the definitions are from.
    pub(super) config_branch: String,
    /// Its commit.
    pub(super) configuration: CommitId,
    /// The definitions; a bad one spoils only itself.
    pub(super) definitions: BTreeMap<String, Result<Arc<Definition>, Failure>>,
}

impl Opened {
    /// Reads the repository once.
    pub(super) async fn open(args: &RepositoryArgs) -> anyhow::Result<Self> {
        let (heads, store) = look(&args.settings()?).await?;
        let branch = args.config_branch.as_ref().or(heads.default_branch.as_ref());
        let branch = branch
            .context("the repository's HEAD names no branch; name the one with environments/ by --config-branch")?;
        Self::at(heads.clone(), store, branch)
    }

    /// The repository with these heads.
    fn at(heads: Heads, store: Store, config_branch: &str) -> anyhow::Result<Self> {
        let configuration = *heads.branches.get(config_branch).with_context(|| {
            format!(
                "the configuration branch {config_branch:?} does not exist; push it, or name another by --config-branch"
            )
        })?;
        let definitions = Definitions::default().at(&store.at(configuration)?)?;
        let definitions =
            definitions.into_iter().map(|(name, read)| (name, read.map_err(|error| error.failure()))).collect();
        Ok(Self { heads: Arc::new(heads), store, config_branch: config_branch.to_owned(), configuration, definitions })
    }

    /// The repository as it will be with this draft.
    pub(super) fn with(&self, draft: &Draft) -> anyhow::Result<Self> {
        let mut heads = (*self.heads).clone();
        heads.branches.extend(draft.head().map(|head| (draft.branch().to_owned(), head)));
        Self::at(heads, draft.store().clone(), &self.config_branch)
    }

    /// One environment's definition.
    pub(super) fn definition(&self, name: &str) -> anyhow::Result<&Arc<Definition>> {
        match self.definitions.get(name) {
            Some(Ok(definition)) => Ok(definition),
            Some(Err(failure)) => bail!("{failure}"),
            None => {
                let known: Vec<&str> = self.definitions.keys().map(String::as_str).collect();
                bail!("there is no environment {name:?}; the configuration branch defines: {}", known.join(", "))
            }
        }
    }

    /// The commit that a revision means for an environment: its branch's head, or `HEAD~1` and the like counted from it, or any revision of the
    /// repository.
    pub(super) fn commit(&self, definition: &Definition, at: Option<&str>) -> anyhow::Result<CommitId> {
        let branch = &definition.spec.branch;
        match at {
            None if self.heads.unreadable.contains(branch) => bail!("the branch {branch:?} can't be read"),
            None => self.heads.branches.get(branch).copied().with_context(|| format!("there is no branch {branch:?}")),
            Some(at) => {
                let from_head = at.strip_prefix("HEAD").map(|rest| format!("refs/heads/{branch}{rest}"));
                Ok(self.store.resolve(from_head.as_deref().unwrap_or(at))?)
            }
        }
    }

    /// Makes every environment known to the others, and where their definitions are from.
    pub(super) fn enter_all(&self, shared: &Shared) {
        shared.configured(&self.config_branch, self.configuration);
        let defined = self.definitions.values().flatten();
        shared.peers.enter(defined.map(|definition| (definition, self.commit(definition, None).ok())));
    }
}

/// What environments share, over this cluster.
pub(super) fn shared(
    args: &ClusterArgs,
    repository: &RepositoryArgs,
    cluster: Cluster,
    instance: Instance,
) -> anyhow::Result<Arc<Shared>> {
    let builder = args.builder.builder()?;
    let tools = tools_with(&args.builder, builder.as_deref());
    let images = builder.map(|builder| Images::new(builder).from_repository(repository.public_url()));
    Ok(Arc::new(Shared::new(cluster, instance, tools).with_images(images)))
}

/// This plumb's name: what was given, or the pod's, or the user, machine and repository.
pub(super) fn instance(given: Option<String>, args: &RepositoryArgs) -> Instance {
    let run = format!("{:08x}", rand::random::<u32>());
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let name = given.unwrap_or_else(|| match variable("POD_NAMESPACE") {
        Some(namespace) => format!("pod/{namespace}/plumb"),
        None => {
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            let path = PathBuf::from(&args.repo).canonicalize().map(|path| path.display().to_string());
            let user = variable("USER").unwrap_or_else(|| rustix::process::getuid().as_raw().to_string());
            format!("{user}@{host}:{}", path.unwrap_or_else(|_| args.shown()))
        }
    });
    Instance { name: name.replace('#', "-"), run }
}

/// helm and kustomize, from `PATH`.
pub(super) fn tools() -> Tools {
    Tools::find(&std::env::var_os("PATH").unwrap_or_default())
}

/// The same, where images are built for the cluster. Who names no builder deploys none of them, but may look at what another plumb does: the pod's.
fn tools_with(args: &BuilderArgs, builder: Option<&dyn Builder>) -> Tools {
    let policy = match builder {
        Some(builder) => builder.pull_policy(),
        None if args.push => PullPolicy::IfNotPresent,
        None => PullPolicy::Never,
    };
    Tools { pull_policy: Some(policy.as_str()), ..tools() }
}

impl ClusterArgs {
    /// The same, for a verb that builds nothing.
    pub(super) fn tools(&self) -> anyhow::Result<Tools> {
        Ok(tools_with(&self.builder, self.builder.builder()?.as_deref()))
    }
}

/// The kinds of the cluster at hand, or those of a current Kubernetes.
pub(super) async fn kinds(cluster: &ClusterArgs, offline: bool) -> Arc<Kinds> {
    if !offline
        && let Ok(cluster) = cluster.connect().await
        && let Ok(Ok(known)) =
            tokio::time::timeout(Duration::from_secs(5), cluster.discovered.ensure(&cluster.caller)).await
    {
        return known.kinds;
    }
    if !offline {
        tracing::warn!("no cluster answers; rendering with the kinds of a current Kubernetes");
    }
    Arc::new(Kinds::builtin())
}

/// A reconciler that knows what the other environments ask for, for a verb that writes nothing.
pub(super) async fn reconciler(
    cluster: &ClusterArgs,
    repository: &RepositoryArgs,
    opened: &Opened,
    definition: &Arc<Definition>,
) -> anyhow::Result<Reconciler> {
    let name = definition.name.as_str();
    let shared = shared(cluster, repository, cluster.connect().await?, instance(None, repository))?;
    opened.enter_all(&shared);
    enter_environments(&shared, opened, |_| true).await?;
    claim_others(&shared, opened, name).await;
    Ok(Reconciler::new(shared, Arc::clone(definition)))
}

/// What the other environments ask for, so that a verb plans as the daemon does.
pub(super) async fn claim_others(shared: &Arc<Shared>, opened: &Opened, name: &str) {
    for (_, definition) in opened.definitions.iter().filter(|(other, _)| *other != name) {
        let Ok(definition) = definition else { continue };
        let Ok(commit) = opened.commit(definition, None) else { continue };
        let other = Reconciler::new(Arc::clone(shared), Arc::clone(definition));
        if let Err(failure) = other.claim_only(&opened.store, commit).await {
            tracing::warn!(environment = %other.name, reason = %failure, "this environment can't be rendered; what it asks for is not known");
        }
    }
}

/// Makes the Environments of the cluster known. What git defined and no longer does has let its objects go, if `lets_go` says so too.
pub(super) async fn enter_environments(
    shared: &Shared,
    opened: &Opened,
    lets_go: impl Fn(&Environment) -> bool,
) -> anyhow::Result<()> {
    let environments = match parent::list(&shared.cluster.caller).await {
        Err(ClusterError::NoCrd) => return Ok(()), // Nothing is deployed yet.
        listed => listed?,
    };
    let contained = |at: Configuration| {
        at.branch == opened.config_branch && opened.store.is_ancestor(at.commit, opened.configuration).unwrap_or(false)
    };
    for environment in environments {
        let name = environment.name_any();
        let undefined = !opened.definitions.contains_key(&name);
        if undefined && marks::defined_at(&environment).is_some_and(contained) && lets_go(&environment) {
            shared.peers.removed(&name, &environment.spec);
        }
        shared.parents.wrote(environment);
    }
    Ok(())
}

/// What deploying a commit would do: what `plumb plan` shows.
pub(super) async fn plan(
    cluster: &ClusterArgs,
    repository: &RepositoryArgs,
    opened: &Opened,
    name: &str,
    commit: CommitId,
) -> anyhow::Result<Planned> {
    let definition = opened.definition(name)?;
    let reconciler = reconciler(cluster, repository, opened, definition).await?;
    Ok(reconciler.preview(&opened.store, commit, reconciler.confirmed_prune()).await?)
}

/// The Environment of the cluster with this name, if git had a definition of it and has none any more.
pub(super) async fn removed(
    cluster: &ClusterArgs,
    opened: &Opened,
    name: &str,
) -> anyhow::Result<Option<(Environment, Removal)>> {
    if opened.definitions.contains_key(name) {
        return Ok(None);
    }
    let cluster = cluster.connect().await?;
    let environment = match (Parent { caller: &cluster.caller, name }).read().await {
        Err(error) if error.code() == 404 => return Ok(None),
        read => read?,
    };
    if environment.status.as_ref().is_none_or(|status| status.removed.is_none()) {
        return Ok(None);
    }
    let now = Configuration { branch: opened.config_branch.clone(), commit: opened.configuration };
    let removal = daemon::examine(&environment, &now, &opened.definitions, &opened.store);
    Ok(Some((environment, removal)))
}

/// What removing an environment would still do.
pub(super) async fn plan_removal(
    cluster: &ClusterArgs,
    repository: &RepositoryArgs,
    opened: &Opened,
    removal: &Removal,
) -> anyhow::Result<Planned> {
    let reconciler = reconciler(cluster, repository, opened, &removal.definition).await?;
    let reconciler = reconciler.removed(&removal.doubts);
    Ok(reconciler.plan_removal(removal.commit, reconciler.confirmed_prune()).await?)
}

/// Text as it is, or the same as data.
pub(super) fn show<T: serde::Serialize>(
    output: Output,
    data: &T,
    text: impl FnOnce(&T) -> String,
) -> anyhow::Result<Exit> {
    match output {
        Output::Json => print(&serde_json::to_string_pretty(data)?),
        Output::Yaml => print(&yaml::write(data)?),
        Output::Text => print(&text(data)),
    }
}
