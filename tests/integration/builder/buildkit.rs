//! What a BuildKit on a containerd node builds, and what the kubelet sees of it.

use std::collections::BTreeMap;

use plumb::builder::containerd::Containerd;
use plumb::builder::{BuildKit, Builder, Endpoint, LABEL, Progress, Stored};
use tokio::net::{TcpListener, UnixStream};

use super::daemons::{Daemons, build, context, dockerfile, fails, order, shell};

/// The image of this full name.
async fn stored(builder: &dyn Builder, name: &str) -> Option<Stored> {
    builder.images().await.expect("images are listed").into_iter().find(|image| image.reference == name)
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn an_image_stands_before_the_kubelet_until_it_is_removed() {
    let daemons = Daemons::shared();
    let builder = daemons.builder();
    let mut order = order("built-once:1");
    order.labels = BTreeMap::from([("org.opencontainers.image.revision".to_owned(), "0123abc".to_owned())]);
    let files: [(&str, u32, &[u8]); 2] =
        [("Dockerfile", 0o644, b"FROM scratch\nCOPY a /a\n"), ("a", 0o755, b"content")];
    let asked = ["built-once:1".to_owned(), "nobody-built:1".to_owned()];
    assert_eq!(builder.present(&asked).await.unwrap(), [false, false]);

    let (built, log) = build(&builder, &order, context(&files)).await;
    let digest = built.unwrap().digest.expect("buildkitd tells the digest");
    assert!(log.iter().any(|line| matches!(line, Progress::Step(step) if step.contains("COPY a /a"))), "{log:#?}");
    assert_eq!(builder.present(&asked).await.unwrap(), [true, false]);
    let names = daemons.ctr(&["images", "ls"]);
    let line =
        names.lines().find(|line| line.starts_with("docker.io/library/built-once:1 ")).expect("the kubelet sees it");
    assert!(line.contains(&digest), "{line}");
    let image = stored(&builder, "docker.io/library/built-once:1").await.expect("it bears plumb's label");
    assert_eq!(image.labels[LABEL], "built-once:1");
    assert_eq!(image.labels["org.opencontainers.image.revision"], "0123abc");
    assert!(image.created > 1_700_000_000, "{}", image.created);

    for _ in 0..2 {
        builder.remove("built-once:1").await.expect("a name that is gone is no error");
        assert_eq!(builder.present(&asked).await.unwrap(), [false, false]);
    }
    let (again, _) = build(&builder, &order, context(&files)).await;
    assert_eq!(again.unwrap().digest.as_ref(), Some(&digest), "the same content makes the same image");
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn an_image_is_of_the_platform_that_its_order_names() {
    let daemons = Daemons::shared();
    for platform in ["linux/arm64", "linux/s390x"] {
        let mut order = order("of-a-platform:1");
        order.platform = Some(platform.to_owned());
        let text = "FROM scratch\nCOPY Dockerfile /\n";
        build(&daemons.builder(), &order, dockerfile(text)).await.0.unwrap();
        let names = daemons.ctr(&["images", "ls"]);
        let line = names.lines().find(|line| line.starts_with("docker.io/library/of-a-platform:1 "));
        assert!(line.expect("it stands").contains(platform), "{names}");
        assert_eq!(daemons.builder().present(&[order.reference]).await.unwrap(), [true]);
    }
}

/// The same daemon behind a port of this machine.
async fn by_tcp(daemon: Endpoint) -> Endpoint {
    let Endpoint::Unix(socket) = daemon else { panic!("{daemon} is no socket") };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = Endpoint::Tcp(listener.local_addr().unwrap().to_string());
    tokio::spawn(async move {
        while let Ok((mut theirs, _)) = listener.accept().await {
            let mut ours = UnixStream::connect(&socket).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut theirs, &mut ours).await });
        }
    });
    port
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_buildkit_is_reached_by_tcp() {
    let daemons = Daemons::shared();
    let builder = BuildKit::new(by_tcp(daemons.buildkitd()).await, Containerd::new(by_tcp(daemons.containerd()).await));
    let order = order("by-tcp:1");
    let (built, log) = build(&builder, &order, dockerfile("FROM scratch\nLABEL by=tcp\n")).await;
    built.unwrap_or_else(|error| panic!("{error}: {log:#?}"));
    assert!(log.iter().any(|line| matches!(line, Progress::Step(_))), "{log:#?}");
    assert_eq!(daemons.builder().present(&[order.reference]).await.unwrap(), [true]);
    assert_eq!(stored(&builder, "docker.io/library/by-tcp:1").await.expect("it is listed").labels["by"], "tcp");
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn target_arguments_and_a_dockerfile_elsewhere() {
    let builder = Daemons::shared().builder();
    let text = b"FROM scratch AS first\nARG ANSWER=none\nLABEL answer=$ANSWER\n\
        FROM first AS wanted\nLABEL stage=wanted\n\
        FROM first AS last\nLABEL stage=last\n";
    let files: [(&str, u32, &[u8]); 1] = [("docker/Answer.dockerfile", 0o644, text)];
    let mut order = order("team/staged:1");
    order.dockerfile = "docker/Answer.dockerfile".to_owned();
    order.target = Some("wanted".to_owned());
    order.args = BTreeMap::from([("ANSWER".to_owned(), "42".to_owned())]);
    build(&builder, &order, context(&files)).await.0.unwrap();
    let image = stored(&builder, "docker.io/team/staged:1").await.expect("a name with a slash has no library/");
    assert_eq!((image.labels["stage"].as_str(), image.labels["answer"].as_str()), ("wanted", "42"));
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn an_ignored_dockerfile_is_in_no_image_and_a_change_of_it_makes_no_step_anew() {
    let builder = Daemons::shared().builder();
    let files: [(&str, u32, &[u8]); 2] = [("docker/a", 0o644, b"a"), ("b", 0o644, b"b")];
    let mut order = order("ignored:1");
    order.dockerfile = "docker/Dockerfile".to_owned();
    order.bases = shell().await;
    // The shell knows whether it is there. The same size and another content: what came before is not taken for it.
    let check = "FROM shell\nCOPY . /all\nRUN [ ! -e /all/docker/Dockerfile ] && [ -e /all/docker/a ] && [ -e /all/b ]\nLABEL edit=";
    for edit in ["1", "2"] {
        order.ignored_dockerfile = Some(format!("{check}{edit}\n"));
        let (built, log) = build(&builder, &order, context(&files)).await;
        built.unwrap_or_else(|error| panic!("{error}: {log:#?}"));
        let image = stored(&builder, "docker.io/library/ignored:1").await.expect("it stands");
        assert_eq!(image.labels["edit"], edit);
        let cached = |step: &str| log.iter().any(|line| matches!(line, Progress::Cached(name) if name.contains(step)));
        assert_eq!((cached("COPY . /all"), cached("RUN")), (edit == "2", edit == "2"), "{log:#?}");
    }
    order.ignored_dockerfile = Some("FROM scratch\nCOPY missing /\n".to_owned());
    let error = fails(&builder, &order, context(&files)).await.to_string();
    assert!(error.starts_with("docker/Dockerfile:2: "), "{error}");
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn an_image_starts_from_another_one_of_the_repository_by_its_plain_name() {
    let builder = Daemons::shared().builder();
    let mut order = order("from-shell:1");
    order.bases = shell().await;
    let text = "FROM shell AS made\nRUN echo made >/made\nFROM scratch\nCOPY --from=made /made /made\nCOPY --from=shell /bin/sh /sh\n";
    let (built, log) = build(&builder, &order, dockerfile(text)).await;
    built.unwrap_or_else(|error| panic!("{error}: {log:#?}"));
    assert_eq!(builder.present(&["from-shell:1".to_owned()]).await.unwrap(), [true]);
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn an_image_with_a_part_missing_does_not_stand_and_is_built_again() {
    let daemons = Daemons::shared();
    let builder = daemons.builder();
    let files: [(&str, u32, &[u8]); 2] =
        [("Dockerfile", 0o644, b"FROM scratch\nCOPY layer /layer\n"), ("layer", 0o644, b"of the image that is broken")];
    let order = order("broken:1");
    let digest = build(&builder, &order, context(&files)).await.0.unwrap().digest.unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&daemons.ctr(&["content", "get", &digest])).unwrap();
    daemons.ctr(&["content", "rm", manifest["layers"][0]["digest"].as_str().expect("a layer")]);
    let asked = ["broken:1".to_owned()];
    assert_eq!(builder.present(&asked).await.unwrap(), [false], "{manifest}");
    build(&builder, &order, context(&files)).await.0.unwrap();
    assert_eq!(builder.present(&asked).await.unwrap(), [true]);
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn the_log_is_told_line_by_line_while_the_step_runs() {
    let builder = Daemons::shared().builder();
    let mut order = order("talks:1");
    order.bases = shell().await;
    let text = "FROM shell\nRUN echo first; echo \"token=geheim\"; echo third >&2\n";
    let (built, log) = build(&builder, &order, dockerfile(text)).await;
    built.unwrap_or_else(|error| panic!("{error}: {log:#?}"));
    let lines: Vec<&str> = log
        .iter()
        .filter_map(|line| if let Progress::Line { text, .. } = line { Some(text.as_str()) } else { None })
        .collect();
    assert!(lines.contains(&"first") && lines.contains(&"third"), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("token=")), "{lines:#?}");
    assert!(!format!("{log:?}").contains("geheim"), "{log:#?}");
}
