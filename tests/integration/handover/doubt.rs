//! An object moves to an environment whose head is not rendered yet: because it is slow, or because helm can't be started just then.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use git2::Oid;
use tempfile::TempDir;

use super::{Two, at_once};
use crate::harness::{Plumb, eventually};
use crate::scene::{SOON, condition, config_map};

/// Environments `one`, whose objects are files, and `two`, which is a chart; and a helm that can be held up.
struct Doubt {
    two: Two,
    /// Stands before the real helm on the PATH.
    bin: TempDir,
}

impl Doubt {
    async fn new(name: &str) -> Self {
        Self { two: Two::new(name).await, bin: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.bin.path().join(name)
    }

    /// `one` has the shared object and `two` its first chart, and both are deployed. Gives the object's uid.
    async fn begin(&self, more: &[&str]) -> (Plumb, String) {
        let (first, second) = (self.two.push("one", Some("1"), "1"), self.chart(1, false));
        let plumb = self.run(more);
        self.two.scene.deployed_in(&self.two.one, first).await;
        self.two.scene.deployed_in(&self.two.two, second).await;
        (plumb, self.two.owned_by(&self.two.one, "one=1").await)
    }

    /// Starts plumb with this helm.
    fn run(&self, more: &[&str]) -> Plumb {
        let scene = &self.two.scene;
        let (repository, instance) = (scene.env.repository().path().to_owned(), scene.instance());
        let args = ["run", "--repo", repository.to_str().unwrap(), "--instance", &instance];
        Plumb::spawn_with(scene.env.kubeconfig(), args.iter().chain(more), |command| {
            let path = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, path)| path).unwrap();
            let path = path.to_owned();
            self.write_helm(&path);
            let all = std::iter::once(self.bin.path().to_owned()).chain(std::env::split_paths(&path));
            command.env("PATH", std::env::join_paths(all).unwrap());
        })
    }

    /// A helm that says which version of the chart it has begun with, and goes on when that is not held.
    fn write_helm(&self, path: &OsString) {
        let real = std::env::split_paths(path).map(|directory| directory.join("helm")).find(|file| file.is_file());
        let (real, bin) = (real.expect("a helm"), self.bin.path().display());
        // Its PATH is empty: what it needs is the shell's own.
        let script = format!(
            "#!/bin/sh\nwhile read -r key value; do [ \"$key\" = version: ] && version=$value; done < \"$3/Chart.yaml\"\n\
             : > {bin}/began-$version\nwhile [ -e {bin}/hold-$version ]; do /bin/sleep 0.01; done\nexec {} \"$@\"\n",
            real.display()
        );
        write_program(&self.file("helm"), &script);
    }

    /// Pushes a version of the chart, with the shared object or without.
    fn chart(&self, version: u32, shared: bool) -> Oid {
        let text = version.to_string();
        let change = if shared { config_map("shared", &[("two", &text)]) } else { "# not here\n".to_owned() };
        let files = [
            ("Chart.yaml", format!("apiVersion: v2\nname: two\nversion: 0.{version}.0\n")),
            ("templates/own.yaml", config_map("own-two", &[("x", &text)])),
            ("templates/shared.yaml", change),
        ];
        self.two.scene.push_to("two", files)
    }

    fn hold(&self, version: u32) {
        fs::write(self.file(&format!("hold-0.{version}.0")), "").unwrap();
    }

    fn release(&self, version: u32) {
        fs::remove_file(self.file(&format!("hold-0.{version}.0"))).unwrap();
    }

    async fn began(&self, version: u32) {
        let file = self.file(&format!("began-0.{version}.0"));
        eventually(SOON, || async {
            ensure!(file.exists(), "version {version} is not being rendered");
            Ok(())
        })
        .await;
    }

    /// From now on helm can't be started.
    fn take_helm(&self) {
        fs::rename(self.file("helm"), self.file("away")).unwrap();
    }

    fn bring_helm(&self) {
        fs::rename(self.file("away"), self.file("helm")).unwrap();
    }

    /// Waits until the rest of a commit of `one` is written, and only what it no longer has is left of it.
    async fn written(&self, own: &str) {
        self.two.scene.data_becomes("own-one", Some(&format!("x={own}"))).await;
    }

    async fn uid(&self) -> Option<String> {
        self.two.scene.config_maps().get_opt("shared").await.unwrap()?.metadata.uid
    }
}

