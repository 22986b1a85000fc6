//! `deploy/`: what it holds is accepted, and its rights are enough for all that plumb does, and no more.

mod least;

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::ensure;
use k8s_openapi::api::apps::v1::Deployment;
use plumb::build::ignore::{Ignore, Verdict};
use plumb::cluster::{Cluster, aggregated, images};
use serde::Deserialize as _;

use crate::harness::{AuditLog, Change, Plumb, client, eventually};
use crate::pod::stand::run;
use crate::scene::{SOON, Scene, config_map, file_of};
use least::{Right, bindings, granted, listed, right, used};

/// A file of `deploy/`.
fn file(name: &str) -> String {
    std::fs::read_to_string(format!("{}/deploy/{name}", env!("CARGO_MANIFEST_DIR"))).expect("a file of deploy/")
}

/// What the scene below does not use.
fn not_exercised() -> [Right; 1] {
    // No node, so no container, so no log: `pod::trouble` reads one with the rights of `deploy/`.
    [right("", "pods/log", "get")]
}

#[tokio::test]
async fn the_rights_of_deploy_are_enough_for_all_that_plumb_does_and_all_are_used() {
    // The workload's pods never come: out of time, plumb looks into why.
    let scene = Scene::with("rights", "deletionPolicy: delete\ntimeout: 1s").await;
    if scene.env.audit().is_none() {
        return;
    }
    let (user, kubeconfig) = scene.env.plain_user("pod").unwrap();
    let log = scene.env.cluster().control_plane().unwrap().audit_log();
    let audit = AuditLog::new(log, user.clone(), client(&kubeconfig).await);
    for name in ["namespace.yaml", "rights.yaml", "deployer.yaml"] {
        scene.kubectl_ok(&["apply", "--server-side", "-f", "-"], &file(name)).await;
    }
    for role in ["plumb", "plumb-deployer"] {
        let (name, role) = (scene.env.name(role), format!("--clusterrole={role}"));
        scene.kubectl_ok(&["create", "clusterrolebinding", &name, &role, &format!("--user={user}")], "").await;
    }
    scene.may(&user, "list", "environments.plumb.dev").await;
    scene.may(&user, "list", "configmaps").await;

    let mark = audit.mark().await;
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hunter2}\n";
    let first = scene.push([
        ("a.yaml", config_map("a", &[("x", "1")])),
        ("b.yaml", config_map("b", &[("x", "1")])),
        ("s.yaml", secret.to_owned()),
        ("web.yaml", WEB.to_owned()),
        ("more.yaml", MORE.to_owned()),
    ]);
    let repository = scene.env.repository().path();
    let mut plumb = Plumb::spawn(&kubeconfig, ["run", "--repo", &repository.to_string_lossy(), "--instance", "pod"]);
    let entry = scene.ended(first).await;
    assert!(entry.stage.as_deref().is_none_or(|stage| stage == "health"), "{entry:?}");
    scene.condition("Healthy", |healthy| healthy.reason == "TimedOut").await;
    let second = scene.push([("b.yaml", Change::Remove)]);
    assert_eq!(scene.ended(second).await.pruned, 1);

    let patch = r#"{"data":{"x":"by hand"}}"#;
    scene.kubectl_ok(&["patch", "configmap", "a", "-n", &scene.namespace, "--patch", patch], "").await;
    plumb.wait_for_log(|line| line.contains("drift") && line.contains("ConfigMap"), SOON).await;
    scene.data_becomes("a", Some("x=1")).await;
    scene.kubectl_ok(&["delete", "secret", "s", "-n", &scene.namespace], "").await;
    plumb.wait_for_log(|line| line.contains("drift") && line.contains("Secret"), SOON).await;

    let definition = file_of(&scene.name);
    let undefined = scene.env.repository().commit("main", [(definition, Change::Remove)]);
    plumb.wait_for_log(|line| line.contains("its objects are not deleted"), SOON).await;
    let approval = format!("plumb.dev/confirm-prune={undefined}");
    scene.kubectl_ok(&["annotate", "environment", &scene.name, &approval], "").await;
    plumb.wait_for_log(|line| line.contains("removed: it has no objects"), SOON).await;
    assert!(plumb.terminate(SOON).await.success());

    // What takes images that were built, or a removed environment with a kind that is not served, plumb's code asks here without them.
    let cluster = Cluster::connect(Some(kubeconfig.as_path()), None).await.unwrap();
    images::named(&cluster.caller).await.unwrap();
    aggregated::groups(&cluster.caller).await.unwrap();

    let granted = granted(&["plumb", "plumb-deployer"]);
    // That a watch has ended is logged when the API server comes to it.
    let seen = eventually(SOON, || async {
        let seen = audit.since_with_watches(mark).await;
        let unused = listed(granted.difference(&used(&seen)).filter(|right| right.verb == "watch"));
        ensure!(unused.is_empty(), "deploy/ grants what nothing here needs: {unused}");
        Ok(seen)
    })
    .await;
    let refused = seen.only(|event| event.code() == 403);
    assert!(refused.is_empty() && !seen.writes().is_empty(), "{refused:#?}");
    let needed: BTreeSet<_> = used(&seen).into_iter().chain(not_exercised()).collect();
    let unused = listed(granted.difference(&needed));
    assert!(unused.is_empty(), "deploy/ grants what nothing here needs: {unused}");
}

