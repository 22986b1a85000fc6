//! What is built is pushed to a registry, and found there.

use plumb::builder::{BuildError, Builder, Registry};

use super::daemons::{Daemons, build, context, dockerfile, fails, order};

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn an_image_is_pushed_and_found_in_the_registry() {
    let daemons = Daemons::start(&["--registry"]);
    let builder = Registry::new(daemons.buildkitd(), None).insecure();
    let name = "localhost:5000/team/pushed:1".to_owned();
    assert_eq!(builder.present(std::slice::from_ref(&name)).await.unwrap(), [false]);
    let files: [(&str, u32, &[u8]); 2] = [("Dockerfile", 0o644, b"FROM scratch\nCOPY a /a\n"), ("a", 0o644, b"pushed")];
    let (built, log) = build(&builder, &order(&name), context(&files)).await;
    let digest = built.unwrap_or_else(|error| panic!("{error}: {log:#?}")).digest.expect("buildkitd tells the digest");
    let asked = [name, format!("localhost:5000/team/pushed@{digest}"), "localhost:5000/team/pushed:2".to_owned()];
    assert_eq!(builder.present(&asked).await.unwrap(), [true, true, false]);
    assert_eq!(builder.digests(&asked).await.unwrap(), [Some(digest.clone()), Some(digest), None]);

    let nowhere = order("localhost:1/team/pushed:1");
    let error = fails(&builder, &nowhere, dockerfile("FROM scratch\nLABEL a=b\n")).await;
    assert!(matches!(&error, BuildError::Registry { registry, .. } if registry == "localhost:1"), "{error:?}");
    assert!(error.is_transient(), "{error}");
    let error = builder.present(&[nowhere.reference]).await.unwrap_err();
    assert!(matches!(&error, BuildError::Registry { .. }) && error.is_transient(), "{error:?}");
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_tag_whose_manifest_is_lost_does_not_stand_and_is_pushed_again() {
    let daemons = Daemons::start(&["--registry"]);
    let builder = Registry::new(daemons.buildkitd(), None).insecure();
    let name = "localhost:5000/team/broken:1".to_owned();
    let files: [(&str, u32, &[u8]); 2] = [("Dockerfile", 0o644, b"FROM scratch\nCOPY a /a\n"), ("a", 0o644, b"lost")];
    let digest = build(&builder, &order(&name), context(&files)).await.0.unwrap().digest.unwrap();
    let hex = digest.trim_start_matches("sha256:");
    let blob = format!("/var/lib/registry/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
    std::fs::remove_file(daemons.at(&blob)).unwrap();
    let stands =
        async || builder.present(std::slice::from_ref(&name)).await.unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(stands().await, [false]);
    build(&builder, &order(&name), context(&files)).await.0.unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(stands().await, [true]);
}
