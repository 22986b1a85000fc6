//! One daemon, one environment a case, and what can be read of them: status, log, Events, the objects that stand.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use git2::Oid;
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use plumb::model::Environment;
use plumb::model::environment::{EnvironmentStatus, HistoryEntry};

use super::case::{BYSTANDER, Base, Case, Content, ENV};
use crate::harness::{Change, Plumb, TestEnv, eventually};
use crate::scene::short;

/// Nothing here takes long; a loaded machine may.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// A Deployment and, from line 14 on, its Service.
pub const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers: [{name: web, image: web:1}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  ports:
  - port: 80
";
const SCHEMA: &str = r#"{"type": "object", "properties": {"replicas": {"type": "integer"}}}"#;
const CREDENTIALS: &str = "apiVersion: v1
kind: Secret
metadata: {name: credentials}
stringData: {token: CANARY-of-the-corpus}
";

/// The environment of one case, before and after it is broken.
pub struct Subject {
    pub case: Case,
    /// The environment's name, which is also its namespace's and its branch's.
    pub name: String,
    /// The commit that is deployed.
    pub good: Oid,
    /// The commit that must fail.
    pub blamed: Oid,
}

/// A definition with what is needed, and further lines of its spec.
pub fn definition(name: &str, path: &str, spec: &str) -> String {
    format!(
        "apiVersion: plumb.dev/v1alpha1\nkind: Environment\nmetadata:\n  name: {name}\nspec:\n  branch: {name}\n  \
         namespace: {name}\n  path: {path}\n{spec}"
    )
}

/// Where the definition of an environment is.
pub fn definition_file(name: &str) -> PathBuf {
    format!("environments/{name}/environment.yaml").into()
}

/// The one object of the good files that has a value to look at.
pub fn settings(value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {{value: \"{value}\"}}\n")
}

/// The files of a good environment, the first of them with `value`.
pub fn good_files(base: Base, value: &str) -> Vec<(PathBuf, Change)> {
    let files: Vec<(&str, String)> = match base {
        Base::Plain => vec![
            ("deploy/settings.yaml", settings(value)),
            ("deploy/web.yaml", WEB.to_owned()),
            ("deploy/credentials.yaml", CREDENTIALS.to_owned()),
        ],
        Base::Chart => vec![
            ("values/env.yaml", format!("value: \"{value}\"\ntoken: CANARY-of-the-corpus\n")),
            ("deploy/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n".to_owned()),
            ("deploy/values.schema.json", SCHEMA.to_owned()),
            ("deploy/templates/settings.yaml", settings("{{ .Values.value }}")),
            ("deploy/templates/credentials.yaml", CREDENTIALS.replace("CANARY-of-the-corpus", "{{ .Values.token }}")),
        ],
        Base::Kustomization => vec![
            ("deploy/settings.yaml", settings(value)),
            ("deploy/kustomization.yaml", "resources: [settings.yaml]\n".to_owned()),
        ],
    };
    files.into_iter().map(|(path, text)| (path.into(), text.into())).collect()
}

impl Subject {
    /// Commits the good state of the case on a branch of its own.
    pub fn new(env: &TestEnv, case: Case) -> Self {
        let name = env.name(case.name);
        assert!(name.len() <= 63, "{name} is too long for a namespace");
        let good = env.repository().commit(&name, good_files(case.base, "1"));
        Self { case, name, good, blamed: good }
    }

    fn filled(&self, text: &str, bystander: &str) -> String {
        text.replace(ENV, &self.name).replace(BYSTANDER, bystander)
    }

    /// The good definition.
    pub fn definition(&self, bystander: &str) -> String {
        let values = if self.case.base == Base::Chart { "  values: [values/env.yaml]\n" } else { "" };
        self.filled(&definition(ENV, "deploy", &format!("{values}{}", self.case.spec)), bystander)
    }

    /// The broken definition, if that is what the case breaks.
    pub fn broken_definition(&self, bystander: &str) -> Option<String> {
        let (from, to) = self.case.definition.as_ref()?;
        let (good, to) = (self.definition(bystander), self.filled(to, bystander));
        if from.is_empty() {
            return Some(to);
        }
        let from = self.filled(from, bystander);
        assert!(good.contains(&from), "{}: the definition has no {from:?}", self.case.name);
        Some(good.replacen(&from, &to, 1))
    }

    /// Pushes the broken commit, if it is the branch that the case breaks.
    pub fn push_broken(&mut self, env: &TestEnv, bystander: &str) {
        if self.case.files.is_empty() {
            return;
        }
        let change = |content: &Content| match content {
            Content::Text(text) => Change::from(self.filled(text, bystander)),
            Content::Is(change) => change.clone(),
            Content::Made(make) => make(env.repository()),
        };
        let changes: Vec<_> = self.case.files.iter().map(|(path, content)| (path.clone(), change(content))).collect();
        self.blamed = env.repository().commit(&self.name, changes);
    }

    /// What plumb must say, for this environment.
    pub fn says(&self, bystander: &str) -> Vec<String> {
        self.case.says.iter().map(|text| self.filled(text, bystander)).collect()
    }
}

/// An Environment's status and how it stands with a commit.
pub struct Seen(pub EnvironmentStatus);

impl Seen {
    /// The newest entry of the history.
    pub fn last(&self) -> Option<&HistoryEntry> {
        self.0.history.first()
    }

    /// Status, reason and message of the condition `Synced`.
    pub fn synced(&self) -> (&str, &str, &str) {
        let synced = self.0.conditions.iter().find(|condition| condition.type_ == "Synced");
        synced.map_or(("", "", ""), |synced| (&synced.status, &synced.reason, &synced.message))
    }

    /// Whether this commit ended in one of these ways.
    pub fn ended(&self, commit: Oid, outcomes: &[&str]) -> bool {
        self.last().is_some_and(|entry| entry.commit == commit.to_string() && outcomes.contains(&&*entry.outcome))
    }
}

/// The status of all environments of this test, by name.
pub async fn statuses(env: &TestEnv) -> anyhow::Result<BTreeMap<String, Seen>> {
    let api: Api<Environment> = Api::all(env.admin());
    let all = api.list(&ListParams::default()).await?.items;
    Ok(all.into_iter().map(|one| (one.name_any(), Seen(one.status.unwrap_or_default()))).collect())
}

/// Waits until all these environments ended so with their commit.
pub async fn wait_ended<'a>(env: &TestEnv, wanted: impl IntoIterator<Item = (&'a str, Oid)>, outcome: &str) {
    wait_ended_in(env, wanted, &[outcome]).await;
}

