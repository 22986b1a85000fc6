//! A deployed environment whose objects are changed behind plumb's back; what plumb says and asks is read off its log and the audit log.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, ensure};
use git2::Oid;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams, Patch, PatchParams};
use plumb::model::environment::EnvironmentStatus;
use serde_json::{Value, json};

use crate::harness::{Audit, AuditMark, Plumb, eventually};
use crate::scene::{SOON, Scene, config_map};

/// The last file: its ConfigMap is changed to see that plumb has taken in all that came before.
const FENCE: &str = "zz";

/// A deployed environment.
pub struct Stand {
    pub plumb: Plumb,
    pub scene: Scene,
    fences: AtomicU32,
}

/// A line of the log: its message, and its fields without quotes.
#[derive(Debug, Clone)]
pub struct Line {
    pub text: String,
    pub message: String,
    fields: BTreeMap<String, String>,
}

impl Line {
    fn parse(text: &str) -> Option<Self> {
        // time, level, message, fields; a value is bare or in quotes.
        let rest = text.split_once("Z ")?.1.trim_start().split_once(' ')?.1;
        let start = rest.find('=').map_or(rest.len(), |at| rest[..at].rfind(' ').unwrap_or(0));
        let (message, mut rest) = rest.split_at(start);
        let mut fields = BTreeMap::new();
        while let Some((name, value)) = rest.split_once('=') {
            let mut values = serde_json::Deserializer::from_str(value).into_iter::<String>();
            let (value, length) = match values.next() {
                Some(Ok(quoted)) if value.starts_with('"') => (quoted, values.byte_offset()),
                _ => {
                    let end = value.find(' ').unwrap_or(value.len());
                    (value[..end].to_owned(), end)
                }
            };
            fields.insert(name.trim().to_owned(), value);
            rest = &rest[name.len() + 1 + length..];
        }
        Some(Self { text: text.to_owned(), message: message.trim().to_owned(), fields })
    }

    /// The value of a field; the empty string if it has none.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// Asserts that these fields have these values.
    #[track_caller]
    pub fn says(&self, fields: &[(&str, &str)]) {
        for (name, value) in fields {
            assert_eq!(self.field(name), *value, "{name} in {}", self.text);
        }
    }
}

