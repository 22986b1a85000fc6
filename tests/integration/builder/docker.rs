//! The same of a dockerd, by the BuildKit in it and by its classic builder.

use std::collections::BTreeMap;
use std::time::Duration;

use super::daemons::{Daemons, build, build_shell, context, dockerfile, fails, order, upon};
use super::trouble::{self, LIMIT};
use plumb::builder::{BuildError, Builder, Docker, Endpoint, LABEL, Progress};

#[derive(Clone, Copy, PartialEq, Debug)]
enum By {
    /// Debian's, which knows no named contexts.
    BuildKit,
    Classic,
    /// The BuildKit of a dockerd that keeps images in containerd.
    Newest,
}

impl By {
    const ALL: [Self; 3] = [Self::BuildKit, Self::Classic, Self::Newest];

    fn daemons(self) -> &'static Daemons {
        if self == Self::Newest { Daemons::with_newest_docker() } else { Daemons::with_docker() }
    }

    fn of(self, daemons: &Daemons) -> Docker {
        if self == Self::Classic { daemons.docker().classic() } else { daemons.docker() }
    }

    fn builder(self) -> Docker {
        self.of(self.daemons())
    }

    /// A name that the tests of the other builders do not have.
    fn name(self, name: &str) -> String {
        format!("{}-{name}:1", format!("{self:?}").to_lowercase())
    }
}

