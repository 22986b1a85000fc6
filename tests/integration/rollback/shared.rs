//! A branch that several environments are deployed from, or defined on: one goes back alone or not at all.

use super::{git, objects};
use crate::scene::{Scene, config_map, short};

#[tokio::test]
async fn a_branch_does_not_go_back_over_what_another_environment_has_there() {
    let scene = Scene::new("sharedbranch").await;
    scene.sign();
    let (dev, prod, beside) = (&*scene.name, &*scene.env.name("prod"), scene.env.name("beside"));
    scene.define_other(prod, "dev", "prod", "");
    // It can't be rendered before or after, so nothing is taken from it.
    scene.define_other(&beside, "dev", "nowhere", "");
    let repository = scene.env.repository();
    let dev_push = |value: &str| repository.commit("dev", [("manifests/a.yaml", config_map("a", &[("x", value)]))]);
    let prod_push = |value: &str| repository.commit("dev", [("prod/b.yaml", config_map("b", &[("x", value)]))]);
    let _plumb = scene.run();
    scene.deployed(dev_push("1")).await;
    let prods_first = prod_push("1");
    scene.deployed_in(prod, prods_first).await;
    let devs = dev_push("2");
    scene.deployed(devs).await;
    let prods = prod_push("2");
    scene.deployed_in(prod, prods).await;

    let before = objects(&repository.open());
    for more in [&[][..], &["--dry-run"], &["--squash"]] {
        let said = scene.say(1, &[&["rollback", dev], more].concat()).await;
        assert!(
            said.contains(&format!("all that came after {} would change {prod} too", short(prods_first))),
            "{said}"
        );
        assert!(said.contains(&format!("  {} test: a change ({prod})\n", short(prods))), "{said}");
        assert!(said.contains("Nothing was written") && !said.contains(&beside), "{said}");
        assert!(
            said.contains("  git switch dev\n") && said.contains(&format!("  git revert --no-edit {}", short(devs)))
        );
        assert_eq!((scene.head("dev"), objects(&repository.open())), (prods, before), "{said}");
    }

    // What it says to type does it, and leaves the other where it is.
    let work = tempfile::tempdir().unwrap();
    git(work.path(), &["clone", "-q", "-b", "dev", repository.path().to_str().unwrap(), "."]);
    let who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"];
    git(work.path(), &[&who[..], &["revert", "--no-edit", &short(devs)]].concat());
    git(work.path(), &["push", "-q", "origin", "dev"]);
    scene.deployed(scene.head("dev")).await;
    scene.data_becomes("a", Some("x=1")).await;
    scene.data_becomes("b", Some("x=2")).await;

    // What is the environment's own goes back as ever.
    scene.deployed(dev_push("3")).await;
    scene.say(0, &["rollback", dev]).await;
    scene.deployed(scene.head("dev")).await;
    scene.data_becomes("a", Some("x=1")).await;
    scene.data_becomes("b", Some("x=2")).await;
}

#[tokio::test]
async fn what_would_change_another_environment_is_not_promoted_in_passing() {
    let scene = Scene::new("sharedpromote").await;
    scene.sign();
    let (dev, staging, prod) = (&*scene.name, &*scene.env.name("staging"), &*scene.env.name("prod"));
    scene.define_other(staging, "live", "manifests", "");
    scene.define_other(prod, "live", "prod", "");
    let repository = scene.env.repository();
    let push = |file: &str, value: &str| repository.commit("dev", [(file, config_map("a", &[("x", value)]))]);
    repository.set_branch("live", push("manifests/a.yaml", "1"));
    let mine = push("manifests/a.yaml", "2");
    push("prod/a.yaml", "1");
    for more in [&[][..], &["--dry-run"]] {
        let before = scene.head("live");
        let said = scene.say(1, &[&["promote", dev, staging], more].concat()).await;
        assert!(said.contains(&format!("what would come to it changes {prod} too. Nothing was written")), "{said}");
        assert!(said.contains(&format!("git switch live && git merge {}", short(scene.head("dev")))), "{said}");
        assert_eq!(scene.head("live"), before, "{said}");
    }
    scene.say(0, &["promote", dev, staging, "--at", "HEAD~1"]).await;
    assert_eq!(scene.head("live"), mine);
}

#[tokio::test]
async fn a_configuration_branch_does_not_go_back_over_another_environments_definition() {
    let scene = Scene::new("sharedmain").await;
    scene.sign();
    let (dev, prod) = (&*scene.name, &*scene.env.name("prod"));
    scene.define_other(dev, "main", "manifests", "");
    let push = |value: &str| scene.push_to("main", [("a.yaml", config_map("a", &[("x", value)]))]);
    push("1");
    let own = push("2");
    let definition = scene.define_other(prod, "elsewhere", "manifests", "");
    let said = scene.say(1, &["rollback", dev, "--to", "HEAD~2"]).await;
    assert!(said.contains(&format!("would change {prod} too")), "{said}");
    assert!(said.contains(&format!("  {} test: a change ({prod})\n", short(definition))), "{said}");
    assert!(said.contains(&format!("  git revert --no-edit {}", short(own))), "{said}");
    assert_eq!(scene.head("main"), definition);
    let last = push("3");
    scene.say(0, &["rollback", dev, "--to", "HEAD~1"]).await;
    assert_eq!(scene.env.repository().open().find_commit(scene.head("main")).unwrap().parent_id(0).unwrap(), last);
}