/// The same, where there are several good ends.
pub async fn wait_ended_in<'a>(env: &TestEnv, wanted: impl IntoIterator<Item = (&'a str, Oid)>, outcomes: &[&str]) {
    let wanted: Vec<_> = wanted.into_iter().collect();
    eventually(PATIENCE, || async {
        let seen = statuses(env).await?;
        let missing: Vec<String> = wanted
            .iter()
            .filter(|(name, commit)| !seen.get(*name).is_some_and(|seen| seen.ended(*commit, outcomes)))
            .map(|(name, commit)| {
                let last = seen.get(*name).and_then(Seen::last);
                format!("{name}: {} is not {outcomes:?}; last: {last:?}", short(*commit))
            })
            .collect();
        ensure!(missing.is_empty(), "{} of {}:\n{}", missing.len(), wanted.len(), missing.join("\n"));
        Ok(())
    })
    .await;
}

/// The log lines about a commit of an environment, with quotes as a person reads them.
pub fn log_lines(log: &[String], environment: &str, commit: Oid) -> String {
    let (environment, commit) = (format!("environment={environment} "), format!("commit={}", short(commit)));
    let about = log.iter().filter(|line| line.contains(&environment) && line.contains(&commit));
    about.fold(String::new(), |mut text, line| {
        _ = writeln!(text, "{}", line.replace("\\\"", "\""));
        text
    })
}

/// The messages of the Warnings that were posted on each environment.
pub async fn warnings(env: &TestEnv) -> BTreeMap<String, String> {
    let api: Api<Event> = Api::namespaced(env.admin(), "default");
    let mut all = BTreeMap::<String, String>::new();
    for event in api.list(&ListParams::default()).await.expect("Events").items {
        if event.type_.as_deref() == Some("Warning") {
            let messages = all.entry(event.involved_object.name.unwrap_or_default()).or_default();
            messages.push_str(&event.message.unwrap_or_default());
            messages.push('\n');
        }
    }
    all
}

/// uid and resourceVersion of every object of these kinds that stands, by kind, namespace and name.
pub async fn objects(env: &TestEnv) -> BTreeMap<String, (String, String)> {
    let mut all = BTreeMap::new();
    for (api_version, kind, plural) in [
        ("v1", "ConfigMap", "configmaps"),
        ("v1", "Secret", "secrets"),
        ("v1", "Service", "services"),
        ("v1", "Pod", "pods"),
        ("v1", "Namespace", "namespaces"),
        ("apps/v1", "Deployment", "deployments"),
        ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles"),
    ] {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let (group, version, api_version) = (group.to_owned(), version.to_owned(), api_version.to_owned());
        let resource = ApiResource { group, version, api_version, kind: kind.to_owned(), plural: plural.to_owned() };
        let api: Api<DynamicObject> = Api::all_with(env.admin(), &resource);
        for object in api.list_metadata(&ListParams::default()).await.expect("a list").items {
            let key = format!("{kind}/{}/{}", object.namespace().unwrap_or_default(), object.name_any());
            all.insert(key, (object.uid().unwrap_or_default(), object.resource_version().unwrap_or_default()));
        }
    }
    all
}

/// Waits until the environment's settings have this value.
pub async fn wait_value(env: &TestEnv, namespace: &str, value: &str) {
    let api: Api<ConfigMap> = Api::namespaced(env.admin(), namespace);
    eventually(PATIENCE, || async {
        let data = api.get("settings").await?.data.context("no data")?;
        ensure!(data.get("value").is_some_and(|now| now == value), "{namespace} has {data:?}, not {value}");
        Ok(())
    })
    .await;
}

/// `plumb run` on the test's repository, with the heap it has in its pod (`deploy/reconciler.yaml`).
pub fn run(env: &TestEnv) -> Plumb {
    let repository = env.repository().path();
    let repository = repository.to_str().expect("a path in UTF-8");
    let arguments = ["run", "--repo", repository, "--instance", &env.name("plumb")];
    Plumb::spawn_with(env.kubeconfig(), arguments, |command| {
        command.env("MALLOC_ARENA_MAX", "1");
    })
}