/// What the scene above looks at is all that the service accounts of `deploy/` have.
#[test]
fn the_service_accounts_of_deploy_have_these_roles_alone() {
    let all = ["plumb-builder: plumb-builder/plumb-builder", "plumb-deployer: plumb/plumb", "plumb: plumb/plumb"];
    assert_eq!(bindings(), all.map(str::to_owned).into());
    assert_eq!(granted(&["plumb-builder"]), [right("authentication.k8s.io", "tokenreviews", "create")].into());
}

#[tokio::test]
async fn what_deploy_holds_is_accepted_and_its_pods_are_restricted() {
    let scene = Scene::new("deploy").await;
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");
    scene.kubectl_ok(&["apply", "--server-side", "-f", "-"], &file("namespace.yaml")).await;
    let strict =
        ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts", "-k", directory];
    let output = scene.kubectl_ok(&strict, "").await;
    assert!(!output.contains("Warning"), "Pod Security: {output}");
    for pods in ["deployment.apps/plumb ", "deployment.apps/plumb-builder "] {
        assert!(output.contains(pods), "{output}");
    }
}

/// `minikube image build` sends what `.dockerignore` leaves, and looks for the Dockerfile in that.
#[test]
fn the_context_of_plumbs_image_has_what_its_build_needs() {
    let text = include_bytes!("../../.dockerignore");
    let ignore = Ignore::parse(text).unwrap();
    for file in ["Dockerfile", "Cargo.toml", "Cargo.lock"] {
        assert!(!ignore.verdict(file, None).ignored, "{file}");
    }
    assert!(ignore.verdict("target", None).ignored);
    // Cargo builds nothing where a target's file is missing.
    let root = env!("CARGO_MANIFEST_DIR");
    let metadata = ["metadata", "--no-deps", "--format-version=1", "--offline", "--locked"];
    let metadata = run(Command::new(env!("CARGO")).args(metadata).current_dir(root));
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let targets = metadata["packages"][0]["targets"].as_array().unwrap();
    for target in targets {
        let file = target["src_path"].as_str().unwrap().strip_prefix(&format!("{root}/")).unwrap();
        let ends = file.match_indices('/').map(|(at, _)| at).chain([file.len()]);
        let verdict = ends.fold(None, |parent: Option<Verdict>, end| {
            Some(ignore.verdict(&file[..end], parent.as_ref().map(|parent| &parent.matched)))
        });
        assert!(!verdict.unwrap().ignored, "{file}");
    }
    assert!(targets.len() > 2, "{targets:#?}");
}

