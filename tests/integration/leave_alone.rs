//! Fields that are left to others: never owned, handed over without a dip, taken back when git has them again.

use std::sync::{Arc, Mutex};

use anyhow::{Context as _, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams, WatchEvent, WatchParams};
use serde_json::{Value, json};

use crate::harness::{Audit, eventually};
use crate::scene::{SOON, Scene, config_map};

const AUTOSCALER: &str = "apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 1
  maxReplicas: 10
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]
";

fn deployment(image: &str, note: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, annotations: {{example.com/note: {note:?}}}}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec: {{containers: [{{name: web, image: {image}}}]}}
"
    )
}

/// Every state of the Deployment `web` from now on: its resourceVersion, generation and replicas.
struct Observed {
    web: Api<Deployment>,
    /// The resourceVersion that it began at.
    from: u64,
    states: Arc<Mutex<Vec<(u64, i64, i32)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Observed {
    async fn from_now_on(scene: &Scene) -> Self {
        let api: Api<Deployment> = Api::namespaced(scene.env.admin(), &scene.namespace);
        let listed = api.list_metadata(&Default::default()).await.unwrap();
        let params = WatchParams::default().fields("metadata.name=web").timeout(290);
        let version = listed.metadata.resource_version.unwrap();
        let states = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&states);
        let (web, from) = (api.clone(), version.parse().unwrap());
        let task = tokio::spawn(async move {
            let mut events = Box::pin(api.watch(&params, &version).await.expect("a watch"));
            while let Some(event) = events.next().await {
                if let Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) = event {
                    let generation = object.metadata.generation.unwrap_or_default();
                    seen.lock().unwrap().push((version_of(&object), generation, replicas(&object)));
                }
            }
        });
        Self { web, from, states, task }
    }

    /// The distinct states in their order, once the watch has brought what stands now: its generation and replicas.
    async fn distinct(&self) -> Vec<(i64, i32)> {
        let now = version_of(&self.web.get("web").await.expect("the Deployment"));
        let states = eventually(SOON, || async {
            let states = self.states.lock().unwrap().clone();
            let seen = states.last().map_or(self.from, |(version, ..)| *version);
            ensure!(seen >= now, "the watch is at {seen}, the Deployment at {now}");
            Ok(states)
        })
        .await;
        let mut states: Vec<_> = states.into_iter().map(|(_, generation, replicas)| (generation, replicas)).collect();
        states.dedup();
        states
    }

    /// The same, of which there must be one at least.
    async fn changed(&self) -> Vec<(i64, i32)> {
        let states = self.distinct().await;
        assert!(!states.is_empty(), "the Deployment was not written to: nothing is shown");
        states
    }
}

fn version_of(object: &Deployment) -> u64 {
    object.resource_version().expect("a resourceVersion").parse().expect("a number")
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn web(scene: &Scene) -> Deployment {
    Api::namespaced(scene.env.admin(), &scene.namespace).get("web").await.expect("the Deployment")
}

fn replicas(web: &Deployment) -> i32 {
    web.spec.as_ref().unwrap().replicas.unwrap()
}

/// The writes that hand a field over.
fn handed_over(audit: &Audit) -> Audit {
    audit.writes().only(|event| event.request_uri.contains("fieldManager=plumb-handover"))
}

fn image_of(web: &Deployment) -> Option<String> {
    web.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0].image.clone()
}

/// Who owns a field of the Deployment, as `manager` or `manager/subresource`.
fn owners(web: &Deployment, path: &[&str]) -> Vec<String> {
    let owns = |fields: &Value| path.iter().try_fold(fields, |fields, name| fields.get(format!("f:{name}"))).is_some();
    let entries = web.managed_fields().iter().filter(|entry| owns(&entry.fields_v1.as_ref().unwrap().0));
    let mut owners: Vec<_> = entries
        .map(|entry| match entry.subresource.as_deref().unwrap_or_default() {
            "" => entry.manager.clone().unwrap(),
            subresource => format!("{}/{subresource}", entry.manager.as_deref().unwrap()),
        })
        .collect();
    owners.sort();
    owners
}