impl Stand {
    /// Deploys these files, and one more. `None` in a cluster without an audit log.
    pub async fn new<C: Into<crate::harness::Change>>(
        name: &str,
        spec: &str,
        files: impl IntoIterator<Item = (&'static str, C)>,
    ) -> Option<Self> {
        let (scene, _) = Self::pushed(name, spec, files).await?;
        let plumb = scene.run();
        Self::on(scene, plumb).await
    }

    /// The same before plumb runs; with the commit.
    pub async fn pushed<C: Into<crate::harness::Change>>(
        name: &str,
        spec: &str,
        files: impl IntoIterator<Item = (&'static str, C)>,
    ) -> Option<(Scene, Oid)> {
        let scene = Scene::with(name, spec).await;
        scene.env.audit()?;
        let files = files.into_iter().map(|(file, content)| (file, content.into()));
        let fence = ("zz.yaml", config_map(FENCE, &[("x", "1")]).into());
        let commit = scene.push(files.chain([fence]).collect::<Vec<_>>());
        Some((scene, commit))
    }

    /// On a scene that plumb has begun with: waits until its head is deployed.
    pub async fn on(scene: Scene, plumb: Plumb) -> Option<Self> {
        let head = scene.env.repository().open().refname_to_id("refs/heads/dev").expect("the branch");
        scene.deployed(head).await;
        Some(Self::running(scene, plumb))
    }

    /// On a scene that plumb runs on, however it stands.
    pub fn running(scene: Scene, plumb: Plumb) -> Self {
        Self { scene, plumb, fences: AtomicU32::new(0) }
    }

    /// An object as the log names it.
    pub fn object(&self, kind_and_name: &str) -> String {
        match kind_and_name.split_once('/') {
            Some((kind, name)) => format!("{kind}/{}/{name}", self.scene.namespace),
            None => panic!("not Kind/name: {kind_and_name}"),
        }
    }

    /// All lines so far with this message.
    pub fn lines(&self, message: &str) -> Vec<Line> {
        let lines = self.plumb.log();
        lines.iter().filter_map(|line| Line::parse(line)).filter(|line| line.message == message).collect()
    }

    /// The lines that tell a drift of an object, `Kind/name`.
    pub fn drifts(&self, object: &str) -> Vec<Line> {
        let object = self.object(object);
        self.lines("drift").into_iter().filter(|line| line.field("object") == object).collect()
    }

    /// The first of them, as soon as it is there.
    pub async fn drift(&self, object: &str) -> Line {
        self.drift_with(object, &[]).await
    }

    /// The first that has these values.
    pub async fn drift_with(&self, object: &str, fields: &[(&str, &str)]) -> Line {
        eventually(SOON, || async {
            let lines = self.drifts(object);
            let is = |line: &&Line| fields.iter().all(|(name, value)| line.field(name) == *value);
            Ok(lines.iter().find(is).with_context(|| format!("no line {fields:?} on {object} in {lines:#?}"))?.clone())
        })
        .await
    }

    /// The first line with this message.
    pub async fn line(&self, message: &str) -> Line {
        eventually(SOON, || async {
            self.lines(message).into_iter().next().with_context(|| format!("no line {message:?}"))
        })
        .await
    }

    /// Returns when plumb has seen, put back and told all that happened to ConfigMaps before, by what it does about one more change.
    pub async fn fence(&self) {
        let value = format!("fence-{}", self.fences.fetch_add(1, Ordering::Relaxed));
        let params = PatchParams { field_manager: Some("fence".to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({"data": {"x": value}}));
        self.scene.config_maps().patch(FENCE, &params, &patch).await.expect("the fence");
        self.drift_with(&format!("ConfigMap/{FENCE}"), &[("live", &value)]).await;
    }

    /// A moment from which requests are counted.
    pub async fn mark(&self) -> AuditMark {
        self.scene.env.audit().expect("an audit log").mark().await
    }

    /// What plumb asked since about the environment's objects: not about the fence, nor for lists of its own kinds.
    pub async fn asked(&self, mark: AuditMark) -> Audit {
        let all = self.scene.env.audit().expect("an audit log").since(mark).await;
        all.in_namespace(&self.scene.namespace)
            .only(|event| !event.object_ref.name.starts_with(FENCE) && event.object_ref.resource != "events")
    }

    /// What of it changed something, or tried to.
    pub async fn wrote(&self, mark: AuditMark) -> Audit {
        self.asked(mark).await.writes()
    }

    /// kubectl in the environment's namespace, as an administrator; it must go well.
    pub async fn kubectl(&self, args: &[&str]) -> String {
        self.kubectl_with(args, "").await
    }

    /// The same with an input.
    pub async fn kubectl_with(&self, args: &[&str], stdin: &str) -> String {
        kubectl(&self.scene, args, stdin).await
    }

    /// Waits until an object has this at a JSON pointer; `Null`: nothing.
    pub async fn becomes(&self, kind: &str, name: &str, pointer: &str, value: &Value) -> Value {
        eventually(SOON, || async {
            let args = ["-n", &*self.scene.namespace, "get", kind, name, "-o", "json", "--show-managed-fields"];
            let (_, output) = self.scene.kubectl(&args, "").await;
            let object: Value = serde_json::from_str(&output).with_context(|| output.clone())?;
            let now = object.pointer(pointer).cloned().unwrap_or_default();
            ensure!(now == *value, "{kind} {name} has {now} at {pointer}");
            Ok(object)
        })
        .await
    }

    /// The data of a ConfigMap, as soon as it is this; `None`: it does not stand.
    pub async fn data_becomes(&self, name: &str, data: Option<&str>) {
        self.scene.data_becomes(name, data).await;
    }

    /// What git changes is git's, also where a drift was left.
    pub async fn takes_what_git_changes(&self) {
        let commit =
            self.scene.push([("a.yaml", config_map("a", &[("x", "3")])), ("b.yaml", config_map("b", &[("x", "3")]))]);
        self.scene.deployed(commit).await;
        self.data_becomes("a", Some("x=3")).await;
        self.data_becomes("b", Some("x=3")).await;
    }

    /// The Environment's status, as soon as it is so.
    pub async fn status(&self, so: impl Fn(&EnvironmentStatus) -> bool) -> EnvironmentStatus {
        eventually(SOON, || async {
            let environment = self.scene.environment().await.context("the Environment")?;
            let status = environment.status.context("a status")?;
            ensure!(so(&status), "{status:#?}");
            Ok(status)
        })
        .await
    }

    /// Waits until one of plumb's Events on an object begins so. They come one by one, and are listed in no order.
    pub async fn event(&self, kind: &str, name: &str, beginning: &str) {
        eventually(SOON, || async {
            let events = self.events(kind, name).await;
            ensure!(events.iter().any(|event| event.starts_with(beginning)), "{events:#?}");
            Ok(())
        })
        .await;
    }

    /// The messages of plumb's Events on an object, as soon as there are some.
    pub async fn events(&self, kind: &str, name: &str) -> Vec<String> {
        eventually(SOON, || async {
            let events: Api<Event> = Api::namespaced(self.scene.env.admin(), &self.scene.namespace);
            let of = ListParams::default().fields(&format!("involvedObject.kind={kind},involvedObject.name={name}"));
            let events = events.list(&of).await?.items;
            let ours =
                events.into_iter().filter(|event| event.reporting_component.as_deref() == Some("plumb.dev/plumb"));
            let messages: Vec<String> = ours.filter_map(|event| event.message).collect();
            ensure!(!messages.is_empty(), "no Event on {kind} {name}");
            Ok(messages)
        })
        .await
    }
}

/// kubectl in a scene's namespace, as an administrator; it must go well.
pub async fn kubectl(scene: &Scene, args: &[&str], stdin: &str) -> String {
    let args: Vec<&str> = ["-n", &*scene.namespace].into_iter().chain(args.iter().copied()).collect();
    scene.kubectl_ok(&args, stdin).await
}

/// A Deployment of one container without pods, with an environment variable `A=1`, and more lines of its spec.
pub fn deployment(name: &str, replicas: u32, container: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
        - name: web
          image: example.org/web:1
          env: [{{name: A, value: \"1\"}}, {{name: B, value: \"1\"}}]
          {container}
"
    )
}
