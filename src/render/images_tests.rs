use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::super::tests::{LINK, TestRepository, render_with, spec};
use super::super::{Cache, Rendered, Tools};
use super::*;
use crate::model::Desired;
use crate::source::Snapshot;

const FILE: i32 = 0o100_644;
const EXECUTABLE: i32 = 0o100_755;

const PLUMB: &str = "images:\n- name: web\n  context: apps/web\n- name: api\n  context: apps/api\n";
const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {template: {spec: {containers: [{name: a, image: api}, {name: w, image: 'web:latest'}]}}}\n";

type Files = BTreeMap<String, (Vec<u8>, i32)>;

fn files(more: &[(&str, &str)]) -> Files {
    let base = [
        ("plumb.yaml", PLUMB),
        ("m/d.yaml", DEPLOYMENT),
        ("apps/web/Dockerfile", "FROM scratch\nCOPY . /\n"),
        ("apps/web/index.html", "hello"),
        ("apps/api/Dockerfile", "FROM scratch\nCOPY . /\n"),
        ("apps/api/main.rs", "fn main() {}"),
    ];
    let all = base.iter().chain(more);
    all.map(|(path, text)| ((*path).to_owned(), (text.as_bytes().to_vec(), FILE))).collect()
}

fn commit(repository: &TestRepository, files: &Files) -> Snapshot {
    repository.commit_modes(&files.iter().map(|(path, (bytes, mode))| (&**path, &**bytes, *mode)).collect::<Vec<_>>())
}

fn found(files: &Files) -> Result<Images, RenderError> {
    images(&commit(&TestRepository::new(), files), &mut Known::default())
}

fn tags(files: &Files) -> BTreeMap<String, String> {
    found(files).unwrap().images.into_iter().map(|image| (image.source.name.clone(), image.tag)).collect()
}

/// A file of the repository, near the contexts and in them.
fn path() -> impl Strategy<Value = String> {
    let directory = prop_oneof![
        Just(""),
        Just("apps/"),
        Just("apps/web/"),
        Just("apps/web/src/"),
        Just("apps/webs/"),
        Just("apps/api/")
    ];
    (directory, "[abA]{1,2}\\.(txt|log)").prop_map(|(directory, name)| format!("{directory}{name}"))
}

fn mode() -> impl Strategy<Value = i32> {
    prop_oneof![4 => Just(FILE), 1 => Just(EXECUTABLE), 1 => Just(LINK)]
}

