//! All that people read of a site, and the secrets that are looked for in it: canaries, which are nowhere else.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, LogParams};

use super::http::{ask, request};
use super::site::{Site, secrets};
use crate::harness::eventually;
use crate::scene::SOON;

/// What was said until now, and where.
#[derive(Default)]
pub struct Said(Vec<(String, String)>);

impl Said {
    /// Somebody read this there.
    pub fn add(&mut self, place: &str, text: &str) {
        assert!(!text.is_empty(), "{place} has nothing to say");
        self.0.push((place.to_owned(), text.to_owned()));
    }

    /// The logs of all containers in a namespace that have started, init containers as well. Pods take theirs with them, so this is to be asked
    /// before they go. Unless `quiet`, each has said at least that it started.
    pub async fn logs(&mut self, site: &Site, namespace: &str, quiet: bool) {
        let pods: Api<Pod> = Api::namespaced(site.scene.env.admin(), namespace);
        // A pod that goes while it is asked, or has said nothing yet, is asked again.
        let logs = eventually(SOON, || async {
            let mut logs = Vec::new();
            for pod in pods.list(&ListParams::default()).await? {
                for container in started(&pod) {
                    let place = format!("the log of {}/{container} in {namespace}", pod.name_any());
                    let params = LogParams { container: Some(container), ..LogParams::default() };
                    let text = pods.logs(&pod.name_any(), &params).await.with_context(|| place.clone())?;
                    ensure!(quiet || !text.is_empty(), "{place} has nothing to say");
                    logs.push((place, text));
                }
            }
            ensure!(logs.iter().any(|(place, _)| place.contains("/backend ")), "no backend: {logs:?}");
            Ok(logs)
        })
        .await;
        self.0.extend(logs);
    }

    /// What plumb and the cluster say of the site.
    pub async fn everything_else(&mut self, site: &Site) {
        self.add("plumb's log", &site.plumb.log().join("\n"));
        for arguments in [
            &["get", "events", "--all-namespaces", "-o", "yaml"][..],
            &["get", "environments", "-o", "yaml"],
            &["get", "deployments,replicasets,pods,services,configmaps", "--all-namespaces", "-o", "yaml"],
        ] {
            self.add(&arguments.join(" "), &site.scene.kubectl_ok(arguments, "").await);
        }
        for environment in ["dev", "staging"] {
            for verb in ["status", "history", "drift", "plan", "render"] {
                self.verb(site, &[verb, environment]).await;
            }
        }
        let metrics = ask(&site.listens, request("GET", &site.listens, "/metrics", "", None)).await.expect("an answer");
        self.add("the metrics", &metrics.1);
    }

    /// Runs a verb of plumb, which must go well, and gives what it printed.
    pub async fn verb(&mut self, site: &Site, arguments: &[&str]) -> String {
        let (code, output) = site.scene.verb(arguments).await;
        assert_eq!(code, Some(0), "plumb {arguments:?}: {output}");
        self.add(&format!("plumb {}", arguments.join(" ")), &output);
        output
    }

    /// None of it has one of these in it, or a secret of the site's.
    pub fn has_none_of(&self, more: &[&str]) {
        let secrets = secrets().into_iter().chain(more.iter().map(|secret| (*secret).to_owned())).collect::<Vec<_>>();
        for (place, text) in &self.0 {
            for secret in &secrets {
                assert!(!text.contains(secret), "{secret} is in {place}");
            }
        }
        eprintln!("{} secrets are in none of {} logs and answers", secrets.len(), self.0.len());
    }
}

/// The containers of a pod that have a log.
fn started(pod: &Pod) -> impl Iterator<Item = String> {
    let status = pod.status.clone().unwrap_or_default();
    let containers = [status.init_container_statuses, status.container_statuses].into_iter().flatten().flatten();
    containers.filter(has_log).map(|container| container.name)
}

fn has_log(container: &ContainerStatus) -> bool {
    let has_run = |state: &ContainerState| state.running.is_some() || state.terminated.is_some();
    [&container.state, &container.last_state].into_iter().flatten().any(has_run)
}
