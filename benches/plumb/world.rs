//! A control plane, repositories and environments full of small ConfigMaps.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::{StreamExt, stream};
use git2::Oid;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use plumb::model::{Environment, applyset};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::bare::Body;
use crate::harness::{AuditLog, Cluster, ControlPlane, Plumb, ScratchRepository, TestEnv, eventually};

/// Anything that takes longer than this has gone wrong.
pub const LIMIT: Duration = Duration::from_secs(300);

/// A control plane of its own, with plumb's custom resource. No controller-manager: its work would be measured too.
pub async fn cluster() -> Cluster {
    let cluster = Cluster::Own(ControlPlane::start(false).into());
    install(&cluster).await;
    cluster
}

/// Installs plumb's custom resource.
pub async fn install(cluster: &Cluster) {
    let api: Api<CustomResourceDefinition> = Api::all(TestEnv::on(cluster.clone(), "crd").await.admin());
    api.create(&PostParams::default(), &Environment::crd()).await.expect("the custom resource definition");
    eventually(LIMIT, || async {
        let status = api.get(Environment::crd_name()).await?.status.context("no status yet")?;
        let established = status.conditions.unwrap_or_default();
        ensure!(established.iter().any(|c| c.type_ == "Established" && c.status == "True"), "not established yet");
        Ok(())
    })
    .await;
}

/// A repository that plumb reads and one that commits are pushed from, a user, and names that nobody else has.
pub struct World {
    env: TestEnv,
    laptop: ScratchRepository,
}

impl World {
    pub async fn new(cluster: &Cluster, name: &str) -> Self {
        Self { env: TestEnv::on(cluster.clone(), name).await, laptop: ScratchRepository::new() }
    }

    /// The name of an environment, its branch and its namespace.
    pub fn name(&self, suffix: &str) -> String {
        self.env.name(suffix)
    }

    /// What plumb and the bare client request: they use one user, one after the other.
    pub fn audit(&self) -> &AuditLog {
        self.env.audit().expect("the cluster is the benchmark's own")
    }

    pub async fn client(&self) -> kube::Client {
        self.env.client().await
    }

    /// One whose requests are not counted.
    pub fn admin(&self) -> kube::Client {
        self.env.admin()
    }

    /// The repository that plumb reads.
    pub fn repository(&self) -> &ScratchRepository {
        self.env.repository()
    }

    pub async fn create_namespace(&self, suffix: &str) -> String {
        self.env.create_namespace(suffix).await
    }

