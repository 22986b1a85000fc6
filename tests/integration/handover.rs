//! Two environments in one namespace: an object has one owner, and changes hands without being deleted.

use anyhow::{Context as _, ensure};
use git2::Oid;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Change, Plumb, eventually};
use crate::scene::{SOON, Scene, condition, config_map, file_of, part_of};

mod doubt;

/// Environments `one` and `two`, on branches of these names.
struct Two {
    scene: Scene,
    one: String,
    two: String,
}

impl Two {
    async fn new(name: &str) -> Self {
        let scene = Scene::new(name).await;
        let (one, two) = (scene.env.name("one"), scene.env.name("two"));
        let nothing = file_of(&scene.name);
        scene.env.repository().commit("main", [(nothing, Change::Remove)]);
        scene.define_other(&one, "one", "manifests", "");
        scene.define_other(&two, "two", "manifests", "");
        Self { scene, one, two }
    }

    /// Pushes to a branch: the shared object, if it is to have it, beside one of its own.
    fn push(&self, branch: &str, shared: Option<&str>, own: &str) -> Oid {
        let name = format!("own-{branch}");
        let change = shared.map_or("# not here\n".into(), |value| config_map("shared", &[(branch, value)]));
        self.scene.push_to(branch, [("own.yaml", config_map(&name, &[("x", own)])), ("shared.yaml", change)])
    }

    /// Waits until this environment alone has the shared object, and gives its uid.
    async fn owned_by(&self, environment: &str, data: &str) -> String {
        eventually(SOON, || async {
            let object = self.scene.config_maps().get("shared").await?;
            let data_now = self.scene.data("shared").await.unwrap_or_default();
            ensure!(data_now == data, "shared has {data_now}");
            let label = object.labels().get("applyset.kubernetes.io/part-of").cloned().unwrap_or_default();
            ensure!(label == part_of(environment), "its label is {label}");
            let managers: Vec<_> =
                object.managed_fields().iter().filter_map(|entry| entry.manager.as_deref()).collect();
            ensure!(managers == [format!("plumb-{environment}")], "it is managed by {managers:?}");
            Ok(object.uid().unwrap_or_default())
        })
        .await
    }

    /// What `two` is told when `one` asks for what it has.
    fn note(&self) -> String {
        format!("environment {} asks for it too", self.one)
    }

