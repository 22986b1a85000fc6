//! What a large environment holds in memory: after its first sync and a commit, after a restart beside all that stands, and of workloads.

use futures::{StreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::figures::Figures;
use crate::first_sync::mib;
use crate::scale::Scale;
use crate::world::{LIMIT, World, cluster, file, files};

pub const FIGURES: &[&str] = &["rss_mib_10000", "rss_mib_10000_restart", "bytes_per_object"];
pub const WORKLOAD_FIGURES: &[&str] = &["rss_mib_2000_workloads", "bytes_per_workload"];

pub async fn run(scale: &Scale, figures: &mut Figures) {
    println!("memory: 1 environment of {} ConfigMaps", scale.most_objects);
    let cluster = cluster().await;
    let world = World::new(&cluster, "memory").await;
    let name = world.name("dev");
    world.define([&name]);
    let pushed = world.push(&[(&name, files(scale.most_objects))]);
    let mut plumb = world.run_waiting(std::slice::from_ref(&name)).await;
    let empty = plumb.rss();
    world.move_branches(&pushed);
    plumb.wait_for_log(|line| line.contains(" deployed "), LIMIT).await;
    let synced = plumb.peak_rss();
    let seen = plumb.log_len();
    world.repository().commit(&name, [file(0, 1)]);
    plumb.wait_for_log_after(seen, |line| line.contains(" deployed "), LIMIT).await;
    let (peak, now) = (plumb.peak_rss(), plumb.rss());
    plumb.terminate(LIMIT).await;
    println!(
        "  peak {:.1} MiB after the first sync, {:.1} MiB after one more commit; {:.1} MiB held at the end",
        mib(synced),
        mib(peak),
        mib(now)
    );
    figures.record("rss_mib_10000", mib(peak));
    // Manifests included: plumb keeps what git asks for, to put it back without rendering.
    #[allow(clippy::cast_precision_loss)]
    figures.record("bytes_per_object", now.saturating_sub(empty) as f64 / scale.most_objects as f64);

    let mut plumb = world.run();
    plumb.wait_for_log(|line| line.contains(" deployed "), LIMIT).await;
    let (peak, now) = (plumb.peak_rss(), plumb.rss());
    plumb.terminate(LIMIT).await;
    println!("  after a restart: peak {:.1} MiB, {:.1} MiB held", mib(peak), mib(now));
    figures.record("rss_mib_10000_restart", mib(peak));
}

/// Deployments are watched whole, since their status says how they are; of ConfigMaps only metadata comes.
pub async fn workloads(scale: &Scale, figures: &mut Figures) {
    println!("memory: 1 environment of {} Deployments without replicas", scale.workloads);
    let cluster = cluster().await;
    let world = World::new(&cluster, "workloads").await;
    let name = world.name("dev");
    world.define([&name]);
    let files = (0..scale.workloads).map(|number| (format!("manifests/{}.yaml", workload(number)), deployment(number)));
    let pushed = world.push(&[(&name, files.collect())]);
    let mut plumb = world.run_waiting(std::slice::from_ref(&name)).await;
    let empty = plumb.rss();
    world.move_branches(&pushed);
    plumb.wait_for_log(|line| line.contains(" deployed "), LIMIT).await;
    roll_out(&world, &name, scale.workloads).await;
    plumb.wait_for_log(|line| line.contains(" healthy "), LIMIT).await;
    let (peak, now) = (plumb.peak_rss(), plumb.rss());
    plumb.terminate(LIMIT).await;
    println!("  peak {:.1} MiB, {:.1} MiB held once all are rolled out", mib(peak), mib(now));
    figures.record("rss_mib_2000_workloads", mib(peak));
    #[allow(clippy::cast_precision_loss)]
    figures.record("bytes_per_workload", now.saturating_sub(empty) as f64 / scale.workloads as f64);
}

/// The controller's part, made by the benchmark: a real one takes minutes for so many.
async fn roll_out(world: &World, namespace: &str, count: usize) {
    let api: Api<Deployment> = Api::namespaced(world.admin(), namespace);
    let condition = |type_: &str, reason: &str| {
        let at = "2026-01-01T00:00:00Z";
        json!({"type": type_, "status": "True", "reason": reason, "lastUpdateTime": at, "lastTransitionTime": at})
    };
    let conditions =
        [condition("Available", "MinimumReplicasAvailable"), condition("Progressing", "NewReplicaSetAvailable")];
    let status = Patch::Merge(json!({"status": {"observedGeneration": 1, "conditions": conditions}}));
    let params = PatchParams { field_manager: Some("kube-controller-manager".to_owned()), ..PatchParams::default() };
    let one = async |number| {
        api.patch_status(&workload(number), &params, &status).await.expect("the API server takes it");
    };
    stream::iter(0..count).map(one).buffer_unordered(16).collect::<()>().await;
}

fn workload(number: usize) -> String {
    format!("web-{number:05}")
}

/// As long as those of an ordinary application.
fn deployment(number: usize) -> String {
    let (name, port) = (workload(number), 1024 + number % 60_000);
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  labels:
    app.kubernetes.io/name: {name}
    app.kubernetes.io/part-of: bench
spec:
  replicas: 0
  revisionHistoryLimit: 3
  selector:
    matchLabels:
      app.kubernetes.io/name: {name}
  template:
    metadata:
      labels:
        app.kubernetes.io/name: {name}
        app.kubernetes.io/part-of: bench
    spec:
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
      containers:
        - name: web
          image: registry.invalid/{name}:1.{number}
          args: [--listen, \"0.0.0.0:{port}\"]
          env:
            - name: DATABASE_URL
              valueFrom:
                secretKeyRef:
                  name: {name}
                  key: url
            - name: LOG_LEVEL
              value: info
          ports:
            - name: http
              containerPort: {port}
          readinessProbe:
            httpGet:
              path: /ready
              port: http
          resources:
            requests:
              cpu: 20m
              memory: 64Mi
            limits:
              memory: 128Mi
"
    )
}
