//! One environment with its repository and its plumb: what the tests of the main loop begin with.

use std::ffi::OsStr;

use anyhow::{Context as _, ensure};
use git2::Oid;
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{CustomResourceExt as _, ResourceExt as _};
use plumb::model::environment::{Condition, EnvironmentStatus, HistoryEntry};
use plumb::model::{Environment, applyset};

use crate::harness::{Audit, Change, Plumb, TestEnv, eventually};

pub use crate::harness::SOON;

/// An environment `dev`: branch `dev`, path `manifests`, names of its own in the shared cluster.
pub struct Scene {
    pub env: TestEnv,
    /// The environment's name in the cluster.
    pub name: String,
    /// Its namespace, which is not made here.
    pub namespace: String,
}

/// The ApplySet id of an environment, as its members' part-of label has it.
pub fn part_of(environment: &str) -> String {
    applyset::id(environment)
}

/// The manifest of a ConfigMap.
pub fn config_map(name: &str, data: &[(&str, &str)]) -> String {
    let mut text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n");
    data.iter().for_each(|(key, value)| text.push_str(&format!("  {key}: {value:?}\n")));
    text
}

/// A condition of a status.
pub fn condition<'a>(status: &'a EnvironmentStatus, type_: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == type_)
}

/// Where git has an environment's definition.
pub fn file_of(environment: &str) -> String {
    format!("environments/{environment}/environment.yaml")
}

/// A definition, with more lines in its spec (YAML, not indented).
pub fn definition(name: &str, branch: &str, namespace: &str, path: &str, spec: &str) -> String {
    let more: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: plumb.dev/v1alpha1\nkind: Environment\nmetadata: {{name: {name}}}\nspec:\n  branch: {branch}\n  namespace: {namespace}\n  path: {path}\n{more}"
    )
}

/// The first seven digits of a commit, as the log has it.
pub fn short(commit: Oid) -> String {
    commit.to_string().chars().take(7).collect()
}

impl Scene {
    /// A scene with its definition committed, nothing on its branch yet.
    pub async fn new(name: &str) -> Self {
        Self::with(name, "").await
    }

    /// The same, with more lines in the definition's spec (YAML, not indented).
    pub async fn with(name: &str, spec: &str) -> Self {
        let env = TestEnv::new(name).await;
        Self::in_env(env, spec).await
    }

    /// The same, in an environment of the harness that stands already.
    pub async fn in_env(env: TestEnv, spec: &str) -> Self {
        install_crd(&env).await;
        let scene = Self { name: env.name("dev"), namespace: env.name("ns"), env };
        scene.define(spec);
        scene
    }

    /// Commits the definition on the configuration branch, with more lines in its spec.
    pub fn define(&self, spec: &str) -> Oid {
        self.define_other(&self.name, "dev", "manifests", spec)
    }

    /// Commits the definition of another environment in the same namespace.
    pub fn define_other(&self, name: &str, branch: &str, path: &str, spec: &str) -> Oid {
        let text = definition(name, branch, &self.namespace, path, spec);
        self.env.repository().commit("main", [(file_of(name), text)])
    }

