//! What is believed of what arrives: nothing before it was counted and hashed.

use serde_json::json;
use tinyd_core::Kind;
use tinyd_image::{digest::Digest, registry::PullOptions};

use crate::{
    Here, assert_says, files,
    made::{Made, OCI_INDEX, is_layer, noise},
    name, reference, registry,
    server::{Reply, Server, not_found},
    until,
};

#[tokio::test]
async fn content_that_is_not_what_its_digest_says_leaves_nothing() {
    let made = Made::new(8, 2, 100_000);
    let image = made.clone();
    let (here, server) = registry(&made, move |asked| {
        is_layer(asked, &image, 1).then(|| Reply::new(200, noise(99, image.layers[1].len())))
    });
    let error = here.pull(&reference(&server)).await.unwrap_err();
    assert_says(
        &error,
        Kind::InvalidArgument,
        &["layer 2", "its digest is", Digest::of(&made.layers[1]).hex()],
    );
    until("the end of the other layer", || files(&here.root().join("layers")).is_empty()).await;
    assert_eq!(here.store.blob_size(&Digest::of(&made.layers[1])), None);
}

#[tokio::test]
async fn more_than_was_announced_is_not_read() {
    let made = Made::new(9, 1, 100_000);
    let (image, config) = (made.clone(), made.config.clone());
    let (here, server) = registry(&made, move |asked| {
        is_layer(asked, &image, 0).then(|| Reply::new(200, [image.layers[0].as_slice(), b"more"].concat()))
    });
    let error = here.pull(&reference(&server)).await.unwrap_err();
    assert_says(&error, Kind::InvalidArgument, &["layer 1", "more than the"]);
    let digest = Digest::of(&config);
    let (here, server) = registry(&made, move |asked| {
        asked.path.contains(digest.hex()).then(|| Reply::new(200, [config.as_slice(), b" "].concat()))
    });
    let error = here.pull(&reference(&server)).await.unwrap_err();
    assert_says(&error, Kind::InvalidArgument, &["configuration", "more than"]);
    here.assert_nothing();
}

#[tokio::test]
async fn a_length_that_is_a_lie_does_no_harm() {
    let made = Made::new(10, 1, 100_000);
    for lie in [-50_000, 50_000] {
        let image = made.clone();
        let (here, server) = registry(&made, move |asked| {
            let said = image.layers[0].len() as i64 + lie;
            let is_first = asked.range().is_none();
            (is_layer(asked, &image, 0) && is_first)
                .then(|| Reply::new(200, image.layers[0].clone()).saying(said.try_into().unwrap()))
        });
        here.pull(&reference(&server)).await.unwrap();
        here.store.verify_blob(&Digest::of(&made.layers[0])).unwrap();
    }
}

#[tokio::test]
async fn a_manifest_is_counted_and_hashed_before_it_is_believed() {
    let made = Made::new(11, 1, 1000);
    let other = Made::new(12, 1, 1000);
    let by_digest = format!("a@{}", made.digest());
    let large = vec![b' '; (4 << 20) + 1];
    let both = br#"{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}"#.to_vec();
    let lying = other.manifest.clone();
    for (path, reply, part) in [
        (by_digest.as_str(), Reply::new(200, other.manifest.clone()), "its digest is"),
        ("a", Reply::new(200, lying).with("Docker-Content-Digest", made.digest()), "its digest is"),
        ("a", Reply::new(200, large), "more than 4194304 bytes"),
        ("a", Reply::new(200, both), "both layers and manifests"),
        ("a", Reply::new(200, r#"{"schemaVersion":1,"fsLayers":[]}"#), "schema 1"),
    ] {
        let (here, server) =
            registry(&made, move |asked| asked.path.contains("manifests").then(|| reply.clone()));
        let error = here.pull(&format!("{}/{path}", server.host())).await.unwrap_err();
        assert!(error.message().contains(part), "{error}");
        assert!(matches!(error.kind(), Kind::InvalidArgument | Kind::Unsupported), "{error}");
        assert_eq!(server.asked().len(), 1, "{part}");
        here.assert_nothing();
    }
}

#[tokio::test]
async fn of_an_index_it_is_the_image_for_the_platform() {
    let (amd, arm) = (Made::of(13, 1, 1000, "amd64"), Made::of(14, 1, 1000, "arm64"));
    let point = |made: &Made, architecture: &str| {
        json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": made.digest().to_string(), "size": made.manifest.len(),
        "platform": { "os": "linux", "architecture": architecture } })
    };
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [point(&amd, "amd64"), point(&arm, "arm64")] });
    let index = index.to_string().into_bytes();
    let digest = Digest::of(&index);
    let (one, second) = (amd.clone(), arm.clone());
    let server = Server::plain(move |asked| match asked.path.ends_with("latest") {
        true => Reply::new(200, index.clone()).with("Content-Type", OCI_INDEX),
        false => [&one, &second]
            .iter()
            .map(|made| made.answer(asked))
            .find(|reply| !reply.is_not_found())
            .unwrap_or_else(not_found),
    });
    let here = Here::new();
    here.allow_plain(&server.host());
    for (platform, made) in [("linux/amd64", &amd), ("linux/arm64/v8", &arm)] {
        let options = PullOptions { platform: Some(platform.parse().unwrap()), ..PullOptions::default() };
        let pulled = here.client().pull(&name(&reference(&server)), &options).await.unwrap();
        assert_eq!((&pulled.manifest, pulled.index.as_ref()), (&made.digest(), Some(&digest)));
        assert_eq!(pulled.pinned.digest(), Some(&digest));
    }
    let s390 = PullOptions { platform: Some("linux/s390x".parse().unwrap()), ..PullOptions::default() };
    let error = here.client().pull(&name(&reference(&server)), &s390).await.unwrap_err();
    assert_says(&error, Kind::NotFound, &["linux/s390x", "linux/amd64, linux/arm64"]);
    // Of an image without an index it is held against its configuration.
    let alone = format!("{}@{}", reference(&server), amd.digest());
    let error = here.client().pull(&name(&alone), &s390).await.unwrap_err();
    assert_says(&error, Kind::NotFound, &["is for linux/amd64, not for linux/s390x"]);
}

#[tokio::test]
async fn an_index_within_an_index_is_refused() {
    let made = Made::new(15, 1, 1000);
    let inner = br#"{"schemaVersion":2,"manifests":[]}"#.to_vec();
    let outer = json!({ "schemaVersion": 2, "manifests": [{ "digest": Digest::of(&inner).to_string(),
        "size": inner.len(), "platform": { "os": "linux", "architecture": "amd64" } }] });
    let (here, server) = registry(&made, move |asked| {
        Some(Reply::new(
            200,
            if asked.path.ends_with("latest") { outer.to_string().into_bytes() } else { inner.clone() },
        ))
    });
    let error = here.pull(&reference(&server)).await.unwrap_err();
    assert_says(&error, Kind::InvalidArgument, &["that is an index again"]);
}
