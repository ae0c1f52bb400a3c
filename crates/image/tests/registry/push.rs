//! What goes to a registry, and what it says about it; and the tags that it has.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tinyd_core::{Error, Kind};
use tinyd_image::{
    digest::Digest,
    reference::Reference,
    registry::{
        Client, PushOptions,
        credentials::{Credentials, Login},
    },
};

use crate::{
    Here, assert_says,
    made::Made,
    name,
    server::{Asked, Reply, Server, not_found},
};

/// A store that has an image, which is pushed to a server.
async fn push(made: &Made, server: &Server, chunk_bytes: u64) -> Result<Reference, Error> {
    let image = made.clone();
    let from = Server::plain(move |asked| image.answer(asked));
    let here = Here::new();
    here.allow_plain(&from.host());
    let pulled = here.pull(&format!("{}/a", from.host())).await.unwrap();
    here.allow_plain(&server.host());
    if let Some(certificate) = &server.certificate {
        here.etc(&server.host(), "hosts.toml", "");
        here.etc(&server.host(), "ca.crt", certificate);
    }
    let mut config = here.config();
    config.chunk_bytes = chunk_bytes;
    let login = Login::Password { username: "who".into(), password: "secret".into() };
    let options =
        PushOptions { credentials: Credentials::of(&server.host(), login), ..PushOptions::default() };
    let to = name(&format!("{}/b", server.host()));
    Client::new(here.store.clone(), config).push(&pulled.manifest, &to, &options).await
}

/// Who shows a password.
fn is_known(asked: &Asked) -> bool {
    let wanted = format!("Basic {}", BASE64_STANDARD.encode("who:secret"));
    asked.header("authorization") == Some(&wanted)
}

/// A registry that has nothing, and takes bytes at `there`.
fn empty(asked: &Asked, there: &str) -> Reply {
    if !is_known(asked) {
        return Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\"");
    }
    match asked.method.as_str() {
        "HEAD" => not_found(),
        "POST" => Reply::new(202, "").with("Location", there),
        _ => Reply::new(201, ""),
    }
}

#[tokio::test]
async fn bytes_go_to_another_host_without_a_word_about_who_sends_them() {
    let made = Made::new(40, 1, 50_000);
    let store = Server::plain(|_| Reply::new(201, ""));
    let there = format!("http://{}/bucket?signature=1", store.host());
    let server = Server::plain(move |asked| empty(asked, &there));
    push(&made, &server, 1 << 20).await.unwrap();
    let asked = store.asked();
    assert_eq!(asked.len(), 2);
    for blob in [&made.layers[0], &made.config] {
        let digest = format!("signature=1&digest=sha256%3A{}", Digest::of(blob).hex());
        let one = asked.iter().find(|asked| asked.path.ends_with(&digest)).unwrap();
        assert_eq!((&one.body, one.header("authorization")), (blob, None));
    }
    let manifest = server.asked().into_iter().find(|asked| asked.path == "/v2/b/manifests/latest").unwrap();
    assert_eq!((manifest.method.as_str(), manifest.body), ("PUT", made.manifest));
}

#[tokio::test]
async fn bytes_do_not_leave_tls() {
    let store = Server::plain(|_| Reply::new(201, ""));
    let there = format!("http://{}/bucket", store.host());
    let server = Server::tls(move |asked| empty(asked, &there));
    let error = push(&Made::new(41, 1, 1000), &server, 1 << 20).await.unwrap_err();
    assert_says(&error, Kind::InvalidArgument, &["without TLS"]);
    assert_eq!(store.asked().len(), 0);
}

#[tokio::test]
async fn a_registry_that_has_understood_something_else_is_told_on() {
    let other = Digest::of(b"other");
    let said = other.to_string();
    let server = Server::plain(move |asked| match asked.path.contains("/manifests/") && is_known(asked) {
        true => Reply::new(201, "").with("Docker-Content-Digest", &said),
        false => empty(asked, "/v2/b/blobs/uploads/1"),
    });
    let error = push(&Made::new(42, 1, 1000), &server, 1 << 20).await.unwrap_err();
    assert_says(&error, Kind::InvalidArgument, &["manifest", other.hex()]);
}

#[tokio::test]
async fn an_upload_that_was_cut_goes_on_where_the_registry_is() {
    let made = Made::new(43, 1, 100_000);
    let (size, cuts) = (made.layers[0].len(), AtomicUsize::new(0));
    let have = Mutex::new(Vec::new());
    let config = Digest::of(&made.config).to_string().replace(':', "%3A");
    let server = Server::plain(move |asked| {
        let have_now = have.lock().unwrap().len();
        let session = |status| Reply::new(status, "").with("Location", "/v2/b/blobs/uploads/1");
        match asked.method.as_str() {
            "PATCH" if is_known(asked) => {
                let mut have = have.lock().unwrap();
                let (first, last) = asked.header("content-range").unwrap().split_once('-').unwrap();
                assert_eq!(
                    (first.parse(), last.parse()),
                    (Ok(have_now), Ok(have_now + asked.body.len() - 1))
                );
                // The second piece arrives by half.
                if cuts.fetch_add(1, Ordering::Relaxed) == 1 {
                    have.extend_from_slice(&asked.body[..asked.body.len() / 2]);
                    return Reply::new(503, "");
                }
                have.extend_from_slice(&asked.body);
                session(202).with("Range", format!("0-{}", have.len() - 1))
            }
            "GET" if is_known(asked) => session(204).with("Range", format!("0-{}", have_now - 1)),
            "PUT" if is_known(asked) && asked.path.contains("digest=") && !asked.path.contains(&config) => {
                assert_eq!((have_now, asked.body.len()), (size, 0));
                Reply::new(201, "")
            }
            _ => empty(asked, "/v2/b/blobs/uploads/1"),
        }
    });
    push(&made, &server, 40_000).await.unwrap();
    assert_eq!(server.count("PATCH", "uploads"), 4);
}

#[tokio::test]
async fn tags_are_listed_to_the_last_page_and_no_further_than_the_registry() {
    let thief = Server::plain(|_| Reply::new(200, r#"{"tags":["stolen"]}"#));
    let elsewhere = format!("<http://{}/v2/a/tags/list?last=2>; rel=\"next\"", thief.host());
    for leads_away in [false, true] {
        let elsewhere = elsewhere.clone();
        let server = Server::plain(move |asked| match asked.path.split_once("last=") {
            None => Reply::new(200, r#"{"tags":["1","2"]}"#).with(
                "Link",
                if leads_away { &elsewhere } else { "</v2/a/tags/list?last=2&n=2>; rel=\"next\"" },
            ),
            Some(_) => Reply::new(200, r#"{"tags":["10"]}"#),
        });
        let here = Here::new();
        here.allow_plain(&server.host());
        let repository = name(&format!("{}/a", server.host()));
        let tags = here.client().tags(&repository, &Credentials::default()).await;
        match leads_away {
            false => {
                let tags: Vec<_> = tags.unwrap().iter().map(|tag| tag.tag().unwrap().to_owned()).collect();
                assert_eq!(tags, ["1", "10", "2"]);
            }
            true => assert_says(&tags.unwrap_err(), Kind::InvalidArgument, &["at another host"]),
        }
    }
    assert_eq!(thief.asked().len(), 0);
}