/// A directory with a copy of `deploy/` beside a kustomization that a page shows: the one that begins with this comment.
pub fn kustomization_of(page: &str, comment: &str) -> tempfile::TempDir {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join(page)).unwrap();
    let (_, after) = text.split_once(&format!("```yaml\n{comment}\n")).expect("the page has the kustomization");
    let (text, _) = after.split_once("```").unwrap();
    let directory = tempfile::tempdir().unwrap();
    for part in ["deploy", "deploy/docker", "deploy/push"] {
        let copied = directory.path().join(part);
        std::fs::create_dir(&copied).unwrap();
        for entry in std::fs::read_dir(root.join(part)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::copy(&path, copied.join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    std::fs::write(directory.path().join("kustomization.yaml"), text).unwrap();
    directory
}

#[tokio::test]
async fn the_kustomization_of_the_readme_reads_a_url() {
    let scene = Scene::new("deployurl").await;
    let directory = kustomization_of("README.md", "# kustomization.yaml");
    let rendered = scene.kubectl_ok(&["kustomize", directory.path().to_str().unwrap()], "").await;
    assert!(rendered.contains("value: https://git.example.com/team/environments.git"), "{rendered}");
    assert!(!rendered.contains("/repositories/repository.git"), "{rendered}");
}

#[tokio::test]
async fn with_the_component_for_docker_the_builder_has_dockerds_socket_alone() {
    let scene = Scene::new("deploydocker").await;
    let directory = kustomization_of("docs/minikube.md", "# kustomization.yaml, for the Docker runtime");
    let path = directory.path().to_str().unwrap();
    let rendered = scene.kubectl_ok(&["kustomize", path], "").await;
    let builder: Deployment = serde_yaml::Deserializer::from_str(&rendered)
        .map(|document| serde_json::Value::deserialize(document).unwrap())
        .find(|object| object["kind"] == "Deployment" && object["metadata"]["name"] == "plumb-builder")
        .map(|object| serde_json::from_value(object).unwrap())
        .expect("a Deployment plumb-builder");
    let pod = builder.spec.unwrap().template.spec.unwrap();
    let volumes: Vec<_> = pod.volumes.unwrap().into_iter().map(|volume| volume.host_path.unwrap().path).collect();
    assert_eq!(volumes, ["/var/run/docker.sock"]);
    let mounts: Vec<_> = pod.containers[0].volume_mounts.iter().flatten().map(|mount| &mount.mount_path).collect();
    assert_eq!(mounts, ["/run/docker.sock"]);
    let env = |name: &str| pod.containers[0].env.iter().flatten().find(|env| env.name == name);
    assert_eq!(env("PLUMB_BUILDER").unwrap().value.as_deref(), Some("docker+unix:///run/docker.sock"));
    assert!(env("PLUMB_CONTAINERD").is_none(), "containerd is not there");

    scene.kubectl_ok(&["apply", "--server-side", "-f", "-"], &file("namespace.yaml")).await;
    let strict = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts", "-k", path];
    let output = scene.kubectl_ok(&strict, "").await;
    assert!(output.contains("deployment.apps/plumb-builder ") && !output.contains("Warning"), "{output}");
}

/// A workload whose pods never come: a control plane has no node.
const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: web:1}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80}]
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  maxReplicas: 3
";

/// One of each of the other kinds that the deployer may write. None has a pod.
const MORE: &str = "apiVersion: v1
kind: ServiceAccount
metadata: {name: more}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: more}
spec: {accessModes: [ReadWriteOnce], storageClassName: none, resources: {requests: {storage: 1Mi}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: more}
spec:
  replicas: 0
  serviceName: web
  selector: {matchLabels: {app: more}}
  template:
    metadata: {labels: {app: more}}
    spec:
      containers: [{name: more, image: more:1}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: more}
spec:
  selector: {matchLabels: {app: each}}
  template:
    metadata: {labels: {app: each}}
    spec:
      containers: [{name: more, image: more:1}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: more}
spec:
  suspend: true
  template:
    spec:
      restartPolicy: Never
      containers: [{name: more, image: more:1}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: more}
spec:
  suspend: true
  schedule: 0 0 * * *
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: more, image: more:1}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: more}
spec:
  defaultBackend: {service: {name: web, port: {number: 80}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: more}
spec: {podSelector: {}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: more}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: web}}}
";
