//! A test's own corner of the cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams};

use super::audit::AuditLog;
use super::cluster::{Cluster, client};
use super::repository::ScratchRepository;

/// Names that no other test has, a repository, and a user.
///
/// Tests share the cluster, so whatever one makes in it carries a name from [`TestEnv::name`].
pub struct TestEnv {
    prefix: String,
    cluster: Cluster,
    repository: ScratchRepository,
    user: String,
    kubeconfig: PathBuf,
    admin: kube::Client,
    audit: Result<AuditLog, String>,
}

impl TestEnv {
    /// In the shared cluster. `name` is the test's: at most 20 lower-case letters, digits and hyphens.
    pub async fn new(name: &str) -> Self {
        Self::on(Cluster::shared(), name).await
    }

    /// In `cluster`.
    pub async fn on(cluster: Cluster, name: &str) -> Self {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(name.len() <= 20 && name.chars().all(plain), "not a name for a test environment: {name}");
        let prefix = format!("t-{name}-{:06x}", rand::random::<u32>() & 0xff_ffff);
        let user = format!("plumb-{prefix}");
        let admin = client(&cluster.admin_kubeconfig()).await;
        let (kubeconfig, audit) = match cluster.control_plane() {
            Ok(control_plane) => {
                let kubeconfig = control_plane.user(&user, &["plumb-testers", "plumb-admins"]);
                let log = AuditLog::new(control_plane.audit_log(), user.clone(), client(&kubeconfig).await);
                (kubeconfig, Ok(log))
            }
            Err(reason) => (cluster.admin_kubeconfig(), Err(reason)),
        };
        Self { prefix, cluster, repository: ScratchRepository::new(), user, kubeconfig, admin, audit }
    }

    /// `suffix` made unique, for namespaces, environments and other cluster-wide names; valid as a DNS label.
    pub fn name(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.prefix)
    }

    /// The cluster that it is in.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Its git repository, empty at first.
    pub fn repository(&self) -> &ScratchRepository {
        &self.repository
    }

    /// plumb's own user in this test, a cluster admin by RBAC; in a given cluster that kubeconfig's user stands in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The kubeconfig of [`Self::user`].
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Another user, without any right; its requests are in the audit log too, under the name that is returned.
    ///
    /// # Errors
    /// The words to skip the test with, in a given cluster.
    pub fn plain_user(&self, suffix: &str) -> Result<(String, PathBuf), String> {
        let name = format!("{}-{suffix}", self.user);
        let kubeconfig = self.cluster.control_plane()?.user(&name, &["plumb-testers"]);
        Ok((name, kubeconfig))
    }

    /// A client that may do everything, and that the audit log does not hold.
    pub fn admin(&self) -> kube::Client {
        self.admin.clone()
    }

    /// A client as [`Self::user`].
    pub async fn client(&self) -> kube::Client {
        client(&self.kubeconfig).await
    }

    /// What [`Self::user`] requested. `None` in a given cluster; the reason has then been printed, and the test
    /// should return.
    pub fn audit(&self) -> Option<&AuditLog> {
        self.audit.as_ref().inspect_err(|reason| eprintln!("{reason}")).ok()
    }

    /// Makes the namespace [`Self::name`]`(suffix)`, as the admin.
    pub async fn create_namespace(&self, suffix: &str) -> String {
        let name = self.name(suffix);
        let labels = BTreeMap::from([("plumb-test".to_owned(), self.prefix.clone())]);
        let metadata = ObjectMeta { name: Some(name.clone()), labels: Some(labels), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        let api: Api<Namespace> = Api::all(self.admin());
        api.create(&PostParams::default(), &namespace).await.expect("a namespace");
        name
    }
}

impl Drop for TestEnv {
    /// A cluster of the harness goes as a whole; somebody's is left as it was found, namespaces going in the background.
    fn drop(&mut self) {
        let Cluster::Given(kubeconfig) = &self.cluster else { return };
        let (kubeconfig, prefix) = (kubeconfig.clone(), format!("{}-", self.prefix));
        // On a thread of its own, since drop is not async and may be on a runtime.
        let clean = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(delete_namespaces(&kubeconfig, &prefix))
        });
        if let Ok(Err(error)) = clean.join() {
            eprintln!("the namespaces {}-* stay behind: {error:#}", self.prefix);
        }
    }
}

async fn delete_namespaces(kubeconfig: &Path, prefix: &str) -> anyhow::Result<()> {
    let api: Api<Namespace> = Api::all(client(kubeconfig).await);
    for namespace in api.list_metadata(&ListParams::default()).await? {
        let name = namespace.metadata.name.unwrap_or_default();
        if name.starts_with(prefix) {
            api.delete(&name, &DeleteParams::background()).await?;
        }
    }
    Ok(())
}
