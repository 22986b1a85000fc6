//! What must not be taken for drift: the cluster's own controllers at work on an environment's Deployments, and autoscalers on some of them.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::figures::Figures;
use crate::harness::{Cluster, ControlPlane, eventually};
use crate::scale::Scale;
use crate::world::{LIMIT, World, install};

pub const FIGURES: &[&str] = &["drift_false_positives"];

/// One in so many Deployments has an autoscaler.
const SCALED: usize = 4;

fn name(number: usize) -> String {
    format!("web-{number:02}")
}

fn file(number: usize, revision: usize) -> (String, String) {
    let name = name(number);
    let mut text = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: 2\n  selector: {{matchLabels: {{app: {name}}}}}\n  \
         template:\n    metadata: {{labels: {{app: {name}}}, annotations: {{revision: \"{revision}\"}}}}\n    \
         spec: {{containers: [{{name: web, image: \"registry.invalid/web:1\", ports: [{{containerPort: 80}}]}}]}}\n\
         ---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: {name}}}, ports: [{{port: 80}}]}}\n"
    );
    if number.is_multiple_of(SCALED) {
        text.push_str(&format!(
            "---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: {name}}}\nspec:\n  minReplicas: 1\n  maxReplicas: 9\n  \
             scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: {name}}}\n  \
             metrics: [{{type: Resource, resource: {{name: cpu, target: {{type: Utilization, averageUtilization: 70}}}}}}]\n"
        ));
    }
    (format!("manifests/{name}.yaml"), text)
}

#[allow(clippy::cast_precision_loss)]
pub async fn run(scale: &Scale, figures: &mut Figures) {
    println!(
        "false alarms: {} Deployments, kube-controller-manager at work, {} commits",
        scale.deployments, scale.commits
    );
    let cluster = Cluster::Own(ControlPlane::start(true).into());
    install(&cluster).await;
    let world = World::new(&cluster, "alarms").await;
    let environment = world.name("dev");
    world.define([&environment]);
    let mut plumb = world.run_waiting(std::slice::from_ref(&environment)).await;
    world.repository().commit(&environment, (0..scale.deployments).map(|number| file(number, 0)));
    plumb.wait_for_log(|line| line.contains(" deployed "), LIMIT).await;
    let deployments: Api<Deployment> = Api::namespaced(world.admin(), &environment);
    for revision in 1..=scale.commits {
        let number = revision % scale.deployments;
        let lines = plumb.log_len();
        world.repository().commit(&environment, [file(number, revision)]);
        if revision.is_multiple_of(3) {
            // The autoscaler's write, made by the benchmark: there are no metrics here that it could decide from.
            let scaled = name(number / SCALED * SCALED);
            let scale = json!({"spec": {"replicas": 2 + revision % 5}});
            deployments
                .patch_scale(&scaled, &PatchParams::default(), &Patch::Merge(scale))
                .await
                .expect("it is scaled");
        }
        plumb.wait_for_log_after(lines, |line| line.contains(" deployed "), LIMIT).await;
    }
    worked_off(&deployments).await;
    tokio::time::sleep(Duration::from_secs(3)).await; // What may still come.
    let alarms: Vec<String> =
        plumb.log().into_iter().filter(|line| line.contains("WARN") && line.contains("drift")).collect();
    alarms.iter().take(5).for_each(|line| println!("  {line}"));
    let moved = deployments.list(&ListParams::default()).await.expect("a list").items;
    let moved =
        moved.iter().filter(|deployment| deployment.spec.as_ref().and_then(|spec| spec.replicas) != Some(2)).count();
    println!("  {} lines of drift; {moved} Deployments stand at the autoscaler's number of replicas", alarms.len());
    plumb.terminate(LIMIT).await;
    figures.record("drift_false_positives", alarms.len() as f64);
}

/// The controller has seen every Deployment as it is.
async fn worked_off(deployments: &Api<Deployment>) {
    eventually(LIMIT, || async {
        for deployment in deployments.list(&ListParams::default()).await?.items {
            let seen = deployment.status.and_then(|status| status.observed_generation);
            ensure!(seen == deployment.metadata.generation, "{:?} is not worked off", deployment.metadata.name);
        }
        Ok(())
    })
    .await;
}
