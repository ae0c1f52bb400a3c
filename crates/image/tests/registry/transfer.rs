//! What arrives: whole or not at all, each blob once, from whoever has it.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    os::fd::AsRawFd as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

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
    made::{Made, is_layer, manifest, noise},
    name, reference, registry,
    server::{Reply, Server, not_found},
    until,
};

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
        let begins = format!("pull {}:latest: {}: {status}", reference(&server), server.host());
        assert_says(&error, kind, &[&begins]);
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
