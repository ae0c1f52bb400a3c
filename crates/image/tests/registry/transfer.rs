//! What arrives: whole or not at all, each blob once, and after a cut from where it was.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use tinyd_core::Kind;
use tinyd_image::{
    config::chain_ids,
    digest::Digest,
    gc,
    images::Images,
    progress::Step,
    registry::{Client, Listener, PullOptions},
    store::Store,
};

use crate::{
    Here, assert_says, files,
    made::{Made, OCI_INDEX, is_layer, manifest, noise, part},
    name,
    server::{Asked, Reply, Server, not_found},
    until,
};

/// A registry that has one image, except where `otherwise` says something else.
fn registry(
    made: &Made,
    otherwise: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static,
) -> (Here, Server) {
    let made = made.clone();
    let server = Server::plain(move |asked| otherwise(asked).unwrap_or_else(|| made.answer(asked)));
    let here = Here::new();
    here.allow_plain(&server.host());
    (here, server)
}

fn reference(server: &Server) -> String {
    format!("{}/a", server.host())
}

#[tokio::test]
async fn an_image_arrives_whole_and_unpacked() {
    let made = Made::new(1, 3, 300_000);
    let (here, server) = registry(&made, |_| None);
    let steps = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&steps);
    let options = PullOptions {
        listener: Some(Listener::new(move |progress| told.lock().unwrap().push(progress))),
        ..PullOptions::default()
    };
    let pulled = here.client().pull(&name(&reference(&server)), &options).await.unwrap();
    assert_eq!((&pulled.id, &pulled.manifest), (&Digest::of(&made.config), &made.digest()));
    assert_eq!(pulled.pinned, name(&reference(&server)).with_digest(made.digest()));
    let chain = chain_ids(&pulled.config.rootfs.diff_ids);
    for (at, chain_id) in chain.iter().enumerate() {
        let file = here.store.layer_files(chain_id).join(format!("file-{at}"));
        assert_eq!(fs::read(file).unwrap(), noise(1000 + at as u64, 300_000));
        here.store.verify_blob(&Digest::of(&made.layers[at])).unwrap();
    }
    assert_eq!(files(&here.root().join("ingest")).len(), 0);
    let steps = steps.lock().unwrap().clone();
    for layer in made.layers.iter().map(|layer| Digest::of(layer)) {
        let own: Vec<Step> = steps.iter().filter(|one| one.layer == layer).map(|one| one.step).collect();
        assert_eq!(own.first(), Some(&Step::Waiting));
        assert!(own.contains(&Step::Downloaded) && own.contains(&Step::Unpacked), "{own:?}");
    }
    // The second time only the name is asked for.
    let before = server.asked().len();
    here.pull(&reference(&server)).await.unwrap();
    assert_eq!(server.asked().len(), before + 1);
    // And when the name is known, not even that is transferred.
    let known = PullOptions { known: Some(made.digest()), ..PullOptions::default() };
    here.client().pull(&name(&reference(&server)), &known).await.unwrap();
    assert_eq!((server.count("HEAD", "manifests"), server.count("GET", "manifests")), (1, 2));
}

#[tokio::test]
async fn twenty_who_pull_the_same_transfer_each_blob_once() {
    let made = Made::new(2, 4, 200_000);
    let (here, server) = registry(&made, |_| None);
    let (client, reference) = (here.client(), name(&reference(&server)));
    let pulls: Vec<_> = (0..20)
        .map(|_| {
            let (client, reference) = (client.clone(), reference.clone());
            tokio::spawn(async move { client.pull(&reference, &PullOptions::default()).await })
        })
        .collect();
    for pull in pulls {
        pull.await.unwrap().unwrap();
    }
    for blob in made.layers.iter().chain([&made.config]) {
        assert_eq!(server.count("GET", Digest::of(blob).hex()), 1);
    }
    assert_eq!(files(&here.root().join("layers")).len(), 4);
}

#[tokio::test]
async fn two_images_with_a_layer_in_common_transfer_it_once() {
    let one = Made::new(3, 2, 200_000);
    let config =
        serde_json::to_vec_pretty(&serde_json::from_slice::<serde_json::Value>(&one.config).unwrap())
            .unwrap();
    let other = Made { manifest: manifest(&config, &one.layers), config, layers: one.layers.clone() };
    let (first, second) = (one.clone(), other.clone());
    let server = Server::plain(move |asked| match asked.path.contains("manifests/other") {
        true => Reply::new(200, second.manifest.clone()),
        false if asked.path.contains(Digest::of(&second.config).hex()) => second.answer(asked),
        false => first.answer(asked),
    });
    let here = Here::new();
    here.allow_plain(&server.host());
    let client = here.client();
    let names = [name(&reference(&server)), name(&format!("{}:other", reference(&server)))];
    let (options, more) = (PullOptions::default(), PullOptions::default());
    let (a, b) = tokio::join!(client.pull(&names[0], &options), client.pull(&names[1], &more));
    assert_ne!(a.unwrap().id, b.unwrap().id);
    for layer in &one.layers {
        assert_eq!(server.count("GET", Digest::of(layer).hex()), 1);
    }
}

