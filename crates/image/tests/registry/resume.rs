//! After a cut a transfer goes on from where it was; when nobody waits any more it ends.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tinyd_core::Kind;
use tinyd_image::{
    digest::Digest,
    registry::{Client, PullOptions},
};

use crate::{
    assert_says, files,
    made::{Made, is_layer, manifest, part},
    name, reference, registry,
    server::{Asked, Reply},
    until,
};

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