#[tokio::test]
async fn an_autoscaler_takes_replicas_over_and_gives_them_back_without_a_dip() {
    let scene = Scene::new("hpa").await;
    let Some(audit) = scene.env.audit() else { return };
    let ours = format!("plumb-{}", scene.name);
    let first = scene.push([("web.yaml", deployment("a", "1"))]);
    let plumb = scene.run();
    scene.deployed(first).await;
    let before = web(&scene).await;
    assert_eq!((replicas(&before), owners(&before, &["spec", "replicas"])), (3, vec![ours.clone()]));

    let observed = Observed::from_now_on(&scene).await;
    let mark = audit.mark().await;
    let second = scene.push([("hpa.yaml", AUTOSCALER)]);
    scene.deployed(second).await;
    assert_eq!(handed_over(&audit.since(mark).await).len(), 1);
    let after = web(&scene).await;
    assert_eq!(owners(&after, &["spec", "replicas"]), ["plumb-handover"]);
    assert_eq!((replicas(&after), after.metadata.generation), (3, before.metadata.generation));
    assert_eq!(observed.changed().await, [(before.metadata.generation.unwrap(), 3)]);

    // Who scales it now takes the field cleanly, and no later commit brings git's number back.
    scene.kubectl_ok(&["scale", "deployment/web", "--replicas=5", "-n", &scene.namespace], "").await;
    assert_eq!(owners(&web(&scene).await, &["spec", "replicas"]), ["kubectl/scale"]);
    let mark = audit.mark().await;
    let third = scene.push([("web.yaml", deployment("a", "2"))]);
    scene.deployed(third).await;
    let scaled = web(&scene).await;
    assert_eq!((replicas(&scaled), scaled.annotations()["example.com/note"].as_str()), (5, "2"));
    let shares = handed_over(&audit.since(mark).await);
    assert!(shares.is_empty(), "nothing was left to hand over: {shares:?}");
    let told: Vec<_> = plumb.log().into_iter().filter(|line| line.contains("drift") || line.contains("WARN")).collect();
    assert!(told.is_empty(), "{told:?}");

    // Without the autoscaler, git says again how many there are.
    let fourth = scene.push([("hpa.yaml", crate::harness::Change::Remove)]);
    scene.deployed(fourth).await;
    let back = web(&scene).await;
    assert_eq!((replicas(&back), owners(&back, &["spec", "replicas"])), (3, vec![ours]));
    let numbers: Vec<i32> = observed.distinct().await.into_iter().map(|(_, replicas)| replicas).collect();
    let changes: Vec<i32> = numbers.chunk_by(|a, b| a == b).filter_map(|same| same.first().copied()).collect();
    assert_eq!(changes, [3, 5, 3]);
}

#[tokio::test]
async fn what_is_made_with_its_autoscaler_has_gits_replicas_from_the_start() {
    // A field without which it would not be valid is left alone just as well.
    let image = "ignore: [{kind: Deployment, fields: ['spec.template.spec.containers[name=web].image']}]";
    let scene = Scene::with("hpa-new", image).await;
    let Some(audit) = scene.env.audit() else { return };
    scene.make_namespace().await;
    let observed = Observed::from_now_on(&scene).await;
    let first = scene.push([("a-hpa.yaml", AUTOSCALER.to_owned()), ("web.yaml", deployment("a", "1"))]);
    let mut plumb = scene.run();
    scene.deployed(first).await;
    let made = web(&scene).await;
    assert_eq!(owners(&made, &["spec", "replicas"]), ["plumb-handover"]);
    assert_eq!(observed.changed().await, [(1, 3)]);
    assert_eq!(image_of(&made).as_deref(), Some("a"));

    // git's number is no input any more: another one changes nothing.
    let mark = audit.mark().await;
    let second = scene.push([("web.yaml", deployment("a", "1").replace("replicas: 3", "replicas: 7"))]);
    eventually(SOON, || async {
        let unchanged =
            plumb.log().iter().any(|line| line.contains("unchanged") && line.contains(&crate::scene::short(second)));
        ensure!(unchanged, "not seen yet: {:?}", plumb.log().last());
        Ok(())
    })
    .await;
    assert!(scene.member_writes(&audit.since(mark).await).is_empty());
    plumb.kill();

    // A plumb that remembers nothing verifies, and writes nothing.
    let mark = audit.mark().await;
    let third = scene.push([("web.yaml", deployment("a", "2"))]);
    let _plumb = scene.run();
    scene.deployed(third).await;
    let (code, output) = scene.verb(&["render", &scene.name]).await;
    assert!(code == Some(0) && output.contains("name: web") && !output.contains(" replicas:"), "{output}");
    assert_eq!(replicas(&web(&scene).await), 3);
    assert!(handed_over(&audit.since(mark).await).is_empty(), "it was handed over before");
}