    /// Commits files below `manifests/` on the environment's branch: a push.
    pub fn push<C: Into<Change>>(&self, files: impl IntoIterator<Item = (&'static str, C)>) -> Oid {
        self.push_to("dev", files)
    }

    /// The same on another branch.
    pub fn push_to<C: Into<Change>>(&self, branch: &str, files: impl IntoIterator<Item = (&'static str, C)>) -> Oid {
        let files = files.into_iter().map(|(file, change)| (format!("manifests/{file}"), change));
        self.env.repository().commit(branch, files)
    }

    /// A namespace that stands before plumb comes.
    pub async fn make_namespace(&self) {
        self.env.create_namespace("ns").await;
    }

    /// The name of the installation that [`Self::run`] starts: as every test has a repository of its own, every test has an installation of its own.
    pub fn instance(&self) -> String {
        self.env.name("plumb")
    }

    /// Starts `plumb run` on the repository.
    pub fn run(&self) -> Plumb {
        self.run_with::<&str>(&[])
    }

    /// The same with more arguments.
    pub fn run_with<A: AsRef<OsStr>>(&self, more: &[A]) -> Plumb {
        let repository = self.env.repository().path();
        let instance = self.instance();
        let args =
            [OsStr::new("run"), "--repo".as_ref(), repository.as_ref(), "--instance".as_ref(), instance.as_ref()];
        let more = more.iter().map(AsRef::as_ref);
        Plumb::spawn(self.env.kubeconfig(), args.into_iter().chain(more))
    }

    /// Runs another verb on the repository to its end: whether it went well, and what it printed.
    pub async fn verb<A: AsRef<OsStr>>(&self, args: &[A]) -> (Option<i32>, String) {
        let repository = self.env.repository().path();
        let args = args.iter().map(AsRef::as_ref).chain([OsStr::new("--repo"), repository.as_ref()]);
        let mut plumb = Plumb::spawn(self.env.kubeconfig(), args);
        let status = plumb.wait(SOON).await;
        (status.code(), plumb.output().await)
    }

    /// Runs kubectl as an administrator that plumb knows nothing of.
    pub async fn kubectl(&self, args: &[&str], stdin: &str) -> (Option<i32>, String) {
        let admin = self.env.cluster().admin_kubeconfig();
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), stdin).expect("a file");
        let input = std::fs::File::open(file.path()).expect("the file");
        let mut kubectl = Plumb::spawn_program("kubectl", &admin, args, |command| {
            command.stdin(input);
        });
        let status = kubectl.wait(SOON).await;
        (status.code(), kubectl.output().await)
    }

    /// The same, which must go well.
    pub async fn kubectl_ok(&self, args: &[&str], stdin: &str) -> String {
        let (code, output) = self.kubectl(args, stdin).await;
        assert_eq!(code, Some(0), "kubectl {args:?}: {output}");
        output
    }

    /// Waits until a user may do this to any such object: what was bound to it is in force a moment later.
    pub async fn may(&self, user: &str, verb: &str, resource: &str) {
        eventually(SOON, || async {
            let (code, output) = self.kubectl(&["auth", "can-i", verb, resource, "-A", "--as", user], "").await;
            ensure!(code == Some(0), "{user} may not {verb} {resource}: {output}");
            Ok(())
        })
        .await;
    }

    /// The Environment object, read as an administrator.
    pub async fn environment(&self) -> Option<Environment> {
        self.environment_of(&self.name).await
    }

    /// The same of another environment.
    pub async fn environment_of(&self, name: &str) -> Option<Environment> {
        Api::<Environment>::all(self.env.admin()).get_opt(name).await.expect("the API server answers")
    }

    /// How this commit ended, as soon as the status and, where there is one, the Event say so: then nothing of it is under way any more.
    pub async fn ended(&self, commit: Oid) -> HistoryEntry {
        self.ended_in(&self.name, commit).await
    }

    /// The same in another environment.
    pub async fn ended_in(&self, name: &str, commit: Oid) -> HistoryEntry {
        let events: Api<Event> = Api::namespaced(self.env.admin(), "default");
        eventually(SOON, || async {
            let status = self.environment_of(name).await.and_then(|environment| environment.status);
            let history = status.context("no status yet")?.history;
            let entry = history.iter().find(|entry| entry.commit == commit.to_string());
            let entry = entry.with_context(|| format!("{commit} has not ended; ended have {history:?}"))?;
            if matches!(entry.outcome.as_str(), "Deployed" | "Failed") {
                let of = ListParams::default().fields(&format!("involvedObject.name={name}"));
                let told = events.list(&of).await?.items;
                let told = told.iter().filter_map(|event| event.message.as_deref());
                ensure!(told.into_iter().any(|text| text.contains(&short(commit))), "no Event of {commit} yet");
            }
            Ok(entry.clone())
        })
        .await
    }