#[tokio::test]
async fn a_transfer_that_is_cut_at_every_tenth_goes_on_there() {
    let made = Made::new(4, 1, 1_000_000);
    let layer = made.layers[0].clone();
    let sent = Arc::new(AtomicUsize::new(0));
    let (image, total) = (made.clone(), Arc::clone(&sent));
    let (here, server) = registry(&made, move |asked| {
        is_layer(asked, &image, 0).then(|| {
            let left = layer.len() - asked.range().unwrap_or(0);
            let piece = (layer.len() / 10 + 1).min(left);
            total.fetch_add(piece, Ordering::Relaxed);
            part(asked, &layer).cut_after(piece)
        })
    });
    here.pull(&reference(&server)).await.unwrap();
    assert_eq!(server.count("GET", Digest::of(&made.layers[0]).hex()), 10);
    assert_eq!(sent.load(Ordering::Relaxed), made.layers[0].len());
}

#[tokio::test]
async fn the_next_daemon_goes_on_where_the_last_one_was_cut() {
    let made = Made::new(5, 1, 500_000);
    let half = made.layers[0].len() / 2;
    let is_second = Arc::new(AtomicUsize::new(0));
    let (image, layer, number) = (made.clone(), made.layers[0].clone(), Arc::clone(&is_second));
    let (here, server) = registry(&made, move |asked| {
        let is_cut = is_layer(asked, &image, 0) && number.load(Ordering::Relaxed) == 0;
        is_cut.then(|| part(asked, &layer).cut_after(half))
    });
    let mut config = here.config();
    config.tries.rounds = 1;
    let first = Client::new(here.store.clone(), config.clone());
    let error = first.pull(&name(&reference(&server)), &PullOptions::default()).await.unwrap_err();
    assert_says(&error, Kind::Unavailable, &["layer 1"]);
    is_second.store(1, Ordering::Relaxed);
    let next = Client::new(here.reopened(), config);
    next.pull(&name(&reference(&server)), &PullOptions::default()).await.unwrap();
    let ranges: Vec<_> =
        server.asked().iter().filter(|asked| is_layer(asked, &made, 0)).map(Asked::range).collect();
    assert_eq!(ranges, [None, Some(half)]);
}

#[tokio::test]
async fn a_host_that_knows_no_ranges_is_listened_to_from_the_beginning() {
    for status in [200, 416, 206] {
        let made = Made::new(6, 1, 300_000);
        let (image, layer) = (made.clone(), made.layers[0].clone());
        let (here, server) = registry(&made, move |asked| {
            let is_first = asked.range().is_none();
            let count = if is_first { 100_000 } else { layer.len() };
            is_layer(asked, &image, 0).then(|| match (asked.range(), status) {
                (None, _) if asked.header("x").is_none() => Reply::new(200, layer.clone()).cut_after(count),
                (_, 200) => Reply::new(200, layer.clone()),
                // A part, and not the one that was asked for.
                (_, 206) => Reply::new(206, &layer[7..]).with("Content-Range", "bytes 7-9/10"),
                (_, status) => Reply::new(status, ""),
            })
        });
        let answer = here.pull(&reference(&server)).await;
        match status {
            200 => drop(answer.unwrap()),
            // It always cuts at the same place: then there is no way.
            _ => assert_says(&answer.unwrap_err(), Kind::Unavailable, &["layer 1"]),
        }
        assert!(server.asked().iter().any(|asked| asked.range() == Some(100_000)), "{status}");
    }
}

#[tokio::test]
async fn bytes_of_before_that_are_damaged_are_fetched_again() {
    let made = Made::new(7, 1, 200_000);
    let (here, server) = registry(&made, |_| None);
    let digest = Digest::of(&made.layers[0]);
    fs::write(here.root().join(format!("ingest/sha256-{}", digest.hex())), vec![0; 100_000]).unwrap();
    here.pull(&reference(&server)).await.unwrap();
    let ranges: Vec<_> =
        server.asked().iter().filter(|asked| is_layer(asked, &made, 0)).map(Asked::range).collect();
    assert_eq!(ranges, [Some(100_000), None]);
}

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