#[tokio::test]
async fn replicas_that_leave_git_together_with_a_new_autoscaler_do_not_dip() {
    let scene = Scene::new("hpa-advice").await;
    let first = scene.push([("web.yaml", deployment("a", "1"))]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    let observed = Observed::from_now_on(&scene).await;
    let without = deployment("a", "1").replace("  replicas: 3\n", "");
    let second = scene.push([("web.yaml", without), ("hpa.yaml", AUTOSCALER.to_owned())]);
    scene.deployed(second).await;
    let after = web(&scene).await;
    assert_eq!((replicas(&after), owners(&after, &["spec", "replicas"])), (3, vec!["plumb-handover".to_owned()]));
    assert_eq!(observed.changed().await, [(1, 3)]);
}

#[tokio::test]
async fn what_client_side_apply_owned_is_adopted_without_a_dip() {
    let scene = Scene::new("hpa-adopt").await;
    scene.make_namespace().await;
    scene.kubectl_ok(&["apply", "-n", &scene.namespace, "-f", "-"], &deployment("a", "1")).await;
    let observed = Observed::from_now_on(&scene).await;
    let first = scene.push([("web.yaml", deployment("a", "2")), ("hpa.yaml", AUTOSCALER.to_owned())]);
    let _plumb = scene.run();
    scene.deployed(first).await;
    let adopted = web(&scene).await;
    assert_eq!((replicas(&adopted), adopted.annotations()["example.com/note"].as_str()), (3, "2"));
    assert_eq!(owners(&adopted, &["spec", "replicas"]), ["plumb-handover"]);
    let states = observed.changed().await;
    assert!(states.iter().all(|(_, replicas)| *replicas == 3), "{states:?}");
}

#[tokio::test]
async fn what_another_environment_lets_go_is_taken_over_without_a_dip() {
    let scene = Scene::new("hpa-move").await;
    let other = scene.env.name("other");
    scene.define_other(&other, "other", "manifests", "");
    let rest = |name: &str| (format!("manifests/{name}.yaml"), config_map(name, &[("x", "1")]));
    let web_yaml = || ("manifests/web.yaml".to_owned(), deployment("a", "1"));
    let repository = scene.env.repository();
    let first = repository.commit("other", [rest("theirs"), web_yaml()]);
    let start = repository.commit("dev", [rest("ours")]);
    let _plumb = scene.run();
    scene.deployed_in(&other, first).await;
    scene.deployed(start).await;
    let observed = Observed::from_now_on(&scene).await;
    let moved = repository.write("dev", [web_yaml(), ("manifests/hpa.yaml".to_owned(), AUTOSCALER.to_owned())]);
    let left = repository.write("other", [("manifests/web.yaml", crate::harness::Change::Remove)]);
    repository.set_branch("dev", moved);
    repository.set_branch("other", left);
    scene.deployed(moved).await;
    scene.deployed_in(&other, left).await;
    let taken = web(&scene).await;
    assert_eq!((replicas(&taken), owners(&taken, &["spec", "replicas"])), (3, vec!["plumb-handover".to_owned()]));
    let managers: Vec<_> = taken.managed_fields().iter().filter_map(|entry| entry.manager.clone()).collect();
    assert!(managers.contains(&format!("plumb-{}", scene.name)) && !managers.contains(&format!("plumb-{other}")));
    assert_eq!(observed.changed().await, [(1, 3)]);
}

const RULES: &str = "ignore:
- {kind: Deployment, name: w*, fields: ['spec.template.spec.containers[name=web].image', 'metadata.annotations[example.com/note]']}
- {kind: ConfigMap, fields: [data.live]}
- {kind: Secret, name: token-*, fields: [data]}
";

#[tokio::test]
async fn fields_of_rules_are_handed_over_left_alone_and_taken_back() {
    let scene = Scene::with("rules", "resync: 1s").await;
    let Some(audit) = scene.env.audit() else { return };
    let files = |image: &str, note: &str, c: &str| {
        [("web.yaml", deployment(image, note)), ("c.yaml", config_map("c", &[("live", "git"), ("own", c)]))]
    };
    let first = scene.push(files("git", "git", "1"));
    let _plumb = scene.run();
    scene.deployed(first).await;
    let before = web(&scene).await;
    let observed = Observed::from_now_on(&scene).await;

    let (code, output) = {
        scene.define(&format!("resync: 1s\n{RULES}"));
        scene.verb(&["plan", &scene.name]).await
    };
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("spec.ignore[2]: no Secret of this commit has a name like \"token-*\""), "{output}");
    let image = ["spec", "template", "spec"];
    eventually(SOON, || async {
        let web = web(&scene).await;
        let of = |manager: &str| {
            let entry = web.managed_fields().iter().find(|entry| entry.manager.as_deref() == Some(manager));
            entry.map(|entry| entry.fields_v1.as_ref().unwrap().0.to_string()).unwrap_or_default()
        };
        ensure!(!of(&format!("plumb-{}", scene.name)).contains("f:image"), "still ours");
        ensure!(of("plumb-handover").contains("f:image"), "nobody's");
        Ok(())
    })
    .await;
    assert_eq!(owners(&web(&scene).await, &image).len(), 2);
    assert_eq!(web(&scene).await.metadata.generation, before.metadata.generation);
    assert_eq!(observed.changed().await, [(before.metadata.generation.unwrap(), 3)]);
    assert_eq!(scene.data("c").await.as_deref(), Some("live=git own=1"));

    // Others change them: neither a resync nor a commit changes them back.
    let theirs = json!({"metadata": {"annotations": {"example.com/note": "theirs"}},
        "spec": {"template": {"spec": {"containers": [{"name": "web", "image": "theirs"}]}}}});
    let api: Api<Deployment> = Api::namespaced(scene.env.admin(), &scene.namespace);
    api.patch("web", &PatchParams::default(), &Patch::Strategic(theirs)).await.unwrap();
    scene
        .config_maps()
        .patch("c", &PatchParams::default(), &Patch::Merge(json!({"data": {"live": "theirs"}})))
        .await
        .unwrap();
    let second = scene.push(files("git2", "git2", "2"));
    scene.deployed(second).await;
    let mark = audit.mark().await;
    eventually(SOON, || async {
        let resyncs = audit.since(mark).await.of("configmaps").dry_runs().len();
        ensure!(resyncs >= 3, "no three resyncs yet: {resyncs}");
        Ok(())
    })
    .await;
    let left = web(&scene).await;
    assert_eq!(
        (image_of(&left).as_deref(), left.annotations()["example.com/note"].as_str()),
        (Some("theirs"), "theirs")
    );
    assert_eq!(scene.data("c").await.as_deref(), Some("live=theirs own=2"));

    // Without the rules they are git's again.
    scene.define("resync: 1s");
    eventually(SOON, || async {
        let web = web(&scene).await;
        let note = web.annotations().get("example.com/note").context("no note")?;
        ensure!((image_of(&web).as_deref(), note.as_str()) == (Some("git2"), "git2"), "{:?}", image_of(&web));
        ensure!(scene.data("c").await.as_deref() == Some("live=git own=2"), "{:?}", scene.data("c").await);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_rule_that_cannot_be_is_refused_with_its_place() {
    let scene = Scene::with("no-rule", "ignore:\n- kind: Deployment\n  fields: ['spec.ports[0]']").await;
    scene.push([("c.yaml", config_map("c", &[("a", "1")]))]);
    let (code, output) = scene.verb(&["plan", &scene.name]).await;
    assert_ne!(code, Some(0));
    let place = format!("environments/{}/environment.yaml:10:", scene.name);
    assert!(output.contains(&place) && output.contains("by its place"), "{output}");

    // Written into the Environment by hand it is drift like any other, and plumb can read on.
    scene.define("");
    let _plumb = scene.run();
    let first = scene.push([("c.yaml", config_map("c", &[("a", "2")]))]);
    scene.deployed(first).await;
    let bad = json!({"spec": {"ignore": [{"kind": "Deployment", "name": "*", "fields": ["spec.ports[0]"]}]}});
    let environments: Api<plumb::model::Environment> = Api::all(scene.env.admin());
    environments.patch(&scene.name, &PatchParams::default(), &Patch::Merge(bad)).await.unwrap();
    eventually(SOON, || async {
        ensure!(environments.get(&scene.name).await?.spec.ignore.is_empty(), "not put back yet");
        Ok(())
    })
    .await;
    let second = scene.push([("c.yaml", config_map("c", &[("a", "3")]))]);
    scene.deployed(second).await;
}