    /// Waits until the status of `two`, which is deployed, says so or does not.
    async fn names_the_other(&self, names: bool) {
        let note = self.note();
        eventually(SOON, || async {
            let status = self.scene.environment_of(&self.two).await.and_then(|it| it.status).context("no status")?;
            let synced = condition(&status, "Synced").context("nothing is told of the sync")?.clone();
            ensure!(synced.status == "True" && synced.message.contains(&note) == names, "{synced:?}");
            Ok(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_object_that_two_heads_claim_is_an_error_that_names_both() {
    let two = Two::new("both").await;
    let scene = &two.scene;
    two.push("one", Some("1"), "1");
    two.push("two", Some("1"), "1");
    for environment in [&two.one, &two.two] {
        let (code, output) = scene.verb(&["plan", environment]).await;
        assert!(code == Some(1) && output.contains("ConfigMap") && output.contains("shared"), "{output}");
        assert!(output.contains(&two.one) && output.contains(&two.two), "{output}");
    }
    // A first sync goes object by object: what is not disputed is deployed, and the disputed object is not.
    let plumb = scene.run();
    eventually(SOON, || async {
        ensure!(scene.data("own-one").await.is_some() && scene.data("own-two").await.is_some(), "not synced yet");
        let failed = plumb.log().iter().filter(|line| line.contains("both ask for it")).count();
        ensure!(failed >= 2, "only {failed} of 2 are told");
        Ok(())
    })
    .await;
    assert!(scene.data("shared").await.is_none());

    // One gives way: the other has it, without a push of its own.
    two.push("one", None, "2");
    two.owned_by(&two.two, "two=1").await;
    // Now it is owned, and a second claim is refused without a change to it.
    let third = two.push("one", Some("2"), "3");
    let entry = scene.ended_in(&two.one, third).await;
    let message = entry.message.unwrap_or_default();
    assert!(entry.outcome == "Failed" && message.contains(&two.two), "{message}");
    assert_eq!(scene.data("own-one").await.as_deref(), Some("x=2"));
    two.owned_by(&two.two, "two=1").await;

    // Whoever has it is told at once, without a push of its own.
    two.names_the_other(true).await;
    let note = two.note();
    let told = |line: &&String| line.contains("WARN") && line.contains(&note);
    assert_eq!(plumb.log().iter().filter(told).count(), 1, "{:#?}", plumb.log());
    // Its next commit is refused, what was deployed before is put back, and a plan says so.
    let disputed = two.push("two", Some("1"), "2");
    let entry = scene.ended_in(&two.two, disputed).await;
    let message = entry.message.unwrap_or_default();
    assert!(entry.outcome == "Failed" && message.contains(&two.one) && message.contains(&two.two), "{message}");
    let (code, output) = scene.verb(&["plan", &two.two]).await;
    assert!(code == Some(1) && output.contains(&two.one) && output.contains("shared"), "{output}");
    let edit = Patch::Merge(json!({"data": {"two": "by hand"}}));
    scene.config_maps().patch("shared", &PatchParams::default(), &edit).await.unwrap();
    two.owned_by(&two.two, "two=1").await;
    assert_eq!(scene.data("own-two").await.as_deref(), Some("x=1"));
    // The other lets go: the commit that was refused is deployed without a push, and nobody is named any more.
    two.push("one", None, "4");
    scene.deployed_in(&two.two, disputed).await;
    two.names_the_other(false).await;
    assert_eq!(scene.data("own-two").await.as_deref(), Some("x=2"));
}

#[tokio::test]
async fn who_has_what_another_head_asks_for_keeps_it_whatever_happens_but_a_commit() {
    let two = Two::new("keeps").await;
    let scene = &two.scene;
    let first = two.push("two", Some("1"), "1");
    two.push("one", None, "1");
    let plumb = scene.run();
    scene.deployed_in(&two.two, first).await;
    let claim = two.push("one", Some("2"), "2");
    assert_eq!(scene.ended_in(&two.one, claim).await.outcome, "Failed");
    let maps = scene.config_maps();
    let patch = async |patch| drop(maps.patch("shared", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap());

    // Somebody deletes it, or takes its label off.
    maps.delete("shared", &DeleteParams::default()).await.unwrap();
    two.owned_by(&two.two, "two=1").await;
    patch(json!({"metadata": {"labels": {"applyset.kubernetes.io/part-of": null}}})).await;
    two.owned_by(&two.two, "two=1").await;

    // Its definition changes, and plumb restarts.
    scene.define_other(&two.two, "two", "manifests", "resync: 5m");
    eventually(SOON, || async {
        let environment = scene.environment_of(&two.two).await.context("no Environment")?;
        let held = environment.status.and_then(|status| status.target_definition);
        ensure!(held == Some(environment.spec.digest()) && environment.spec.resync.to_string() == "5m", "not in force");
        Ok(())
    })
    .await;
    drop(plumb);
    patch(json!({"data": {"two": "by hand"}})).await;
    let plumb = scene.run();
    two.owned_by(&two.two, "two=1").await;
    drop(plumb);
    maps.delete("shared", &DeleteParams::default()).await.unwrap();
    let plumb = scene.run();
    two.owned_by(&two.two, "two=1").await;
    drop(plumb);

    // A commit is refused, by whichever verb, until the branch of the other is gone.
    let disputed = two.push("two", Some("1"), "2");
    let (code, output) = scene.verb(&["apply", &two.two, "--instance", &scene.instance()]).await;
    assert!(code == Some(1) && output.contains(&two.one) && output.contains("shared"), "{output}");
    assert_eq!(scene.data("own-two").await.as_deref(), Some("x=1"));
    let _plumb = scene.run();
    scene.env.repository().delete_branch("one");
    eventually(SOON, || async {
        ensure!(scene.data("own-two").await.as_deref() == Some("x=2"), "{disputed} is not deployed");
        Ok(())
    })
    .await;
    two.owned_by(&two.two, "two=1").await;
}

#[tokio::test]
async fn who_else_asks_for_an_object_is_in_the_status_as_soon_as_that_can_be_written() {
    let two = Two::new("late").await;
    let scene = &two.scene;
    let mut plumb = scene.run();
    scene.deployed_in(&two.two, two.push("two", Some("1"), "1")).await;
    scene.deployed_in(&two.one, two.push("one", None, "1")).await;
    // Admission lets nobody write the status of who has it.
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": two.two},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["plumb.dev"], "apiVersions": ["*"], "operations": ["UPDATE"],
                "resources": ["environments/status"], "resourceNames": [two.two],
            }]},
            "validations": [{"expression": "false", "message": "not now"}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": two.two},
        "spec": {"policyName": two.two, "validationActions": ["Deny"]},
    });
    for object in [policy, binding] {
        scene.kubectl_ok(&["apply", "-f", "-"], &object.to_string()).await;
    }
    let write =
        ["patch", "environment", &two.two, "--subresource=status", "--type=merge", "-p={\"status\":{\"drift\":9}}"];
    eventually(SOON, || async {
        let (code, output) = scene.kubectl(&[&write[..], &["--dry-run=server"]].concat(), "").await;
        ensure!(code != Some(0) && output.contains("not now"), "still let through: {output}");
        Ok(())
    })
    .await;
    let claim = two.push("one", Some("2"), "2");
    assert_eq!(scene.ended_in(&two.one, claim).await.outcome, "Failed");
    let note = two.note();
    plumb.wait_for_log(|line| line.contains("WARN") && line.contains(&note), SOON).await;
    two.names_the_other(false).await;

    // Nothing else happens to either environment.
    scene.kubectl_ok(&["delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", &two.two], "").await;
    two.names_the_other(true).await;
}

#[tokio::test]
async fn who_had_an_object_before_another_took_it_over_does_not_put_it_back() {
    let two = Two::new("former").await;
    let scene = &two.scene;
    let first = two.push("one", Some("1"), "1");
    let other = two.push("two", None, "1");
    let _plumb = scene.run();
    scene.deployed_in(&two.one, first).await;
    scene.deployed_in(&two.two, other).await;
    // Its head lets the object go, and can't be deployed for another reason.
    let bad = "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 70000}]}\n";
    let stuck = scene.push_to("one", [("shared.yaml", "# not here\n"), ("bad.yaml", bad)]);
    assert_eq!(scene.ended_in(&two.one, stuck).await.outcome, "Failed");
    scene.deployed_in(&two.two, two.push("two", Some("1"), "2")).await;
    two.owned_by(&two.two, "two=1").await;
    // It asks for it again, and is refused; what it has deployed last still has it.
    let shared = config_map("shared", &[("one", "2")]);
    let again = scene.push_to("one", [("shared.yaml", Change::from(shared)), ("bad.yaml", "# not here\n".into())]);
    assert_eq!(scene.ended_in(&two.one, again).await.outcome, "Failed");
    for _ in 0..3 {
        scene.config_maps().delete("shared", &DeleteParams::default()).await.unwrap();
        two.owned_by(&two.two, "two=1").await;
    }
}

/// Has plumb see what is pushed in `pushes` in one look.
fn at_once(plumb: &Plumb, pushes: impl FnOnce()) {
    plumb.signal(Signal::STOP);
    pushes();
    plumb.signal(Signal::CONT);
}

#[tokio::test]
async fn an_object_moves_between_environments_whichever_push_comes_first() {
    let two = Two::new("moves").await;
    let scene = &two.scene;
    let Some(audit) = scene.env.audit() else { return };
    let first = two.push("one", Some("1"), "1");
    let second = two.push("two", None, "1");
    let plumb = scene.run();
    scene.deployed_in(&two.one, first).await;
    scene.deployed_in(&two.two, second).await;
    let uid = two.owned_by(&two.one, "one=1").await;
    let mark = audit.mark().await;

    // The new owner first: it is refused as long as both ask, and goes on by itself.
    let claimed = two.push("two", Some("2"), "2");
    assert_eq!(scene.ended_in(&two.two, claimed).await.outcome, "Failed");
    two.push("one", None, "2");
    assert_eq!(two.owned_by(&two.two, "two=2").await, uid);
    scene.deployed_in(&two.two, claimed).await;

    // Both in one look, and back, a few times.
    for round in 3..9 {
        let (from, to) = if round % 2 == 1 { ("two", "one") } else { ("one", "two") };
        let own = round.to_string();
        at_once(&plumb, || {
            two.push(from, None, &own);
            two.push(to, Some(&own), &own);
        });
        let new = if to == "one" { &two.one } else { &two.two };
        assert_eq!(two.owned_by(new, &format!("{to}={own}")).await, uid, "round {round}");
    }
    // The new owner's claim is still in its gates when the old owner lets go.
    drop(plumb);
    let last = two.push("one", Some("9"), "9");
    two.push("two", None, "9");
    let _plumb = scene.run();
    assert_eq!(two.owned_by(&two.one, "one=9").await, uid, "moved while plumb was away");
    scene.deployed_in(&two.one, last).await;
    let deletes = audit.since(mark).await.verb("delete");
    assert!(deletes.is_empty(), "{deletes:#?}");
}
