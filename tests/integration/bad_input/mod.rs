//! Bad input is normal: each of a corpus of broken commits and definitions is driven through the running daemon, on a real
//! API server. The cluster keeps the last good state, nothing is deleted, memory stays bounded, and whoever pushed it is told
//! where it is wrong and what to do; the next good commit is deployed at once.

mod case;
mod cases;
mod secrets;
mod stand;
mod trouble;

use std::path::PathBuf;

use anyhow::{Context as _, ensure};

use crate::harness::{Audit, Change, Cluster, ControlPlane, TestEnv, eventually};
use case::Base;
use stand::{Subject, objects, statuses, wait_ended};

/// The most that the daemon may hold at any moment, in bytes: the limit of `deploy/reconciler.yaml`. Two renders run at once, each with
/// files whose values take at most some 80 MiB (`render::yaml`'s budget); unbounded, the alias bomb alone would be 3 GB.
const MEMORY: u64 = 256 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_commit_changes_nothing_and_says_what_to_do() {
    // Without controllers: no resourceVersion moves unless plumb moves it.
    let env = TestEnv::on(Cluster::Own(ControlPlane::start(false).into()), "bad").await;
    crate::scene::install_crd(&env).await;
    let Some(audit) = env.audit() else { return };
    let cases = cases::all();
    let mut subjects: Vec<Subject> = cases.into_iter().map(|case| Subject::new(&env, case)).collect();
    let bystander = env.name("bystander");
    let untouched = env.repository().commit(&bystander, stand::good_files(Base::Plain, "1"));
    define_all(&env, &subjects, &bystander, |_| None);
    for subject in &subjects {
        stand_others(&env, subject).await;
    }

    let start = audit.mark().await;
    let mut plumb = stand::run(&env);
    let everyone = subjects.iter().map(|subject| (&*subject.name, subject.good)).chain([(&*bystander, untouched)]);
    wait_ended(&env, everyone, "Deployed").await;
    let before = objects(&env).await;
    let mark = audit.mark().await;

    for subject in &mut subjects {
        subject.push_broken(&env, &bystander);
    }
    let main = define_all(&env, &subjects, &bystander, |subject| subject.broken_definition(&bystander));
    for subject in &mut subjects {
        if subject.case.definition.is_some() && subject.case.stage == "definition" {
            subject.blamed = main;
        }
    }
    wait_ended(&env, subjects.iter().map(|subject| (&*subject.name, subject.blamed)), "Failed").await;

    // The Event follows the status.
    eventually(stand::PATIENCE, || async {
        let wrong = complaints(&env, &plumb.log(), &subjects, &bystander).await?;
        ensure!(wrong.is_empty(), "{} complaints:\n{}", wrong.len(), wrong.join("\n"));
        Ok(())
    })
    .await;
    assert_eq!(objects(&env).await, before, "the cluster is not as it was");
    assert_eq!(members_written(&audit.since(mark).await), Vec::<String>::new());
    assert!(plumb.peak_rss() < MEMORY, "{} MiB were held", plumb.peak_rss() >> 20);
    let seen = statuses(&env).await.unwrap();
    assert_eq!(seen[&bystander].0.history.len(), 1, "nobody broke the bystander");

    // Going back is enough: the definition repaired, or the branch forced back to where it was.
    let mark = audit.mark().await;
    define_all(&env, &subjects, &bystander, |_| None);
    subjects.iter().for_each(|subject| env.repository().set_branch(&subject.name, subject.good));
    let everyone = subjects.iter().map(|subject| (&*subject.name, subject.good));
    stand::wait_ended_in(&env, everyone, &["Deployed", "Unchanged"]).await;
    assert!(statuses(&env).await.unwrap().values().all(|seen| seen.synced().0 == "True"));
    assert!(!plumb.log().iter().any(|line| line.contains(" drift ")), "what git changed is no drift");
    assert_eq!(members_written(&audit.since(mark).await), Vec::<String>::new());

    for subject in &subjects {
        let [first, ..] = &stand::good_files(subject.case.base, "2")[..] else { unreachable!() };
        let repaired = env.repository().commit_again(&subject.name, subject.good, [first.clone()]);
        stand::wait_value(&env, &subject.name, "2").await;
        wait_ended(&env, [(&*subject.name, repaired)], "Deployed").await;
    }
    let whole = audit.since(start).await;
    assert!(whole.verb("delete").is_empty() && whole.verb("deletecollection").is_empty(), "{:?}", whole.verb("delete"));
    let seen = statuses(&env).await.unwrap();
    assert!(seen.values().all(|seen| seen.synced().0 == "True"));
    assert!(!plumb.log().iter().any(|line| line.contains("CANARY")), "a Secret's value is in the log");
    assert!(plumb.terminate(stand::PATIENCE).await.success());
}