    /// Waits until this commit is deployed; panics with the reason if it is not.
    pub async fn deployed(&self, commit: Oid) -> HistoryEntry {
        self.deployed_in(&self.name, commit).await
    }

    /// The same in another environment.
    pub async fn deployed_in(&self, name: &str, commit: Oid) -> HistoryEntry {
        eventually(SOON, || async {
            let entry = self.ended_in(name, commit).await;
            ensure!(entry.outcome == "Deployed", "{entry:?}");
            Ok(entry)
        })
        .await
    }

    /// Waits until this commit has failed, and gives the message.
    pub async fn failed(&self, commit: Oid) -> String {
        let entry = self.ended(commit).await;
        assert_eq!(entry.outcome, "Failed", "{entry:?}");
        entry.message.expect("a failure has a message")
    }

    /// The environment's ConfigMaps.
    pub fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.env.admin(), &self.namespace)
    }

    /// The data of a ConfigMap as `a=1 b=2`; `None` if it does not stand, or is being deleted: the garbage collector takes a moment.
    pub async fn data(&self, name: &str) -> Option<String> {
        let object = self.config_maps().get_opt(name).await.expect("the API server answers")?;
        if object.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let data = object.data.unwrap_or_default();
        Some(data.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" "))
    }

    /// Waits until that is so.
    pub async fn data_becomes(&self, name: &str, data: Option<&str>) {
        eventually(SOON, || async {
            let now = self.data(name).await;
            ensure!(now.as_deref() == data, "{name} has {now:?}, not {data:?}");
            Ok(())
        })
        .await;
    }

    /// A condition of the Environment, as soon as it is so.
    pub async fn condition(&self, type_: &str, so: impl Fn(&Condition) -> bool) -> Condition {
        eventually(SOON, || async {
            let status = self.environment().await.and_then(|environment| environment.status).context("no status")?;
            let found = condition(&status, type_).with_context(|| format!("no condition {type_} in {status:?}"))?;
            ensure!(so(found), "{found:?}");
            Ok(found.clone())
        })
        .await
    }

    /// Waits for an Event on the Environment with this reason and all these texts.
    pub async fn told(&self, reason: &str, texts: &[&str]) {
        let events: Api<Event> = Api::namespaced(self.env.admin(), "default");
        let of = ListParams::default().fields(&format!("involvedObject.name={},reason={reason}", self.name));
        eventually(SOON, || async {
            let found = events.list(&of).await?.items;
            let messages: Vec<String> = found.into_iter().filter_map(|event| event.message).collect();
            let told = messages.iter().any(|message| texts.iter().all(|text| message.contains(text)));
            ensure!(told, "no Event {reason} has {texts:?}: {messages:?}");
            Ok(())
        })
        .await;
    }

    /// The uid and resourceVersion of a ConfigMap.
    pub async fn identity(&self, name: &str) -> (String, String) {
        let object = self.config_maps().get(name).await.expect("the ConfigMap");
        (object.uid().expect("a uid"), object.resource_version().expect("a resourceVersion"))
    }

    /// Objects of any kind in the environment's namespace.
    pub fn objects(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.env.admin(), &self.namespace, &resource)
    }

    /// What plumb wrote on the environment's objects, the Environment itself and Events aside.
    pub fn member_writes(&self, audit: &Audit) -> Audit {
        audit.writes().only(|event| !matches!(event.object_ref.resource.as_str(), "environments" | "events"))
    }
}

/// Installs the definition of Environments; a request that changes nothing where it is installed already.
pub async fn install_crd(env: &TestEnv) {
    let definition = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let definitions: Api<DynamicObject> = Api::all_with(env.admin(), &ApiResource::from_gvk(&definition));
    let environments: Api<Environment> = Api::all(env.admin());
    eventually(SOON, || async {
        let params = PatchParams::apply("plumb-test").force();
        definitions.patch(Environment::crd_name(), &params, &Patch::Apply(Environment::crd())).await?;
        environments.list(&ListParams::default().limit(1)).await?;
        Ok(())
    })
    .await;
}