    /// Defines environments, each with its own branch and namespace of the same name, on the configuration branch.
    pub fn define<'a>(&self, names: impl IntoIterator<Item = &'a String>) {
        let definition = |name: &String| {
            let spec = json!({"branch": name, "namespace": name, "path": "manifests"});
            let definition = json!({
                "apiVersion": "plumb.dev/v1alpha1", "kind": "Environment", "metadata": {"name": name}, "spec": spec,
            });
            (format!("environments/{name}/environment.yaml"), definition.to_string())
        };
        self.repository().commit("main", names.into_iter().map(definition));
    }

    /// Starts `plumb run`, answering probes and scrapes as in its pod.
    pub fn run(&self) -> Plumb {
        let repository = self.repository().path();
        let args = ["run".as_ref(), "--repo".as_ref(), repository.as_os_str()];
        Plumb::spawn(self.env.kubeconfig(), args.into_iter().chain(["--listen", "127.0.0.1:0"].map(AsRef::as_ref)))
    }

    /// Starts `plumb run` and waits until all these environments, whose branches are still missing, are taken up.
    pub async fn run_waiting(&self, names: &[String]) -> Plumb {
        let mut plumb = self.run();
        for name in names {
            let environment = format!("environment={name} ");
            plumb.wait_for_log(|line| line.contains("no such branch") && line.contains(&environment), LIMIT).await;
        }
        plumb
    }

    /// Pushes what these branches will be, in one push, as a pack. The branches themselves do not move yet, so that writing the
    /// objects is not measured: [`Self::move_branches`] does what ends a push.
    pub fn push(&self, branches: &[(&String, Vec<(String, String)>)]) -> Vec<(String, Oid)> {
        let commits: Vec<(String, Oid)> = branches
            .iter()
            .map(|(branch, files)| ((*branch).clone(), self.laptop.commit(branch, files.iter().cloned())))
            .collect();
        let laptop = self.laptop.open();
        let target = self.repository().path();
        let mut remote = laptop.remote_anonymous(target.to_str().expect("a path in UTF-8")).expect("a remote");
        let refs: Vec<String> =
            commits.iter().map(|(branch, _)| format!("refs/heads/{branch}:refs/pushed/{branch}")).collect();
        remote.push(&refs, None).expect("the push is taken");
        commits
    }

    /// Moves branches in one transaction.
    pub fn move_branches(&self, branches: &[(String, Oid)]) {
        let repository = self.repository().open();
        let mut transaction = repository.transaction().expect("a transaction");
        let name = |branch: &str| format!("refs/heads/{branch}");
        for (branch, _) in branches {
            transaction.lock_ref(&name(branch)).expect("nobody else holds the reference");
        }
        for (branch, commit) in branches {
            transaction.set_target(&name(branch), *commit, None, "push").expect("the reference takes it");
        }
        transaction.commit().expect("the references move");
    }

    /// Deletes all environments and all objects, so that what comes next has the cluster to itself.
    pub async fn clear(&self) {
        let (one, all) = (DeleteParams::background(), ListParams::default());
        let environments: Api<Environment> = Api::all(self.admin());
        environments.delete_collection(&one, &all).await.expect("the environments go");
        let api: Api<ConfigMap> = Api::all(self.admin());
        let objects = api.list_metadata(&all).await.expect("a list").items.into_iter().map(|object| object.metadata);
        let ours = objects.filter(|object| object.name.as_ref().is_some_and(|name| name.starts_with(PREFIX)));
        let delete = async |object: kube::core::ObjectMeta| {
            let (namespace, name) = (object.namespace.unwrap_or_default(), object.name.unwrap_or_default());
            let api: Api<ConfigMap> = Api::namespaced(self.admin(), &namespace);
            api.delete(&name, &one).await.expect("the object goes");
        };
        stream::iter(ours).map(delete).buffer_unordered(16).collect::<()>().await;
    }
}

/// Waits until `/readyz` says yes. It is asked often: how long this takes is a figure.
pub async fn ready(plumb: &mut Plumb) {
    let line = plumb.wait_for_log(|line| line.contains("answering /livez"), LIMIT).await;
    let address = line.split("address=").nth(1).expect("the address").trim();
    let yes = async {
        while !is_ready(address).await.expect("plumb answers") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, yes).await.expect("plumb becomes ready");
}

async fn is_ready(address: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: plumb\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}

const PREFIX: &str = "settings-";

/// The name of a small ConfigMap.
pub fn object_name(number: usize) -> String {
    format!("{PREFIX}{number:05}")
}

fn text(number: usize) -> String {
    format!("service {number} listens on port {} and keeps its records for thirty days", 1024 + number % 60_000)
}

/// A small ConfigMap as a file of an environment.
pub fn file(number: usize, revision: usize) -> (String, String) {
    let name = object_name(number);
    let yaml = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  labels:\n    app: bench\n    part: settings\ndata:\n  revision: \"{revision}\"\n  text: {}\n",
        text(number)
    );
    (format!("manifests/{name}.yaml"), yaml)
}

/// The files of an environment.
pub fn files(count: usize) -> Vec<(String, String)> {
    (0..count).map(|number| file(number, 0)).collect()
}

/// The same objects as plumb sends them.
pub fn bodies(namespace: &str, count: usize) -> Vec<Body> {
    let body = |number| {
        let name = object_name(number);
        let labels = json!({"app": "bench", "part": "settings", applyset::PART_OF: applyset::id(namespace)});
        let json = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "data": {"revision": "0", "text": text(number)},
        });
        Body { namespace: namespace.to_owned(), name, json }
    };
    (0..count).map(body).collect()
}