/// What the image `web` is built from, told without the code under test: `*.log` at any depth is ignored.
fn of_web(files: &Files) -> Files {
    let in_web = |path: &str| path.starts_with("apps/web/") && !path.ends_with(".log");
    files.iter().filter(|(path, _)| in_web(path)).map(|(path, file)| (path.clone(), file.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn a_tag_changes_with_what_is_in_the_context_and_with_nothing_else(
        one in prop::collection::btree_map(path(), ("[xy]", mode()), 0..6),
        other in prop::collection::btree_map(path(), ("[xy]", mode()), 0..6),
    ) {
        let all = |some: BTreeMap<String, (String, i32)>| {
            let mut all = files(&[("apps/web/.dockerignore", "**/*.log\n")]);
            all.extend(some.into_iter().map(|(path, (text, mode))| (path, (text.into_bytes(), mode))));
            all
        };
        let (one, other) = (all(one), all(other));
        // Each in a repository of its own: the tag is the content's alone.
        prop_assert_eq!(tags(&one)["web"] == tags(&other)["web"], of_web(&one) == of_web(&other));
    }
}

#[test]
fn whatever_is_built_otherwise_has_another_tag() {
    let base = tags(&files(&[]));
    let web = |change: &dyn Fn(&mut Files)| {
        let mut all = files(&[]);
        change(&mut all);
        let tags = tags(&all);
        assert_eq!(tags["api"], base["api"], "only the image that changed");
        tags["web"].clone()
    };
    let plumb = |from: &str, to: &str| {
        let text = PLUMB.replacen(from, to, 1);
        web(&|all| all.get_mut("plumb.yaml").unwrap().0 = text.clone().into_bytes())
    };
    let mut seen = vec![base["web"].clone()];
    for tag in [
        web(&|all| all.get_mut("apps/web/index.html").unwrap().1 = EXECUTABLE),
        web(&|all| *all.get_mut("apps/web/index.html").unwrap() = (b"Dockerfile".to_vec(), LINK)),
        web(&|all| {
            let file = all.remove("apps/web/index.html").unwrap();
            all.insert("apps/web/Index.html".to_owned(), file);
        }),
        web(&|all| all.get_mut("apps/web/Dockerfile").unwrap().0.extend(b"# more")),
        plumb("apps/web\n", "apps/web\n  args: {A: b}\n"),
        plumb("apps/web\n", "apps/web\n  args: {A: b, C: d}\n"),
        plumb("apps/web\n", "apps/web\n  target: '0'\n"),
        plumb("apps/web\n", "apps/web\n  platform: linux/arm64\n"),
        plumb("apps/web\n", "apps/web\n  platform: linux/amd64\n"),
    ] {
        assert!(!seen.contains(&tag), "{tag}");
        seen.push(tag);
    }
    assert_eq!(plumb("apps/web\n", "apps/web\n  args: {C: d, A: b}\n"), seen[6], "the order of args is nothing");
    assert_eq!(plumb("apps/web", "./apps//web/"), seen[0], "one directory has many spellings");
    // The Dockerfile decides even if it is ignored; what ignores it does not.
    let ignored = |dockerfile: &str| {
        tags(&files(&[("apps/web/.dockerignore", "Docker*\n.docker*"), ("apps/web/Dockerfile", dockerfile)]))
    };
    assert_ne!(ignored("FROM scratch")["web"], ignored("FROM scratch\n")["web"]);
    let one = tags(&files(&[("apps/web/.dockerignore", "Docker*\n.dockerignore")]));
    let other = tags(&files(&[("apps/web/.dockerignore", "# why\nDockerfile\n.dockerignore\n")]));
    assert_eq!(one, other, "the effect of an ignore file counts, not its text");
    let own = [("apps/web/.dockerignore", "index.html"), ("apps/web/Dockerfile.dockerignore", "x")];
    assert_ne!(tags(&files(&own))["web"], tags(&files(&own[..1]))["web"]);
}

#[test]
fn what_an_image_is_based_on_changes_it() {
    let with = |web: &str| {
        files(&[("apps/web/Dockerfile", "FROM docker.io/library/api AS x\nFROM scratch\n"), ("apps/api/main.rs", web)])
    };
    let found = found(&with("1")).unwrap();
    let names: Vec<&str> = found.images.iter().map(|image| &*image.source.name).collect();
    assert_eq!(names, ["api", "web"], "what others are based on comes first");
    let expected = BTreeMap::from([("docker.io/library/api".to_owned(), found.images[0].reference())]);
    assert_eq!(found.images[1].bases, expected);
    let (one, other) = (tags(&with("1")), tags(&with("2")));
    assert!(one["web"] != other["web"] && one["api"] != other["api"]);
    let pinned = |web: &str| files(&[("apps/web/Dockerfile", "FROM api:1@sha256:00\n"), ("apps/api/main.rs", web)]);
    assert_eq!(tags(&pinned("1"))["web"], tags(&pinned("2"))["web"]);
}

#[test]
fn what_cannot_be_built_is_named() {
    let failure = |more: &[(&str, &str)], mode: i32| {
        let mut all = files(more);
        if let Some((path, _)) = more.first() {
            all.get_mut(*path).unwrap().1 = mode;
        }
        found(&all).unwrap_err().failure().to_string()
    };
    for (more, mode, expected) in [
        (
            &[("plumb.yaml", "images: [{name: a, context: apps/no}]")][..],
            FILE,
            "apps/no: the image \"a\": its context, apps/no, is not in this commit",
        ),
        (
            &[("plumb.yaml", "images: [{name: a, context: m/d.yaml}]")],
            FILE,
            "m/d.yaml: the image \"a\": its context, m/d.yaml, is a file",
        ),
        (
            &[("plumb.yaml", "images: [{name: a, context: ../x}]")],
            FILE,
            "plumb.yaml:1: column 20: images[0].context: context of the image \"a\" is \"../x\"",
        ),
        (
            &[("plumb.yaml", "images:\n- {name: 'docker.io/library/plumb:0.1.0,docker.io/library/web', context: m}")],
            FILE,
            "plumb.yaml:2: column 4: images[0].name: \"docker.io/library/plumb:0.1.0,docker.io/library/web\" is not an image's name",
        ),
        (
            &[("plumb.yaml", "images:\n- name: a\n  context: m\n  args:\n    A: b\n    NPM_TOKEN: hunter2\n")],
            FILE,
            "plumb.yaml:6: column 5: images[0].args.NPM_TOKEN: the build argument \"NPM_TOKEN\" of the image \"a\" looks like a secret",
        ),
        (
            &[("plumb.yaml", "images: [{name: a, context: m}]")],
            FILE,
            "m/Dockerfile: the image \"a\": its Dockerfile, m/Dockerfile, is not in",
        ),
        (
            &[
                ("plumb.yaml", "images: [{name: a, context: apps/web}, {name: docker.io/a, context: m}]"),
                ("m/Dockerfile", "FROM a"),
            ],
            FILE,
            "plumb.yaml: the image \"docker.io/a\" is declared twice",
        ),
        (
            &[("plumb.yaml", "images: [{name: a, context: apps/web, target: nope}]")],
            FILE,
            "apps/web/Dockerfile: the image \"a\": apps/web/Dockerfile has no stage \"nope\"",
        ),
        (
            &[("apps/web/Dockerfile", "RUN x")],
            FILE,
            "apps/web/Dockerfile: the image \"web\": apps/web/Dockerfile: line 1: RUN stands before",
        ),
        (
            &[("apps/web/Dockerfile", "x")],
            LINK,
            "apps/web/Dockerfile: the image \"web\": its Dockerfile, apps/web/Dockerfile, is a symbolic link",
        ),
        (
            &[("apps/web/.dockerignore", "[")],
            FILE,
            "apps/web/.dockerignore: the image \"web\": apps/web/.dockerignore: line 1: \"[\" is not a pattern",
        ),
        (
            &[("apps/web/.dockerignore", "ignored")],
            LINK,
            "apps/web/.dockerignore: the image \"web\": apps/web/.dockerignore is a symbolic link, and what it leaves out would be sent; put",
        ),
        (
            &[("apps/web/Dockerfile.dockerignore", ".dockerignore"), ("apps/web/.dockerignore", "secret")],
            LINK,
            "apps/web/Dockerfile.dockerignore: the image \"web\": apps/web/Dockerfile.dockerignore is a symbolic link",
        ),
        (
            &[("apps/web/x", "../api/main.rs")],
            LINK,
            "apps/web/x: the image \"web\": apps/web/x is a symbolic link to \"../api/main.rs\", which leads out",
        ),
        (
            &[("apps/web/x", "/etc/passwd")],
            LINK,
            "apps/web/x: the image \"web\": apps/web/x is a symbolic link to \"/etc/passwd\"",
        ),
        (
            &[("apps/web/Dockerfile", "FROM web")],
            FILE,
            "plumb.yaml: the images are based on each other in a circle: web → web",
        ),
        (
            &[("apps/web/Dockerfile", "FROM api"), ("apps/api/Dockerfile", "FROM web")],
            FILE,
            "plumb.yaml: the images are based on each other in a circle: web → api → web",
        ),
    ] {
        let shown = failure(more, mode);
        assert!(shown.starts_with(expected), "{shown}");
    }
    let ignored = files(&[("apps/web/.dockerignore", "x")]);
    let mut linked = ignored.clone();
    linked.insert("apps/web/x".to_owned(), (b"/etc".to_vec(), LINK));
    assert_eq!(tags(&linked), tags(&ignored), "what is ignored is nobody's trouble");
}

fn images_of(desired: &Desired) -> Vec<String> {
    let value: serde_json::Value = serde_json::from_str(desired.objects[0].json.get()).unwrap();
    let containers = value.pointer("/spec/template/spec/containers").unwrap().as_array().unwrap().clone();
    containers.iter().map(|container| container["image"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn containers_get_the_tags_and_only_what_changed_changes() {
    let repository = TestRepository::new();
    let mut cache = Cache::default();
    let mut render = |all: &Files| {
        let snapshot = commit(&repository, all);
        render_with(&snapshot, &spec(json!({})), &Tools::default(), &mut cache).unwrap()
    };
    let Rendered::New(first) = render(&files(&[])) else { panic!("it is the first") };
    let expected = tags(&files(&[]));
    assert_eq!(images_of(&first), [format!("api:{}", expected["api"]), format!("web:{}", expected["web"])]);
    assert!(first.remarks.is_empty(), "{:?}", first.remarks);

    assert!(matches!(render(&files(&[("README.md", "x")])), Rendered::Same(_)), "nothing that is read changed");
    let Rendered::New(second) = render(&files(&[("apps/web/index.html", "new")])) else { panic!("an image changed") };
    assert_eq!(images_of(&second)[0], images_of(&first)[0]);
    assert_ne!(images_of(&second)[1], images_of(&first)[1]);
    let Rendered::New(back) = render(&files(&[])) else { panic!("it changed back") };
    assert_eq!(back.digest(), first.digest(), "a revert asks for the old image");
    let ignored = files(&[("apps/web/.dockerignore", "x\n.dockerignore"), ("apps/web/x", "1")]);
    let same = render(&ignored).into_desired();
    assert_eq!(same.digest(), first.digest(), "what is ignored changes no object");
}

#[test]
fn sources_of_images_alone_run_no_renderer() {
    let Some(helm) = super::super::test_program("helm") else { return };
    let repository = TestRepository::new();
    let chart = [("m/Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n"), ("m/templates/d.yaml", DEPLOYMENT)];
    let all = |web: &str| {
        let mut all = files(&chart);
        all.remove("m/d.yaml");
        all.insert("apps/web/index.html".to_owned(), (web.as_bytes().to_vec(), FILE));
        commit(&repository, &all)
    };
    let mut cache = Cache::default();
    let with = Tools { helm: Some(helm), ..Tools::default() };
    let first = render_with(&all("1"), &spec(json!({})), &with, &mut cache).unwrap().into_desired();
    // There is no helm now: whoever needed it would fail.
    let second = render_with(&all("2"), &spec(json!({})), &Tools::default(), &mut cache).unwrap().into_desired();
    assert_ne!(images_of(&first)[1], images_of(&second)[1]);
    assert!(render_with(&all("2"), &spec(json!({"values": ["plumb.yaml"]})), &Tools::default(), &mut cache).is_err());
}

#[test]
fn what_a_person_should_know_is_said() {
    let more = [
        (
            "plumb.yaml",
            "images:\n- {name: web, context: apps/web}\n- {name: api, context: apps/api}\n- {name: idle, context: apps/api}\n",
        ),
        ("apps/web/Dockerfile", "# syntax=docker/dockerfile:1\nFROM node:20\n"),
        (
            "m/e.yaml",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a, image: 'api:1.2'}]}\n",
        ),
    ];
    let repository = TestRepository::new();
    let snapshot = commit(&repository, &files(&more));
    let policy = Tools { pull_policy: Some("Never"), ..Tools::default() };
    let desired = render_with(&snapshot, &spec(json!({})), &policy, &mut Cache::default()).unwrap().into_desired();
    let starts = [
        "plumb.yaml: no container of this environment uses the image \"idle\"",
        "Pod/dev/p uses \"api:1.2\", which says itself",
        "apps/web/Dockerfile: the base image \"node:20\" has no digest",
        "apps/web/Dockerfile: the syntax \"docker/dockerfile:1\" has no digest",
    ];
    assert_eq!(desired.remarks.len(), starts.len(), "{:?}", desired.remarks);
    for (remark, start) in desired.remarks.iter().zip(starts) {
        assert!(remark.starts_with(start), "{remark}");
    }
    assert!(desired.objects[0].json.get().contains("\"imagePullPolicy\":\"Never\""));
    assert!(!desired.objects[1].json.get().contains("imagePullPolicy"));
}

#[test]
fn an_image_that_is_left_to_others_is_the_one_the_object_is_made_with() {
    let rule = json!({"ignore": [{"kind": "Deployment", "fields": ["spec.template.spec.containers[name=a].image"]}]});
    let repository = TestRepository::new();
    let snapshot = commit(&repository, &files(&[]));
    let desired = render_with(&snapshot, &spec(rule), &Tools::default(), &mut Cache::default()).unwrap().into_desired();
    let api = format!("\"api:{}\"", tags(&files(&[]))["api"]);
    let object = &desired.objects[0];
    assert!(!object.json.get().contains(&api) && object.as_made().json.get().contains(&api));
}