async fn an_image_stands_until_it_is_removed(by: By) {
    let builder = by.builder();
    let name = by.name("once");
    let text =
        b"FROM scratch AS wanted\nARG ANSWER=none\nLABEL answer=$ANSWER\nCOPY a /a\nFROM wanted\nLABEL answer=last\n";
    let files: [(&str, u32, &[u8]); 2] = [("docker/Dockerfile", 0o644, text), ("a", 0o755, b"content")];
    let mut order = order(&name);
    order.dockerfile = "docker/Dockerfile".to_owned();
    order.target = Some("wanted".to_owned());
    order.args = BTreeMap::from([("ANSWER".to_owned(), "42".to_owned())]);
    let asked = [name.clone()];
    assert_eq!(builder.present(&asked).await.unwrap(), [false]);
    let (built, log) = build(&builder, &order, context(&files)).await;
    built.unwrap_or_else(|error| panic!("{error}: {log:#?}"));
    assert!(log.iter().any(|line| matches!(line, Progress::Step(step) if step.contains("COPY a /a"))), "{log:#?}");
    assert_eq!(builder.present(&asked).await.unwrap(), [true]);
    let images = builder.images().await.unwrap();
    let image = images.iter().find(|image| image.reference == name).expect("it bears plumb's label");
    assert_eq!(image.labels[LABEL], name);
    assert_eq!(image.labels["answer"], "42");
    assert!(image.created > 1_700_000_000, "{}", image.created);
    let cli = |args: &[&str]| by.daemons().docker_cli(args);
    let inspect = |format: &str| cli(&["image", "inspect", "--format", format, &name]);
    let (id, age) = (inspect("{{.Id}}"), inspect("{{.Created}}"));
    for _ in 0..2 {
        builder.remove(&name).await.expect("a name that is gone is no error");
        assert_eq!(builder.present(&asked).await.unwrap(), [false]);
    }
    if by == By::Newest {
        assert!(age.starts_with("1970-01-01"), "{age}");
        cli(&["builder", "prune", "--all", "--force"]);
        build(&builder, &order, context(&files)).await.0.unwrap();
        assert_eq!(inspect("{{.Id}}"), id, "the same content makes the same image");
        builder.remove(&name).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn an_image_stands_until_it_is_removed_by_the_newest() {
    an_image_stands_until_it_is_removed(By::Newest).await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn an_image_stands_until_it_is_removed_by_buildkit() {
    an_image_stands_until_it_is_removed(By::BuildKit).await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn an_image_stands_until_it_is_removed_by_the_classic_builder() {
    an_image_stands_until_it_is_removed(By::Classic).await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_base_of_this_repository_is_found_and_whoever_has_its_plain_name_keeps_it() {
    for by in By::ALL {
        let (builder, daemons) = (by.builder(), by.daemons());
        let (base, name) = (by.name("plain"), by.name("upon-plain"));
        let plain = base.trim_end_matches(":1").to_owned();
        let theirs = tempfile::tempdir().unwrap();
        std::fs::write(theirs.path().join("Dockerfile"), "FROM scratch\nLABEL whose=theirs\n").unwrap();
        daemons.docker_cli(&["build", "--quiet", "--tag", &plain, theirs.path().to_str().unwrap()]);
        let id = || daemons.docker_cli(&["image", "inspect", "--format", "{{.Id}}", &format!("{plain}:latest")]);
        let before = id();

        let files: [(&str, u32, &[u8]); 2] =
            [("Dockerfile", 0o644, b"FROM scratch\nCOPY ours /ours\n"), ("ours", 0o644, b"")];
        build(&builder, &order(&base), context(&files)).await.0.unwrap();
        let mut order = order(&name);
        order.dockerfile = "docker/Dockerfile".to_owned();
        order.bases = BTreeMap::from([(plain.clone(), base.clone()), (format!("{plain}:latest"), base.clone())]);
        let text = format!(
            "ARG BASE={plain}\nFROM $BASE AS one\nFROM scratch\nCOPY --from=one /ours /1\nCOPY --from={plain}:latest /ours /2\nCOPY before after /3/\n"
        );
        let files: [(&str, u32, &[u8]); 3] =
            [("before", 0o644, &[7; 70_000]), ("docker/Dockerfile", 0o644, text.as_bytes()), ("after", 0o644, b"")];
        let (built, log) = build(&builder, &order, context(&files)).await;
        built.unwrap_or_else(|error| panic!("{by:?}: {error}: {log:#?}"));
        assert_eq!(id(), before, "{by:?}");
        let named = daemons.docker_cli(&["images", "--format", "{{.Repository}}:{{.Tag}}", &plain]);
        let named: std::collections::BTreeSet<&str> = named.lines().collect();
        assert_eq!(named, [&*base, &*format!("{plain}:latest")].into(), "{by:?}");

        // Who is asked for a named context asks a registry.
        if by == By::Newest {
            continue;
        }
        order.dockerfile = "Dockerfile".to_owned();
        order.bases = BTreeMap::from([(plain.clone(), format!("{plain}:2"))]);
        let error = fails(&builder, &order, dockerfile(&format!("FROM {plain}\n"))).await;
        assert!(matches!(&error, BuildError::UnknownBase { image, .. } if image.contains(":2")), "{by:?}: {error:?}");
    }
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn an_ignored_dockerfile_is_in_no_image() {
    for by in [By::BuildKit, By::Classic] {
        let builder = by.builder();
        let mut order = order(&by.name("ignored"));
        order.dockerfile = "./docker/Docker[file]".to_owned();
        order.bases = build_shell(&builder).await;
        let a: (&str, u32, &[u8]) = ("docker/a", 0o644, b"a");
        // The ignore file ignores itself, or it doesn't.
        for (files, has) in [(vec![a], "! -e"), (vec![a, (".dockerignore", 0o644, b"docker/*file*\n")], "-e")] {
            let run = format!("[ ! -e 'docker/Docker[file]' ] && [ -e docker/a ] && [ {has} .dockerignore ]");
            order.ignored_dockerfile = Some(format!("FROM shell\nWORKDIR /all\nCOPY . .\nRUN {run}\n"));
            let (built, log) = build(&builder, &order, context(&files)).await;
            built.unwrap_or_else(|error| panic!("{error}: {log:#?}"));
        }
    }
}

/// From a base of this repository: what is printed is told, a failure says where, what is dropped or hangs is cancelled.
async fn steps_run_fail_and_are_cancelled(by: By, words: [&str; 2]) {
    let builder = by.builder();
    let mut order = order(&by.name("steps"));
    order.bases = build_shell(&builder).await;
    let (built, log) = build(&builder, &order, dockerfile("FROM shell\nRUN echo printed\n")).await;
    built.unwrap_or_else(|error| panic!("{error}: {log:#?}"));
    assert!(log.iter().any(|line| matches!(line, Progress::Line { text, .. } if text == "printed")), "{log:#?}");

    let error = fails(&builder, &order, dockerfile("FROM shell\nRUN echo first\nRUN echo last; exit 7\n")).await;
    let BuildError::Step { step, reason, log, .. } = &error else { panic!("{error:?}") };
    assert_eq!(reason, "exit code 7", "{error:?}");
    assert!(step.contains("RUN echo last") && log.last().is_some_and(|line| line == "last"), "{error:?}");

    let [dropped, limited] = words;
    trouble::what_is_dropped_is_cancelled(&builder, &order, dropped).await;
    trouble::what_hangs_is_cancelled_at_its_limit(&by.builder().time_limit(LIMIT), &order, limited).await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn steps_run_fail_and_are_cancelled_by_buildkit() {
    steps_run_fail_and_are_cancelled(By::BuildKit, ["77004", "77006"]).await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn steps_run_fail_and_are_cancelled_by_the_classic_builder() {
    steps_run_fail_and_are_cancelled(By::Classic, ["77005", "77007"]).await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn what_the_commit_is_at_fault_for_is_said() {
    for by in By::ALL {
        let builder = by.builder();
        let mut order = order(&by.name("fails"));
        let syntax = fails(&builder, &order, dockerfile("FROM scratch\n\nCOPPY a b\n")).await;
        assert!(
            matches!(&syntax, BuildError::Dockerfile { line: Some(3), reason, .. } if reason.contains("COPPY")),
            "{syntax:?}"
        );
        let none = fails(&builder, &order, context(&[("README.md", 0o644, b"")])).await;
        assert!(matches!(&none, BuildError::NoDockerfile(file) if file == "Dockerfile"), "{none:?}");
        let no_file = fails(&builder, &order, dockerfile("FROM scratch\nCOPY missing /\n")).await;
        assert!(matches!(&no_file, BuildError::Step { reason, .. } if reason.contains("missing")), "{no_file:?}");
        order.target = Some("relase".to_owned());
        let target = fails(&builder, &order, dockerfile("FROM scratch AS release\nLABEL a=b\n")).await;
        assert!(matches!(&target, BuildError::UnknownTarget { target, .. } if target == "relase"), "{target:?}");
        let line = (by == By::Newest).then_some(2);
        trouble::an_unknown_base_is_named(&builder, &by.name("no-base"), line).await;
        trouble::what_breaks_a_context_is_told(&builder, &by.name("no-context")).await;
        for error in [syntax, none, no_file, target] {
            assert!(!error.is_transient(), "{error}");
        }
    }
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn steps_run_fail_and_are_cancelled_by_the_newest() {
    steps_run_fail_and_are_cancelled(By::Newest, ["77008", "77009"]).await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_dockerd_that_ends_in_the_middle_is_away() {
    for (by, options, word) in [
        (By::BuildKit, "--docker", "77010"),
        (By::Classic, "--docker", "77011"),
        (By::Newest, "--runtime=docker", "77012"),
    ] {
        let daemons = Daemons::start(&[options]);
        let builder = by.of(&daemons);
        let order = upon("interrupted:1", build_shell(&builder).await);
        trouble::whose_daemon_ends_is_told(&builder, &order, word, || daemons.stop("dockerd")).await;
    }
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_full_disk_is_told_and_what_finds_room_is_built() {
    // With more room it is a step that finds none.
    for (by, option, disk) in [
        (By::BuildKit, "--docker", "--disk=48m"),
        (By::Classic, "--docker", "--disk=48m"),
        (By::Classic, "--docker", "--disk=100m"),
        (By::Newest, "--runtime=docker", "--disk=48m"),
    ] {
        let daemons = Daemons::start(&[option, disk]);
        let endpoint = format!("unix://{}", daemons.at("/run/docker.sock").display());
        trouble::a_full_disk_is_told_until_there_is_room(&daemons, &by.of(&daemons), &endpoint).await;
    }
}

/// What of an image's parts is lost.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lost {
    Manifest,
    Config,
    Layer,
}

/// As a crash or a disk's failure leaves it: the tag is there, and this is not.
fn lose(daemons: &Daemons, by: By, image: &str, part: Lost) {
    let inspect = |format: &str| daemons.docker_cli(&["image", "inspect", "--format", format, image]);
    let id = inspect("{{.Id}}");
    if by == By::Newest {
        let manifest: serde_json::Value =
            serde_json::from_str(&daemons.ctr_of("moby", &["content", "get", &id])).unwrap();
        let config = manifest["config"]["digest"].as_str().unwrap();
        daemons.ctr_of("moby", &["content", "rm", if part == Lost::Config { config } else { &id }]);
        return;
    }
    match part {
        Lost::Config | Lost::Manifest => {
            let file =
                format!("/var/lib/docker/image/overlay2/imagedb/content/sha256/{}", id.trim_start_matches("sha256:"));
            std::fs::remove_file(daemons.at(&file)).unwrap();
        }
        Lost::Layer => {
            let layer = inspect("{{.GraphDriver.Data.UpperDir}}");
            std::fs::remove_dir_all(daemons.at(layer.trim_end_matches("/diff"))).unwrap();
        }
    }
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_tag_with_a_part_missing_does_not_stand_and_is_built_again() {
    let lost = |by| if by == By::Newest { [Lost::Manifest, Lost::Config] } else { [Lost::Config, Lost::Layer] };
    for (by, part) in By::ALL.into_iter().flat_map(|by| lost(by).map(|part| (by, part))) {
        let (builder, daemons) = (by.builder(), by.daemons());
        let name = by.name(&format!("broken-{part:?}").to_lowercase());
        let files: [(&str, u32, &[u8]); 2] =
            [("Dockerfile", 0o644, b"FROM scratch\nCOPY layer /layer\nLABEL a=b\n"), ("layer", 0o644, name.as_bytes())];
        let stands = async || {
            builder
                .present(std::slice::from_ref(&name))
                .await
                .unwrap_or_else(|error| panic!("{by:?} {part:?}: {error:?}"))
        };
        build(&builder, &order(&name), context(&files)).await.0.unwrap();
        assert_eq!(stands().await, [true], "{by:?} {part:?}");
        lose(daemons, by, &name, part);
        assert_eq!(stands().await, [false], "{by:?} {part:?}");
        let mut again = build(&builder, &order(&name), context(&files)).await;
        // What its cache is good for an old dockerd finds on its way.
        if matches!((by, part), (By::Classic, Lost::Config) | (By::BuildKit, Lost::Layer)) {
            let error = again.0.unwrap_err();
            assert!(error.is_transient(), "{error:?}");
            if by == By::BuildKit {
                assert!(error.to_string().contains("docker builder prune --all"), "{error}");
                daemons.docker_cli(&["builder", "prune", "--all", "--force"]);
            }
            again = build(&builder, &order(&name), context(&files)).await;
        }
        again.0.unwrap_or_else(|error| panic!("{by:?} {part:?}: {error:?}: {:#?}", again.1));
        assert_eq!(stands().await, [true], "{by:?} {part:?}");
        let container = daemons.docker_cli(&["create", &name, "/layer"]);
        daemons.docker_cli(&["rm", &container]);
    }
}

#[tokio::test]
async fn a_dockerd_that_is_not_there_says_what_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let (missing, dead) = (directory.path().join("missing.sock"), directory.path().join("dead.sock"));
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    for (socket, words) in [(missing, "there is no such socket"), (dead, "nobody listens there")] {
        let builder = Docker::new(Endpoint::Unix(socket)).time_limit(Duration::from_secs(60));
        let built = build(&builder, &order("away:1"), dockerfile("FROM scratch\n")).await.0.unwrap_err();
        let asked = builder.present(&["away:1".to_owned()]).await.unwrap_err();
        for error in [built, asked] {
            assert!(
                matches!(&error, BuildError::Away { reason, .. } if reason == words) && error.is_transient(),
                "{error:?}"
            );
        }
    }
}