fn write_program(file: &Path, script: &str) {
    fs::write(file, script).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn an_object_moves_to_a_head_while_an_older_one_is_rendered() {
    let doubt = Doubt::new("older").await;
    let (two, scene) = (&doubt.two, &doubt.two.scene);
    let (plumb, uid) = doubt.begin(&[]).await;
    doubt.hold(2);
    doubt.hold(3);
    doubt.chart(2, false);
    doubt.began(2).await;
    let mut pushed = None;
    at_once(&plumb, || pushed = Some((two.push("one", None, "2"), doubt.chart(3, true))));
    let (from, to) = pushed.unwrap();
    doubt.written("2").await;
    // The render of the older head ends, and says nothing of the object.
    doubt.release(2);
    doubt.began(3).await;
    doubt.release(3);
    assert_eq!(two.owned_by(&two.two, "two=3").await, uid);
    scene.deployed_in(&two.two, to).await;
    scene.deployed_in(&two.one, from).await;
}

#[tokio::test]
async fn an_object_moves_to_a_head_that_cant_be_rendered_at_first() {
    let doubt = Doubt::new("transient").await;
    let (two, scene) = (&doubt.two, &doubt.two.scene);
    let (plumb, uid) = doubt.begin(&[]).await;
    doubt.take_helm();
    let mut pushed = None;
    at_once(&plumb, || pushed = Some((two.push("one", None, "2"), doubt.chart(2, true))));
    let (from, to) = pushed.unwrap();
    let message = scene.ended_in(&two.two, to).await.message.unwrap_or_default();
    assert!(message.contains("cannot start helm"), "{message}");
    // The rest of the commit does not wait for it.
    doubt.written("2").await;
    assert_eq!(doubt.uid().await.as_ref(), Some(&uid));
    doubt.bring_helm();
    assert_eq!(two.owned_by(&two.two, "two=2").await, uid);
    scene.deployed_in(&two.two, to).await;
    scene.deployed_in(&two.one, from).await;
}

#[tokio::test]
async fn what_a_suspended_environment_asks_for_is_not_deleted_before_that_is_known() {
    let doubt = Doubt::new("suspended").await;
    let (two, scene) = (&doubt.two, &doubt.two.scene);
    let (plumb, uid) = doubt.begin(&[]).await;
    scene.define_other(&two.two, "two", "manifests", "suspend: true");
    eventually(SOON, || async {
        let status = scene.environment_of(&two.two).await.and_then(|environment| environment.status);
        let synced = status.and_then(|status| Some(condition(&status, "Synced")?.reason.clone()));
        ensure!(synced.as_deref() == Some("Suspended"), "it says {synced:?}");
        Ok(())
    })
    .await;
    doubt.take_helm();
    let mut pushed = None;
    at_once(&plumb, || pushed = Some((two.push("one", None, "2"), doubt.chart(2, true))));
    let (from, _) = pushed.unwrap();
    doubt.written("2").await;
    assert_eq!(doubt.uid().await.as_ref(), Some(&uid));
    // It is tried again by itself, and the object stays where it is until the suspension ends.
    doubt.bring_helm();
    scene.deployed_in(&two.one, from).await;
    assert_eq!(doubt.uid().await, Some(uid.clone()));
    scene.define_other(&two.two, "two", "manifests", "");
    assert_eq!(two.owned_by(&two.two, "two=2").await, uid);
}

#[tokio::test]
async fn what_an_environment_of_another_plumb_asks_for_is_not_deleted_before_that_is_known() {
    let doubt = Doubt::new("beside").await;
    let (two, scene) = (&doubt.two, &doubt.two.scene);
    let wide = config_map("shared", &[("two", "wide")]);
    scene.env.repository().commit("two", [("wide/shared.yaml", wide.as_str())]);
    let (mut plumb, uid) = doubt.begin(&[]).await;
    plumb.terminate(SOON).await;
    let plumb = doubt.run(&[&two.one]);
    let again = two.push("one", Some("2"), "2");
    scene.deployed_in(&two.one, again).await;

    // Its definition changes at the head that it has.
    let mut pushed = None;
    at_once(&plumb, || {
        scene.define_other(&two.two, "two", "wide", "");
        pushed = Some(two.push("one", None, "3"));
    });
    scene.deployed_in(&two.one, pushed.unwrap()).await;
    assert_eq!(doubt.uid().await.as_ref(), Some(&uid));
    at_once(&plumb, || {
        scene.define_other(&two.two, "two", "manifests", "");
        pushed = Some(two.push("one", Some("4"), "4"));
    });
    scene.deployed_in(&two.one, pushed.unwrap()).await;
    assert_eq!(doubt.uid().await.as_ref(), Some(&uid));

    // Its head moves, and can't be rendered at first.
    doubt.take_helm();
    at_once(&plumb, || {
        pushed = Some({
            doubt.chart(2, true);
            two.push("one", None, "5")
        })
    });
    doubt.written("5").await;
    assert_eq!(doubt.uid().await.as_ref(), Some(&uid));
    doubt.bring_helm();
    scene.deployed_in(&two.one, pushed.unwrap()).await;
    assert_eq!(doubt.uid().await, Some(uid));
}