/// What is missing from what plumb said, or wrong, of all of them.
async fn complaints(
    env: &TestEnv,
    log: &[String],
    subjects: &[Subject],
    bystander: &str,
) -> anyhow::Result<Vec<String>> {
    let (seen, warnings) = (statuses(env).await?, stand::warnings(env).await);
    let mut wrong = Vec::new();
    for subject in subjects {
        let told = Told {
            status: seen.get(&subject.name).context("its Environment is gone")?,
            log: stand::log_lines(log, &subject.name, subject.blamed),
            event: warnings.get(&subject.name).map_or("", String::as_str),
        };
        wrong.extend(told.complaints(subject, &subject.says(bystander)));
    }
    Ok(wrong)
}

/// What plumb said about one failure.
struct Told<'a> {
    status: &'a stand::Seen,
    log: String,
    event: &'a str,
}

impl Told<'_> {
    /// What is missing from it, or wrong.
    fn complaints(&self, subject: &Subject, says: &[String]) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut check = |holds: bool, what: String| {
            if !holds {
                wrong.push(format!("{}: {what}", subject.case.name));
            }
        };
        let (synced, reason, message) = self.status.synced();
        let entry = self.status.last().cloned();
        let (stage, said) = entry.map(|entry| (entry.stage, entry.message)).unwrap_or_default();
        let (stage, said) = (stage.unwrap_or_default(), said.unwrap_or_default());
        check(synced == "False", format!("Synced is {synced} ({reason})"));
        check(stage == subject.case.stage, format!("it failed at {stage:?}, not at {:?}: {said}", subject.case.stage));
        check(
            self.status.0.short_commit == Some(crate::scene::short(subject.good)),
            "another commit is shown".to_owned(),
        );
        check(self.status.0.target == Some(subject.good.to_string()), "another commit is the target".to_owned());
        for text in says {
            for (place, words) in
                [("history", &*said), ("Synced", message), ("the log", &*self.log), ("the Event", self.event)]
            {
                check(words.contains(text), format!("{place} does not say {text:?}: {words}"));
            }
        }
        for (place, words) in [("history", &*said), ("the Event", self.event)] {
            check(!words.contains("CANARY"), format!("{place} has a Secret's value"));
        }
        wrong
    }
}

/// Commits the definitions of all environments: as `broken` says, or else good.
fn define_all(
    env: &TestEnv,
    subjects: &[Subject],
    bystander: &str,
    broken: impl Fn(&Subject) -> Option<String>,
) -> git2::Oid {
    let definition = |subject: &Subject| broken(subject).unwrap_or_else(|| subject.definition(bystander));
    let of = |subject: &Subject| (stand::definition_file(&subject.name), Change::from(definition(subject)));
    let bystanders = (stand::definition_file(bystander), Change::from(stand::definition(bystander, "deploy", "")));
    let all: Vec<(PathBuf, Change)> = subjects.iter().map(of).chain([bystanders]).collect();
    env.repository().commit("main", all)
}

/// Makes the objects that are somebody else's.
async fn stand_others(env: &TestEnv, subject: &Subject) {
    use kube::api::{Api, DynamicObject, PostParams};
    if subject.case.stands.is_empty() {
        return;
    }
    let namespace = env.create_namespace(subject.case.name).await;
    let resource = kube::api::ApiResource::erase::<k8s_openapi::api::core::v1::ConfigMap>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(env.admin(), &namespace, &resource);
    for object in &subject.case.stands {
        let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
    }
}

/// The writes on anything but Environments and Events.
fn members_written(audit: &Audit) -> Vec<String> {
    let own = |resource: &str| matches!(resource, "environments" | "events");
    let writes = audit.writes().only(|event| !own(&event.object_ref.resource));
    writes.0.iter().map(|event| format!("{} {}", event.verb, event.request_uri)).collect()
}