#[tokio::test]
async fn a_registry_that_is_busy_is_asked_again() {
    let made = Made::new(16, 1, 1000);
    let number = AtomicUsize::new(0);
    let (here, server) = registry(&made, move |asked| {
        let is_busy = asked.path.contains("manifests") && number.fetch_add(1, Ordering::Relaxed) < 3;
        is_busy.then(|| Reply::new(503, ""))
    });
    here.pull(&reference(&server)).await.unwrap();
    assert_eq!(server.count("GET", "manifests"), 4);
    // Not for ever, and not when the answer will be the same.
    for (status, kind, count) in
        [(503, Kind::Unavailable, 6), (404, Kind::NotFound, 1), (400, Kind::InvalidArgument, 1)]
    {
        let (here, server) = registry(&made, move |_| Some(Reply::new(status, "")));
        let error = here.pull(&reference(&server)).await.unwrap_err();
        assert_says(&error, kind, &[&status.to_string(), &format!("pull {}", reference(&server))]);
        assert_eq!(server.asked().len(), count, "{status}");
    }
}

#[tokio::test]
async fn a_limit_on_pulls_is_kept_or_told() {
    let made = Made::new(17, 1, 1000);
    let number = AtomicUsize::new(0);
    let (here, server) = registry(&made, move |_| {
        (number.fetch_add(1, Ordering::Relaxed) == 0).then(|| Reply::new(429, "").with("Retry-After", 1))
    });
    let began = Instant::now();
    here.pull(&reference(&server)).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    let (here, server) = registry(&made, |_| {
        Some(Reply::new(429, "").with("Retry-After", 3600).with("ratelimit-limit", "100;w=21600"))
    });
    let error = here.pull(&reference(&server)).await.unwrap_err();
    assert_says(&error, Kind::Unavailable, &["429", "again in 3600 s", "limit 100;w=21600", "tinyd login"]);
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn who_stops_waiting_ends_the_transfer_and_leaves_what_the_next_one_needs() {
    let made = Made::new(18, 1, 400_000);
    let stalls = Arc::new(AtomicUsize::new(1));
    let (image, on) = (made.clone(), Arc::clone(&stalls));
    let (here, server) = registry(&made, move |asked| {
        let stalls = is_layer(asked, &image, 0) && on.load(Ordering::Relaxed) == 1;
        stalls.then(|| part(asked, &image.layers[0]).cut_after(200_000).and_stalls())
    });
    let (client, reference) = (here.client(), name(&reference(&server)));
    let ingest = here.root().join(format!("ingest/sha256-{}", Digest::of(&made.layers[0]).hex()));
    let pull = tokio::spawn({
        let (client, reference) = (client.clone(), reference.clone());
        async move { client.pull(&reference, &PullOptions::default()).await }
    });
    until("the first half", || ingest.metadata().is_ok_and(|meta| meta.size() == 200_000)).await;
    pull.abort();
    let began = Instant::now();
    until("the end of the connection", || server.left.load(Ordering::Relaxed)).await;
    until("the end of the unpacking", || files(&here.root().join("layers")).is_empty()).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    stalls.store(0, Ordering::Relaxed);
    client.pull(&reference, &PullOptions::default()).await.unwrap();
    assert_eq!(server.asked().iter().filter_map(Asked::range).collect::<Vec<_>>(), [200_000]);
}

#[tokio::test]
async fn a_transfer_goes_on_when_who_began_it_stops_waiting() {
    let made = Made::new(19, 1, 400_000);
    let is_open = Arc::new(AtomicUsize::new(0));
    let (image, gate) = (made.clone(), Arc::clone(&is_open));
    let (here, server) = registry(&made, move |asked| {
        is_layer(asked, &image, 0).then(|| {
            while gate.load(Ordering::Relaxed) == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
            part(asked, &image.layers[0])
        })
    });
    let (client, reference) = (here.client(), name(&reference(&server)));
    let pull = || {
        let (client, reference) = (client.clone(), reference.clone());
        tokio::spawn(async move { client.pull(&reference, &PullOptions::default()).await })
    };
    let first = pull();
    until("the transfer", || server.asked().iter().any(|asked| is_layer(asked, &made, 0))).await;
    let second = pull();
    until("the second pull", || server.count("GET", "manifests") == 2).await;
    first.abort();
    let _ = first.await;
    is_open.store(1, Ordering::Relaxed);
    second.await.unwrap().unwrap();
    assert!(server.asked().iter().filter(|asked| is_layer(asked, &made, 0)).count() <= 2);
}

#[tokio::test]
async fn who_stops_waiting_stops_unpacking_while_another_image_goes_on_with_the_layer() {
    let one = Made::new(21, 1, 400_000);
    let config = [one.config.as_slice(), b"\n"].concat();
    let other = Made { manifest: manifest(&config, &one.layers), config, layers: one.layers.clone() };
    let stalls = Arc::new(AtomicUsize::new(1));
    let (images, on) = ([one.clone(), other.clone()], Arc::clone(&stalls));
    let (here, server) = registry(&one, move |asked| {
        let [one, other] = &images;
        if is_layer(asked, one, 0) && on.load(Ordering::Relaxed) == 1 {
            return Some(part(asked, &one.layers[0]).cut_after(200_000).and_stalls());
        }
        let is_other = asked.path.contains("other") || asked.path.contains(Digest::of(&other.config).hex());
        is_other.then(|| match asked.path.contains("other") {
            true => Reply::new(200, other.manifest.clone()),
            false => Reply::new(200, other.config.clone()),
        })
    });
    let mut config = here.config();
    config.waits.bytes = Duration::from_secs(3);
    let client = Client::new(here.store.clone(), config);
    let pull = |text: String| {
        let client = client.clone();
        tokio::spawn(async move { client.pull(&name(&text), &PullOptions::default()).await })
    };
    let layers = || files(&here.root().join("layers")).len();
    let first = pull(reference(&server));
    until("the first unpacking", || layers() == 1).await;
    let second = pull(format!("{}:other", reference(&server)));
    until("the second unpacking", || layers() == 2).await;
    first.abort();
    let began = Instant::now();
    until("the end of one of them", || layers() == 1).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // The host that stalls is given up, and has the rest the second time.
    stalls.store(0, Ordering::Relaxed);
    second.await.unwrap().unwrap();
    assert_eq!(server.asked().iter().filter_map(Asked::range).collect::<Vec<_>>(), [200_000]);
}

#[tokio::test]
async fn a_full_disk_is_told_and_has_its_space_back() {
    let (large, small) = (Made::new(22, 2, 900_000), Made::new(23, 1, 50_000));
    let (image, second) = (large.clone(), small.clone());
    let server = Server::plain(move |asked| match image.answer(asked) {
        found if asked.path.contains("latest") || !found.is_not_found() => found,
        _ if asked.path.ends_with("/small") => Reply::new(200, second.manifest.clone()),
        _ => second.answer(asked),
    });
    // Nobody else sees this file system: it is mounted nowhere.
    let disk = tinyd_sys::mount::FsContext::open("tmpfs").unwrap();
    disk.set("size", "1500k").unwrap();
    let disk = disk.mount(0).unwrap();
    let root = std::path::PathBuf::from(format!("/proc/self/fd/{}", disk.as_raw_fd()));
    let here = Here::new();
    here.allow_plain(&server.host());
    let store = Store::open(&root).unwrap();
    let client = Client::new(store.clone(), here.config());
    let error = client.pull(&name(&reference(&server)), &PullOptions::default()).await.unwrap_err();
    assert_says(&error, Kind::Exhausted, &["layer ", "space"]);
    until("the end of the unpacking", || files(&root.join("layers")).is_empty()).await;
    assert!(files(&root.join("ingest")).is_empty());
    // What was whole is collected with what no image needs.
    let (images, _) = Images::open(store.clone()).unwrap();
    gc::collect(&images, BTreeSet::new).unwrap();
    assert!(files(&root.join("blobs/sha256")).is_empty());
    let names = format!("{}:small", reference(&server));
    client.pull(&name(&names), &PullOptions::default()).await.unwrap();
}

#[tokio::test]
async fn a_mirror_goes_first_and_what_it_cannot_do_the_registry_does() {
    let made = Made::new(20, 2, 50_000);
    let (lies, image) = (made.clone(), made.clone());
    // One that has something else under the digest of the second layer, and one that nobody answers at.
    let mirror = Server::plain(move |asked| {
        if is_layer(asked, &lies, 1) {
            return Reply::new(200, noise(5, lies.layers[1].len()));
        }
        lies.answer(asked)
    });
    let registry = Server::plain(move |asked| image.answer(asked));
    let dead = Server::plain(|_| not_found()).host();
    let here = Here::new();
    here.etc(
        &registry.host(),
        "hosts.toml",
        &format!(
            "server = \"http://{}\"\n[host.\"http://{dead}\"]\n[host.\"http://{}\"]\n",
            registry.host(),
            mirror.host()
        ),
    );
    here.pull(&reference(&registry)).await.unwrap();
    let asked: HashSet<_> = mirror.asked().iter().map(|asked| asked.path.clone()).collect();
    assert!(asked.iter().all(|path| path.contains("ns=127.0.0.1%3A")), "{asked:?}");
    assert_eq!((mirror.count("GET", "manifests"), registry.count("GET", "manifests")), (1, 0));
    assert_eq!(registry.count("GET", Digest::of(&made.layers[1]).hex()), 1);
}
