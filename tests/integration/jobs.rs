//! Jobs that their time to live takes away once they have run.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams};

use crate::harness::{Audit, AuditMark, Change, eventually};
use crate::scene::{SOON, Scene, config_map};

/// A Job that has ended as soon as its controller sees it, and goes a second later.
fn job(note: &str) -> String {
    format!(
        "apiVersion: batch/v1
kind: Job
metadata: {{name: migrate, annotations: {{note: {note:?}}}}}
spec:
  completions: 0
  ttlSecondsAfterFinished: 1
  template:
    spec: {{restartPolicy: Never, containers: [{{name: job, image: example.org/job}}]}}
"
    )
}

impl Scene {
    fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.env.admin(), &self.namespace)
    }

    /// Waits until the Job stands no more.
    async fn has_gone(&self) {
        eventually(SOON, || async {
            let job = self.jobs().get_opt("migrate").await?;
            ensure!(job.is_none(), "it stands: {:?}", job.map(|job| (job.metadata, job.status)));
            Ok(())
        })
        .await;
    }

    /// Waits until plumb has gone over everything twice since then.
    async fn has_resynced(&self, mark: AuditMark) -> Audit {
        let audit = self.env.audit().unwrap();
        eventually(SOON, || async {
            let seen = audit.since(mark).await;
            let count = seen.of("configmaps").dry_runs().len();
            ensure!(count >= 2, "{count} dry-runs");
            Ok(seen)
        })
        .await
    }

    async fn is_healthy(&self) {
        eventually(SOON, || async {
            let status = self.environment().await.and_then(|environment| environment.status).context("a status")?;
            let healthy =
                status.conditions.iter().find(|condition| condition.type_ == "Healthy").context("a condition")?;
            ensure!(healthy.status == "True", "{healthy:?}");
            ensure!(status.drift.is_none_or(|drift| drift == 0), "{:?}", status.conditions);
            Ok(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_job_that_has_run_and_gone_does_not_run_again() {
    let scene = Scene::with("ttl", "resync: 1s").await;
    let Some(audit) = scene.env.audit() else { return };
    let first = scene.push([("job.yaml", job("one")), ("a.yaml", config_map("a", &[("x", "1")]))]);
    let mut plumb = scene.run();
    scene.deployed(first).await;
    scene.has_gone().await;

    // Neither by the watch, nor by a resync, nor beside another commit.
    let mark = audit.mark().await;
    let seen = scene.has_resynced(mark).await;
    assert!(seen.of("jobs").writes().is_empty(), "{seen:#?}");
    let second = scene.push([("a.yaml", config_map("a", &[("x", "2")]))]);
    scene.deployed(second).await;
    scene.is_healthy().await;
    // Nor after a restart, on the same commit and on another.
    plumb.kill();
    let mut plumb = scene.run();
    scene.has_resynced(audit.mark().await).await;
    scene.is_healthy().await;
    let log = plumb.log();
    assert!(!log.iter().any(|line| line.contains("drift")), "{log:#?}");
    plumb.kill();
    let third = scene.push([("a.yaml", config_map("a", &[("x", "3")]))]);
    let (code, output) = scene.verb(&["plan", &scene.name]).await;
    assert!(code == Some(0) && output.contains("0 to create, 1 to update"), "{output}");
    let (code, output) = scene.verb(&["drift", &scene.name]).await;
    assert!(code == Some(0) && !output.contains("migrate"), "{output}");
    let _plumb = scene.run();
    scene.deployed(third).await;
    let seen = scene.has_resynced(mark).await;
    assert!(seen.of("jobs").writes().is_empty(), "{seen:#?}");

    // Another content, and the same once more after a commit without it.
    let fourth = scene.push([("job.yaml", job("two"))]);
    assert_eq!(scene.deployed(fourth).await.applied, 1);
    scene.has_gone().await;
    let fifth = scene.push([("job.yaml", Change::Remove)]);
    scene.deployed(fifth).await;
    let sixth = scene.push([("job.yaml", job("two"))]);
    assert_eq!(scene.deployed(sixth).await.applied, 1);
    scene.has_gone().await;

    // What it did went with its namespace.
    let mark = audit.mark().await;
    let namespaces: Api<Namespace> = Api::all(scene.env.admin());
    let uid = namespaces.get(&scene.namespace).await.unwrap().uid();
    namespaces.delete(&scene.namespace, &DeleteParams::default()).await.unwrap();
    eventually(SOON, || async {
        ensure!(!audit.since(mark).await.of("jobs").writes().is_empty(), "it is not made in the new namespace");
        Ok(())
    })
    .await;
    assert_ne!(namespaces.get(&scene.namespace).await.unwrap().uid(), uid);
}
